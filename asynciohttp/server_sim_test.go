package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// shop is a server with state that handlers share without a lock, and lose in a crash.
func shop() *asynciohttp.Server {
	sold := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /buy", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if err := asyncio.Sleep(r.Context(), 5*time.Millisecond); err != nil {
			return
		}
		sold += len(b)
		for range 20 {
			fmt.Fprintf(w, "%d sold\n", sold)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	})
	return &asynciohttp.Server{Handler: mux, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second}
}

// buy sends requests until n have been answered; connections that fail are made again.
func buy(ctx context.Context, n int) error {
	var c *caller
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for done := 0; done < n; {
		err := asyncio.Timeout(ctx, 10*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) (err error) {
			if c == nil {
				if c, err = call(ctx); err != nil {
					return err
				}
			}
			if _, err = io.WriteString(c, "POST /buy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"); err != nil {
				return err
			}
			_, _, err = c.response()
			return err
		})
		switch {
		case err == nil:
			done++
			continue
		case errors.Is(err, asyncio.ErrCancelled):
			return err
		}
		if c != nil {
			_ = c.Close()
			c = nil
		}
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// weather is a simulation in which a server and its clients meet everything at once: loss, latency,
// a partition, resets, and crashes of the server in the midst of responses.
func weather(ctx context.Context) error {
	network := sim.NetworkOf(ctx)
	network.SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: 20 * time.Millisecond, Loss: 0.02, Duplicate: 0.01, Reorder: 0.05})
	server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
		s := shop()
		s.Addr, s.ErrorLog = ":80", discarded
		return s.ListenAndServe(ctx)
	})
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	for i := range 5 {
		l.CallLater(time.Duration(1+i)*700*time.Millisecond, func() {
			switch i {
			case 0, 3:
				server.Crash()
				l.CallLater(100*time.Millisecond, server.Restart)
			case 1:
				network.Isolate("server")
				l.CallLater(500*time.Millisecond, network.Heal)
			default:
				network.ResetAll()
			}
		})
	}
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for range 5 {
			tg.CreateTask(ctx, func(ctx context.Context) error { return buy(ctx, 20) })
		}
		return nil
	})
}

// The server and its clients come through everything under every schedule tried.
func TestServer_Weather(t *testing.T) {
	sim.Explore(t, weather, sim.Runs(10), sim.WithStrategy(sim.Random()))
}

// Each task of the server and of its client is cancelled at each of its awaits, one in each run.
// Whatever is cut short, the server ends, its connections are closed and nothing of it is left.
func TestServer_EachCancel(t *testing.T) {
	main := func(ctx context.Context) error {
		open := 0
		s := &asynciohttp.Server{
			ErrorLog: discarded, IdleTimeout: 3 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				_ = asyncio.Sleep(r.Context(), time.Second)
				_, _ = w.Write(bytes.Repeat(b, 1000))
			}),
			ConnState: func(_ net.Conn, state http.ConnState) {
				switch state {
				case http.StateNew:
					open++
				case http.StateClosed:
					open--
				}
			},
		}
		ln, err := asyncio.Listen(ctx, "tcp", ":80")
		if err != nil {
			return ignoreCancel(err)
		}
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return s.Serve(ctx, ln) }), asyncio.TaskName("serve"))
		task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) {
			_ = ln.Close() // it may never have begun
			_ = task.Exception()
		})
		client := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for range 2 {
				c, err := asyncio.Dial(ctx, "tcp", "127.0.0.1:80")
				if err != nil {
					return nil
				}
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"+post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"))
				k := &caller{c, bufio.NewReader(c)}
				for range 2 {
					if _, body, err := k.response(); err == nil && len(body) != 3000 {
						return fmt.Errorf("a response of %d bytes looks whole", len(body))
					}
				}
				_ = c.Close()
			}
			return nil
		}), asyncio.TaskName("client"))
		_, err = asyncio.Shield(ctx, client).Await(ctx)
		if ignoreCancel(err) != nil {
			return err
		}
		patient := context.WithoutCancel(ctx)
		for range 3 { // it may be cancelled itself
			if err = s.Shutdown(patient); err == nil {
				break
			}
		}
		for range 3 {
			if _, err = asyncio.Shield(patient, task).Await(patient); task.Done() {
				break
			}
		}
		if open != 0 || !task.Done() {
			return fmt.Errorf("%d connections are open, Serve is over: %v", open, task.Done())
		}
		return nil
	}
	sim.Explore(t, main, sim.Cancels(), sim.Runs(500))
	sim.Explore(t, main, sim.Cancels(), sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(1000))
}

func ignoreCancel(err error) error {
	if errors.Is(err, asyncio.ErrCancelled) {
		return nil
	}
	return err
}
