package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// recorder is a server that notes the bytes of each request and what the client's hooks saw.
type recorder struct {
	ln  net.Listener
	mu  sync.Mutex
	got []string
}

func newRecorder(t *testing.T) *recorder {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := &recorder{ln: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *recorder) serve(c net.Conn) {
	defer c.Close()
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			if raw.Len() > 0 {
				r.note(raw.String())
			}
			return
		}
		if req.Header.Get("Expect") != "" {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		_, err = io.Copy(io.Discard, req.Body)
		r.note(raw.String())
		raw.Reset()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, s)
}

// take returns what was noted, and forgets it.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := strings.Join(r.got, "----\n")
	r.got = nil
	return got
}

// hooks returns a trace that notes the calls of the hooks that have to come in one order. Of the
// fields of an unordered map it notes the values too.
func hooks(note func(format string, args ...any)) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(hostPort string) { note("GetConn %s", hostPort) },
		GotConn: func(i httptrace.GotConnInfo) {
			note("GotConn reused %v idle %v conn %v", i.Reused, i.WasIdle, i.Conn != nil)
		},
		PutIdleConn:          func(err error) { note("PutIdleConn %v", err) },
		GotFirstResponseByte: func() { note("GotFirstResponseByte") },
		Got100Continue:       func() { note("Got100Continue") },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			note("Got1xxResponse %d %v", code, h)
			return nil
		},
		WroteHeaderField: func(k string, v []string) { note("WroteHeaderField %s %q", k, v) },
		WroteHeaders:     func() { note("WroteHeaders") },
		Wait100Continue:  func() { note("Wait100Continue") },
		WroteRequest:     func(i httptrace.WroteRequestInfo) { note("WroteRequest failed %v", i.Err != nil) },
	}
}

