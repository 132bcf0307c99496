package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/leaktest"
	"github.com/goasyncio/asyncio/sim"
)

// onSockets is onSystem, and also runs body on the simulated network of package sim, on virtual
// time.
func onSockets(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	onSystem(t, body)
	t.Run("simulated", func(t *testing.T) {
		sim.Run(t, func(ctx context.Context) error { return limited(t, ctx, body) })
	})
}

// onSystem runs body on the real clock, once on the system's poller and once on the portable one. A
// report to the exception handler fails the test.
func onSystem(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		t.Cleanup(func() { // when the loop is closed
			for _, c := range r.all {
				t.Errorf("exception handler: %s: %v %s", c.Message, c.Exception, c.Source)
			}
		})
		return body(t, ctx)
	})
}

// onSystemReporting is onSystem, except that body gets the reports to the exception handler.
func onSystemReporting(t *testing.T, body func(t *testing.T, ctx context.Context, r *reports) error) {
	t.Helper()
	for name, make := range map[string]func() *driver.Real{"poller": driver.NewReal, "portable": driver.NewPortable} {
		t.Run(name, func(t *testing.T) {
			var r reports
			ctx := asyncio.WithLoopFactory(t.Context(), func(ctx context.Context) *asyncio.EventLoop {
				l := asyncio.NewEventLoop(ctx, asyncio.Driver(make()))
				l.SetExceptionHandler(r.handle)
				return l
			})
			_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
				return limited(t, ctx, func(t *testing.T, ctx context.Context) error { return body(t, ctx, &r) })
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// limited returns body under a time limit that only a hang reaches.
func limited(t *testing.T, ctx context.Context, body func(t *testing.T, ctx context.Context) error) error {
	return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(t, ctx) })
}

// connect returns the two ends of a TCP connection.
func connect(t *testing.T, ctx context.Context) (client, server *asyncio.Conn) {
	t.Helper()
	ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := asyncio.CreateTask(ctx, ln.AcceptContext)
	client, err = asyncio.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = accepted.Await(ctx); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return p
}

// Bytes go both ways at once, far more than any buffer holds, and arrive as they were sent.
func TestConn_BothDirections(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		want := pattern(3 << 20)
		var all []*asyncio.Task[asyncio.None]
		for _, c := range []*asyncio.Conn{client, server} {
			all = append(all, start(ctx, func(ctx context.Context) error {
				if n, err := c.Write(want); err != nil || n != len(want) {
					return fmt.Errorf("Write = %d, %v", n, err)
				}
				return c.CloseWrite()
			}), start(ctx, func(ctx context.Context) error {
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d bytes, %v; want the %d written", len(got), err, len(want))
				}
				if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the end: Read = %d, %v", n, err)
				}
				return nil
			}))
		}
		_, err := asyncio.Gather(ctx, all...)
		return err
	})
}

func TestConn_Networks(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for _, n := range []struct{ network, address string }{
			{"tcp", "localhost:0"},
			{"tcp4", "127.0.0.1:0"},
			{"unix", t.TempDir() + "/s"},
		} {
			if runtime.GOOS == "windows" && n.network == "unix" {
				continue
			}
			ln, err := asyncio.Listen(ctx, n.network, n.address)
			if err != nil {
				return err
			}
			served := start(ctx, func(ctx context.Context) error {
				c, err := ln.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
				return err
			})
			c, err := asyncio.Dial(ctx, ln.Addr().Network(), ln.Addr().String())
			if err != nil {
				return err
			}
			if c.RemoteAddr().String() != ln.Addr().String() || c.LocalAddr().Network() != ln.Addr().Network() {
				t.Errorf("%s: from %v to %v, want %v", n.network, c.LocalAddr(), c.RemoteAddr(), ln.Addr())
			}
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			if err := c.CloseWrite(); err != nil {
				return err
			}
			got, err := io.ReadAll(c)
			if string(got) != "hello" || err != nil {
				t.Errorf("%s: %q, %v", n.network, got, err)
			}
			if err := ended(ctx, served); err != nil {
				t.Error(err)
			}
			if err := errors.Join(c.Close(), ln.Close(), c.Close(), ln.Close()); err != nil {
				t.Error(err)
			}
			if n.network == "unix" {
				if _, err := os.Stat(n.address); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the socket's file is still there: %v", err)
				}
			}
		}
		return nil
	})
}

