package asynciohttp

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/proxy"
)

// dial opens the connection for e. If it fails, the caller closes c.
func (c *clientConn) dial(e *clientExchange, to *route) error {
	if err := c.reach(e, to); err != nil {
		return err
	}
	return c.begin(e, to)
}

// reach opens the connection up to the server, or to a proxy that is to pass requests on.
func (c *clientConn) reach(e *clientExchange, to *route) error {
	t := c.pool.t
	if to.scheme == "https" && to.proxy == nil && t.DialTLSContext != nil {
		conn, err := t.DialTLSContext(e.dialContext(), "tcp", to.addr)
		return c.attach(e, conn, err, "DialTLSContext")
	}
	dial := t.DialContext
	if dial == nil {
		dial = asyncio.DialContext
	}
	conn, err := dial(e.dialContext(), "tcp", to.firstHop())
	if err := c.attach(e, conn, err, "DialContext"); err != nil {
		if to.proxy != nil {
			return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
		}
		return err
	}
	if to.proxy == nil {
		if to.scheme == "https" {
			return c.startTLS(e, to.addr, to.protocols(t))
		}
		return nil
	}
	if err := c.throughProxy(e, to); err != nil {
		return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	if to.scheme == "https" {
		return c.startTLS(e, to.addr, to.protocols(t))
	}
	return nil
}

// protocols returns those to speak with TLS on the route.
func (to *route) protocols(t *Transport) http.Protocols {
	p := t.protocols()
	if to.onlyHTTP1 {
		p.SetHTTP1(true)
		p.SetHTTP2(false)
	}
	return p
}

// begin begins the protocol that was agreed on.
func (c *clientConn) begin(e *clientExchange, to *route) error {
	t := c.pool.t
	agreed := ""
	switch {
	case c.tls != nil && to.scheme == "https":
		agreed = c.tls.NegotiatedProtocol
	case to.scheme == "http" && t.offersHTTP2(to):
		agreed = protocolHTTP2
	}
	switch agreed {
	case "", protocolHTTP1:
		return nil
	case protocolHTTP2:
		// If it was not the Transport that offered it, DialTLSContext was.
		if to.onlyHTTP1 || t.Protocols != nil && to.scheme == "https" && !t.Protocols.HTTP2() {
			return errors.New("asynciohttp: the server is to speak HTTP/2, which the request or Transport.Protocols excludes: leave h2 out of NextProtos in the tls.Config of DialTLSContext")
		}
		c.h2 = newHTTP2Client(c)
		return nil
	}
	return fmt.Errorf("asynciohttp: the server is to speak %q, which the Transport does not: leave it out of NextProtos in the tls.Config", agreed)
}

// attach makes conn, the result of a dial function, the connection.
func (c *clientConn) attach(e *clientExchange, conn net.Conn, err error, from string) error {
	if err != nil {
		return err
	}
	if conn == nil {
		return fmt.Errorf("asynciohttp: Transport.%s returned nil without an error", from)
	}
	if s, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := s.ConnectionState()
		c.tls = &state
	}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, *tls.Conn:
		own, err := asyncio.NewConn(e.ctx, conn)
		if err != nil {
			return err
		}
		conn = own
	}
	c.use(conn)
	return nil
}

