package asynciohttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// An idle connection with TLS stays in spite of what TLS itself sends, and its end is noticed when
// it comes.
func TestTransport_DeadIdleTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
				srv := httptest.NewUnstartedServer(http.HandlerFunc(echo))
				var idle, closed int
				states := make(chan http.ConnState, 100)
				srv.Config.ConnState = func(_ net.Conn, state http.ConnState) { states <- state }
				srv.StartTLS()
				defer srv.Close()
				s.URL = srv.URL
				s.tr.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				s.tr.TLSClientConfig.MaxVersion = version
				count := func(want http.ConnState, n *int, until int) error {
					for *n < until {
						state, _, err := asyncio.Recv(ctx, states)
						if err != nil {
							return err
						}
						if state == want {
							*n++
						}
					}
					return nil
				}
				var reused []bool
				traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) }})
				for i := range 3 {
					if _, got, err := s.do(traced, "POST", "/", strings.NewReader("x")); got != "POST / x <nil>" || err != nil {
						t.Errorf("%q, %v", got, err)
					}
					if err := count(http.StateIdle, &idle, i+1); err != nil {
						return err
					}
				}
				srv.CloseClientConnections()
				if err := count(http.StateClosed, &closed, 1); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, 20*time.Millisecond); err != nil {
					return err
				}
				if _, got, err := s.do(traced, "POST", "/", io.MultiReader(strings.NewReader("x"))); got != "POST / x <nil>" || err != nil {
					t.Errorf("after the end: %q, %v", got, err)
				}
				if !slices.Equal(reused, []bool{false, true, true, false}) {
					t.Errorf("reused: %v", reused)
				}
				s.tr.CloseIdleConnections()
				return nil
			})
		})
	}
}

// The dial functions: what they may return, and what they get.
func TestTransport_Dial(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		secure := httptest.NewTLSServer(http.HandlerFunc(echo))
		defer secure.Close()
		config := secure.Client().Transport.(*http.Transport).TLSClientConfig
		plain := s.URL
		within := func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := asyncio.DialContext(ctx, network, addr)
			return struct{ net.Conn }{c}, err
		}
		for _, c := range []struct {
			name string
			url  string
			tr   *asynciohttp.Transport
			fix  string // in the error
		}{
			{"package net's connection", plain, &asynciohttp.Transport{DialContext: (&net.Dialer{}).DialContext}, ""},
			{"package net's connection, TLS", secure.URL, &asynciohttp.Transport{DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: config}, ""},
			{"a connection within another", plain, &asynciohttp.Transport{DialContext: within}, ""},
			{"a connection within another, TLS", secure.URL, &asynciohttp.Transport{DialContext: within, TLSClientConfig: config}, "set DialTLSContext"},
			{"crypto/tls", secure.URL, &asynciohttp.Transport{DialTLSContext: (&tls.Dialer{Config: config}).DialContext}, ""},
			{"asyncio's TLS", secure.URL, &asynciohttp.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := asyncio.Dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				own := config.Clone()
				own.ServerName = "example.com"
				return asyncio.TLSClient(ctx, c, own)
			}}, ""},
			{"nothing", plain, &asynciohttp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, nil }}, "returned nil"},
			{"another protocol", secure.URL, &asynciohttp.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := asyncio.DialContext(ctx, network, addr)
				return &negotiated{c.(*asyncio.Conn)}, err
			}}, "NextProtos"},
		} {
			s.tr, s.URL = c.tr, c.url
			s.client.Transport = s.tr
			for range 2 {
				_, got, err := s.do(ctx, "POST", "/", strings.NewReader("x"))
				if c.fix == "" && (got != "POST / x <nil>" || err != nil) || c.fix != "" && (err == nil || !strings.Contains(err.Error(), c.fix)) {
					t.Errorf("%s: %q, %v", c.name, got, err)
				}
			}
			s.tr.CloseIdleConnections()
		}
		return nil
	})
}

// negotiated is a connection whose TLS has chosen a protocol that is not spoken here.
type negotiated struct{ *asyncio.Conn }

func (*negotiated) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{NegotiatedProtocol: "h3"}
}

// The hooks that package net calls on goroutines run on the loop, in their order, before the
// connection is there.
func TestTransport_DialHooks(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
		var calls []string // the race detector sees whether it is shared
		note := func(s string) {
			// addresses of both families may be tried
			if len(calls) == 0 || calls[len(calls)-1] != s {
				calls = append(calls, s)
			}
		}
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GetConn:      func(string) { note("GetConn") },
			DNSStart:     func(i httptrace.DNSStartInfo) { note("DNSStart " + i.Host) },
			DNSDone:      func(i httptrace.DNSDoneInfo) { note("DNSDone") },
			ConnectStart: func(string, string) { note("Connect") },
			ConnectDone:  func(string, string, error) { note("Connect") },
			GotConn:      func(httptrace.GotConnInfo) { note("GotConn") },
		})
		if _, _, err := s.do(traced, "GET", "/", nil); err != nil {
			return err
		}
		if got, want := strings.Join(calls, ", "), "GetConn, DNSStart localhost, DNSDone, Connect, GotConn"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		return nil
	})
}

