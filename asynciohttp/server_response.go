package asynciohttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A serverResponse is the http.ResponseWriter of a request. Its methods are for tasks of the
// server's loop.
//
//	response 1: Bytes of the body are collected (buffered) until there are more than
//	   bodyBeforeChunking, or a flush. Then the head is made, which fixes how the body is framed. A
//	   response that fits is sent with its length, head and body in one write.
//	response 2: WriteHeader takes the fields of the header as they are. What the handler changes
//	   afterwards has no effect, except on trailers.
//	response 3: At most one task is in a method that sends (busy); a second gets asyncio.ErrBusy.
//	response 4: After the handler has returned, or has hijacked the connection, every method is
//	   refused, so a task that the handler has left behind cannot write into the next response.
type serverResponse struct {
	c      *serverConn
	req    *http.Request
	cancel context.CancelCauseFunc // ends the request's context
	body   requestBody

	header   http.Header // the handler's, nil until it asks for it
	trailers []string    // announced by the header
	buffered []byte      // of the body (response 1)
	status   int         // 0 before WriteHeader
	length   int64       // declared, or known; -1 if there is none
	written  int64       // by the handler
	failure  error       // of a HandlerFunc

	minor        int // of the version: 1.0 or 1.1
	isHEAD       bool
	isCONNECT    bool
	keep10       bool // see request
	clientCloses bool
	handlerDone  bool
	headMade     bool
	chunking     bool
	closeAfter   bool // the connection is not to be used again
	fullDuplex   bool
	busy         bool
	over         bool
}

// A headerField is a field of a header as it was when WriteHeader was called.
type headerField struct {
	name   string
	values []string
	omit   bool
}

func (c *serverConn) newResponse(r *request) *serverResponse {
	c.takeBuffers()
	w := &serverResponse{
		c: c, length: -1, minor: 1, keep10: r.keep10, clientCloses: r.close, closeAfter: r.isUpgrade,
		isHEAD: r.Method == http.MethodHead, isCONNECT: r.Method == http.MethodConnect, buffered: c.bufs.body[:0],
	}
	if !r.ProtoAtLeast(1, 1) {
		w.minor = 0
	}
	w.body.w = w
	r.RemoteAddr, r.TLS = c.remote, c.tls
	switch {
	case r.length > 0:
		w.body.remain = r.length
		r.Body = &w.body
	case r.length < 0:
		w.body.chunks = atChunkSize
		r.Body = &w.body
	default:
		w.body.sawEOF = true
		r.Body = http.NoBody
	}
	if r.expect == expectContinue && w.minor == 1 && r.length != 0 {
		w.body.expected, w.body.askFirst = true, true
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	w.req, w.cancel = r.Request.WithContext(ctx), cancel
	return w
}

// Header implements [http.ResponseWriter].
func (w *serverResponse) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// mustBeStatus panics as net/http does for what is no status.
func mustBeStatus(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
}

// WriteHeader implements [http.ResponseWriter]. It suspends the task only for an informational
// status, which is sent at once.
func (w *serverResponse) WriteHeader(status int) {
	switch {
	case w.c.hijacked || w.over:
		w.complain("response.WriteHeader on hijacked connection or after the handler has returned")
		return
	case w.status != 0:
		w.complain("superfluous response.WriteHeader call")
		return
	}
	mustBeStatus(status)
	if status == http.StatusContinue {
		w.body.askFirst = false // the handler does it
	} else if status >= 200 {
		w.body.forgo()
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		_ = w.inform(status)
		return
	}
	w.status = status
	w.takeFields()
	if v := w.header["Content-Length"]; len(v) > 0 && v[0] != "" {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			w.length = n
		} else {
			w.c.s.logf("http: invalid Content-Length of %q", v[0])
			w.header.Del("Content-Length")
		}
	}
}

// complain logs a mistake of a handler's, with the place.
func (w *serverResponse) complain(what string) {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !more || !strings.HasPrefix(f.Function, "net/http.") && !strings.Contains(f.Function, "/asynciohttp.(*serverResponse)") {
			w.c.s.logf("http: %s from %s (%s:%d)", what, f.Function, path.Base(f.File), f.Line)
			return
		}
	}
}

