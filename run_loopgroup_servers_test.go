package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// withServers runs main on a group of three loops, on the system's poller and on the portable one.
func withServers(t *testing.T, main func(t *testing.T, ctx context.Context, g *asyncio.LoopGroup) error) {
	t.Helper()
	for name, make := range map[string]func() *driver.Real{"poller": driver.NewReal, "portable": driver.NewPortable} {
		t.Run(name, func(t *testing.T) {
			var r reports
			factory := func(ctx context.Context) *asyncio.EventLoop {
				l := asyncio.NewEventLoop(driver.With(ctx, make()))
				l.SetDebug(true)
				l.SetExceptionHandler(r.handle)
				return l
			}
			_, err := asyncio.RunLoopGroup(t.Context(), 3, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
				return asyncio.None{}, limited(t, ctx, func(t *testing.T, ctx context.Context) error { return main(t, ctx, g) })
			}, asyncio.LoopFactory(factory))
			must(t, err)
			for _, c := range r.all {
				t.Errorf("exception handler: %s: %v", c.Message, c.Exception)
			}
		})
	}
}

// announcing is a handler that first sends the index of the loop it runs on and then echoes. served
// has one number for each loop. It needs no lock, because each loop touches only its own number.
func announcing(t *testing.T, g *asyncio.LoopGroup, served []int) asyncio.Handler {
	return func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		i := where(t, ctx, g)
		served[i]++
		if _, err := fmt.Fprintf(w.Writer(ctx), "loop %d\n", i); err != nil {
			return err
		}
		return echo(ctx, r, w)
	}
}

// talk connects to address with open, sends data back and forth, and returns the loop that the
// server announced.
func talk(ctx context.Context, address string, open func(context.Context, string) (*asyncio.StreamReader, *asyncio.StreamWriter, error)) (who string, err error) {
	r, w, err := open(ctx, address)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	line, err := r.ReadLine(ctx)
	if err != nil {
		return "", err
	}
	want := pattern(70_000)
	sending := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return w.Write(ctx, want) })
	got, err := r.ReadExactly(ctx, len(want))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, want) {
		return "", errors.New("what came back is not what was sent")
	}
	if _, err := sending.Await(ctx); err != nil {
		return "", err
	}
	if err := w.WriteEOF(ctx); err != nil {
		return "", err
	}
	if rest, err := r.Read(ctx, -1); len(rest) > 0 || err != nil {
		return "", fmt.Errorf("at the end: %q, %w", rest, err)
	}
	return strings.TrimSpace(string(line)), w.Close(ctx)
}

// There is a server on each loop. Each has clients on every loop, with and without TLS.
func TestLoopGroup_ServerOnEachLoop(t *testing.T) {
	client, server := configs(t)
	for _, c := range []struct {
		name   string
		server []asyncio.StreamOption
		open   func(context.Context, string) (*asyncio.StreamReader, *asyncio.StreamWriter, error)
	}{
		{"clear", nil, func(ctx context.Context, address string) (*asyncio.StreamReader, *asyncio.StreamWriter, error) {
			return asyncio.OpenConnection(ctx, address)
		}},
		{"tls", []asyncio.StreamOption{asyncio.StreamTLS(server)}, func(ctx context.Context, address string) (*asyncio.StreamReader, *asyncio.StreamWriter, error) {
			return asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(client))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			withServers(t, func(t *testing.T, ctx context.Context, g *asyncio.LoopGroup) error {
				const each = 3 // clients on each loop of each server
				served := make([]int, g.Len())
				servers := make([]*asyncio.Server, g.Len())
				addresses := make([]string, g.Len())
				if err := g.Each(ctx, func(ctx context.Context, i int) (err error) {
					// otherwise ctx would end with this function, and the server with it (server 4)
					ctx = context.WithoutCancel(ctx)
					if servers[i], err = asyncio.StartServer(ctx, announcing(t, g, served), "127.0.0.1:0", c.server...); err == nil {
						addresses[i] = servers[i].Addrs()[0].String()
					}
					return err
				}); err != nil {
					return err
				}
				if err := g.Each(ctx, func(ctx context.Context, i int) error {
					return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
						for j, address := range addresses {
							for range each {
								tg.CreateTask(ctx, func(ctx context.Context) error {
									who, err := talk(ctx, address, c.open)
									if want := fmt.Sprintf("loop %d", j); err == nil && who != want {
										err = fmt.Errorf("%q answered, want %q", who, want)
									}
									return err
								})
							}
						}
						return nil
					})
				}); err != nil {
					return err
				}
				// A server belongs to its loop.
				if err := servers[1].Shutdown(ctx); !errors.Is(err, asyncio.ErrDifferentLoop) {
					t.Errorf("Shutdown from another loop: %v", err)
				}
				for name, fn := range map[string]func(){"Close": servers[1].Close, "CloseClients": servers[1].CloseClients, "AbortClients": servers[1].AbortClients} {
					if err := panicOf(fn); !errors.Is(err, asyncio.ErrForeignGoroutine) {
						t.Errorf("%s from another loop: %v", name, err)
					}
				}
				if err := g.Each(ctx, func(ctx context.Context, i int) error { return servers[i].Shutdown(ctx) }); err != nil {
					return err
				}
				if want := each * g.Len(); slices.Min(served) != want || slices.Max(served) != want {
					t.Errorf("served %v, want %d each", served, want)
				}
				return nil
			})
		})
	}
}

