package asynciohttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// http2Site runs body in a task, with net/http's server for h, which speaks HTTP/2 with TLS or
// without, and with a Transport of each kind that speaks it too.
func http2Site(t *testing.T, secure bool, h http.Handler, body func(ctx context.Context, url string, ours *asynciohttp.Transport, theirs *http.Transport) error) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = discarded
	ours, theirs := new(asynciohttp.Transport), new(http.Transport)
	if secure {
		srv.EnableHTTP2 = true
		srv.StartTLS()
		config := srv.Client().Transport.(*http.Transport).TLSClientConfig
		ours.TLSClientConfig, ours.ForceAttemptHTTP2 = config.Clone(), true
		theirs.TLSClientConfig, theirs.ForceAttemptHTTP2 = config.Clone(), true
	} else {
		srv.Config.Protocols = unencrypted()
		srv.Start()
		ours.Protocols, theirs.Protocols = unencrypted(), unencrypted()
	}
	defer srv.Close()
	defer theirs.CloseIdleConnections()
	inTask(t, func(ctx context.Context) error {
		defer ours.CloseIdleConnections()
		return body(ctx, srv.URL, ours, theirs)
	})
}

// unencrypted returns the protocols of those that speak HTTP/2 without TLS.
func unencrypted() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// overBoth runs body over TLS and without.
func overBoth(t *testing.T, body func(t *testing.T, secure bool)) {
	for name, secure := range map[string]bool{"TLS": true, "without TLS": false} {
		t.Run(name, func(t *testing.T) { body(t, secure) })
	}
}

// show answers with what it got, in every detail, and in the manner that the path asks for.
func show(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Date", "today")
	w.Header()["X-Many"] = []string{"1", "2"}
	w.Header().Add("Set-Cookie", "a=1")
	w.Header().Add("Set-Cookie", "b=2")
	switch r.URL.Path {
	case "/status":
		w.WriteHeader(418)
	case "/none":
		w.WriteHeader(204)
		return
	case "/unchanged":
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(304)
		return
	case "/trailer":
		w.Header().Set("Trailer", "After, Never")
		fmt.Fprintf(w, "%d bytes", len(body))
		w.Header().Set("After", "all")
		w.Header().Set(http.TrailerPrefix+"Unannounced", "yes")
		return
	case "/gzip":
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			defer zw.Close()
			fmt.Fprint(zw, strings.Repeat("compressed ", 1000))
			return
		}
	case "/large":
		w.Write(bytes.Repeat([]byte("0123456789abcdef"), 100<<10))
		return
	case "/parts":
		for i := range 5 {
			fmt.Fprintf(w, "part %d, ", i)
			w.(http.Flusher).Flush()
		}
	case "/abort":
		fmt.Fprint(w, "half of")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "/short":
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "too little")
		return
	case "/nothing":
		return
	case "/hints":
		w.Header().Set("Link", "</style>")
		w.WriteHeader(103)
		w.WriteHeader(103)
	}
	fmt.Fprintf(w, "%s %s %s %s length %d encoding %v tls %v err %v\n", r.Method, r.RequestURI, r.Host, r.Proto, r.ContentLength, r.TransferEncoding, r.TLS != nil, err)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(w, "%s: %q\n", k, r.Header[k])
	}
	fmt.Fprintf(w, "%d bytes %.20q, trailer %q", len(body), body, r.Trailer)
}

