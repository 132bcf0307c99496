package asynciohttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http2"
)

// A stream is a connection for tasks, with TLS or without.
type stream interface {
	net.Conn
	ReadNowait(p []byte) (int, error)
	OnReadable(fn func()) error
	CloseWrite() error
}

// A serverConn is a connection of a [Server] (serve 1-7).
type serverConn struct {
	s      *Server
	conn   *asyncio.Conn // as it was accepted
	rwc    stream        // conn, or TLS on it
	config *tls.Config   // nil without TLS
	tls    *tls.ConnectionState
	secure func() tls.ConnectionState // of a connection that came with TLS
	remote string
	ctx    context.Context
	task   *asyncio.Task[asyncio.None]

	state    http.ConnState
	hijacked bool
	ended    bool
	failed   bool // to read or to write (serve 3)
	isPOST   bool // the last request
	shared   bool // a task that the handler has left behind uses the buffers

	among   connLink // in the server's list
	resting connLink // in the server's idle queue
	since   asyncio.Instant
	told    nudge
	waits   bool // for the first bytes of a request

	in     input
	bufs   *serverBuffers // nil while it waits without
	out    []byte         // bytes to be sent; its array is that of bufs
	single [1]byte

	res      *serverResponse // the current one, nil between requests
	h2       *http2Server    // nil for HTTP/1.1
	watching bool            // for the end of the client (serve 4)
	peek     func()          // c.look, made once

	// what handlers, or the server, have asked for
	readDeadline  time.Time
	writeDeadline bool

	fields []headerField // scratch
	values []string
}

// serverBuffers are what a working connection needs (serve 5).
type serverBuffers struct {
	in   [inputBuffer]byte
	out  [outputBuffer]byte
	body [bodyBeforeChunking]byte
}

const (
	inputBuffer  = 4 << 10
	outputBuffer = 4 << 10

	// bodyBeforeChunking is the longest body of a response whose length is known without being
	// declared, as in net/http.
	bodyBeforeChunking = 2 << 10
)

var allServerBuffers = sync.Pool{New: func() any { return new(serverBuffers) }}

// A nudge is the reason for which a connection that waits for a request is woken.
type nudge uint8

const (
	toWait     nudge = iota // there is none
	toGiveBack              // its buffers (serve 5)
	toClose
)

// firstRequest is the time after which a connection without a request counts as idle when the
// server shuts down.
const firstRequest = 5 * time.Second

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

func newServerConn(s *Server, base context.Context, conn *asyncio.Conn, config *tls.Config) *serverConn {
	c := &serverConn{s: s, conn: conn, rwc: conn, config: config, since: s.loop.Time()}
	if a := conn.RemoteAddr(); a != nil {
		c.remote = a.String()
		if s, ok := a.(securedAddr); ok {
			c.secure = s.state
		}
	}
	c.peek = c.look
	c.in.c, c.among.c, c.resting.c = c, c, c
	if s.ConnContext != nil {
		if base = s.ConnContext(base, conn); base == nil {
			panic("asynciohttp: ConnContext returned a nil context")
		}
	}
	c.ctx = &connContext{base, c}
	return c
}

// A connContext adds the values of a connection.
type connContext struct {
	context.Context
	c *serverConn
}

func (x *connContext) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return x.c.s.config()
	case http.LocalAddrContextKey:
		return x.c.conn.LocalAddr()
	case exchangeKey{}:
		if x.c.res == nil {
			return nil
		}
		return x.c.res
	}
	return x.Context.Value(key)
}

func (c *serverConn) setState(state http.ConnState) {
	if c.state = state; c.s.ConnState != nil {
		c.s.ConnState(c.conn, state)
	}
}

// run is the body of the connection's task.
func (c *serverConn) run(ctx context.Context) (asyncio.None, error) {
	defer c.end()
	if c.config != nil {
		if err := c.handshake(ctx); err != nil || c.tls == nil {
			return asyncio.None{}, onlyCancel(err)
		}
	}
	c.limitHead()
	if begins, err := c.beginsHTTP2(); err != nil {
		return asyncio.None{}, onlyCancel(err)
	} else if begins {
		return asyncio.None{}, onlyCancel(c.serveHTTP2(ctx))
	}
	err, panicked := c.serveUntilPanic()
	if panicked && !c.hijacked {
		_ = c.send() // what was passed on, but nothing that would complete it (serve 6)
	}
	return asyncio.None{}, onlyCancel(err)
}

