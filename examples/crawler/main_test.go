package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A site of 31 pages in a tree, with links back to its root; some pages cause trouble.
func TestCrawler(t *testing.T) {
	const atOnce = 4
	var now, most, flaky, slow atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<a href="/1">tree</a> <a class="x" href="flaky#part">flaky</a> <a href="/slow">slow</a> <a href="/broken">broken</a>
			<a href="/stuck">stuck</a> <a href="/none">none</a> <a href="http://other.invalid/">another site</a>`)
	})
	mux.HandleFunc("GET /{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		if _, err := fmt.Sscan(r.PathValue("n"), &n); err != nil {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `<a href="/">up</a>`)
		if 2*n < 32 {
			fmt.Fprintf(w, `<a href="/%d"></a><a href="/%d"></a>`, 2*n, 2*n+1)
		}
	})
	mux.HandleFunc("GET /flaky", func(w http.ResponseWriter, r *http.Request) {
		if flaky.Add(1) < 3 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		if slow.Add(1) == 1 {
			<-r.Context().Done()
		}
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "never", http.StatusInternalServerError) })
	mux.HandleFunc("GET /stuck", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		mux.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c := &crawler{client: &http.Client{Transport: &asynciohttp.Transport{}}, atOnce: atOnce, timeout: 500 * time.Millisecond, tries: 3, pause: time.Millisecond}
	pages, err := asyncio.Run(t.Context(), func(ctx context.Context) (map[string]*page, error) { return c.crawl(ctx, srv.URL+"/") })
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + 31 + 5; len(pages) != want {
		t.Errorf("%d pages, want %d: %v", len(pages), want, pages)
	}
	for path, want := range map[string]struct {
		status, links, tries int
		err                  error // nil for none
	}{
		"/":       {200, 6, 1, nil},
		"/1":      {200, 3, 1, nil},
		"/31":     {200, 1, 1, nil},
		"/flaky":  {200, 0, 3, nil},
		"/slow":   {200, 0, 2, nil},
		"/broken": {500, 0, 3, errTryAgain},
		"/stuck":  {0, 0, 3, asyncio.ErrTimeout},
	} {
		p := pages[srv.URL+path]
		if p == nil {
			t.Errorf("%s was not visited", path)
		} else if p.Status != want.status || p.Links != want.links || p.Tries != want.tries || !errors.Is(p.Err, want.err) {
			t.Errorf("%s: %+v, want %+v", path, *p, want)
		}
	}
	if p := pages[srv.URL+"/none"]; p == nil || p.Status != 404 || p.Tries != 1 || p.Err == nil {
		t.Errorf("/none: %+v", p)
	}
	// The server may notice late that a request was given up: at most once for each of the five
	// that timed out or were slow.
	if m := most.Load(); m > atOnce+5 || m < 2 {
		t.Errorf("%d requests at a time, want at most %d", m, atOnce)
	}
}

// A cancel ends the crawl in the middle of everything.
func TestCrawler_Cancel(t *testing.T) {
	entered := make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}))
	defer srv.Close()
	c := &crawler{client: &http.Client{Transport: &asynciohttp.Transport{}}, atOnce: 1, timeout: time.Hour, tries: 1}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		crawl := asyncio.CreateTask(ctx, func(ctx context.Context) (map[string]*page, error) { return c.crawl(ctx, srv.URL) })
		if _, _, err := asyncio.Recv(ctx, entered); err != nil {
			return err
		}
		crawl.Cancel()
		if _, err := crawl.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("%v", err)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}
