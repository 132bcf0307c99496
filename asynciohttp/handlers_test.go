package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// TestServer_HandlersOfNetHTTP: handlers and middleware of net/http work in tasks, over HTTP/1.1
// and over HTTP/2.
func TestServer_HandlersOfNetHTTP(t *testing.T) {
	files := http.FileServerFS(fstest.MapFS{"a.txt": {Data: []byte("0123456789"), ModTime: time.Unix(1e9, 0)}})
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})
	form := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, _, err := r.FormFile("file")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer f.Close()
		_, _ = io.Copy(w, f)
	})
	mux := http.NewServeMux()
	mux.Handle("/files/", http.StripPrefix("/files", files))
	mux.Handle("/limited", http.MaxBytesHandler(echo, 5))
	mux.Handle("/form", form)
	mux.Handle("/redirect", http.RedirectHandler("/files/a.txt", http.StatusSeeOther))
	mux.Handle("/echo", echo)

	var upload bytes.Buffer
	parts := multipart.NewWriter(&upload)
	part, _ := parts.CreateFormFile("file", "f")
	_, _ = part.Write([]byte(strings.Repeat("x", 100)))
	parts.Close()

	tests := []struct {
		name, method, path string
		header             http.Header
		body               string
		status             int
		want               string
	}{
		{"a file", "GET", "/files/a.txt", nil, "", 200, "0123456789"},
		{"a part of a file", "GET", "/files/a.txt", http.Header{"Range": {"bytes=2-4"}}, "", 206, "234"},
		{"a file that has not changed", "GET", "/files/a.txt", http.Header{"If-Modified-Since": {"Sun, 09 Sep 2001 01:46:40 GMT"}}, "", 304, ""},
		{"no file", "GET", "/files/b.txt", nil, "", 404, "404 page not found\n"},
		{"a short body", "POST", "/limited", nil, "12345", 200, "/limited 12345"},
		{"a long body", "POST", "/limited", nil, "123456", 413, "too large\n"},
		{"a form", "POST", "/form", http.Header{"Content-Type": {parts.FormDataContentType()}}, upload.String(), 200, strings.Repeat("x", 100)},
		{"a redirect that the client follows", "GET", "/redirect", nil, "", 200, "0123456789"},
		{"through a reverse proxy", "POST", "/proxied/echo", nil, "body", 200, "/echo body"},
		{"a reverse proxy whose server is gone", "GET", "/nowhere", nil, "", 502, ""},
	}
	sim.Run(t, func(ctx context.Context) error {
		serve := func(h http.Handler) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				l, err := asyncio.Listen(ctx, "tcp", ":80")
				if err != nil {
					return err
				}
				return asynciohttp.NewServer(&http.Server{Handler: h}).Serve(ctx, l)
			}
		}
		sim.NewHost(ctx, "back", serve(mux))
		proxy := func(to string) http.Handler {
			target, _ := url.Parse(to)
			return &httputil.ReverseProxy{
				Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
				Transport:    &asynciohttp.Transport{},
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
			}
		}
		front := http.NewServeMux()
		front.Handle("/", proxy("http://back"))
		front.Handle("/proxied/", http.StripPrefix("/proxied", proxy("http://back")))
		front.Handle("/nowhere", proxy("http://back:81"))
		sim.NewHost(ctx, "front", serve(front))
		return sim.NewHost(ctx, "client", func(ctx context.Context) error {
			client := &http.Client{Transport: &asynciohttp.Transport{}}
			for _, host := range []string{"back", "front"} {
				for _, test := range tests {
					if host == "back" && (strings.HasPrefix(test.path, "/proxied") || test.path == "/nowhere") {
						continue
					}
					req, err := http.NewRequestWithContext(ctx, test.method, "http://"+host+test.path, strings.NewReader(test.body))
					if err != nil {
						return err
					}
					for key, values := range test.header {
						req.Header[key] = values
					}
					resp, err := client.Do(req)
					if err != nil {
						return fmt.Errorf("%s, from %s: %w", test.name, host, err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != test.status || string(body) != test.want {
						return fmt.Errorf("%s, from %s: status %d, body %q, error %v; want %d, %q", test.name, host, resp.StatusCode, body, err, test.status, test.want)
					}
				}
			}
			return nil
		}).Wait(ctx)
	})
}

