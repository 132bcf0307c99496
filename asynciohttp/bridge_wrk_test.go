package asynciohttp_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// wrk as the client of net/http's server, whose handlers run on the loop.
func TestPeer_Wrk(t *testing.T) {
	served := make(map[string]int)
	mux := http.NewServeMux()
	mux.Handle("/hello", asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		served[r.Host+r.URL.RequestURI()]++
		if err := asyncio.Sleep(ctx, 0); err != nil { // so that they overlap
			return err
		}
		_, err := io.WriteString(w, "hello")
		return err
	}))
	mux.Handle("/echo", asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		served[r.Host+r.URL.RequestURI()]++
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}))
	serving(t, mux, func(ctx context.Context, s *site) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetDebug(false)
		return useWrk(ctx, t, s.URL, served)
	})
}
