package asynciohttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http/httpguts"
)

// A Transport is an [http.RoundTripper] for tasks: HTTP/1.1 and HTTP/2 spoken by the loop, without
// goroutines. With it an [http.Client] and the libraries built on one (redirects, cookies, SDKs)
// run in a task, in production and on simulated hosts alike:
//
//	client := &http.Client{Transport: &asynciohttp.Transport{}}
//	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) // ctx of the task
//	resp, err := client.Do(req)                                             // suspends the task
//
// The fields have the names and meanings of [http.Transport]'s, zero values too, except that time
// is the loop's and that a TLS handshake always has a limit. Set them before the first use. Any
// number of loops may share a Transport; each has a pool of connections of its own, to which the
// limits apply.
//
// A cancel of the task, asyncio.Timeout, the end of the request's context and a limit of the
// Transport's own end a request wherever it waits. Its connection is closed then, and the pool goes
// on with the others. [http.Client]'s Timeout works too, but counts the machine's time on a
// goroutine, so on virtual time such a request is refused; use [asyncio.WithTimeout] there. Reads
// of a response's body heed the request's context and no other, so [asyncio.FailAfter] limits them
// only if the request was made with its ctx.
//
//	transport 1: A request is carried out by the task that calls RoundTrip. It writes the request
//	   and reads the response. A second task writes the body of the request if that is not in
//	   memory or is long, because the server may answer before it has taken all of it.
//	transport 2: A connection is dialled by the task that needs it, counts from then on, and with
//	   HTTP/1.1 belongs to one request at a time. It returns to the pool when both the response has
//	   been read to its end and the request has been written; it is closed if one of the two fails
//	   or is given up. With HTTP/2 it has a stream for each request, and stays if one fails.
//	transport 3: An idle connection with HTTP/1.1 has no task and no buffer. The loop tells when
//	   something arrives there, which can only be its end or a message nobody asked for, and it is
//	   closed at once. One with HTTP/2 has two tasks of the loop's: one reads, one writes.
//	transport 4: A request is sent a second time only by the rules of package net/http. The server
//	   has not processed it: HTTP/2 can say so. Or it was sent on a connection that had answered
//	   before, of it nothing has come back, and nothing was written, or the method is idempotent (or
//	   there is an Idempotency-Key). Its body must be untouched, or GetBody set. So a POST whose
//	   beginning went out is never repeated, unless the server says that it has not looked at it.
//	transport 5: A task waits for a connection under MaxConnsPerHost, and while another task dials
//	   one that both can use. Connections and places are handed to the task that waits longest. What
//	   is handed to a task that leaves at that moment goes to the next.
//	transport 6: A read of a response's body that a cancel or the end of the context interrupts ends
//	   the response: the connection is closed, or the stream reset, and later reads return the same
//	   error.
//	transport 7: Other goroutines are served too. RoundTrip and the body's methods have a task of
//	   the loop do it, and block the goroutine. Their request bodies are read on goroutines, for
//	   they may be pipes that other goroutines fill. A connection that changes its protocol is one
//	   for goroutines then, unless it has TLS.
type Transport struct {
	// Loop is the loop of requests whose context leads to none, as those of [http.Get] and
	// [http.Client.Get]. If it is nil, such requests are refused. With a loop that serves other
	// goroutines only, all their requests may have any context.
	Loop *asyncio.EventLoop

	// Proxy chooses the proxy for a request: its scheme is http, https or socks5. Nil means none;
	// [http.ProxyFromEnvironment] is meant for it. It must not block.
	Proxy func(*http.Request) (*url.URL, error)

	// OnProxyConnectResponse is called with the answer to a CONNECT. An error makes the request
	// fail.
	OnProxyConnectResponse func(ctx context.Context, proxyURL *url.URL, connectReq *http.Request, connectRes *http.Response) error

	// DialContext opens connections without TLS, or those that TLS is put on. It is called in a
	// task and must return a connection for tasks, such as an [*asyncio.Conn]; one of package net
	// is made into one. Nil means [asyncio.DialContext].
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// DialTLSContext opens connections for https that need no proxy, instead of DialContext and
	// TLSClientConfig. The connection has done its handshake, as one of [asyncio.TLSClient] has.
	DialTLSContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// TLSClientConfig is the configuration for https. Nil means the default one.
	TLSClientConfig *tls.Config

	// TLSHandshakeTimeout limits the handshake. Zero means 60 s.
	TLSHandshakeTimeout time.Duration

	// DisableKeepAlives gives each request a connection of its own.
	DisableKeepAlives bool

	// DisableCompression keeps the Transport from asking for gzip where the request does not say
	// what it accepts. Otherwise it asks, and the body is decompressed while it is read.
	DisableCompression bool

	// MaxIdleConns limits the idle connections of a loop. Zero means no limit.
	MaxIdleConns int

	// MaxIdleConnsPerHost limits the idle connections to a host. Zero means
	// [http.DefaultMaxIdleConnsPerHost].
	MaxIdleConnsPerHost int

	// MaxConnsPerHost limits the connections to a host in every state. A request for which there is
	// none waits. Zero means no limit.
	MaxConnsPerHost int

	// IdleConnTimeout is how long a connection may be idle. Zero means for ever.
	IdleConnTimeout time.Duration

	// ResponseHeaderTimeout limits the wait for the head of the response, after the request was
	// written. Zero means no limit.
	ResponseHeaderTimeout time.Duration

	// ExpectContinueTimeout is how long a body is held back for which the request says "Expect:
	// 100-continue", while the server does not answer. Zero means not at all.
	ExpectContinueTimeout time.Duration

	// ProxyConnectHeader is sent with CONNECT, unless GetProxyConnectHeader is set, which may
	// suspend.
	ProxyConnectHeader    http.Header
	GetProxyConnectHeader func(ctx context.Context, proxyURL *url.URL, target string) (http.Header, error)

	// MaxResponseHeaderBytes limits the head of a response. Zero means 10 MiB.
	MaxResponseHeaderBytes int64

	// ReadBufferSize is the size of a connection's buffer while it is used with HTTP/1.1. Zero
	// means 4 KiB.
	ReadBufferSize int

	// Protocols are those to speak. With TLS the server chooses among HTTP1 and HTTP2. Without TLS,
	// UnencryptedHTTP2 is spoken if HTTP1 is not among them. Nil means HTTP/1.1 and, with TLS,
	// HTTP/2; the latter not if there is a TLSClientConfig or a dial function, unless
	// ForceAttemptHTTP2 is set or the TLSClientConfig offers "h2". A connection of DialTLSContext
	// that has negotiated HTTP/2 speaks it.
	Protocols *http.Protocols

	// ForceAttemptHTTP2 has HTTP/2 offered in spite of a TLSClientConfig or a dial function.
	ForceAttemptHTTP2 bool

	// HTTP2 is the configuration of HTTP/2. Defaults are net/http's. CountError is not called.
	HTTP2 *http.HTTP2Config

	pools   sync.Map // of *pool, by *asyncio.EventLoop
	latest  atomic.Pointer[pool]
	readers sync.Pool // of *bufio.Reader
}

