package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Anything that comes in from the real world is an error that names it and, where that can be
// known, the place.
func TestHonest_LeaksAreErrors(t *testing.T) {
	defer sim.Impatient(20*time.Millisecond, 20*time.Millisecond)()
	runs := 0
	for _, c := range []struct {
		what string
		main func(ctx context.Context) error
		want []string
	}{
		{"what is left of the run before", func(ctx context.Context) error {
			runs++
			for range 1 + runs%2 {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
			}
			return nil
		}, []string{"two runs with the same seed differ: at step 3", "end of the run", "waits in asyncio.Sleep at honest_test.go:"}},
		{"random numbers of another source", func(ctx context.Context) error {
			runs++
			return asyncio.Sleep(ctx, time.Duration(runs)*time.Millisecond)
		}, []string{"two runs with the same seed differ: at step 2"}},
		{"a goroutine calls the loop", func(ctx context.Context) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			called := make(chan struct{})
			go func() {
				defer close(called)
				_, _ = l.CallSoonThreadsafe(func() {})
			}()
			<-called
			return asyncio.Sleep(ctx, 0)
		}, []string{"a goroutine outside of the simulation has called the loop", "sim_test.TestHonest_LeaksAreErrors.", "at honest_test.go:"}},
		{"a goroutine feeds a channel", func(ctx context.Context) error {
			ch := make(chan int)
			defer close(ch)
			_, _, err := asyncio.Recv(ctx, ch)
			return err
		}, []string{"a task waits for a channel, and only a goroutine outside of the simulation could still use it"}},
		{"a deadline of the context package", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return asyncio.Sleep(ctx, time.Second)
		}, []string{"a deadline of the context package does not come on virtual time", "task 'main'"}},
		{"a thread function waits", func(ctx context.Context) error {
			never := make(chan struct{})
			defer close(never)
			_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
				<-never
				return 0, nil
			})
			return err
		}, []string{"a thread function waits", "honest_test.go:"}},
		{"a step blocks", func(ctx context.Context) error {
			//asynciovet:allow blocking that is what must be found
			<-time.After(500 * time.Millisecond) // a busy machine may look late
			return asyncio.Sleep(ctx, 0)
		}, []string{"a step blocks, and real time goes by", "honest_test.go:"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			runs = 0
			f := sim.Check(c.main, sim.Runs(2)).Failure
			if f == nil {
				t.Fatal("not noticed")
			}
			for _, want := range c.want {
				if !strings.Contains(f.Error(), want) {
					t.Errorf("%v\nlacks %q", f, want)
				}
			}
			if !strings.Contains(c.want[0], "deadline") && !errors.Is(f, sim.ErrNotDeterministic) {
				t.Errorf("%v is not ErrNotDeterministic", f)
			}
		})
	}
}

// A step that blocks for ever is an error, and the test does not wait for the step. That also holds
// where blocking steps are not looked for at once, and in a function of the test's own. The rest of
// the run ends when the step returns.
func TestHonest_BlockedForEver(t *testing.T) {
	defer sim.GivingUp(40 * time.Millisecond)()
	for _, c := range []struct {
		what string
		main func(ctx context.Context, block func()) error
		opts []sim.Option
		want string
	}{
		{"in the first run", func(ctx context.Context, block func()) error {
			block()
			return asyncio.Sleep(ctx, time.Second)
		}, nil, "seed 0, in order, run 1"},
		{"in a callback of a later run", func(ctx context.Context, block func()) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			if sim.Fault(ctx, "blocks", 0.5) {
				l.CallSoon(block)
			}
			return asyncio.Sleep(ctx, time.Second)
		}, []sim.Option{sim.Seed(3)}, "Swarm(), run "},
		{"in what is always looked at", func(ctx context.Context, block func()) error {
			if sim.Fault(ctx, "blocks", 0.5) {
				sim.Always(ctx, "x", func() error { block(); return nil })
			}
			return asyncio.Sleep(ctx, time.Second)
		}, nil, "Swarm(), run "},
		{"on another host", func(ctx context.Context, block func()) error {
			sim.NewHost(ctx, "quiet", func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				defer func() { _ = asyncio.Sleep(ctx, time.Second) }()
				block()
				return asyncio.Sleep(ctx, time.Hour)
			})
			return h.Wait(ctx)
		}, nil, "run 1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			defer sim.Impatient(10*time.Millisecond, time.Minute)()
			free, left := make(chan struct{}), make(chan struct{}, 10)
			main := func(ctx context.Context) error {
				defer func() { left <- struct{}{} }()
				return c.main(ctx, func() { <-free })
			}
			f := sim.Check(main, c.opts...).Failure
			for len(left) > 0 {
				<-left // of earlier runs
			}
			close(free)
			if f == nil {
				t.Fatal("not noticed")
			}
			<-left
			for _, want := range []string{"the run was given up after 40ms at step ", "a step blocks, and real time goes by", "honest_test.go:", c.want} {
				if !strings.Contains(f.Error(), want) {
					t.Errorf("%v\nlacks %q", f, want)
				}
			}
			if !errors.Is(f, sim.ErrNotDeterministic) {
				t.Errorf("%v is not ErrNotDeterministic", f)
			}
		})
	}
}

