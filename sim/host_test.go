package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Hosts take turns, each with a loop and tasks of its own, on one clock.
func TestHost_Turns(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		var log []string
		program := func(ctx context.Context) error {
			name := sim.HostOf(ctx).Name()
			for i := range 3 {
				log = append(log, fmt.Sprint(name, i, " ", asyncio.AllTasks(ctx)[0].GetName()))
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
			}
			return nil
		}
		a, b := sim.NewHost(ctx, "a", program), sim.NewHost(ctx, "b", program)
		if err := errors.Join(a.Wait(ctx), b.Wait(ctx)); err != nil {
			return err
		}
		l, _ := asyncio.GetRunningLoop(ctx)
		if got := l.Time().SinceStart(); got != 3*time.Second {
			return fmt.Errorf("it took %v", got)
		}
		want := []string{"a0 main", "b0 main", "a1 main", "b1 main", "a2 main", "b2 main"}
		if !slices.Equal(log, want) {
			return fmt.Errorf("got %q, want %q", log, want)
		}
		return nil
	})
}

// Each life of each host has random numbers of its own (world 3).
func TestHost_Rand(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		drawn := make(map[uint64]string)
		var same error
		draw := func(ctx context.Context) error {
			n, name := asyncio.Rand(ctx).Uint64(), sim.HostOf(ctx).Name()
			if before, ok := drawn[n]; ok {
				same = fmt.Errorf("%s draws what %s has drawn", name, before)
			}
			drawn[n] = name
			return nil
		}
		for _, name := range []string{"n", "n1", "n11"} {
			h := sim.NewHost(ctx, name, draw)
			for range 12 {
				if err := h.Wait(ctx); err != nil {
					return err
				}
				h.Restart()
			}
		}
		return same
	})
}

func TestHost_Misuse(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		idle := func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }
		h := sim.NewHost(ctx, "node", idle)
		for name, fn := range map[string]func(){
			"name twice":       func() { sim.NewHost(ctx, "node", idle) },
			"main":             func() { sim.NewHost(ctx, "main", idle) },
			"no name":          func() { sim.NewHost(ctx, "", idle) },
			"space":            func() { sim.NewHost(ctx, "a b", idle) },
			"nil":              func() { sim.NewHost(ctx, "x", nil) },
			"restart":          func() { h.Restart() },
			"main's crash":     func() { sim.HostOf(ctx).Crash() },
			"crashes for sure": func() { h.SetCrashes(1, 0) },
			"back before":      func() { h.SetCrashes(0.5, -1) },
			"pauses for sure":  func() { h.SetPauses(1, time.Second) },
			"pauses of none":   func() { h.SetPauses(0.5, 0) },
			"pause back":       func() { h.Pause(-time.Second) },
			"clock":            func() { h.SetClockRate(0) },
			"clock of NaN":     func() { h.SetClockRate(math.NaN()) },
			"fault of NaN":     func() { sim.Fault(ctx, "x", math.NaN()) },
			"fault twice":      func() { sim.Fault(ctx, "x", 2) },
			"fault below 0":    func() { sim.Fault(ctx, "x", -0.1) },
			"disk of NaN":      func() { h.Disk().SetFaults(sim.DiskFaults{Read: math.NaN()}) },
			"disk above 1":     func() { h.Disk().SetFaults(sim.DiskFaults{BitRot: 1.5}) },
			"stall below 0":    func() { h.Disk().SetFaults(sim.DiskFaults{Stall: 0.5, StallTime: -1}) },
			"latency":          func() { h.Disk().SetLatency(2, 1) },
			"latency below 0":  func() { h.Disk().SetLatency(-1, 1) },
			"sync's latency":   func() { h.Disk().SetSyncLatency(2, 1) },
			"capacity":         func() { h.Disk().SetCapacity(-1) },
			"no runs":          func() { sim.Runs(0) },
			"no steps":         func() { sim.StepLimit(0, 1) },
			"no steps in all":  func() { sim.StepLimit(1, 0) },
			"foreign context":  func() { sim.NewHost(context.Background(), "x", idle) },
		} {
			err := func() (err error) {
				defer func() { err, _ = recover().(error) }()
				fn()
				return nil
			}()
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				return fmt.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// A queue that two hosts share is refused where one would have to wake a task of the other.
func TestAttack_SharedQueue(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		q := asyncio.NewQueue[int](1)
		a := sim.NewHost(ctx, "a", func(ctx context.Context) error {
			for i := range 3 {
				if err := q.Put(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
		b := sim.NewHost(ctx, "b", func(ctx context.Context) error {
			_, err := q.Get(ctx) // it need not wait for this one
			return err
		})
		if err := b.Wait(ctx); !errors.Is(err, asyncio.ErrDifferentLoop) {
			return fmt.Errorf("b: %v", err)
		}
		a.Kill()
		return nil
	}, sim.Runs(1)).Failure
	if f != nil {
		t.Error(f)
	}
}

// An error of a program fails the run, unless somebody asks for it; so does a panic.
func TestHost_Fails(t *testing.T) {
	broken := errors.New("broken")
	fails := func(ctx context.Context) error { return broken }
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", fails)
		return asyncio.Sleep(ctx, time.Second)
	}).Failure
	if f == nil || !errors.Is(f, broken) || !strings.Contains(f.Error(), "host node") {
		t.Errorf("an error that nobody asks for: %v", f)
	}
	f = sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", fails)
		return sim.Eventually(ctx, time.Second, "answered", func() bool { return false })
	}).Failure
	if f == nil || !errors.Is(f, broken) || !strings.Contains(f.Error(), "answered: not within 1s\n") || !strings.Contains(f.Error(), "host node") {
		t.Errorf("main fails because of an error that nobody asked for: %v", f)
	}
	f = sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", fails)
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
		return err
	}).Failure
	if f == nil || !errors.Is(f, asyncio.ErrDeadlock) || !errors.Is(f, broken) || strings.Count(f.Error(), "broken") != 1 {
		t.Errorf("main waits for ever because of an error that nobody asked for: %v", f)
	}
	f = sim.Check(func(ctx context.Context) error {
		if err := sim.NewHost(ctx, "node", fails).Wait(ctx); err != broken {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}).Failure
	if f != nil {
		t.Errorf("an error that was asked for: %v", f)
	}
	f = sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", func(ctx context.Context) error {
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("oh no") }), asyncio.TaskName("worker"))
			return asyncio.Sleep(ctx, time.Second)
		})
		return asyncio.Sleep(ctx, time.Minute)
	}).Failure
	if f == nil || !strings.Contains(f.Error(), "oh no") || !strings.Contains(f.Error(), "node/worker") {
		t.Errorf("a panic: %v", f)
	}
}

