package asynciohttptest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// inTest runs body in a task, on a virtual clock, and returns what the exception handler was told.
func inTest(t *testing.T, body func(ctx context.Context) error) (reported []error) {
	t.Helper()
	ctx := asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop)
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetExceptionHandler(func(_ *asyncio.EventLoop, e asyncio.ExceptionContext) { reported = append(reported, e.Exception) })
		return body(ctx)
	}))
	if err != nil {
		t.Error(err)
	}
	return reported
}

// What a handler does is recorded, and how it ends is what a server would make of it.
func TestResponseRecorder(t *testing.T) {
	broken := errors.New("it broke")
	plain := func(h func(w http.ResponseWriter, r *http.Request)) http.Handler { return http.HandlerFunc(h) }
	for _, test := range []struct {
		name string
		h    http.Handler
		code int
		body string
		err  error // of Serve
		told error // to the exception handler
	}{
		{"nothing", plain(func(http.ResponseWriter, *http.Request) {}), 200, "", nil, nil},
		{"an answer after an await", plain(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			if err := asyncio.Sleep(r.Context(), time.Hour); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "short and stout")
		}), 418, "short and stout", nil, nil},
		{"an echo", plain(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), 200, "the body", nil, nil},
		{"a HandlerFunc", asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			fmt.Fprint(w, ctx == r.Context(), asyncio.CurrentTask(ctx) != nil)
			return nil
		}), 200, "true true", nil, nil},
		{"one that fails", asynciohttp.HandlerFunc(func(context.Context, http.ResponseWriter, *http.Request) error { return broken }),
			500, "Internal Server Error\n", nil, broken},
		{"one that fails too late", asynciohttp.HandlerFunc(func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			fmt.Fprint(w, "half of")
			return broken
		}), 200, "half of", http.ErrAbortHandler, broken},
		{"one that fails after an informational status", asynciohttp.HandlerFunc(func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusEarlyHints)
			return broken
		}), 500, "Internal Server Error\n", nil, broken},
		{"one that is cancelled", asynciohttp.HandlerFunc(func(ctx context.Context, _ http.ResponseWriter, _ *http.Request) error {
			asyncio.CurrentTask(ctx).Cancel()
			return asyncio.Sleep(ctx, time.Hour)
		}), 503, "Service Unavailable\n", nil, nil},
		{"a handler that hides that it was", plain(func(w http.ResponseWriter, r *http.Request) {
			asyncio.CurrentTask(r.Context()).Cancel()
			_ = asyncio.Sleep(r.Context(), time.Hour)
		}), 503, "Service Unavailable\n", nil, nil},
		{"an abort", plain(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), 200, "", http.ErrAbortHandler, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var told error
			for _, err := range inTest(t, func(ctx context.Context) error {
				rec := asynciohttptest.NewRecorder()
				err := rec.Serve(ctx, test.h, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("the body")))
				if err != test.err || rec.Code != test.code || rec.Body.String() != test.body {
					t.Errorf("Serve: %v; status %d, body %q; want %v, %d, %q", err, rec.Code, rec.Body, test.err, test.code, test.body)
				}
				return nil
			}) {
				told = errors.Join(told, err)
			}
			if !errors.Is(told, test.told) {
				t.Errorf("the exception handler was told %v, want %v", told, test.told)
			}
		})
	}
}

// What a ResponseController can do with a recorder.
func TestResponseRecorder_Controller(t *testing.T) {
	inTest(t, func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		rec := asynciohttptest.NewRecorder()
		return rec.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			if err := rc.EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack: %v", err)
			}
			if err := rc.Flush(); err != nil || !rec.Flushed {
				t.Errorf("Flush: %v, flushed %t", err, rec.Flushed)
			}
			if err := errors.Join(rc.SetReadDeadline(l.Now().Add(time.Second)), rc.SetWriteDeadline(l.Now().Add(2*time.Second))); err != nil {
				t.Error(err)
			}
			for i, want := range [][2]error{{nil, nil}, {os.ErrDeadlineExceeded, nil}, {os.ErrDeadlineExceeded, os.ErrDeadlineExceeded}} {
				_, read := r.Body.Read(make([]byte, 1))
				_, write := io.WriteString(w, "x")
				if read != want[0] || write != want[1] {
					t.Errorf("after %d s: read %v, write %v; want %v", i, read, write, want)
				}
				if err := asyncio.Sleep(r.Context(), time.Second); err != nil {
					t.Error(err)
				}
			}
			if err := rc.Flush(); err != os.ErrDeadlineExceeded {
				t.Errorf("a late Flush: %v", err)
			}
			if err := rc.SetWriteDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(w, "y"); err != nil {
				t.Errorf("a write without a deadline: %v", err)
			}
		}), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body")))
	})
}

