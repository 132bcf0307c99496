package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/sim"
)

// inThread runs fn on a goroutine, in a thread function.
func inThread(ctx context.Context, fn func(ctx context.Context) error) error {
	_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, fn(ctx) })
	return err
}

// withoutPoller reports whether goroutines serve the loop's connections in this subtest.
func withoutPoller(t *testing.T) bool {
	switch runtime.GOOS {
	case "linux", "darwin", "freebsd":
		return strings.HasSuffix(t.Name(), "/portable")
	}
	return !strings.HasSuffix(t.Name(), "/simulated")
}

// echoes serves at ln until it is closed: each connection gets back what it sends.
func echoes(ctx context.Context, ln *asyncio.Listener) tasked {
	return start(ctx, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for {
				c, err := ln.AcceptContext(ctx)
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				if err != nil {
					return err
				}
				tg.CreateTask(ctx, func(context.Context) error {
					defer c.Close()
					_, err := io.Copy(c, c)
					return err
				})
			}
		})
	})
}

func TestThreadsafe_DialReadWrite(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", ":7")
		if err != nil {
			ln, err = asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		}
		must(t, err)
		server := echoes(ctx, ln)
		dial := asyncio.ThreadsafeDialer(ctx)
		err = inThread(ctx, func(ctx context.Context) error {
			c, err := dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			sent := pattern(100_000)
			if _, err := c.Write(sent[:10]); err != nil {
				return err
			}
			got := make([]byte, 10)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent[:10]) {
				return fmt.Errorf("%v, %v", got, err)
			}
			if _, err := c.Write(sent); err != nil {
				return err
			}
			if err := c.(*asyncio.ThreadsafeConn).CloseWrite(); err != nil {
				return err
			}
			all, err := io.ReadAll(c)
			if err == nil && !bytes.Equal(all, sent) {
				err = fmt.Errorf("%d bytes came back, not those that were sent", len(all))
			}
			if n, again := c.Read(got); n != 0 || again != io.EOF {
				return fmt.Errorf("after the end: %d, %v", n, again)
			}
			return err
		})
		must(t, ln.Close())
		return errors.Join(err, second(server.Await(ctx)))
	})
}

// Both sides of a connection are views, and the listener is one.
func TestThreadsafe_AcceptOnGoroutines(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		must(t, err)
		view := ln.Threadsafe()
		var served sync.WaitGroup
		served.Go(func() {
			for {
				c, err := view.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
				served.Go(func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				})
			}
		})
		dial := asyncio.ThreadsafeDialer(ctx)
		err = inThread(ctx, func(ctx context.Context) error {
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					c, err := dial(ctx, "tcp", ln.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					for j := range 20 {
						want := fmt.Appendf(nil, "%03d of %03d", j, i)
						got := make([]byte, len(want))
						if _, err := c.Write(want); err != nil {
							t.Error(err)
							return
						}
						if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
							t.Errorf("%q, %v, want %q", got, err, want)
							return
						}
					}
				})
			}
			all.Wait()
			return nil
		})
		must(t, view.Close())
		if err := view.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second Close: %v", err)
		}
		return errors.Join(err, inThread(ctx, func(context.Context) error { served.Wait(); return nil }))
	})
}

// A task of the loop suspends at a view, on whichever side it was opened.
func TestThreadsafe_InTasks(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer server.Close()
		view := client.Threadsafe()
		if client.Threadsafe() != view {
			t.Error("a second view of the same connection")
		}
		read := start(ctx, func(context.Context) error {
			got := make([]byte, 3)
			_, err := io.ReadFull(view, got)
			if err == nil && string(got) != "abc" {
				err = fmt.Errorf("%q", got)
			}
			return err
		})
		settle(t, ctx)
		if _, err := server.Write([]byte("abc")); err != nil {
			return err
		}
		if err := second(read.Await(ctx)); err != nil {
			return err
		}
		if _, err := view.Write([]byte("xyz")); err != nil {
			return err
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(server, got); err != nil || string(got) != "xyz" {
			t.Errorf("%q, %v", got, err)
		}
		must(t, view.Close())
		_, err := client.Read(got)
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read of the connection whose view is closed: %v", err)
		}
		if _, err := view.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read of a closed view: %v", err)
		}
		return nil
	})
}