// A Goexit on a host, as t.FailNow makes it, ends the run.
func TestHost_Goexit(t *testing.T) {
	for _, in := range []string{"task", "main", "deferred"} {
		f := sim.Check(func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				switch in {
				case "main":
					runtime.Goexit()
				case "task":
					asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { runtime.Goexit(); return nil }))
				case "deferred":
					defer runtime.Goexit()
				}
				return asyncio.Sleep(ctx, time.Second)
			})
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			h.Crash()
			return nil
		}).Failure
		if (f != nil) != (in != "deferred") {
			t.Errorf("%s: %v", in, f)
		}
	}
}

// A t.FailNow in a task that a host's program has left behind ends the run, as anywhere else.
func TestAttack_GoexitWhileAHostCloses(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		return sim.NewHost(ctx, "node", func(ctx context.Context) error {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer runtime.Goexit()
				return anHour(ctx)
			}))
			return yield(ctx, 2)
		}).Wait(ctx)
	}).Failure
	if f == nil || !strings.Contains(f.Error(), "t.FailNow") {
		t.Errorf("got %v", f)
	}
}

// Deferred functions may turn hosts on when the run is over. They must leave nothing behind:
// TestMain looks for goroutines.
func TestAttack_HostsAfterTheEnd(t *testing.T) {
	for _, fails := range []bool{false, true} {
		program := func(ctx context.Context) error {
			var hosts []*sim.Host
			revive := func() {
				for _, h := range hosts {
					if !h.IsRunning() {
						func() {
							defer func() { _ = recover() }() // it is just ending
							h.Restart()
						}()
					}
				}
				sim.NewHost(ctx, fmt.Sprint("late", len(hosts)), anHour)
				hosts = append(hosts, nil)[:len(hosts)]
			}
			for _, name := range []string{"a", "b", "c"} {
				hosts = append(hosts, sim.NewHost(ctx, name, func(ctx context.Context) error {
					defer func() {
						if name == "c" {
							revive()
						}
					}()
					return anHour(ctx)
				}))
			}
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer func() {
					if fails { // main is then not awaited but unwound
						hosts[0].Restart()
					}
				}()
				return anHour(ctx)
			}))
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if fails {
				sim.Always(ctx, "it ends here", func() error { return errors.New("it does") })
				return anHour(ctx)
			}
			return nil
		}
		if f := sim.Check(program, sim.Runs(3)).Failure; (f != nil) != fails {
			t.Errorf("fails %v: %v", fails, f)
		}
	}
}

