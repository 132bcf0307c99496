package nestedrun

import (
	"context"
	"testing"
	"time"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func greet(name string) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		return "hello " + name, asyncio.Sleep(ctx, time.Second)
	}
}

func nested(ctx context.Context, t *testing.T, l *asyncio.EventLoop, r *asyncio.Runner) error {
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	asyncio.RunIn(r, greet("x"))            // want `asyncio.RunIn on a loop that is running`
	asyncio.RunUntilComplete(l, greet("x")) // want `asyncio.RunUntilComplete on a loop that is running`
	l.RunForever()                          // want `asyncio.EventLoop.RunForever on a loop that is running`
	r.Close()                               // want `asyncio.Runner.Close on a loop that is running`
	sim.Run(t, body)                        // want `sim.Run on a loop that is running`
	sim.Explore(t, body)                    // want `sim.Explore on a loop that is running`
	helpers.OnLoop(body)                    // want `asyncio.Run on a loop that is running.*helpers.OnLoop → asyncio.Run`
	l.Time()
	go asyncio.Run(context.Background(), greet("x"))
	_, err := asyncio.ToThread(ctx, func(context.Context) (string, error) {
		return asyncio.Run(context.Background(), greet("x"))
	})
	return err
}

func body(context.Context) error {
	return helpers.OnLoop(nil) //asynciovet:allow nestedrun the example needs one that is allowed
}

func other(ctx context.Context) (string, error) { // it may well be called outside of a loop
	return asyncio.Run(ctx, greet("x"))
}

func callsOther(ctx context.Context) {
	asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
		return other(ctx) // want `asyncio.Run on a loop that is running.*nestedrun.other → asyncio.Run`
	})
}