// serveUntilPanic is serve that reports whether a handler has panicked.
func (c *serverConn) serveUntilPanic() (err error, panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			if _, fault := v.(interface{ Addr() uintptr }); fault {
				panic(v) // memory is not sound, and the loop ends the program
			}
			panicked = true
			if v != http.ErrAbortHandler {
				c.s.logf("http: panic serving %v: %v\n%s", c.remote, v, debug.Stack())
			}
		}
	}()
	return c.serve(), false
}

// onlyCancel returns err if it is a cancel, which ends the task as cancelled. All else is the
// client's affair.
func onlyCancel(err error) error {
	if errors.Is(err, asyncio.ErrCancelled) {
		return err
	}
	return nil
}

// beginsHTTP2 reports whether HTTP/2 is to be spoken: TLS has negotiated it, or the client's first
// bytes say so.
func (c *serverConn) beginsHTTP2() (bool, error) {
	if c.secure != nil { // the first bytes come after the handshake
		if err := c.await(true); err != nil {
			return false, err
		}
		state := c.secure()
		c.tls = &state
	}
	if c.tls != nil {
		return c.tls.NegotiatedProtocol == protocolHTTP2, nil
	}
	if !c.s.speaks().UnencryptedHTTP2() {
		return false, nil
	}
	if err := c.await(true); err != nil {
		return false, err
	}
	for {
		have := c.in.unread()
		n := min(len(have), len(http2.ClientPreface))
		if string(have[:n]) != http2.ClientPreface[:n] {
			return !c.s.speaks().HTTP1(), nil // which then refuses it
		}
		if n == len(http2.ClientPreface) {
			return true, nil
		}
		if err := c.in.need(n + 1); err != nil {
			return false, err
		}
	}
}

// handshake makes c.rwc a connection with TLS, unless the client has spoken plain HTTP and was
// told.
func (c *serverConn) handshake(ctx context.Context) error {
	var opts []asyncio.StreamOption
	if d := c.s.handshakeTimeout(); d > 0 {
		opts = append(opts, asyncio.TLSHandshakeTimeout(d))
	}
	t, err := asyncio.TLSServer(ctx, c.conn, c.config, opts...)
	if err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) && looksLikeHTTP(record.RecordHeader) {
			err = errPlainHTTP
		}
		if onlyCancel(err) == nil && !c.s.stopping {
			c.s.logf("http: TLS handshake error from %s: %v", c.remote, err)
		}
		if err == errPlainHTTP {
			if _, err := io.WriteString(c.rwc, plainHTTPAnswer); err == nil {
				return c.closeGently()
			}
		}
		return err
	}
	c.rwc = t
	state := t.ConnectionState()
	c.tls = &state
	return nil
}

// net/http's answer.
const plainHTTPAnswer = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

var errPlainHTTP = errors.New("client sent an HTTP request to an HTTPS server")

// looksLikeHTTP reports whether bytes that should be TLS begin a request, as net/http tells it.
func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// end closes the connection, unless it was hijacked, and takes it off the server's list. It is
// called however the connection ends, and more than once.
func (c *serverConn) end() {
	if c.ended {
		return
	}
	c.ended = true
	c.s.idle.leave(c)
	if w := c.res; w != nil { // of a handler that did not return
		w.cancel(nil)
		c.release(w)
	}
	if !c.hijacked {
		c.unwatch()
		_ = c.rwc.Close()
		c.setState(http.StateClosed)
		c.leave()
	}
	c.dropBuffers()
}

// leave takes the connection off the server's list.
func (c *serverConn) leave() {
	c.s.conns.remove(&c.among)
	if c.s.conns.first == nil {
		c.s.quiet.Set()
	}
}

func (c *serverConn) takeBuffers() {
	if c.bufs == nil {
		c.bufs = allServerBuffers.Get().(*serverBuffers)
		c.in.buf = c.bufs.in[:]
		c.out = c.bufs.out[:0]
	}
}

// dropBuffers gives the buffers to others, unless an operation may still use them.
func (c *serverConn) dropBuffers() {
	if c.bufs == nil {
		return
	}
	if !c.shared {
		allServerBuffers.Put(c.bufs)
	}
	c.bufs, c.in.buf, c.out = nil, nil, nil
	c.fields, c.values = nil, nil // they hold on to what handlers have made
	c.in.r, c.in.w = 0, 0
}

// limitHead sets the deadline for the head of a request. The time of the first one begins with the
// connection, behind its handshake.
func (c *serverConn) limitHead() {
	if d := c.s.readHeaderTimeout(); d > 0 {
		c.setReadDeadline(c.s.loop.Now().Add(d))
	}
}

