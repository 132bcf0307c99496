package sim_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func TestEventually_LooksAfterEveryStep(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		on := false
		start(ctx, "blink", func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			on = true
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
			on = false
			return nil
		})
		if err := sim.Eventually(ctx, time.Minute, "on", func() bool { return on }); err != nil {
			return err
		}
		l, err := asyncio.GetRunningLoop(ctx)
		if l.Time().SinceStart() != time.Second {
			return fmt.Errorf("at %v", l.Time())
		}
		return err
	})
}

func TestWaitIdle_AfterEverythingElse(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		var order []string
		for _, name := range []string{"a", "b"} {
			start(ctx, name, func(ctx context.Context) error {
				if err := yield(ctx, 7); err != nil {
					return err
				}
				order = append(order, "busy")
				if err := sim.WaitIdle(ctx); err != nil {
					return err
				}
				order = append(order, "idle")
				if err := yield(ctx, 5); err != nil {
					return err
				}
				order = append(order, "done")
				return nil
			})
		}
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		if want := []string{"busy", "busy", "idle", "done", "idle", "done"}; !slices.Equal(order, want) {
			return fmt.Errorf("%q, want %q", order, want)
		}
		return nil
	}, sim.Runs(50))
}

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
