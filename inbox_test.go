package asyncio_test

import (
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

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
