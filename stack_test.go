package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Tasks that are created and awaited at once can share a stack (stack 5). Programs must not notice
// that.
func TestStacks_OnTopOfEachOther(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		note := func(s string) { got = append(got, s) }
		bystander := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for i := range 4 {
				note(fmt.Sprint("bystander ", i))
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return nil
		}))
		lower := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			note("lower")
			v, err := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				note("middle")
				if asyncio.CurrentTask(ctx).GetName() != "middle" {
					t.Errorf("current is %v", asyncio.CurrentTask(ctx))
				}
				v, err := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					note("upper")
					err := asyncio.Sleep(ctx, 0)
					note("upper again")
					return 1, err
				}).Await(ctx)
				note("middle again")
				return v + 1, err
			}, asyncio.TaskName("middle")).Await(ctx)
			note("lower again")
			if asyncio.CurrentTask(ctx).GetName() != "lower" {
				t.Errorf("current is %v", asyncio.CurrentTask(ctx))
			}
			return v + 1, err
		}, asyncio.TaskName("lower"))
		v, err := lower.Await(ctx)
		if v != 3 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		_, err = bystander.Await(ctx)
		equal(t, "order", got, []string{
			"bystander 0", "lower", "bystander 1", "middle", "bystander 2", "upper", "bystander 3",
			"upper again", "middle again", "lower again",
		})
		return err
	})
}

// A cancel of the lowest task reaches the uppermost, which may take its time.
func TestStacks_OnTopOfEachOtherCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		var nest func(depth int) asyncio.Coroutine[int]
		nest = func(depth int) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					err := asyncio.Sleep(ctx, time.Hour)
					got = append(got, "cleaning up")
					_ = asyncio.Sleep(ctx, time.Second)
					return 0, err
				}
				_, err := asyncio.CreateTask(ctx, nest(depth-1)).Await(ctx)
				got = append(got, fmt.Sprint(depth))
				return depth, err
			}
		}
		task := asyncio.CreateTask(ctx, nest(3))
		settle(t, ctx)
		task.Cancel()
		// other tasks go on meanwhile
		other := asyncio.CreateTask(ctx, after(time.Second/2, 1, nil))
		if _, err := other.Await(ctx); err != nil || task.Done() {
			t.Errorf("%v, %v", err, task)
		}
		_, err := task.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) || loop(t, ctx).Time().SinceStart() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		equal(t, "order", got, []string{"cleaning up", "1", "2", "3"})
		return nil
	})
}

// The context of one await ends, while the tasks beneath it have contexts that cannot end.
func TestStacks_OnTopWithAContextThatEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		base := context.WithoutCancel(ctx)
		hurried, cancel := asyncio.WithTimeout(base, time.Second)
		defer cancel()
		var ended time.Duration
		stubborn := asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
			err := asyncio.Sleep(base, time.Minute) // waits with a context that cannot end
			ended = loop(t, ctx).Time().SinceStart()
			return 1, err
		})
		task := asyncio.CreateTask(base, stubborn)
		if _, err := task.Await(hurried); !errors.Is(err, context.DeadlineExceeded) || loop(t, ctx).Time().SinceStart() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		v, err := task.Await(base)
		if v != 1 || ended != time.Minute {
			t.Errorf("%v, ended at %v", v, ended)
		}
		return err
	})
}

func TestStacks_DeepChain(t *testing.T) {
	depth := 10_000
	if raceEnabled {
		depth = 1000
	}
	run(t, func(ctx context.Context) error {
		var nest func(depth int) asyncio.Coroutine[int]
		nest = func(depth int) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					return 0, asyncio.Sleep(ctx, time.Second)
				}
				v, err := asyncio.CreateTask(ctx, nest(depth-1)).Await(ctx)
				return v + 1, err
			}
		}
		v, err := nest(depth)(ctx)
		if v != depth {
			t.Errorf("v = %d", v)
		}
		return err
	})
}

// A crowd is a set of tasks that suspend, start each other in every way and wait for each other at
// random. After a while each stack waits at the place of another (stack 1). The crowd counts the
// tasks that were entered and the deferred functions that ran.
type crowd struct {
	rand     *rand.Rand
	entered  int
	deferred int
	gate     asyncio.Event
	member   func(ctx context.Context, depth int) // also does what the test adds
}

func (c *crowd) task(depth int) asyncio.Coroutine[int] {
	return func(ctx context.Context) (int, error) { return c.live(ctx, depth) }
}