// The request's context ends, and afterwards nothing can be done with the request and the response.
func TestResponseRecorder_Ends(t *testing.T) {
	type key struct{}
	inTest(t, func(ctx context.Context) error {
		var kept *http.Request
		rec := asynciohttptest.NewRecorder()
		var before error
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
		req = req.WithContext(context.WithValue(req.Context(), key{}, "value"))
		err := rec.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kept, before = r, r.Context().Err()
			if r.Context().Value(key{}) != "value" {
				t.Error("the values of the request's context are lost")
			}
			refused := make(chan error)
			go func() {
				_, err := w.Write([]byte("x"))
				refused <- err
			}()
			if err := <-refused; !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("a write by a goroutine: %v", err)
			}
		}), req)
		if err != nil {
			return err
		}
		if before != nil || kept.Context().Err() != context.Canceled {
			t.Errorf("the context: %v, and %v at the end", before, kept.Context().Err())
		}
		if _, err := rec.Write([]byte("late")); err == nil || rec.Body.Len() > 0 {
			t.Errorf("a late write: %v, body %q", err, rec.Body)
		}
		if _, err := kept.Body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
			t.Errorf("a late read: %v", err)
		}
		if err := rec.Serve(ctx, http.NotFoundHandler(), req); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a second Serve: %v", err)
		}
		return nil
	})
}

// A caller that is cancelled is a client that goes.
func TestResponseRecorder_ClientGoes(t *testing.T) {
	inTest(t, func(ctx context.Context) error {
		var awaited, cause, again error
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			awaited = asyncio.Sleep(r.Context(), time.Hour)
			cause = context.Cause(r.Context())
			l, err := asyncio.GetRunningLoop(r.Context())
			if err != nil {
				t.Error(err)
				return
			}
			again = asyncio.Sleep(l.Context(), time.Minute) // cleaning up
		})
		serve := func(ctx context.Context) error {
			return asynciohttptest.NewRecorder().Serve(ctx, h, httptest.NewRequest(http.MethodGet, "/", nil))
		}
		late := func(err error) bool {
			var e *asyncio.TimeoutError
			return errors.As(err, &e)
		}
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return serve(ctx) })
		if !late(err) || !errors.Is(awaited, asyncio.ErrCancelled) || !errors.Is(cause, asyncio.ErrCancelled) || again != nil {
			t.Errorf("Serve: %v; the handler's await: %v, cause %v, cleaning up %v", err, awaited, cause, again)
		}
		err = asyncio.Timeout(ctx, 2*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return serve(ctx) })
		})
		if !late(err) || !errors.Is(again, asyncio.ErrCancelled) {
			t.Errorf("Serve: %v; a second cancel, and cleaning up %v", err, again)
		}
		return nil
	})
}

// A panic goes on in the caller.
func TestResponseRecorder_Panic(t *testing.T) {
	inTest(t, func(ctx context.Context) error {
		defer func() {
			if v := recover(); v != "it broke" {
				t.Errorf("panic(%v)", v)
			}
		}()
		return asynciohttptest.NewRecorder().Serve(ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("it broke") }), httptest.NewRequest(http.MethodGet, "/", nil))
	})
}

// Outside of a task Serve is refused.
func TestResponseRecorder_NotInTask(t *testing.T) {
	err := asynciohttptest.NewRecorder().Serve(t.Context(), http.NotFoundHandler(), httptest.NewRequest(http.MethodGet, "/", nil))
	if !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Error(err)
	}
}

// A HandlerFunc that is called as with httptest's recorder says what to do instead.
func TestResponseRecorder_WithoutServe(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "Serve of an asynciohttptest.ResponseRecorder") {
			t.Errorf("panic %q, want one that names Serve", text)
		}
	}()
	h := asynciohttp.HandlerFunc(func(context.Context, http.ResponseWriter, *http.Request) error { return nil })
	h.ServeHTTP(asynciohttptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}
