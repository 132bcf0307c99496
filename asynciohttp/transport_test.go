package asynciohttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// clientSite is net/http's server, and a client of asynciohttp's that is used in a task.
type clientSite struct {
	*httptest.Server
	tr     *asynciohttp.Transport
	client *http.Client
	conns  atomic.Int64 // accepted
	open   atomic.Int64 // accepted and not closed
}

// clientOf runs body in a task, with a server for h.
func clientOf(t *testing.T, h http.Handler, body func(ctx context.Context, s *clientSite) error) {
	t.Helper()
	s := &clientSite{tr: &asynciohttp.Transport{}}
	s.client = &http.Client{Transport: s.tr}
	s.Server = httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.conns.Add(1)
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		}
	}
	s.Server.Start()
	defer s.Server.Close()
	inTask(t, func(ctx context.Context) error {
		defer s.tr.CloseIdleConnections()
		return body(ctx, s)
	})
}

// inTask runs body in a task, with a limit that only a hang reaches.
func inTask(t *testing.T, body func(ctx context.Context) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, 20*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(ctx) })
	}))
	if err != nil {
		t.Error(err)
	}
}

// do sends a request and returns the status and the body of the response.
func (s *clientSite) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		return nil, "", err
	}
	return exchange(s.client.Do, req)
}

// exchange sends req by do, with more fields, and returns the response and its body.
func exchange(do func(*http.Request) (*http.Response, error), req *http.Request, header ...string) (*http.Response, string, error) {
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
	w.Header().Set("X-Encoding", strings.Join(r.TransferEncoding, ","))
	w.Header().Set("X-Trailer", fmt.Sprint(r.Trailer))
	fmt.Fprintf(w, "%s %s %s %v", r.Method, r.URL.Path, b, err)
}

func TestTransport_RoundTrip(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		long := strings.Repeat("0123456789abcdef", 20_000)
		for _, c := range []struct {
			name, method string
			body         io.Reader
			sent         string
			length       string
			encoding     string
		}{
			{"no body", "GET", nil, "", "0", ""},
			{"in memory", "POST", strings.NewReader("hello"), "hello", "5", ""},
			{"empty, in memory", "POST", strings.NewReader(""), "", "0", ""},
			{"long, in memory", "PUT", strings.NewReader(long), long, fmt.Sprint(len(long)), ""},
			{"unknown length", "POST", io.MultiReader(strings.NewReader("a"), strings.NewReader("bc")), "abc", "-1", "chunked"},
			{"long, unknown length", "POST", io.MultiReader(strings.NewReader(long), strings.NewReader(long)), long + long, "-1", "chunked"},
			{"GET, unknown length", "GET", io.MultiReader(strings.NewReader("a"), strings.NewReader("bc")), "abc", "-1", "chunked"},
			{"GET, unknown length, empty", "GET", io.MultiReader(), "", "0", ""},
		} {
			resp, got, err := s.do(ctx, c.method, "/x", c.body)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if want := fmt.Sprintf("%s /x %s <nil>", c.method, c.sent); got != want {
				t.Errorf("%s: got %.60q, want %.60q", c.name, got, want)
			}
			if l, e := resp.Header.Get("X-Length"), resp.Header.Get("X-Encoding"); l != c.length || e != c.encoding {
				t.Errorf("%s: length %s, encoding %q", c.name, l, e)
			}
		}
		if n := s.conns.Load(); n != 1 {
			t.Errorf("%d connections for requests one after the other", n)
		}
		return nil
	})
}