// Reads of a stream of messages are cancelled at any moment. No byte is lost: the next Read has it
// (conn 3).
func TestConn_CancelledReadLosesNothing(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		want := pattern(20_000)
		writer := start(ctx, func(ctx context.Context) error {
			for at := 0; at < len(want); {
				n := min(1+at%97, len(want)-at)
				if _, err := client.Write(want[at : at+n]); err != nil {
					return err
				}
				at += n
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return client.CloseWrite()
		})
		var got []byte
		cancels := 0
		for i := 0; ; i++ {
			buf := make([]byte, 1+i%60)
			reader := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return server.Read(buf) })
			for range i % 3 { // before it starts, while it waits, after it was woken
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			if i%2 == 0 {
				reader.Cancel()
			}
			n, err := reader.Await(ctx)
			if errors.Is(err, asyncio.ErrCancelled) {
				cancels++
				continue
			}
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes came of %d, or others", len(got), len(want))
		}
		if cancels == 0 {
			t.Error("no read was cancelled")
		}
		return ended(ctx, writer)
	})
}

// A cancelled Write returns how much it has written (conn 4), and exactly that arrives.
func TestConn_CancelledWriteSaysHowMuch(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		want := pattern(64 << 20)
		var written int
		writer := start(ctx, func(ctx context.Context) (err error) {
			written, err = client.Write(want)
			return err
		})
		if err := stuck(ctx, client); err != nil {
			return err
		}
		writer.Cancel("enough")
		if err := ended(ctx, writer); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Write = %d, %v; want it cancelled", written, err)
		}
		if written == 0 || written == len(want) {
			t.Errorf("%d bytes written", written)
		}
		if err := client.CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, want[:written]) {
			t.Errorf("%d bytes came, %v; want %d", len(got), err, written)
		}
		return nil
	})
}

// stuck waits until c's writer has been waiting for the peer for a while. Detach fails with ErrBusy
// as long as a writer waits.
func stuck(ctx context.Context, c *asyncio.Conn) error {
	for waits := 0; waits < 100; { // the writer may be woken in between
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		waits++
		if _, err := c.Detach(); !errors.Is(err, asyncio.ErrBusy) {
			return fmt.Errorf("Detach = %v, want ErrBusy", err)
		}
	}
	return nil
}

func TestConn_Busy(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, asyncio.ErrBusy) || !strings.Contains(err.Error(), reader.GetName()) {
			t.Errorf("a second Read: %v", err)
		}
		if _, err := client.Detach(); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("Detach: %v", err)
		}
		// a write works beside a waiting reader
		if _, err := client.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := server.Write([]byte("y")); err != nil {
			t.Error(err)
		}
		return ended(ctx, reader)
	})
}

func TestConn_CloseWakes(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for name, shut := range map[string]func(*asyncio.Conn) error{"close": (*asyncio.Conn).Close, "abort": (*asyncio.Conn).Abort} {
			client, server := connect(t, ctx)
			reader := start(ctx, func(ctx context.Context) error {
				_, err := client.Read(make([]byte, 1))
				return err
			})
			writer := start(ctx, func(ctx context.Context) error {
				for {
					if _, err := client.Write(pattern(1 << 20)); err != nil {
						return err
					}
				}
			})
			if err := stuck(ctx, client); err != nil {
				return err
			}
			if err := shut(client); err != nil {
				t.Error(err)
			}
			for _, w := range []*asyncio.Task[asyncio.None]{reader, writer} {
				if err := ended(ctx, w); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %v, want net.ErrClosed", name, err)
				}
			}
			if _, err := client.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: Read afterwards: %v", name, err)
			}
			server.Abort()
		}
		return nil
	})
}

func TestConn_Deadline(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		isTimeout := func(what string, err error) {
			t.Helper()
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v, want os.ErrDeadlineExceeded", what, err)
			}
		}
		p := make([]byte, 8)
		client.SetReadDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		_, err := client.Read(p)
		isTimeout("ahead", err)
		if _, err := server.Write([]byte("late")); err != nil {
			return err
		}
		_, err = client.Read(p)
		isTimeout("passed, with data", err)
		client.SetReadDeadline(time.Time{})
		if n, err := client.Read(p); string(p[:n]) != "late" || err != nil {
			t.Errorf("without a deadline: %q, %v", p[:n], err)
		}
		// One deadline is set while the reader waits, and one is taken back.
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(p)
			return err
		})
		settle(t, ctx)
		client.SetReadDeadline(loop(t, ctx).Now().Add(time.Hour))
		client.SetReadDeadline(loop(t, ctx).Now().Add(-time.Hour))
		isTimeout("while it waits", ended(ctx, reader))

		client.SetDeadline(loop(t, ctx).Now().Add(50 * time.Millisecond))
		for err = error(nil); err == nil; {
			_, err = client.Write(pattern(1 << 20))
		}
		isTimeout("write", err)
		return nil
	})
}

