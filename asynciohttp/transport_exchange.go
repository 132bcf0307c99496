package asynciohttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http/httpguts"
)

// A clientExchange is a request with its response. It belongs to the loop.
//
//	exchange 1: It has one connection at a time. The connection is let go when both sides are done:
//	   the request was written, or will not be, and the response was read to its end, or given up.
//	exchange 2: The first error ends it, and closes the connection. Whoever waits at the connection
//	   wakes up by that and reports the first error instead of its own.
//	exchange 3: Closing the connection is the only way in which it is given up, so no byte of a
//	   response is ever taken for the beginning of the next one. With HTTP/2 what is said here of
//	   the connection holds for the stream, which is reset.
type clientExchange struct {
	t     *Transport
	loop  *asyncio.EventLoop
	ctx   context.Context
	stop  context.CancelCauseFunc // nil unless Request.Cancel is used
	req   *http.Request
	trace *httptrace.ClientTrace
	body  *sentBody // nil for none

	c     *clientConn
	st    *clientStream         // on c, nil for HTTP/1.1
	how   httptrace.GotConnInfo // for the trace
	wrote bool                  // something of the request went out on c
	err   error                 // the first error, if it is not that of who waits (exchange 2)
	send  *sending
	timer *asyncio.TimerHandle // for the head, or for what is left of the request

	gzip   bool // the Transport has asked for it
	heard  bool // the head of the response is there
	read   bool // the response was read to its end, and
	keep   bool // the connection can be used again if the request was written
	closed bool // the connection is let go (exchange 1)
}

// lostConn is the error of a connection that fails before anything of the response came. A cancel,
// a limit and a mistake of the program's are never one (see cause), so they are no reason to try
// again.
type lostConn struct {
	err     error
	writing bool // the request could not be written, or not all of it
}

func (l *lostConn) Error() string { return l.err.Error() }
func (l *lostConn) Unwrap() error { return l.err }

func bareError(err error) error {
	switch err := err.(type) {
	case *lostConn:
		return err.err
	case *unprocessed:
		return err.err
	}
	return err
}

// cause returns the error to report for err, which an operation of e has returned: a cancel as it
// came, or why e or its context ended. If the connection failed, that counts and not what a parser
// made of it.
func (e *clientExchange) cause(err error) error {
	if err != nil && e.c != nil && e.c.failed != nil {
		err = e.c.failed
	}
	var cancelled *asyncio.CancelledError
	switch {
	case err == nil:
		return nil
	case e.err != nil:
		return e.err
	case errors.As(err, &cancelled):
		return bareCancel(err)
	case e.ctx.Err() != nil:
		if why := context.Cause(e.ctx); why != errExchangeOver {
			return why
		}
	}
	return err
}

// errExchangeOver is why the context of an exchange ends that has ended itself.
var errExchangeOver = errors.New("asynciohttp: the request is over")

// bareCancel returns a cancel without package net's wrapping, so that it is the very error that was
// delivered.
func bareCancel(err error) error {
	for {
		switch wrapped := err.(type) {
		case *lostConn:
			err = wrapped.err
		case *net.OpError:
			err = wrapped.Err
		default:
			return err
		}
	}
}

// fail ends e with err, from outside of the task that waits (exchange 2).
func (e *clientExchange) fail(err error) {
	if e.err == nil {
		e.err = err
	}
	if e.c != nil {
		e.release()
	}
}

// end ends e, which has failed with err.
func (e *clientExchange) end(err error) {
	if e.c != nil {
		e.release()
	}
	if e.send == nil || e.send.over {
		e.closeBody() // else who sends it does that
	}
	if e.stop != nil {
		e.stop(err)
	}
}

// on sends the request on c and returns the response.
func (e *clientExchange) on(c *clientConn) (resp *http.Response, err error) {
	e.c, e.st, e.wrote, e.err, e.send = c, nil, false, nil, nil
	e.heard, e.read, e.keep, e.closed = false, false, false, false
	begun := false
	defer func() {
		if resp != nil {
			return
		}
		// also if a hook or a body panics, or the loop closes
		if c.h2 != nil && !begun {
			c.h2.unreserve()
		}
		e.release()
		if e.st != nil {
			e.st.closeBody() // nobody gets what has come of it
		}
	}()
	if e.trace != nil && e.trace.GotConn != nil {
		e.how.Conn = c.conn
		e.trace.GotConn(e.how)
	}
	begun = true
	if c.h2 != nil {
		return c.h2.roundTrip(e)
	}
	if err := e.write(); err != nil {
		return nil, e.cause(err)
	}
	r, err := e.readHead()
	if err != nil {
		return nil, err
	}
	return e.deliver(r)
}

// readHead reads responses up to the one that counts.
func (e *clientExchange) readHead() (*http.Response, error) {
	c, trace := e.c, e.trace
	c.left = e.t.maxHeader()
	if _, err := c.br.Peek(1); err != nil {
		if is := e.cause(err); is != err {
			return nil, is
		}
		if s := e.send; s != nil && s.err != nil {
			return nil, s.err // the reason, most likely
		}
		return nil, &lostConn{err: err}
	}
	if trace != nil && trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	for {
		resp, err := http.ReadResponse(c.br, e.req)
		if err != nil {
			return nil, e.malformed(err)
		}
		code := resp.StatusCode
		if code == http.StatusContinue && e.send != nil && e.send.held() {
			if trace != nil && trace.Got100Continue != nil {
				trace.Got100Continue()
			}
			e.send.goOn(true)
		}
		if code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return resp, nil
		}
		if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(code, textproto.MIMEHeader(resp.Header)); err != nil {
				return nil, err
			}
			c.left = e.t.maxHeader() // whoever looks at them limits their number
		}
	}
}

