package asynciohttp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/idna"
)

// A pool has the connections of a Transport on one loop. Everything in it is for that loop.
//
//	pool 1: A connection is idle, or used by one request, or closed. An idle one is in its host's
//	   list and in that of the pool, and neither has any other.
//	pool 2: conns of a host counts the connections that are dialled, idle or in use. It goes down
//	   when such a connection is closed or given away, and with it a place is free.
//	pool 3: While a request waits, no connection to that host is idle, and under MaxConnsPerHost no
//	   place is free: both go to the request that waits longest.
type pool struct {
	t     *Transport
	loop  *asyncio.EventLoop
	hosts map[routeKey]*host

	newest, oldest *clientConn // the idle connections by age
	idle           int         // their number
	expiry         *asyncio.TimerHandle
}

// A host has the connections that lead the same way.
type host struct {
	key     routeKey
	conns   int           // dialled, idle or in use (pool 2)
	idle    []*clientConn // the youngest is last, and is used first
	waiting []*placeWait  // those that wait, longest first
}

// A placeWait is a request that waits for a connection, or for a place to dial one (pool 3).
type placeWait struct {
	news   *asyncio.Future[asyncio.None]
	served bool
	given  *clientConn // nil: a place
}

func newPool(t *Transport, l *asyncio.EventLoop) *pool {
	return &pool{t: t, loop: l, hosts: make(map[routeKey]*host)}
}

// A route says by what way a request reaches its server.
type route struct {
	proxy  *url.URL // nil for none
	scheme string   // of the request: http or https
	addr   string   // of the server: host:port
	key    routeKey
}

// A routeKey is the same for requests that can share connections. To a proxy of HTTP, plain
// requests for all servers go on the same connections.
type routeKey struct{ proxy, scheme, addr string }

func (t *Transport) routeOf(req *http.Request) (*route, error) {
	r := &route{scheme: req.URL.Scheme, addr: addressOf(req.URL)}
	r.key = routeKey{scheme: r.scheme, addr: r.addr}
	if t.Proxy == nil {
		return r, nil
	}
	var err error
	if r.proxy, err = t.Proxy(req); err != nil || r.proxy == nil {
		return r, err
	}
	switch r.proxy.Scheme {
	case "http", "https":
		if r.scheme == "http" {
			r.key.addr = ""
		}
	case "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("asynciohttp: unsupported scheme %q of a proxy", r.proxy.Scheme)
	}
	r.key.proxy = r.proxy.String()
	return r, nil
}

var schemePorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// addressOf returns the host and port that u leads to.
func addressOf(u *url.URL) string {
	name := u.Hostname()
	for i := range len(name) {
		if name[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(name); err == nil {
				name = ascii
			}
			break
		}
	}
	port := u.Port()
	if port == "" {
		port = schemePorts[u.Scheme]
	}
	return net.JoinHostPort(name, port)
}

// firstHop returns the address to dial.
func (r *route) firstHop() string {
	if r.proxy != nil {
		return addressOf(r.proxy)
	}
	return r.addr
}

func (p *pool) host(key routeKey) *host {
	h := p.hosts[key]
	if h == nil {
		h = &host{key: key}
		p.hosts[key] = h
	}
	return h
}

// get returns a connection for e: an idle one, or one that it dials. The connection then belongs to
// e (transport 2). A connection that has room for several requests, as in HTTP/2, would stay in its
// host's list here for as long as it has.
func (p *pool) get(e *clientExchange, to *route) (*clientConn, error) {
	if e.trace != nil && e.trace.GetConn != nil {
		e.trace.GetConn(to.firstHop())
	}
	h := p.host(to.key)
	if c := h.youngest(); c != nil {
		idleFor := p.take(c)
		c.got(e, httptrace.GotConnInfo{Reused: true, WasIdle: true, IdleTime: idleFor})
		return c, nil
	}
	if limit := p.t.MaxConnsPerHost; limit > 0 && h.conns >= limit {
		c, err := p.wait(e, h)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.got(e, httptrace.GotConnInfo{Reused: true})
			return c, nil
		}
	} else {
		h.conns++
	}
	c := &clientConn{pool: p, host: h}
	dialled := false
	defer func() { // also if dial does not return
		if !dialled {
			c.close()
		}
	}()
	if err := c.dial(e, to); err != nil {
		return nil, e.cause(err)
	}
	dialled = true
	c.got(e, httptrace.GotConnInfo{})
	return c, nil
}

func (h *host) youngest() *clientConn {
	if n := len(h.idle); n > 0 {
		return h.idle[n-1]
	}
	return nil
}

