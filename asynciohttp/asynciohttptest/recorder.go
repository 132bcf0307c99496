package asynciohttptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/internal/handling"
)

// A ResponseRecorder records what a handler does in a task. It is an [httptest.ResponseRecorder],
// which has the status, the header and the body, with what an asynciohttp.Server adds to a
// response: deadlines and full duplex by [http.ResponseController], errors of an
// asynciohttp.HandlerFunc, contexts that end. Hijack and Push are refused with
// [http.ErrNotSupported].
//
// It is for one request. Its methods are for the loop only; a write from another goroutine is
// refused with [asyncio.ErrForeignGoroutine].
type ResponseRecorder struct {
	*httptest.ResponseRecorder

	loop          *asyncio.EventLoop // nil before Serve
	readDeadline  asyncio.Instant    // zero for none
	writeDeadline asyncio.Instant
	wrote         bool // the header
	over          bool
	failure       error // of a HandlerFunc
}

// NewRecorder makes a [ResponseRecorder], whose [ResponseRecorder.Serve] calls the handler: one
// that is called as h.ServeHTTP(rec, r) is in no task. Any goroutine may call NewRecorder.
func NewRecorder() *ResponseRecorder {
	return &ResponseRecorder{ResponseRecorder: httptest.NewRecorder()}
}

// Serve runs a handler for a request as an asynciohttp.Server does: in a task of its own, in which
// it may await with r.Context(). That context has the values of the request's own, leads to the
// loop of ctx, and ends when the handler has returned. If the request's own leads to that loop, its
// end counts too.
//
// It must be called in a task, and suspends it until the handler has returned. A cancel of the
// caller, or the end of ctx, is the client that goes: the request's context ends, its cause is an
// [asyncio.CancelledError], and Serve returns the error of the caller once the handler has
// returned. A second cancel cancels the handler.
//
// A handler that panics with [http.ErrAbortHandler], or fails after it has begun to answer, would
// have its connection closed: Serve returns http.ErrAbortHandler. Other panics go on in the caller.
// A handler that was cancelled or failed before gets its answer, 503 or 500, recorded. The error of
// an asynciohttp.HandlerFunc goes to the loop's exception handler.
func (rec *ResponseRecorder) Serve(ctx context.Context, h http.Handler, r *http.Request) error {
	l, err := asyncio.GetRunningLoop(ctx)
	switch {
	case err != nil:
		return err
	case asyncio.CurrentTask(ctx) == nil:
		return fmt.Errorf("%w (in asynciohttptest.ResponseRecorder.Serve)", asyncio.ErrNotInTask)
	case h == nil || r == nil:
		return fmt.Errorf("%w: nil handler or request (in asynciohttptest.ResponseRecorder.Serve)", asyncio.ErrInvalidArgument)
	case rec.loop != nil:
		return fmt.Errorf("%w: a ResponseRecorder is for one request (in asynciohttptest.ResponseRecorder.Serve)", asyncio.ErrInvalidArgument)
	}
	rec.loop = l
	base := l.Context()
	if on, err := asyncio.GetRunningLoop(r.Context()); err == nil && on == l {
		base = r.Context()
	}
	base, gone := context.WithCancelCause(base)
	defer gone(nil)
	within := requestContext{base, r.Context(), rec}
	var panicked any
	cancelled := false
	task := asyncio.CreateTask(within, asyncio.Do(func(ctx context.Context) error {
		defer func() { panicked = recover() }()
		own := r.WithContext(ctx)
		own.Body = &requestBody{rec, r.Body}
		h.ServeHTTP(rec, own)
		if cancelled = asyncio.CurrentTask(ctx).Cancelling() > 0; cancelled {
			return &asyncio.CancelledError{Msg: "in an HTTP handler"}
		}
		return nil
	}), asyncio.TaskName("HTTP "+r.RemoteAddr))
	wait := func(ctx context.Context) error {
		_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{task})
		return err
	}
	if err = wait(ctx); err != nil {
		gone(&asyncio.CancelledError{Msg: "the client has gone"})
		if wait(l.Context()) != nil {
			task.Cancel()
			_ = wait(l.Context())
		}
	}
	defer func() { rec.over = true }()
	switch {
	case panicked == http.ErrAbortHandler:
		return http.ErrAbortHandler
	case panicked != nil:
		panic(panicked)
	case err != nil:
		return err
	}
	return rec.finish(cancelled)
}

// finish does what a server does when the handler has returned.
func (rec *ResponseRecorder) finish(cancelled bool) error {
	status := http.StatusInternalServerError
	if cancelled || errors.Is(rec.failure, asyncio.ErrCancelled) {
		status = http.StatusServiceUnavailable
	} else if rec.failure == nil {
		return nil
	}
	if rec.wrote {
		return http.ErrAbortHandler
	}
	http.Error(rec.ResponseRecorder, http.StatusText(status), status)
	return nil
}

