package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
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
		if got := l.Time(); got != 3*time.Second {
			return fmt.Errorf("it took %v", got)
		}
		want := []string{"a0 main", "b0 main", "a1 main", "b1 main", "a2 main", "b2 main"}
		if !slices.Equal(log, want) {
			return fmt.Errorf("got %q, want %q", log, want)
		}
		return nil
	})
}

// A crash ends each task where it is; everything in memory is gone, and the next life begins anew.
func TestHost_CrashAtEveryAwait(t *testing.T) {
	for after := range 6 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				var log []string
				lives := 0
				h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
					lives++
					life := lives
					asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
						defer func() {
							err := asyncio.Sleep(ctx, 0)
							log = append(log, fmt.Sprintf("%d: deferred, %v", life, errors.Is(err, asyncio.ErrLoopClosed)))
						}()
						for {
							if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
								return err
							}
							log = append(log, fmt.Sprintf("%d: tick", life))
						}
					}))
					l, _ := asyncio.GetRunningLoop(ctx)
					l.CallLater(time.Second, func() { log = append(log, fmt.Sprintf("%d: timer", life)) })
					_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
					return err
				})
				for range after {
					if err := asyncio.Sleep(ctx, 450*time.Millisecond); err != nil {
						return err
					}
				}
				h.Crash()
				if h.IsRunning() || !errors.Is(h.Wait(ctx), sim.ErrCrashed) {
					return fmt.Errorf("on %v, ended with %v", h.IsRunning(), h.Wait(ctx))
				}
				want := []string{}
				if after > 2 {
					want = append(want, "1: timer")
				}
				if after > 0 { // it had begun
					want = append(want, "1: deferred, true")
				}
				if after > 4 {
					want = []string{"1: timer", "1: tick", "1: deferred, true"}
				}
				if err := asyncio.Sleep(ctx, time.Minute); err != nil {
					return err
				}
				if !slices.Equal(log, want) {
					return fmt.Errorf("got %q, want %q", log, want)
				}
				log = nil
				h.Restart()
				if err := asyncio.Sleep(ctx, 2500*time.Millisecond); err != nil {
					return err
				}
				h.Shutdown()
				if err := h.Wait(ctx); !errors.Is(err, asyncio.ErrCancelled) {
					return fmt.Errorf("shut down, it ends with %v", err)
				}
				life := fmt.Sprint(lives)
				want = []string{life + ": timer", life + ": tick", life + ": deferred, false"}
				if !slices.Equal(log, want) {
					return fmt.Errorf("second life: got %q, want %q", log, want)
				}
				return nil
			})
		})
	}
}

// A program may crash its own host, and another host that is just ending this one.
func TestHost_CrashesItself(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		steps := 0
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			steps++
			sim.HostOf(ctx).Crash()
			steps++
			err := asyncio.Sleep(ctx, 0)
			steps += 10
			return err
		})
		var killer *sim.Host
		killer = sim.NewHost(ctx, "killer", func(ctx context.Context) error {
			defer h.Crash()
			h.Crash()
			killer.Kill()
			return asyncio.Sleep(ctx, 0)
		})
		if err := h.Wait(ctx); !errors.Is(err, sim.ErrCrashed) {
			return fmt.Errorf("node: %v", err)
		}
		if err := killer.Wait(ctx); !errors.Is(err, sim.ErrCrashed) {
			return fmt.Errorf("killer: %v", err)
		}
		if steps != 2 && steps != 0 {
			return fmt.Errorf("%d steps", steps)
		}
		return nil
	})
}

// A crash is explored after each step of a host in turn.
func TestHost_SetCrashes(t *testing.T) {
	done := map[int]bool{} // after how many steps it crashed, in some run
	r := sim.Check(func(ctx context.Context) error {
		steps, crashed := 0, -1
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			for range 5 {
				steps++
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
			}
			return nil
		})
		h.SetCrashes(0.1, time.Minute)
		err := h.Wait(ctx)
		if errors.Is(err, sim.ErrCrashed) {
			crashed = steps
			if h.IsRunning() {
				return errors.New("it has crashed and is on")
			}
			if err := asyncio.Sleep(ctx, time.Minute); err != nil {
				return err
			}
			if !h.IsRunning() {
				return errors.New("it has not come back")
			}
			err = h.Wait(ctx)
		}
		done[crashed] = true
		return err
	}, sim.With(sim.Exhaustive(1)), sim.Runs(1000))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	for _, steps := range []int{-1, 1, 2, 3, 4, 5} {
		if !done[steps] {
			t.Errorf("it has not crashed after %d steps; %s", steps, r.Coverage)
		}
	}
}

// SetCrashes turns on again only the hosts that it has crashed itself, and not hosts that others
// have turned on and crashed since.
func TestHost_CrashedByOthersStaysOff(t *testing.T) {
	crashed := 0
	r := sim.Check(func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		h.SetCrashes(0.5, 10*time.Second)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		h.SetCrashes(0, 0)
		if !h.IsRunning() {
			crashed++
			h.Restart()
		}
		h.Crash()
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		if h.IsRunning() {
			return errors.New("it is on again")
		}
		return nil
	}, sim.Runs(20))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	if crashed == 0 {
		t.Error("it has never crashed")
	}
}

