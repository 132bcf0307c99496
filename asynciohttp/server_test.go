package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
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

// A caller is a client's connection, for requests and responses by hand.
type caller struct {
	*asyncio.Conn
	r *bufio.Reader
}

func call(ctx context.Context) (*caller, error) {
	c, err := asyncio.Dial(ctx, "tcp", "server:80")
	if err != nil {
		return nil, err
	}
	return &caller{c, bufio.NewReader(c)}, nil
}

// get sends a request and returns the response, with its body.
func (c *caller) get(path string, lines ...string) (*http.Response, string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", path, strings.Join(append(lines, "X: y"), "\r\n")); err != nil {
		return nil, "", err
	}
	return c.response()
}

func (c *caller) response() (*http.Response, string, error) {
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(r.Body)
	return r, string(body), err
}

// closed reports whether the server closes the connection, and says what comes first.
func (c *caller) closed() (string, error) {
	rest, err := io.ReadAll(c.r)
	return string(rest), err
}

// handlers serves a map of paths.
func handlers(m map[string]http.HandlerFunc) func() *asynciohttp.Server {
	return func() *asynciohttp.Server {
		mux := http.NewServeMux()
		for path, h := range m {
			mux.HandleFunc(path, h)
		}
		return &asynciohttp.Server{Handler: mux}
	}
}

// clock returns the time since the start of the loop of ctx.
func clock(ctx context.Context) time.Duration {
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		panic(err)
	}
	return l.Time().SinceStart()
}

// about reports whether d is want, or little later.
func about(d, want time.Duration) bool { return d >= want && d < want+200*time.Millisecond }

// serve 1: a handler is a task and may suspend; each connection waits for its own.
func TestServer_HandlersSuspend(t *testing.T) {
	count := 0 // no lock
	onHost(t, handlers(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		n := count
		if err := asyncio.Sleep(r.Context(), time.Second); err != nil {
			t.Error(err)
		}
		count = max(count, n+1)
		fmt.Fprint(w, n)
	}}), func(ctx context.Context) error {
		begin := clock(ctx)
		tasks := make([]asyncio.Coroutine[string], 20)
		for i := range tasks {
			tasks[i] = func(ctx context.Context) (string, error) {
				c, err := call(ctx)
				if err != nil {
					return "", err
				}
				defer c.Close()
				if _, _, err := c.get("/"); err != nil {
					return "", err
				}
				_, body, err := c.get("/") // on the same connection
				return body, err
			}
		}
		got, err := asyncio.Gather(ctx, tasks...)
		if took := clock(ctx) - begin; !about(took, 2*time.Second) {
			t.Errorf("20 clients with two requests each took %v", took)
		}
		if slices.Contains(got, "0") {
			t.Errorf("the second answers are %v", got)
		}
		return err
	})
}

// serve 4: the request's context.
func TestServer_Context(t *testing.T) {
	type key struct{}
	var ended error
	var kept context.Context
	server := func() *asynciohttp.Server {
		s := handlers(map[string]http.HandlerFunc{
			"/values": func(w http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				kept = ctx
				s, _ := ctx.Value(http.ServerContextKey).(*http.Server)
				fmt.Fprint(w, s.MaxHeaderBytes, ctx.Value(http.LocalAddrContextKey), ctx.Value(key{}), asyncio.Sleep(ctx, 0), asyncio.CurrentTask(ctx) != nil)
			},
			"/sleep": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				ended = asyncio.Sleep(r.Context(), time.Hour)
			},
			"/short": func(w http.ResponseWriter, r *http.Request) {
				ended = asyncio.Sleep(r.Context(), time.Second)
			},
		})()
		s.MaxHeaderBytes = 12345
		s.BaseContext = func(net.Listener) context.Context { return context.WithValue(context.Background(), key{}, "base") }
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, key{}, fmt.Sprint(ctx.Value(key{}), " of ", c.(*asyncio.Conn).RemoteAddr().Network()))
		}
		return s
	}
	onHost(t, server, func(ctx context.Context) error {
		c, err := call(ctx)
		if err != nil {
			return err
		}
		_, body, err := c.get("/values")
		if err != nil {
			return err
		}
		if want := fmt.Sprint(12345, c.RemoteAddr(), "base of tcp", error(nil), true); body != want {
			t.Errorf("%q, want %q", body, want)
		}
		if kept.Err() == nil {
			t.Error("the context goes on after the handler")
		}
		for _, request := range []string{
			"GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
			"POST /sleep HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		} {
			for _, leave := range []func(*caller) error{(*caller).Close, (*caller).Abort, (*caller).CloseWrite} {
				c, err := call(ctx)
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte(request)); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				ended = nil
				_ = leave(c)
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if !errors.Is(ended, asyncio.ErrCancelled) {
					t.Errorf("%q: the client left, and the handler's sleep: %v", request, ended)
				}
				_ = c.Close()
			}
		}
		// Another request is no reason.
		if c, err = call(ctx); err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /short HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Second/2); err != nil {
			return err
		}
		ended = nil
		if _, err := io.WriteString(c, "GET /values HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		if _, _, err := c.response(); err != nil || ended != nil {
			t.Errorf("pipelined: %v, %v", err, ended)
		}
		_, body, err = c.response()
		if !strings.HasPrefix(body, "12345") {
			t.Errorf("pipelined: %q", body)
		}
		return err
	})
}

