package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestEvent_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		is(t, "new", e.String(), "<asyncio.Event [unset]>")
		task := start(ctx, e.Wait)
		iterate(t, ctx, 1)
		is(t, "with a waiter", e.String(), "<asyncio.Event [unset, waiters:1]>")
		e.Set()
		is(t, "set", e.String(), "<asyncio.Event [set, waiters:1]>")
		await(t, ctx, task)
		is(t, "set, alone", e.String(), "<asyncio.Event [set]>")
		return nil
	})
}

// A task that comes when the event is set does not suspend (primitive 1), so it goes on before the
// tasks that waited.
func TestEvent_SetWakesAllInOrder(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		is(t, "set", e.IsSet(), false)
		var got []int
		wait := func(n int) *asyncio.Task[asyncio.None] {
			return start(ctx, func(ctx context.Context) error {
				err := e.Wait(ctx)
				got = append(got, n)
				return err
			})
		}
		t1, t2 := wait(1), wait(2)
		iterate(t, ctx, 1)
		equal(t, "before", got, nil)
		t3 := wait(3)
		equal(t, "waiters", e.Statistics().Waiters, []asyncio.AnyTask{t1, t2})
		e.Set()
		iterate(t, ctx, 1)
		equal(t, "after", got, []int{3, 1, 2})
		is(t, "all done", t1.Done() && t2.Done() && t3.Done(), true)
		is(t, "set", e.Statistics().Set, true)
		return nil
	})
}

func TestEvent_WaitWhenSet(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		e.Set()
		tk := newTicker(t, ctx)
		iterate(t, ctx, 1)
		is(t, "iterations", tk.cost(e.Wait), 0)
		tk.h.Cancel()
		return nil
	})
}

func TestEvent_CancelledWaiterLeaves(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		task := start(ctx, e.Wait)
		loop(t, ctx).CallSoon(func() { task.Cancel() })
		endsCancelled(t, ctx, task)
		is(t, "waiters", len(e.Statistics().Waiters), 0)
		return nil
	})
}

func TestEvent_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := e.Wait(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v", err)
		}
		is(t, "waiters", len(e.Statistics().Waiters), 0)
		return nil
	})
}

func TestEvent_Clear(t *testing.T) {
	var e asyncio.Event
	is(t, "new", e.IsSet(), false)
	e.Set()
	is(t, "set", e.IsSet(), true)
	e.Clear()
	is(t, "cleared", e.IsSet(), false)
}

func TestEvent_ClearDoesNotHoldBackWhoWasWoken(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var e asyncio.Event
		task := start(ctx, e.Wait)
		iterate(t, ctx, 1)
		e.Set()
		e.Clear()
		is(t, "set", e.IsSet(), false)
		e.Set()
		e.Set()
		is(t, "waiters on their way out", len(e.Statistics().Waiters), 1)
		iterate(t, ctx, 1)
		is(t, "done", task.Done(), true)
		is(t, "waiters", len(e.Statistics().Waiters), 0)
		return nil
	})
}
