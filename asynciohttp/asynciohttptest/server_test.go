package asynciohttptest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// worlds are where tests run: on real sockets, on a virtual clock, on a simulated host.
var worlds = map[string]func(t *testing.T, main func(ctx context.Context) error){
	"real": func(t *testing.T, main func(ctx context.Context) error) {
		if _, err := asyncio.Run(t.Context(), asyncio.Do(main), asyncio.DebugMode(true)); err != nil {
			t.Error(err)
		}
	},
	"virtual": func(t *testing.T, main func(ctx context.Context) error) { sim.Run(t, main) },
	"host": func(t *testing.T, main func(ctx context.Context) error) {
		sim.Run(t, func(ctx context.Context) error { return sim.NewHost(ctx, "host", main).Wait(ctx) })
	},
}

// get sends a request and returns the body of the response.
func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// A server answers its client, with TLS or without, wherever it runs, and nothing is left of it
// when it is closed.
func TestServer(t *testing.T) {
	for scheme, start := range map[string]func(context.Context, http.Handler) (*asynciohttptest.Server, error){
		"http": asynciohttptest.NewServer, "https": asynciohttptest.NewTLSServer,
	} {
		for name, run := range worlds {
			t.Run(scheme+"/"+name, func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					peers := make(map[string]bool)
					srv, err := start(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						peers[r.RemoteAddr] = true
						if err := asyncio.Sleep(r.Context(), time.Millisecond); err != nil {
							t.Error(err)
						}
						fmt.Fprint(w, r.Host, r.URL.Path, r.TLS != nil)
					}))
					if err != nil {
						return err
					}
					defer srv.Close()
					addr := srv.Listener.Addr().String()
					for url, want := range map[string]string{
						srv.URL + "/a":                     addr + "/a",
						scheme + "://example.com/b":        "example.com/b",
						scheme + "://shop.example.com:8/c": "shop.example.com:8/c",
					} {
						for range 2 {
							got, err := get(ctx, srv.Client(), url)
							if want := want + fmt.Sprint(scheme == "https"); got != want || err != nil {
								t.Errorf("GET %s: %q, %v; want %q", url, got, err, want)
							}
						}
					}
					if len(peers) != 3 {
						t.Errorf("six requests, to three hosts, came by %d connections", len(peers))
					}
					if (srv.Certificate() != nil) != (scheme == "https") {
						t.Errorf("the certificate is %v", srv.Certificate())
					}
					if err := srv.Close(); err != nil {
						return err
					}
					if c, err := asyncio.Dial(ctx, "tcp", addr); err == nil {
						t.Error("a closed server accepts")
						return c.Close()
					}
					return srv.Close()
				})
			})
		}
	}
}

// Close waits for requests, not for connections without one.
func TestServer_Close(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		srv, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := asyncio.Sleep(r.Context(), time.Second); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, "done")
		}))
		if err != nil {
			return err
		}
		fresh, err := asyncio.Dial(ctx, "tcp", srv.Listener.Addr().String())
		if err != nil {
			return err
		}
		defer fresh.Close()
		if _, err := get(ctx, srv.Client(), srv.URL); err != nil { // leaves an idle connection
			return err
		}
		other := &http.Client{Transport: srv.Client().Transport}
		answer := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return get(ctx, other, srv.URL) })
		if err := asyncio.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		begin := l.Time()
		if err := srv.Close(); err != nil {
			return err
		}
		if took := l.Time().Sub(begin); took < 499*time.Millisecond || took > 510*time.Millisecond {
			t.Errorf("Close took %v, with half a second of a request to go", took)
		}
		if got, err := answer.Await(ctx); got != "done" || err != nil {
			t.Errorf("the request under way: %q, %v", got, err)
		}
		_, err = fresh.Read(make([]byte, 1))
		if err != io.EOF {
			t.Errorf("the connection without a request: %v", err)
		}
		return nil
	})
}

// A Close that is cancelled ends the requests, and waits for their handlers.
func TestServer_CloseCancelled(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		var ended, cleaned error = nil, errors.New("the handler is not done")
		srv, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ended = asyncio.Sleep(r.Context(), time.Hour)
			cleaned = asyncio.Cleanup(r.Context(), time.Hour, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Minute) })
		}))
		if err != nil {
			return err
		}
		asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			_, err := get(ctx, srv.Client(), srv.URL)
			if err == nil {
				t.Error("the request was answered")
			}
			return "", nil
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		err = asyncio.Timeout(ctx, time.Second, func(context.Context, *asyncio.TimeoutScope) error { return srv.Close() })
		var late *asyncio.TimeoutError
		if !errors.As(err, &late) {
			t.Errorf("Close: %v", err)
		}
		if !errors.Is(ended, asyncio.ErrCancelled) || cleaned != nil {
			t.Errorf("the handler's Sleep: %v, cleaning up: %v", ended, cleaned)
		}
		return nil
	})
}

