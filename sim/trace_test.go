package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// The same seed gives the same trace, whatever the number of processors, and another seed another.
func TestTrace_DependsOnTheSeedAlone(t *testing.T) {
	program := func(ctx context.Context) error {
		q := asyncio.NewQueue[int](2)
		for i := range 3 {
			start(ctx, fmt.Sprint("put", i), func(ctx context.Context) error {
				for range 4 {
					if err := asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(50))*time.Millisecond); err != nil {
						return err
					}
					if err := q.Put(ctx, i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for range 12 {
			if _, err := asyncio.WaitFor(ctx, asyncio.Coroutine[int](q.Get), 40*time.Millisecond); err != nil && !errors.Is(err, asyncio.ErrTimeout) {
				return err
			}
			if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 0, nil }); err != nil {
				return err
			}
		}
		return nil
	}
	runs := 20
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		runs = 250
	}
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	var all []string
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3)} {
		for seed := range uint64(2) {
			var first string
			for i := range runs {
				runtime.GOMAXPROCS(1 + i%4)
				trace, err := sim.Trace(program, sim.WithStrategy(s), sim.Seed(seed), sim.Cancels())
				if err != nil && !errors.Is(err, asyncio.ErrCancelled) {
					t.Fatal(err)
				}
				if i == 0 {
					first = trace
					all = append(all, trace)
				} else if trace != first {
					t.Fatalf("%v, seed %d, run %d:\n%s\nwant\n%s", s, seed, i, trace, first)
				}
			}
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a == b {
				t.Errorf("two seeds, or strategies, have the same trace:\n%s", a)
			}
		}
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
		}, sim.WithStrategy(sim.Random()), sim.Seed(seed))
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

// A trace names the place where the program waits, even in an iterator of the library that was
// compiled into the program.
func TestTrace_Iterators(t *testing.T) {
	trace, err := sim.Trace(func(ctx context.Context) error {
		_, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return asyncio.Sleep(ctx, time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(trace, "waits in asyncio.(*StreamReader).ReadLine at host_network_test.go:") || strings.Contains(trace, "io_") {
		t.Errorf("%s", trace)
	}
}

// The columns hold, however long times and names are.
func TestTrace_Columns(t *testing.T) {
	trace, err := sim.Trace(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(anHour), asyncio.TaskName("a task with a name that is longer than most"))
		for _, d := range []time.Duration{time.Second, 123456789, 1, 10000 * time.Hour} {
			if err := asyncio.Sleep(ctx, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	trace, _, _ = strings.Cut(trace, "\n  steps ") // the summary
	lines := strings.Split(trace, "\n")
	for _, column := range []string{"time", "what", "then it", "because of"} {
		at := strings.Index(lines[0], column)
		for _, line := range lines {
			if len(line) <= at || line[at-1] != ' ' || column != "then it" && line[at] == ' ' {
				t.Errorf("column %q is not at %d in %q of\n%s", column, at, line, trace)
			}
		}
	}
}

// A failure shows the steps around each deviation, and says how many it leaves out.
func TestTrace_AroundDeviations(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		for range 500 {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if !sim.Fault(ctx, "early", 0.2) {
			return nil
		}
		for range 500 {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return errors.New("early")
	}).Failure
	if f == nil || len(f.Deviations) != 1 {
		t.Fatal(f)
	}
	for _, step := range []string{" 998  ", " 999  ", "1000  ", "1001  ", "1002  ", "1003  ", "1004  "} {
		if !strings.Contains(f.Trace, "\n  "+step) {
			t.Errorf("step %s is not in\n%s", step, f.Trace)
		}
	}
	if n := strings.Count(f.Trace, "steps)"); n != 2 {
		t.Errorf("steps are left out at %d places:\n%s", n, f.Trace)
	}
}
