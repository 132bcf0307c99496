package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// awaitParked returns when l waits for events.
func awaitParked(l *asyncio.EventLoop) {
	for !asyncio.Parked(l) {
		runtime.Gosched()
	}
}

// elsewhere calls fn on a goroutine while the calling step goes on. It returns fn's error or panic.
func elsewhere(fn func() error) error {
	got := make(chan error)
	go func() {
		var err error
		if panicked := panicOf(func() { err = fn() }); panicked != nil {
			err = panicked
		}
		got <- err
	}()
	return <-got
}

// inBothModes runs body on a loop on the machine's clock, without debug mode and with it.
func inBothModes(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	for _, debugging := range []bool{false, true} {
		t.Run(fmt.Sprintf("debug=%t", debugging), func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				return limited(t, ctx, body)
			}), asyncio.DebugMode(debugging))
			must(t, err)
		})
	}
}

// Many libraries watch contexts on goroutines of their own, and close a connection or set its
// deadlines while a task waits. That works.
func TestForeign_CloseAndDeadlines(t *testing.T) {
	past := time.Unix(1, 0)
	// Each wait starts an operation that waits, and ends it.
	type wait struct {
		name string
		open func(t *testing.T, ctx context.Context) (wait, end func() error)
		want error
	}
	onConn := func(end func(c *asyncio.Conn) error) func(*testing.T, context.Context) (func() error, func() error) {
		return func(t *testing.T, ctx context.Context) (func() error, func() error) {
			client, server := connect(t, ctx)
			t.Cleanup(func() { client.Close(); server.Close() })
			return func() error { return second(client.Read(make([]byte, 1))) }, func() error { return end(client) }
		}
	}
	onTLS := func(end func(c *asyncio.TLSConn) error) func(*testing.T, context.Context) (func() error, func() error) {
		return func(t *testing.T, ctx context.Context) (func() error, func() error) {
			clientConfig, serverConfig := configs(t)
			client, server := connectTLS(t, ctx, clientConfig, serverConfig)
			t.Cleanup(func() { client.Close(); server.Close() })
			return func() error { return second(client.Read(make([]byte, 1))) }, func() error { return end(client) }
		}
	}
	onListener := func(end func(ln *asyncio.Listener) error) func(*testing.T, context.Context) (func() error, func() error) {
		return func(t *testing.T, ctx context.Context) (func() error, func() error) {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			must(t, err)
			t.Cleanup(func() { ln.Close() })
			return func() error { return second(ln.Accept()) }, func() error { return end(ln) }
		}
	}
	onPackets := func(end func(c *asyncio.PacketConn) error) func(*testing.T, context.Context) (func() error, func() error) {
		return func(t *testing.T, ctx context.Context) (func() error, func() error) {
			c, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
			must(t, err)
			t.Cleanup(func() { c.Close() })
			receive := func() error {
				_, _, err := c.ReadFrom(make([]byte, 1))
				return err
			}
			return receive, func() error { return end(c) }
		}
	}
	for _, w := range []wait{
		{"Conn.Close", onConn((*asyncio.Conn).Close), net.ErrClosed},
		{"Conn.Abort", onConn((*asyncio.Conn).Abort), net.ErrClosed},
		{"Conn.SetDeadline", onConn(func(c *asyncio.Conn) error { return c.SetDeadline(past) }), os.ErrDeadlineExceeded},
		{"Conn.SetReadDeadline", onConn(func(c *asyncio.Conn) error { return c.SetReadDeadline(past) }), os.ErrDeadlineExceeded},
		{"TLSConn.Close", onTLS((*asyncio.TLSConn).Close), net.ErrClosed},
		{"TLSConn.Abort", onTLS((*asyncio.TLSConn).Abort), net.ErrClosed},
		{"TLSConn.SetDeadline", onTLS(func(c *asyncio.TLSConn) error { return c.SetDeadline(past) }), os.ErrDeadlineExceeded},
		{"Listener.Close", onListener((*asyncio.Listener).Close), net.ErrClosed},
		{"Listener.SetDeadline", onListener(func(ln *asyncio.Listener) error { return ln.SetDeadline(past) }), os.ErrDeadlineExceeded},
		{"PacketConn.Close", onPackets((*asyncio.PacketConn).Close), net.ErrClosed},
		{"PacketConn.SetReadDeadline", onPackets(func(c *asyncio.PacketConn) error { return c.SetReadDeadline(past) }), os.ErrDeadlineExceeded},
	} {
		t.Run(w.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, ctx context.Context) error {
				l := loop(t, ctx)
				waiting, end := w.open(t, ctx)
				task := start(ctx, func(context.Context) error { return waiting() })
				settle(t, ctx)
				must(t, elsewhere(end)) // the loop is busy
				if err := ended(ctx, task); !errors.Is(err, w.want) {
					t.Errorf("while the loop was busy: %v, want %v", err, w.want)
				}

				waiting, end = w.open(t, ctx)
				ending := make(chan error, 1)
				go func() {
					awaitParked(l)
					ending <- end()
				}()
				if err := waiting(); !errors.Is(err, w.want) {
					t.Errorf("while the loop waited: %v, want %v", err, w.want)
				}
				return <-ending
			})
		})
	}
}