// What a goroutine has dialled, a task can use, and the other way round.
func TestThreadsafe_OneDialsAnotherUses(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			ln, err = asyncio.Listen(ctx, "tcp", ":7")
		}
		must(t, err)
		server := echoes(ctx, ln)
		dial := asyncio.ThreadsafeDialer(ctx)
		var c net.Conn
		must(t, inThread(ctx, func(ctx context.Context) (err error) { c, err = dial(ctx, "tcp", ln.Addr().String()); return err }))
		talk := func(what string) error {
			got := make([]byte, len(what))
			if _, err := c.Write([]byte(what)); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, got); err != nil || string(got) != what {
				return fmt.Errorf("%q, %w", got, err)
			}
			return nil
		}
		if err := talk("task"); err != nil && !errors.Is(err, errors.ErrUnsupported) || (err != nil) != withoutPoller(t) {
			t.Error(err)
		}
		for range 3 {
			if err := inThread(ctx, func(context.Context) error { return talk("goroutine") }); err != nil {
				t.Error(err)
			}
		}
		must(t, c.Close())
		must(t, ln.Close())
		return second(server.Await(ctx))
	})
}

func TestThreadsafe_CloseFailsWhatWaits(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for name, closes := range map[string]func(*asyncio.Conn, *asyncio.ThreadsafeConn) error{
			"the connection on the loop": func(c *asyncio.Conn, _ *asyncio.ThreadsafeConn) error { return c.Close() },
			"the view on the loop":       func(_ *asyncio.Conn, v *asyncio.ThreadsafeConn) error { return v.Close() },
			"the view on a goroutine": func(_ *asyncio.Conn, v *asyncio.ThreadsafeConn) error {
				return inThread(ctx, func(context.Context) error { return v.Close() })
			},
			"abort": func(_ *asyncio.Conn, v *asyncio.ThreadsafeConn) error { return v.Abort() },
		} {
			client, server := connect(t, ctx)
			view := client.Threadsafe()
			failed := make(chan error, 40)
			var started sync.WaitGroup
			for i := range 20 {
				started.Add(1)
				go func() {
					started.Done()
					var err error
					if i == 0 {
						for big := make([]byte, 1<<20); err == nil; {
							_, err = view.Write(big)
						}
					} else {
						_, err = view.Read(make([]byte, 10))
					}
					failed <- err
				}()
			}
			must(t, inThread(ctx, func(context.Context) error { started.Wait(); return nil }))
			must(t, asyncio.Sleep(ctx, 2*time.Millisecond))
			must(t, closes(client, view))
			for range 20 {
				if err, _, e := asyncio.Recv(ctx, failed); e != nil || !errors.Is(err, net.ErrClosed) {
					t.Errorf("closed by %s: %v, %v", name, err, e)
				}
			}
			must(t, server.Close())
		}
		return nil
	})
}

