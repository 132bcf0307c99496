package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Programs that nobody should write; each of them has broken package sim once.

func anHour(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

// A check that changes the world is refused. Such a check ran on the loop that had made the step,
// so a crash of that host waited for itself.
func TestAttack_CheckThatActs(t *testing.T) {
	for name, act := range map[string]func(ctx context.Context, h *sim.Host){
		"crash":    func(_ context.Context, h *sim.Host) { h.Crash() },
		"kill":     func(_ context.Context, h *sim.Host) { h.Kill() },
		"shutdown": func(_ context.Context, h *sim.Host) { h.Shutdown() },
		"restart":  func(_ context.Context, h *sim.Host) { h.Restart() },
		"new host": func(ctx context.Context, _ *sim.Host) { sim.NewHost(ctx, "another", anHour) },
	} {
		for _, in := range []string{"always", "eventually", "at end"} {
			steps := 0
			f := sim.Check(func(ctx context.Context) error {
				steps = 0
				h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
					for range 5 {
						steps++
						if err := yield(ctx, 1); err != nil {
							return err
						}
					}
					return nil
				})
				check := func() error {
					if steps == 3 || in == "at end" {
						act(ctx, h)
					}
					return nil
				}
				switch in {
				case "always":
					sim.Always(ctx, "it acts", check)
				case "at end":
					sim.AtEnd(ctx, "it acts", check)
				default:
					return sim.Eventually(ctx, time.Minute, "it acts", func() bool { return check() != nil })
				}
				return h.Wait(ctx)
			}).Failure
			if f == nil || !strings.Contains(f.Error(), `"it acts" does not hold`) || !strings.Contains(f.Error(), "do this in a task") {
				t.Errorf("%s, %s: %v", in, name, f)
			}
		}
	}
}

// A condition of Eventually that panics fails the run, as a check of Always does; between two steps
// nobody else would catch it.
func TestAttack_EventuallyPanics(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		looks := 0
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, 5) }))
		return sim.Eventually(ctx, time.Minute, "a nil map", func() bool {
			if looks++; looks == 3 {
				panic("assignment to entry in nil map")
			}
			return false
		})
	}).Failure
	if f == nil || !strings.Contains(f.Error(), `"a nil map" does not hold`) || !strings.Contains(f.Error(), "nil map") {
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

// A deferred function that blocks while its host crashes is named.
func TestAttack_CrashThatBlocks(t *testing.T) {
	defer sim.Impatient(50*time.Millisecond, 50*time.Millisecond)()
	stop := make(chan struct{})
	f := sim.Check(func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			defer func() {
				select {
				case <-stop:
				case <-time.After(200 * time.Millisecond):
				}
			}()
			return anHour(ctx)
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		h.Crash()
		return asyncio.Sleep(ctx, time.Second)
	}, sim.Runs(1)).Failure
	close(stop)
	if !errors.Is(f, sim.ErrNotDeterministic) || !strings.Contains(f.Error(), "host node is killed") {
		t.Errorf("got %v", f)
	}
}

// A host that dies before its thread function has begun is not waited for. It once was, for ever
// and in real time.
func TestAttack_CrashBeforeAThread(t *testing.T) {
	for name, opts := range map[string][]sim.Option{
		"at random":    {sim.Runs(50)},
		"at each step": {sim.With(sim.Exhaustive(1)), sim.Runs(500)},
	} {
		lives := 0
		f := sim.Check(func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				lives++
				for range 3 {
					if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 1, nil }); err != nil {
						return err
					}
				}
				return nil
			})
			h.SetCrashes(0.1, time.Second)
			if err := asyncio.Sleep(ctx, time.Minute); err != nil {
				return err
			}
			return h.Wait(ctx)
		}, opts...).Failure
		if f != nil || lives == 0 {
			t.Errorf("%s: %d lives: %v", name, lives, f)
		}
	}
}

// A host that SetCrashes has crashed comes back once, unless somebody turned it on earlier; a time
// beyond for ever counts as for ever.
func TestAttack_ComesBackOnce(t *testing.T) {
	crashed := 0
	f := sim.Check(func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error { return yield(ctx, 100) })
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		h.Restart()
		h.SetCrashes(0.5, 10*time.Second)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if !errors.Is(h.Wait(ctx), sim.ErrCrashed) {
			return nil
		}
		crashed++
		h.SetCrashes(0, 0)
		h.Restart()
		h.Crash()
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		if h.IsRunning() {
			return errors.New("the host is on again, which nobody has asked for")
		}
		h.Restart()
		h.SetCrashes(0.5, math.MaxInt64)
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		if errors.Is(h.Wait(ctx), sim.ErrCrashed) && h.IsRunning() {
			return errors.New("the host is on again before the end of time")
		}
		return nil
	}, sim.Runs(20)).Failure
	if f != nil || crashed == 0 {
		t.Errorf("crashed %d times: %v", crashed, f)
	}
}

// No clock and no latency is too fast or too slow.
func TestAttack_Extremes(t *testing.T) {
	for _, rate := range []float64{math.SmallestNonzeroFloat64, 1e-12, 1e15, 1e19, math.MaxFloat64} {
		sim.Run(t, func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
				l, _ := asyncio.GetRunningLoop(ctx)
				before := l.Time()
				err := anHour(ctx)
				if passed := l.Time() - before; err == nil && passed < time.Hour {
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
		sim.Run(t, func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			sim.NewHost(ctx, "node", anHour)
			sim.NetworkOf(ctx).SetLink(link)
			if _, err := asyncio.Dial(ctx, "tcp", "node:1"); err == nil || !strings.Contains(err.Error(), "timed out") {
				return fmt.Errorf("%+v: %v", link, err)
			}
			return nil
		})
	}
}

// Every recorded name can be replayed.
func TestAttack_Names(t *testing.T) {
	for _, name := range []string{"", " ", "\"", "a\nb", "#", "\xff", "end", "not", "%d", "\u2028"} {
		program := func(ctx context.Context) error {
			start(ctx, name, func(ctx context.Context) error {
				if sim.Fault(ctx, name, 0.5) {
					return errors.New("bad")
				}
				return nil
			})
			return yield(ctx, 2)
		}
		f := sim.Check(program).Failure
		if f == nil {
			t.Fatalf("%q: nothing failed", name)
		}
		file := t.TempDir() + "/x.sim"
		if err := os.WriteFile(file, []byte(f.Schedule), 0o666); err != nil {
			t.Fatal(err)
		}
		if g := sim.Check(program, sim.Replay(file)).Failure; g == nil || g.Err.Error() != f.Err.Error() {
			t.Errorf("%q: replayed: %v, want %v", name, g, f.Err)
		}
	}
	sim.Run(t, func(ctx context.Context) (err error) {
		defer func() {
			if err, _ = recover().(error); !errors.Is(err, asyncio.ErrInvalidArgument) {
				err = fmt.Errorf("a host that is called by an address: %v", err)
			} else {
				err = nil
			}
		}()
		sim.NewHost(ctx, "10.0.0.9", anHour)
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

// The memory of a run with Cancels does not grow with steps times tasks.
func TestAttack_CancelsOfManyTasks(t *testing.T) {
	used := func(opts ...sim.Option) uint64 {
		run := sim.Single(func(ctx context.Context) error {
			for range 300 {
				asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, 30) }))
			}
			return asyncio.Sleep(ctx, time.Second)
		}, false, append(opts, sim.With(sim.Random())))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := run(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	used() // allocate the things that are made once
	without, with := used(), used(sim.Cancels())
	if with > 2*without {
		t.Errorf("a run allocates %d bytes, and with Cancels %d", without, with)
	}
}
