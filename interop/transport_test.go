//go:build unix

package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/go-resty/resty/v2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// objects is a store of objects with as much of S3's interface as a client needs to put and get.
type objects struct {
	mu  sync.Mutex
	all map[string]string
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPut:
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		o.mu.Lock()
		o.all[r.URL.Path] = string(b)
		o.mu.Unlock()
	case r.URL.Path == "/echo":
		fmt.Fprintf(w, `{"method": %q, "type": %q}`, r.Method, r.Header.Get("Content-Type"))
	default:
		o.mu.Lock() // not while a write suspends, which would stop the other handlers
		text, ok := o.all[r.URL.Path]
		o.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, text)
	}
}

// useClients has libraries that take an http.Client make requests in the calling task.
func useClients(ctx context.Context, url string) error {
	tr := &asynciohttp.Transport{MaxConnsPerHost: 2}
	defer tr.CloseIdleConnections()

	rc := resty.New().SetTransport(tr)
	var echoed struct{ Method, Type string }
	//asynciovet:allow blocking it looks up an SRV record only if it is asked to
	resp, err := rc.R().SetContext(ctx).SetBody(map[string]int{"a": 1}).SetResult(&echoed).ForceContentType("application/json").Post(url + "/echo")
	if err != nil || echoed.Method != "POST" || echoed.Type != "application/json" {
		return fmt.Errorf("resty: %+v, %v, %w", echoed, resp, err)
	}

	sc := s3.New(s3Options(url), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: tr} })
	bucket := "bucket"
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for i := range 5 {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				key, text := fmt.Sprint("key", i), strings.Repeat("some text ", 1+i*10_000)
				if _, err := sc.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte(text))}); err != nil {
					return err
				}
				got, err := getObject(ctx, sc, "/"+bucket+"/"+key)
				if err != nil || !strings.Contains(got, text) {
					return fmt.Errorf("S3: %d bytes, %w", len(got), err)
				}
				return nil
			})
		}
		return nil
	})
}

// besideServer runs body in a task, with net/http's server for h. Debug mode refuses what calls the
// loop from another goroutine.
func besideServer(t *testing.T, h http.Handler, body func(ctx context.Context, url string) error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error { return body(ctx, srv.URL) }), asyncio.DebugMode(true))
	if err != nil {
		t.Error(err)
	}
}

// besideSimulated runs body on a simulated host, with asynciohttp's server for h on another one.
func besideSimulated(t *testing.T, h http.Handler, body func(ctx context.Context, url string) error) {
	t.Helper()
	sim.Run(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "srv", func(ctx context.Context) error {
			return asynciohttp.NewServer(&http.Server{Addr: ":80", Handler: h}).ListenAndServe(ctx)
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return body(ctx, "http://srv")
	})
}

// Libraries that take an http.Client run in tasks, without a call from another goroutine.
func TestTransport_Libraries(t *testing.T) {
	besideServer(t, &objects{all: make(map[string]string)}, useClients)
}

// The same in a simulation, where nothing else would do.
func TestTransport_LibrariesSimulated(t *testing.T) {
	besideSimulated(t, &objects{all: make(map[string]string)}, useClients)
}
