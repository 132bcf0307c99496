package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

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
	}, sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(1000))
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

// counter keeps a number in a file. It sets told to a count once the calls that should make it
// durable have returned; without safe it forgets to sync the file.
func counter(safe bool, told *int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		n := 0
		if b, err := asyncio.ReadFile(ctx, "count"); err == nil {
			if _, err := fmt.Sscan(string(b), &n); err != nil {
				return fmt.Errorf("the file has %q: %w", b, err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if n < *told {
			return fmt.Errorf("%d was told, and %d is left", *told, n)
		}
		for {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			n++
			f, err := asyncio.OpenFile(ctx, "count.new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
			if err != nil {
				return err
			}
			_, err = f.Write(ctx, fmt.Append(nil, n))
			if err == nil && safe {
				err = f.Sync(ctx)
			}
			if err := errors.Join(err, f.Close(ctx)); err != nil {
				return err
			}
			if err := asyncio.Rename(ctx, "count.new", "count"); err != nil {
				return err
			}
			if err := asyncio.SyncDir(ctx, "."); err != nil {
				return err
			}
			*told = n
		}
	}
}

// Crashes find a program that forgets to sync, and find nothing in one that syncs.
func TestHost_Disk(t *testing.T) {
	program := func(safe bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			told := 0
			h := sim.NewHost(ctx, "node", counter(safe, &told))
			h.Disk().SetLatency(time.Millisecond, 20*time.Millisecond)
			h.SetCrashes(0.05, time.Second)
			for range 20 {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if !h.IsRunning() {
					if err := h.Wait(ctx); !errors.Is(err, sim.ErrCrashed) {
						return err
					}
				}
			}
			sim.StopFaults(ctx)
			before := told
			return sim.Eventually(ctx, 10*time.Second, "counting goes on", func() bool { return told > before })
		}
	}
	sim.Explore(t, program(true), sim.Runs(100))
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3)} {
		r := sim.Check(program(false), sim.WithStrategy(s), sim.Runs(2000))
		f := r.Failure
		if f == nil {
			t.Fatalf("%v: not found: %s", s, r.Coverage)
		}
		if len(f.Deviations) != 2 || !strings.Contains(f.Error(), "crash of node") || !strings.Contains(f.Error(), "node: lose: write count.new") {
			t.Errorf("%v: %v", s, f)
		}
	}
}

// A deferred function that blocks while its host crashes is named.
func TestAttack_CrashThatBlocks(t *testing.T) {
	defer sim.Impatient(50*time.Millisecond, 50*time.Millisecond)()
	stop := make(chan struct{})
	f := sim.Check(func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			defer func() {
				//asynciovet:allow blocking that is what must be found
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
		"at each step": {sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(500)},
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
