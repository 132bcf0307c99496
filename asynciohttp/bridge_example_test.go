package asynciohttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A counter without a lock, and a client of it, on one loop.
func ExampleHandlerFunc() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		visits := 0
		count := asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			visits++
			_, err := fmt.Fprintf(w, "visit %d", visits)
			return err
		})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asynciohttp.Serve(ctx, &http.Server{Handler: count}, ln)
		}))
		for range 2 {
			resp, err := asynciohttp.Get(ctx, "http://"+ln.Addr().String())
			if err != nil {
				return err
			}
			page, err := asynciohttp.ReadAll(resp.Body, 1<<20)
			fmt.Println(resp.StatusCode, string(page), err)
		}
		http.DefaultClient.CloseIdleConnections()
		server.Cancel()
		_, err = server.Await(ctx)
		fmt.Println(err)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 200 visit 1 <nil>
	// 200 visit 2 <nil>
	// asyncio: cancelled (by Task-1)
	// <nil>
}

// Tasks of the loop can produce the body of a request.
func ExampleBody() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		shout := asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			words, err := io.ReadAll(r.Body) // suspends the task
			if err == nil {
				_, err = io.WriteString(w, strings.ToUpper(string(words)))
			}
			return err
		})
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asynciohttp.Serve(ctx, &http.Server{Handler: shout}, ln)
		}))
		words := asyncio.NewStreamReader(ctx)
		l.CallSoon(func() { words.FeedData([]byte("fed ")) })
		l.CallLater(1, func() { words.FeedData([]byte("later")); words.FeedEOF() })
		req, err := http.NewRequest("POST", "http://"+ln.Addr().String(), asynciohttp.NewBody(ctx, l, streamed{ctx, words}))
		if err != nil {
			return err
		}
		resp, err := asynciohttp.Do(ctx, nil, req)
		if err != nil {
			return err
		}
		answer, err := asynciohttp.ReadAll(resp.Body, 1<<20)
		fmt.Println(string(answer), err)
		http.DefaultClient.CloseIdleConnections()
		server.Cancel()
		_, _ = server.Await(ctx)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// FED LATER <nil>
	// <nil>
}

// streamed is an asyncio.StreamReader as an io.Reader.
type streamed struct {
	ctx context.Context
	r   *asyncio.StreamReader
}

func (s streamed) Read(p []byte) (int, error) { return s.r.ReadInto(s.ctx, p) }