// A loop that closes fails what waits and leaves no descriptor, which TestMain checks.
func TestThreadsafe_LoopCloses(t *testing.T) {
	for name, newDriver := range map[string]func() *driver.Real{"poller": driver.NewReal, "portable": driver.NewPortable} {
		t.Run(name, func(t *testing.T) {
			l := asyncio.NewEventLoop(driver.With(t.Context(), newDriver()))
			failed := make(chan error, 3)
			_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
				ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
				must(t, err)
				client, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
				must(t, err)
				dial := asyncio.ThreadsafeDialer(ctx)
				var dialled net.Conn
				must(t, inThread(ctx, func(ctx context.Context) (err error) { dialled, err = dial(ctx, "tcp", ln.Addr().String()); return err }))
				view, listener := client.Threadsafe(), ln.Threadsafe()
				buf := make([]byte, 10)
				go func() { failed <- second(view.Read(buf)) }()
				go func() { failed <- second(dialled.Read(make([]byte, 10))) }()
				go func() {
					for {
						if _, err := listener.Accept(); err != nil {
							failed <- err
							return
						}
					}
				}()
				return asyncio.Sleep(ctx, 5*time.Millisecond)
			}))
			must(t, err)
			must(t, l.Close())
			for range 3 {
				if err := <-failed; !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
}

func TestThreadsafe_Datagrams(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		a, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		must(t, err)
		b, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		must(t, err)
		defer b.Close()
		view := a.Threadsafe()
		if a.Threadsafe() != view {
			t.Error("a second view of the same socket")
		}
		answers := start(ctx, func(context.Context) error {
			p := make([]byte, 10)
			n, from, err := b.ReadFrom(p)
			if err != nil {
				return err
			}
			return second(b.WriteTo(append(p[:n], '!'), from))
		})
		must(t, inThread(ctx, func(context.Context) error {
			if _, err := view.WriteTo([]byte("abc"), b.LocalAddr()); err != nil {
				return err
			}
			p := make([]byte, 10)
			n, from, err := view.ReadFrom(p)
			if err == nil && (string(p[:n]) != "abc!" || from.String() != b.LocalAddr().String()) {
				err = fmt.Errorf("%q from %v", p[:n], from)
			}
			return err
		}))
		must(t, second(answers.Await(ctx)))
		must(t, inThread(ctx, func(context.Context) error {
			if err := view.SetReadDeadline(loop(t, ctx).Now().Add(5 * time.Millisecond)); err != nil {
				return err
			}
			if _, _, err := view.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("behind its deadline: %w", err)
			}
			return view.Close()
		}))
		if _, _, err := a.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the socket whose view is closed: %v", err)
		}
		return nil
	})
}

// Libraries take a connection without the methods of a net.PacketConn for a stream.
func TestThreadsafe_DatagramsOfOnePeer(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		peer, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		must(t, err)
		defer peer.Close()
		socket, err := asyncio.DialPacket(ctx, "udp", peer.LocalAddr().String())
		must(t, err)
		defer socket.Close()
		dial, view := asyncio.ThreadsafeDialer(ctx), socket.Threadsafe()
		answers := start(ctx, func(context.Context) error {
			for range 2 {
				p := make([]byte, 10)
				n, from, err := peer.ReadFrom(p)
				if err != nil {
					return err
				}
				if _, err := peer.WriteTo(append(p[:n], '!'), from); err != nil {
					return err
				}
			}
			return nil
		})
		must(t, inThread(ctx, func(ctx context.Context) error {
			dialled, err := dial(ctx, "udp", peer.LocalAddr().String())
			if err != nil {
				return err
			}
			for _, c := range []net.Conn{dialled, view} {
				defer c.Close()
				if _, err := c.Write([]byte("abc")); err != nil {
					return err
				}
				p := make([]byte, 10)
				n, from, err := c.(net.PacketConn).ReadFrom(p)
				if err != nil || string(p[:n]) != "abc!" || from.String() != peer.LocalAddr().String() {
					return fmt.Errorf("%q from %v, %w", p[:n], from, err)
				}
				if _, err := c.(net.PacketConn).WriteTo(p, from); !errors.Is(err, net.ErrWriteToConnected) {
					return fmt.Errorf("WriteTo: %w", err)
				}
			}
			return nil
		}))
		return second(answers.Await(ctx))
	})
}

func TestThreadsafe_Deadlines(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		view := client.Threadsafe()
		l := loop(t, ctx)
		now := l.Now
		err := inThread(ctx, func(ctx context.Context) error {
			at := now()
			if err := view.SetReadDeadline(at.Add(10 * time.Millisecond)); err != nil {
				return err
			}
			_, err := view.Read(make([]byte, 1))
			var timeout net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				return fmt.Errorf("a deadline that comes: %w", err)
			}
			_, err = view.Read(make([]byte, 1))
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("a deadline that has passed: %w", err)
			}
			if err := view.SetDeadline(time.Time{}); err != nil {
				return err
			}
			_, err = view.Write([]byte("x"))
			return err
		})
		got := make([]byte, 1)
		if _, e := io.ReadFull(server, got); e != nil || got[0] != 'x' {
			t.Error(got, e)
		}
		return err
	})
}