// If nothing can happen on any host, main gets the deadlock.
func TestHost_Deadlock(t *testing.T) {
	forever := func(ctx context.Context) error {
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
		return err
	}
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", forever)
		return forever(ctx)
	}).Failure
	if f == nil || !errors.Is(f, asyncio.ErrDeadlock) || !strings.Contains(f.Error(), "host node:") || !strings.Contains(f.Error(), "host_test.go") {
		t.Errorf("got %v", f)
	}
}

// A deadlock's error includes the errors with which programs of hosts have ended.
func TestAttack_DeadlockBehindAnError(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", func(ctx context.Context) error { return errors.New("no configuration") })
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx) // the node was to set it
		return err
	}).Failure
	if f == nil || !errors.Is(f, asyncio.ErrDeadlock) || !strings.Contains(f.Error(), "no configuration") {
		t.Errorf("got %v", f)
	}
}

// The strategy decides the order in which hosts run, and that order is replayed and explained.
func TestHost_Explored(t *testing.T) {
	program := func(ctx context.Context) error {
		var log []string
		for _, name := range []string{"a", "b", "c"} {
			sim.NewHost(ctx, name, func(ctx context.Context) error {
				log = append(log, name)
				return nil
			})
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if strings.Join(log, "") == "cba" {
			return errors.New("backwards")
		}
		return nil
	}
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3), sim.Exhaustive(0)} {
		f := sim.Check(program, sim.WithStrategy(s), sim.Runs(2000)).Failure
		if f == nil || !strings.Contains(f.Error(), "'c/main' ran before 'a/main'") || len(f.Deviations) != 2 {
			t.Errorf("%v: %v", s, f)
		}
	}
}

// A host's clock may go faster, and be set; timers follow the rate, not the setting.
func TestHost_Clock(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		l, _ := asyncio.GetRunningLoop(ctx)
		begun := l.Now()
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			l, _ := asyncio.GetRunningLoop(ctx)
			if err := asyncio.Sleep(ctx, 10*time.Second); err != nil {
				return err
			}
			if l.Time().SinceStart() != 10*time.Second {
				return fmt.Errorf("its clock shows %v", l.Time())
			}
			return nil
		})
		h.SetClockRate(2)
		h.JumpClock(time.Hour)
		if err := h.Wait(ctx); err != nil {
			return err
		}
		if got := l.Time().SinceStart(); got != 5*time.Second {
			return fmt.Errorf("it took %v", got)
		}
		h.SetClockRate(0.5)
		h.Restart()
		if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		h.SetClockRate(4) // 1 s of its 10 s have gone
		if err := h.Wait(ctx); err != nil {
			return err
		}
		if got := l.Time().SinceStart() - 7*time.Second; got != 9*time.Second/4 {
			return fmt.Errorf("it took %v more", got)
		}
		if got := l.Now().Sub(begun); got != l.Time().SinceStart() {
			return fmt.Errorf("main's wall clock has gone by %v in %v", got, l.Time())
		}
		var shown time.Duration
		other := sim.NewHost(ctx, "other", func(ctx context.Context) error {
			l, _ := asyncio.GetRunningLoop(ctx)
			shown = l.Now().Sub(begun)
			return nil
		})
		other.JumpClock(-time.Minute)
		err := other.Wait(ctx)
		if want := l.Time().SinceStart() - time.Minute; shown != want {
			return fmt.Errorf("a clock that was set shows %v, want %v", shown, want)
		}
		return err
	})
}

