package asyncio_test

import (
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Each row stands beside what a Go programmer would write with goroutines and channels.

// onLoop runs body as the main task of a loop on the real clock.
func onLoop(b *testing.B, body func(ctx context.Context) error) {
	b.Helper()
	b.ReportAllocs()
	if _, err := asyncio.Run(context.Background(), asyncio.Do(body)); err != nil {
		b.Fatal(err)
	}
}

// A yield gives every other task its turn and comes back, as a channel round trip gives
// the other goroutine its turn and comes back.
func BenchmarkYield(b *testing.B) {
	b.Run("asyncio/tasks=1", func(b *testing.B) {
		onLoop(b, func(ctx context.Context) error {
			for b.Loop() {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("asyncio/tasks=2", func(b *testing.B) {
		onLoop(b, func(ctx context.Context) error {
			half := asyncio.Do(func(ctx context.Context) error {
				for range (b.N + 1) / 2 { // each op is one yield, by one of the two
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				return nil
			})
			_, err := asyncio.Gather(ctx, half, half)
			return err
		})
	})
	b.Run("goroutines/channel_round_trip", func(b *testing.B) {
		b.ReportAllocs()
		ping, pong := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(pong)
			for range ping {
				pong <- struct{}{}
			}
		}()
		for b.Loop() {
			ping <- struct{}{}
			<-pong
		}
		close(ping)
		<-pong
	})
}

func BenchmarkAwaitDone(b *testing.B) {
	onLoop(b, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		if err := f.SetResult(1); err != nil {
			return err
		}
		for b.Loop() {
			if _, err := f.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func BenchmarkSpawnAndAwait(b *testing.B) {
	b.Run("asyncio", func(b *testing.B) {
		onLoop(b, func(ctx context.Context) error {
			child := func(context.Context) (int, error) { return 1, nil }
			for b.Loop() {
				if _, err := asyncio.CreateTask(ctx, child).Await(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("goroutines", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := make(chan int)
			go func() { c <- 1 }()
			<-c
		}
	})
}

func BenchmarkGather1000(b *testing.B) {
	const n = 1000
	suspending := func(suspend bool) func(b *testing.B) {
		return func(b *testing.B) {
			onLoop(b, func(ctx context.Context) error {
				child := asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
					if suspend {
						return 1, asyncio.Sleep(ctx, 0)
					}
					return 1, nil
				})
				all := make([]asyncio.Coroutine[int], n)
				for i := range all {
					all[i] = child
				}
				for b.Loop() {
					if _, err := asyncio.Gather(ctx, all...); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	b.Run("asyncio", suspending(false))
	b.Run("asyncio/suspending_once", suspending(true))
	b.Run("goroutines", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := make(chan int)
			for range n {
				go func() { c <- 1 }()
			}
			for range n {
				<-c
			}
		}
	})
}

func BenchmarkTimerSetAndCancelled(b *testing.B) {
	b.Run("asyncio", func(b *testing.B) {
		onLoop(b, func(ctx context.Context) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			for b.Loop() {
				l.CallLater(time.Hour, func() {}).Cancel()
			}
			return nil
		})
	})
	b.Run("goroutines", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			time.AfterFunc(time.Hour, func() {}).Stop()
		}
	})
}