// While one side uses a direction, the other is refused.
func TestThreadsafe_TasksAndGoroutinesTakeTurns(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		view := client.Threadsafe()
		read := start(ctx, func(context.Context) error { return second(client.Read(make([]byte, 1))) })
		settle(t, ctx)
		err := inThread(ctx, func(context.Context) error { return second(view.Read(make([]byte, 1))) })
		if !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a goroutine beside a task: %v", err)
		}
		must(t, second(server.Write([]byte("1"))))
		must(t, second(read.Await(ctx)))

		done := make(chan error, 1)
		go func() { done <- second(view.Read(make([]byte, 1))) }()
		for {
			must(t, asyncio.Sleep(ctx, time.Millisecond))
			err := second(asyncio.WaitFor(ctx, asyncio.Coroutine[int](func(ctx context.Context) (int, error) { return client.ReadContext(ctx, make([]byte, 1)) }), time.Millisecond))
			if errors.Is(err, asyncio.ErrBusy) {
				break
			}
			if !errors.Is(err, asyncio.ErrTimeout) {
				t.Fatal(err)
			}
		}
		if _, err := client.Detach(); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("Detach: %v", err)
		}
		must(t, second(server.Write([]byte("2"))))
		err, _, e := asyncio.Recv(ctx, done)
		return errors.Join(err, e)
	})
}

// Tasks and goroutines use one connection by turns: neither misses what comes in the other's turn.
func TestThreadsafe_ByTurns(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		echo := start(ctx, func(context.Context) error {
			defer server.Close()
			_, err := io.Copy(server, server)
			return err
		})
		view := client.Threadsafe()
		trip := func(c io.ReadWriter, n int) error {
			want := bytes.Repeat([]byte{byte(n)}, 1+n*n)
			if _, err := c.Write(want); err != nil {
				return err
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("%d: %d bytes, %w", n, len(got), err)
			}
			return nil
		}
		for n := range 50 {
			must(t, trip(client, n))
			must(t, inThread(ctx, func(context.Context) error { return trip(view, n) }))
			must(t, trip(view, n))
			if n%10 == 0 { // what comes while nobody looks
				must(t, second(client.Write([]byte("early"))))
				must(t, asyncio.Sleep(ctx, time.Millisecond))
				got := make([]byte, 5)
				must(t, inThread(ctx, func(context.Context) error { return second(io.ReadFull(view, got)) }))
			}
		}
		must(t, view.CloseWrite())
		return second(echo.Await(ctx))
	})
}

// What nobody holds any more is closed and reported.
func TestThreadsafe_Unclosed(t *testing.T) {
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		must(t, err)
		defer ln.Close()
		dial := asyncio.ThreadsafeDialer(ctx)
		must(t, inThread(ctx, func(ctx context.Context) error { return second(dial(ctx, "tcp", ln.Addr().String())) }))
		server, err := ln.AcceptContext(ctx)
		must(t, err)
		defer server.Close()
		closed := start(ctx, func(context.Context) error {
			_, err := server.Read(make([]byte, 1))
			if err != io.EOF {
				return fmt.Errorf("the peer of an unclosed view read %w", err)
			}
			return nil
		})
		for !closed.Done() {
			runtime.GC()
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		for len(r.messages()) == 0 {
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		if m := r.messages()[0]; !strings.HasPrefix(m, "unclosed connection tcp ") {
			t.Error(m)
		}
		return closed.Exception()
	})
}