// RoundTrip implements [http.RoundTripper]. Any goroutine may call it: it suspends a task, and
// blocks another goroutine. The request's context leads to the loop, or Transport.Loop does. See
// [Transport] for cancels.
//
// Errors are those of the connection, of the await, and of the request and the response where these
// are malformed: what package net/http refuses is refused. Errors of a limit have a method Timeout
// that returns true.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		if l = t.Loop; l == nil || !l.IsRunning() {
			closeBody(req.Body)
			return nil, fmt.Errorf("%w; make the request with http.NewRequestWithContext, or set Loop (in asynciohttp.Transport)", err)
		}
		ctx = withValues{ctx, l.Context()}
	}
	inTask, err := onLoop(l)
	if err != nil {
		return t.fromOutside(ctx, l, req)
	}
	if !inTask {
		closeBody(req.Body)
		return nil, fmt.Errorf("%w (in Transport.RoundTrip)", asyncio.ErrNotInTask)
	}
	return t.roundTrip(ctx, l, req, req.Body)
}

// fromOutside serves another goroutine (transport 7).
func (t *Transport) fromOutside(ctx context.Context, l *asyncio.EventLoop, req *http.Request) (*http.Response, error) {
	body, closed := req.Body, func() {}
	if body != nil && body != http.NoBody {
		closed = sync.OnceFunc(func() { req.Body.Close() }) // by a goroutine, which it may block
		body = &Body{loop: l.Context(), src: body, release: func() { go closed() }}
	}
	resp, err := asyncio.Call(asyncio.Outside(ctx), l, func(context.Context) (*http.Response, error) {
		resp, err := t.roundTrip(ctx, l, req, body)
		if err == nil {
			forGoroutines(resp)
		}
		return resp, err
	}, asyncio.TaskName(req.Method+" from another goroutine"))
	if err != nil {
		closed()
	}
	return resp, err
}

// forGoroutines gives a connection that speaks another protocol now to the goroutine that asked.
func forGoroutines(resp *http.Response) {
	if body, ok := resp.Body.(*switchedBody); ok {
		if c, ok := body.conn.(*asyncio.Conn); ok {
			body.conn = c.Threadsafe()
		}
	}
}

