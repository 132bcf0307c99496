package asyncio_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Attacks by numbers: what is cheap for one must not be ruinous for thousands.

// deepChain is a task that awaits a task that awaits a task, and so on, n deep. It returns the
// number of tasks below it, and counts in left the tasks that have ended, however they ended.
func deepChain(n int, left *int, bottom func(ctx context.Context) error) asyncio.Coroutine[int] {
	return func(ctx context.Context) (int, error) {
		defer func() { *left++ }()
		if n == 0 {
			return 0, bottom(ctx)
		}
		v, err := asyncio.CreateTask(ctx, deepChain(n-1, left, bottom)).Await(ctx)
		return v + 1, err
	}
}

// Tasks lie on top of one another (stack 5), but only to a limited depth. In debug mode, which this
// test uses, each call walks the whole stack, and the collector stops the loop while it walks one.
func TestAttack_DeepChain(t *testing.T) {
	const n = 400
	for name, bottom := range map[string]func(ctx context.Context) error{
		"returns": func(ctx context.Context) error {
			if frames := runtime.Callers(0, make([]uintptr, 10*n)); frames > n {
				t.Errorf("%d frames on the stack", frames)
			}
			return nil
		},
		"sleeps": func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) },
		"waits":  func(ctx context.Context) error { _, err := asyncio.CreateFuture[int](ctx).Await(ctx); return err },
		"panics": func(ctx context.Context) error { panic("at the bottom") },
		"exits":  func(ctx context.Context) error { runtime.Goexit(); return nil },
	} {
		l := sim.NewEventLoop(context.Background())
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		left := 0
		top := asyncio.CreateTask(l.Context(), deepChain(n, &left, bottom))
		if name == "sleeps" {
			l.CallLater(time.Minute, func() { top.Cancel() })
		}
		var v int
		var err error
		exited := exits(func() { v, err = asyncio.RunUntilComplete(l, top) })
		var p *asyncio.PanicError
		switch name {
		case "returns":
			if v != n || err != nil {
				t.Errorf("%s: %d, %v", name, v, err)
			}
		case "sleeps":
			if !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("%s: %v", name, err)
			}
		case "waits":
			if !errors.Is(err, asyncio.ErrDeadlock) {
				t.Errorf("%s: %v", name, err)
			}
		case "panics":
			if !errors.As(err, &p) {
				t.Errorf("%s: %v", name, err)
			}
		case "exits":
			if !exited {
				t.Errorf("%s: %v", name, err)
			}
		}
		must(t, l.Close())
		if left != n+1 {
			t.Errorf("%s: %d tasks of %d were unwound", name, left, n+1)
		}
	}
}

// The call graph of a deep chain is no longer than necessary.
func TestAttack_DeepCallGraph(t *testing.T) {
	const n = 1000
	left, length := 0, 0
	run(t, func(ctx context.Context) error {
		_, err := deepChain(n, &left, func(ctx context.Context) error {
			length = len(asyncio.FormatCallGraph(ctx, nil))
			return nil
		}).Await(ctx)
		return err
	})
	if length > n*2000 {
		t.Errorf("%d bytes for %d tasks", length, n)
	}
}

// Thousands of tasks wait for one future, and each can leave, in any order. Those that stay are
// woken in the order in which they came.
func TestAttack_ManyLeaveOneFuture(t *testing.T) {
	const n = 4_000
	leave := map[string]func(order []int){
		"oldest first": func([]int) {},
		"newest first": slices.Reverse[[]int],
		"at random": func(order []int) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		},
	}
	for name, mix := range leave {
		runFast(t, func(ctx context.Context) error {
			f := asyncio.CreateFuture[int](ctx)
			var told []int
			callbacks := make([]*asyncio.DoneCallback, n)
			order := make([]int, n)
			for i := range n {
				callbacks[i] = f.AddDoneCallback(func(*asyncio.Future[int]) { told = append(told, i) })
				order[i] = i
			}
			mix(order)
			stays := make([]bool, n)
			for k, i := range order {
				if stays[i] = k%400 == 399; stays[i] {
					continue
				}
				if removed := f.RemoveDoneCallback(callbacks[i]); removed != 1 {
					t.Fatalf("%s: %d callbacks removed", name, removed)
				}
				if removed := f.RemoveDoneCallback(callbacks[i]); k%400 == 0 && removed != 0 {
					t.Fatalf("%s: removed again", name)
				}
			}
			callbacks[0] = f.AddDoneCallback(func(*asyncio.Future[int]) { told = append(told, n) })
			must(t, f.SetResult(1))
			settle(t, ctx)
			if len(told) != n/400+1 || !slices.IsSorted(told) || !slices.ContainsFunc(told, func(i int) bool { return i == n }) {
				t.Errorf("%s: told %v", name, told)
			}
			return nil
		})
	}
}
