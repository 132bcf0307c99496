package outerctx

import (
	"context"
	"time"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

func bodies(ctx context.Context, l *asyncio.EventLoop) error {
	return asyncio.RunTaskGroup(ctx, func(group context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(group, func(child context.Context) error {
			helpers.Wait(ctx)   // want `ctx is the ctx of outerctx.bodies`
			helpers.Wait(group) // want `group is the ctx of a function literal`
			func() {
				helpers.Wait(ctx) // want `ctx is the ctx of outerctx.bodies`
			}()
			asyncio.CreateTask(ctx, helpers.Fetch) // a task that may live longer
			_ = ctx.Err()
			_ = ctx.Value("x")
			{
				child := 1
				helpers.Wait(ctx) // want `ctx is the ctx of outerctx.bodies`
				_ = child
			}
			helpers.Wait(ctx) //asynciovet:allow outerctx the example needs one that is allowed
			return helpers.Wait(child)
		})
		tg.CreateTask(group, func(context.Context) error {
			return helpers.Wait(group) // want `group is the ctx of a function literal`
		})
		longer, cancel := asyncio.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := helpers.Wait(longer); err != nil { // made for it
			return err
		}
		l.CallSoon(func() { asyncio.CreateTask(ctx, helpers.Fetch) })
		dial := func(context.Context, string) error { return helpers.Wait(group) }
		register(dial) // somebody else's ctx may lead to no loop
		return asyncio.Sleep(group, time.Second)
	})
}

func register(func(context.Context, string) error) {}