// After a half-close one direction has ended and the other goes on.
func TestConn_HalfClose(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		if err := client.CloseWrite(); err != nil {
			return err
		}
		if _, err := client.Write([]byte("x")); err == nil {
			t.Error("a Write after CloseWrite succeeded")
		}
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer read %v, want EOF", err)
		}
		if _, err := server.Write([]byte("still here")); err != nil {
			return err
		}
		server.Close()
		got, err := io.ReadAll(client)
		if string(got) != "still here" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

// The last bytes and the end of the stream come with one edge of the poller. Both are read.
func TestConn_DataAndEndAtOnce(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		reader := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			b, err := io.ReadAll(client)
			return string(b), err
		})
		settle(t, ctx) // the reader waits now
		if _, err := server.Write([]byte("bye")); err != nil {
			return err
		}
		server.Close()
		got, err := reader.Await(ctx)
		if got != "bye" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

// On every network with streams, a reader can take the data in pieces of any size.
func TestConn_ReadInPieces(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		want := pattern(200_000)
		for _, network := range []string{"tcp", "unix"} {
			address := "127.0.0.1:0"
			if network == "unix" {
				if runtime.GOOS == "windows" {
					continue // the path of a temporary directory may be too long there
				}
				address = t.TempDir() + "/s"
			}
			ln, err := asyncio.Listen(ctx, network, address)
			if err != nil {
				return err
			}
			accepted := asyncio.CreateTask(ctx, ln.AcceptContext)
			client, err := asyncio.Dial(ctx, network, ln.Addr().String())
			if err != nil {
				return err
			}
			server, err := accepted.Await(ctx)
			if err != nil {
				return err
			}
			writer := start(ctx, func(ctx context.Context) error {
				if _, err := client.Write(want); err != nil {
					return err
				}
				return client.CloseWrite()
			})
			var got []byte
			p := make([]byte, 1000)
			for size := 1; err == nil; size = 1 + size*7%len(p) {
				var n int
				n, err = server.Read(p[:size])
				got = append(got, p[:n]...)
			}
			if err != io.EOF || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes came of %d, or others; %v", network, len(got), len(want), err)
			}
			if err := errors.Join(ended(ctx, writer), client.Close(), server.Close(), ln.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// A connection goes to a goroutine together with what had been sent, and comes back.
func TestConn_DetachAndAttach(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer server.Close()
		// A read was under way and was given up.
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		reader.Cancel()
		if err := ended(ctx, reader); !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		if _, err := server.Write([]byte("for the goroutine")); err != nil {
			return err
		}
		nc, err := client.Detach()
		if err != nil {
			return err
		}
		if _, err := client.Read(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Detach: %v", err)
		}
		got, err := asyncio.ToThread(ctx, func(context.Context) (string, error) {
			p := make([]byte, len("for the goroutine"))
			_, err := io.ReadFull(nc, p)
			return string(p), err
		})
		if got != "for the goroutine" || err != nil {
			t.Errorf("in the goroutine: %q, %v", got, err)
		}
		back, err := asyncio.NewConn(ctx, nc)
		if err != nil {
			return err
		}
		defer back.Close()
		if _, err := back.Write([]byte("back")); err != nil {
			return err
		}
		p := make([]byte, 10)
		if n, err := server.Read(p); string(p[:n]) != "back" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		return nil
	})
}

// A connection that has no descriptor works too.
func TestNewConn_Pipe(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		a, b := net.Pipe()
		c, err := asyncio.NewConn(ctx, a)
		if err != nil {
			return err
		}
		d, err := asyncio.NewConn(ctx, b)
		if err != nil {
			return err
		}
		defer d.Close()
		want := pattern(1 << 20)
		writer := start(ctx, func(ctx context.Context) error {
			defer c.Close() // the end comes after the bytes written
			_, err := c.Write(want)
			return err
		})
		got, err := io.ReadAll(d)
		if !bytes.Equal(got, want) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		return ended(ctx, writer)
	})
}