// TestTransportHTTP2_LikeNetHTTP compares the Transport with net/http's, request by request.
func TestTransportHTTP2_LikeNetHTTP(t *testing.T) {
	type setting func(r *http.Request)
	large := strings.Repeat("a large body ", 20<<10)
	cases := []struct {
		name, method, path string
		body               func() io.Reader
		set                setting
	}{
		{"GET", "GET", "/a?b=c", nil, nil},
		{"no method", "", "/", nil, nil},
		{"fields", "GET", "/", nil, func(r *http.Request) {
			r.Header = http.Header{"X-One": {"1"}, "x-small": {"2"}, "X-Two": {"a", "b"}, "User-Agent": {"own"}, "Cookie": {"a=1; b=2;c=3", "d=4"}, "Accept-Encoding": {"br"},
				"Host": {"no"}, "Content-Length": {"7"}, "Connection": {"keep-alive"}, "Te": {"trailers"}, "Empty": {""}}
			r.Host = "other.example"
		}},
		{"no user agent", "GET", "/", nil, func(r *http.Request) { r.Header["User-Agent"] = nil }},
		{"POST", "POST", "/", func() io.Reader { return strings.NewReader("a body") }, nil},
		{"POST without a body", "POST", "/", nil, nil},
		{"PUT, http.NoBody", "PUT", "/", func() io.Reader { return http.NoBody }, nil},
		{"DELETE without a body", "DELETE", "/", nil, nil},
		{"an unknown length", "POST", "/", func() io.Reader { return io.MultiReader(strings.NewReader("un"), strings.NewReader("known")) }, nil},
		{"an unknown length of nothing", "POST", "/", func() io.Reader { return io.MultiReader(strings.NewReader("")) }, nil},
		{"a large body", "POST", "/", func() io.Reader { return strings.NewReader(large) }, nil},
		{"a large body of unknown length", "POST", "/", func() io.Reader { return io.MultiReader(strings.NewReader(large)) }, nil},
		{"a large GET", "GET", "/", func() io.Reader { return strings.NewReader(large) }, nil},
		{"chunked", "POST", "/", func() io.Reader { return strings.NewReader("x") }, func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }},
		{"a trailer", "POST", "/", func() io.Reader { return strings.NewReader("x") }, func(r *http.Request) { r.Trailer = http.Header{"Sum": {"1"}, "B": {"2", "3"}} }},
		{"a trailer, a large body", "POST", "/", func() io.Reader { return io.MultiReader(strings.NewReader(large)) }, func(r *http.Request) { r.Trailer = http.Header{"Sum": {"1"}} }},
		{"a trailer without values", "POST", "/", func() io.Reader { return strings.NewReader("x") }, func(r *http.Request) { r.Trailer = http.Header{"Sum": nil} }},
		{"too long a body", "POST", "/", func() io.Reader { return strings.NewReader("too long") }, func(r *http.Request) { r.ContentLength = 3 }},
		{"too long a large body", "POST", "/", func() io.Reader { return strings.NewReader(large) }, func(r *http.Request) { r.ContentLength = int64(len(large)) - 1 }},
		{"a body that fails", "POST", "/", func() io.Reader {
			return io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) { return 0, errors.New("a fault") }))
		}, nil},
		{"Expect", "POST", "/", func() io.Reader { return strings.NewReader("x") }, func(r *http.Request) { r.Header.Set("Expect", "100-continue") }},
		{"HEAD", "HEAD", "/", nil, nil},
		{"HEAD of parts", "HEAD", "/parts", nil, nil},
		{"HEAD of much", "HEAD", "/large", nil, nil},
		{"OPTIONS *", "OPTIONS", "/", nil, func(r *http.Request) { r.URL.Path, r.URL.Opaque = "", "*" }},
		{"an opaque URL", "GET", "/", nil, func(r *http.Request) { r.URL.Opaque = "//" + r.URL.Host + "/opaque" }},
		{"an opaque URL that is none", "GET", "/", nil, func(r *http.Request) { r.URL.Opaque = "none" }},
		{"a status", "GET", "/status", nil, nil},
		{"204", "GET", "/none", nil, nil},
		{"a response trailer", "GET", "/trailer", nil, nil},
		{"a response trailer, a POST", "POST", "/trailer", func() io.Reader { return strings.NewReader(large) }, nil},
		{"gzip", "GET", "/gzip", nil, nil},
		{"gzip, not asked for", "GET", "/gzip", nil, func(r *http.Request) { r.Header.Set("Range", "bytes=0-") }},
		{"gzip, asked for by the program", "GET", "/gzip", nil, func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }},
		{"much", "GET", "/large", nil, nil},
		{"parts", "GET", "/parts", nil, nil},
		{"an abort", "GET", "/abort", nil, nil},
		{"too short a response", "GET", "/short", nil, nil},
		{"an empty response", "GET", "/nothing", nil, nil},
		{"early hints", "GET", "/hints", nil, nil},
		{"an upgrade", "GET", "/", nil, func(r *http.Request) { r.Header.Set("Upgrade", "other") }},
		{"an encoding of transfer", "GET", "/", nil, func(r *http.Request) { r.Header.Set("Transfer-Encoding", "gzip") }},
		{"a connection of one's own", "GET", "/", nil, func(r *http.Request) { r.Header.Set("Connection", "own") }},
		{"a bad Host", "GET", "/", nil, func(r *http.Request) { r.Host = "a b" }},
		{"a bad trailer", "POST", "/", func() io.Reader { return strings.NewReader("x") }, func(r *http.Request) { r.Trailer = http.Header{"Content-Length": {"1"}} }},
		{"too large a header", "GET", "/", nil, func(r *http.Request) { r.Header.Set("X-Large", strings.Repeat("x", 2<<20)) }},
		{"Close", "GET", "/", nil, func(r *http.Request) { r.Close = true }},
	}
	overBoth(t, func(t *testing.T, secure bool) {
		http2Site(t, secure, http.HandlerFunc(show), func(ctx context.Context, url string, ours *asynciohttp.Transport, theirs *http.Transport) error {
			for _, c := range cases {
				make := func(ctx context.Context) *http.Request {
					var body io.Reader
					if c.body != nil {
						body = c.body()
					}
					req, err := http.NewRequestWithContext(ctx, c.method, url+c.path, body)
					if err != nil {
						t.Fatal(err)
					}
					if req.Method = c.method; c.set != nil {
						c.set(req)
					}
					return req
				}
				want, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return describe(theirs, make(context.Background())), nil })
				if err != nil {
					return err
				}
				if got := describe(ours, make(ctx)); got != want {
					t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, want)
				} else if want != "error" && !strings.HasPrefix(got, "HTTP/2.0") {
					t.Errorf("%s: %s", c.name, got)
				}
			}
			return nil
		})
	})
}