// A long run is not given up if its steps compute or its thread functions wait.
func TestHonest_SlowIsNotBlocked(t *testing.T) {
	defer sim.GivingUp(2 * time.Millisecond)()
	defer sim.Impatient(time.Minute, time.Minute)()
	sim.Run(t, func(ctx context.Context) error {
		for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; {
		}
		_, err := asyncio.ToThread(ctx, func(context.Context) (time.Time, error) { return <-time.After(20 * time.Millisecond), nil })
		return err
	})
}

// A failure by a panic names the place of the panic.
func TestHonest_PanicsSayWhere(t *testing.T) {
	for what, main := range map[string]func(ctx context.Context) error{
		"main": fails,
		"a task that is awaited": func(ctx context.Context) error {
			_, err := start(ctx, "child", fails).Await(ctx)
			return err
		},
		"a task that is not": func(ctx context.Context) error {
			start(ctx, "child", fails)
			return asyncio.Sleep(ctx, time.Second)
		},
		"an invariant": func(ctx context.Context) error {
			sim.Always(ctx, "x", func() error { return fails(ctx) })
			return asyncio.Sleep(ctx, time.Second)
		},
	} {
		f := sim.Check(main, sim.Runs(1)).Failure
		if f == nil || !strings.Contains(f.Error(), "nil map\n\tsim_test.fails at honest_test.go:") {
			t.Errorf("%s: %v", what, f)
		}
	}
}

// A stack recorded by other code may have any form.
func TestHonest_PanicWithAnOddStack(t *testing.T) {
	for _, stack := range []string{"", "panic(", "panic(\nx", "f(\n\tx", "f\n\tx:1", "\n\t"} {
		odd := &asyncio.PanicError{Value: "odd", Stack: []byte(stack)}
		f := sim.Check(func(context.Context) error { return odd }, sim.Runs(1)).Failure
		if f == nil || !strings.Contains(f.Error(), "panic: odd") {
			t.Errorf("%q: %v", stack, f)
		}
	}
}

func fails(context.Context) error {
	var m map[string]int
	m["x"] = 1
	return nil
}

// A thread function may block for longer than a step may.
func TestHonest_ThreadsMayBlock(t *testing.T) {
	defer sim.Impatient(20*time.Millisecond, time.Minute)()
	f := sim.Check(func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (time.Time, error) { return <-time.After(100 * time.Millisecond), nil })
		return err
	}, sim.Runs(1)).Failure
	if f != nil {
		t.Error(f)
	}
}

// goroutineExecutor is an executor of a program's own.
type goroutineExecutor struct{}

func (goroutineExecutor) Submit(job func()) error { go job(); return nil }
func (goroutineExecutor) Shutdown(bool)           {}

// A job that does not end in an executor of the program's own is given up. The error names the
// place where it was begun and the place where it is.
func TestHonest_JobThatDoesNotEnd(t *testing.T) {
	defer sim.Impatient(time.Minute, 100*time.Millisecond)()
	never := make(chan int)
	defer close(never)
	f := sim.Check(func(ctx context.Context) error {
		asyncio.RunInExecutor(ctx, goroutineExecutor{}, func() (int, error) { return <-never, nil })
		return asyncio.Sleep(ctx, time.Second)
	}, sim.Runs(1)).Failure
	if f == nil {
		t.Fatal("the run has ended as if nothing was")
	}
	for _, want := range []string{
		"a goroutine that a loop waits for",
		"it was begun in\n\tsim_test.TestHonest_JobThatDoesNotEnd.func1 at honest_test.go:",
		"[chan receive]:\n",
	} {
		if !strings.Contains(f.Error(), want) {
			t.Errorf("%v\nlacks %q", f, want)
		}
	}
}

// A library that does its I/O on goroutines of its own gets an error that says so.
func TestHonest_LibraryWithGoroutines(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			return asyncio.Dial(ctx, network, addr)
		}
		transport := &http.Transport{DialContext: dial}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, "GET", "http://main:1/", nil)
		if err != nil {
			return err
		}
		_, err = transport.RoundTrip(req)
		return err
	}, sim.Runs(1)).Failure
	if f == nil || !errors.Is(f.Err, asyncio.ErrForeignGoroutine) && !strings.Contains(f.Error(), asyncio.ErrForeignGoroutine.Error()) {
		t.Errorf("%v", f)
	}
}