//go:noinline
func (c *crowd) live(ctx context.Context, depth int) (int, error) {
	c.entered++
	defer func() { c.deferred++ }()
	for range 1 + c.rand.IntN(6) {
		if c.member != nil {
			c.member(ctx, depth)
		}
		var err error
		switch k := c.rand.IntN(8); {
		case k < 3 || depth == 0:
			err = asyncio.Sleep(ctx, time.Duration(c.rand.IntN(3))*time.Millisecond)
		case k == 3:
			_, err = asyncio.CreateTask(ctx, c.task(depth-1)).Await(ctx) // on top of this one
		case k == 4:
			asyncio.CreateTask(ctx, c.task(depth-1), asyncio.EagerStart(true))
		case k == 5:
			_, err = asyncio.CreateTask(ctx, c.task(depth-1), asyncio.EagerStart(true)).Await(ctx)
		case k == 6:
			loop, _ := asyncio.GetRunningLoop(ctx)
			loop.CallSoon(func() { asyncio.CreateTask(loop.Context(), c.task(depth-1), asyncio.EagerStart(c.rand.IntN(2) == 0)) })
		case k == 7:
			err = c.gate.Wait(ctx)
		}
		if err != nil {
			return 0, err
		}
	}
	return 1, nil
}

// When the loop closes, each stack is unwound once, wherever it waits.
func TestStacks_CloseAtAnyMoment(t *testing.T) {
	for seed := range uint64(200) {
		c := &crowd{rand: rand.New(rand.NewPCG(seed, 1))}
		l := sim.NewEventLoop(t.Context())
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		for range 20 {
			asyncio.CreateTask(l.Context(), c.task(3))
		}
		// more than one run; another goroutine begins and ends each
		for range 1 + c.rand.IntN(3) {
			l.CallLater(time.Duration(c.rand.IntN(10))*time.Millisecond, l.Stop)
			must(t, l.RunForever())
			if c.rand.IntN(2) == 0 {
				// every stack gets control, outside of a run
				_ = asyncio.FormatTasks(l.Context())
			}
		}
		must(t, l.Close())
		if c.entered == 0 || c.entered != c.deferred {
			t.Fatalf("seed %d: %d tasks entered, %d deferred functions ran", seed, c.entered, c.deferred)
		}
	}
}

// A Goexit ends the run and one goroutine (stack 8). All other goroutines are left to be unwound.
func TestStacks_GoexitAtAnyMoment(t *testing.T) {
	for seed := range uint64(200) {
		c := &crowd{rand: rand.New(rand.NewPCG(seed, 2))}
		left := c.rand.IntN(100)
		c.member = func(context.Context, int) {
			if left--; left == 0 {
				runtime.Goexit()
			}
		}
		l := sim.NewEventLoop(t.Context())
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		for range 20 {
			asyncio.CreateTask(l.Context(), c.task(3))
		}
		for range 3 { // the loop can go on after it
			exited := exits(func() {
				l.CallLater(20*time.Millisecond, l.Stop)
				must(t, l.RunForever())
			})
			if exited && left > 0 {
				t.Fatalf("seed %d: exited without a Goexit", seed)
			}
		}
		must(t, l.Close())
		if c.entered != c.deferred {
			t.Fatalf("seed %d: %d tasks entered, %d deferred functions ran", seed, c.entered, c.deferred)
		}
	}
}

// The call graph gives control to each stack in turn, and takes it back (callgraph 2).
func TestStacks_LookedAtAtAnyMoment(t *testing.T) {
	for seed := range uint64(50) {
		c := &crowd{rand: rand.New(rand.NewPCG(seed, 3))}
		looked := 0
		c.member = func(ctx context.Context, depth int) {
			if c.rand.IntN(4) > 0 {
				return
			}
			looked++
			text := asyncio.FormatTasks(ctx)
			// except the main task, which is first
			started := strings.Count(text, "\ntask '") - strings.Count(text, "has not started")
			if n := strings.Count(text, "(*crowd).live() at"); n != started {
				t.Fatalf("seed %d: of %d tasks that have started %d are shown in their coroutine:\n%s", seed, started, n, text)
			}
		}
		runFast(t, func(ctx context.Context) error {
			for range 10 {
				asyncio.CreateTask(ctx, c.task(3))
			}
			if err := asyncio.Sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			c.gate.Set()
			return asyncio.Sleep(ctx, 50*time.Millisecond)
		})
		if looked == 0 || c.entered != c.deferred {
			t.Fatalf("seed %d: looked %d times; %d tasks entered, %d deferred functions ran", seed, looked, c.entered, c.deferred)
		}
	}
}

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
func TestStacks_DepthIsLimited(t *testing.T) {
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
