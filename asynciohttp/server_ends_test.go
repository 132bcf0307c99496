package asynciohttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A running server, on the host of the test itself.
type running struct {
	*asynciohttp.Server
	task *asyncio.Task[asyncio.None]
	addr string
}

// local runs body beside a server at :80 of its own loop, on virtual time. The server is a new one
// with the handler and the hook of s, because a simulation that fails is run again.
func local(t *testing.T, s *asynciohttp.Server, body func(ctx context.Context, r *running) error) {
	t.Helper()
	sim.Run(t, func(ctx context.Context) error { return beside(ctx, s, body) })
}

// real is local on the machine's clock and network.
func real(t *testing.T, s *asynciohttp.Server, body func(ctx context.Context, r *running) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return beside(ctx, s, body) })
	}), asyncio.DebugMode(true))
	if err != nil {
		t.Error(err)
	}
}

func beside(ctx context.Context, s *asynciohttp.Server, body func(ctx context.Context, r *running) error) error {
	s = &asynciohttp.Server{Handler: s.Handler, ConnState: s.ConnState, ErrorLog: discarded}
	ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return s.Serve(ctx, ln) }))
	err = body(ctx, &running{s, task, ln.Addr().String()})
	_ = s.Close()
	_, _ = task.Await(ctx)
	return err
}

// connect sends a request to the local server on a connection of its own.
func (r *running) connect(ctx context.Context, raw string) (*caller, error) {
	c, err := asyncio.Dial(ctx, "tcp", r.addr)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, raw)
	return &caller{c, bufio.NewReader(c)}, err
}

// Shutdown closes idle connections at once, waits for handlers, and drops no request.
func TestServer_Shutdown(t *testing.T) {
	var states []string
	called := 0
	s := &asynciohttp.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.URL.Path[1:])
			fmt.Fprint(w, asyncio.Sleep(r.Context(), d))
		}),
		ConnState: func(c net.Conn, state http.ConnState) { states = append(states, state.String()) },
	}
	local(t, s, func(ctx context.Context, s *running) error {
		states = nil
		s.RegisterOnShutdown(func() { called++ })
		idle, err := s.connect(ctx, "GET /0s HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			return err
		}
		if _, _, err := idle.response(); err != nil {
			return err
		}
		active, err := s.connect(ctx, "GET /10s HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			return err
		}
		silent, err := s.connect(ctx, "")
		if err != nil {
			return err
		}
		fresh, err := s.connect(ctx, "")
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		begin := clock(ctx)
		over := asyncio.CreateTask(ctx, asyncio.Do(s.Shutdown))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if _, err := s.task.Await(ctx); err != http.ErrServerClosed || clock(ctx) != begin {
			t.Errorf("Serve returned %v after %v", err, clock(ctx)-begin)
		}
		if rest, err := idle.closed(); rest != "" || err != nil || !about(clock(ctx)-begin, 0) {
			t.Errorf("the idle connection: %q, %v after %v", rest, err, clock(ctx)-begin)
		}
		if _, err := asyncio.Dial(ctx, "tcp", s.addr); err == nil {
			t.Error("the server still listens")
		}
		r, body, err := fresh.get("/1s")
		if err != nil || body != "<nil>" || !r.Close {
			t.Errorf("a request on a connection that was new: %q, %v, close %v", body, err, r.Close)
		}
		if rest, err := silent.closed(); rest != "" || err != nil || !about(clock(ctx)-begin, 4*time.Second) {
			t.Errorf("the silent connection: %q, %v after %v", rest, err, clock(ctx)-begin)
		}
		if r, body, err = active.response(); err != nil || body != "<nil>" || !r.Close {
			t.Errorf("the active connection: %q, %v", body, err)
		}
		if _, err := over.Await(ctx); err != nil || !about(clock(ctx)-begin, 8900*time.Millisecond) {
			t.Errorf("Shutdown returned %v after %v", err, clock(ctx)-begin)
		}
		if called != 1 {
			t.Errorf("the function that was registered has been called %d times", called)
		}
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("another Shutdown: %v", err)
		}
		if err := s.ListenAndServe(ctx); err != http.ErrServerClosed {
			t.Errorf("ListenAndServe afterwards: %v", err)
		}
		for _, c := range []*caller{idle, active, silent, fresh} {
			_ = c.Close()
		}
		return nil
	})
	slices.Sort(states)
	if got := strings.Join(states, " "); got != "active active active closed closed closed closed idle new new new new" {
		t.Errorf("states: %s", got)
	}
}