// wait waits for a connection, or for a place to dial one, for which it returns nil (pool 3).
func (p *pool) wait(e *clientExchange, h *host) (*clientConn, error) {
	w := &placeWait{news: asyncio.CreateFuture[asyncio.None](e.ctx)}
	h.waiting = append(h.waiting, w)
	ours := false
	defer func() { // also if the loop closes and unwinds the task
		if !ours {
			p.giveUp(h, w)
		}
	}()
	if _, err := w.news.Await(e.ctx); err != nil {
		return nil, e.cause(err)
	}
	ours = true
	return w.given, nil
}

// giveUp ends a wait. What was handed over already goes to the next (transport 5).
func (p *pool) giveUp(h *host, w *placeWait) {
	switch {
	case !w.served:
		h.waiting = slices.DeleteFunc(h.waiting, func(other *placeWait) bool { return other == w })
	case w.given == nil:
		p.leave(h)
	default:
		p.put(w.given, nil)
	}
}

// serve hands c, or a place if that is nil, to the request that waits longest. It reports whether
// one waits.
func (h *host) serve(c *clientConn) bool {
	for len(h.waiting) > 0 {
		w := h.waiting[0]
		h.waiting[0] = nil
		if h.waiting = h.waiting[1:]; len(h.waiting) == 0 {
			h.waiting = nil
		}
		if w.news.SetResult(asyncio.None{}) == nil { // its task has not been cancelled
			w.served, w.given = true, c
			return true
		}
	}
	return false
}

// leave gives a place back (pool 2).
func (p *pool) leave(h *host) {
	if h.serve(nil) {
		return
	}
	if h.conns--; h.conns == 0 {
		delete(p.hosts, h.key)
	}
}

// Why a connection is not kept.
var (
	errKeepAlivesDisabled = errors.New("asynciohttp: connections are not kept")
	errTooManyIdleHost    = errors.New("asynciohttp: too many idle connections to the host")
	errDiedIdle           = errors.New("asynciohttp: the server closed the idle connection, or sent something that was not asked for")
)

// put takes c back from a request (transport 2), and closes it if the pool does not keep it.
func (p *pool) put(c *clientConn, trace *httptrace.ClientTrace) {
	err := p.keep(c)
	if err != nil {
		c.close()
	}
	if trace != nil && trace.PutIdleConn != nil && err != errKeepAlivesDisabled {
		trace.PutIdleConn(err)
	}
}

// keep hands c to the next request or makes it idle. The error says why it does neither.
func (p *pool) keep(c *clientConn) error {
	t, h := p.t, c.host
	if t.DisableKeepAlives || t.MaxIdleConnsPerHost < 0 {
		return errKeepAlivesDisabled
	}
	c.reused = true
	if h.serve(c) {
		return nil
	}
	if len(h.idle) >= cmp.Or(t.MaxIdleConnsPerHost, http.DefaultMaxIdleConnsPerHost) {
		return errTooManyIdleHost
	}
	if err := c.rest(); err != nil {
		return err
	}
	h.idle = append(h.idle, c)
	c.idle, c.idleSince = true, p.loop.Time()
	if c.older = p.newest; c.older != nil {
		c.older.younger = c
	} else {
		p.oldest = c
	}
	p.newest = c
	p.idle++
	if t.MaxIdleConns > 0 && p.idle > t.MaxIdleConns {
		p.oldest.close()
	}
	if t.IdleConnTimeout > 0 && p.expiry == nil {
		p.expiry = p.loop.CallLater(t.IdleConnTimeout, p.expire)
	}
	return nil
}

// take takes c, which is idle, out of the lists, and returns how long it was idle.
func (p *pool) take(c *clientConn) time.Duration {
	h := c.host
	if last := len(h.idle) - 1; h.idle[last] == c {
		h.idle[last] = nil
		h.idle = h.idle[:last]
	} else {
		h.idle = slices.DeleteFunc(h.idle, func(other *clientConn) bool { return other == c })
	}
	if c.older != nil {
		c.older.younger = c.younger
	} else {
		p.oldest = c.younger
	}
	if c.younger != nil {
		c.younger.older = c.older
	} else {
		p.newest = c.older
	}
	c.older, c.younger, c.idle = nil, nil, false
	if p.idle--; p.idle == 0 && p.expiry != nil {
		p.expiry.Cancel()
		p.expiry = nil
	}
	return p.loop.Time().Sub(c.idleSince)
}

// expire closes the connections that have been idle for too long. One timer serves them all: it is
// set for the oldest at the time, and finds out whether that is still there.
func (p *pool) expire() {
	p.expiry = nil
	limit := p.t.IdleConnTimeout
	for p.oldest != nil {
		left := limit - p.loop.Time().Sub(p.oldest.idleSince)
		if left > 0 {
			p.expiry = p.loop.CallLater(left, p.expire)
			return
		}
		p.oldest.close()
	}
}

func (p *pool) closeIdle() {
	for p.oldest != nil {
		p.oldest.close()
	}
}
