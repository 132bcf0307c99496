package asynciohttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/internal/handling"
)

// TimeoutHandler returns a handler that runs h with a time limit, as [http.TimeoutHandler] does,
// and suspends its task where that would block the loop. If h has not returned after dt on the
// loop's clock, the client gets 503 with msg as the body, or a short page if msg is empty. The
// context of h's request ends then, and its writes fail with [http.ErrHandlerTimeout]. h runs on,
// in a task of its own, until it returns; a panic of h then goes to the loop's exception handler.
//
// What h writes is kept in memory until it returns, so h can neither flush nor hijack, as with
// http.TimeoutHandler. For what streams use Server.WriteTimeout, or [asyncio.Timeout], which ends a
// write too; [asyncio.FailAfter] does not.
//
// Any goroutine may call TimeoutHandler. Below net/http's server, where a request's context leads
// to no loop, the handler is http.TimeoutHandler.
func TimeoutHandler(h http.Handler, dt time.Duration, msg string) http.Handler {
	if h == nil {
		panic(fmt.Errorf("%w: nil handler (in asynciohttp.TimeoutHandler)", asyncio.ErrInvalidArgument))
	}
	return &timeoutHandler{h, dt, msg, http.TimeoutHandler(h, dt, msg)}
}

type timeoutHandler struct {
	handler   http.Handler
	dt        time.Duration
	msg       string
	goroutine http.Handler
}

// ServeHTTP implements [http.Handler]. It suspends the task until the handler below has returned,
// or the time is over.
func (t *timeoutHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l, err := asyncio.GetRunningLoop(r.Context())
	if err != nil {
		t.goroutine.ServeHTTP(w, r)
		return
	}
	ctx, cancel := asyncio.WithTimeout(r.Context(), t.dt)
	defer cancel()
	tw := &timeoutWriter{loop: l, header: make(http.Header)}
	task := asyncio.CreateTask(timedContext{ctx, tw}, asyncio.Do(func(ctx context.Context) error {
		defer tw.recovered()
		t.handler.ServeHTTP(tw, r.WithContext(ctx))
		if asyncio.CurrentTask(ctx).Cancelling() > 0 {
			tw.failure = &asyncio.CancelledError{Msg: "in an HTTP handler"}
			return tw.failure
		}
		return nil
	}), asyncio.TaskName("HTTP, with a time limit"))
	_, _, err = asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{task})
	switch {
	case err == nil && tw.panicked != nil:
		panic(tw.panicked)
	case err == nil:
		tw.pass(w, r)
	case ctx.Err() == context.DeadlineExceeded && !errors.Is(err, asyncio.ErrCancelled):
		tw.failed = http.ErrHandlerTimeout
		w.WriteHeader(http.StatusServiceUnavailable)
		msg := t.msg
		if msg == "" { // as net/http
			msg = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>"
		}
		_, _ = w.Write([]byte(msg))
	default: // the client has gone, or the task was cancelled
		tw.failed = err
		if asyncio.CurrentTask(ctx).Cancelling() > 0 {
			task.Cancel()
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// A timedContext is the context of a request whose handler has a time limit.
type timedContext struct {
	context.Context
	w *timeoutWriter
}

func (c timedContext) Value(key any) any {
	if key == (exchangeKey{}) {
		return c.w
	}
	return c.Context.Value(key)
}

// A timeoutWriter keeps a response until its handler has returned. It is for the loop, whose tasks
// write to it.
type timeoutWriter struct {
	loop     *asyncio.EventLoop
	header   http.Header
	status   int // 0 before WriteHeader
	body     bytes.Buffer
	failed   error // of writes, once the time is over
	failure  error // of a HandlerFunc
	panicked any
}

// recovered keeps a panic for the server. Nobody waits for a late one.
func (w *timeoutWriter) recovered() {
	v := recover()
	if v == nil {
		return
	}
	if _, fault := v.(interface{ Addr() uintptr }); fault {
		panic(v) // memory is not sound, and the loop ends the program
	}
	if w.panicked = v; w.failed == nil || v == http.ErrAbortHandler {
		return
	}
	w.report(fmt.Errorf("asynciohttp: panic of a handler whose time was over: %v", v))
}

func (w *timeoutWriter) report(err error) {
	w.loop.CallExceptionHandler(asyncio.ExceptionContext{
		Message: "Unhandled exception in HTTP handler", Exception: err, Task: asyncio.CurrentTask(w.loop.Context()),
	})
}

// pass makes what was kept the response of the request.
func (w *timeoutWriter) pass(to http.ResponseWriter, r *http.Request) {
	if w.failure != nil {
		if outer, ok := r.Context().Value(exchangeKey{}).(handling.Response); ok {
			outer.FailWith(w.failure) // nothing was sent, so the client gets the status of an error
			return
		}
	}
	maps.Copy(to.Header(), w.header)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	to.WriteHeader(w.status)
	_, _ = to.Write(w.body.Bytes())
}

// FailWith notes the error that a HandlerFunc returned. A late one is reported here, unless it is
// that the time is over.
func (w *timeoutWriter) FailWith(err error) {
	switch {
	case w.failed == nil:
		w.failure = err
	case errors.Is(err, asyncio.ErrCancelled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, http.ErrHandlerTimeout):
	default:
		w.report(err)
	}
}

// Header implements [http.ResponseWriter].
func (w *timeoutWriter) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *timeoutWriter) WriteHeader(status int) {
	mustBeStatus(status)
	if w.failed == nil && w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter]. It does not suspend.
func (w *timeoutWriter) Write(p []byte) (int, error) {
	if _, err := callingTask(w.loop.Context()); err != nil {
		return 0, err
	}
	if w.failed != nil {
		return 0, w.failed
	}
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