// A server that nobody closes ends with the run.
func TestServer_NotClosed(t *testing.T) {
	for name, run := range worlds {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				srv, err := asynciohttptest.NewServer(ctx, http.NotFoundHandler())
				if err != nil {
					return err
				}
				_, err = get(ctx, srv.Client(), srv.URL)
				return err
			})
		})
	}
}

func TestServer_CloseClientConnections(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		srv, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				_ = asyncio.Sleep(r.Context(), time.Second)
			}
			fmt.Fprint(w, "done")
		}))
		if err != nil {
			return err
		}
		defer srv.Close()
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.CallLater(100*time.Millisecond, srv.CloseClientConnections)
		if got, err := get(ctx, srv.Client(), srv.URL+"/slow"); err == nil {
			t.Errorf("the request was answered with %q", got)
		}
		got, err := get(ctx, srv.Client(), srv.URL)
		if got != "done" {
			t.Errorf("a request on a new connection: %q, %v", got, err)
		}
		return err
	})
}

// The configuration of a server that is not started yet.
func TestServer_Unstarted(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		var states []http.ConnState
		srv, err := asynciohttptest.NewUnstartedServer(ctx, http.NotFoundHandler())
		if err != nil {
			return err
		}
		if srv.Client() != nil || srv.URL != "" {
			t.Error("a server that is not started has a client or a URL")
		}
		srv.Config.ConnState = func(_ net.Conn, state http.ConnState) { states = append(states, state) }
		srv.Start()
		if _, err := get(ctx, srv.Client(), srv.URL); err != nil {
			return err
		}
		if err := srv.Close(); err != nil {
			return err
		}
		if want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed}; !slices.Equal(states, want) {
			t.Errorf("the states of the connection are %v, want %v", states, want)
		}
		other, err := asynciohttptest.NewUnstartedServer(ctx, http.NotFoundHandler())
		if err != nil {
			return err
		}
		return other.Close()
	})
}

// EnableHTTP2 decides what a client is offered.
func TestServer_HTTP2(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		sim.Run(t, func(ctx context.Context) error {
			srv, err := asynciohttptest.NewUnstartedServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
			if err != nil {
				return err
			}
			srv.EnableHTTP2 = enabled
			srv.StartTLS()
			defer srv.Close()
			got, err := get(ctx, srv.Client(), srv.URL)
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[enabled]; got != want || err != nil {
				t.Errorf("with EnableHTTP2 = %t the client speaks %q, %v", enabled, got, err)
			}
			c, err := asyncio.Dial(ctx, "tcp", srv.Listener.Addr().String())
			if err != nil {
				return err
			}
			s, err := asyncio.TLSClient(ctx, c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
			if err != nil {
				return err
			}
			if got, want := s.ConnectionState().NegotiatedProtocol, map[bool]string{false: "http/1.1", true: "h2"}[enabled]; got != want {
				t.Errorf("with EnableHTTP2 = %t the server speaks %s", enabled, got)
			}
			return s.Close()
		})
	}
}

// A loop without a network says so.
func TestServer_NoNetwork(t *testing.T) {
	ctx := asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop)
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		_, err := asynciohttptest.NewServer(ctx, http.NotFoundHandler())
		return err
	}))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// Close closes the client's idle connections, to other servers too.
func TestServer_CloseOfTheClient(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		one, err := asynciohttptest.NewServer(ctx, http.NotFoundHandler())
		if err != nil {
			return err
		}
		other, err := asynciohttptest.NewUnstartedServer(ctx, http.NotFoundHandler())
		if err != nil {
			return err
		}
		state := http.StateNew
		other.Config.ConnState = func(_ net.Conn, s http.ConnState) { state = s }
		other.Start()
		req, err := http.NewRequestWithContext(ctx, "GET", other.URL, nil)
		if err != nil {
			return err
		}
		resp, err := one.Client().Do(req)
		if err != nil {
			return err
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			return err
		}
		if err := errors.Join(resp.Body.Close(), sim.Advance(ctx, time.Second)); err != nil {
			return err
		}
		if state != http.StateIdle {
			t.Errorf("the connection is %v before Close", state)
		}
		if err := errors.Join(one.Close(), sim.Advance(ctx, time.Second)); err != nil {
			return err
		}
		if state != http.StateClosed {
			t.Errorf("the connection is %v after Close", state)
		}
		return other.Close()
	})
}
