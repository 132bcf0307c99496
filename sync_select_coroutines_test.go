package asyncio_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Coroutines of a Select start eagerly and make another of its branches ready before Select waits.
func TestSelect_CoroutinesStartEagerly(t *testing.T) {
	var lock asyncio.Lock
	q, full := asyncio.NewQueue[int](0), asyncio.NewQueue[int](1)
	for name, c := range map[string]struct {
		before func(ctx context.Context)
		act    func()
		wins   asyncio.AnyCase
		after  func()
	}{
		"put": {func(context.Context) {}, func() { _ = q.PutNowait(1) }, asyncio.OnGet(q), func() {}},
		"get": {
			func(context.Context) { _ = full.PutNowait(1) }, func() { _, _ = full.GetNowait() }, asyncio.OnPut(full, 2),
			func() { _, _ = full.GetNowait() },
		},
		"release": {func(ctx context.Context) { must(t, lock.Acquire(ctx)) }, lock.Release, asyncio.OnAcquire(&lock), lock.Release},
	} {
		for _, coroutineFirst := range []bool{true, false} {
			run(t, func(ctx context.Context) error {
				l := loop(t, ctx)
				l.SetTaskFactory(asyncio.EagerTaskFactory)
				c.before(ctx)
				cases := []asyncio.AnyCase{c.wins, asyncio.OnDone(asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
					c.act()
					return 0, asyncio.Sleep(ctx, time.Hour)
				}))}
				if coroutineFirst {
					slices.Reverse(cases)
				}
				won, err := asyncio.Select(ctx, cases...)
				if won != c.wins || l.Time() != 0 {
					t.Errorf("%s, coroutine first %v: won: %v, at %v", name, coroutineFirst, won == c.wins, l.Time())
				}
				c.after()
				return err
			})
		}
	}
}

// A task factory's wrapper also runs around the coroutines of a Select.
func TestSelect_CoroutinesHaveTheTaskFactory(t *testing.T) {
	run(t, func(ctx context.Context) error {
		wrapped := 0
		loop(t, ctx).SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			r.Wrap(func(ctx context.Context, run func(context.Context) error) error {
				wrapped++
				return run(ctx)
			})
		})
		_, err := asyncio.Select(ctx, asyncio.OnDone(sleeper(time.Second)))
		if wrapped != 1 {
			t.Errorf("wrapped %d times", wrapped)
		}
		return err
	})
}
