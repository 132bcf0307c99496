package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A schedule of another program is refused, and the error says what differs.
func TestReplay_Incompatible(t *testing.T) {
	f := sim.Check(lostUpdate, sim.WithStrategy(sim.Random())).Failure
	for _, c := range []struct {
		what string
		main func(ctx context.Context) error
		text string
		want string
	}{
		{"another task is ready", func(ctx context.Context) error {
			for range 3 {
				start(ctx, "x", func(ctx context.Context) error { return yield(ctx, 9) })
			}
			return yield(ctx, 9)
		}, f.Schedule, "at step 4 it has 2 ready, 'a' the oldest and 'main' number 1; now there are 'x', 'main'"},
		{"one is ready", func(ctx context.Context) error { return yield(ctx, 9) }, f.Schedule, "at step 4 it has 2 ready, and there was one"},
		{"it ends before", func(context.Context) error { return nil }, f.Schedule, "it ends after 2 steps, and the schedule has something at step 4"},
		{"other steps", lostUpdate, strings.Replace(f.Schedule, "trace ", "trace 1", 1), "value out of range"},
		{"other steps", func(ctx context.Context) error { return yield(ctx, 3) }, "asyncio schedule 2\nseed 0\nsteps 3\ntrace 0000000000000001\nend\n", "the first 3 steps are not those that were recorded"},
		{"no such task", func(ctx context.Context) error { return yield(ctx, 3) }, "asyncio schedule 2\nseed 0\ncancel 2 \"z\" 0\nend\n", "before step 2 task 'z' is to be cancelled, and it is not there"},
		{"another version", lostUpdate, "asyncio schedule 1\nend\n", "it was written by another version"},
		{"cut off", lostUpdate, strings.TrimSuffix(f.Schedule, "end\n"), "it was cut off"},
		{"out of order", lostUpdate, "asyncio schedule 2\nstep 3 1/2 \"a\" not \"b\"\nstep 2 1/2 \"a\" not \"b\"\nend\n", "step 2 is out of order"},
		{"no number", lostUpdate, "asyncio schedule 2\nstep 3 2/2 \"a\" not \"b\"\nend\n", "there is no 2 of 2"},
		{"words", lostUpdate, "asyncio schedule 2\nhello\nend\n", `"hello" is not known`},
	} {
		file := filepath.Join(t.TempDir(), "s.sim")
		write(t, file, c.text)
		got := sim.Check(c.main, sim.Replay(file)).Failure
		if got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, got, c.want)
		} else if strings.HasPrefix(c.want, "at step") && !errors.Is(got, sim.ErrIncompatible) {
			t.Errorf("%s: %v is not ErrIncompatible", c.what, got)
		} else if errors.Is(got, sim.ErrIncompatible) && strings.Count(got.Error(), "\n") != 1 {
			t.Errorf("%s is told in more than a line: %v", c.what, got)
		}
	}
	if got := sim.Check(lostUpdate, sim.Replay("missing.sim")).Failure; got == nil || !errors.Is(got, os.ErrNotExist) {
		t.Errorf("missing file: %v", got)
	}
}

func TestSchedule_ReadsWhatItWrites(t *testing.T) {
	program := func(ctx context.Context) error {
		name := "odd \"name\"\n# é"
		task := start(ctx, name, func(ctx context.Context) error { return yield(ctx, 3) })
		sim.AtEnd(ctx, "not cancelled", func() error {
			if task.Cancelled() {
				return errors.New("it is")
			}
			return nil
		})
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{task})
		return err
	}
	f := sim.Check(program, sim.Cancels()).Failure
	if f == nil || len(f.Deviations) != 1 {
		t.Fatalf("%v", f)
	}
	again, err := sim.Reformat(f.Schedule)
	if err != nil || again != f.Schedule {
		t.Errorf("%v:\n%s\n%s", err, f.Schedule, again)
	}
	file := filepath.Join(t.TempDir(), "s.sim")
	write(t, file, f.Schedule)
	if got := sim.Check(program, sim.Replay(file)).Failure; got == nil || !strings.Contains(got.Error(), `"not cancelled" does not hold`) {
		t.Errorf("%v", got)
	}
}

// Every recorded name can be replayed.
func TestAttack_NamesInSchedules(t *testing.T) {
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