// exitingConn is a connection that exits the goroutine calling it. A test has such a connection, or
// listener, that calls t.Fatal where nothing may be read, written or accepted.
type exitingConn struct{ net.Conn }

func (exitingConn) Read([]byte) (int, error)  { runtime.Goexit(); return 0, nil }
func (exitingConn) Write([]byte) (int, error) { runtime.Goexit(); return 0, nil }

type exitingListener struct{ net.Listener }

func (exitingListener) Accept() (net.Conn, error) { runtime.Goexit(); return nil, nil }

// A connection that exits the goroutine calling it has failed. No caller is left waiting, and the
// loop can be closed.
func TestNewConn_Exits(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c, err := asyncio.NewConn(ctx, exitingConn{ours})
		if err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, asyncio.ErrGoexit) {
			t.Errorf("Read: %v", err)
		}
		// the error may be returned one write late
		for err = error(nil); err == nil; _, err = c.Write(make([]byte, 1<<20)) {
		}
		if !errors.Is(err, asyncio.ErrGoexit) {
			t.Errorf("Write: %v", err)
		}
		nl, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ln, err := asyncio.NewListener(ctx, exitingListener{nl})
		if err != nil {
			return err
		}
		if _, err := ln.AcceptContext(ctx); !errors.Is(err, asyncio.ErrGoexit) {
			t.Errorf("Accept: %v", err)
		}
		return nil // the loop closes both
	})
}

// A task that could read for ever gives way to the others (conn 1).
func TestConn_GivesWay(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		if _, err := server.Write(pattern(2000)); err != nil {
			return err
		}
		stop := false
		other := start(ctx, func(ctx context.Context) error { stop = true; return nil })
		n := 0
		for p := make([]byte, 1); !stop && n < 1000; n++ {
			if _, err := client.Read(p); err != nil {
				return err
			}
		}
		if n == 1000 {
			t.Error("a thousand reads, and no other task had a turn")
		}
		return ended(ctx, other)
	})
}

func TestConn_Options(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer server.Close()
		if err := errors.Join(client.SetNoDelay(false), client.SetKeepAlive(true), client.SetLinger(-1), client.SetReadBuffer(1<<14), client.SetWriteBuffer(1<<14)); err != nil {
			t.Error(err)
		}
		raw, err := client.SyscallConn()
		if err != nil {
			return err
		}
		seen := false
		if err := raw.Control(func(fd uintptr) { seen = true }); err != nil || !seen {
			t.Errorf("Control: %v", err)
		}
		client.Close()
		for what, err := range map[string]error{
			"SetNoDelay":      client.SetNoDelay(true),
			"SetReadDeadline": client.SetReadDeadline(time.Time{}),
			"CloseWrite":      client.CloseWrite(),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s on a closed connection: %v", what, err)
			}
		}
		return nil
	})
}

// Closing the loop closes the connections that are left, and no descriptor stays open.
func TestConn_LoopClosesWhatIsLeft(t *testing.T) {
	before := leaktest.Descriptors()
	var kept *asyncio.Conn
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		_, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		kept = client
		for _, c := range []*asyncio.Conn{client, server} {
			start(ctx, func(ctx context.Context) error {
				defer c.Close() // also runs when the loop unwinds the task
				_, err := c.Read(make([]byte, 1))
				return err
			})
		}
		settle(t, ctx)
		return err
	})
	if err := kept.Close(); err != nil {
		t.Errorf("Close after the loop: %v", err)
	}
	if _, err := kept.Read(nil); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("Read after the loop: %v", err)
	}
	if after := leaktest.Descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestConn_Misuse(t *testing.T) {
	var kept *asyncio.Conn
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		kept = client
		defer client.Close()
		defer server.Close()
		inCallback := make(chan error, 1)
		loop(t, ctx).CallSoon(func() {
			_, err := client.Read(make([]byte, 1))
			inCallback <- err
		})
		settle(t, ctx)
		if err := <-inCallback; !errors.Is(err, asyncio.ErrNotInTask) {
			t.Errorf("Read in a callback: %v", err)
		}
		l := loop(t, ctx)
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			for !asyncio.Parked(l) {
				runtime.Gosched()
			}
			_, err := client.Read(make([]byte, 1))
			if !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("Read in a goroutine: %v", err)
			}
			if err := client.CloseWrite(); !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("CloseWrite in a goroutine: %v", err)
			}
			return asyncio.None{}, nil
		})
		if _, e := client.ReadContext(context.Background(), nil); !errors.Is(e, asyncio.ErrNoRunningLoop) {
			t.Errorf("ReadContext without a loop: %v", e)
		}
		done, cancel := asyncio.WithCancel(ctx)
		cancel()
		if _, e := client.ReadContext(done, make([]byte, 1)); !errors.Is(e, context.Canceled) {
			t.Errorf("ReadContext with a done context: %v", e)
		}
		return err
	})
	run(t, func(ctx context.Context) error {
		for what, err := range map[string]error{
			"Dial":   second(asyncio.Dial(ctx, "tcp", "127.0.0.1:1")),
			"Listen": second(asyncio.Listen(ctx, "tcp", "127.0.0.1:0")),
			"Reader": loop(t, ctx).AddReader(0, func() {}),
		} {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s on virtual time: %v", what, err)
			}
		}
		if _, err := kept.ReadContext(ctx, nil); !errors.Is(err, asyncio.ErrDifferentLoop) {
			t.Errorf("on another loop: %v", err)
		}
		return nil
	})
}