func TestTransport_Client(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/cookie", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/there", echo)
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("Accept-Encoding: %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		zw := gzip.NewWriter(w)
		zw.Write(bytes.Repeat([]byte("zip "), 10_000))
		zw.Close()
	})
	mux.HandleFunc("/trailer", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(w, r.Trailer.Get("X-Up"))
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	})
	clientOf(t, mux, func(ctx context.Context, s *clientSite) error {
		if _, got, err := s.do(ctx, "POST", "/cookie", strings.NewReader("again")); err != nil || got != "POST /there again <nil>" {
			t.Errorf("redirect: %q, %v", got, err)
		}
		resp, got, err := s.do(ctx, "GET", "/gzip", nil)
		if err != nil || got != strings.Repeat("zip ", 10_000) || !resp.Uncompressed || resp.ContentLength != -1 {
			t.Errorf("gzip: %d bytes, %v", len(got), err)
		}
		req, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/trailer", io.MultiReader(strings.NewReader("x")))
		req.Trailer = http.Header{"X-Up": {"up"}}
		resp, err = s.client.Do(req)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "up" || err != nil || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("trailers: %q, %v, %v", b, err, resp.Trailer)
		}
		if n := s.conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		return nil
	})
}

func TestTransport_TLS(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(echo))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
		srv.StartTLS()
		defer srv.Close()
		s.Server = srv
		_, _, err := s.do(ctx, "GET", "/", nil)
		var unknown *tls.CertificateVerificationError
		if !errors.As(err, &unknown) {
			t.Errorf("unknown authority: %v", err)
		}
		s.tr.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
		for range 3 {
			resp, got, err := s.do(ctx, "POST", "/tls", strings.NewReader("secret"))
			if err != nil || got != "POST /tls secret <nil>" || resp.TLS == nil || !resp.TLS.HandshakeComplete {
				t.Errorf("%q, %v", got, err)
			}
		}
		srv.URL = strings.Replace(srv.URL, "https", "http", 1)
		if _, got, err := s.do(ctx, "GET", "/", nil); err != nil || !strings.Contains(got, "HTTP request to an HTTPS server") {
			t.Errorf("http to https: %q, %v", got, err)
		}
		plain := httptest.NewServer(http.HandlerFunc(echo))
		defer plain.Close()
		plain.URL = strings.Replace(plain.URL, "http", "https", 1)
		s.Server = plain
		if _, _, err := s.do(ctx, "GET", "/", nil); !errors.Is(err, http.ErrSchemeMismatch) {
			t.Errorf("https to http: %v", err)
		}
		return nil
	})
}

// Requests that cannot be sent are refused before anything is dialled, and their bodies are closed.
func TestTransport_Refused(t *testing.T) {
	inTask(t, func(ctx context.Context) error {
		tr := &asynciohttp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialled")
			return nil, errors.ErrUnsupported
		}}
		good := func() *http.Request {
			r, _ := http.NewRequestWithContext(ctx, "POST", "http://h/", nil)
			return r
		}
		for name, change := range map[string]func(r *http.Request){
			"nil URL":        func(r *http.Request) { r.URL = nil },
			"nil header":     func(r *http.Request) { r.Header = nil },
			"scheme":         func(r *http.Request) { r.URL.Scheme = "ftp" },
			"no host":        func(r *http.Request) { r.URL.Host = "" },
			"method":         func(r *http.Request) { r.Method = "A B" },
			"header's name":  func(r *http.Request) { r.Header = http.Header{"a b": {"x"}} },
			"empty name":     func(r *http.Request) { r.Header = http.Header{"": {"x"}} },
			"header's value": func(r *http.Request) { r.Header = http.Header{"A": {"x\ny"}} },
			"trailer":        func(r *http.Request) { r.Trailer = http.Header{"A": {"x\ny"}} },
		} {
			for which, rt := range map[string]http.RoundTripper{"ours": tr, "net/http's": &http.Transport{}} {
				r := good()
				body := &closeCounter{Reader: strings.NewReader("x")}
				r.Body, r.ContentLength = body, 1
				change(r)
				resp, err := rt.RoundTrip(r)
				if err == nil {
					resp.Body.Close()
				}
				if err == nil || body.closed.Load() == 0 {
					t.Errorf("%s, %s: %v, closed %d times", name, which, err, body.closed.Load())
				}
			}
		}
		return nil
	})
}

type closeCounter struct {
	io.Reader
	closed atomic.Int64
}

func (c *closeCounter) Close() error { c.closed.Add(1); return nil }

