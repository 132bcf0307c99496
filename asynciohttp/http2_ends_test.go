package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// TestHTTP2_ContextEnds when the client resets the stream, and when it leaves.
func TestHTTP2_ContextEnds(t *testing.T) {
	for name, end := range map[string]func(c *h2Client) error{
		"reset": func(c *h2Client) error { return c.WriteRSTStream(1, http2.ErrCodeCancel) },
		"gone":  func(c *h2Client) error { return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var got error
			config := h2Config(t, func(_ http.ResponseWriter, r *http.Request) { got = asyncio.Sleep(r.Context(), time.Hour) })
			overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
				if err := errors.Join(c.get(1, "/"), pause(ctx), end(c), pause(ctx)); err != nil {
					return err
				}
				if !errors.Is(got, asyncio.ErrCancelled) {
					return fmt.Errorf("the handler's await returns %v", got)
				}
				return nil
			})
		})
	}
}

// TestHTTP2_RequestThatIsResetHasNoHandler, if that has not begun.
func TestHTTP2_RequestThatIsResetHasNoHandler(t *testing.T) {
	begun := 0
	overHTTP2(t, h2Config(t, func(http.ResponseWriter, *http.Request) { begun++ }), func(ctx context.Context, c *h2Client) error {
		// Both frames in one write, so the server has both before the handler's task begins.
		var both h2Client
		both.Framer = http2.NewFramer(&both.block, nil)
		if err := errors.Join(both.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("GET", "/")...), EndHeaders: true, EndStream: true}),
			both.WriteRSTStream(1, http2.ErrCodeCancel)); err != nil {
			return err
		}
		if _, err := c.Write(both.block.Bytes()); err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
		if begun != 0 {
			return errors.New("a request that was reset has a handler")
		}
		return nil
	})
}

// TestHTTP2_PlaceInTheQueue: a handler that gives its place up leaves it to the next, although it
// goes on itself.
func TestHTTP2_PlaceInTheQueue(t *testing.T) {
	config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
		write := func() error {
			_, _ = io.WriteString(w, r.URL.Path)
			return http.NewResponseController(w).Flush()
		}
		switch r.URL.Path {
		case "/takes-all": // of the connection's window
			_, _ = w.Write(make([]byte, 65535))
			return
		case "/waits":
			_ = write()
			return
		}
		_ = asyncio.Timeout(r.Context(), time.Second, func(context.Context, *asyncio.TimeoutScope) error { return write() })
		_ = asyncio.Sleep(r.Context(), time.Hour)
	})
	overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
		err := errors.Join(c.get(1, "/takes-all"), pause(ctx), c.get(3, "/gives-up"), c.get(5, "/waits"), asyncio.Sleep(ctx, 5*time.Second), c.WriteWindowUpdate(0, 100))
		if err != nil {
			return err
		}
		for _, line := range c.frames(ctx, time.Minute) {
			if line == `5 data "/waits"` {
				return nil
			}
		}
		return errors.New("the one that waits behind gets no place")
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
}

// TestHTTP2_OneTaskAtATime: a second task that writes, or reads, is refused.
func TestHTTP2_OneTaskAtATime(t *testing.T) {
	var wrote, read []error
	config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
		_ = asyncio.RunTaskGroup(r.Context(), func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range 2 {
				tg.CreateTask(ctx, func(context.Context) error {
					_, err := w.Write(make([]byte, 10000))
					wrote = append(wrote, err)
					return nil
				})
				tg.CreateTask(ctx, func(context.Context) error {
					_, err := r.Body.Read(make([]byte, 10))
					read = append(read, err)
					return nil
				})
			}
			return nil
		})
	})
	overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
		err := errors.Join(c.send(1, false, request("POST", "/")...), pause(ctx), c.WriteWindowUpdate(1, 1<<20), c.WriteData(1, true, []byte("body")), pause(ctx))
		if err != nil {
			return err
		}
		for _, errs := range [][]error{wrote, read} {
			if len(errs) != 2 || !errors.Is(errs[0], asyncio.ErrBusy) || errs[1] != nil {
				return fmt.Errorf("the tasks that write get %v, those that read %v", wrote, read)
			}
		}
		return nil
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
}