// A connection that a goroutine closes is closed, even if the loop closes first, and after the loop
// has closed.
func TestForeign_CloseAfterTheLoop(t *testing.T) {
	var client, server *asyncio.Conn
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		client, server = connect(t, ctx)
		return elsewhere(client.Close)
	}))
	must(t, err)
	must(t, client.Close())
	must(t, elsewhere(server.Close))
}

// Between the end of main and the end of its other tasks, the loop does not run for a moment. A
// goroutine that closes a connection then is still foreign. (The race detector would show a
// mistake.)
func TestForeign_CloseAtTheEnd(t *testing.T) {
	for range 50 {
		over := make(chan struct{})
		closing := make(chan struct{})
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			client, server := connect(t, ctx)
			for _, c := range []*asyncio.Conn{client, server} {
				start(ctx, func(context.Context) error { return second(c.Read(make([]byte, 1))) })
			}
			settle(t, ctx)
			go func() {
				defer close(closing)
				<-over
				for range 50 {
					_ = client.SetDeadline(time.Now().Add(time.Hour))
				}
				_ = server.Close()
			}()
			close(over)
			return nil
		}))
		must(t, err)
		<-closing
	}
}

// After the loop has closed, several goroutines may close a connection at once, as in package net.
// Only the race detector notices when they may not.
func TestForeign_CloseAtOnceAfterTheLoop(t *testing.T) {
	var ends []func() error
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		client, server := connect(t, ctx)
		clientConfig, serverConfig := configs(t)
		secure, other := connectTLS(t, ctx, clientConfig, serverConfig)
		packets, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		must(t, err)
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		must(t, err)
		ends = []func() error{client.Close, server.Abort, secure.Close, other.Abort, packets.Close, ln.Close}
		return nil
	}))
	must(t, err)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for _, end := range ends {
				if err := end(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// A loop that unwinds its tasks refuses foreign calls too, also from another loop's task.
func TestForeign_WhileTasksUnwind(t *testing.T) {
	unwinding, over := make(chan struct{}), make(chan struct{})
	l := asyncio.NewEventLoop(t.Context())
	f := asyncio.CreateFuture[int](l.Context())
	own := make(chan error, 1)
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer func() {
			close(unwinding)
			<-over
			own <- panicOf(func() { f.Cancel() })
		}()
		return asyncio.Sleep(ctx, time.Hour)
	}))
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) }))
	must(t, err)
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	<-unwinding
	_, err = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return panicOf(func() { f.Cancel() })
	}))
	if !errors.Is(err, asyncio.ErrForeignGoroutine) {
		t.Errorf("another loop's task: %v", err)
	}
	close(over)
	must(t, <-own)
	must(t, <-closed)
}

