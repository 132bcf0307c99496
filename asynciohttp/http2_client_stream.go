package asynciohttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
)

// A clientStream is a request with its response, on a connection with HTTP/2.
//
//	clientstream 1: The request's task waits for the head of the response; it, or another one, reads
//	   the body then. Who reads finds what has arrived before he finds the stream's error.
//	clientstream 2: Both sides are independent. A response of 300 and more says that the server does
//	   not want the rest of the request; so does a reset with NO_ERROR after the response. A request
//	   of which the rest is not sent is reset when the response has ended.
//	clientstream 3: It is given up by RST_STREAM: when the request fails, when its context ends, and
//	   when the body is closed before both sides have ended it. The connection stays.
type clientStream struct {
	http2Stream
	conn   *http2Client
	e      *clientExchange
	begun  int64 // where its frames begin in what is sent
	heard  int64 // frames that had come by then
	proven bool  // the connection had answered before

	heads    []*http.Response // that have come, and that nobody has looked at
	headed   signal           // for the task that waits for the next one, or for the end
	headSize int64            // of heads
	first    bool             // the first of them was seen
	trailer  http.Header

	muted bool                        // what is left of the request is not sent (clientstream 2)
	watch *asyncio.Task[asyncio.None] // of the context, while nobody waits in the stream
}

// roundTrip sends the request of e, for which a place was kept, and returns the response.
func (c *http2Client) roundTrip(e *clientExchange) (*http.Response, error) {
	c.reserved--
	if !c.shared && (c.gone || !c.single || c.maxID > 0) || len(c.streams)+c.unsure >= int(min(c.max, math.MaxInt32)) {
		c.left() // it is about to end, or has heard of the server's limit since
		return nil, &unprocessed{errHTTP2Left}
	}
	st, err := c.send(e)
	if err != nil {
		c.left()
		e.wroteRequest(err)
		return nil, e.cause(err)
	}
	resp, err := st.awaitHead()
	if err != nil {
		return nil, st.cause(err)
	}
	return st.deliver(resp)
}

// send opens a stream and sends the request, or its head if another task sends the body. It does
// not suspend, but where the body is read.
func (c *http2Client) send(e *clientExchange) (*clientStream, error) {
	req := e.req
	e.gzip = e.asksForGzip()
	if err := c.fields.collect(e, c.maxBlock); err != nil {
		return nil, err
	}
	st := &clientStream{conn: c, e: e, proven: c.answered}
	length := e.length()
	trailers := len(req.Trailer) > 0
	waits := length != 0 && httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue")
	inline := length == 0 || !waits && length > 0 && length <= inlineBody && inMemory(e.body.src) && c.fits(length)
	var h *headBuffer
	if length == 0 {
		e.closeBody()
	} else if inline {
		h = heads.Get().(*headBuffer)
		if err := h.appendBody(e.body, length); err != nil {
			return nil, err
		}
	}
	c.open(&st.http2Stream, st, c.nextID())
	c.maxID = st.id
	c.streams[st.id] = &st.http2Stream
	e.st, st.early = st, true
	st.begun, st.heard = c.taken+int64(len(c.out)), c.heard
	told := c.fields.encode(e, c.encoder)
	c.sendBlock(&st.http2Stream, length == 0 && !trailers)
	if h != nil {
		c.appendAll(&st.http2Stream, h.b, !trailers)
		h.recycle()
	}
	if e.wrote = true; e.lastOnConn() || c.maxID >= math.MaxInt32-2 {
		c.unshare()
		c.of.pool.match(c.of.host)
	}
	e.wroteHeaders(told)
	if !inline {
		e.send = newSending(e, st, framing{length: length}, waits)
		return st, nil
	}
	if trailers && st.err == nil {
		if err := st.sendTrailer(); err != nil {
			e.fail(errors.Unwrap(err))
		}
	}
	e.wroteRequest(e.err)
	e.awaitHead()
	return st, nil
}

// wroteHeaders tells the trace. Its hooks may panic, and suspend the task: what the connection uses
// for all its requests is as it must be then.
func (e *clientExchange) wroteHeaders(fields []hpack.HeaderField) {
	if e.trace == nil {
		return
	}
	if e.trace.WroteHeaderField != nil {
		for _, f := range fields {
			e.trace.WroteHeaderField(f.Name, []string{f.Value})
		}
	}
	if e.trace.WroteHeaders != nil {
		e.trace.WroteHeaders()
	}
}