// serve serves one request after the other.
func (c *serverConn) serve() error {
	for first := true; ; first = false {
		if err := c.await(first); err != nil {
			return err
		}
		if !first {
			c.limitHead()
		}
		if again, err := c.next(); !again {
			return err
		}
	}
}

// next reads a request and answers it. It reports whether the connection can be used again. It is a
// function of its own so that its frame is gone while the connection is idle.
//
//go:noinline
func (c *serverConn) next() (again bool, err error) {
	var r request
	err = c.readRequest(&r)
	c.setState(http.StateActive)
	if err != nil {
		return false, c.refuse(err)
	}
	return c.answer(&r)
}

// await waits for the first bytes of a request. A connection that has waited for a while gives its
// buffers back (serve 5).
func (c *serverConn) await(first bool) error {
	enough := 4 // as net/http, which gives the header its time from then on
	if first {
		enough = 1
	}
	c.takeBuffers()
	if c.in.w-c.in.r >= enough {
		return nil
	}
	c.s.idle.enter(c.s, c)
	c.waits, c.told = true, toWait
	if c.s.stopping && !first {
		c.nudge(toClose)
	}
	err := c.awaitBytes(enough)
	c.waits = false
	c.s.idle.leave(c)
	if c.told != toWait { // it came too late
		c.told = toWait
		_ = c.rwc.SetReadDeadline(c.readDeadline)
	}
	return err
}

func (c *serverConn) awaitBytes(enough int) error {
	for c.in.w-c.in.r < enough {
		err := c.awaitSome()
		if err == nil {
			continue
		}
		told := c.told
		if told == toWait || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.told = toWait
		_ = c.rwc.SetReadDeadline(c.readDeadline)
		if told == toClose {
			return err
		}
		if c.in.r == c.in.w {
			c.dropBuffers()
		}
	}
	return nil
}

// awaitSome reads into the buffer, or without one.
func (c *serverConn) awaitSome() error {
	if c.bufs != nil {
		return c.in.fill()
	}
	n, err := c.rwc.Read(c.single[:])
	if n == 0 {
		return err
	}
	c.takeBuffers()
	c.in.w = copy(c.in.buf, c.single[:])
	// the rest has come as well
	if n, err = c.rwc.ReadNowait(c.in.buf[c.in.w:]); err == nil {
		c.in.w += n
	}
	return nil
}

// nudge wakes the connection if it waits for a request. If bytes have come, it reads them first.
func (c *serverConn) nudge(why nudge) {
	if c.waits && c.told < why {
		c.told = why
		_ = c.rwc.SetReadDeadline(longAgo)
	}
}

// closeIfNew closes a connection that has not sent a request.
func (c *serverConn) closeIfNew() {
	switch {
	case c.ended || c.state != http.StateNew:
	case c.waits:
		c.nudge(toClose)
	default: // the handshake
		_ = c.rwc.Close()
	}
}

func (c *serverConn) setReadDeadline(d time.Time) {
	if !d.Equal(c.readDeadline) {
		c.readDeadline = d
		_ = c.rwc.SetReadDeadline(d)
	}
}

// refuse answers a request that could not be read, with what net/http says.
func (c *serverConn) refuse(err error) error {
	const headers = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	var bad badRequest
	switch {
	case errors.As(err, &bad):
	case errors.Is(err, errHeadTooLong):
		bad.status = http.StatusRequestHeaderFieldsTooLarge
	default:
		return err // the client is gone, or late
	}
	line := fmt.Sprintf("%d %s", bad.status, http.StatusText(bad.status))
	if bad.public != "" {
		line += ": " + bad.public
	}
	text := line
	if bad.body != "" {
		text = bad.body
	}
	_, werr := io.WriteString(c.rwc, "HTTP/1.1 "+line+headers+text)
	if werr == nil && bad.status == http.StatusRequestHeaderFieldsTooLarge {
		return c.closeGently()
	}
	return werr
}

// gentleClose is how long a client that still sends may read the answer before the connection is
// closed, which loses what it has not read.
const gentleClose = 500 * time.Millisecond

// closeGently ends the sending direction, and drops what the client sends until it closes its own.
func (c *serverConn) closeGently() error {
	if err := c.rwc.CloseWrite(); err != nil {
		return err
	}
	c.takeBuffers()
	_ = c.rwc.SetReadDeadline(c.s.loop.Now().Add(gentleClose))
	for {
		if _, err := c.rwc.Read(c.in.buf); err != nil {
			return onlyCancel(err)
		}
	}
}

