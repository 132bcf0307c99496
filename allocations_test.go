//go:build !race

package asyncio_test

import (
	"cmp"
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// The promises about allocation. (The race detector allocates on its own.)
func TestAllocations(t *testing.T) {
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetDebug(false) // debug mode allocates to find the goroutine's id
		settle(t, ctx)
		done := asyncio.CreateFuture[int](ctx)
		must(t, done.SetResult(1))
		var lock asyncio.Lock
		var set asyncio.Event
		set.Set()
		cond, sem := asyncio.NewCondition(nil), asyncio.NewSemaphore(1)
		bounded, limiter, barrier := asyncio.NewBoundedSemaphore(1), asyncio.NewCapacityLimiter(1), asyncio.NewBarrier(1)
		ch := make(chan int, 1)
		through := func(q queueOf[int]) func() {
			return func() {
				_ = q.Put(ctx, 1)
				_ = q.PutNowait(2) // full
				_, _ = q.Get(ctx)
				_, _ = q.GetNowait() // empty
				q.TaskDone()
				_ = q.Join(ctx)
			}
		}
		for name, fn := range map[string]func(){
			"lock":          func() { _ = lock.Acquire(ctx); lock.Release() },
			"event":         func() { _ = set.Wait(ctx) },
			"condition":     func() { _ = cond.Acquire(ctx); cond.NotifyAll(); cond.Release() },
			"wait for":      func() { _ = cond.WaitFor(ctx, set.IsSet) },
			"semaphore":     func() { _ = sem.Acquire(ctx); sem.Release() },
			"bounded":       func() { _ = bounded.Acquire(ctx); bounded.Release() },
			"limiter":       func() { _ = limiter.Acquire(ctx); limiter.Release(ctx) },
			"barrier":       func() { _, _ = barrier.Wait(ctx) },
			"Queue":         through(asyncio.NewQueue[int](1)),
			"LifoQueue":     through(asyncio.NewLifoQueue[int](1)),
			"PriorityQueue": through(asyncio.NewPriorityQueue(1, cmp.Compare[int])),
			"Send and Recv": func() {
				_ = asyncio.Send(ctx, ch, 1)
				_, _, _ = asyncio.Recv(ctx, ch)
			},
			"yield":             func() { _ = asyncio.Sleep(ctx, 0) },
			"await of a future": func() { _, _ = done.Await(ctx) },
			"sleep":             func() { _ = asyncio.Sleep(ctx, time.Second) },
		} {
			if n := testing.AllocsPerRun(1000, fn); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = asyncio.CreateTask(ctx, instant).Await(ctx) }); n > 1 {
			t.Errorf("spawn and await allocates %v times, want the task alone", n)
		}
		return nil
	})
}