// Both sides of a stream are independent: the program reads what the server says while it sends.
func TestTransportHTTP2_FullDuplex(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		http2Site(t, secure, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Count")
			w.(http.Flusher).Flush()
			buf, n := make([]byte, 100), 0
			for {
				m, err := r.Body.Read(buf)
				if n += m; err != nil {
					break
				}
				fmt.Fprintf(w, "got %s", buf[:m])
				w.(http.Flusher).Flush()
			}
			w.Header().Set("Count", fmt.Sprint(n))
		}), func(ctx context.Context, url string, ours *asynciohttp.Transport, _ *http.Transport) error {
			say := asyncio.NewQueue[string](0)
			body := readerFunc(func(p []byte) (int, error) {
				s, err := say.Get(ctx)
				if err == nil && s == "" {
					err = io.EOF
				}
				return copy(p, s), err
			})
			req, err := http.NewRequestWithContext(ctx, "POST", url, body)
			if err != nil {
				return err
			}
			resp, err := ours.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			for i := range 3 {
				word := fmt.Sprintf("word %d", i)
				if err := say.Put(ctx, word); err != nil {
					return err
				}
				got := make([]byte, len("got ")+len(word))
				if _, err := io.ReadFull(resp.Body, got); string(got) != "got "+word || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
			if err := say.Put(ctx, ""); err != nil {
				return err
			}
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil || resp.Trailer.Get("Count") != "18" {
				t.Errorf("%q, %v, %v", rest, err, resp.Trailer)
			}
			return nil
		})
	})
}