// All loops serve at one address. The system deals the connections out; for a Unix socket a
// goroutine does. One loop's server closes first, and no client of the others notices.
func TestLoopGroup_ServersAtOneAddress(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue // the path of a temporary directory may be too long there
		}
		t.Run(network, func(t *testing.T) {
			withServers(t, func(t *testing.T, ctx context.Context, g *asyncio.LoopGroup) error {
				address, open := "127.0.0.1:0", func(ctx context.Context, address string) (*asyncio.StreamReader, *asyncio.StreamWriter, error) {
					return asyncio.OpenConnection(ctx, address)
				}
				if network == "unix" {
					address, open = t.TempDir()+"/s", func(ctx context.Context, address string) (*asyncio.StreamReader, *asyncio.StreamWriter, error) {
						return asyncio.OpenUnixConnection(ctx, address)
					}
				}
				listeners, err := g.Listen(ctx, network, address)
				if err != nil {
					return err
				}
				address = listeners[0].Addr().String()
				served := make([]int, g.Len())
				servers := make([]*asyncio.Server, g.Len())
				serving := start(ctx, func(ctx context.Context) error {
					return g.Each(ctx, func(ctx context.Context, i int) error {
						servers[i] = asyncio.NewServer(ctx, listeners[i:i+1], announcing(t, g, served))
						return servers[i].Serve(ctx)
					})
				})
				const each = 10 // clients on each loop
				var answers atomic.Int64
				clients := func(ctx context.Context) error {
					return g.Each(ctx, func(ctx context.Context, i int) error {
						return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
							for range each {
								tg.CreateTask(ctx, func(ctx context.Context) error {
									who, err := talk(ctx, address, open)
									if strings.HasPrefix(who, "loop ") {
										answers.Add(1)
									}
									return err
								})
							}
							return nil
						})
					})
				}
				if err := clients(ctx); err != nil {
					return err
				}
				counts := make([]int, g.Len())
				if err := g.Each(ctx, func(ctx context.Context, i int) error { counts[i] = served[i]; return nil }); err != nil {
					return err
				}
				if network == "tcp" && runtime.GOOS == "linux" && slices.Min(counts) == 0 {
					t.Errorf("served %v: the system did not deal them out", counts)
				}
				if _, err := asyncio.Call(ctx, g.Loop(1), asyncio.Do(servers[1].Shutdown)); err != nil {
					return err
				}
				if err := clients(ctx); err != nil {
					return err
				}
				if n := answers.Load(); n != int64(2*each*g.Len()) {
					t.Errorf("%d answers", n)
				}
				serving.Cancel() // ends the other two
				if err := ended(ctx, serving); !errors.Is(err, asyncio.ErrCancelled) {
					t.Errorf("Serve = %v", err)
				}
				if r, w, err := open(ctx, address); err == nil {
					w.Abort()
					t.Errorf("somebody still listens: %v", r)
				}
				return nil
			})
		})
	}
}

// A connection moves to another loop, which reads the bytes that the first loop did not.
func TestConn_FromLoopToLoop(t *testing.T) {
	withServers(t, func(t *testing.T, ctx context.Context, g *asyncio.LoopGroup) error {
		client, server := connect(t, ctx)
		defer client.Close()
		want := pattern(1 << 20)
		writer := start(ctx, func(ctx context.Context) error {
			if _, err := client.Write(want); err != nil {
				return err
			}
			return client.CloseWrite()
		})
		got := make([]byte, 1000)
		n, err := server.Read(got)
		if err != nil {
			return err
		}
		nc, err := server.Detach()
		if err != nil {
			return err
		}
		rest, err := asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) ([]byte, error) {
			c, err := asyncio.NewConn(ctx, nc)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			var all []byte
			p := make([]byte, 10_000)
			for {
				n, err := c.ReadContext(ctx, p)
				all = append(all, p[:n]...)
				if err != nil {
					if err == io.EOF {
						err = nil
					}
					return all, err
				}
			}
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(append(got[:n], rest...), want) {
			t.Errorf("%d bytes came, or others, want %d", n+len(rest), len(want))
		}
		if _, err := server.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("on the first loop: %v", err)
		}
		return ended(ctx, writer)
	})
}