// A machine can also lose power after its program has ended.
func TestHost_CrashAfterTheEnd(t *testing.T) {
	for how, end := range map[string]func(ctx context.Context, h *sim.Host) error{
		"returned": func(ctx context.Context, h *sim.Host) error { return h.Wait(ctx) },
		"killed": func(ctx context.Context, h *sim.Host) error {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			h.Kill()
			return nil
		},
	} {
		runs, lost := 0, 0
		r := sim.Check(func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				if err := asyncio.WriteFile(ctx, "a", []byte("hello"), 0o666); err != nil {
					return err
				}
				if how == "returned" {
					return nil
				}
				return asyncio.Sleep(ctx, time.Hour)
			})
			if err := end(ctx, h); err != nil {
				return err
			}
			if b, err := h.Disk().ReadFile("a"); err != nil || string(b) != "hello" {
				return fmt.Errorf("before the crash the file has %q, %w", b, err)
			}
			h.Crash()
			h.Crash() // without power there is nothing left to lose
			runs++
			if b, err := h.Disk().ReadFile("a"); err != nil || string(b) != "hello" {
				lost++
			}
			return nil
		}, sim.Runs(50))
		if r.Failure != nil {
			t.Fatal(r.Failure)
		}
		if lost == 0 || lost == runs {
			t.Errorf("%s: of %d runs %d have lost what was not synced", how, runs, lost)
		}
	}
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
			"main's pause":     func() { sim.HostOf(ctx).Pause(time.Second) },
			"crashes for sure": func() { h.SetCrashes(1, 0) },
			"back before":      func() { h.SetCrashes(0.5, -1) },
			"pauses for sure":  func() { h.SetPauses(1, time.Second) },
			"pauses of none":   func() { h.SetPauses(0.5, 0) },
			"clock":            func() { h.SetClockRate(0) },
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
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("oh no") }), asyncio.Name("worker"))
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
		f := sim.Check(program, sim.With(s), sim.Runs(2000)).Failure
		if f == nil || !strings.Contains(f.Error(), "'c/main' ran before 'a/main'") || len(f.Deviations) != 2 {
			t.Errorf("%v: %v", s, f)
		}
	}
}

// A fault that a program asks for happens in an exploration and is recorded. It is minimised away
// if it is not needed.
func TestFault(t *testing.T) {
	program := func(ctx context.Context) error {
		var bad []int
		for i := range 20 {
			if sim.Fault(ctx, "harmless", 0.5) {
				continue
			}
			if sim.Fault(ctx, "bad", 0.1) {
				bad = append(bad, i)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		if len(bad) >= 2 {
			return fmt.Errorf("bad at %v", bad)
		}
		return nil
	}
	sim.Run(t, program) // in order, no fault happens
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(2), sim.Exhaustive(0)} {
		r := sim.Check(program, sim.With(s), sim.Runs(5000))
		f := r.Failure
		if f == nil || len(f.Deviations) != 2 || strings.Count(f.Error(), "there was a fault: bad") != 2 || strings.Contains(f.Trace, "harmless") {
			t.Fatalf("%v: %v %v", s, r.Coverage, f)
		}
		if again, err := sim.Reformat(f.Schedule); err != nil || again != f.Schedule {
			t.Errorf("%v: the schedule reads as %q, %v", s, again, err)
		}
		file := t.TempDir() + "/x.sim"
		if err := os.WriteFile(file, []byte(f.Schedule), 0o666); err != nil {
			t.Fatal(err)
		}
		if g := sim.Check(program, sim.Replay(file)).Failure; g == nil || g.Err.Error() != f.Err.Error() {
			t.Errorf("%v: replayed: %v, want %v", s, g, f.Err)
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
			if l.Time() != 10*time.Second {
				return fmt.Errorf("its clock shows %v", l.Time())
			}
			return nil
		})
		h.SetClockRate(2)
		h.JumpClock(time.Hour)
		if err := h.Wait(ctx); err != nil {
			return err
		}
		if got := l.Time(); got != 5*time.Second {
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
		if got := l.Time() - 7*time.Second; got != 9*time.Second/4 {
			return fmt.Errorf("it took %v more", got)
		}
		if got := l.Now().Sub(begun); got != l.Time() {
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
		if want := l.Time() - time.Minute; shown != want {
			return fmt.Errorf("a clock that was set shows %v, want %v", shown, want)
		}
		return err
	})
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
		first, err := sim.Trace(program, sim.With(sim.Random()), sim.Seed(seed))
		if err != nil {
			t.Fatal(err)
		}
		second, _ := sim.Trace(program, sim.With(sim.Random()), sim.Seed(seed))
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
	}, sim.With(sim.Exhaustive(1)), sim.Cancels())
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

// The trace shows the notes of programs, the faults, and the test's actions on hosts, in the order
// in which they happened.
func TestTrace_NotesAndFaultsInOrder(t *testing.T) {
	for seed := range uint64(20) {
		faults := false
		trace, err := sim.Trace(func(ctx context.Context) error {
			sim.Note(ctx, "first")
			faults = sim.Fault(ctx, "second", 0.5)
			sim.Note(ctx, "third")
			return nil
		}, sim.With(sim.Random()), sim.Seed(seed))
		if err != nil {
			t.Fatal(err)
		}
		if first, second, third := strings.Index(trace, "first"), strings.Index(trace, "fault: second"), strings.Index(trace, "third"); faults && !(0 < first && first < second && second < third) {
			t.Errorf("seed %d:\n%s", seed, trace)
		} else if faults {
			return
		}
	}
	t.Error("no fault in any run")
}
