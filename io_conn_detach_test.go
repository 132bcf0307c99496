package asyncio_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// outside runs fn on a goroutine and waits for it.
func outside(ctx context.Context, fn func() error) error {
	_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, fn() })
	return err
}

// narrow sets small buffers, so that little of what is written to client fits between it and
// server.
func narrow(t *testing.T, client, server *asyncio.Conn) {
	t.Helper()
	must(t, client.SetWriteBuffer(64<<10))
	must(t, server.SetReadBuffer(64<<10))
}

// writeUntilFull writes to c until its peer, which does not read, has stopped it. Then it gives up
// and returns what was accepted.
func writeUntilFull(t *testing.T, ctx context.Context, c *asyncio.Conn) []byte {
	t.Helper()
	all := pattern(4 << 20)
	n := 0
	writer := start(ctx, func(ctx context.Context) (err error) {
		n, err = c.Write(all)
		return err
	})
	must(t, stuck(ctx, c))
	writer.Cancel()
	if err := ended(ctx, writer); !errors.Is(err, asyncio.ErrCancelled) {
		t.Fatalf("Write: %v", err)
	}
	return all[:n]
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

// The peer reads nothing, so written bytes are still on their way when the connection is handed
// over. That does not stop the loop. These bytes go out before the goroutine's, even if the
// goroutine closes at once.
func TestConn_DetachWithWritesUnderWay(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for _, end := range []string{"write", "half-close", "close"} {
			client, server := connect(t, ctx)
			narrow(t, client, server)
			want := writeUntilFull(t, ctx, client)
			nc, err := client.Detach()
			if err != nil {
				return err
			}
			if end == "write" {
				want = append(want[:len(want):len(want)], "and more"...)
			}
			writer := start(ctx, func(ctx context.Context) error {
				return outside(ctx, func() error {
					switch end {
					case "half-close":
						return nc.(interface{ CloseWrite() error }).CloseWrite()
					case "write":
						if _, err := io.WriteString(nc, "and more"); err != nil {
							return err
						}
					}
					return nc.Close()
				})
			})
			got, err := io.ReadAll(server)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes came, or others, %v; want %d", end, len(got), err, len(want))
			}
			if err := ended(ctx, writer); err != nil {
				t.Errorf("%s: %v", end, err)
			}
			if end == "half-close" {
				if _, err := server.Write([]byte("bye")); err != nil {
					t.Error(err)
				}
				must(t, server.CloseWrite())
				must(t, outside(ctx, func() error {
					if got, err := io.ReadAll(nc); string(got) != "bye" || err != nil {
						t.Errorf("after half-close: %q, %v", got, err)
					}
					return nc.Close()
				}))
			}
			server.Close()
		}
		return nil
	})
}

// deaf is a connection that does not support deadlines.
type deaf struct{ net.Conn }

func (deaf) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// A goroutine has begun a read for a task, and nothing can interrupt that read. It is finished for
// the new owner, even if the loop is closed by then.
func TestConn_DetachWithAReadUnderWay(t *testing.T) {
	var nc net.Conn
	here, there := net.Pipe()
	onRealTime(t, func(ctx context.Context) error {
		c, err := asyncio.NewConn(ctx, deaf{here})
		if err != nil {
			return err
		}
		reader := start(ctx, func(ctx context.Context) error {
			_, err := c.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		reader.Cancel()
		if err := ended(ctx, reader); !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		nc, err = c.Detach()
		return err
	})
	go func() {
		_, _ = io.WriteString(there, "hello")
		there.Close()
	}()
	if got, err := io.ReadAll(nc); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	must(t, nc.Close())
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("read after Close")
	}
	if _, err := nc.Write(make([]byte, 1)); err == nil {
		t.Error("wrote after Close")
	}
}

// Closing a detached connection wakes its reader, even where a goroutine reads for it. A deadline
// does too.
func TestConn_DetachedCloseAndDeadline(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for _, end := range []string{"close", "deadline"} {
			client, server := connect(t, ctx)
			defer server.Close()
			reader := start(ctx, func(ctx context.Context) error {
				_, err := client.Read(make([]byte, 1))
				return err
			})
			settle(t, ctx)
			reader.Cancel()
			_ = ended(ctx, reader)
			nc, err := client.Detach()
			if err != nil {
				return err
			}
			if end == "deadline" {
				must(t, nc.SetReadDeadline(time.Now().Add(time.Millisecond)))
			}
			reader = start(ctx, func(ctx context.Context) error {
				return outside(ctx, func() error {
					_, err := nc.Read(make([]byte, 1))
					return err
				})
			})
			settle(t, ctx)
			if end == "deadline" {
				if err := ended(ctx, reader); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("deadline: %v", err)
				}
				// The connection still works after that.
				must(t, nc.SetReadDeadline(time.Time{}))
				if _, err := server.Write([]byte("x")); err != nil {
					return err
				}
				must(t, outside(ctx, func() error {
					_, err := nc.Read(make([]byte, 1))
					return errors.Join(err, nc.Close())
				}))
				continue
			}
			must(t, nc.Close())
			if err := ended(ctx, reader); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("close: %v", err)
			}
		}
		return nil
	})
}

