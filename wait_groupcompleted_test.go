package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestGroupCompleted(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []int
		var errs []error
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for _, d := range []time.Duration{3, 1, 2} {
				asyncio.GroupTask(ctx, tg, returns(d*time.Second, int(d)))
			}
			asyncio.GroupTask(ctx, tg, after(time.Second/2, 0, errA))
			tg.CreateTask(ctx, sleeping(time.Hour)) // not a Task[int]
			for task, err := range asyncio.GroupCompleted[int](ctx, tg) {
				must(t, err)
				v, err := task.Result()
				if err != nil {
					errs = append(errs, err)
					continue
				}
				got = append(got, v)
				if v == 2 {
					asyncio.GroupTask(ctx, tg, returns(2*time.Second, 4)) // ends later than 3
				}
			}
			return nil
		}, asyncio.Supervisor())
		failsWith(t, err, errA)
		equal(t, "results", got, []int{1, 2, 3, 4})
		equal(t, "errors", errs, []error{errA})
		if loop(t, ctx).Time().SinceStart() != time.Hour {
			t.Error(loop(t, ctx).Time())
		}
		// Breaking out of the loop leaves the children alone.
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			asyncio.GroupTask(ctx, tg, returns(time.Second, 1))
			slow := asyncio.GroupTask(ctx, tg, returns(time.Minute, 2))
			for range asyncio.GroupCompleted[int](ctx, tg) {
				break
			}
			v, err := slow.Await(ctx)
			if v != 2 {
				t.Error(v)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		// An abort ends the loop with an error.
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			asyncio.GroupTask(ctx, tg, after(time.Second, 0, errA))
			asyncio.GroupTask(ctx, tg, returns(time.Minute, 2))
			var last error
			for _, err := range asyncio.GroupCompleted[int](ctx, tg) {
				last = err
			}
			asCancelled(t, last)
			return last
		}), errA)
		// Only the body may use it.
		return asyncio.RunTaskGroup(ctx, func(_ context.Context, tg group) error {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				for _, err := range asyncio.GroupCompleted[int](ctx, tg) {
					if !errors.Is(err, asyncio.ErrInvalidState) {
						t.Error(err)
					}
				}
				return nil
			})
			return nil
		})
	})
}
