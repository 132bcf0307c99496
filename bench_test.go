package asyncio_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
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

// A yield gives every other task its turn and comes back. A channel round trip does the same with
// the other goroutine.
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
	child := func(context.Context) (int, error) { return 1, nil }
	canEnd, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, c := range []struct {
		context string
		root    context.Context
	}{{"cannot_end", context.Background()}, {"can_end", canEnd}} { // stack 5 is for the first
		b.Run("asyncio/context="+c.context, func(b *testing.B) {
			b.ReportAllocs()
			_, err := asyncio.Run(c.root, asyncio.Do(func(ctx context.Context) error {
				for b.Loop() {
					if _, err := asyncio.CreateTask(ctx, child).Await(ctx); err != nil {
						return err
					}
				}
				return nil
			}))
			if err != nil {
				b.Fatal(err)
			}
		})
	}
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

// Messages of 64 bytes go to and fro over 100 connections at a time. The row names the server; the
// peers are goroutines with package net in all rows. An op is one message and its echo.
func BenchmarkEcho(b *testing.B) {
	const connections, size = 100, 64
	echo := func(c io.ReadWriter) error {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
		}
	}
	// load sends b.N messages to address.
	load := func(b *testing.B, address string) error {
		var conns []net.Conn
		for range connections {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer c.Close()
			conns = append(conns, c)
		}
		var left atomic.Int64
		left.Store(int64(b.N))
		errs := make(chan error, connections)
		b.ReportAllocs()
		b.ResetTimer()
		for _, c := range conns {
			go func() {
				p := make([]byte, size)
				for left.Add(-1) >= 0 {
					if _, err := c.Write(p); err != nil {
						errs <- err
						return
					}
					if _, err := io.ReadFull(c, p); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		var err error
		for range connections {
			err = errors.Join(err, <-errs)
		}
		b.StopTimer()
		return err
	}
	b.Run("asyncio", func(b *testing.B) {
		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer ln.Close()
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for {
					c, err := ln.AcceptContext(ctx)
					if err != nil {
						return nil // the listener has been closed
					}
					asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
						defer c.Close()
						return echo(c)
					}))
				}
			}))
			_, err = asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				return asyncio.None{}, load(b, ln.Addr().String())
			})
			return err
		}))
		if err != nil {
			b.Fatal(err)
		}
	})
	b.Run("goroutines", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					_ = echo(struct{ io.ReadWriter }{c})
				})
			}
		})
		err = load(b, ln.Addr().String())
		ln.Close()
		wg.Wait()
		if err != nil {
			b.Fatal(err)
		}
	})
}
