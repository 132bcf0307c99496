package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestContext_WithTimeout(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		tctx, cancel := asyncio.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if d, ok := tctx.Deadline(); !ok || d != time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC) {
			t.Errorf("Deadline() = %v, %v", d, ok)
		}
		if err := asyncio.Sleep(tctx, time.Second); err != nil {
			t.Errorf("before the deadline: %v", err)
		}
		err := asyncio.Sleep(tctx, time.Hour)
		if !errors.Is(err, context.DeadlineExceeded) || l.Time().SinceStart() != 10*time.Second {
			t.Errorf("%v at %v", err, l.Time())
		}
		if tctx.Err() != context.DeadlineExceeded || context.Cause(tctx) != context.DeadlineExceeded {
			t.Errorf("Err = %v, Cause = %v", tctx.Err(), context.Cause(tctx))
		}
		// The end of a context is level-triggered: every await fails, again and again.
		if err := asyncio.Sleep(tctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("again: %v", err)
		}
		return nil
	})
}

func TestContext_WithDeadlineNested(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		outer, cancelOuter := asyncio.WithDeadline(ctx, asyncio.Instant{}.Add(5*time.Second))
		defer cancelOuter()
		std, cancelStd := context.WithCancel(outer)
		defer cancelStd()
		inner, cancelInner := asyncio.WithTimeout(std, time.Hour)
		defer cancelInner()
		if d, _ := inner.Deadline(); d != time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC) {
			t.Errorf("Deadline() = %v", d)
		}
		if err := asyncio.Sleep(inner, time.Minute); !errors.Is(err, context.DeadlineExceeded) || l.Time().SinceStart() != 5*time.Second {
			t.Errorf("%v at %v", err, l.Time())
		}
		past, cancelPast := asyncio.WithDeadline(ctx, asyncio.Instant{}.Add(time.Second))
		defer cancelPast()
		if past.Err() != context.DeadlineExceeded {
			t.Errorf("a deadline in the past: %v", past.Err())
		}
		return nil
	})
}

func TestContext_WithCancel(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		inner, cancel := asyncio.WithCancel(ctx)
		task := asyncio.CreateTask(inner, sleeper(time.Hour))
		settle(t, ctx)
		tk := newTicker(t, ctx)
		must(t, asyncio.Sleep(ctx, 0))
		start := tk.n
		cancel()
		_, err := task.Await(ctx)
		if !errors.Is(err, context.Canceled) || task.Cancelled() {
			t.Errorf("%v, %v", err, task)
		}
		if tk.n-start != 2 { // the task resumes in the next iteration, its waiter in the one after
			t.Errorf("%d ticks", tk.n-start)
		}
		tk.h.Cancel()
		cancel()
		return nil
	})
}

// Any goroutine may call the cancel function of a loop's context at any time.
func TestContext_CancelFromAnotherGoroutine(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		for range 100 {
			inner, cancel := asyncio.WithTimeout(ctx, time.Hour)
			go cancel()
			if err := asyncio.Sleep(inner, time.Hour); err != context.Canceled {
				t.Errorf("err = %v", err)
			}
		}
		return nil
	}))
	must(t, err)
}

// Contexts with deadlines cost the virtual clock nothing until they fire.
func TestContext_ManyDeadlines(t *testing.T) {
	n := 20_000
	if raceEnabled {
		n = 2_000
	}
	runFast(t, func(ctx context.Context) error {
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				inner, cancel := asyncio.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
				defer cancel()
				if err := asyncio.Sleep(inner, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("task %d: %w", i, err)
				}
				return nil
			}))
		}
		_, err := asyncio.Gather(ctx, tasks...)
		return err
	})
}

// The end of a context reaches all its descendants in one iteration, however they were derived.
func TestContext_EndsAllItsDescendants(t *testing.T) {
	run(t, func(ctx context.Context) error {
		outer, cancelOuter := asyncio.WithTimeout(ctx, time.Second)
		defer cancelOuter()
		type key struct{}
		valued := context.WithValue(outer, key{}, 1)
		child, cancelChild := asyncio.WithCancel(valued)
		defer cancelChild()
		grandchild, cancelGrandchild := asyncio.WithTimeout(child, time.Hour)
		defer cancelGrandchild()
		std, cancelStd := context.WithCancel(grandchild)
		defer cancelStd()
		belowStd, cancelBelow := asyncio.WithTimeout(std, time.Hour)
		defer cancelBelow()
		freed, cancelFreed := asyncio.WithTimeout(context.WithoutCancel(outer), 5*time.Second)
		defer cancelFreed()
		sibling, cancelSibling := asyncio.WithCancel(outer)
		cancelSibling() // leaves the family before it ends
		if err := asyncio.Sleep(sibling, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("sibling: %v", err)
		}
		var tasks []*asyncio.Task[asyncio.None]
		for _, c := range []context.Context{outer, valued, child, grandchild, std, belowStd, freed} {
			tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
				err := asyncio.Sleep(c, time.Hour)
				if now := loop(t, ctx).Time().SinceStart(); now != time.Second && c != freed || now != 5*time.Second && c == freed {
					t.Errorf("%v ended at %v", c, now)
				}
				return err
			})))
		}
		results, err := asyncio.GatherResults(ctx, tasks...)
		for _, r := range results {
			if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%v", r.Err)
			}
		}
		return err
	})
}

// A deadline that never comes is none.
func TestContext_NeverIsNoDeadline(t *testing.T) {
	run(t, func(ctx context.Context) error {
		never, cancel := asyncio.WithDeadline(ctx, asyncio.Never)
		defer cancel()
		forever, cancel2 := asyncio.WithTimeout(ctx, asyncio.Forever)
		defer cancel2()
		for _, c := range []context.Context{never, forever} {
			if d, ok := c.Deadline(); ok {
				t.Error(d)
			}
		}
		return nil
	})
}
