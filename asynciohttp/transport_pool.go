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
	"strings"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"
)

// A pool has the connections of a Transport on one loop. Everything in it is for that loop.
//
//	pool 1: A connection with HTTP/1.1 is idle, or used by one request, or closed. One with HTTP/2
//	   is idle while no request uses it or is about to. An idle one is in its host's list and in
//	   that of the pool, and neither has any other.
//	pool 2: conns of a host counts the connections that are dialled, idle or in use. It goes down
//	   when such a connection is closed or given away, and with it a place is free.
//	pool 3: While a request waits, there is nothing for it: no idle connection to the host, none
//	   with HTTP/2 that has room, and no dial is allowed. What there is goes to the request that
//	   waits longest.
//	pool 4: A dial is not allowed beyond MaxConnsPerHost, and not while one is under way whose
//	   connection several requests may share. If the request that dials is given up, the next one
//	   dials. If the dial fails, or it turns out that the server speaks HTTP/1.1, all do.
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
	key      routeKey
	conns    int           // dialled, idle or in use (pool 2)
	dialling int           // how many of them are dialled
	idle     []*clientConn // the youngest is last, and is used first
	shared   []*clientConn // with HTTP/2, for further requests; the oldest is first
	mayShare bool          // connections may turn out to speak HTTP/2
	streams  uint32        // that the server allows on one, 0 if it has not said so
	waiting  []*placeWait  // those that wait, longest first
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
	proxy     *url.URL // nil for none
	scheme    string   // of the request: http or https
	addr      string   // of the server: host:port
	onlyHTTP1 bool     // the request means nothing in HTTP/2
	key       routeKey
}

// A routeKey is the same for requests that can share connections. To a proxy of HTTP, plain
// requests for all servers go on the same connections.
type routeKey struct {
	proxy, scheme, addr string
	onlyHTTP1           bool
}

func (t *Transport) routeOf(req *http.Request) (*route, error) {
	r := &route{scheme: req.URL.Scheme, addr: addressOf(req.URL)}
	r.onlyHTTP1 = r.scheme == "https" && upgradesToWebSocket(req.Header)
	r.key = routeKey{scheme: r.scheme, addr: r.addr, onlyHTTP1: r.onlyHTTP1}
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

// upgradesToWebSocket reports whether a header asks for WebSocket as HTTP/1.1 does it.
func upgradesToWebSocket(h http.Header) bool {
	return strings.EqualFold(h.Get("Upgrade"), "websocket") && httpguts.HeaderValuesContainsToken(h["Connection"], "upgrade")
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

func (p *pool) host(to *route) *host {
	h := p.hosts[to.key]
	if h == nil {
		h = &host{key: to.key, mayShare: !p.t.DisableKeepAlives && p.t.offersHTTP2(to)}
		p.hosts[to.key] = h
	}
	return h
}

// get returns a connection for e: one with HTTP/2 that has room, an idle one, or one that it dials.
// The connection, or a place in it, then belongs to e (transport 2).
func (p *pool) get(e *clientExchange, to *route) (*clientConn, error) {
	if e.trace != nil && e.trace.GetConn != nil {
		e.trace.GetConn(to.firstHop())
	}
	h := p.host(to)
	c := h.ready()
	switch {
	case c != nil:
		how := httptrace.GotConnInfo{Reused: true, WasIdle: c.idle}
		if c.idle {
			how.IdleTime = p.loop.Time().Sub(c.idleSince)
		}
		p.assign(c)
		c.got(e, how)
		return c, nil
	case p.mayDial(h):
		h.conns++
		h.dialling++
	default:
		c, err := p.wait(e, h)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.got(e, httptrace.GotConnInfo{Reused: true})
			return c, nil
		}
	}
	c, err := p.dial(e, h, to)
	if err != nil {
		return nil, err
	}
	c.got(e, httptrace.GotConnInfo{})
	return c, nil
}

// dial opens a connection for e, which has a place for it.
func (p *pool) dial(e *clientExchange, h *host, to *route) (*clientConn, error) {
	c := &clientConn{pool: p, host: h}
	dialled := false
	defer func() { // also if dial does not return
		h.dialling--
		if dialled {
			p.match(h)
		} else {
			c.close()
		}
	}()
	if err := c.dial(e, to); err != nil {
		if err = e.cause(err); e.ctx.Err() == nil && onlyCancel(err) == nil {
			h.mayShare = false // the next ones may fail as slowly, so not one after the other
		}
		return nil, err
	}
	dialled = true
	h.mayShare = c.h2 != nil && !c.h2.single
	if c.h2 != nil {
		c.h2.join()
	}
	return c, nil
}

// ready returns a connection that can take a request, nil if there is none.
func (h *host) ready() *clientConn {
	for _, c := range h.shared {
		if c.h2.room() > 0 {
			return c
		}
	}
	for _, c := range slices.Backward(h.idle) {
		if c.h2 == nil {
			return c
		}
	}
	return nil
}

// mayDial reports whether a request may dial (pool 4).
func (p *pool) mayDial(h *host) bool {
	if limit := p.t.MaxConnsPerHost; limit > 0 && h.conns >= limit {
		return false
	}
	if h.mayShare && h.dialling > 0 {
		return false
	}
	strict := p.t.HTTP2 != nil && p.t.HTTP2.StrictMaxConcurrentRequests
	return !strict || len(h.shared) == 0
}

// assign takes c, or a place in it, for a request.
func (p *pool) assign(c *clientConn) {
	if c.idle {
		p.take(c)
	}
	if c.h2 != nil {
		c.h2.reserved++
	}
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
		p.forget(h)
	case w.given == nil:
		h.dialling--
		p.leave(h)
	case w.given.h2 != nil:
		w.given.h2.unreserve()
	default:
		p.put(w.given, nil)
	}
}

