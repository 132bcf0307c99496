package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestCoroutine_MakingOneRunsNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ran := false
		coro := asyncio.Do(func(context.Context) error { ran = true; return nil })
		settle(t, ctx)
		if ran {
			t.Error("the coroutine ran")
		}
		_, err := asyncio.Await(ctx, coro)
		if !ran {
			t.Error("the coroutine did not run")
		}
		return err
	})
}

type anAwaitable int

func (a anAwaitable) Await(ctx context.Context) (int, error) {
	return int(a), asyncio.Sleep(ctx, time.Second)
}

func TestEnsureFuture(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		if asyncio.EnsureFuture(ctx, f) != f {
			t.Error("of a future")
		}
		task := asyncio.CreateTask(ctx, instant)
		if asyncio.EnsureFuture(ctx, task) != &task.Future {
			t.Error("of a task")
		}
		g := asyncio.EnsureFuture(ctx, asyncio.Coroutine[int](instant))
		h := asyncio.EnsureFuture(ctx, anAwaitable(5))
		if v, err := g.Await(ctx); v != 1 || err != nil {
			t.Errorf("of a coroutine: %v, %v", v, err)
		}
		if v, err := h.Await(ctx); v != 5 || err != nil {
			t.Errorf("of an awaitable: %v, %v", v, err)
		}
		// A task seen as a future is still cancelled as a task.
		s := asyncio.EnsureFuture(ctx, sleeper(time.Hour))
		settle(t, ctx)
		s.Cancel()
		if s.Done() {
			t.Error("the task of EnsureFuture was cancelled like a future")
		}
		_, err := s.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		return nil
	})
}