// Where a request may come from, and what it gets where it may not.
func TestTransport_Callers(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		// no loop in the context
		if _, err := s.client.Get(s.URL); !errors.Is(err, asyncio.ErrNoRunningLoop) || !strings.Contains(err.Error(), "NewRequestWithContext") {
			t.Errorf("without a loop: %v", err)
		}
		l, _ := asyncio.GetRunningLoop(ctx)
		s.tr.Loop = l
		resp, err := s.client.Get(s.URL)
		if err != nil {
			return err
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "GET /  <nil>" || err != nil {
			t.Errorf("with Loop: %q, %v", b, err)
		}
		resp.Body.Close()

		// a callback
		done := asyncio.CreateFuture[error](ctx)
		l.CallSoon(func() {
			_, err := s.client.Get(s.URL)
			_ = done.SetResult(err)
		})
		if err, _ := done.Await(ctx); !errors.Is(err, asyncio.ErrNotInTask) {
			t.Errorf("in a callback: %v", err)
		}

		// another goroutine, with and without a loop in its context, with a pipe for a body
		for _, c := range []context.Context{context.Background(), ctx} {
			_, err = asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				pr, pw := io.Pipe()
				go func() {
					for range 3 {
						pw.Write([]byte("piped "))
					}
					pw.Close()
				}()
				_, got, err := s.do(c, "POST", "/t", pr)
				if got != "POST /t piped piped piped  <nil>" || err != nil {
					t.Errorf("on a goroutine: %q, %v", got, err)
				}
				return asyncio.None{}, nil
			})
			if err != nil {
				return err
			}
		}

		// a task, with a pipe that a goroutine fills
		pr, pw := io.Pipe()
		go func() { pw.Write([]byte("piped")); pw.Close() }()
		if _, got, err := s.do(ctx, "POST", "/t", pr); got != "POST /t piped <nil>" || err != nil {
			t.Errorf("a pipe in a task: %q, %v", got, err)
		}
		return nil
	})
}

func TestTransport_Proxy(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		secure := httptest.NewTLSServer(http.HandlerFunc(echo))
		defer secure.Close()
		var mu sync.Mutex
		var seen []string
		origin := s.URL
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen = append(seen, fmt.Sprintf("%s %s %s", r.Method, strings.TrimPrefix(r.RequestURI, origin), r.Header.Get("Proxy-Authorization")))
			mu.Unlock()
			if r.Method != http.MethodConnect {
				r.RequestURI = ""
				r.Header.Del("Proxy-Authorization")
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				w.WriteHeader(resp.StatusCode)
				io.Copy(w, resp.Body)
				return
			}
			if r.Header.Get("X-Refuse") != "" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			up, err := net.Dial("tcp", r.Host)
			if err != nil {
				t.Error(err)
				return
			}
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			// not by splice, whose pipes stay open
			go func() { io.Copy(struct{ io.Writer }{up}, c); up.Close() }()
			go func() { io.Copy(struct{ io.Writer }{c}, up); c.Close() }()
		}))
		defer proxy.Close()
		defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		u, _ := url.Parse(proxy.URL)
		u.User = url.UserPassword("joe", "x")
		s.tr.Proxy = http.ProxyURL(u)
		s.tr.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
		if _, got, err := s.do(ctx, "POST", "/a", strings.NewReader("b")); err != nil || got != "POST /a b <nil>" {
			t.Errorf("plain: %q, %v", got, err)
		}
		plain := s.Server
		s.Server = secure
		defer func() { s.Server = plain }()
		for range 2 {
			if _, got, err := s.do(ctx, "POST", "/s", strings.NewReader("b")); err != nil || got != "POST /s b <nil>" {
				t.Errorf("tunnel: %q, %v", got, err)
			}
		}
		s.tr.CloseIdleConnections()
		s.tr.ProxyConnectHeader = http.Header{"X-Refuse": {"1"}}
		_, _, err := s.do(ctx, "GET", "/s", nil)
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "proxyconnect" || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("refused: %v", err)
		}
		const auth = "Basic am9lOng="
		host := strings.TrimPrefix(secure.URL, "https://")
		want := []string{"POST /a " + auth, "CONNECT " + host + " " + auth, "CONNECT " + host + " " + auth}
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("the proxy saw %q, want %q", seen, want)
		}
		return nil
	})
}