// malformed returns the error to report for a head that could not be read.
func (e *clientExchange) malformed(err error) error {
	if is := e.cause(err); is != err {
		return is
	}
	if e.c.left <= 0 {
		return fmt.Errorf("%w: server response headers exceeded %d bytes", errHeaderTooLong, e.t.maxHeader())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("asynciohttp: the connection ended within the head of the response: %w", err)
	}
	return fmt.Errorf("asynciohttp: the head of the response: %w", err)
}

// deliver returns resp to the caller, with a body that lets the connection go at its end.
func (e *clientExchange) deliver(resp *http.Response) (*http.Response, error) {
	c := e.c
	e.heard = true
	e.stopTimer()
	c.left = math.MaxInt64
	resp.TLS = c.tls
	last := resp.Close || e.req.Close
	if e.send != nil && e.send.held() {
		// a body that was held back is sent if the connection goes on, which it could not without
		e.send.goOn(!last)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols && switches(resp.Header) {
		resp.Body = e.giveAway()
		return resp, nil
	}
	e.keep = !last && resp.StatusCode > 199 && e.req.Method != http.MethodConnect
	if e.req.Method == http.MethodHead || resp.ContentLength == 0 {
		e.finish()
		return resp, nil
	}
	e.setResponseBody(resp, &responseBody{e: e, src: resp.Body, small: resp.ContentLength <= maxUnread})
	return resp, nil
}

// setResponseBody makes body that of resp, decompressed if the Transport has asked for gzip.
func (e *clientExchange) setResponseBody(resp *http.Response, body clientBody) {
	resp.Body = body
	if e.gzip && strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		resp.Body = &gunzippedBody{loop: e.loop, body: body}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		resp.Uncompressed = true
	}
}

// switches reports whether a header belongs to a change of protocol.
func switches(h http.Header) bool {
	return h.Get("Upgrade") != "" && httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade")
}

// giveAway returns the connection for its new protocol. The pool forgets it.
func (e *clientExchange) giveAway() io.ReadWriteCloser {
	c := e.c
	body := &switchedBody{conn: c.conn}
	if n := c.br.Buffered(); n > 0 {
		body.early = make([]byte, n)
		_, _ = io.ReadFull(c.br, body.early)
	}
	e.closed = true
	c.drop()
	c.free()
	e.stopContext()
	return body
}

// finish notes that the response was read to its end. The connection is let go once the request is
// written, for which there is a little time.
func (e *clientExchange) finish() {
	if e.read || e.closed {
		return
	}
	e.read = true
	c := e.c
	e.keep = e.keep && !c.sawEOF && c.br.Buffered() == 0
	if s := e.send; s != nil && !s.over {
		if !e.keep {
			e.release()
			return
		}
		e.timer = e.loop.CallLater(maxWriteAfterResponse, e.release)
		return
	}
	e.settle()
}

// maxWriteAfterResponse is how long the rest of a request may take when the response is there.
const maxWriteAfterResponse = 50 * time.Millisecond

// settle lets the connection go when both sides are done (exchange 1).
func (e *clientExchange) settle() {
	if e.closed || !e.read {
		return
	}
	if !e.keep || e.send != nil && e.send.err != nil {
		e.release()
		return
	}
	e.closed = true
	e.stopTimer()
	e.c.pool.put(e.c, e.trace)
	e.stopContext()
}

// release closes the connection, and ends the task that writes the body.
func (e *clientExchange) release() {
	if e.closed {
		return
	}
	e.closed = true
	e.stopTimer()
	switch {
	case e.st != nil:
		e.st.giveUp()
	case e.c.h2 == nil:
		e.c.close()
	}
	if s := e.send; s != nil && !s.over {
		s.abandon()
	}
	if e.heard {
		e.stopContext()
	}
}

// stopContext ends what watches Request.Cancel.
func (e *clientExchange) stopContext() {
	if e.stop != nil {
		e.stop(errExchangeOver)
	}
}

func (e *clientExchange) stopTimer() {
	if e.timer != nil {
		e.timer.Cancel()
		e.timer = nil
	}
}

// awaitHead limits the wait for the response, now that the request was written.
func (e *clientExchange) awaitHead() {
	if d := e.t.ResponseHeaderTimeout; d > 0 && !e.heard && !e.closed {
		e.timer = e.loop.CallLater(d, func() { e.fail(errHeaderTimeout) })
	}
}

var errHeaderTimeout error = &timeLimit{"asynciohttp: timeout awaiting response headers (ResponseHeaderTimeout)"}

var errHandshakeTimeout error = &timeLimit{"asynciohttp: TLS handshake timeout (TLSHandshakeTimeout)"}

// timeLimit is the error of a limit of a Transport's.
type timeLimit struct{ text string }

func (e *timeLimit) Error() string   { return e.text }
func (e *timeLimit) Timeout() bool   { return true }
func (e *timeLimit) Temporary() bool { return true }
func (e *timeLimit) Is(err error) bool {
	return err == context.DeadlineExceeded
}