// serve 7: times are those of the configuration.
func TestServer_Timeouts(t *testing.T) {
	var slow error
	server := func() *asynciohttp.Server {
		s := handlers(map[string]http.HandlerFunc{
			"/": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") },
			"/body": func(w http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				fmt.Fprint(w, err)
			},
			"/long": func(w http.ResponseWriter, r *http.Request) {
				for slow == nil {
					_, slow = w.Write(make([]byte, 1<<20))
				}
			},
			"/own": func(w http.ResponseWriter, r *http.Request) {
				l, _ := asyncio.GetRunningLoop(r.Context())
				if err := http.NewResponseController(w).SetReadDeadline(l.Now().Add(time.Second)); err != nil {
					t.Error(err)
				}
				_, err := io.ReadAll(r.Body)
				fmt.Fprint(w, err)
			},
		})()
		s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = 2*time.Second, 5*time.Second, 20*time.Second, 50*time.Second
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
		return s
	}
	const timeout = "i/o timeout"
	for _, c := range []struct {
		name, sent string
		after      string        // sent after a second
		answer     string        // in the first response, which is read if this is not empty
		closed     time.Duration // since the connection was made
	}{
		{name: "nothing", closed: 2 * time.Second},
		{name: "part of a head", sent: "GET / HT", closed: 2 * time.Second},
		{name: "a slow head", sent: "GET / HT", after: "TP/1.1\r\n", closed: 2 * time.Second},
		{name: "a slow head that begins as in HTTP2", sent: "P", after: "OST / HTTP/1.1\r\n", closed: 2 * time.Second},
		{name: "idle", sent: get(), answer: "hello", closed: 50 * time.Second},
		{name: "one byte, then idle", sent: get(), answer: "hello", after: "G", closed: 50 * time.Second},
		{name: "four bytes, then idle", sent: get(), answer: "hello", after: "GET ", closed: 3 * time.Second},
		{name: "a slow body", sent: "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", answer: timeout, closed: 5 * time.Second},
		{name: "a slow chunk", sent: "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", after: "3\r\na", answer: timeout, closed: 5 * time.Second},
		{name: "a deadline of the handler's", sent: "POST /own HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", answer: timeout, closed: time.Second},
		{name: "a client that does not read", sent: "GET /long HTTP/1.1\r\nHost: x\r\n\r\n", answer: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			slow = nil
			onHost(t, server, func(ctx context.Context) error {
				k, err := call(ctx)
				if err != nil {
					return err
				}
				defer k.Close()
				begin := clock(ctx)
				if _, err := io.WriteString(k, c.sent); err != nil {
					return err
				}
				if c.answer == "-" {
					err := asyncio.Sleep(ctx, 21*time.Second)
					if slow == nil || !strings.Contains(slow.Error(), timeout) {
						t.Errorf("the handler's write: %v", slow)
					}
					return err
				}
				if c.after != "" {
					l, _ := asyncio.GetRunningLoop(ctx)
					l.CallLater(time.Second, func() {
						asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { _, err := io.WriteString(k, c.after); return err }))
					})
				}
				if c.answer != "" {
					_, body, err := k.response()
					if err != nil {
						return err
					}
					if !strings.Contains(body, c.answer) {
						t.Errorf("answered %q, want %q", body, c.answer)
					}
				}
				rest, err := k.closed()
				if took := clock(ctx) - begin; !about(took, c.closed) {
					t.Errorf("closed after %v, want %v", took, c.closed)
				}
				if rest != "" || err != nil {
					t.Errorf("then came %q, %v", rest, err)
				}
				return nil
			})
		})
	}
}