// A request that has arrived when Shutdown is called is answered, whichever of the two tasks runs
// first then.
func TestServer_ShutdownDropsNoRequest(t *testing.T) {
	const latency = 20 * time.Microsecond // of the simulated network within a host
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	sim.Explore(t, func(ctx context.Context) error {
		return beside(ctx, s, func(ctx context.Context, s *running) error {
			c, err := s.connect(ctx, get())
			if err != nil {
				return err
			}
			defer c.Close()
			if _, _, err := c.response(); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, time.Second/2); err != nil {
				return err
			}
			if _, err := io.WriteString(c, get()); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, latency); err != nil {
				return err
			}
			if err := s.Shutdown(ctx); err != nil {
				return err
			}
			_, _, err = c.response()
			return err
		})
	}, sim.Runs(100))
}

// The end of the context, or a cancel, ends Shutdown's wait; Close ends the rest.
func TestServer_Close(t *testing.T) {
	var ended error
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ended = asyncio.Sleep(r.Context(), time.Hour); ended == nil {
			t.Error("the handler was not stopped")
		}
	})}
	local(t, s, func(ctx context.Context, s *running) error {
		c, err := s.connect(ctx, get())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Shutdown(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := s.Server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		rest, err := c.closed()
		if rest != "" || err != nil {
			t.Errorf("the connection: %q, %v", rest, err)
		}
		if err := s.Shutdown(ctx); err != nil || !errors.Is(ended, asyncio.ErrCancelled) {
			t.Errorf("Shutdown after Close: %v; the handler's sleep: %v", err, ended)
		}
		return nil
	})
}

// A cancelled Serve waits for the current requests; a second cancel interrupts them.
func TestServer_ServeIsCancelled(t *testing.T) {
	for _, twice := range []bool{false, true} {
		var ended error
		s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ended = asyncio.Sleep(r.Context(), time.Minute)
		})}
		local(t, s, func(ctx context.Context, s *running) error {
			c, err := s.connect(ctx, get())
			if err != nil {
				return err
			}
			defer c.Close()
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			begin := clock(ctx)
			s.task.Cancel("stop")
			want := 59 * time.Second
			if twice {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				s.task.Cancel("stop now")
				want = time.Second
			}
			_, err = s.task.Await(ctx)
			if !errors.Is(err, asyncio.ErrCancelled) || !s.task.Cancelled() || !about(clock(ctx)-begin, want) {
				t.Errorf("Serve returned %v after %v, want a cancel after %v", err, clock(ctx)-begin, want)
			}
			_, _, err = c.response()
			if twice == (err == nil) || twice != errors.Is(ended, asyncio.ErrCancelled) {
				t.Errorf("twice %v: answered %v; the handler's sleep: %v", twice, err, ended)
			}
			return nil
		})
	}
}

// Misuse of a server is refused.
func TestServer_Misuse(t *testing.T) {
	if err := new(asynciohttp.Server).Serve(context.Background(), nil); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Errorf("outside of a loop: %v", err)
	}
	s := &asynciohttp.Server{Handler: http.NotFoundHandler()}
	real(t, s, func(ctx context.Context, s *running) error {
		if err := s.Serve(ctx, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a nil listener: %v", err)
		}
		if err := s.ServeTLS(ctx, nil, "no.pem", "no.pem"); err == nil {
			t.Error("a certificate that does not exist")
		}
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 0, s.Server.Close() })
		if !errors.Is(err, asyncio.ErrForeignGoroutine) {
			t.Errorf("Close by another goroutine: %v", err)
		}
		return s.Server.Close()
	})
}