// No clock and no latency is too fast or too slow.
func TestAttack_ExtremeClocksAndLatencies(t *testing.T) {
	for _, rate := range []float64{math.SmallestNonzeroFloat64, 1e-12, 1e15, 1e19, math.MaxFloat64} {
		sim.Run(t, func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				l, _ := asyncio.GetRunningLoop(ctx)
				before := l.Time()
				err := anHour(ctx)
				if passed := l.Time().Sub(before); err == nil && passed < time.Hour {
					return fmt.Errorf("rate %v: an hour is over after %v", rate, passed)
				}
				return err
			})
			h.SetClockRate(rate)
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return err
			}
			if on := h.IsRunning(); on != (rate < 1) {
				return fmt.Errorf("rate %v: on %v", rate, on)
			}
			h.SetClockRate(1)
			return h.Wait(ctx)
		})
	}
	for _, link := range []sim.Link{{MaxLatency: math.MaxInt64}, {MinLatency: math.MaxInt64}, {MinLatency: math.MaxInt64 - 1, MaxLatency: math.MaxInt64}} {
		f := sim.Check(func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			sim.NewHost(ctx, "node", anHour)
			sim.NetworkOf(ctx).SetLink(link)
			_, err := asyncio.Dial(ctx, "tcp", "node:1")
			if inOrder := link.MinLatency == 0 && errors.Is(err, syscall.ECONNREFUSED); err == nil || !inOrder && !strings.Contains(err.Error(), "timed out") {
				return fmt.Errorf("%+v: %v", link, err)
			}
			return nil
		}, sim.Runs(10)).Failure
		if f != nil {
			t.Error(f)
		}
	}
}

// Same seed, same trace, with hosts that crash.
func TestHost_Deterministic(t *testing.T) {
	program := func(ctx context.Context) error {
		var hosts []*sim.Host
		for i := range 3 {
			hosts = append(hosts, sim.NewHost(ctx, fmt.Sprint("n", i), func(ctx context.Context) error {
				for {
					if err := asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(1000))*time.Millisecond); err != nil {
						return err
					}
					asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, 3) }))
				}
			}))
		}
		for range 30 {
			if err := asyncio.Sleep(ctx, 700*time.Millisecond); err != nil {
				return err
			}
			for _, h := range hosts {
				switch {
				case !h.IsRunning():
					h.Restart()
				case sim.Fault(ctx, "crash of "+h.Name(), 0.2):
					h.Crash()
				}
			}
		}
		return nil
	}
	for seed := range uint64(20) {
		first, err := sim.Trace(program, sim.WithStrategy(sim.Random()), sim.Seed(seed))
		if err != nil {
			t.Fatal(err)
		}
		second, _ := sim.Trace(program, sim.WithStrategy(sim.Random()), sim.Seed(seed))
		if first != second {
			t.Fatalf("seed %d: traces differ", seed)
		}
	}
}

// Code that got its ctx elsewhere can ask for the running host.
func TestCurrentHost(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		outer := ctx
		for _, name := range []string{"a", "b"} {
			sim.NewHost(ctx, name, func(ctx context.Context) error {
				for range 3 {
					if got := sim.CurrentHost(outer); got != sim.HostOf(ctx) {
						return fmt.Errorf("%v runs, and is told that it is %v", sim.HostOf(ctx), got)
					}
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if got := sim.CurrentHost(ctx); got != sim.HostOf(ctx) {
			return fmt.Errorf("main runs, and is told that it is %v", got)
		}
		return asyncio.Sleep(ctx, time.Second)
	}, sim.Runs(20))
}

// Cancels may cancel a host's program. A program that ends so has not failed; one that ends
// cancelled by itself has.
func TestHost_ProgramIsCancelled(t *testing.T) {
	wait := func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }
	report := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", wait)
		return asyncio.Sleep(ctx, 2*time.Hour)
	}, sim.WithStrategy(sim.Exhaustive(1)), sim.Cancels())
	if report.Failure != nil || report.Runs < 3 {
		t.Errorf("%d runs: %v", report.Runs, report.Failure)
	}
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "node", func(ctx context.Context) error {
			start(ctx, "x", wait).Cancel("no")
			return fmt.Errorf("mine: %w", asyncio.ErrCancelled)
		})
		return asyncio.Sleep(ctx, 2*time.Hour)
	}, sim.Cancels(), sim.Runs(1)).Failure
	if f == nil || !strings.Contains(f.Error(), "program of host node ended with an error that nobody asked for: mine") {
		t.Error(f)
	}
}
