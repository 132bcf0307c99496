package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A server on every core: the loops share an address, and each has handlers, and data, of its own.
func ExampleServe() {
	visits, err := asyncio.RunLoopGroup(context.Background(), 3, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		listeners, err := g.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		visits := make([]int, g.Len())
		servers := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return g.Each(ctx, func(ctx context.Context, i int) error { // on each loop
				mux := http.NewServeMux()
				mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
					visits[i]++ // without a lock
					fmt.Fprint(w, "welcome")
				})
				return asynciohttp.Serve(ctx, &http.Server{Handler: mux}, listeners[i])
			})
		}))

		client := &http.Client{Transport: &asynciohttp.Transport{DisableKeepAlives: true}}
		for range 10 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listeners[0].Addr().String(), nil)
			if err != nil {
				return 0, err
			}
			resp, err := client.Do(req)
			if err != nil {
				return 0, err
			}
			resp.Body.Close()
		}

		servers.Cancel() // the servers answer what they have begun
		if _, err := servers.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return 0, err
		}
		return visits[0] + visits[1] + visits[2], nil
	})
	fmt.Println(visits, err)
	// Output:
	// 10 <nil>
}

// TestServer_LoopGroup: each loop serves its connections, in tasks of its own.
func TestServer_LoopGroup(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 3, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		const clients, requests = 60, 3
		listeners, err := g.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return asyncio.None{}, err
		}
		type loopState struct{ connections, requests, wrong int }
		states := make([]loopState, g.Len())
		servers := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return g.Each(ctx, func(ctx context.Context, i int) error {
				peers := make(map[string]bool)
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					l, err := asyncio.GetRunningLoop(r.Context())
					if err != nil || l != g.Loop(i) || asyncio.Sleep(r.Context(), 0) != nil {
						states[i].wrong++
					}
					peers[r.RemoteAddr] = true
					states[i].connections = len(peers)
					states[i].requests++
					fmt.Fprint(w, i)
				})
				return asynciohttp.Serve(ctx, &http.Server{Handler: h}, listeners[i])
			})
		}))
		each := make([]asyncio.Coroutine[asyncio.None], clients)
		for i := range each {
			each[i] = asyncio.Do(func(ctx context.Context) error {
				transport := &asynciohttp.Transport{}
				defer transport.CloseIdleConnections()
				first := ""
				for range requests {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listeners[0].Addr().String(), nil)
					if err != nil {
						return err
					}
					resp, err := (&http.Client{Transport: transport}).Do(req)
					if err != nil {
						return err
					}
					answer, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if first == "" {
						first = string(answer)
					}
					if string(answer) != first || err != nil {
						return fmt.Errorf("a connection of loop %s was answered by %q, %v", first, answer, err)
					}
				}
				return nil
			})
		}
		if _, err := asyncio.Gather(ctx, each...); err != nil {
			return asyncio.None{}, err
		}
		servers.Cancel()
		if _, err := servers.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return asyncio.None{}, fmt.Errorf("the servers: %w", err)
		}
		var sum loopState
		for i, s := range states {
			if s.connections == 0 {
				t.Errorf("loop %d has served nobody: %+v", i, states)
			}
			sum.connections, sum.requests, sum.wrong = sum.connections+s.connections, sum.requests+s.requests, sum.wrong+s.wrong
		}
		if want := (loopState{clients, clients * requests, 0}); sum != want {
			t.Errorf("served %+v, want %+v", sum, want)
		}
		return asyncio.None{}, nil
	})
	if err != nil {
		t.Error(err)
	}
}
