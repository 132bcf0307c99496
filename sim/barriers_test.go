package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A log that acknowledges a record before it is on the disk loses it exactly if the power fails
// between the two. The test stops the program there.
func ExampleBarrier() {
	appendRecord := func(ctx context.Context) error {
		f, err := asyncio.OpenFile(ctx, "log", os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, err := f.Write(ctx, []byte("record")); err != nil {
			return err
		}
		if err := sim.Pass(ctx, "written, not synced"); err != nil {
			return err
		}
		return f.Sync(ctx)
	}
	r := sim.Check(func(ctx context.Context) error {
		node := sim.NewHost(ctx, "node", appendRecord)
		written := sim.NewBarrier(ctx, "written, not synced")
		if err := written.Wait(ctx, 1); err != nil {
			return err
		}
		if b, err := node.Disk().ReadDurable("log"); err == nil {
			return fmt.Errorf("%q is on the disk already", b)
		}
		node.Crash()
		return nil
	})
	fmt.Println(r.Failure)
	// Output: <nil>
}

// Tasks are held in the order in which they come, on the hosts that are named, and go on one by
// one.
func TestBarrier(t *testing.T) {
	r := sim.Check(func(ctx context.Context) error {
		var passed []string
		program := func(ctx context.Context) error {
			name := sim.HostOf(ctx).Name()
			for i := range 2 {
				if err := sim.Pass(ctx, "here"); err != nil {
					return err
				}
				if err := sim.Pass(ctx, "elsewhere"); err != nil {
					return err
				}
				passed = append(passed, fmt.Sprint(name, i))
			}
			return nil
		}
		a, b := sim.NewHost(ctx, "a", program), sim.NewHost(ctx, "b", program)
		here := sim.NewBarrier(ctx, "here", "a")
		if err := here.Wait(ctx, 1); err != nil {
			return err
		}
		if err := b.Wait(ctx); err != nil {
			return err
		}
		if want := []string{"b0", "b1"}; !slices.Equal(passed, want) || here.String() != `Barrier at "here", held [a/main]` {
			return fmt.Errorf("%q have passed, want %q; %v", passed, want, here)
		}
		if !here.Release() || here.Release() {
			return errors.New("one task was held, and not one is released")
		}
		if err := here.Wait(ctx, 2); err != nil {
			return err
		}
		if want := []string{"b0", "b1", "a0"}; !slices.Equal(passed, want) {
			return fmt.Errorf("%q have passed, want %q", passed, want)
		}
		here.Open()
		return a.Wait(ctx)
	}, sim.Runs(100))
	if r.Failure != nil {
		t.Error(r.Failure)
	}
}

// A task that is cancelled at a barrier, or whose host crashes there, is not held any more.
func TestBarrier_EndOfAHeldTask(t *testing.T) {
	for name, end := range map[string]func(h *sim.Host){"cancel": (*sim.Host).Shutdown, "crash": (*sim.Host).Crash, "kill": (*sim.Host).Kill} {
		sim.Run(t, func(ctx context.Context) error {
			h := sim.NewHost(ctx, "node", func(ctx context.Context) error { return sim.Pass(ctx, "here") })
			b := sim.NewBarrier(ctx, "here")
			if err := b.Wait(ctx, 1); err != nil {
				return err
			}
			end(h)
			if err := h.Wait(ctx); err == nil {
				return errors.New("the program went on")
			}
			if held := b.Held(); len(held) > 0 || b.Release() {
				return fmt.Errorf("%s: held are %q", name, held)
			}
			return nil
		})
	}
}

// Outside of a simulation, and without a barrier, Pass does nothing, not even a step.
func TestPass_WithoutABarrier(t *testing.T) {
	if err := sim.Pass(t.Context(), "here"); err != nil {
		t.Error(err)
	}
	with, err := sim.Trace(func(ctx context.Context) error { return sim.Pass(ctx, "here") })
	without, err2 := sim.Trace(func(context.Context) error { return nil })
	with, _, _ = strings.Cut(with, "\n  steps ")
	without, _, _ = strings.Cut(without, "\n  steps ")
	if with != without || err != nil || err2 != nil {
		t.Errorf("%v %v\n%s\n%s", err, err2, with, without)
	}
}

// A frozen host makes the steps that it is given and no others.
func TestHost_Step(t *testing.T) {
	r := sim.Check(func(ctx context.Context) error {
		n := 0
		h := sim.NewHost(ctx, "node", func(ctx context.Context) error {
			for n = 1; n < 10; n++ {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return asyncio.Sleep(ctx, time.Second)
		})
		h.Freeze()
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		for want := range 4 {
			if n != want {
				return fmt.Errorf("n is %d, want %d", n, want)
			}
			if err := h.Step(ctx, 1); err != nil {
				return err
			}
		}
		if err := h.Step(ctx, 3); err != nil || n != 7 {
			return fmt.Errorf("n is %d, want 7 (%w)", n, err)
		}
		if err := h.Step(ctx, 1000); err != nil || h.IsRunning() {
			return fmt.Errorf("the program runs for ever (%w)", err)
		}
		h.Restart()
		h.Freeze()
		if err := asyncio.Sleep(ctx, time.Minute); err != nil || n != 10 {
			return fmt.Errorf("n is %d, want 10 (%w)", n, err)
		}
		h.Thaw()
		return h.Wait(ctx)
	}, sim.Runs(50))
	if r.Failure != nil {
		t.Error(r.Failure)
	}
}

// A host that nobody thaws is a deadlock, and a run that ends meanwhile ends.
func TestHost_FrozenForEver(t *testing.T) {
	wait := false
	main := func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node", anHour)
		h.Freeze()
		if wait {
			return h.Wait(ctx)
		}
		return nil
	}
	if f := sim.Check(main).Failure; f != nil {
		t.Error(f)
	}
	wait = true
	if f := sim.Check(main).Failure; !errors.Is(f, asyncio.ErrDeadlock) {
		t.Error(f)
	}
}

func TestBarrier_Misuse(t *testing.T) {
	for want, do := range map[string]func(ctx context.Context, h *sim.Host){
		`there is no host "x"`:           func(ctx context.Context, _ *sim.Host) { sim.NewBarrier(ctx, "here", "x") },
		"which must be frozen":           func(ctx context.Context, h *sim.Host) { _ = h.Step(ctx, 1) },
		"0 steps of host node":           func(ctx context.Context, h *sim.Host) { h.Freeze(); _ = h.Step(ctx, 0) },
		"main's host runs the test itse": func(ctx context.Context, _ *sim.Host) { sim.HostOf(ctx).Freeze() },
	} {
		f := sim.Check(func(ctx context.Context) error { do(ctx, sim.NewHost(ctx, "node", anHour)); return nil }).Failure
		if !errors.Is(f, asyncio.ErrInvalidArgument) || !strings.Contains(f.Error(), want) {
			t.Errorf("%v, want %q", f, want)
		}
	}
}