// lastOnConn reports whether the request asks for the end of its connection.
func (e *clientExchange) lastOnConn() bool {
	return e.req.Close || httpguts.HeaderValuesContainsToken(e.req.Header["Connection"], "close")
}

func (c *http2Client) nextID() uint32 {
	if c.maxID == 0 {
		return 1
	}
	return c.maxID + 2
}

// fits reports whether a new stream can send n bytes without waiting.
func (c *http2Conn) fits(n int64) bool {
	return len(c.queue) == 0 && c.hasRoom() && n <= min(c.window, c.peerWindow)
}

// appendAll appends data for which there is room.
func (c *http2Conn) appendAll(st *http2Stream, p []byte, end bool) {
	c.window -= int64(len(p))
	st.window -= int64(len(p))
	for {
		part := p[:min(len(p), c.peerFrame)]
		p = p[len(part):]
		c.appendData(st, part, end && len(p) == 0)
		if len(p) == 0 {
			return
		}
	}
}

// part implements [bodySink].
func (st *clientStream) part(_ context.Context, buf []byte, n int) error {
	_, err := st.c.sendData(&st.http2Stream, buf[bodyFront:bodyFront+n], false)
	return err
}

// end implements [bodySink].
func (st *clientStream) end(context.Context, []byte) error {
	switch {
	case st.err != nil:
		return st.err
	case len(st.e.req.Trailer) > 0:
		return st.sendTrailer()
	}
	st.c.appendData(&st.http2Stream, nil, true)
	return nil
}

// sendTrailer ends the request with its trailer.
func (st *clientStream) sendTrailer() error {
	c, trailer := st.conn, st.e.req.Trailer
	keys := make([]string, 0, len(trailer))
	for key := range trailer {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var fields []hpack.HeaderField
	for _, key := range keys {
		fields = appendFields(fields, key, trailer[key])
	}
	size := uint64(0)
	for _, f := range fields {
		size += uint64(f.Size())
	}
	if size > c.maxBlock {
		return &brokenBody{errBlockTooLong} // no error of the connection's
	}
	if len(fields) == 0 {
		c.appendData(&st.http2Stream, nil, true)
		return nil
	}
	for _, f := range fields {
		_ = c.encoder.WriteField(f)
	}
	c.sendBlock(&st.http2Stream, true)
	return nil
}

// awaitHead returns the head that counts. It suspends the request's task.
func (st *clientStream) awaitHead() (*http.Response, error) {
	e, trace := st.e, st.e.trace
	for {
		if len(st.heads) == 0 {
			if st.err != nil {
				return nil, st.err
			}
			if err := st.c.awaitWithin(e.ctx, &st.headed); err != nil {
				return nil, err
			}
			continue
		}
		resp := st.heads[0]
		st.heads = st.heads[1:]
		if !st.first && trace != nil && trace.GotFirstResponseByte != nil {
			trace.GotFirstResponseByte()
		}
		st.first = true
		if resp.StatusCode > 199 {
			return resp, nil
		}
		if resp.StatusCode == http.StatusContinue {
			if trace != nil && trace.Got100Continue != nil {
				trace.Got100Continue()
			}
			if e.send != nil {
				e.send.goOn(true)
			}
		}
		if trace != nil && trace.Got1xxResponse != nil {
			st.headSize = 0 // whoever looks at them limits their number
			if err := trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header)); err != nil {
				return nil, err
			}
		}
	}
}

// cause returns the error to report for a request that has failed with err, and whether it may be
// sent again.
func (st *clientStream) cause(err error) error {
	if is := st.e.cause(err); is != err {
		return is
	}
	if lost, ok := err.(*lostConn); ok {
		st.e.wrote = st.begun < st.c.taken // http2client 3
		return lost
	}
	var reset http2.StreamError
	if errors.As(err, &reset) && reset.Cause == errFromPeer {
		switch reset.Code {
		case http2.ErrCodeRefusedStream:
			return &unprocessed{err}
		case http2.ErrCodeProtocol: // some servers mean the connection by it
			st.conn.retire()
			return &unprocessed{err}
		}
	}
	return err
}

