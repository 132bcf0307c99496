package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Callbacks sent from outside keep their place among those that the loop schedules afterwards, even
// if the loop sent them itself (loop 5).
func TestCallSoonThreadsafe_Order(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		var got []string
		note := func(s string) func() { return func() { got = append(got, s) } }
		l.CallSoon(note("1"))
		_, err := l.CallSoonThreadsafe(note("2"))
		must(t, err)
		l.CallSoon(note("3"))
		sent := make(chan struct{})
		go func() {
			_, err := l.CallSoonThreadsafe(note("4"))
			if err != nil {
				t.Error(err)
			}
			close(sent)
		}()
		<-sent
		l.CallSoon(note("5"))
		settle(t, ctx)
		equal(t, "order", got, []string{"1", "2", "3", "4", "5"})
		return nil
	})
}

// Callbacks from one goroutine run in the order it sent them (inbox 1), even while the loop takes
// in the end of a context that thousands of tasks wait with.
func TestCallSoonThreadsafe_OrderWhileContextsEnd(t *testing.T) {
	n := 5000
	if raceEnabled {
		n = 1000
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		for range 5 {
			inner, cancel := asyncio.WithCancel(ctx)
			for range n {
				asyncio.CreateTask(inner, sleeper(time.Hour))
			}
			settle(t, ctx)
			l := loop(t, ctx)
			done := asyncio.CreateFuture[int](ctx)
			next := 0
			go func() {
				for i := range n {
					if i == 10 {
						cancel()
					}
					if _, err := l.CallSoonThreadsafe(func() {
						if i != next {
							t.Errorf("%d after %d", i, next-1)
						}
						if next = i + 1; next == n {
							must(t, done.SetResult(0))
						}
					}); err != nil {
						t.Error(err)
					}
				}
			}()
			if _, err := done.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, err)
}

// A handle that is kept also keeps the others of its batch, but nothing that their functions refer
// to (inbox 4).
func TestCallSoonThreadsafe_KeptHandle(t *testing.T) {
	const n = 100
	var freed atomic.Int32
	l := asyncio.NewEventLoop(t.Context())
	defer l.Close()
	kept := make([]*asyncio.Handle, n)
	for i := range kept {
		big := new([1 << 10]byte)
		runtime.AddCleanup(big, func(int) { freed.Add(1) }, 0)
		h, err := l.CallSoonThreadsafe(func() { big[0]++ })
		must(t, err)
		if i%2 == 0 {
			h.Cancel()
		}
		kept[i] = h
	}
	before := kept[1].String()
	l.Stop()
	must(t, l.RunForever())
	// one may be in a register
	for deadline := time.Now().Add(10 * time.Second); freed.Load() < n-1; runtime.Gosched() {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("of what %d callbacks refer to, %d is gone", n, freed.Load())
		}
	}
	if after := kept[1].String(); after != before || !strings.Contains(after, "TestCallSoonThreadsafe_KeptHandle") {
		t.Errorf("before it ran %s, after it %s", before, after)
	}
	if s := kept[0].String(); s != "<Handle cancelled>" || !kept[0].Cancelled() || kept[1].Cancelled() {
		t.Errorf("the first is %s", s)
	}
}

// A goroutine that posts as fast as it can does not get far ahead of a loop on the same processor
// (inbox 5).
func TestCallSoonThreadsafe_Ahead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const n = 100_000
	var posted atomic.Int64
	ahead, ran := int64(0), int64(0)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		all := asyncio.CreateFuture[asyncio.None](ctx)
		go func() {
			for range n {
				posted.Add(1)
				_, err := l.CallSoonThreadsafe(func() {
					ahead = max(ahead, posted.Load()-ran)
					if ran++; ran == n {
						_ = all.SetResult(asyncio.None{})
					}
				})
				if err != nil {
					t.Error(err)
				}
			}
		}()
		_, err := all.Await(ctx)
		return err
	}))
	if err != nil || ahead > n/4 {
		t.Errorf("%v; of %d calls, %d waited at a time", err, n, ahead)
	}
}

// Eight goroutines call in while loops open, work and close. Everything accepted runs exactly once
// (inbox 1), every refusal is reported (inbox 2), every result arrives, and nothing blocks.
func TestThreadsafe_ConcurrentSafe(t *testing.T) {
	rounds, calls := 40, 250
	if raceEnabled {
		rounds, calls = 15, 100
	}
	for round := range rounds {
		l := asyncio.NewEventLoop(t.Context())
		l.SetExceptionHandler(new(reports).handle)
		var accepted, ran, refused, results, closedResults atomic.Int64
		var senders sync.WaitGroup
		for g := range 8 {
			senders.Go(func() {
				seen := make([]atomic.Int32, calls)
				for i := range calls {
					if (i+g)%2 == 0 {
						_, err := l.CallSoonThreadsafe(func() {
							ran.Add(1)
							if seen[i].Add(1) != 1 {
								t.Error("a callback ran twice")
							}
						})
						switch {
						case err == nil:
							accepted.Add(1)
						case errors.Is(err, asyncio.ErrLoopClosed):
							refused.Add(1)
						default:
							t.Error(err)
						}
						continue
					}
					c := asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) {
						for range i % 3 {
							if err := asyncio.Sleep(ctx, 0); err != nil {
								return 0, err
							}
						}
						return i, nil
					}, l)
					if i%5 == 0 {
						c.Cancel()
					}
					v, err := c.Result(t.Context())
					switch {
					case err == nil && v == i, errors.Is(err, asyncio.ErrCancelled) && i%5 == 0:
						results.Add(1)
					case errors.Is(err, asyncio.ErrLoopClosed):
						closedResults.Add(1)
					default:
						t.Errorf("result %v, %v", v, err)
					}
				}
			})
		}
		steps := 0
		var step func()
		step = func() {
			if steps++; steps > round*20 {
				l.Stop()
				return
			}
			l.CallSoon(step)
		}
		l.CallSoon(step)
		must(t, l.RunForever())
		must(t, l.Close())
		senders.Wait()
		if accepted.Load() != ran.Load() {
			t.Fatalf("round %d: %d callbacks accepted, %d ran", round, accepted.Load(), ran.Load())
		}
		if n := accepted.Load() + refused.Load() + results.Load() + closedResults.Load(); n != int64(8*calls) {
			t.Fatalf("round %d: %d of %d calls accounted for", round, n, 8*calls)
		}
	}
}