// Which protocol is spoken with TLS, by the settings.
func TestTransportHTTP2_Choice(t *testing.T) {
	protocols := func(set ...func(p *http.Protocols, on bool)) *http.Protocols {
		p := new(http.Protocols)
		for _, s := range set {
			s(p, true)
		}
		return p
	}
	http1, http2, h2c := (*http.Protocols).SetHTTP1, (*http.Protocols).SetHTTP2, (*http.Protocols).SetUnencryptedHTTP2
	secure := httptest.NewUnstartedServer(http.HandlerFunc(show))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewUnstartedServer(http.HandlerFunc(show))
	plain.Config.Protocols = protocols(http1, h2c)
	plain.Start()
	defer plain.Close()
	config := secure.Client().Transport.(*http.Transport).TLSClientConfig
	wanting := config.Clone()
	wanting.NextProtos = []string{"h2"}
	dial := asyncio.DialContext
	socket := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	for name, c := range map[string]struct {
		url    string
		tr     *asynciohttp.Transport
		header http.Header
		want   string
	}{
		"a configuration of TLS":        {secure.URL, &asynciohttp.Transport{TLSClientConfig: config}, nil, "HTTP/1.1"},
		"forced":                        {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}, nil, "HTTP/2.0"},
		"offered by the configuration":  {secure.URL, &asynciohttp.Transport{TLSClientConfig: wanting}, nil, "HTTP/2.0"},
		"offered, and excluded":         {secure.URL, &asynciohttp.Transport{TLSClientConfig: wanting, Protocols: protocols(http1)}, nil, "HTTP/1.1"},
		"both":                          {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, Protocols: protocols(http1, http2)}, nil, "HTTP/2.0"},
		"HTTP/2 alone":                  {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, Protocols: protocols(http2)}, nil, "HTTP/2.0"},
		"a dial function":               {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, DialContext: dial}, nil, "HTTP/1.1"},
		"a dial function, forced":       {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, DialContext: dial, ForceAttemptHTTP2: true}, nil, "HTTP/2.0"},
		"WebSocket":                     {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}, socket, "HTTP/1.1"},
		"without TLS":                   {plain.URL, &asynciohttp.Transport{}, nil, "HTTP/1.1"},
		"without TLS, both":             {plain.URL, &asynciohttp.Transport{Protocols: protocols(http1, h2c)}, nil, "HTTP/1.1"},
		"without TLS, HTTP/2 alone":     {plain.URL, &asynciohttp.Transport{Protocols: protocols(h2c)}, nil, "HTTP/2.0"},
		"without TLS, HTTP/2 for TLS":   {plain.URL, &asynciohttp.Transport{Protocols: protocols(http2)}, nil, "HTTP/1.1"},
		"HTTP/2 without TLS, with TLS":  {secure.URL, &asynciohttp.Transport{TLSClientConfig: config, Protocols: protocols(h2c)}, nil, "HTTP/1.1"},
		"a dial function that does TLS": {secure.URL, &asynciohttp.Transport{DialTLSContext: dialTLS(wanting)}, nil, "HTTP/2.0"},
		"a dial function, and excluded": {secure.URL, &asynciohttp.Transport{DialTLSContext: dialTLS(wanting), Protocols: protocols(http1)}, nil, "NextProtos"},
	} {
		t.Run(name, func(t *testing.T) {
			inTask(t, func(ctx context.Context) error {
				defer c.tr.CloseIdleConnections()
				for _, tr := range []*asynciohttp.Transport{c.tr, c.tr.Clone()} {
					defer tr.CloseIdleConnections()
					req, err := http.NewRequestWithContext(ctx, "GET", c.url, nil)
					if err != nil {
						return err
					}
					if c.header != nil {
						req.Header = c.header
					}
					resp, _, err := exchange(tr.RoundTrip, req)
					switch {
					case err != nil && !strings.Contains(err.Error(), c.want):
						t.Error(err)
					case err == nil && resp.Proto != c.want:
						t.Error(resp.Proto)
					case err == nil && (resp.TLS != nil) != (c.url == secure.URL):
						t.Error(resp.TLS)
					}
				}
				return nil
			})
		})
	}
}

// dialTLS is a function for DialTLSContext.
func dialTLS(config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := asyncio.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		config := config.Clone()
		config.ServerName = "example.com"
		return asyncio.TLSClient(ctx, c, config)
	}
}

