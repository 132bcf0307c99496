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
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// dial opens the connection for e. If it fails, the caller closes c.
func (c *clientConn) dial(e *clientExchange, to *route) error {
	t := c.t
	if to.scheme == "https" && to.proxy == nil && t.DialTLSContext != nil {
		conn, err := t.DialTLSContext(e.dialContext(), "tcp", to.addr)
		if err := c.attach(e, conn, err, "DialTLSContext"); err != nil {
			return err
		}
		return c.refuseProtocol()
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
			return c.startTLS(e, to.addr)
		}
		return nil
	}
	if err := c.throughProxy(e, to); err != nil {
		return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	if to.scheme == "https" {
		return c.startTLS(e, to.addr)
	}
	return nil
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
func (c *clientConn) startTLS(e *clientExchange, addr string) error {
	plain, ok := c.conn.(*asyncio.Conn)
	if !ok {
		return fmt.Errorf("asynciohttp: TLS needs an *asyncio.Conn, and Transport.DialContext returned a %T: return what asyncio.DialContext returns, or set DialTLSContext: %w", c.conn, errors.ErrUnsupported)
	}
	config := new(tls.Config)
	if c.t.TLSClientConfig != nil {
		config = c.t.TLSClientConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	if config.Time == nil {
		config.Time = e.loop.Now
	}
	var opts []asyncio.StreamOption
	if d := c.t.TLSHandshakeTimeout; d > 0 {
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
	if err != nil {
		return err
	}
	return c.refuseProtocol()
}

// refuseProtocol returns an error if TLS has chosen a protocol that is not spoken here.
func (c *clientConn) refuseProtocol() error {
	if c.tls == nil || c.tls.NegotiatedProtocol == "" || c.tls.NegotiatedProtocol == "http/1.1" {
		return nil
	}
	return fmt.Errorf("asynciohttp: the server is to speak %q, which the Transport does not: leave it out of NextProtos in the tls.Config", c.tls.NegotiatedProtocol)
}

// throughProxy prepares a connection to a proxy for requests to the server.
func (c *clientConn) throughProxy(e *clientExchange, to *route) error {
	if strings.HasPrefix(to.proxy.Scheme, "socks5") {
		return c.socks(e, to)
	}
	if to.proxy.Scheme == "https" {
		if err := c.startTLS(e, to.firstHop()); err != nil {
			return err
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
	header := c.t.ProxyConnectHeader
	if get := c.t.GetProxyConnectHeader; get != nil {
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
	wire := &wireWith{c, ctx}
	if err := req.Write(wire); err != nil {
		return err
	}
	// the server says nothing before it is spoken to, so nothing of the tunnel is read ahead
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(wire, c.t.maxHeader())), req)
	if err != nil {
		return err
	}
	if c.t.OnProxyConnectResponse != nil {
		if err := c.t.OnProxyConnectResponse(e.ctx, to.proxy, req, resp); err != nil {
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
	c   *clientConn
	ctx context.Context
}

func (w *wireWith) Read(p []byte) (int, error)  { return w.c.read(w.ctx, p) }
func (w *wireWith) Write(p []byte) (int, error) { return w.c.write(w.ctx, p) }

// socks asks a SOCKS proxy for a connection to the server (RFC 1928, RFC 1929). The proxy looks the
// name up.
func (c *clientConn) socks(e *clientExchange, to *route) error {
	name, portText, err := net.SplitHostPort(to.addr)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return err
	}
	wire := &wireWith{c, e.ctx}
	const version, noAuth, password = 5, 0, 2
	hello := []byte{version, 1, noAuth}
	if to.proxy.User != nil {
		hello = []byte{version, 2, noAuth, password}
	}
	var answer [262]byte
	if _, err := wire.Write(hello); err != nil {
		return err
	}
	if _, err := io.ReadFull(wire, answer[:2]); err != nil {
		return err
	}
	switch {
	case answer[0] != version:
		return fmt.Errorf("unexpected version %d of SOCKS", answer[0])
	case answer[1] == noAuth:
	case answer[1] == password && to.proxy.User != nil:
		user := to.proxy.User.Username()
		secret, _ := to.proxy.User.Password()
		if user == "" || len(user) > 255 || secret == "" || len(secret) > 255 {
			return errors.New("invalid user name or password for SOCKS")
		}
		login := append([]byte{1, byte(len(user))}, user...)
		login = append(append(login, byte(len(secret))), secret...)
		if _, err := wire.Write(login); err != nil {
			return err
		}
		if _, err := io.ReadFull(wire, answer[:2]); err != nil {
			return err
		}
		if answer[1] != 0 {
			return errors.New("user name or password for SOCKS refused")
		}
	default:
		return errors.New("no acceptable authentication for SOCKS")
	}
	ask := []byte{version, 1, 0}
	if ip := net.ParseIP(name); ip.To4() != nil {
		ask = append(append(ask, 1), ip.To4()...)
	} else if ip != nil {
		ask = append(append(ask, 4), ip...)
	} else if len(name) <= 255 {
		ask = append(append(ask, 3, byte(len(name))), name...)
	} else {
		return errors.New("the host's name is too long for SOCKS")
	}
	if _, err := wire.Write(append(ask, byte(port>>8), byte(port))); err != nil {
		return err
	}
	if _, err := io.ReadFull(wire, answer[:5]); err != nil {
		return err
	}
	if answer[0] != version {
		return fmt.Errorf("unexpected version %d of SOCKS", answer[0])
	}
	if answer[1] != 0 {
		return fmt.Errorf("the SOCKS proxy could not connect to %s (code %d)", to.addr, answer[1])
	}
	rest := map[byte]int{1: 4, 3: 1 + int(answer[4]), 4: 16}[answer[3]]
	if rest == 0 {
		return fmt.Errorf("unknown type %d of address from the SOCKS proxy", answer[3])
	}
	// the first byte of the address is there, and two more are the port
	_, err = io.ReadFull(wire, answer[5:5+rest-1+2])
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

func (t *Transport) maxHeader() int64 { return cmp.Or(t.MaxResponseHeaderBytes, 10<<20) }