func TestThreadsafe_Detach(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer server.Close()
		view := client.Threadsafe()
		nc, err := client.Detach()
		must(t, err)
		defer nc.Close()
		if _, err := view.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write at the view of a detached connection: %v", err)
		}
		must(t, inThread(ctx, func(context.Context) error { return second(nc.Write([]byte("y"))) }))
		got := make([]byte, 1)
		if _, err := server.Read(got); err != nil || got[0] != 'y' {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

// Goroutines close, read, write and set deadlines at random, while tasks do.
func TestThreadsafe_Hammered(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for seed := range uint64(30) {
			client, server := connect(t, ctx)
			view := client.Threadsafe()
			var all sync.WaitGroup
			for g := range uint64(6) {
				all.Go(func() {
					r := rand.New(rand.NewPCG(seed, g))
					for range 30 {
						var err error
						switch r.IntN(8) {
						case 0, 1, 2:
							err = second(view.Write(make([]byte, 1+r.IntN(3000))))
						case 3, 4, 5:
							err = view.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(300)) * time.Microsecond))
							if err == nil {
								err = second(view.Read(make([]byte, 100)))
							}
						case 6:
							err = view.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(300)) * time.Microsecond))
						case 7:
							if r.IntN(20) == 0 {
								err = view.Close()
							}
						}
						if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, asyncio.ErrBusy) {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			echo := start(ctx, func(ctx context.Context) error {
				return second(asyncio.WaitFor(ctx, asyncio.Coroutine[int64](func(context.Context) (int64, error) { return io.Copy(server, server) }), time.Second))
			})
			for range 10 {
				_, err := client.Write([]byte("task"))
				if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, asyncio.ErrBusy) {
					t.Errorf("seed %d: task: %v", seed, err)
				}
				must(t, asyncio.Sleep(ctx, 50*time.Microsecond))
			}
			must(t, inThread(ctx, func(context.Context) error { all.Wait(); return nil }))
			must(t, client.Close())
			if err := second(echo.Await(ctx)); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("seed %d: server: %v", seed, err)
			}
			must(t, server.Close())
		}
		return nil
	})
}

func TestThreadsafe_Misuse(t *testing.T) {
	var zero asyncio.ThreadsafeConn
	var listener asyncio.ThreadsafeListener
	var packets asyncio.ThreadsafePacketConn
	for name, err := range map[string]error{
		"Accept": second(listener.Accept()), "ReadFrom": third(packets.ReadFrom(nil)), "WriteTo": second(packets.WriteTo(nil, nil)),
		"the listener's Close": listener.Close(), "the socket's Close": packets.Close(), "the socket's SetDeadline": packets.SetDeadline(time.Time{}),
		"Read": second(zero.Read(nil)), "Write": second(zero.Write(nil)), "Close": zero.Close(), "Abort": zero.Abort(), "CloseWrite": zero.CloseWrite(),
		"CloseRead": zero.CloseRead(), "SetDeadline": zero.SetDeadline(time.Time{}),
	} {
		if !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("%s of a zero value: %v", name, err)
		}
	}
	if _, err := asyncio.ThreadsafeDialer(t.Context())(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Errorf("without a loop: %v", err)
	}
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		view := client.Threadsafe()
		// a view made in the wrong place
		err := inThread(ctx, func(context.Context) error { return second(client.Threadsafe().Read(make([]byte, 1))) })
		if !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("a view made by a goroutine: %v", err)
		}
		// a task of another loop
		err = inThread(ctx, func(ctx context.Context) error {
			_, err := asyncio.Run(ctx, asyncio.Do(func(context.Context) error { return second(view.Read(make([]byte, 1))) }))
			return err
		})
		if !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("a task of another loop: %v", err)
		}
		return nil
	})
}