// TestServer_HandlersWithGoroutines: what becomes of handlers and middleware of net/http that start
// goroutines. Those that answer on one are refused; none of them stops the loop for good.
func TestServer_HandlersWithGoroutines(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		back, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				w.Header().Set("Upgrade", "echo")
				w.Header().Set("Connection", "Upgrade")
				w.WriteHeader(http.StatusSwitchingProtocols)
				if c, _, err := http.NewResponseController(w).Hijack(); err != nil {
					t.Error(err)
				} else {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}
				return
			}
			for range 3 {
				fmt.Fprint(w, "part ")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				if err := asyncio.Sleep(r.Context(), 20*time.Millisecond); err != nil {
					t.Error(err)
				}
			}
		}))
		if err != nil {
			return err
		}
		defer back.Close()
		proxy := func(flush time.Duration) http.Handler {
			target, err := url.Parse(back.URL)
			if err != nil {
				t.Fatal(err)
			}
			return &httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: flush, ErrorLog: discarded,
				Transport: back.Client().Transport,
			}
		}
		await := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, errText(asyncio.Sleep(r.Context(), 0))) })
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/file", []byte("content"), 0o600); err != nil {
			return err
		}
		for _, c := range []struct {
			name    string
			h       http.Handler
			headers string
			want    string
		}{
			{"a handler that awaits", await, "", "200: no error"},
			{"http.TimeoutHandler around one that does not", http.TimeoutHandler(http.NotFoundHandler(), time.Minute, ""), "", "404: 404 page not found\n"},
			{"http.TimeoutHandler around one that does", http.TimeoutHandler(await, time.Minute, ""), "", "200: foreign goroutine"},
			{"this package's", asynciohttp.TimeoutHandler(await, time.Minute, ""), "", "200: no error"},
			{"http.AllowQuerySemicolons", http.AllowQuerySemicolons(await), "", "200: no error"},
			{"http.FileServer on a disk", http.FileServer(http.Dir(dir)), "", "200: content"},
			{"http.ServeContent", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("0123456789"))
			}), "Range: bytes=3-4\r\n", "206: 34"},
			{"a ReverseProxy", proxy(0), "", "200: part part part "},
			{"a ReverseProxy that flushes at once", proxy(-1), "", "200: part part part "},
			{"a ReverseProxy that flushes by a timer", proxy(time.Millisecond), "", "200: part part part "},
			{"a ReverseProxy that is to upgrade", proxy(0), "Connection: Upgrade\r\nUpgrade: echo\r\n", "101: "},
			{"middleware with a goroutine that answers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				done := make(chan error)
				go func() {
					_, err := fmt.Fprint(w, "from a goroutine")
					done <- err
				}()
				fmt.Fprint(w, errText(<-done))
			}), "", "200: foreign goroutine"},
			{"middleware that runs the handler on a goroutine", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					await.ServeHTTP(httptest.NewRecorder(), r)
				}()
				<-done
				fmt.Fprint(w, "went on")
			}), "", "200: went on"},
			{"middleware with a goroutine of its own", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				go func() { _ = r.URL.String() }() // it counts, say
				await.ServeHTTP(w, r)
			}), "", "200: no error"},
		} {
			got, err := askServerOf(ctx, http.StripPrefix("/x", c.h), c.headers)
			if got != c.want || err != nil {
				t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
			}
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

// askServerOf sends a request for /x/file to a server of h, and returns the status and what comes
// until the connection ends.
func askServerOf(ctx context.Context, h http.Handler, headers string) (string, error) {
	srv, err := asynciohttptest.NewUnstartedServer(ctx, h)
	if err != nil {
		return "", err
	}
	srv.Config.ErrorLog = discarded
	srv.Start()
	defer srv.Close()
	c, err := asyncio.Dial(ctx, "tcp", srv.Listener.Addr().String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if headers == "" {
		headers = "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(c, "GET /x/file HTTP/1.1\r\nHost: x\r\n%s\r\n", headers); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		n, err := c.Read(make([]byte, 1))
		if n == 0 && err != nil {
			return "101: ", nil
		}
		return "an upgraded connection", err
	}
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d: %s", resp.StatusCode, text), err
}

func errText(err error) string {
	switch {
	case err == nil:
		return "no error"
	case errors.Is(err, asyncio.ErrForeignGoroutine):
		return "foreign goroutine"
	}
	return err.Error()
}