// answer runs the handler for a request and finishes the response. It reports whether the
// connection can be used again.
func (c *serverConn) answer(r *request) (again bool, err error) {
	w := c.newResponse(r)
	c.res = w
	if r.expect == expectUnknown {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusExpectationFailed)
		err := w.finish()
		c.release(w)
		return false, err
	}
	if w.body.sawEOF {
		c.watch()
	}
	c.s.handle(w, w.req)
	cancelled := c.task.Cancelling() > 0 || errors.Is(w.failure, asyncio.ErrCancelled)
	w.cancel(nil)
	if c.hijacked {
		c.release(w)
		return false, nil
	}
	if w.failure != nil || cancelled {
		w.giveUp(cancelled)
	}
	err = w.finish()
	c.unwatch()
	if w.req.MultipartForm != nil {
		_ = w.req.MultipartForm.RemoveAll()
	}
	if c.writeDeadline {
		c.writeDeadline = false
		_ = c.rwc.SetWriteDeadline(time.Time{})
	}
	again = w.reusable()
	c.release(w)
	switch {
	case err != nil:
		return false, err
	case cancelled:
		return false, &asyncio.CancelledError{Msg: "in an HTTP handler"}
	case !again && (!w.body.complete() || c.in.r < c.in.w):
		return false, c.closeGently()
	case !again:
		return false, nil
	}
	c.setState(http.StateIdle)
	c.setReadDeadline(time.Time{})
	return !c.s.noKeep, nil
}

// release ends a response: whoever still has it can do nothing with it.
func (c *serverConn) release(w *serverResponse) {
	c.shared = w.busy || w.body.busy
	w.over, w.body.closed = true, true
	if c.bufs != nil && cap(c.out) > outputBuffer { // for a long head
		c.out = c.bufs.out[:0]
	}
	c.res = nil
}

// watch waits for the end of the client while a handler runs (serve 4).
func (c *serverConn) watch() {
	if c.hijacked || c.ended || c.res == nil {
		return
	}
	c.watching = true
	c.setReadDeadline(time.Time{})
	c.look()
}

func (c *serverConn) unwatch() {
	if c.watching {
		c.watching = false
		_ = c.rwc.OnReadable(nil)
	}
}

// look reads what has come. It is called when the watch begins, and then by the loop.
func (c *serverConn) look() {
	if !c.watching || c.bufs == nil {
		return
	}
	p := c.in.room()
	if len(p) == 0 { // pipelined requests
		c.watching = false
		return
	}
	n, err := c.rwc.ReadNowait(p)
	switch {
	case n > 0:
		c.in.w += n
		c.watching = false
	case err == nil || errors.Is(err, asyncio.ErrWouldBlock):
		_ = c.rwc.OnReadable(c.peek)
	default:
		c.watching = false
		c.gone()
	}
}

// gone ends the context of the current request, because the client has gone.
func (c *serverConn) gone() {
	if c.res != nil {
		c.res.cancel(errClientGone)
	}
}

var errClientGone = &asyncio.CancelledError{Msg: clientGone}

// readFailed notes an error of a read.
func (c *serverConn) readFailed(err error) error {
	if !isRefusal(err) {
		c.gone()
	}
	return err
}

// isRefusal reports whether err says nothing about the connection: the caller was cancelled, or may
// not use it.
func isRefusal(err error) bool {
	return errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asyncio.ErrBusy) || errors.Is(err, asyncio.ErrForeignGoroutine) ||
		errors.Is(err, asyncio.ErrNotInTask)
}

// send sends everything in c.out.
func (c *serverConn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	p := c.out
	err := c.write(p)
	c.out = p[:0]
	return err
}

// write writes p past c.out. After an error the connection is not used again (serve 3).
func (c *serverConn) write(p []byte) error {
	if c.failed {
		return net.ErrClosed
	}
	_, err := c.rwc.Write(p)
	if err != nil {
		c.failed = true
		if !isRefusal(err) {
			c.gone()
		}
	}
	return err
}

// emit adds p to what is to be sent, and sends what does not fit.
func (c *serverConn) emit(p []byte) error {
	if k := cap(c.out) - len(c.out); len(p) > k {
		if len(c.out) > 0 {
			c.out = append(c.out, p[:k]...)
			p = p[k:]
			if err := c.send(); err != nil {
				return err
			}
		}
		if len(p) >= cap(c.out) {
			return c.write(p)
		}
	}
	c.out = append(c.out, p...)
	return nil
}