// The hooks of httptrace, in their order. They run in the task of the request.
func TestTransportHTTP2_Trace(t *testing.T) {
	http2Site(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hints" {
			w.WriteHeader(103)
		}
		io.Copy(w, r.Body)
	}), func(ctx context.Context, url string, ours *asynciohttp.Transport, _ *http.Transport) error {
		ours.ExpectContinueTimeout = 10 * time.Second
		me := asyncio.CurrentTask(ctx)
		var calls []string
		note := func(format string, args ...any) {
			calls = append(calls, fmt.Sprintf(format, args...))
			if asyncio.CurrentTask(ctx) != me {
				calls = append(calls, "in another task")
			}
		}
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GetConn: func(string) { note("GetConn") },
			GotConn: func(i httptrace.GotConnInfo) { note("GotConn %v %v", i.Reused, i.WasIdle) },
			WroteHeaderField: func(key string, value []string) {
				note("%s %s", key, strings.Replace(value[0], url[len("http://"):], "host", 1))
			},
			WroteHeaders:         func() { note("WroteHeaders") },
			WroteRequest:         func(i httptrace.WroteRequestInfo) { note("WroteRequest %v", i.Err) },
			GotFirstResponseByte: func() { note("GotFirstResponseByte") },
			Got1xxResponse:       func(code int, _ textproto.MIMEHeader) error { note("Got1xxResponse %d", code); return nil },
			Got100Continue:       func() { note("Got100Continue") },
		})
		for _, c := range []struct {
			path   string
			body   io.Reader
			header []string
			want   string
		}{
			{"/", nil, nil, "GetConn, GotConn false false, :authority host, :method POST, :path /, :scheme http, content-length 0, accept-encoding gzip, user-agent Go-http-client/2.0, WroteHeaders, WroteRequest <nil>, GotFirstResponseByte"},
			{"/hints", strings.NewReader("x"), []string{"Accept-Encoding", "br", "User-Agent", ""}, "GetConn, GotConn true true, :authority host, :method POST, :path /hints, :scheme http, accept-encoding br, content-length 1, WroteHeaders, WroteRequest <nil>, GotFirstResponseByte, Got1xxResponse 103"},
			{"/", strings.NewReader("x"), []string{"Expect", "100-continue", "Accept-Encoding", "br", "User-Agent", ""}, "GetConn, GotConn true true, :authority host, :method POST, :path /, :scheme http, accept-encoding br, expect 100-continue, content-length 1, WroteHeaders, GotFirstResponseByte, Got100Continue, Got1xxResponse 100"},
		} {
			calls = nil
			req, err := http.NewRequestWithContext(traced, "POST", url+c.path, c.body)
			if err != nil {
				return err
			}
			if _, _, err := exchange(ours.RoundTrip, req, c.header...); err != nil {
				return err
			}
			// the task that sends the body may be done before the head is there
			got := strings.Join(slices.DeleteFunc(calls, func(s string) bool {
				return len(c.header) == 6 && (s == "WroteRequest <nil>" || s == "in another task")
			}), ", ")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		}
		return nil
	})
}

// Goroutines are served too, and get a stream for both directions.
func TestTransportHTTP2_Goroutines(t *testing.T) {
	http2Site(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		io.Copy(flushing{w}, r.Body)
	}), func(ctx context.Context, url string, ours *asynciohttp.Transport, _ *http.Transport) error {
		ours.Loop, _ = asyncio.GetRunningLoop(ctx)
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			pr, pw := io.Pipe()
			req, err := http.NewRequestWithContext(ctx, "POST", url, pr)
			if err != nil {
				return asyncio.None{}, err
			}
			resp, err := ours.RoundTrip(req)
			if err != nil {
				return asyncio.None{}, err
			}
			defer resp.Body.Close()
			for i := range 3 {
				word := fmt.Sprintf("word %d", i)
				go io.WriteString(pw, word)
				got := make([]byte, len(word))
				if _, err := io.ReadFull(resp.Body, got); string(got) != word || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
			pw.Close()
			rest, err := io.ReadAll(resp.Body)
			if len(rest) > 0 || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
			return asyncio.None{}, nil
		})
		return err
	})
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}
