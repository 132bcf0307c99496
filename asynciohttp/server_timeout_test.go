package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// An answeredKey leads to a channel that is closed when http.TimeoutHandler has answered.
type answeredKey struct{}

// TimeoutHandler answers as http.TimeoutHandler does, and handlers see the same.
func TestTimeoutHandler_LikeNetHTTP(t *testing.T) {
	// late waits for the end of the request's context, where the handler runs.
	late := func(r *http.Request) error {
		if _, err := asyncio.GetRunningLoop(r.Context()); err == nil {
			return asyncio.Sleep(r.Context(), time.Hour)
		}
		<-r.Context().Done()
		// Before that, chance decides what a write gets.
		<-r.Context().Value(answeredKey{}).(chan struct{})
		return context.Cause(r.Context())
	}
	for name, h := range map[string]func(w http.ResponseWriter, r *http.Request, saw func(...any)){
		"nothing": func(http.ResponseWriter, *http.Request, func(...any)) {},
		"an answer": func(w http.ResponseWriter, r *http.Request, saw func(...any)) {
			w.Header().Set("X", "y")
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK) // superfluous
			saw(fmt.Fprint(w, strings.Repeat("short and stout ", 1000)))
		},
		"a body without a status": func(w http.ResponseWriter, r *http.Request, saw func(...any)) { saw(fmt.Fprint(w, "text")) },
		"too late": func(w http.ResponseWriter, r *http.Request, saw func(...any)) {
			w.Header().Set("X", "y")
			saw(fmt.Fprint(w, "lost"))
			saw(errors.Is(late(r), context.DeadlineExceeded), r.Context().Err())
			saw(fmt.Fprint(w, "late"))
			w.WriteHeader(http.StatusTeapot)
		},
		"what it cannot do": func(w http.ResponseWriter, r *http.Request, saw func(...any)) {
			rc := http.NewResponseController(w)
			_, _, err := rc.Hijack()
			saw(errors.Is(err, http.ErrNotSupported), errors.Is(rc.Flush(), http.ErrNotSupported), errors.Is(rc.SetReadDeadline(time.Time{}), http.ErrNotSupported))
		},
		"a panic":          func(http.ResponseWriter, *http.Request, func(...any)) { panic("on purpose") },
		"an abort":         func(http.ResponseWriter, *http.Request, func(...any)) { panic(http.ErrAbortHandler) },
		"no such status":   func(w http.ResponseWriter, _ *http.Request, _ func(...any)) { w.WriteHeader(99) },
		"the client's end": func(_ http.ResponseWriter, r *http.Request, saw func(...any)) { saw(r.Context().Err()) },
	} {
		for _, msg := range []string{"", "too slow"} {
			t.Run(name+" "+msg, func(t *testing.T) {
				type outcome struct {
					status   int
					header   http.Header
					body     string
					panicked any
					saw      []any
				}
				serve := func(of func(http.Handler, time.Duration, string) http.Handler, rec *httptest.ResponseRecorder, serve func(h http.Handler), wait func(ended <-chan struct{})) (o outcome) {
					ended := make(chan struct{})
					saw := func(v ...any) { o.saw = append(o.saw, v...) }
					func() {
						defer func() { o.panicked = recover() }()
						serve(of(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							defer close(ended)
							h(w, r, saw)
						}), 5*time.Millisecond, msg))
					}()
					wait(ended) // for a handler that was left behind
					o.status, o.header, o.body = rec.Code, rec.Result().Header, rec.Body.String()
					return o
				}
				rec := httptest.NewRecorder()
				want := serve(http.TimeoutHandler, rec, func(h http.Handler) {
					answered := make(chan struct{})
					defer close(answered)
					quiet := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{ErrorLog: discarded})
					quiet = context.WithValue(quiet, answeredKey{}, answered)
					h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil).WithContext(quiet))
				}, func(ended <-chan struct{}) { <-ended })
				sim.Run(t, func(ctx context.Context) error {
					rec := asynciohttptest.NewRecorder()
					got := serve(asynciohttp.TimeoutHandler, rec.ResponseRecorder, func(h http.Handler) {
						if err := rec.Serve(ctx, h, httptest.NewRequest("GET", "/", nil)); err != nil {
							panic(err) // http.ErrAbortHandler
						}
					}, func(ended <-chan struct{}) {
						if _, _, err := asyncio.Recv(ctx, ended); err != nil {
							t.Error(err)
						}
					})
					if !reflect.DeepEqual(got, want) {
						return fmt.Errorf("%+v, want %+v", got, want)
					}
					return nil
				})
			})
		}
	}
}