// startTLS does the handshake with the server at addr.
func (c *clientConn) startTLS(e *clientExchange, addr string, speak http.Protocols) error {
	plain, ok := c.conn.(*asyncio.Conn)
	if !ok {
		return fmt.Errorf("asynciohttp: TLS needs an *asyncio.Conn, and Transport.DialContext returned a %T: return what asyncio.DialContext returns, or set DialTLSContext: %w", c.conn, errors.ErrUnsupported)
	}
	config := new(tls.Config)
	if c.pool.t.TLSClientConfig != nil {
		config = c.pool.t.TLSClientConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	if config.Time == nil {
		config.Time = e.loop.Now
	}
	config.NextProtos = offer(config.NextProtos, speak)
	var opts []asyncio.StreamOption
	if d := c.pool.t.TLSHandshakeTimeout; d > 0 {
		opts = append(opts, asyncio.TLSHandshakeTimeout(d))
	}
	if e.trace != nil && e.trace.TLSHandshakeStart != nil {
		e.trace.TLSHandshakeStart()
	}
	var state tls.ConnectionState
	secured, err := asyncio.TLSClient(e.ctx, plain, config, opts...)
	if _, ok := err.(*asyncio.TimeoutError); ok { // callers ask for a net.Error
		err = errHandshakeTimeout
	}
	if err == nil {
		state = secured.ConnectionState()
		c.tls = &state
		c.use(secured)
	}
	if e.trace != nil && e.trace.TLSHandshakeDone != nil {
		e.trace.TLSHandshakeDone(state, err)
	}
	return err
}

// offer returns the protocols to offer to a server: the caller's, with those of HTTP that are to be
// spoken. If that is HTTP/1.1 alone, nothing need be said.
func offer(wanted []string, speak http.Protocols) []string {
	offered := slices.DeleteFunc(slices.Clone(wanted), func(p string) bool {
		return p == protocolHTTP1 && !speak.HTTP1() || p == protocolHTTP2 && !speak.HTTP2()
	})
	if !speak.HTTP2() {
		return offered
	}
	if !slices.Contains(offered, protocolHTTP2) {
		offered = append(offered, protocolHTTP2)
	}
	if speak.HTTP1() && !slices.Contains(offered, protocolHTTP1) {
		offered = append(offered, protocolHTTP1)
	}
	return offered
}

// throughProxy prepares a connection to a proxy for requests to the server.
func (c *clientConn) throughProxy(e *clientExchange, to *route) error {
	if strings.HasPrefix(to.proxy.Scheme, "socks5") {
		return c.socks(e, to)
	}
	if to.proxy.Scheme == "https" {
		if err := c.startTLS(e, to.firstHop(), onlyHTTP1); err != nil {
			return err
		}
		if p := c.tls.NegotiatedProtocol; p != "" && p != protocolHTTP1 {
			return fmt.Errorf("asynciohttp: the proxy is to speak %q, and CONNECT is sent with HTTP/1.1: leave it out of NextProtos in the tls.Config", p)
		}
	}
	if to.scheme == "http" {
		c.proxied, c.proxyAuth = true, basicAuth(to.proxy)
		return nil
	}
	return c.connect(e, to)
}

func basicAuth(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
}

// connectTimeout limits a CONNECT whose request has no deadline, as package net/http does.
const connectTimeout = time.Minute

// connect asks the proxy for a tunnel.
func (c *clientConn) connect(e *clientExchange, to *route) error {
	header := c.pool.t.ProxyConnectHeader
	if get := c.pool.t.GetProxyConnectHeader; get != nil {
		var err error
		if header, err = get(e.ctx, to.proxy, to.addr); err != nil {
			return err
		}
	}
	header = header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if auth := basicAuth(to.proxy); auth != "" {
		header.Set("Proxy-Authorization", auth)
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to.addr}, Host: to.addr, Header: header}
	ctx := e.ctx
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = asyncio.WithTimeout(ctx, connectTimeout)
		defer cancel()
	}
	wire := &wireWith{c.conn, c, ctx}
	if err := req.Write(wire); err != nil {
		return err
	}
	// the server says nothing before it is spoken to, so nothing of the tunnel is read ahead
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(wire, c.pool.t.maxHeader())), req)
	if err != nil {
		return err
	}
	if c.pool.t.OnProxyConnectResponse != nil {
		if err := c.pool.t.OnProxyConnectResponse(e.ctx, to.proxy, req, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode != http.StatusOK {
		_, text, ok := strings.Cut(resp.Status, " ")
		if !ok {
			text = "unknown status code"
		}
		return errors.New(text)
	}
	return nil
}

// wireWith is the connection with a context for its operations.
type wireWith struct {
	net.Conn
	c   *clientConn
	ctx context.Context
}

func (w *wireWith) Read(p []byte) (int, error)  { return w.c.read(w.ctx, p) }
func (w *wireWith) Write(p []byte) (int, error) { return w.c.write(w.ctx, p) }

// dialled is a dialer for what is there already. With both methods no goroutine is used for it.
type dialled struct{ net.Conn }

func (d dialled) Dial(string, string) (net.Conn, error) { return d.Conn, nil }
func (d dialled) DialContext(context.Context, string, string) (net.Conn, error) {
	return d.Conn, nil
}

// socks asks a SOCKS proxy for a connection to the server. The proxy looks the name up.
func (c *clientConn) socks(e *clientExchange, to *route) error {
	var auth *proxy.Auth
	if user := to.proxy.User; user != nil {
		auth = &proxy.Auth{User: user.Username()}
		auth.Password, _ = user.Password()
	}
	d, err := proxy.SOCKS5("tcp", to.firstHop(), auth, dialled{&wireWith{c.conn, c, e.ctx}})
	if err == nil {
		// not by DialContext, which has a goroutine watch its context
		_, err = d.Dial("tcp", to.addr)
	}
	return err
}

// dialContext returns the context for the dial function. Package net calls the hooks of httptrace
// that it finds there on goroutines; they are for the loop here, and run in the order of the calls.
func (e *clientExchange) dialContext() context.Context {
	if e.trace == nil {
		return e.ctx
	}
	own := new(httptrace.ClientTrace)
	post := func(fn func()) { _, _ = e.loop.CallSoonThreadsafe(fn) }
	if hook := e.trace.DNSStart; hook != nil {
		own.DNSStart = func(i httptrace.DNSStartInfo) { post(func() { hook(i) }) }
	}
	if hook := e.trace.DNSDone; hook != nil {
		own.DNSDone = func(i httptrace.DNSDoneInfo) { post(func() { hook(i) }) }
	}
	if hook := e.trace.ConnectStart; hook != nil {
		own.ConnectStart = func(network, addr string) { post(func() { hook(network, addr) }) }
	}
	if hook := e.trace.ConnectDone; hook != nil {
		own.ConnectDone = func(network, addr string, err error) { post(func() { hook(network, addr, err) }) }
	}
	return httptrace.WithClientTrace(hookless{e.ctx}, own)
}

// hookless is a context without its hooks of httptrace.
type hookless struct{ context.Context }

func (c hookless) Value(key any) any {
	v := c.Context.Value(key)
	switch {
	case v == nil:
		return nil
	case reflect.TypeOf(v) == reflect.TypeFor[*httptrace.ClientTrace](),
		reflect.TypeOf(v).String() == "*nettrace.Trace": // package net's part of it
		return nil
	}
	return v
}

// protocols returns those to speak, by the rules of package net/http; there NextProtos alone does
// not suffice.
func (t *Transport) protocols() http.Protocols {
	if t.Protocols != nil {
		return *t.Protocols
	}
	p := onlyHTTP1
	own := t.TLSClientConfig != nil || t.DialContext != nil || t.DialTLSContext != nil
	wanted := t.TLSClientConfig != nil && slices.Contains(t.TLSClientConfig.NextProtos, protocolHTTP2)
	p.SetHTTP2(t.ForceAttemptHTTP2 || wanted || !own)
	return p
}

var onlyHTTP1 = func() (p http.Protocols) {
	p.SetHTTP1(true)
	return p
}()

// offersHTTP2 reports whether HTTP/2 may be spoken on a route.
func (t *Transport) offersHTTP2(to *route) bool {
	p := to.protocols(t)
	if to.scheme == "http" {
		return p.UnencryptedHTTP2() && !p.HTTP1()
	}
	return p.HTTP2()
}

func (t *Transport) maxHeader() int64 { return cmp.Or(t.MaxResponseHeaderBytes, 10<<20) }
