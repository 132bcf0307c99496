package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A server, and a client of it, on one loop. The handlers share a variable without a lock.
func ExampleServer() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		visits := 0
		mux := http.NewServeMux()
		mux.HandleFunc("GET /{name}", func(w http.ResponseWriter, r *http.Request) {
			visits++
			number := visits
			// Others are served meanwhile.
			if err := asyncio.Sleep(r.Context(), time.Millisecond); err != nil {
				return
			}
			fmt.Fprintf(w, "%s is visitor %d", r.PathValue("name"), number)
		})
		l, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := asynciohttp.NewServer(&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second})
		serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return server.Serve(ctx, l) }))

		transport := &asynciohttp.Transport{}
		client := &http.Client{Transport: transport}
		for _, name := range []string{"ann", "bob"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/"+name, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			fmt.Println(resp.Status, string(text), err)
		}
		transport.CloseIdleConnections()
		if err := server.Shutdown(ctx); err != nil {
			return err
		}
		if _, err := serving.Await(ctx); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 200 OK ann is visitor 1 <nil>
	// 200 OK bob is visitor 2 <nil>
	// <nil>
}

// A limit for a request, on the loop's clock. The server does not answer in time.
func ExampleTransport() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0") // nobody accepts
		if err != nil {
			return err
		}
		defer l.Close()
		client := &http.Client{Transport: &asynciohttp.Transport{}}
		err = asyncio.FailAfter(ctx, 10*time.Millisecond, func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String(), nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
		fmt.Println(errors.Is(err, context.DeadlineExceeded))
		return nil
	}))
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