// A handler whose time is over leaves a connection that can be used, while it runs on.
func TestTimeoutHandler_Server(t *testing.T) {
	broken := errors.New("it broke")
	var late []any
	var told []error
	handler := asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		switch r.URL.Path {
		case "/error":
			fmt.Fprint(w, "kept")
			return broken
		case "/cancelled":
			asyncio.CurrentTask(ctx).Cancel()
			return asyncio.Sleep(ctx, time.Second)
		case "/body":
			_, err := io.ReadAll(r.Body)
			late = append(late, err != nil)
			return err
		}
		late = append(late, asyncio.Sleep(ctx, time.Hour))
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(l.Context(), time.Second); err != nil { // runs on
			return err
		}
		_, err = fmt.Fprint(w, "late")
		late = append(late, err)
		switch r.URL.Path {
		case "/late error":
			return broken
		case "/late panic":
			panic("on purpose")
		}
		return err
	})
	for _, c := range []struct {
		path, body string
		status     int
		late       []any
		told       string
		closes     bool
	}{
		{path: "/slow", status: 503, late: []any{context.DeadlineExceeded, http.ErrHandlerTimeout}},
		{path: "/error", status: 500, told: "it broke"},
		{path: "/cancelled", status: 503, closes: true},
		{path: "/late%20error", status: 503, late: []any{context.DeadlineExceeded, http.ErrHandlerTimeout}, told: "it broke"},
		{path: "/late%20panic", status: 503, late: []any{context.DeadlineExceeded, http.ErrHandlerTimeout}, told: "on purpose"},
		{path: "/body", body: "Content-Length: 5\r\n\r\nhalf", status: 503, late: []any{true}, closes: true},
	} {
		t.Run(c.path, func(t *testing.T) {
			late, told = nil, nil
			onHost(t, func() *asynciohttp.Server {
				return &asynciohttp.Server{Handler: asynciohttp.TimeoutHandler(handler, 100*time.Millisecond, "too slow"), ErrorLog: discarded,
					ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
						l, err := asyncio.GetRunningLoop(ctx)
						if err != nil {
							t.Error(err)
							return ctx
						}
						l.SetExceptionHandler(func(_ *asyncio.EventLoop, e asyncio.ExceptionContext) { told = append(told, e.Exception) })
						return ctx
					}}
			}, func(ctx context.Context) error {
				k, err := call(ctx)
				if err != nil {
					return err
				}
				defer k.Close()
				begin := clock(ctx)
				request := c.body
				if request == "" {
					request = "\r\n"
				}
				if _, err := fmt.Fprintf(k, "POST %s HTTP/1.1\r\nHost: x\r\n%s", c.path, request); err != nil {
					return err
				}
				r, body, err := k.response()
				if err != nil {
					return err
				}
				if took := clock(ctx) - begin; r.StatusCode != c.status || (body == "too slow") != (c.late != nil) || took > 300*time.Millisecond {
					t.Errorf("answered %s, %q after %v; want %d", r.Status, body, took, c.status)
				}
				if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
					return err
				}
				_, _, err = k.get("/slow")
				if (err != nil) != c.closes {
					t.Errorf("the next request: %v", err)
				}
				if len(late) < len(c.late) || !slices.Equal(late[:len(c.late)], c.late) {
					t.Errorf("the handler saw %v, want %v", late, c.late)
				}
				if got := fmt.Sprint(told); (c.told == "") != (told == nil) || !strings.Contains(got, c.told) {
					t.Errorf("the exception handler was told %v, want %q", told, c.told)
				}
				return nil
			})
		})
	}
}

// If the client goes, or the server ends, so does the handler with a time limit.
func TestTimeoutHandler_Cancelled(t *testing.T) {
	var ended error
	h := asynciohttp.TimeoutHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ended = asyncio.Sleep(r.Context(), time.Hour)
	}), time.Minute, "")
	onHost(t, func() *asynciohttp.Server { return &asynciohttp.Server{Handler: h} }, func(ctx context.Context) error {
		k, err := call(ctx)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(k, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		if err := errors.Join(asyncio.Sleep(ctx, time.Second), k.Close(), asyncio.Sleep(ctx, time.Second)); err != nil {
			return err
		}
		if !errors.Is(ended, asyncio.ErrCancelled) {
			t.Errorf("the client has gone, and the handler's await: %v", ended)
		}
		return nil
	})
	sim.Run(t, func(ctx context.Context) error {
		ended = nil
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
			return nil
		}))
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		task.Cancel()
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		if !errors.Is(ended, asyncio.ErrCancelled) {
			t.Errorf("the task was cancelled, and the handler's await: %v", ended)
		}
		return nil
	})
}

// Below net/http's server it is http.TimeoutHandler.
func TestTimeoutHandler_OnGoroutines(t *testing.T) {
	//asynciovet:allow blocking the handler runs on a goroutine of net/http's server
	s := httptest.NewServer(asynciohttp.TimeoutHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), time.Millisecond, "too slow"))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); resp.StatusCode != 503 || string(text) != "too slow" || err != nil {
		t.Errorf("%s, %q, %v", resp.Status, text, err)
	}
}

// A read of a request's body takes no ctx: Timeout ends it, FailAfter does not.
func TestServer_LimitOfABodysRead(t *testing.T) {
	read := func(r *http.Request) error {
		_, err := io.ReadAll(r.Body)
		return err
	}
	for name, test := range map[string]struct {
		limited func(ctx context.Context, r *http.Request) error
		want    error
		after   time.Duration
	}{
		"Timeout": {func(ctx context.Context, r *http.Request) error {
			return asyncio.Timeout(ctx, time.Second, func(context.Context, *asyncio.TimeoutScope) error { return read(r) })
		}, asyncio.ErrTimeout, time.Second},
		"FailAfter": {func(ctx context.Context, r *http.Request) error {
			return asyncio.FailAfter(ctx, time.Second, func(ctx context.Context) error { return read(r.WithContext(ctx)) })
		}, io.ErrUnexpectedEOF, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				var got error
				took := time.Duration(-1)
				srv, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					begin := l.Time()
					got = test.limited(r.Context(), r)
					took = l.Time().Sub(begin)
				}))
				if err != nil {
					return err
				}
				defer srv.Close()
				conn, err := asyncio.Dial(ctx, "tcp", srv.Listener.Addr().String())
				if err != nil {
					return err
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, time.Minute); err != nil {
					return err
				}
				if err := errors.Join(conn.Close(), asyncio.Sleep(ctx, time.Second)); err != nil {
					return err
				}
				if !errors.Is(got, test.want) || took.Round(time.Second) != test.after {
					t.Errorf("the read ended after %v: %v, want %v: %v", took, got, test.after, test.want)
				}
				return nil
			})
		})
	}
}
