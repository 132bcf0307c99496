package asynciohttp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
)

// An http2Response is the response of a stream. It is for the handler's tasks, one at a time.
type http2Response struct {
	st   *serverStream
	head bool // of a request HEAD
	over bool // the handler has returned

	header   http.Header
	status   int                 // 0 until WriteHeader
	fields   []hpack.HeaderField // what header had then
	has      http2Has
	length   int64 // declared by the handler, -1 without that
	trailers []string
	sent     bool // the header was sent
	written  int64
	buf      []byte // written, but not sent
	writing  bool   // a task is in Write
	failed   bool   // to write, so what was sent is not whole
	failure  error  // of a HandlerFunc
}

// http2Has says which fields the handler has set.
type http2Has struct{ contentType, contentEncoding, date bool }

const http2ResponseBuffer = 4 << 10

var errHTTP2HandlerOver = errors.New("asynciohttp: the handler has returned, and its response is over")

// Header implements [http.ResponseWriter].
func (w *http2Response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements [http.ResponseWriter]. It does not suspend.
func (w *http2Response) WriteHeader(status int) {
	mustBeStatus(status)
	if w.over || w.status != 0 {
		if w.status != 0 {
			w.st.conn.s.logf("asynciohttp: superfluous WriteHeader call: the status is %d already", w.status)
		}
		return
	}
	if status < 200 { // 101 means nothing in HTTP/2
		w.sendInformation(status)
		return
	}
	w.status = status
	w.length = -1
	w.take()
}

// take takes the fields of the header: later changes have no effect.
func (w *http2Response) take() {
	var few [8]string
	for _, key := range w.keys(few[:0]) {
		values := w.header[key]
		switch key {
		case "Content-Length":
			if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
				w.length = int64(n)
			} else {
				w.st.conn.s.logf("asynciohttp: invalid Content-Length of %q is left out", values[0])
			}
			continue
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			// They do not exist in HTTP/2. What "close" means does.
			if key == "Connection" && slices.Contains(values, "close") {
				w.st.conn.shutdown()
			}
			continue
		case "Trailer":
			for _, v := range values {
				for name := range strings.SplitSeq(v, ",") {
					w.declare(strings.TrimSpace(name))
				}
			}
		case "Content-Type":
			w.has.contentType = true
		case "Content-Encoding":
			w.has.contentEncoding = values[0] != ""
		case "Date":
			w.has.date = true
		}
		w.fields = appendFields(w.fields, key, values)
	}
}