// A context of package context that a callback cancels ends a wait at that moment, in every run:
// neither before nor after, and it is not a deadlock.
func TestHonest_ContextsEndWhenTheyEnd(t *testing.T) {
	own := func(ctx context.Context) error {
		for i := range 20 {
			c, cancel := context.WithCancel(ctx)
			loop, _ := asyncio.GetRunningLoop(ctx)
			loop.CallLater(time.Second, cancel)
			if err := asyncio.Sleep(c, time.Hour); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%d: %w", i, err)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		return nil
	}
	another := func(ctx context.Context) error { // the context of a task of another host
		var ended []time.Duration
		c, cancel := context.WithCancel(context.Background())
		defer cancel()
		sim.NewHost(ctx, "host", func(ctx context.Context) error {
			loop, _ := asyncio.GetRunningLoop(ctx)
			both := joined{ctx, c}
			if _, err := asyncio.CreateFuture[int](ctx).Await(both); !errors.Is(err, context.Canceled) {
				return err
			}
			ended = append(ended, loop.Time().SinceStart())
			return nil
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		cancel()
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if len(ended) != 1 || ended[0] != time.Second {
			return fmt.Errorf("ended at %v", ended)
		}
		return nil
	}
	for _, program := range []func(ctx context.Context) error{own, another} {
		for range 150 {
			if f := sim.Check(program, sim.Runs(3)).Failure; f != nil {
				t.Fatal(f)
			}
		}
	}
}

// joined has the values of one context and ends with another.
type joined struct {
	context.Context
	ends context.Context
}

func (j joined) Done() <-chan struct{} { return j.ends.Done() }
func (j joined) Err() error            { return j.ends.Err() }

// A thread function is part of a step, so its effects come in the same order in every run.
func TestHonest_ThreadsAreSteps(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		n := 0 // not guarded: the race detector would see a function that runs beside the loop
		var all []asyncio.AnyFuture
		for i := range 3 {
			all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				seen := n
				_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
					n++
					return n, nil
				})
				if n <= seen {
					return errors.New("it did not run")
				}
				return err
			}))
		}
		_, _, err := asyncio.Wait(ctx, all)
		return err
	}, sim.Runs(30))
}

// A test that fails through package testing is a failure with a schedule, too.
func TestHonest_FailingTests(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		what string
		fail func(t *fakeT)
		want string
	}{
		{"Fatal", func(t *fakeT) { t.Fatalf("wrong") }, "the test was ended by t.Fatal"},
		{"Error", func(t *fakeT) { t.failed = true }, "t.Error or t.Fail was called"},
	} {
		got := try("TestX", func(t *fakeT) {
			sim.Explore(t, func(ctx context.Context) error {
				err := lostUpdate(ctx)
				if err != nil {
					c.fail(t)
				}
				return nil
			}, sim.WithStrategy(sim.Random()))
		})
		for _, want := range []string{c.want, "seed 1, Random(), run 2", "once more: ASYNCIOSIM=1 go test -run '^TestX$' github.com/goasyncio/asyncio/sim", "return an error instead", "ran before the oldest"} {
			if !strings.Contains(got.fatal, want) {
				t.Errorf("%s: %s\nlacks %q", c.what, got.fatal, want)
			}
		}
	}
}

// Outside a simulation the functions of package sim say so.
func TestHonest_NeedsASimulation(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) (err error) {
		defer func() { err, _ = recover().(error) }()
		sim.Always(ctx, "x", func() error { return nil })
		return nil
	}), asyncio.HandleSIGINT(false))
	if !errors.Is(err, asyncio.ErrInvalidArgument) || !strings.Contains(err.Error(), "sim.Always") {
		t.Errorf("%v", err)
	}
}

// Runs that are compared must also end in the same way, whichever of them is the one that fails.
func TestHonest_OutcomesAreCompared(t *testing.T) {
	const repeated = 4 // one run in order, one of the strategy, that again, and another seed
	for bad := 1; bad <= repeated; bad++ {
		calls := 0
		r := sim.Check(func(ctx context.Context) error {
			if calls++; calls == bad {
				return errors.New("wrong")
			}
			return nil
		}, sim.Runs(3))
		if !errors.Is(r.Failure, sim.ErrNotDeterministic) || !strings.Contains(r.Failure.Error(), "wrong") {
			t.Errorf("a failure in call %d only: %v", bad, r.Failure)
		}
	}
}