func second[T any](_ T, err error) error { return err }

// The end of a context ends a read. Data that comes later is there for the next read.
func TestConn_ContextEnds(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		limited, cancel := asyncio.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		p := make([]byte, 8)
		if _, err := client.ReadContext(limited, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadContext: %v", err)
		}
		if _, err := server.Write([]byte("after")); err != nil {
			return err
		}
		if n, err := client.Read(p); string(p[:n]) != "after" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		return nil
	})
}

func TestDial_Fails(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ln.Close()
		var op *net.OpError
		if _, err := asyncio.Dial(ctx, "tcp", ln.Addr().String()); !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("refused: %v", err)
		}
		var dns *net.DNSError
		failing := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name server")
		}}}
		if _, err := asyncio.Dial(ctx, "tcp", "name.invalid:1", asyncio.Dialer(failing)); !errors.As(err, &dns) {
			t.Errorf("name not found: %v", err)
		}
		if _, err := asyncio.Dial(ctx, "carrier pigeon", "roof"); err == nil {
			t.Error("an unknown network")
		}
		return nil
	})
}

// A cancelled Dial leaves nothing behind, whenever the cancel comes.
func TestDial_Cancelled(t *testing.T) {
	before := leaktest.Descriptors()
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		for i := range 50 {
			arrived := make(chan struct{})
			d := &net.Dialer{Control: nil, Resolver: nil, ControlContext: nil}
			if i%2 == 0 { // such a dial does not return before it is cancelled
				d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}
			} else {
				close(arrived)
			}
			address := ln.Addr().String()
			if i%2 == 0 {
				address = "name.invalid:1"
			}
			dial := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.Conn, error) {
				return asyncio.Dial(ctx, "tcp", address, asyncio.Dialer(d))
			})
			for range i % 7 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			dial.Cancel()
			c, err := dial.Await(ctx)
			if err == nil {
				c.Close() // the dial was faster than the cancel
			} else if !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("Dial = %v", err)
			}
		}
		return nil
	})
	// a dial may still be closing its descriptor
	for end := time.Now().Add(5 * time.Second); leaktest.Descriptors() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors before, %d after", before, leaktest.Descriptors())
		}
	}
}

// Package net has a timer of its own for a context's deadline. The error is the same whichever
// timer fires first.
func TestDial_ContextEnds(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		late := &net.Dialer{ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
			if d, ok := ctx.Deadline(); ok {
				<-time.After(time.Until(d))
			}
			return os.ErrDeadlineExceeded
		}}
		dial := func(ctx context.Context) error {
			_, err := asyncio.Dial(ctx, "tcp", "127.0.0.1:1", asyncio.Dialer(late))
			return err
		}
		for range 50 {
			if err := asyncio.FailAfter(ctx, 100*time.Microsecond, dial); !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("FailAfter: %v", err)
			}
			if expired, err := asyncio.MoveOnAfter(ctx, 100*time.Microsecond, dial); !expired || err != nil {
				t.Errorf("MoveOnAfter: %v, %v", expired, err)
			}
			inner, cancel := context.WithTimeout(ctx, 100*time.Microsecond)
			if err := dial(inner); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a standard context: %v", err)
			}
			cancel()
		}
		// Another timeout's error is returned unchanged.
		early := &net.Dialer{Control: func(_, _ string, _ syscall.RawConn) error { return os.ErrDeadlineExceeded }}
		return asyncio.FailAfter(ctx, time.Hour, func(ctx context.Context) error {
			if _, err := asyncio.Dial(ctx, "tcp", "127.0.0.1:1", asyncio.Dialer(early)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("another timeout: %v", err)
			}
			return nil
		})
	})
}

