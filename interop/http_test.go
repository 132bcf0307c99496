//go:build unix

package interop

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

func TestHTTP(t *testing.T) {
	url, s := startHTTP(t)
	runBattery(t, s, httpRows(url))
}

// startHTTP starts a server that answers GET /ask/VALUE at once, /hold/VALUE when it is told to,
// and /connection with the address that it sees.
func startHTTP(t *testing.T) (url string, s server) {
	t.Helper()
	g := newGate()
	hs := httptest.NewServer(httpHandler(g))
	t.Cleanup(hs.Close)
	return hs.URL, g.server()
}

func httpHandler(g *gate) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ask/{value}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("value")) })
	mux.HandleFunc("GET /hold/{value}", func(w http.ResponseWriter, r *http.Request) {
		if g.wait(r.Context(), r.PathValue("value")) == nil {
			io.WriteString(w, r.PathValue("value"))
		}
	})
	mux.HandleFunc("GET /connection/{any}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	return mux
}

// newTransport is net/http's transport, for clients in threads.
func newTransport(conns int) *http.Transport {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxConnsPerHost = conns
	return tr
}

func httpRows(url string) []row {
	return []row{
		{
			library: "net/http, Transport", way: onView, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				tr := viewTransport(ctx, conns)
				c := httpClient(tr, func(ctx context.Context, path string) (string, error) {
					return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
						return getText(ctx, &http.Client{Transport: tr}, url+path)
					})
				})
				c.goroutine = func(ctx context.Context, value string) (string, error) {
					return getText(ctx, &http.Client{Transport: tr}, url+"/ask/"+value)
				}
				return c, nil
			},
		},
		{
			library: "net/http, Client", way: ours + " (asynciohttp)", sim: "yes",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				tr := &asynciohttp.Transport{MaxConnsPerHost: conns}
				return httpClient(tr, func(ctx context.Context, path string) (string, error) {
					return getText(ctx, &http.Client{Transport: tr}, url+path)
				}), nil
			},
		},
		{
			library: "net/http, Transport", way: ours + " (asynciohttp.Do), " + onView, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				tr := viewTransport(ctx, conns)
				return httpClient(tr, func(ctx context.Context, path string) (string, error) {
					r, err := http.NewRequest("GET", url+path, nil)
					if err != nil {
						return "", err
					}
					return text(asynciohttp.Do(ctx, &http.Client{Transport: tr}, r))
				}), nil
			},
		},
		{
			library: "resty", way: ours + " (asynciohttp)", sim: "yes",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				tr := &asynciohttp.Transport{MaxConnsPerHost: conns}
				rc := resty.New().SetTransport(tr)
				return httpClient(tr, func(ctx context.Context, path string) (string, error) {
					response, err := rc.R().SetContext(ctx).Get(url + path)
					if err != nil {
						return "", err
					}
					return response.String(), nil
				}), nil
			},
		},
		{
			library: "go-retryablehttp", way: inThread, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				base := newTransport(conns)
				rc := retryablehttp.NewClient()
				rc.Logger, rc.HTTPClient.Transport = nil, base
				return httpClient(base, func(ctx context.Context, path string) (string, error) {
					return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return getWithRetries(ctx, rc, url+path) })
				}), nil
			},
		},
		{
			library: "aws-sdk-go-v2, S3", way: ours + " (asynciohttp)", sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				tr := &asynciohttp.Transport{MaxConnsPerHost: conns}
				sc := s3.New(s3Options(url), func(o *s3.Options) {
					o.HTTPClient = &http.Client{Transport: tr}
					o.RetryMaxAttempts = 1 // it would take a cancel for a failure
				})
				return httpClient(tr, func(ctx context.Context, path string) (string, error) { return getObject(ctx, sc, path) }), nil
			},
		},
		{
			library: "aws-sdk-go-v2, S3", way: inThread, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				base := newTransport(conns)
				sc := s3.New(s3Options(url), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: base} })
				return httpClient(base, func(ctx context.Context, path string) (string, error) {
					return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return getObject(ctx, sc, path) })
				}), nil
			},
		},
	}
}

// viewTransport is net/http's own transport, on connections of the loop.
func viewTransport(ctx context.Context, conns int) *http.Transport {
	return &http.Transport{DialContext: asyncio.ThreadsafeDialer(ctx), MaxConnsPerHost: conns}
}

// getText blocks for a page.
func getText(ctx context.Context, hc *http.Client, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", err
	}
	return text(hc.Do(r))
}

// text reads and closes a response.
func text(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func s3Options(url string) s3.Options {
	return s3.Options{
		BaseEndpoint: &url, UsePathStyle: true, Region: "here",
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

func getWithRetries(ctx context.Context, rc *retryablehttp.Client, url string) (string, error) {
	r, err := retryablehttp.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", err
	}
	return text(rc.Do(r))
}

// getObject reads the object with a path like /bucket/key.
func getObject(ctx context.Context, sc *s3.Client, path string) (string, error) {
	bucket, key, _ := strings.Cut(path[1:], "/")
	object, err := sc.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer object.Body.Close()
	body, err := io.ReadAll(object.Body)
	return string(body), err
}

func httpClient(tr interface{ CloseIdleConnections() }, get func(ctx context.Context, path string) (string, error)) *client {
	return &client{
		ask:        func(ctx context.Context, value string) (string, error) { return get(ctx, "/ask/"+value) },
		hold:       func(ctx context.Context, value string) (string, error) { return get(ctx, "/hold/"+value) },
		connection: func(ctx context.Context) (string, error) { return get(ctx, "/connection/any") },
		close:      func(context.Context) error { tr.CloseIdleConnections(); return nil },
	}
}
