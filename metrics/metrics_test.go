package metrics_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
	"github.com/goasyncio/asyncio/metrics"
	"github.com/goasyncio/asyncio/sim"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// run runs main on a loop.
func run(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(main), asyncio.HandleSIGINT(false))
	must(t, err)
}

// read has a goroutine read while the task waits.
func read(ctx context.Context, r *metrics.Reader) (*metrics.Loop, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (*metrics.Loop, error) { return r.Read(ctx)[0], nil })
}

func sleeper(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

// There are many tasks: a reading takes some iterations, and nobody has to wait long for his turn
// meanwhile.
func TestReader_ManyTasks(t *testing.T) {
	r := metrics.NewReader()
	const n = 100_000
	run(t, func(ctx context.Context) error {
		for range n {
			asyncio.CreateTask(ctx, asyncio.Do(sleeper))
		}
		must(t, asyncio.Sleep(ctx, 0))
		before, err := read(ctx, r)
		must(t, err)
		begun := time.Now()
		l, err := read(ctx, r)
		must(t, err)
		took := time.Since(begun)
		if c := l.Running.Last; c == nil || len(c.Tasks) != 2 || c.Tasks[0].Count != n && c.Tasks[1].Count != n || c.Timers != n {
			t.Errorf("%+v", c)
		}
		var long uint64 // iterations of more than a millisecond
		for i, bound := range l.Iterations.Bounds {
			if bound >= 5*time.Millisecond {
				long += l.Iterations.Counts[i+1] - before.Iterations.Counts[i+1]
			}
		}
		t.Logf("%d tasks: %v, %d iterations", n, took, l.Iterations.Count()-before.Iterations.Count())
		if long > 0 {
			t.Errorf("%d iterations took more than 5 ms: %v", long, l.Iterations)
		}
		return nil
	})
}

// Made less ended is the number of tasks, for a reader that comes late too, and with eager tasks.
func TestReader_MadeLessEnded(t *testing.T) {
	r := metrics.NewReader()
	run(t, func(ctx context.Context) error {
		for i := range 300 {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				if i%3 == 0 {
					return asyncio.Sleep(ctx, time.Hour)
				}
				return asyncio.Sleep(ctx, time.Duration(i%2)*time.Millisecond)
			}), asyncio.EagerStart(i%2 == 0))
		}
		must(t, asyncio.Sleep(ctx, 20*time.Millisecond))
		l, err := read(ctx, r)
		must(t, err)
		there := 0
		for _, k := range l.Running.Last.Tasks {
			there += k.Count
		}
		if n := l.Made - l.Returned - l.Failed - l.Cancelled - l.Panicked; n != 101 || there != 101 {
			t.Errorf("%d tasks by their totals, %d by the census", n, there)
		}
		return nil
	})
	l := r.Read(t.Context())[0]
	if l.Made != l.Returned+l.Failed+l.Cancelled+l.Panicked || l.Running != nil {
		t.Errorf("%+v", l)
	}
}

// A step that takes long is a stall, and the sum of the steps is the time in which the loop did not
// wait.
func TestReader_Steps(t *testing.T) {
	r := metrics.NewReader()
	run(t, func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		must(t, err)
		loop.SetSlowCallbackDuration(10 * time.Millisecond)
		before, err := read(ctx, r)
		must(t, err)
		for range 3 {
			for begun := time.Now(); time.Since(begun) < 15*time.Millisecond; {
			}
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		l, err := read(ctx, r)
		must(t, err)
		if n := l.Stalls - before.Stalls; n != 3 {
			t.Errorf("%d stalls", n)
		}
		if busy := l.Steps.Sum - before.Steps.Sum; busy < 45*time.Millisecond {
			t.Errorf("the loop was busy for %v", busy)
		}
		return nil
	})
}

// A reading ends with its context, and has the totals then.
func TestReader_ContextIsDone(t *testing.T) {
	r := metrics.NewReader()
	run(t, func(ctx context.Context) error {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		l, err := asyncio.ToThread(ctx, func(context.Context) (*metrics.Loop, error) { return r.Read(over)[0], nil })
		must(t, err)
		if l.Made == 0 || l.Running == nil {
			t.Errorf("%+v", l)
		}
		_, err = read(ctx, r) // the reading that the other one has left goes on
		return err
	})
}

// Loops of a simulation are left out.
func TestReader_NotInSimulations(t *testing.T) {
	r := metrics.NewReader()
	before := len(r.Read(t.Context()))
	_, err := asyncio.Run(asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop), asyncio.Do(func(ctx context.Context) error {
		//asynciovet:allow blocking it waits for other loops only
		if n := len(r.Read(context.Background())); n != before {
			t.Errorf("%d loops, and then %d", before, n)
		}
		return nil
	}))
	must(t, err)
}