func TestListener_CloseAndCancel(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		accept := func() *asyncio.Task[*asyncio.Conn] {
			a := asyncio.CreateTask(ctx, ln.AcceptContext)
			settle(t, ctx)
			return a
		}
		a := accept()
		if _, err := ln.AcceptContext(ctx); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Accept: %v", err)
		}
		a.Cancel()
		if _, err := a.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		// A connection that comes after the cancel is there for the next Accept.
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		s, err := ln.AcceptContext(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		if s.RemoteAddr().String() != c.LocalAddr().String() || s.LocalAddr().String() != ln.Addr().String() {
			t.Errorf("accepted %v at %v, dialled %v to %v", s.RemoteAddr(), s.LocalAddr(), c.LocalAddr(), ln.Addr())
		}
		ln.SetDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		ln.SetDeadline(time.Time{})
		a = accept()
		ln.Close()
		if _, err := a.Await(ctx); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		return nil
	})
}

// Many connections each have a conversation of their own at the same time.
func TestConn_Thousand(t *testing.T) {
	before := leaktest.Descriptors()
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		n := 1000
		if testing.Short() {
			n = 100
		}
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(func(ctx context.Context) error {
				for range n {
					c, err := ln.AcceptContext(ctx)
					if err != nil {
						return err
					}
					tg.CreateTask(func(ctx context.Context) error {
						defer c.Close()
						buf := make([]byte, 64)
						for {
							m, err := c.Read(buf)
							if err == io.EOF {
								return nil
							} else if err != nil {
								return err
							}
							if _, err := c.Write(buf[:m]); err != nil {
								return err
							}
						}
					})
				}
				return nil
			})
			dialling := asyncio.NewSemaphore(50)
			for i := range n {
				tg.CreateTask(func(ctx context.Context) error {
					if err := dialling.Acquire(ctx); err != nil {
						return err
					}
					c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
					dialling.Release()
					if err != nil {
						return err
					}
					defer c.Close()
					buf := make([]byte, 64)
					for j := range 5 {
						message := fmt.Sprintf("%d of %d", j, i)
						if _, err := c.Write([]byte(message)); err != nil {
							return err
						}
						if _, err := io.ReadFull(c, buf[:len(message)]); err != nil || string(buf[:len(message)]) != message {
							return fmt.Errorf("%q came back as %q, %v", message, buf[:len(message)], err)
						}
					}
					return nil
				})
			}
			return nil
		})
	})
	if after := leaktest.Descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestReusePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // Windows has nothing like it
	}
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		a, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0", asyncio.ReusePort())
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := asyncio.Listen(ctx, "tcp", a.Addr().String(), asyncio.ReusePort())
		if err != nil {
			return err
		}
		defer b.Close()
		if _, err := asyncio.Listen(ctx, "tcp", a.Addr().String()); err == nil {
			t.Error("a third without the option was let in")
		}
		return nil
	})
}

func TestPacketConn(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		a, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer b.Close()
		c, err := asyncio.DialPacket(ctx, "udp", a.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()

		p := make([]byte, 2000)
		for _, size := range []int{0, 1, 1400} { // an empty datagram is a datagram too
			if n, err := b.WriteTo(pattern(size), a.LocalAddr()); n != size || err != nil {
				t.Errorf("WriteTo = %d, %v", n, err)
			}
			n, from, err := a.ReadFrom(p)
			if n != size || err != nil || from.String() != b.LocalAddr().String() {
				t.Errorf("ReadFrom = %d, %v, %v", n, from, err)
			}
			if n, err := c.Write(pattern(size)); n != size || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			n, ap, err := a.ReadFromUDPAddrPort(p)
			if n != size || err != nil || ap.String() != c.LocalAddr().String() {
				t.Errorf("ReadFromUDPAddrPort = %d, %v, %v", n, ap, err)
			}
			if _, err := a.WriteToUDPAddrPort(pattern(size), ap); err != nil {
				t.Error(err)
			}
			if n, err := c.Read(p); n != size || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
		}

		a.SetReadDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		if _, _, err := a.ReadFrom(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		a.SetReadDeadline(time.Time{})
		receive := start(ctx, func(ctx context.Context) error {
			_, _, err := a.ReadFromContext(ctx, p)
			return err
		})
		settle(t, ctx)
		if _, _, err := a.ReadFrom(p); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second ReadFrom: %v", err)
		}
		receive.Cancel()
		if err := ended(ctx, receive); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := b.WriteTo([]byte("kept"), a.LocalAddr()); err != nil {
			return err
		}
		if n, _, err := a.ReadFrom(p); string(p[:n]) != "kept" || err != nil {
			t.Errorf("after a cancel: %q, %v", p[:n], err)
		}
		receive = start(ctx, func(ctx context.Context) error {
			_, _, err := a.ReadFrom(p)
			return err
		})
		settle(t, ctx)
		a.Close()
		if err := ended(ctx, receive); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		return nil
	})
}