// A requestContext adds the values of the request's own context.
type requestContext struct {
	context.Context
	own context.Context
	rec *ResponseRecorder
}

func (c requestContext) Value(key any) any {
	if key == (handling.Key{}) {
		return recording{c.rec}
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.own.Value(key)
}

// recording is the recorder as an asynciohttp.HandlerFunc sees it.
type recording struct{ rec *ResponseRecorder }

// FailWith passes an error on to the loop's exception handler, unless it is a cancel.
func (r recording) FailWith(err error) {
	rec := r.rec
	if rec.failure != nil || rec.over {
		return
	}
	rec.failure = err
	if !errors.Is(err, asyncio.ErrCancelled) {
		rec.loop.CallExceptionHandler(asyncio.ExceptionContext{Message: "Unhandled exception in HTTP handler", Exception: err, Task: asyncio.CurrentTask(rec.loop.Context())})
	}
}

var errOver = errors.New("asynciohttptest: the handler has returned")

// usable returns the error for a caller that may not use the response, or comes after the deadline.
func (rec *ResponseRecorder) usable(deadline asyncio.Instant) error {
	if rec.loop == nil {
		return nil // the handler was called without Serve
	}
	if _, err := handling.CallingTask(rec.loop.Context()); err != nil {
		return err
	}
	if rec.over {
		return errOver
	}
	if deadline != (asyncio.Instant{}) && !rec.loop.Time().Before(deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// WriteHeader implements [http.ResponseWriter].
func (rec *ResponseRecorder) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		return // informational: an httptest.ResponseRecorder would take it for the answer
	}
	if rec.usable(asyncio.Instant{}) == nil {
		rec.wrote = true
		rec.ResponseRecorder.WriteHeader(status)
	}
}

// Write implements [http.ResponseWriter]. It does not suspend.
func (rec *ResponseRecorder) Write(p []byte) (int, error) {
	if err := rec.usable(rec.writeDeadline); err != nil {
		return 0, err
	}
	rec.wrote = true
	return rec.ResponseRecorder.Write(p)
}

// WriteString implements [io.StringWriter].
func (rec *ResponseRecorder) WriteString(s string) (int, error) { return rec.Write([]byte(s)) }

// Flush implements [http.Flusher].
func (rec *ResponseRecorder) Flush() { _ = rec.FlushError() }

// FlushError is for [http.ResponseController]. It sets Flushed, and does not suspend.
func (rec *ResponseRecorder) FlushError() error {
	if err := rec.usable(rec.writeDeadline); err != nil {
		return err
	}
	rec.wrote = true
	rec.ResponseRecorder.Flush()
	return nil
}

// SetReadDeadline is for [http.ResponseController]: from d on, on the loop's clock, reads of the
// request's body fail. It does not suspend.
func (rec *ResponseRecorder) SetReadDeadline(d time.Time) error {
	if err := rec.usable(asyncio.Instant{}); err != nil {
		return err
	}
	rec.readDeadline = rec.at(d)
	return nil
}

// SetWriteDeadline is SetReadDeadline for writes.
func (rec *ResponseRecorder) SetWriteDeadline(d time.Time) error {
	if err := rec.usable(asyncio.Instant{}); err != nil {
		return err
	}
	rec.writeDeadline = rec.at(d)
	return nil
}

// at returns d on the loop's clock. Before Serve there is none, and no deadline.
func (rec *ResponseRecorder) at(d time.Time) asyncio.Instant {
	if rec.loop == nil || d.IsZero() {
		return asyncio.Instant{}
	}
	when := rec.loop.Time().Add(rec.loop.Until(d))
	if when == (asyncio.Instant{}) {
		return when.Add(-1) // it has passed, and is one
	}
	return when
}

// EnableFullDuplex is for [http.ResponseController]: the body of the request can be read after the
// response has begun, in any case.
func (rec *ResponseRecorder) EnableFullDuplex() error { return rec.usable(asyncio.Instant{}) }

// A requestBody is the body of a request for as long as its handler runs.
type requestBody struct {
	rec  *ResponseRecorder
	body io.ReadCloser // nil if there is none
}

func (b *requestBody) Read(p []byte) (int, error) {
	switch err := b.rec.usable(b.rec.readDeadline); {
	case err == errOver:
		return 0, http.ErrBodyReadAfterClose
	case err != nil:
		return 0, err
	case b.body == nil:
		return 0, io.EOF
	}
	return b.body.Read(p)
}

func (b *requestBody) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