// keys appends the header's keys with values to keys, sorted: the order of a map would make runs
// differ.
func (w *http2Response) keys(keys []string) []string {
	for key, values := range w.header {
		if len(values) > 0 || key == "Content-Type" || key == "Date" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func appendFields(fields []hpack.HeaderField, key string, values []string) []hpack.HeaderField {
	name := lowerKey(key)
	if !httpguts.ValidHeaderFieldName(name) {
		return fields // as net/http does; it also leaves out http.TrailerPrefix
	}
	for _, v := range values {
		if httpguts.ValidHeaderFieldValue(v) {
			fields = append(fields, hpack.HeaderField{Name: name, Value: v})
		}
	}
	return fields
}

func (w *http2Response) declare(name string) {
	name = http.CanonicalHeaderKey(name)
	if httpguts.ValidTrailerHeader(name) && !slices.Contains(w.trailers, name) {
		w.trailers = append(w.trailers, name)
	}
}

// Write implements [http.ResponseWriter]. It suspends the calling task while the client takes
// nothing.
func (w *http2Response) Write(p []byte) (int, error) { return writeHTTP2(w, p) }

// WriteString implements [io.StringWriter].
func (w *http2Response) WriteString(s string) (int, error) { return writeHTTP2(w, s) }

func writeHTTP2[B []byte | string](w *http2Response, p B) (int, error) {
	if err := w.enter("Write"); err != nil {
		return 0, err
	}
	defer w.leave()
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	if w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	if w.head && w.sent {
		return len(p), nil
	}
	if len(w.buf)+len(p) <= http2ResponseBuffer {
		if w.buf == nil {
			w.buf = getResponseBuffer()
		}
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	if !w.sent {
		w.send(w.head, sniffable(p))
	}
	if w.head {
		return len(p), nil
	}
	if len(p) <= http2ResponseBuffer {
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	n, err := w.st.c.sendData(&w.st.http2Stream, []byte(p), false)
	w.failed = w.failed || err != nil
	return n, err
}

// sniffable returns as much of p as is needed to find out its type.
func sniffable[B []byte | string](p B) []byte { return []byte(p[:min(len(p), 512)]) }

// enter makes the calling task the one that writes, until leave.
func (w *http2Response) enter(method string) error {
	if _, err := w.st.c.task(); err != nil {
		return fmt.Errorf("%w (in ResponseWriter.%s)", err, method)
	}
	switch {
	case w.over:
		return errHTTP2HandlerOver
	case w.writing:
		return fmt.Errorf("%w: the response", asyncio.ErrBusy)
	}
	w.writing = true
	return nil
}

func (w *http2Response) leave() { w.writing = false }

// flush sends what was written. It suspends the calling task.
func (w *http2Response) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if !w.sent {
		w.send(w.head, w.buf)
	}
	p := w.buf
	w.buf = w.buf[:0]
	if w.head {
		return nil
	}
	_, err := w.st.c.sendData(&w.st.http2Stream, p, false)
	w.failed = w.failed || err != nil
	return err
}

// Flush implements [http.Flusher].
func (w *http2Response) Flush() { _ = w.FlushError() }

// FlushError is for [http.ResponseController]. It suspends the calling task.
func (w *http2Response) FlushError() error {
	if err := w.enter("Flush"); err != nil {
		return err
	}
	defer w.leave()
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if !w.sent {
		w.send(w.head || !bodyAllowed(w.status), nil)
	}
	if w.st.err != nil && !w.head {
		return w.st.err
	}
	return nil
}

// EnableFullDuplex is for [http.ResponseController]: it is so always.
func (*http2Response) EnableFullDuplex() error { return nil }

// SetReadDeadline is for [http.ResponseController].
func (w *http2Response) SetReadDeadline(t time.Time) error {
	return w.setDeadline(&w.st.readTimer, t, w.st.readTimedOut)
}

// SetWriteDeadline is for [http.ResponseController].
func (w *http2Response) SetWriteDeadline(t time.Time) error {
	return w.setDeadline(&w.st.writeTimer, t, w.st.writeTimedOut)
}

func (w *http2Response) setDeadline(timer **asyncio.TimerHandle, t time.Time, expire func()) error {
	c := w.st.conn
	if _, err := c.task(); err != nil {
		return err
	}
	if *timer != nil {
		(*timer).Cancel()
		*timer = nil
	}
	if w.st.err != nil || t.IsZero() {
		return nil
	}
	d := c.loop.Until(t)
	if d <= 0 {
		expire()
		return nil
	}
	*timer = c.loop.CallLater(d, expire)
	return nil
}

// FailWith notes the error that a HandlerFunc returned, and tells the exception handler, unless
// that is how a handler ends that was cancelled.
func (w *http2Response) FailWith(err error) {
	if w.failure != nil || w.over {
		return
	}
	w.failure = err
	if errors.Is(err, asyncio.ErrCancelled) || w.st.ctx.Err() != nil {
		return
	}
	c := w.st.conn
	c.loop.CallExceptionHandler(asyncio.ExceptionContext{Message: "Unhandled exception in HTTP handler", Exception: err, Task: c.handlers[w.st]})
}

// handled makes the response of a handler that has failed or was cancelled one that says so: by its
// status if there is none yet, and otherwise by a reset.
func (w *http2Response) handled(cancelled bool) {
	if w.failure == nil && !cancelled {
		return
	}
	status := http.StatusInternalServerError
	if cancelled {
		status = http.StatusServiceUnavailable
	}
	if w.status != 0 {
		w.failed = true
		return
	}
	http.Error(w, http.StatusText(status), status)
}

// finish ends the response after the handler has returned. It suspends the handler's task.
func (w *http2Response) finish() error {
	c, st := w.st.conn, w.st
	if w.failed { // a handler that has not looked at the error must not end the response
		c.reset(&st.http2Stream, http2.ErrCodeInternal, errHTTP2Handler)
	}
	if st.err != nil && !w.sent {
		return nil
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	for key := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			w.declare(name)
		}
	}
	if !w.head && bodyAllowed(w.status) && w.written < w.length {
		// The client must not take it for whole.
		c.s.logf("asynciohttp: %s %s: the handler has written %d bytes of a Content-Length of %d",
			st.request.Method, st.request.URL.Path, w.written, w.length)
		c.reset(&st.http2Stream, http2.ErrCodeInternal, http.ErrContentLength)
		return nil
	}
	if !w.sent {
		if w.length < 0 && len(w.trailers) == 0 && bodyAllowed(w.status) && (len(w.buf) > 0 || !w.head) {
			w.length = int64(len(w.buf))
		}
		w.send(w.head || len(w.buf) == 0 && len(w.trailers) == 0, w.buf)
	}
	trailers := w.trailerFields()
	if st.err == nil && !w.head {
		if _, err := c.sendData(&st.http2Stream, w.buf, len(trailers) == 0); err != nil {
			return err
		}
	}
	if st.err == nil && len(trailers) > 0 {
		for _, f := range trailers {
			_ = c.encoder.WriteField(f)
		}
		c.sendBlock(&st.http2Stream, true)
	}
	putResponseBuffer(w.buf)
	w.buf = nil
	return nil
}

func (w *http2Response) trailerFields() (fields []hpack.HeaderField) {
	slices.Sort(w.trailers)
	for _, name := range w.trailers {
		values := w.header[name]
		if values == nil {
			values = w.header[http.TrailerPrefix+name]
		}
		fields = appendFields(fields, name, values)
	}
	return fields
}

// send sends the header, and the end of the stream if end is set. body is how the body begins.
func (w *http2Response) send(end bool, body []byte) {
	w.sent = true
	c := w.st.conn
	if w.st.err != nil {
		return
	}
	_ = c.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: statusText(w.status)})
	for _, f := range w.fields {
		_ = c.encoder.WriteField(f)
	}
	if !w.has.contentType && !w.has.contentEncoding && bodyAllowed(w.status) && len(body) > 0 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: "content-type", Value: http.DetectContentType(body)})
	}
	if w.length >= 0 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(w.length, 10)})
	}
	if !w.has.date {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: "date", Value: w.st.conn.s.date.string(c.loop)})
	}
	c.sendBlock(&w.st.http2Stream, end)
}

// sendInformation sends a header with a status of 1xx.
func (w *http2Response) sendInformation(status int) {
	if w.sent || w.st.err != nil {
		return
	}
	c := w.st.conn
	_ = c.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: statusText(status)})
	var few [8]string
	for _, key := range w.keys(few[:0]) {
		switch key {
		case "Content-Length", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue
		}
		for _, f := range appendFields(nil, key, w.header[key]) {
			_ = c.encoder.WriteField(f)
		}
	}
	c.sendBlock(&w.st.http2Stream, false)
}

// sendContinue tells the client to send its body.
func (w *http2Response) sendContinue() {
	if w.status != 0 || w.st.err != nil {
		return
	}
	c := w.st.conn
	_ = c.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: "100"})
	c.sendBlock(&w.st.http2Stream, false)
}

func statusText(status int) string {
	switch status {
	case http.StatusOK:
		return "200"
	case http.StatusNotFound:
		return "404"
	}
	return strconv.Itoa(status)
}
