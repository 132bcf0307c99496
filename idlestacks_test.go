package asyncio_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/sim"
)

// burst suspends n tasks at a time, in different ways, and returns the number of goroutines at that
// moment.
func burst(t *testing.T, ctx context.Context, n int) (goroutines int) {
	t.Helper()
	var gate asyncio.Event
	tasks := make([]*asyncio.Task[int], n)
	for i := range tasks {
		tasks[i] = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			for range i % 3 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return 0, err
				}
			}
			return i, gate.Wait(ctx)
		})
	}
	for range 3 {
		must(t, asyncio.Sleep(ctx, 0))
	}
	goroutines = runtime.NumGoroutine()
	gate.Set()
	values, err := asyncio.Gather(ctx, tasks...)
	must(t, err)
	for i, v := range values {
		if v != i {
			t.Fatalf("task %d has the result of task %d", i, v)
		}
	}
	return goroutines
}

// atMostGoroutines waits until at most that many goroutines are left. A goroutine that has ended is
// counted until the scheduler has removed it.
func atMostGoroutines(t *testing.T, most int) {
	t.Helper()
	for range 1_000_000 {
		if runtime.NumGoroutine() <= most {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, want at most %d", runtime.NumGoroutine(), most)
}

const (
	crowded = 5000 // tasks of a burst
	kept    = 128  // idle stacks that are never given back
	resting = 1024 // stacks kept by a loop that does not run
)

// The stacks of a burst are kept for the next burst, and are given back when there has been none
// for a while (idle 1, idle 2).
func TestIdleStacks_KeptWhileNeeded(t *testing.T) {
	n := crowded
	if raceEnabled {
		n = 2000 // the race detector stops at 8128 goroutines
	}
	runFast(t, func(ctx context.Context) error {
		before := runtime.NumGoroutine()
		for range 2 {
			for range 20 {
				burst(t, ctx, n)
				// other goroutines may end meanwhile
				if now := runtime.NumGoroutine(); now < n {
					t.Errorf("%d goroutines between two bursts, want %d", now, n)
				}
				// so that a period also ends between two bursts
				for _, d := range []time.Duration{130, 170} {
					must(t, asyncio.Sleep(ctx, d*time.Millisecond))
				}
				if now := runtime.NumGoroutine(); now < n {
					t.Errorf("%d goroutines before the next burst, want %d", now, n)
				}
			}
			for range 3 {
				must(t, asyncio.Sleep(ctx, time.Second))
			}
			atMostGoroutines(t, before+kept)
		}
		return nil
	})
}

// Stacks that a burst needs are not given back before its tasks have begun, however long it takes
// to create them (idle 1).
func TestIdleStacks_KeptForWhatIsReady(t *testing.T) {
	const n = 3000 // more steps than come between two looks at the clock
	d := &clocked{Virtual: driver.NewVirtual()}
	runOn(t, d, func(ctx context.Context) {
		burst(t, ctx, n)
		d.step = 2 * time.Second
		for range 2048 { // a period begins
			must(t, asyncio.Sleep(ctx, 0))
		}
		before, then := runtime.NumGoroutine(), 0
		for i := range n {
			asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				if i == 0 {
					then = runtime.NumGoroutine()
				}
				return i, nil
			})
		}
		must(t, asyncio.Sleep(ctx, 0))
		if then < before {
			t.Errorf("%d goroutines before a burst, %d when it begins", before, then)
		}
		must(t, asyncio.Sleep(ctx, 0))
		for range 2048 {
			must(t, asyncio.Sleep(ctx, 0))
		}
		if now := runtime.NumGoroutine(); now >= before {
			t.Errorf("%d goroutines still, after a period without a burst", now)
		}
	})
}

// A clocked driver has a virtual clock that jumps, but the loop takes it for a real clock. So the
// loop wakes up for the end of a period, and the ends of contexts are sent to it.
type clocked struct {
	*driver.Virtual
	passed time.Duration // added to the virtual time
	step   time.Duration // added at each look at the clock
	waits  int
}

func (d *clocked) Polls() bool { return false }

func (d *clocked) Now() time.Duration {
	d.passed += d.step
	return d.passed + d.Virtual.Now()
}

func (d *clocked) Wait(until time.Duration) error {
	d.waits++
	if until != driver.Never {
		until -= d.passed
	}
	return d.Virtual.Wait(until)
}