// A step waits for a goroutine that needs the loop: an error, not a hang. With a descriptor of its
// own the goroutine does not need the loop.
func TestThreadsafe_StepWaitsForGoroutine(t *testing.T) {
	defer asyncio.WatchOften(5 * time.Millisecond)()
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		view := client.Threadsafe()
		sent := make(chan error)
		go func() { sent <- second(view.Write([]byte("x"))) }()
		needsLoop := withoutPoller(t)
		if err := <-sent; !needsLoop && err != nil || needsLoop && !errors.Is(err, asyncio.ErrLoopBlocked) {
			t.Errorf("a Write: %v", err)
		}
		go func() { sent <- second(view.Read(make([]byte, 1))) }()
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		must(t, second(server.Write([]byte("y"))))
		if err := <-sent; !needsLoop && err != nil || needsLoop && !errors.Is(err, asyncio.ErrLoopBlocked) {
			t.Errorf("a Read: %v", err)
		}
		return nil
	})
}

// Over the simulated network, a library in a thread function is as reproducible as a task.
func TestThreadsafe_Simulated(t *testing.T) {
	program := func(log *[]string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			ln, err := asyncio.Listen(ctx, "tcp", ":7")
			if err != nil {
				return err
			}
			server := echoes(ctx, ln)
			dial := asyncio.ThreadsafeDialer(ctx)
			err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for i := range 3 {
					tg.CreateTask(ctx, func(ctx context.Context) error {
						return inThread(ctx, func(ctx context.Context) error {
							c, err := dial(ctx, "tcp", ln.Addr().String())
							if err != nil {
								return err
							}
							defer c.Close()
							for j := range 3 {
								if _, err := fmt.Fprintf(c, "%d.%d", i, j); err != nil {
									return err
								}
								got := make([]byte, 3)
								if _, err := io.ReadFull(c, got); err != nil {
									return err
								}
								*log = append(*log, string(got))
							}
							return nil
						})
					})
				}
				return nil
			})
			return errors.Join(err, ln.Close(), second(server.Await(ctx)))
		}
	}
	explored := func(seed uint64) (orders []string) {
		report := sim.Check(func(ctx context.Context) error {
			var log []string
			err := program(&log)(ctx)
			orders = append(orders, fmt.Sprint(log))
			return err
		}, sim.Runs(30), sim.Seed(seed))
		if report.Failure != nil {
			t.Error(report.Failure)
		}
		return orders
	}
	first, second := explored(1), explored(1)
	if !slices.Equal(first, second) {
		t.Errorf("one seed, two outcomes:\n%s\n%s", first, second)
	}
	if slices.Sort(first); len(slices.Compact(first)) < 2 {
		t.Error("all schedules have one order")
	}
}

// A thread function waits at a view while its host ends, in one way or another. It gets an error,
// and nothing is left, which TestMain checks.
func TestThreadsafe_SimulatedHostEnds(t *testing.T) {
	for name, end := range map[string]func(h *sim.Host){
		"returns": func(*sim.Host) {}, "crashes": (*sim.Host).Crash, "is killed": (*sim.Host).Kill, "is shut down": (*sim.Host).Shutdown,
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
					ln, err := asyncio.Listen(ctx, "tcp", ":7")
					if err != nil {
						return err
					}
					defer ln.Close()
					return second(asyncio.CreateFuture[int](ctx).Await(ctx)) // it never answers
				})
				ended := make(chan error, 2)
				client := sim.NewHost(ctx, "client", func(ctx context.Context) error {
					dial := asyncio.ThreadsafeDialer(ctx)
					for range 2 {
						start(ctx, func(ctx context.Context) error {
							return inThread(ctx, func(ctx context.Context) error {
								c, err := dial(ctx, "tcp", "server:7")
								if err == nil {
									defer c.Close()
									_, err = c.Read(make([]byte, 1))
								}
								ended <- err
								return err
							})
						})
					}
					if name == "returns" {
						return asyncio.Sleep(ctx, time.Second)
					}
					return second(asyncio.CreateFuture[int](ctx).Await(ctx))
				})
				must(t, asyncio.Sleep(ctx, 2*time.Second))
				end(client)
				_ = client.Wait(ctx)
				for range 2 {
					select {
					case err := <-ended:
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
					default:
						t.Error("the function still waits")
					}
				}
				server.Kill()
				_ = server.Wait(ctx)
				return nil
			})
		})
	}
}