// awaited is like an async generator of Python's: a sequence that awaits between its values.
func awaited(ctx context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if err := asyncio.Sleep(ctx, time.Microsecond); err != nil {
				yield(0, err)
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// doubled is a sequence that takes its values from another one with iter.Pull2.
func doubled(in iter.Seq2[int, error]) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		next, stop := iter.Pull2(in)
		defer stop()
		for {
			v, err, ok := next()
			if !ok || !yield(2*v, err) {
				return
			}
		}
	}
}

// A task may use iter.Pull2 over a sequence that awaits, as Python's anext does (foreign 5).
func TestForeign_Pull(t *testing.T) {
	sum := func(next func() (int, error, bool)) (total int, err error) {
		for {
			v, err, ok := next()
			if !ok || err != nil {
				return total, err
			}
			total += v
		}
	}
	outside, stopOutside := (func() (int, error, bool))(nil), func() {}
	for name, body := range map[string]func(ctx context.Context) (int, error){
		"plain": func(ctx context.Context) (int, error) {
			next, stop := iter.Pull2(awaited(ctx, 5))
			defer stop()
			return sum(next)
		},
		"nested": func(ctx context.Context) (int, error) {
			next, stop := iter.Pull2(doubled(doubled(awaited(ctx, 5))))
			defer stop()
			total, err := sum(next)
			return total / 4, err
		},
		"beside others": func(ctx context.Context) (int, error) {
			all := make([]asyncio.Coroutine[int], 20)
			for i := range all {
				all[i] = func(ctx context.Context) (int, error) {
					next, stop := iter.Pull2(doubled(awaited(ctx, 5)))
					defer stop()
					return sum(next)
				}
			}
			got, err := asyncio.Gather(ctx, all...)
			return got[19] / 2, err
		},
		"handed to another task": func(ctx context.Context) (int, error) {
			next, stop := iter.Pull2(awaited(ctx, 5))
			defer stop()
			first, _, _ := next()
			rest, err := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return sum(next) }).Await(ctx)
			return first + rest, err
		},
		"made before the run": func(ctx context.Context) (int, error) {
			defer stopOutside()
			return sum(outside)
		},
		"an eager task in it": func(ctx context.Context) (int, error) {
			next, stop := iter.Pull2(func(yield func(int, error) bool) {
				for i := range 5 {
					task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
						return i, asyncio.Sleep(ctx, time.Microsecond)
					}, asyncio.EagerStart(true))
					if v, err := task.Await(ctx); !yield(v, err) {
						return
					}
				}
			})
			defer stop()
			return sum(next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, debugging := range []bool{false, true} {
				l := asyncio.NewEventLoop(t.Context())
				l.SetDebug(debugging)
				outside, stopOutside = iter.Pull2(awaited(l.Context(), 5))
				got, err := asyncio.RunUntilComplete(l, asyncio.Coro(body))
				if got != 10 || err != nil {
					t.Errorf("debug=%t: %d, %v; want 10", debugging, got, err)
				}
				stopOutside()
				must(t, l.Close())
			}
		})
	}
}

// A task pulls one awaiting sequence after another. The next one begins in a step that began inside
// the goroutine of the one before, which has ended. The task is still admitted (foreign 5).
func TestForeign_PullAgain(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		for range 3 {
			next, stop := iter.Pull2(awaited(ctx, 2))
			for {
				_, err, ok := next()
				must(t, err)
				if !ok {
					break
				}
			}
			stop()
		}
		return nil
	})
}

// The stop function of a pulled sequence has no arguments, so a program can pass it to the library
// as a callback.
func TestForeign_StopAsCallback(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		ended := asyncio.CreateFuture[int](ctx)
		next, stop := iter.Pull(func(yield func(int) bool) {
			defer func() { _ = ended.SetResult(1) }()
			yield(1)
		})
		next()
		loop(t, ctx).CallSoon(stop)
		settle(t, ctx)
		if !ended.Done() {
			t.Error("the deferred function of the sequence was refused")
		}
		return nil
	})
}