// inform sends an informational response.
func (w *serverResponse) inform(status int) error {
	if err := w.usable(); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	defer w.leave()
	w.takeFields()
	w.omit("Content-Length")
	w.omit("Transfer-Encoding")
	w.statusLine(status)
	w.fieldLines()
	w.c.out = append(w.c.out, "\r\n"...)
	return w.c.send()
}

// sendContinue tells the client to send the body.
func (w *serverResponse) sendContinue() error {
	if err := w.begin(); err != nil {
		return err
	}
	defer w.leave()
	w.c.out = append(w.c.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	return w.c.send()
}

// begin begins an operation that sends, or refuses it (response 3, response 4). The caller is the
// loop's.
func (w *serverResponse) begin() error {
	switch {
	case w.c.hijacked:
		return http.ErrHijacked
	case w.over:
		return errOver
	case w.busy:
		return fmt.Errorf("%w: the response", asyncio.ErrBusy)
	}
	w.busy = true
	return nil
}

func (w *serverResponse) leave() { w.busy = false }

// Write implements [http.ResponseWriter]. It suspends the task while the client accepts no more.
func (w *serverResponse) Write(p []byte) (int, error) { return writeResponse(w, p) }

// WriteString implements [io.StringWriter].
func (w *serverResponse) WriteString(s string) (int, error) { return writeResponse(w, s) }

func writeResponse[B []byte | string](w *serverResponse, p B) (int, error) {
	if err := w.c.s.foreign(); err != nil {
		return 0, err
	}
	if w.c.hijacked {
		if len(p) > 0 {
			w.complain("response.Write on hijacked connection")
		}
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	if w.length != -1 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	if err := w.begin(); err != nil {
		return 0, err
	}
	defer w.leave()
	if len(w.buffered)+len(p) <= bodyBeforeChunking {
		w.buffered = append(w.buffered, p...)
		return len(p), nil
	}
	return len(p), w.overflow([]byte(p))
}

// overflow writes more than can be collected: what was collected goes first, filled up.
func (w *serverResponse) overflow(p []byte) error {
	if n := len(w.buffered); n > 0 {
		k := bodyBeforeChunking - n
		if err := w.pass(append(w.buffered, p[:k]...)); err != nil {
			return err
		}
		w.buffered, p = w.buffered[:0], p[k:]
	}
	if len(p) > bodyBeforeChunking {
		return w.pass(p)
	}
	w.buffered = append(w.buffered, p...)
	return nil
}

// pass frames bytes of the body and passes them on.
func (w *serverResponse) pass(p []byte) error {
	if !w.headMade {
		if err := w.makeHead(p); err != nil {
			return err
		}
	}
	c := w.c
	if w.isHEAD {
		return nil
	}
	if !w.chunking {
		return c.emit(p)
	}
	var line [18]byte
	if err := c.emit(append(strconv.AppendInt(line[:0], int64(len(p)), 16), "\r\n"...)); err != nil {
		return err
	}
	if err := c.emit(p); err != nil {
		return err
	}
	return c.emit(crlf)
}

var crlf = []byte("\r\n")

// Flush implements [http.Flusher].
func (w *serverResponse) Flush() { _ = w.FlushError() }

// FlushError sends what was written and suspends the task while the client accepts no more.
func (w *serverResponse) FlushError() error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.begin(); err != nil {
		return err
	}
	defer w.leave()
	return w.flush()
}

func (w *serverResponse) flush() error {
	if err := w.passAll(); err != nil {
		return err
	}
	return w.c.send()
}

// passAll passes on the head and what was collected of the body.
func (w *serverResponse) passAll() error {
	if len(w.buffered) > 0 {
		if err := w.pass(w.buffered); err != nil {
			return err
		}
		w.buffered = w.buffered[:0]
	}
	if !w.headMade {
		return w.makeHead(nil)
	}
	return nil
}

// finish ends the response once the handler has returned.
func (w *serverResponse) finish() error {
	w.handlerDone = true
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.begin(); err != nil {
		return err // a task that the handler has left behind is sending
	}
	defer w.leave()
	if err := w.passAll(); err != nil {
		return err
	}
	if w.chunking {
		w.c.out = append(w.c.out, "0\r\n"...)
		w.trailerLines()
		w.c.out = append(w.c.out, "\r\n"...)
	}
	if err := w.c.send(); err != nil {
		return err
	}
	if w.body.closed {
		return nil
	}
	if w.body.busy {
		return fmt.Errorf("%w: the body of a request", asyncio.ErrBusy)
	}
	_ = w.body.close() // reusable looks at what became of it
	return nil
}

// reusable reports whether the connection can be used again after the response (serve 3).
func (w *serverResponse) reusable() bool {
	switch {
	case w.closeAfter || w.c.failed:
		return false
	case !w.isHEAD && w.length != -1 && bodyAllowed(w.status) && w.length != w.written:
		return false // too little was written
	}
	return w.body.complete()
}

// giveUp answers for a handler that failed or was cancelled. If the handler has set a status
// already, it can only abort.
func (w *serverResponse) giveUp(cancelled bool) {
	status := http.StatusInternalServerError
	if cancelled {
		status = http.StatusServiceUnavailable
	}
	w.closeAfter = w.closeAfter || cancelled
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	http.Error(w, http.StatusText(status), status)
}

// FailWith notes the error that a HandlerFunc returned.
func (w *serverResponse) FailWith(err error) {
	if w.failure == nil && !w.over {
		w.failure = err
		w.report(err)
	}
}

// report tells the exception handler of an error of a handler's, unless it is how a handler ends
// that was cancelled.
func (w *serverResponse) report(err error) {
	ctx := w.req.Context()
	if errors.Is(err, asyncio.ErrCancelled) || ctx.Err() != nil {
		return
	}
	w.c.s.loop.CallExceptionHandler(asyncio.ExceptionContext{Message: "Unhandled exception in HTTP handler", Exception: err, Task: w.c.task})
}

// SetReadDeadline is for [http.ResponseController]. It does not suspend.
func (w *serverResponse) SetReadDeadline(d time.Time) error {
	if err := w.usable(); err != nil {
		return err
	}
	w.c.readDeadline = d
	return w.c.rwc.SetReadDeadline(d)
}

// SetWriteDeadline is SetReadDeadline for writing.
func (w *serverResponse) SetWriteDeadline(d time.Time) error {
	if err := w.usable(); err != nil {
		return err
	}
	w.c.writeDeadline = true
	return w.c.rwc.SetWriteDeadline(d)
}

// usable returns the error for a caller that may not use the response at all (serve 2, response 4).
func (w *serverResponse) usable() error {
	if err := w.c.s.foreign(); err != nil {
		return err
	}
	switch {
	case w.c.hijacked:
		return http.ErrHijacked
	case w.over:
		return errOver
	}
	return nil
}

// EnableFullDuplex leaves the body of the request alone when the response begins. It does not
// suspend.
func (w *serverResponse) EnableFullDuplex() error {
	w.fullDuplex = true
	return nil
}

// Hijack implements [http.Hijacker]. The connection is for tasks: an [*asyncio.Conn], or an
// [*asyncio.TLSConn], that belongs to the caller. Bytes that the client has sent already are in the
// reader. It suspends the task while it sends what was written.
func (w *serverResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.usable(); err != nil {
		return nil, nil, err
	}
	w.body.askFirst = false
	if w.status != 0 {
		if err := w.FlushError(); err != nil {
			return nil, nil, err
		}
	}
	if w.busy || w.body.busy {
		return nil, nil, fmt.Errorf("%w: the connection", asyncio.ErrBusy)
	}
	c := w.c
	c.unwatch()
	c.hijacked = true
	_ = c.rwc.SetDeadline(time.Time{})
	early := bytes.Clone(c.in.unread())
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(early), c.rwc))
	_, _ = r.Peek(len(early))
	c.setState(http.StateHijacked)
	c.leave()
	return c.rwc, bufio.NewReadWriter(r, bufio.NewWriter(c.rwc)), nil
}