// deliver returns resp to the caller.
func (st *clientStream) deliver(resp *http.Response) (*http.Response, error) {
	e := st.e
	e.heard = true
	e.stopTimer()
	resp.TLS = st.conn.of.tls
	if s := e.send; s != nil {
		if resp.StatusCode > 299 {
			st.mute()
		} else {
			s.goOn(true)
		}
	}
	if resp.Body == http.NoBody {
		for e.send == nil && st.err == nil { // HEAD, whose end comes by itself
			if err := st.c.awaitWithin(e.ctx, &st.headed); err != nil {
				return nil, e.cause(err)
			}
		}
		if st.err != nil { // before anybody had heard of the response
			e.stopContext()
		}
		st.watchContext() // for the rest of the request
		return resp, nil
	}
	e.setResponseBody(resp, &http2ResponseBody{st: st, resp: resp})
	st.watchContext()
	return resp, nil
}

// mute ends the sending of the request (clientstream 2).
func (st *clientStream) mute() {
	st.muted = true
	st.e.send.stop()
	st.halfEnded()
}

// halfEnded implements [http2StreamEnd] (clientstream 2).
func (st *clientStream) halfEnded() {
	if st.remoteEnded && st.muted {
		st.c.reset(&st.http2Stream, http2.ErrCodeNo, errHTTP2Closed)
	}
}

// watchContext has the end of the request's context end the stream, also while nobody reads the
// body. The end of the loop's context need not be watched.
func (st *clientStream) watchContext() {
	e := st.e
	if done := e.ctx.Done(); st.err != nil || done == nil || done == e.loop.Context().Done() {
		return
	}
	never := asyncio.CreateFuture[asyncio.None](e.loop.Context())
	st.watch = asyncio.CreateTask(e.ctx, never.Await, asyncio.TaskName("context of "+e.req.Method+" "+e.req.URL.Path))
	st.watch.AddDoneCallback(func(*asyncio.Task[asyncio.None]) {
		if e.ctx.Err() != nil && st.err == nil {
			e.fail(context.Cause(e.ctx))
		}
	})
}

// over implements [http2StreamEnd].
func (st *clientStream) over(error) {
	e := st.e
	if st.watch != nil {
		st.watch.Cancel()
	}
	if e.send != nil && !st.localEnded {
		e.send.stop()
	}
	if e.heard {
		e.stopTimer()
		e.stopContext()
	}
	st.headed.set()
}

// giveUp resets the stream (clientstream 3, http2client 4).
func (st *clientStream) giveUp() {
	if st.err != nil {
		return
	}
	c := st.conn
	if c.shared && c.heard == st.heard && !c.quiet {
		if c.unsure == 0 {
			c.ping()
		}
		c.unsure++
	}
	err := st.e.err
	if err == nil {
		err = errGivenUp
	}
	c.reset(&st.http2Stream, http2.ErrCodeCancel, err)
}

func (st *clientStream) tooLong() error {
	return fmt.Errorf("%w: server response headers exceeded %d bytes", errHeaderTooLong, st.e.t.maxHeader())
}

// receiveHead takes the head of a response.
func (st *clientStream) receiveHead(f *http2.MetaHeadersFrame) error {
	bad := func(cause error) error {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: cause}
	}
	resp, err := readHTTP2Head(f)
	if err != nil {
		return bad(err)
	}
	c := st.conn
	c.answered = true
	st.headed.set()
	if resp.StatusCode < 200 {
		if f.StreamEnded() {
			return bad(errors.New("the response ends with a status of 1xx"))
		}
		for _, field := range f.Fields {
			st.headSize += int64(field.Size())
		}
		if st.headSize > st.e.t.maxHeader() {
			return bad(st.tooLong())
		}
		st.heads = append(st.heads, resp)
		return nil
	}
	c.empty = 0
	st.early = false
	st.heads = append(st.heads, resp)
	head := st.e.req.Method == http.MethodHead
	length, err := declaredLength(resp.Header)
	if err != nil {
		delete(resp.Header, "Content-Length") // as package net/http does
	}
	if length < 0 && f.StreamEnded() && !head {
		length = 0
	}
	resp.ContentLength = length
	switch {
	case head, !bodyAllowed(resp.StatusCode):
		resp.Body = http.NoBody
		st.declared = 0
	case f.StreamEnded() && length > 0:
		st.bodyErr = errBodyShort
	case f.StreamEnded():
		resp.Body = http.NoBody
	default:
		st.declared = length
	}
	if f.StreamEnded() {
		return c.receivedEnd(&st.http2Stream)
	}
	return nil
}