// serve 5: a connection that was idle for long goes on as before.
func TestServer_IdleConnectionGoesOn(t *testing.T) {
	onHost(t, handlers(map[string]http.HandlerFunc{"/": mirror}), func(ctx context.Context) error {
		c, err := call(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		for _, d := range []time.Duration{0, 100 * time.Millisecond, 900 * time.Millisecond, time.Second, 1100 * time.Millisecond, time.Minute} {
			if err := asyncio.Sleep(ctx, d); err != nil {
				return err
			}
			r, body, err := c.get("/"+d.String(), "X-Long: "+strings.Repeat("x", 10_000))
			if err != nil {
				return err
			}
			if r.StatusCode != 200 || !strings.Contains(body, "/"+d.String()) || !strings.Contains(body, strings.Repeat("x", 10_000)) {
				t.Errorf("after %v: %v, %q", d, r.Status, abridged(body))
			}
		}
		return nil
	})
}

func TestServer_HeaderLimits(t *testing.T) {
	server := func() *asynciohttp.Server {
		s := handlers(map[string]http.HandlerFunc{"/": mirror})()
		s.MaxHeaderBytes, s.MaxHeaderValueCount = 1000, 10
		return s
	}
	onHost(t, server, func(ctx context.Context) error {
		for _, c := range []struct {
			raw    string
			status int
		}{
			{get("X: " + strings.Repeat("a", 4000)), 200},
			{get("X: " + strings.Repeat("a", 5096)), 431},
			{get("X: " + strings.Repeat("a", 50_000)), 431},
			{strings.TrimSpace(get("X: " + strings.Repeat("a", 50_000))), 431},
			{"GET /" + strings.Repeat("a", 50_000), 431},
			{strings.Repeat("a", 50_000), 431},
			{get(slices.Repeat([]string{"X: y"}, 9)...), 200},
			{get(slices.Repeat([]string{"X: y"}, 10)...), 431},
		} {
			got, _, err := askHost(ctx, c.raw, 1000)
			if err != nil {
				return err
			}
			if want := fmt.Sprintf("HTTP/1.1 %d ", c.status); !strings.HasPrefix(got, want) {
				t.Errorf("%q: %q, want %q", abridged(c.raw), got, want)
			}
		}
		return nil
	})
}

// serve 6: what becomes of a handler that fails, and what is said of it.
func TestServer_HandlersFail(t *testing.T) {
	var logged bytes.Buffer
	failing := errors.New("it failed")
	server := func() *asynciohttp.Server {
		mux := http.NewServeMux()
		for path, f := range map[string]asynciohttp.HandlerFunc{
			"/error": func(context.Context, http.ResponseWriter, *http.Request) error { return failing },
			"/late error": func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
				fmt.Fprint(w, "beginning")
				return failing
			},
			"/cancelled": func(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
				asyncio.CurrentTask(ctx).Cancel("on purpose")
				return asyncio.Sleep(ctx, time.Second)
			},
			"/fine": func(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
				_, err := fmt.Fprint(w, "fine")
				return err
			},
		} {
			mux.Handle(strings.ReplaceAll(path, " ", "%20"), f)
		}
		mux.HandleFunc("/swallows", func(w http.ResponseWriter, r *http.Request) {
			asyncio.CurrentTask(r.Context()).Cancel("on purpose")
			_ = asyncio.Sleep(r.Context(), time.Second)
		})
		mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("on purpose") })
		mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		return &asynciohttp.Server{Handler: mux, ErrorLog: log.New(&logged, "", 0)}
	}
	for _, c := range []struct {
		path     string
		status   int // 0 if the connection ends without a response
		goesOn   bool
		log, rep string
	}{
		{path: "/error", status: 500, goesOn: true, rep: "it failed"},
		{path: "/late%20error", rep: "it failed"},
		{path: "/cancelled", status: 503},
		{path: "/swallows", status: 503},
		{path: "/fine", status: 200, goesOn: true},
		{path: "/panic", log: "http: panic serving"},
		{path: "/abort"},
	} {
		t.Run(c.path, func(t *testing.T) {
			logged.Reset()
			reported := ""
			body := func(ctx context.Context) error {
				return hosts(ctx, server, func(ctx context.Context) error {
					k, err := call(ctx)
					if err != nil {
						return err
					}
					defer k.Close()
					r, _, err := k.get(c.path)
					if c.status == 0 {
						if err == nil {
							t.Errorf("answered %v", r.Status)
						}
						return nil
					}
					if err != nil {
						return err
					}
					if r.StatusCode != c.status {
						t.Errorf("answered %v, want %d", r.Status, c.status)
					}
					_, _, err = k.get("/fine")
					if (err == nil) != c.goesOn {
						t.Errorf("the next request: %v", err)
					}
					return nil
				})
			}
			if r := sim.Check(body); r.Failure != nil {
				reported = r.Failure.Error()
			}
			if got := logged.String(); !strings.HasPrefix(got, c.log) || c.log == "" && got != "" {
				t.Errorf("logged %q, want %q", got, c.log)
			}
			if !strings.Contains(reported, c.rep) || c.rep == "" && reported != "" {
				t.Errorf("reported %q, want %q", reported, c.rep)
			}
		})
	}
}
