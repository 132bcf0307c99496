package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A paused host runs nothing, its clock goes on, and everything that arrives meanwhile is there
// afterwards.
func TestHost_Pause(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		var ticks []time.Duration
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			for range 4 {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				ticks = append(ticks, now(ctx))
			}
			return nil
		})
		for _, step := range []struct{ wait, pause time.Duration }{
			// this pause ends before the first one
			{1500 * time.Millisecond, 10 * time.Second}, {time.Second, 2 * time.Second},
		} {
			if err := asyncio.Sleep(ctx, step.wait); err != nil {
				return err
			}
			h.Pause(step.pause)
		}
		if err := h.Wait(ctx); err != nil {
			return err
		}
		want := []time.Duration{time.Second, 11500 * time.Millisecond, 12500 * time.Millisecond, 13500 * time.Millisecond}
		if fmt.Sprint(ticks) != fmt.Sprint(want) {
			return fmt.Errorf("ticks at %v, want %v", ticks, want)
		}
		return nil
	})
}

// A pause of a program that has not begun or waits for ever, and of one that is shut down, killed
// or crashed meanwhile.
func TestHost_PauseAndEnd(t *testing.T) {
	for name, end := range map[string]func(h *sim.Host){
		"shut down": (*sim.Host).Shutdown, "killed": (*sim.Host).Kill, "crashed": (*sim.Host).Crash,
	} {
		for _, wait := range []time.Duration{0, time.Second} {
			sim.Run(t, func(ctx context.Context) error {
				h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
					_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
					return err
				})
				if err := asyncio.Sleep(ctx, wait); err != nil {
					return err
				}
				begun := now(ctx)
				h.Pause(time.Minute)
				end(h)
				if err := h.Wait(ctx); err == nil {
					return errors.New("no error")
				}
				took := now(ctx) - begun
				if patient := name == "shut down"; patient != (took == time.Minute) {
					return fmt.Errorf("%s: it took %v", name, took)
				}
				return nil
			})
		}
	}
}

// lease is a lock that expires after a second. Its holder checks that it still holds it, then
// awaits, then acts.
func lease(ctx context.Context) error {
	var holder string
	var until time.Duration
	acted := ""
	for _, name := range []string{"a", "b"} {
		h := sim.NewHost(ctx, name, func(ctx context.Context) error {
			for range 20 {
				if holder == "" || until < now(ctx) {
					holder, until = name, now(ctx)+time.Second
					sim.Note(ctx, "the lease is %s's until %v", name, until)
				}
				if holder == name {
					if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
						return err
					}
					if holder != name {
						acted = name
					}
				}
				if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
		h.SetPauses(0.02, 3*time.Second)
	}
	sim.Always(ctx, "who acts holds the lease", func() error {
		if acted != "" {
			return fmt.Errorf("%s acts", acted)
		}
		return nil
	})
	return asyncio.Sleep(ctx, time.Minute)
}

// A pause finds a lease that ends between the check and the act, and the notes of the program
// explain it.
func TestHost_SetPauses(t *testing.T) {
	sim.Run(t, lease)
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(2)} {
		f := sim.Check(lease, sim.WithStrategy(s), sim.Runs(1000)).Failure
		if f == nil {
			t.Fatalf("%v: not found", s)
		}
		text := f.Error()
		if len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], " paused for ") || !strings.Contains(text, "the lease is b's until") {
			t.Errorf("%v: %s", s, text)
		}
	}
}