// TestHTTP2_ServerEnds: a shutdown, and the first cancel of Serve, let the handlers end; the second
// cancels them. Serve waits for them in every case.
func TestHTTP2_ServerEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(ctx context.Context, server *asynciohttp.Server, serving *asyncio.Task[asyncio.None]) error
		want string
	}{
		{"shutdown", func(ctx context.Context, server *asynciohttp.Server, _ *asyncio.Task[asyncio.None]) error {
			return server.Shutdown(ctx)
		}, "slept"},
		{"keep-alives are turned off", func(ctx context.Context, server *asynciohttp.Server, serving *asyncio.Task[asyncio.None]) error {
			server.SetKeepAlivesEnabled(false)
			return asyncio.Sleep(ctx, time.Hour)
		}, "slept"},
		{"a cancel", func(ctx context.Context, _ *asynciohttp.Server, serving *asyncio.Task[asyncio.None]) error {
			serving.Cancel()
			_, _ = serving.Await(ctx)
			return nil
		}, "slept"},
		{"two cancels", func(ctx context.Context, _ *asynciohttp.Server, serving *asyncio.Task[asyncio.None]) error {
			serving.Cancel()
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			serving.Cancel()
			_, _ = serving.Await(ctx)
			return nil
		}, "cancelled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			what := ""
			config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
				// A context of its own, so only a cancel of the task ends the sleep.
				l, _ := asyncio.GetRunningLoop(r.Context())
				if err := asyncio.Sleep(l.Context(), time.Minute); errors.Is(err, asyncio.ErrCancelled) {
					what = "cancelled"
				} else if err == nil {
					what = "slept"
				}
			})
			sim.Run(t, func(ctx context.Context) error {
				server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
					l, err := asyncio.Listen(ctx, "tcp", ":80")
					if err != nil {
						return err
					}
					s := asynciohttp.NewServer(config)
					serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
						err := s.Serve(ctx, l)
						if errors.Is(err, http.ErrServerClosed) {
							err = nil
						}
						return err
					}))
					if err := errors.Join(asyncio.Sleep(ctx, 10*time.Second), test.end(ctx, s, serving)); err != nil {
						return err
					}
					if what != test.want {
						return fmt.Errorf("the server has ended, and the handler has %q, want %q", what, test.want)
					}
					return nil
				})
				sim.NewHost(ctx, "client", func(ctx context.Context) error {
					c, err := dialHTTP2(ctx, "server:80")
					if err != nil {
						return err
					}
					defer c.Close()
					if err := c.get(1, "/"); err != nil {
						return err
					}
					lines := c.frames(ctx, 2*time.Hour)
					if len(lines) == 0 || lines[len(lines)-1] != "EOF" && test.want == "slept" {
						return fmt.Errorf("the connection does not end: %q", lines)
					}
					return nil
				})
				return server.Wait(ctx)
			})
		})
	}
}

// TestHTTP2_FirstWindow: a client may use a window of 65535 bytes until it has heard of a smaller
// one.
func TestHTTP2_FirstWindow(t *testing.T) {
	config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 8 << 10}
	overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
		if err := c.send(1, false, request("POST", "/")...); err != nil {
			return err
		}
		for i := range 3 {
			if err := c.WriteData(1, i == 2, make([]byte, 16<<10)); err != nil {
				return err
			}
		}
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return err
			}
			switch f := f.(type) {
			case *http2.RSTStreamFrame:
				return fmt.Errorf("reset: %v", f.ErrCode)
			case *http2.DataFrame:
				if got := string(f.Data()); got != "49152 <nil>" {
					return fmt.Errorf("%q", got)
				}
				return nil
			}
		}
	})
}