// onLoop reports whether the caller is a task of l. The error says that it is another goroutine.
func onLoop(l *asyncio.EventLoop) (inTask bool, err error) {
	t, err := callingTask(l.Context())
	return t != nil, err
}

func closeBody(b io.Closer) {
	if b != nil {
		b.Close()
	}
}

// refuseRequest returns the error for a request that cannot be sent.
func refuseRequest(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("asynciohttp: nil Request.URL")
	case req.Header == nil:
		return errors.New("asynciohttp: nil Request.Header")
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return fmt.Errorf("asynciohttp: unsupported protocol scheme %q", req.URL.Scheme)
	}
	if err := refuseHeader(req.Header, "header"); err != nil {
		return err
	}
	if err := refuseHeader(req.Trailer, "trailer"); err != nil {
		return err
	}
	if req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) { // both are tokens
		return fmt.Errorf("asynciohttp: invalid method %q", req.Method)
	}
	if req.URL.Host == "" {
		return errors.New("asynciohttp: no host in Request.URL")
	}
	return nil
}

// refuseHeader does not quote values, which may be secret.
func refuseHeader(h http.Header, kind string) error {
	bad := ""
	for name, values := range h {
		good := httpguts.ValidHeaderFieldName(name)
		for _, v := range values {
			good = good && httpguts.ValidHeaderFieldValue(v)
		}
		if !good && (bad == "" || name < bad) { // the same one in each run
			bad = name
		}
	}
	if bad != "" || h != nil && h[""] != nil {
		return fmt.Errorf("asynciohttp: invalid %s field %q", kind, bad)
	}
	return nil
}