func runOn(t *testing.T, d driver.Driver, main func(ctx context.Context)) {
	t.Helper()
	l := asyncio.NewEventLoop(driver.With(context.Background(), d))
	l.SetDebug(false)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error { main(ctx); return nil }))
	must(t, err)
	must(t, l.Close())
}

// An idle loop on the machine's clock gives stacks back while it sleeps. It wakes up for that, but
// only a bounded number of times (idle 3).
func TestIdleStacks_GivenBackWhileTheLoopSleeps(t *testing.T) {
	n := crowded
	if raceEnabled {
		n = 2000
	}
	before := runtime.NumGoroutine()
	d := &clocked{Virtual: driver.NewVirtual()}
	runOn(t, d, func(ctx context.Context) {
		burst(t, ctx, n)
		d.waits = 0
		must(t, asyncio.Sleep(ctx, time.Hour))
		atMostGoroutines(t, before+kept+5)
		if most := 3 + n/100; d.waits > most {
			t.Errorf("an hour's sleep after a burst takes %d waits, want at most %d", d.waits, most)
		}
		if now := loop(t, ctx).Time().SinceStart(); now != time.Hour {
			t.Errorf("it took %v", now)
		}
		d.waits = 0
		must(t, asyncio.Sleep(ctx, time.Hour))
		if d.waits != 1 {
			t.Errorf("the next hour takes %d waits, want 1", d.waits)
		}
	})
}

// A busy loop gives stacks back too (idle 2, idle 4).
func TestIdleStacks_GivenBackByABusyLoop(t *testing.T) {
	n := crowded
	if raceEnabled {
		n = 2000
	}
	before := runtime.NumGoroutine()
	d := &clocked{Virtual: driver.NewVirtual()}
	runOn(t, d, func(ctx context.Context) {
		burst(t, ctx, n)
		d.step, d.waits = 100*time.Millisecond, 0
		for range 2048 * (n/100 + 50) {
			must(t, asyncio.Sleep(ctx, 0))
		}
		d.step = 0
		if d.waits > 0 {
			t.Errorf("%d waits of a busy loop", d.waits)
		}
		atMostGoroutines(t, before+kept+5)
	})
}

// A loop that does not run keeps a bounded number of stacks, and goes on with them (idle 5).
func TestIdleStacks_BetweenRuns(t *testing.T) {
	before := runtime.NumGoroutine()
	l := sim.NewEventLoop(context.Background())
	for range 3 {
		_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
			l.SetDebug(false)
			burst(t, ctx, 2000)
			return nil
		}))
		must(t, err)
		atMostGoroutines(t, before+resting+5)
	}
	must(t, l.Close())
	atMostGoroutines(t, before)
}

// A stack can end wherever it waits, and the goroutine that waits at its place goes on.
func TestIdleStacks_GivenBackAtAnyMoment(t *testing.T) {
	for seed := range uint64(50) {
		c := &crowd{rand: rand.New(rand.NewPCG(seed, 4))}
		exit := -1
		if seed%2 == 1 {
			exit = c.rand.IntN(3000)
		}
		c.member = func(ctx context.Context, _ int) {
			switch exit--; {
			case exit == 0:
				runtime.Goexit()
			case c.rand.IntN(50) == 0:
				_ = asyncio.Sleep(ctx, time.Duration(1+c.rand.IntN(5))*time.Second)
			}
		}
		l := sim.NewEventLoop(t.Context())
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		l.SetDebug(false)
		most := 0
		for range 4 {
			for range 200 {
				asyncio.CreateTask(l.Context(), c.task(2))
			}
			exits(func() {
				l.CallLater(20*time.Millisecond, func() { most = max(most, runtime.NumGoroutine()); c.gate.Set() })
				l.CallLater(10*time.Second, l.Stop)
				must(t, l.RunForever())
			})
			if c.rand.IntN(2) == 0 {
				_ = asyncio.FormatTasks(l.Context())
			}
		}
		if most < 2*kept {
			t.Fatalf("seed %d: at most %d goroutines", seed, most)
		}
		must(t, l.Close())
		if c.entered != c.deferred {
			t.Fatalf("seed %d: %d tasks entered, %d deferred functions ran", seed, c.entered, c.deferred)
		}
	}
}