// Tasks exchange sequences. A sequence that this task made and another task waits in is not taken
// for the one that this task's step is in.
func TestForeign_PullExchanged(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		given, err := asyncio.CreateTask(ctx, func(ctx context.Context) (next func() (int, error, bool), _ error) {
			next, _ = iter.Pull2(awaited(ctx, 2))
			return next, nil
		}).Await(ctx)
		must(t, err)
		f := asyncio.CreateFuture[int](ctx)
		next, stop := iter.Pull2(func(yield func(int, error) bool) { yield(f.Await(ctx)) })
		other := start(ctx, func(context.Context) error {
			defer stop()
			_, err, _ := next()
			return err
		})
		settle(t, ctx)
		for ok := true; ok && err == nil; {
			_, err, ok = given()
		}
		_ = f.SetResult(1)
		return errors.Join(err, ended(ctx, other))
	})
}

// If there are too many goroutines to look at all of them, nobody is refused just for not being
// seen (foreign 5).
func TestForeign_PullAmongMany(t *testing.T) {
	defer asyncio.Terse(1 << 10)()
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		next, stop := iter.Pull2(awaited(ctx, 2))
		defer stop()
		_, err, _ := next()
		return err
	})
}

// A foreign goroutine does not gain access to the loop by means of iter.Pull.
func TestForeign_PullElsewhere(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		first := func() error {
			next, stop := iter.Pull2(awaited(ctx, 5))
			defer stop()
			_, err, _ := next()
			return err
		}
		if err := elsewhere(first); !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("a sequence of a goroutine's: %v", err)
		}
		// Nor does it while the loop's step is in a sequence of its own.
		next, stop := iter.Pull2(func(yield func(int, error) bool) { yield(0, elsewhere(first)) })
		defer stop()
		_, err, _ := next()
		if !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("beside a sequence of the step's: %v", err)
		}
		if !loop(t, ctx).GetDebug() {
			return nil
		}
		next, stop = iter.Pull2(awaited(ctx, 5))
		defer stop()
		if _, err, _ := next(); err != nil {
			return err
		}
		if err := elsewhere(func() error { _, err, _ := next(); return err }); !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("a sequence of the task's that a goroutine enters: %v", err)
		}
		return nil
	})
}

// A program may set and clear the bit of debug.SetPanicOnFault at will. No rightful caller is
// refused, and debug mode is not deceived (foreign 3, foreign 7).
func TestForeign_PanicOnFault(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		use := func() error {
			var lock asyncio.Lock
			must(t, lock.Acquire(ctx))
			lock.Release()
			f := asyncio.CreateFuture[int](ctx)
			must(t, f.SetResult(1))
			if _, err := f.Await(ctx); err != nil {
				return err
			}
			return asyncio.Sleep(ctx, time.Microsecond)
		}
		for _, set := range []bool{false, true} {
			was := debug.SetPanicOnFault(set)
			must(t, use())
			must(t, use())
			debug.SetPanicOnFault(was)
			must(t, use())
			debug.SetPanicOnFault(!set)
			settle(t, ctx)
			must(t, use())
		}
		f := asyncio.CreateFuture[int](ctx)
		inherited := make(chan bool, 1)
		err := elsewhere(func() error { // started by a task whose bit is set
			inherited <- debug.SetPanicOnFault(false)
			return f.SetResult(1)
		})
		if <-inherited || !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("a goroutine that a task started: %v", err)
		}
		for _, set := range []bool{false, true} { // a refused goroutine keeps its bit as it was
			err := elsewhere(func() error {
				debug.SetPanicOnFault(set)
				err := f.SetResult(1)
				if debug.SetPanicOnFault(false) != set {
					t.Errorf("the bit of a refused goroutine, which had set it to %t, was changed", set)
				}
				return err
			})
			if (!set || loop(t, ctx).GetDebug()) && !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("a goroutine that has set the bit to %t: %v", set, err)
			}
		}
		return nil
	})
}

