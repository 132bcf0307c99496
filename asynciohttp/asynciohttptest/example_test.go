package asynciohttptest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// A server and its client in a test on a virtual clock: the hour takes no time.
func ExampleNewServer() {
	_, err := sim.Trace(func(ctx context.Context) error {
		srv, err := asynciohttptest.NewServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := asyncio.Sleep(r.Context(), time.Hour); err != nil {
				return
			}
			fmt.Fprint(w, "Hello, client")
		}))
		if err != nil {
			return err
		}
		defer srv.Close()

		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		if err != nil {
			return err
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		fmt.Printf("%s, %s\n", resp.Status, text)
		return err
	})
	fmt.Println(err)
	// Output:
	// 200 OK, Hello, client
	// <nil>
}

// The client trusts the server's certificate, and reaches the server as example.com too.
func ExampleNewTLSServer() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		srv, err := asynciohttptest.NewTLSServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Host, " ", r.TLS.HandshakeComplete)
		}))
		if err != nil {
			return err
		}
		defer srv.Close()

		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://www.example.com/", nil)
		if err != nil {
			return err
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		fmt.Println(string(text))
		return err
	}))
	fmt.Println(err)
	// Output:
	// www.example.com true
	// <nil>
}

// A handler that awaits, without a server.
func ExampleResponseRecorder() {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := asyncio.Sleep(r.Context(), time.Minute); err != nil {
				http.Error(w, "too slow", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprint(w, "done")
		})

		rec := asynciohttptest.NewRecorder()
		err := rec.Serve(ctx, slow, httptest.NewRequest(http.MethodGet, "/", nil))
		fmt.Println(rec.Code, rec.Body, err)

		// a client that waits for a second
		rec = asynciohttptest.NewRecorder()
		err = asyncio.FailAfter(ctx, time.Second, func(ctx context.Context) error {
			return rec.Serve(ctx, slow, httptest.NewRequest(http.MethodGet, "/", nil))
		})
		fmt.Println(rec.Code, err)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 200 done <nil>
	// 503 asyncio: timed out
	// <nil>
}