// roundTrip is RoundTrip in a task. body is req.Body, or what stands for it.
func (t *Transport) roundTrip(ctx context.Context, l *asyncio.EventLoop, req *http.Request, body io.ReadCloser) (*http.Response, error) {
	if err := refuseRequest(req); err != nil {
		closeBody(body)
		return nil, err
	}
	e := &clientExchange{t: t, loop: l, ctx: ctx, req: req, trace: httptrace.ContextClientTrace(ctx)}
	if body != nil && (body != http.NoBody || len(req.TransferEncoding) > 0) {
		e.setBody(body)
	}
	if req.Cancel != nil {
		if err := e.heed(req.Cancel); err != nil {
			e.closeBody()
			return nil, err
		}
	}
	resp, err := e.run(t.poolOf(l))
	if err != nil {
		e.end(err)
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// heed makes a close of the request's channel Cancel end the exchange. On virtual time that would
// depend on a goroutine, and on the machine's clock if it comes from a Client's Timeout.
func (e *clientExchange) heed(cancel <-chan struct{}) error {
	if ahead := time.Since(e.loop.Now()); ahead.Abs() > time.Second {
		return fmt.Errorf("asynciohttp: Request.Cancel and http.Client.Timeout count on goroutines and on the machine's clock, and this loop is on virtual time: use asyncio.WithTimeout and http.NewRequestWithContext: %w", errors.ErrUnsupported)
	}
	ctx, stop := context.WithCancelCause(e.ctx)
	e.ctx, e.stop = ctx, stop
	go func() {
		select {
		case <-cancel:
			stop(errRequestCancelled)
		case <-ctx.Done():
		}
	}()
	return nil
}

var errRequestCancelled = fmt.Errorf("asynciohttp: Request.Cancel was closed: %w", context.Canceled)

// run sends the request and returns the response, on the second and later connections too where
// that is allowed (transport 4).
func (e *clientExchange) run(p *pool) (*http.Response, error) {
	for try := 0; ; try++ {
		if e.ctx.Err() != nil {
			return nil, context.Cause(e.ctx)
		}
		to, err := e.t.routeOf(e.req)
		if err != nil {
			return nil, err
		}
		e.c, e.st = nil, nil // of an earlier try
		c, err := p.get(e, to)
		if err != nil {
			return nil, err
		}
		resp, err := e.on(c)
		if err == nil {
			return resp, nil
		}
		if left, ok := err.(*unprocessed); ok && left.err == errHTTP2Left {
			try-- // it had no stream
		} else if ok && try < maxTries {
			if err := e.backOff(try); err != nil {
				return nil, err
			}
		} else if !e.mayRetry(c, err) {
			return nil, bareError(err)
		}
		if err := e.rewind(err); err != nil {
			return nil, err
		}
	}
}

// maxTries is how often a request is sent again that servers do not process.
const maxTries = 7

// backOff waits before a request is sent again that a server has not processed, except the first
// time: 1 s, 2 s, 4 s and so on, and up to a tenth more.
func (e *clientExchange) backOff(try int) error {
	if try == 0 {
		return nil
	}
	d := time.Second << (try - 1)
	d += time.Duration(asyncio.Rand(e.ctx).Int64N(int64(d/10) + 1))
	return e.cause(asyncio.Sleep(e.ctx, d))
}

// mayRetry reports whether a request that failed on c with err may be sent again.
func (e *clientExchange) mayRetry(c *clientConn, err error) bool {
	lost, ok := err.(*lostConn)
	switch {
	case !ok || !c.reused && (e.st == nil || !e.st.proven):
		return false
	case !e.wrote:
		return e.length() == 0 || e.req.GetBody != nil
	}
	return !lost.writing && e.replayable()
}

// replayable reports whether sending the request twice does no harm.
func (e *clientExchange) replayable() bool {
	if e.body != nil && e.req.GetBody == nil {
		return false
	}
	switch cmp.Or(e.req.Method, http.MethodGet) {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	// a header that is there counts even if it is empty, as in package net/http
	_, key := e.req.Header["Idempotency-Key"]
	_, x := e.req.Header["X-Idempotency-Key"]
	return key || x
}

// rewind gets the request's body again, if it was touched. why is the error of the last try.
func (e *clientExchange) rewind(why error) error {
	e.wrote = false
	if e.body == nil || !e.body.read && !e.body.closed {
		return nil
	}
	e.closeBody()
	if e.req.GetBody == nil {
		return fmt.Errorf("asynciohttp: the request cannot be sent again, as its body was read and GetBody is nil: %w", bareError(why))
	}
	body, err := e.req.GetBody()
	if err != nil {
		return err
	}
	e.setBody(body)
	return nil
}

// CloseIdleConnections closes the connections that are idle. Connections in use go on, and are kept
// afterwards. Any goroutine may call it; connections of a loop that it does not run on are closed
// in that loop's next iteration. It does not suspend.
func (t *Transport) CloseIdleConnections() {
	t.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		if p.loop.IsClosed() {
			t.pools.Delete(p.loop)
			t.latest.CompareAndSwap(p, nil)
			return true
		}
		if inTask, err := onLoop(p.loop); err == nil && inTask {
			p.closeIdle()
		} else {
			_, _ = p.loop.CallSoonThreadsafe(p.closeIdle)
		}
		return true
	})
}

// Clone returns a Transport with the same settings, and with connections of its own. Any goroutine
// may call it.
func (t *Transport) Clone() *Transport {
	c := &Transport{
		Loop: t.Loop, Proxy: t.Proxy, OnProxyConnectResponse: t.OnProxyConnectResponse,
		DialContext: t.DialContext, DialTLSContext: t.DialTLSContext,
		TLSHandshakeTimeout: t.TLSHandshakeTimeout,
		DisableKeepAlives:   t.DisableKeepAlives, DisableCompression: t.DisableCompression,
		MaxIdleConns: t.MaxIdleConns, MaxIdleConnsPerHost: t.MaxIdleConnsPerHost,
		MaxConnsPerHost: t.MaxConnsPerHost, IdleConnTimeout: t.IdleConnTimeout,
		ResponseHeaderTimeout: t.ResponseHeaderTimeout, ExpectContinueTimeout: t.ExpectContinueTimeout,
		ProxyConnectHeader: t.ProxyConnectHeader.Clone(), GetProxyConnectHeader: t.GetProxyConnectHeader,
		MaxResponseHeaderBytes: t.MaxResponseHeaderBytes, ReadBufferSize: t.ReadBufferSize,
		ForceAttemptHTTP2: t.ForceAttemptHTTP2,
	}
	if t.TLSClientConfig != nil {
		c.TLSClientConfig = t.TLSClientConfig.Clone()
	}
	if t.Protocols != nil {
		own := *t.Protocols
		c.Protocols = &own
	}
	if t.HTTP2 != nil {
		own := *t.HTTP2
		c.HTTP2 = &own
	}
	return c
}

// poolOf returns the pool for l.
func (t *Transport) poolOf(l *asyncio.EventLoop) *pool {
	if p := t.latest.Load(); p != nil && p.loop == l {
		return p
	}
	v, ok := t.pools.Load(l)
	if !ok {
		t.pools.Range(func(other, _ any) bool { // forget loops that are gone
			if other.(*asyncio.EventLoop).IsClosed() {
				t.pools.Delete(other)
			}
			return true
		})
		v, _ = t.pools.LoadOrStore(l, newPool(t, l))
	}
	p := v.(*pool)
	t.latest.Store(p)
	return p
}