// With several loops, each stack belongs to one of them (foreign 6).
func TestForeign_TwoLoops(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		other := g.Loop(1)
		if other == loop(t, ctx) {
			other = g.Loop(0)
		}
		f := asyncio.CreateFuture[int](ctx)
		q := asyncio.NewQueue[int](1)
		getter := asyncio.CreateTask(ctx, q.Get)
		settle(t, ctx)
		// The step of this loop goes on while the other loop's task calls.
		errs := make(chan error)
		call := asyncio.StartCall(t.Context(), other, func(context.Context) (asyncio.None, error) {
			errs <- f.SetResult(1)
			errs <- q.PutNowait(1)
			errs <- panicOf(func() { getter.Cancel() })
			errs <- panicOf(func() { asyncio.CreateTask(ctx, instant) })
			//asynciovet:allow outerctx the loop of the other ctx is what must refuse
			errs <- asyncio.Sleep(ctx, 1)
			close(errs)
			return asyncio.None{}, nil
		})
		for err := range errs {
			if !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("by the other loop's task: %v", err)
			}
			must(t, q.PutNowait(1)) // meanwhile this loop's own calls are admitted
			if _, err := q.GetNowait(); err != nil {
				t.Error(err)
			}
		}
		getter.Cancel()
		_, err := call.Await(ctx)
		return asyncio.None{}, err
	})
	must(t, err)
}

// deeply calls fn with n frames of 512 bytes on the stack.
func deeply(n int, fn func()) byte {
	var frame [512]byte
	if n == 0 {
		fn()
		return 0
	}
	frame[n%len(frame)] = deeply(n-1, fn)
	return frame[0]
}

// The owner of a stack is known at any depth, however often the stack has grown and moved (foreign
// 6).
func TestForeign_TwoLoopsAtAnyDepth(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		return asyncio.None{}, g.Each(ctx, func(ctx context.Context, _ int) error {
			_, err := asyncio.Gather(ctx, manyOf(20, func(ctx context.Context) (int, error) {
				for _, depth := range []int{0, 1, 2, 5, 20, 100, 20, 5, 2, 1, 0} {
					deeply(depth, func() {
						f := asyncio.CreateFuture[int](ctx)
						must(t, f.SetResult(1))
						must(t, asyncio.Sleep(ctx, 0))
						must(t, asyncio.Sleep(ctx, time.Microsecond))
					})
				}
				return 0, nil
			})...)
			return err
		})
	})
	must(t, err)
}

func manyOf[T any](n int, c asyncio.Coroutine[T]) []asyncio.Coroutine[T] {
	all := make([]asyncio.Coroutine[T], n)
	for i := range all {
		all[i] = c
	}
	return all
}

// The error names the caller, the function it called, the owner, and the remedy.
func TestForeign_Message(t *testing.T) {
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		f := asyncio.CreateFuture[int](ctx)
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		for fix, call := range map[string]func() error{
			"called Conn.Read ":              func() error { return second(client.Read(nil)) },
			"needs its view, which Threadsa": func() error { return second(client.Write(nil)) },
			"call the library in ToThread":   func() error { return second(client.Write(nil)) },
			"with CallSoonThreadsafe":        func() error { f.Cancel(); return nil },
			"RunCoroutineThreadsafe or Call": func() error { return asyncio.Sleep(ctx, 1) },
			"TestForeign_Message.":           func() error { return asyncio.Sleep(ctx, 1) },
			"of the event loop that gorouti": func() error { asyncio.CreateTask(ctx, instant); return nil },
		} {
			got := make(chan error)
			go func() {
				var err error
				if p := panicOf(func() { err = call() }); p != nil {
					err = p
				}
				got <- err
			}()
			if err := <-got; !errors.Is(err, asyncio.ErrForeignGoroutine) || !strings.Contains(err.Error(), fix) {
				t.Errorf("%v\ndoes not say %q", err, fix)
			}
		}
		return nil
	})
}
