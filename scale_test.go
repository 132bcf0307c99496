package asyncio_test

import (
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestScale_TwoMillionTasksInTurn(t *testing.T) {
	n := 2_000_000
	if raceEnabled {
		n = 100_000
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		sum := 0
		for range n / 2 {
			v, err := asyncio.CreateTask(ctx, instant).Await(ctx)
			if err != nil {
				return err
			}
			sum += v
		}
		suspending := func(ctx context.Context) (int, error) { return 1, asyncio.Sleep(ctx, 0) }
		for range n / 2 {
			v, err := asyncio.CreateTask(ctx, suspending).Await(ctx)
			if err != nil {
				return err
			}
			sum += v
		}
		if sum != n {
			t.Errorf("%d of %d tasks", sum, n)
		}
		return nil
	}))
	must(t, err)
}

func TestScale_SuspendedAtOnce(t *testing.T) {
	n := 200_000
	if raceEnabled {
		n = 4_000 // the race detector stops at 8128 goroutines
	}
	runFast(t, func(ctx context.Context) error {
		gate := asyncio.CreateFuture[int](ctx)
		tasks := make([]*asyncio.Task[int], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, gate.Await)
		}
		settle(t, ctx)
		if all := len(asyncio.AllTasks(ctx)); all != n+1 {
			t.Errorf("%d tasks", all)
		}
		must(t, gate.SetResult(1))
		done, pending, err := asyncio.Wait(ctx, tasks)
		if len(done) != n || len(pending) != 0 {
			t.Errorf("%d done, %d pending", len(done), len(pending))
		}
		return err
	})
}

// Cancelling many sleepers also removes their timers from the heap.
func TestScale_SleepersCancelled(t *testing.T) {
	n := 100_000
	if raceEnabled {
		n = 4_000
	}
	runFast(t, func(ctx context.Context) error {
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, sleeper(time.Duration(1+i*7919%n)*time.Second))
		}
		settle(t, ctx)
		for _, task := range tasks {
			task.Cancel()
		}
		_, err := asyncio.GatherResults(ctx, tasks...)
		for _, task := range tasks {
			if !task.Cancelled() {
				t.Fatal("a sleeper was not cancelled")
			}
		}
		if now := loop(t, ctx).Time().SinceStart(); now != 0 {
			t.Errorf("%v passed", now)
		}
		return err
	})
}