// Requests are written byte for byte as package net/http writes them, and the hooks are called with
// the same arguments.
func TestTransport_RequestBytes(t *testing.T) {
	// each request has a body of its own
	memory := func(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }
	reader := func(s string) func() io.Reader {
		return func() io.Reader { return io.MultiReader(strings.NewReader(s)) }
	}
	type change = func(r *http.Request)
	header := func(kv ...string) change {
		return func(r *http.Request) {
			for i := 0; i+1 < len(kv); i += 2 {
				r.Header[kv[i]] = append(r.Header[kv[i]], kv[i+1])
			}
		}
	}
	cases := []struct {
		name, method, path string
		body               func() io.Reader // nil for none
		set                change
		transport          func(t *http.Transport)
	}{
		{name: "GET", method: "GET", path: "/"},
		{name: "empty method", method: "", path: "/"},
		{name: "own method", method: "BREW", path: "/pot"},
		{name: "HEAD", method: "HEAD", path: "/"},
		{name: "DELETE", method: "DELETE", path: "/x"},
		{name: "POST without a body", method: "POST", path: "/"},
		{name: "PATCH without a body", method: "PATCH", path: "/"},
		{name: "own method without a body", method: "BREW", path: "/"},
		{name: "query and escapes", method: "GET", path: "/a%2Fb%20c?x=1&y=%26#frag"},
		{name: "no path", method: "GET", path: ""},
		{name: "only a query", method: "GET", path: "?a"},
		{name: "opaque", method: "GET", path: "/", set: func(r *http.Request) { r.URL.Opaque = "//other/%2f" }},
		{name: "fields in order", method: "GET", path: "/", set: header("B", "2", "A", "1", "C", "3", "A", "4")},
		{name: "spaces around values", method: "GET", path: "/", set: header("A", "  b ", "C", "\tx")},
		{name: "odd names", method: "GET", path: "/", set: header("foo-bar", "x", "FOO", "y")},
		{name: "no values", method: "GET", path: "/", set: func(r *http.Request) { r.Header["A"] = nil; r.Header["B"] = []string{} }},
		{name: "excluded fields", method: "POST", path: "/", body: memory("ab"),
			set: header("Host", "x", "Content-Length", "99", "Transfer-Encoding", "x", "Trailer", "y")},
		{name: "User-Agent", method: "GET", path: "/", set: header("User-Agent", " me ")},
		{name: "no User-Agent", method: "GET", path: "/", set: header("User-Agent", "")},
		{name: "two User-Agents", method: "GET", path: "/", set: header("User-Agent", "a", "User-Agent", "b")},
		{name: "Host", method: "GET", path: "/", set: func(r *http.Request) { r.Host = "example.org:123" }},
		{name: "Host, not ASCII", method: "GET", path: "/", set: func(r *http.Request) { r.Host = "bücher.example" }},
		{name: "Host, IPv6 with a zone", method: "GET", path: "/", set: func(r *http.Request) { r.Host = "[fe80::1%en0]:80" }},
		{name: "Host, invalid", method: "GET", path: "/", set: func(r *http.Request) { r.Host = "a b/c" }},
		{name: "Close", method: "GET", path: "/", set: func(r *http.Request) { r.Close = true }},
		{name: "Close and Connection", method: "GET", path: "/", set: func(r *http.Request) { r.Close = true; r.Header.Set("Connection", "foo, close") }},
		{name: "Accept-Encoding", method: "GET", path: "/", set: header("Accept-Encoding", "br")},
		{name: "Accept-Encoding, empty", method: "GET", path: "/", set: header("Accept-Encoding", "")},
		{name: "Range", method: "GET", path: "/", set: header("Range", "bytes=0-1")},
		{name: "DisableCompression", method: "GET", path: "/", transport: func(t *http.Transport) { t.DisableCompression = true }},
		{name: "DisableKeepAlives", method: "GET", path: "/", transport: func(t *http.Transport) { t.DisableKeepAlives = true }},
		{name: "DisableKeepAlives, Upgrade", method: "GET", path: "/", set: header("Connection", "Upgrade", "Upgrade", "x"),
			transport: func(t *http.Transport) { t.DisableKeepAlives = true }},
		{name: "body in memory", method: "POST", path: "/", body: memory("hello")},
		{name: "empty body in memory", method: "POST", path: "/", body: memory("")},
		{name: "bytes", method: "PUT", path: "/", body: func() io.Reader { return bytes.NewReader([]byte("hello")) }},
		{name: "GET with a body", method: "GET", path: "/", body: memory("hello")},
		{name: "unknown length", method: "POST", path: "/", body: reader("hello")},
		{name: "unknown length, empty", method: "POST", path: "/", body: reader("")},
		{name: "GET, unknown length", method: "GET", path: "/", body: reader("hello")},
		{name: "GET, unknown length, empty", method: "GET", path: "/", body: reader("")},
		{name: "DELETE, unknown length, a byte at a time", method: "DELETE", path: "/", body: func() io.Reader { return iotest.OneByteReader(strings.NewReader("hel")) }},
		{name: "body ends with its error", method: "POST", path: "/", body: func() io.Reader { return iotest.DataErrReader(strings.NewReader("hello")) }},
		{name: "length set", method: "POST", path: "/", body: reader("hello"), set: func(r *http.Request) { r.ContentLength = 5 }},
		{name: "length set to -1", method: "POST", path: "/", body: memory("hello"), set: func(r *http.Request) { r.ContentLength = -1 }},
		{name: "chunked by wish", method: "POST", path: "/", body: memory("hello"), set: func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }},
		{name: "chunked by wish, GET", method: "GET", path: "/", body: memory("hello"), set: func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }},
		{name: "identity by wish", method: "POST", path: "/", body: memory("hello"), set: func(r *http.Request) { r.TransferEncoding = []string{"identity"} }},
		{name: "NoBody", method: "POST", path: "/", set: func(r *http.Request) { r.Body = http.NoBody }},
		{name: "NoBody, identity", method: "DELETE", path: "/", set: func(r *http.Request) { r.Body, r.TransferEncoding = http.NoBody, []string{"identity"} }},
		{name: "NoBody, chunked", method: "POST", path: "/", set: func(r *http.Request) { r.Body, r.TransferEncoding = http.NoBody, []string{"chunked"} }},
		{name: "trailer", method: "POST", path: "/", body: reader("hello"), set: func(r *http.Request) { r.Trailer = http.Header{"B": {"1"}, "A": {"2", "3"}} }},
		{name: "trailer without chunks", method: "POST", path: "/", body: memory("hello"), set: func(r *http.Request) { r.Trailer = http.Header{"B": {"1"}} }},
		{name: "forbidden trailer", method: "POST", path: "/", body: reader("hello"), set: func(r *http.Request) { r.Trailer = http.Header{"Content-Length": {"1"}} }},
		{name: "length without a body", method: "POST", path: "/", set: func(r *http.Request) { r.ContentLength = 5 }},
		{name: "control character in the URL", method: "GET", path: "/", set: func(r *http.Request) { r.URL.Opaque = "/a\nb" }},
		{name: "Expect", method: "POST", path: "/", body: memory("hello"), set: header("Expect", "100-continue"),
			transport: func(t *http.Transport) { t.ExpectContinueTimeout = time.Minute }},
		{name: "Expect something else", method: "POST", path: "/", body: memory("hello"), set: header("Expect", "nothing")},
		{name: "Expect without a body", method: "POST", path: "/", set: header("Expect", "100-continue")},
	}
	inTask(t, func(ctx context.Context) error {
		for _, c := range cases {
			rec := newRecorder(t)
			send := func(ctx context.Context, rt http.RoundTripper) string {
				var calls []string
				var mu sync.Mutex
				ctx = httptrace.WithClientTrace(ctx, hooks(func(format string, args ...any) {
					mu.Lock()
					defer mu.Unlock()
					calls = append(calls, fmt.Sprintf(format, args...))
				}))
				var body io.Reader
				if c.body != nil {
					body = c.body()
				}
				req, err := http.NewRequestWithContext(ctx, c.method, "http://"+rec.ln.Addr().String()+c.path, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Method = c.method
				if c.set != nil {
					c.set(req)
				}
				resp, err := rt.RoundTrip(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
				mu.Lock()
				defer mu.Unlock()
				if err != nil { // how far it got by then does not matter
					calls = slices.DeleteFunc(calls, func(s string) bool { return strings.HasPrefix(s, "WroteHeader") })
				}
				// net/http calls these on three goroutines
				slices.Sort(calls)
				return fmt.Sprintf("failed %v\n%s\n%s", err != nil, rec.take(), strings.Join(calls, "\n"))
			}
			oracle := new(http.Transport)
			if c.transport != nil {
				c.transport(oracle)
			}
			want, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return send(ctx, oracle), nil })
			if err != nil {
				return err
			}
			got := send(ctx, &asynciohttp.Transport{DisableCompression: oracle.DisableCompression, DisableKeepAlives: oracle.DisableKeepAlives,
				ExpectContinueTimeout: oracle.ExpectContinueTimeout})
			if got != want {
				t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, want)
			}
		}
		return nil
	})
}

// The same to a proxy.
func TestTransport_RequestBytesToProxy(t *testing.T) {
	inTask(t, func(ctx context.Context) error {
		rec := newRecorder(t)
		proxy, _ := url.Parse("http://joe:secret@" + rec.ln.Addr().String())
		for _, target := range []string{"http://example.org/a?b", "http://example.org:8080", "http://example.org/?", "http://[::1]:80/x"} {
			send := func(ctx context.Context, rt http.RoundTripper) (string, error) {
				req, _ := http.NewRequestWithContext(ctx, "GET", target, nil)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return "", err
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
				return rec.take(), nil
			}
			want, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				return send(ctx, &http.Transport{Proxy: http.ProxyURL(proxy)})
			})
			if err != nil {
				return err
			}
			if got, err := send(ctx, &asynciohttp.Transport{Proxy: http.ProxyURL(proxy)}); got != want || err != nil {
				t.Errorf("%s: got %q, %v, want %q", target, got, err, want)
			}
		}
		return nil
	})
}