// loopbacks returns the addresses of this host to listen at, with IPv6 if the host has it.
func loopbacks(t *testing.T) []string {
	t.Helper()
	c, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		return []string{"127.0.0.1:0"}
	}
	must(t, c.Close())
	return []string{"127.0.0.1:0", "[::1]:0"}
}

// Addresses of both families arrive as package net returns them. An address that cannot be reached
// is an error.
func TestPacketConn_Addresses(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for _, local := range append(loopbacks(t), ":0") {
			plain, err := net.ListenPacket("udp", local)
			if err != nil {
				return err
			}
			defer plain.Close()
			c, err := asyncio.ListenPacket(ctx, "udp", local)
			if err != nil {
				return err
			}
			defer c.Close()
			port := func(a net.Addr) uint16 { return a.(*net.UDPAddr).AddrPort().Port() }
			for _, host := range loopbacks(t) {
				ip := netip.MustParseAddrPort(host).Addr()
				to := netip.AddrPortFrom(ip, port(plain.LocalAddr()))
				_, refused := plain.(*net.UDPConn).WriteToUDPAddrPort(nil, netip.AddrPortFrom(ip, port(c.LocalAddr())))
				if refused != nil && strings.HasSuffix(t.Name(), "portable") {
					continue // the goroutine reports an error one datagram late
				}
				n, err := c.WriteToUDPAddrPort([]byte("x"), to)
				if (err == nil) != (refused == nil) {
					t.Errorf("from %s to %v: %v, and package net: %v", local, to, err, refused)
				}
				if err != nil || refused != nil {
					continue
				}
				if n != 1 {
					t.Errorf("from %s to %v: %d bytes", local, to, n)
				}
				// Both sides see the same addresses.
				p := make([]byte, 10)
				_, seen, err := plain.(*net.UDPConn).ReadFromUDPAddrPort(p)
				if err != nil {
					return err
				}
				_, from, err := c.ReadFromUDPAddrPort(p)
				if err != nil {
					return err
				}
				if from.Addr() != seen.Addr() || from.Port() != port(plain.LocalAddr()) || seen.Port() != port(c.LocalAddr()) {
					t.Errorf("at %s from %v: %v; package net: %v", local, ip, from, seen)
				}
				if _, err := plain.WriteTo(nil, net.UDPAddrFromAddrPort(seen)); err != nil {
					return err
				}
				_, a, err := c.ReadFrom(p)
				if err != nil {
					return err
				}
				if u, ok := a.(*net.UDPAddr); !ok || u.AddrPort() != from || u.String() != net.UDPAddrFromAddrPort(from).String() {
					t.Errorf("at %s from %v: %v, want %v", local, ip, a, from)
				}
			}
			if _, err := c.WriteToUDPAddrPort(nil, netip.AddrPort{}); err == nil && !strings.HasSuffix(t.Name(), "portable") {
				t.Errorf("from %s to no address: no error", local)
			}
		}
		return nil
	})
}

// I/O does not starve while the loop is busy (loop 6).
func TestBusyLoopLooksAtConnections(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		reader := start(ctx, func(ctx context.Context) error {
			_, err := server.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		if _, err := client.Write([]byte("x")); err != nil {
			return err
		}
		for end := time.Now().Add(10 * time.Second); !reader.Done(); { // the loop is never idle
			if time.Now().After(end) {
				t.Fatal("the reader was never woken")
			}
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		return ended(ctx, reader)
	})
}
