package asynciohttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
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
