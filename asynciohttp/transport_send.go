package asynciohttp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http/httpguts"
)

// A sentBody is the body of a request. It notes whether it can still be sent from its beginning.
type sentBody struct {
	src    io.ReadCloser
	read   bool
	closed bool

	first  *asyncio.Task[asyncio.None] // reads probed, nil if it has
	ctx    context.Context             // to wait for first
	probed []byte                      // read to see whether there is anything
	err    error                       // of first
}

func (b *sentBody) Read(p []byte) (int, error) {
	if b.first != nil {
		first := b.first
		b.first = nil
		_, b.err = first.Await(b.ctx)
	}
	if len(b.probed) > 0 {
		n := copy(p, b.probed)
		b.probed = b.probed[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	b.read = true
	return b.src.Read(p)
}

func (b *sentBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.first != nil {
		b.first.Cancel()
	}
	return b.src.Close()
}

// setBody makes src the body to send. A pipe is read on goroutines: at its other end is one.
func (e *clientExchange) setBody(src io.ReadCloser) {
	if pipe, ok := src.(*io.PipeReader); ok {
		src = &Body{loop: e.loop.Context(), src: pipe, release: func() { pipe.Close() }}
	}
	e.body = &sentBody{src: src}
}

func (e *clientExchange) closeBody() {
	if e.body != nil {
		e.body.Close()
	}
}

// length returns the length of the body, -1 if it is unknown.
func (e *clientExchange) length() int64 {
	switch {
	case e.body == nil, e.req.Body == http.NoBody:
		return 0
	case e.req.ContentLength != 0:
		return e.req.ContentLength
	}
	return -1
}

// A framing says how a body is sent.
type framing struct {
	length  int64 // -1 if unknown
	chunked bool
}

// frame decides how the body is sent. It may suspend to see whether there is a body at all.
func (e *clientExchange) frame() (framing, error) {
	req := e.req
	if req.Body == nil && req.ContentLength != 0 {
		return framing{}, fmt.Errorf("asynciohttp: Request.ContentLength=%d with nil Body", req.ContentLength)
	}
	f := framing{length: e.length()}
	switch {
	case e.body == nil:
	case len(req.TransferEncoding) > 0:
		f.chunked = req.TransferEncoding[0] == "chunked"
	case f.length < 0 && req.Method != http.MethodConnect:
		f.chunked = true
		switch cmp.Or(req.Method, http.MethodGet) {
		case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
			// Servers are not used to these with a body. Most likely it is an empty one.
			if err := e.probe(); err != nil {
				return f, err
			}
			if e.body == nil {
				return framing{}, nil
			}
		}
	}
	if f.chunked {
		f.length = -1
	}
	return f, nil
}

// probeTimeout is how long a request waits to see whether its body is empty.
const probeTimeout = 200 * time.Millisecond

// probe forgets the body if that turns out to be empty in a short time. A later first byte is for
// whoever sends the body.
func (e *clientExchange) probe() error {
	b := e.body
	if b.first != nil || len(b.probed) > 0 || b.read {
		return nil
	}
	b.read, b.ctx = true, e.ctx
	b.first = asyncio.CreateTask(e.ctx, func(context.Context) (asyncio.None, error) {
		var p [1]byte
		for {
			if n, err := b.src.Read(p[:]); n > 0 || err != nil {
				b.probed = p[:n]
				return asyncio.None{}, err
			}
		}
	}, asyncio.TaskName("first byte of the body of "+e.req.Method))
	done, _, err := asyncio.Wait(e.ctx, []*asyncio.Task[asyncio.None]{b.first}, asyncio.WaitTimeout(probeTimeout))
	if err == nil && len(done) > 0 && len(b.probed) == 0 && b.first.Exception() == io.EOF {
		b.first = nil
		e.closeBody()
		e.body = nil
	}
	return err
}

// inlineBody is how long a body in memory may be to be written with the head, in one go. A longer
// one may not fit into the system's buffer, and the server may answer before it has read it.
const inlineBody = 32 << 10

// inMemory reports whether reading from r cannot suspend or fail.
func inMemory(r io.Reader) bool {
	if t := reflect.TypeOf(r); t == nopCloser || t == nopCloserWriterTo {
		r, _ = reflect.ValueOf(r).Field(0).Interface().(io.Reader)
	}
	switch r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}

// The types of what [io.NopCloser] returns, with which [http.NewRequest] wraps its argument.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(strings.NewReader("")))
)

// write writes the request, or its head if another task writes the body (transport 1).
func (e *clientExchange) write() (err error) {
	h := heads.Get().(*headBuffer)
	defer func() {
		if err != nil {
			e.wroteRequest(err)
		}
	}()
	f, err := e.frame()
	if err != nil {
		return err
	}
	if err := e.appendHead(h, f); err != nil {
		return err
	}
	b := e.body
	waits := b != nil && e.req.ProtoAtLeast(1, 1) && httpguts.HeaderValuesContainsToken(e.req.Header["Expect"], "100-continue")
	inline := b == nil || !waits && !f.chunked && f.length >= 0 && f.length <= inlineBody && (f.length == 0 || inMemory(b.src))
	if b != nil && inline {
		if err := h.appendBody(b, f.length); err != nil {
			return err
		}
	}
	if _, err := e.c.write(e.ctx, h.b); err != nil {
		return &lostConn{err: err, writing: true}
	}
	h.recycle()
	if !inline {
		e.send = newSending(e, &wireBody{e.c, e.req, f.chunked}, f, waits)
		return nil
	}
	e.wroteRequest(nil)
	e.awaitHead()
	return nil
}

func (e *clientExchange) wroteRequest(err error) {
	if e.trace != nil && e.trace.WroteRequest != nil {
		e.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
}

// appendBody appends a body of the given length, which is at most inlineBody, and closes it.
func (h *headBuffer) appendBody(b *sentBody, length int64) error {
	start, n := len(h.b), int(length)
	h.b = slices.Grow(h.b, n+1)[:start+n+1]
	got, err := io.ReadFull(b, h.b[start:])
	h.b = h.b[:start+min(got, n)]
	switch {
	case got > n:
		err = errLongBody(length)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
	case got < n:
		err = errShortBody(length, int64(got))
	default:
		err = nil
	}
	if e := b.Close(); err == nil {
		err = e
	}
	return err
}

func errShortBody(want, got int64) error {
	return fmt.Errorf("asynciohttp: ContentLength=%d with Body length %d", want, got)
}

func errLongBody(want int64) error {
	return fmt.Errorf("asynciohttp: ContentLength=%d with a longer Body", want)
}

// A sending is a task that writes the body of a request (transport 1).
type sending struct {
	e      *clientExchange
	to     bodySink
	body   *sentBody
	length int64 // -1 if unknown
	task   *asyncio.Task[asyncio.None]

	hold  *asyncio.Future[bool] // nil unless the server is to be heard first: whether to send
	timer *asyncio.TimerHandle  // ends that wait

	over     bool
	unwanted bool // the server does not want the rest, and may have answered
	err      error
}

// A bodySink is where the body of a request goes. Its methods suspend the calling task.
type bodySink interface {
	// part sends n bytes of buf, which begin at bodyFront. Behind them is room for bodyBack more.
	part(ctx context.Context, buf []byte, n int) error

	// end ends the body. buf is for what it sends.
	end(ctx context.Context, buf []byte) error
}

// bodyFront and bodyBack are the room for a chunk's size and for what follows the chunk.
const bodyFront, bodyBack = 10, 2

func newSending(e *clientExchange, to bodySink, f framing, waits bool) *sending {
	s := &sending{e: e, to: to, body: e.body, length: f.length}
	if waits {
		s.hold = asyncio.CreateFuture[bool](e.loop.Context())
		s.timer = e.loop.CallLater(e.t.ExpectContinueTimeout, func() { s.goOn(true) })
	}
	s.task = asyncio.CreateTask(e.ctx, asyncio.Do(s.run), asyncio.TaskName("body of "+e.req.Method+" "+e.req.URL.Path))
	// a task that is cancelled before its first step is not entered
	s.task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { s.finish(errBodyCancelled) })
	return s
}

// held reports whether the body is held back.
func (s *sending) held() bool { return s.hold != nil && !s.hold.Done() }

// goOn ends the wait for the server: the body is sent, or not at all.
func (s *sending) goOn(send bool) {
	if s.held() {
		_ = s.hold.SetResult(send)
		s.timer.Cancel()
	}
}

// stop ends the task because the server does not want the rest.
func (s *sending) stop() {
	if !s.over {
		s.unwanted = true
		s.abandon()
	}
}

// abandon ends the task because nobody needs its work.
func (s *sending) abandon() {
	s.task.Cancel()
	if s.hold != nil {
		s.timer.Cancel()
	}
}

var (
	errBodyPanicked  = errors.New("asynciohttp: reading the request's body did not return")
	errBodyCancelled = errors.New("asynciohttp: the task that writes the request's body was cancelled")
)

func (s *sending) run(ctx context.Context) error {
	err := errBodyPanicked
	defer func() { s.finish(err) }() // also if the body panics, or the loop closes
	err = s.copy(ctx)
	if cancel := err; errors.Is(cancel, asyncio.ErrCancelled) {
		if ctx.Err() == nil {
			err = errBodyCancelled // it is not a cancel of the task that waits for the response
		}
		return cancel
	}
	return nil
}

// brokenBody is an error of the program's own: of a body that could not be read, or has the wrong
// length.
type brokenBody struct{ err error }

func (b *brokenBody) Error() string { return b.err.Error() }
func (b *brokenBody) Unwrap() error { return b.err }

// finish notes that the request is written, or that it failed.
func (s *sending) finish(err error) {
	if s.over {
		return
	}
	e := s.e
	if closed := s.body.Close(); err == nil && closed != nil {
		err = &brokenBody{closed}
	}
	s.over, s.err = true, err
	own := false
	if b, ok := err.(*brokenBody); ok {
		own, s.err = true, b.err
	}
	e.wroteRequest(s.err)
	switch {
	case e.send != s || e.closed || s.unwanted: // over, or sent again on another connection
	case err == nil && e.read:
		e.settle()
	case err == nil:
		e.awaitHead()
	case own, err == errBodyPanicked, err == errBodyCancelled:
		e.fail(s.err)
	case !e.heard:
		// A server that refuses a request may close before it has read all of it. Its answer is
		// there then, or comes soon.
		e.stopTimer()
		e.timer = e.loop.CallLater(maxAnswerAfterError, func() { e.fail(s.err) })
	}
}

// maxAnswerAfterError is how long an answer may take when the request could not be written.
const maxAnswerAfterError = 50 * time.Millisecond

// copy sends the body.
func (s *sending) copy(ctx context.Context) error {
	if s.hold != nil {
		if t := s.e.trace; t != nil && t.Wait100Continue != nil {
			t.Wait100Continue()
		}
		if send, err := s.hold.Await(ctx); err != nil || !send {
			return err
		}
	}
	h := heads.Get().(*headBuffer)
	h.b = slices.Grow(h.b, bodyFront+inlineBody+bodyBack)
	buf := h.b[:bodyFront+inlineBody+bodyBack]
	left := s.length
	for empty := 0; left != 0; {
		room := buf[bodyFront : bodyFront+inlineBody]
		if left > 0 && int64(len(room)) > left {
			room = room[:left]
		}
		n, err := s.body.Read(room)
		if n > 0 {
			if err := s.to.part(ctx, buf, n); err != nil {
				return err
			}
			if left > 0 {
				left -= int64(n)
			}
			empty = 0
		} else if empty++; err == nil && empty > maxEmptyReads {
			err = io.ErrNoProgress
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return &brokenBody{err}
		}
	}
	if left > 0 {
		return &brokenBody{errShortBody(s.length, s.length-left)}
	}
	if left == 0 {
		if n, _ := s.body.Read(buf[:1]); n > 0 {
			return &brokenBody{errLongBody(s.length)}
		}
	}
	if err := s.to.end(ctx, buf); err != nil {
		return err
	}
	h.recycle()
	return nil
}

// A wireBody is the [bodySink] of a connection with HTTP/1.1.
type wireBody struct {
	c       *clientConn
	req     *http.Request
	chunked bool
}

func (w *wireBody) part(ctx context.Context, buf []byte, n int) error {
	out := buf[bodyFront : bodyFront+n]
	if w.chunked {
		size := strconv.AppendInt(buf[:0:bodyFront], int64(n), 16)
		start := bodyFront - len(size) - 2
		copy(buf[start:], size) // to the right, so from what is behind it
		copy(buf[bodyFront-2:], "\r\n")
		copy(buf[bodyFront+n:], "\r\n")
		out = buf[start : bodyFront+n+bodyBack]
	}
	_, err := w.c.write(ctx, out)
	return err
}

func (w *wireBody) end(ctx context.Context, buf []byte) error {
	if !w.chunked {
		return nil
	}
	end := bytes.NewBuffer(append(buf[:0], "0\r\n"...))
	if err := w.req.Trailer.Write(end); err != nil {
		return err
	}
	end.WriteString("\r\n")
	_, err := w.c.write(ctx, end.Bytes())
	return err
}

// maxEmptyReads is how often a body may return nothing without an error.
const maxEmptyReads = 100