// A goroutine has brought a datagram for a task that gave up. The datagram goes to the new owner
// whole, even if empty; the rest of one that is too long does not follow it.
func TestConn_DetachDatagrams(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		peer, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer peer.Close()
		for _, first := range []string{"", "a long one"} {
			c, err := asyncio.DialPacket(ctx, "udp", peer.LocalAddr().String())
			if err != nil {
				return err
			}
			reader := start(ctx, func(ctx context.Context) error {
				_, err := c.Read(make([]byte, 4))
				return err
			})
			settle(t, ctx)
			reader.Cancel()
			if err := ended(ctx, reader); !errors.Is(err, asyncio.ErrCancelled) {
				t.Error(err)
			}
			for _, d := range []string{first, "second"} {
				if _, err := peer.WriteTo([]byte(d), c.LocalAddr()); err != nil {
					return err
				}
			}
			nc, err := c.Detach()
			if err != nil {
				return err
			}
			must(t, outside(ctx, func() error {
				defer nc.Close()
				p := make([]byte, 6)
				for _, want := range []string{first[:min(6, len(first))], "second"} {
					if n, err := nc.Read(p); string(p[:n]) != want || err != nil {
						t.Errorf("%q, %v, want %q", p[:n], err, want)
					}
				}
				return nil
			}))
		}
		return nil
	})
}

// Bytes that a stream has read ahead no longer belong to the connection. So the handler passes them
// to the goroutine along with it, and the server is done with both.
func TestConn_DetachFromStreams(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		over := asyncio.CreateFuture[string](ctx)
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			if line, err := r.ReadLine(ctx); string(line) != "upgrade\n" || err != nil {
				return fmt.Errorf("%q, %w", line, err)
			}
			ahead, err := r.Read(ctx, r.Buffered())
			if err != nil {
				return err
			}
			nc, err := w.Conn().(*asyncio.Conn).Detach()
			if err != nil {
				return err
			}
			l := loop(t, ctx)
			go func() {
				defer nc.Close()
				got, err := io.ReadAll(io.MultiReader(bytes.NewReader(ahead), nc))
				_, _ = l.CallSoonThreadsafe(func() {
					if err != nil {
						_ = over.SetException(err)
						return
					}
					_ = over.SetResult(string(got))
				})
			}()
			return nil
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("upgrade\nat once ")); err != nil {
			return err
		}
		for server.Clients() == 0 {
			must(t, asyncio.Sleep(ctx, 0))
		}
		if err := server.Shutdown(ctx); err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("and later")); err != nil {
			return err
		}
		if err := w.Close(ctx); err != nil {
			return err
		}
		if got, err := over.Await(ctx); got != "at once and later" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

// TLS goes on in goroutines from where the tasks left it: with bytes decrypted but not read, with
// the rest of a cancelled Write, and then in both directions at once (tls 6).
func TestTLSConn_Detach(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		clientConfig, serverConfig := configs(t)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			clientConfig := clientConfig.Clone()
			clientConfig.MaxVersion = version
			client, server := connectTLS(t, ctx, clientConfig, serverConfig)
			reader := start(ctx, func(ctx context.Context) error {
				_, err := client.Read(make([]byte, 1))
				return err
			})
			settle(t, ctx)
			if _, err := client.Detach(); !errors.Is(err, asyncio.ErrBusy) {
				t.Errorf("Detach with a reader: %v", err)
			}
			reader.Cancel()
			if err := ended(ctx, reader); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("Read: %v", err)
			}
			// The client has read a part of a record.
			if _, err := server.Write([]byte("for the task, for the goroutine")); err != nil {
				return err
			}
			p := make([]byte, len("for the task, "))
			if _, err := io.ReadFull(client, p); string(p) != "for the task, " || err != nil {
				t.Errorf("%q, %v", p, err)
			}
			// One of its writes was cut short.
			narrow(t, client.NetConn(), server.NetConn())
			want := pattern(4 << 20)
			accepted := 0
			writer := start(ctx, func(ctx context.Context) (err error) {
				accepted, err = client.Write(want)
				return err
			})
			if err := stuck(ctx, client.NetConn()); err != nil {
				return err
			}
			if _, err := client.Detach(); !errors.Is(err, asyncio.ErrBusy) {
				t.Errorf("Detach with a writer: %v", err)
			}
			writer.Cancel()
			if err := ended(ctx, writer); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("Write: %v", err)
			}
			nc, err := client.Detach()
			if err != nil {
				return err
			}
			if _, err := client.Read(p); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read after Detach: %v", err)
			}
			if _, err := client.Detach(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Detach twice: %v", err)
			}
			if state := nc.ConnectionState(); state.Version != version {
				t.Errorf("version %x", state.Version)
			}
			more := pattern(1 << 20)
			goroutines := []*asyncio.Task[asyncio.None]{
				start(ctx, func(ctx context.Context) error {
					return outside(ctx, func() error {
						_, err := nc.Write(more)
						return errors.Join(err, nc.CloseWrite())
					})
				}),
				start(ctx, func(ctx context.Context) error {
					return outside(ctx, func() error {
						got, err := io.ReadAll(nc)
						if want := append([]byte("for the goroutine"), more...); !bytes.Equal(got, want) {
							err = errors.Join(err, fmt.Errorf("%d bytes came to the goroutine, or others, want %d", len(got), len(want)))
						}
						return err
					})
				}),
				start(ctx, func(ctx context.Context) error {
					if _, err := server.Write(more); err != nil {
						return err
					}
					return server.CloseWrite()
				}),
			}
			got, err := io.ReadAll(server)
			if err != nil || !bytes.Equal(got, append(want[:accepted:accepted], more...)) {
				t.Errorf("%d bytes came, or others, %v; want %d", len(got), err, accepted+len(more))
			}
			for _, g := range goroutines {
				if err := ended(ctx, g); err != nil {
					t.Error(err)
				}
			}
			must(t, nc.SetReadDeadline(time.Now()))
			must(t, errors.Join(nc.Close(), server.Close()))
		}
		return nil
	})
}
