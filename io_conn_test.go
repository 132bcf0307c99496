package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

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

// Connection pools check whether a connection is still good with a non-blocking read of its
// descriptor. The check takes no data and does not wait for a task or goroutine that reads.
func TestConn_LookAtDescriptor(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		c, s := connect(t, ctx)
		defer c.Close()
		defer s.Close()
		reader := start(ctx, func(ctx context.Context) error {
			_, err := io.ReadFull(c, make([]byte, 1))
			return err
		})
		settle(t, ctx)
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		calls := 0
		if err := raw.Read(func(uintptr) bool { calls++; return true }); err != nil || calls != 1 {
			t.Errorf("Read: %v, %d calls", err, calls)
		}
		if err := raw.Write(func(uintptr) bool { calls++; return true }); err != nil || calls != 2 {
			t.Errorf("Write: %v, %d calls", err, calls)
		}
		if err := raw.Read(func(uintptr) bool { return false }); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a Read that would wait: %v", err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			return err
		}
		return ended(ctx, reader)
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
			tg.CreateTask(ctx, func(ctx context.Context) error {
				for range n {
					c, err := ln.AcceptContext(ctx)
					if err != nil {
						return err
					}
					tg.CreateTask(ctx, func(ctx context.Context) error {
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
				tg.CreateTask(ctx, func(ctx context.Context) error {
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