// A hook that panics costs its request, and no connection.
func TestTransport_HookPanics(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		s.tr.MaxConnsPerHost = 1
		oh := func() { panic("oh") }
		for name, trace := range map[string]*httptrace.ClientTrace{
			"GetConn":              {GetConn: func(string) { oh() }},
			"GotConn":              {GotConn: func(httptrace.GotConnInfo) { oh() }},
			"WroteHeaders":         {WroteHeaders: oh},
			"WroteRequest":         {WroteRequest: func(httptrace.WroteRequestInfo) { oh() }},
			"GotFirstResponseByte": {GotFirstResponseByte: oh},
			"PutIdleConn":          {PutIdleConn: func(error) { oh() }},
		} {
			for range 2 {
				func() {
					defer func() {
						if v := recover(); v != "oh" {
							t.Errorf("%s: recovered %v", name, v)
						}
					}()
					_, _, err := s.do(httptrace.WithClientTrace(ctx, trace), "GET", "/", nil)
					t.Errorf("%s: %v", name, err)
				}()
				if _, got, err := s.do(ctx, "GET", "/", nil); got != "GET /  <nil>" || err != nil {
					t.Errorf("%s, afterwards: %q, %v", name, got, err)
				}
			}
		}
		return nil
	})
}

// socksProxy serves SOCKS5 as far as the client's part goes, and passes connections on.
func socksProxy(t *testing.T, user, password string) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	serve := func(c net.Conn) error {
		p := make([]byte, 300)
		take := func(n int) []byte { _, _ = io.ReadFull(c, p[:n]); return p[:n] }
		methods := take(int(take(2)[1]))
		if user == "" {
			_, _ = c.Write([]byte{5, 0})
		} else if strings.IndexByte(string(methods), 2) < 0 {
			_, _ = c.Write([]byte{5, 255})
			return nil
		} else {
			_, _ = c.Write([]byte{5, 2})
			u := string(take(int(take(2)[1])))
			w := string(take(int(take(1)[0])))
			if u != user || w != password {
				_, _ = c.Write([]byte{1, 1})
				return nil
			}
			_, _ = c.Write([]byte{1, 0})
		}
		var host string
		switch take(4)[3] {
		case 1:
			host = net.IP(take(4)).String()
		case 3:
			host = string(take(int(take(1)[0])))
		case 4:
			host = net.IP(take(16)).String()
		}
		port := take(2)
		if host == "refused.example" {
			_, err := c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
			return err
		}
		up, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1]))))
		if err != nil {
			return err
		}
		_, _ = c.Write(append([]byte{5, 0, 0, 3, 5}, "proxy\x00\x00"...))
		go func() { _, _ = io.Copy(struct{ io.Writer }{up}, c); up.Close() }()
		_, err = io.Copy(struct{ io.Writer }{c}, up)
		return err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = serve(c) }()
		}
	}()
	return ln.Addr().String()
}

// A SOCKS proxy that falls silent is left when the request ends.
func TestTransport_SOCKSEnds(t *testing.T) {
	for _, sent := range []string{"", "\x05", "\x05\x00", "\x05\x00\x05\x00\x00\x01"} {
		closed := false
		scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
			if _, err := io.WriteString(c, sent); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, br)
			closed = true
			return err
		}, func(ctx context.Context, tr *asynciohttp.Transport) error {
			tr.Proxy = http.ProxyURL(&url.URL{Scheme: "socks5", Host: "srv:80"})
			err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
				_, err := ask(ctx, tr, "GET", nil)
				return err
			})
			if !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("after %q: %v", sent, err)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if !closed {
				t.Errorf("after %q: the connection is open", sent)
			}
			return nil
		})
	}
}

func TestTransport_SOCKS(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		secure := httptest.NewTLSServer(http.HandlerFunc(echo))
		defer secure.Close()
		open, locked := socksProxy(t, "", ""), socksProxy(t, "joe", "secret")
		plain := s.URL
		for _, c := range []struct{ proxy, url, fails string }{
			{"socks5://" + open, plain, ""},
			{"socks5h://" + open, strings.Replace(plain, "127.0.0.1", "localhost", 1), ""},
			{"socks5://" + open, secure.URL, ""},
			{"socks5://joe:secret@" + locked, plain, ""},
			{"socks5://joe:wrong@" + locked, plain, "authentication failed"},
			{"socks5://" + locked, plain, "no acceptable authentication"},
			{"socks5://" + open, "http://refused.example", "host unreachable"},
			{"ftp://" + open, plain, "unsupported scheme"},
		} {
			u, _ := url.Parse(c.proxy)
			s.tr.Proxy = http.ProxyURL(u)
			s.tr.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
			s.URL = c.url
			_, got, err := s.do(ctx, "POST", "/", strings.NewReader("x"))
			if c.fails == "" && (got != "POST / x <nil>" || err != nil) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("%s, %s: %q, %v", c.proxy, c.url, got, err)
			}
			var op *net.OpError
			if c.fails != "" && !strings.HasPrefix(c.proxy, "ftp") && (!errors.As(err, &op) || op.Op != "proxyconnect") {
				t.Errorf("%s: %v", c.proxy, err)
			}
			s.tr.CloseIdleConnections()
		}
		return nil
	})
}