// match gives what there is to the requests that wait (pool 3).
func (p *pool) match(h *host) {
	for len(h.waiting) > 0 {
		c := h.ready()
		if c == nil && !p.mayDial(h) {
			return
		}
		w := h.next()
		if w == nil {
			return
		}
		if w.given = c; c != nil {
			p.assign(c)
		} else {
			h.conns++
			h.dialling++
		}
	}
}

// next wakes the request that waits longest, for which the caller has something. It returns nil if
// none waits.
func (h *host) next() *placeWait {
	for len(h.waiting) > 0 {
		w := h.waiting[0]
		h.waiting[0] = nil
		if h.waiting = h.waiting[1:]; len(h.waiting) == 0 {
			h.waiting = nil
		}
		if w.news.SetResult(asyncio.None{}) == nil { // its task has not been cancelled
			w.served = true
			return w
		}
	}
	return nil
}

// leave gives a place back (pool 2).
func (p *pool) leave(h *host) {
	h.conns--
	p.match(h)
	p.forget(h)
}

// forget drops a host that nobody uses.
func (p *pool) forget(h *host) {
	if h.conns == 0 && len(h.waiting) == 0 && p.hosts[h.key] == h {
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
	if w := h.next(); w != nil {
		w.given = c
		return nil
	}
	if h.isFull(t) {
		return errTooManyIdleHost
	}
	if err := c.rest(); err != nil {
		return err
	}
	p.list(c)
	return nil
}

// isFull reports whether the host has as many idle connections as are kept.
func (h *host) isFull(t *Transport) bool {
	return len(h.idle) >= cmp.Or(t.MaxIdleConnsPerHost, http.DefaultMaxIdleConnsPerHost)
}

// list makes c one of the idle connections.
func (p *pool) list(c *clientConn) {
	t, h := p.t, c.host
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
}

// take takes c, which is idle, out of the lists.
func (p *pool) take(c *clientConn) {
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