// receiveTrailer takes the trailer of a response, which ends it.
func (st *clientStream) receiveTrailer(f *http2.MetaHeadersFrame) error {
	if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: errors.New("a malformed trailer")}
	}
	st.conn.empty = 0
	st.trailer = make(http.Header)
	for _, field := range f.RegularFields() {
		key := canonicalKey(field.Name)
		st.trailer[key] = append(st.trailer[key], field.Value)
	}
	return st.c.receivedEnd(&st.http2Stream)
}

// readHTTP2Head makes a response of a header block.
func readHTTP2Head(f *http2.MetaHeadersFrame) (*http.Response, error) {
	status := f.PseudoValue("status")
	code, err := strconv.Atoi(status)
	if err != nil || len(status) != 3 || code < 100 {
		return nil, fmt.Errorf("malformed response: status %q", status)
	}
	regular := f.RegularFields()
	header := make(http.Header, len(regular))
	values := make([]string, len(regular)) // one allocation for those of all
	resp := &http.Response{
		Status: status + " " + http.StatusText(code), StatusCode: code,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header,
	}
	for i, field := range regular {
		switch field.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			continue // as package net/http does: they could harm who passes the response on
		case "trailer":
			if resp.Trailer == nil {
				resp.Trailer = make(http.Header)
			}
			for key := range strings.SplitSeq(field.Value, ",") {
				if key = textproto.TrimString(key); key != "" {
					resp.Trailer[http.CanonicalHeaderKey(key)] = nil
				}
			}
			continue
		}
		key := canonicalKey(field.Name)
		values[i] = field.Value
		if have, ok := header[key]; ok {
			header[key] = append(have, field.Value)
		} else {
			header[key] = values[i : i+1 : i+1]
		}
	}
	return resp, nil
}

// declaredLength returns the Content-Length, -1 without one. Equal ones count as one.
func declaredLength(h http.Header) (int64, error) {
	lengths, ok := h["Content-Length"]
	if !ok {
		return -1, nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err == nil && slices.ContainsFunc(lengths[1:], func(s string) bool { return s != lengths[0] }) {
		err = errors.New("different values of Content-Length")
	}
	if err != nil {
		return -1, err
	}
	h["Content-Length"] = lengths[:1]
	return int64(n), nil
}

// An http2ResponseBody is the body of a response. As with a [responseBody], any task of the loop
// may use it, and other goroutines too.
type http2ResponseBody struct {
	st     *clientStream
	resp   *http.Response // gets the trailer at the end
	closed bool
	err    error
}

// Read suspends the calling task until there is something. A cancel of the task and the end of the
// request's context end the response (transport 6).
func (b *http2ResponseBody) Read(p []byte) (int, error) { return readOn(b.st.e.loop, b, p) }

func (b *http2ResponseBody) read(p []byte) (int, error) {
	st, e := b.st, b.st.e
	switch {
	case b.closed:
		return 0, errReadOnClosed
	case b.err != nil:
		return 0, b.err
	}
	n, err := st.readBody(e.ctx, p, "the response's body")
	switch {
	case b.closed: // by another task
		return 0, errReadOnClosed
	case err == nil, errors.Is(err, asyncio.ErrBusy):
	case err == io.EOF:
		b.err = err
		for key, values := range st.trailer {
			if b.resp.Trailer == nil {
				b.resp.Trailer = make(http.Header)
			}
			b.resp.Trailer[key] = values
		}
	default:
		err = bareError(e.cause(err))
		b.err = err
		e.release()
		st.closeBody()
	}
	return n, err
}

// Close implements [io.Closer]. It does not suspend.
func (b *http2ResponseBody) Close() error {
	if _, err := onLoop(b.st.e.loop); err != nil {
		_, _ = b.st.e.loop.CallSoonThreadsafe(b.close)
		return nil
	}
	b.close()
	return nil
}

func (b *http2ResponseBody) close() {
	if b.closed {
		return
	}
	b.closed = true
	b.st.e.release()
	b.st.closeBody()
}

func (b *http2ResponseBody) isClosed() bool { return b.closed }
