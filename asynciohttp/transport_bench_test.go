package asynciohttp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// benchServer is the environment variable that makes the test's program a server, whose processor
// time is not the client's.
const benchServer = "ASYNCIOHTTP_BENCH_SERVER"

// serveBench answers every request with a body of n bytes, or of -n by net/http's server with
// HTTP/2.
func serveBench(n int) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	if n < 0 {
		go func() { // the benchmark closes it to end the server
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		body := bytes.Repeat([]byte("x"), -n)
		return (&http.Server{Protocols: unencrypted(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}).Serve(ln)
	}
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)))
	go func() { // the benchmark closes it to end the server
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			have := 0
			for {
				m, err := c.Read(buf[have:])
				if err != nil {
					return
				}
				if have += m; bytes.HasSuffix(buf[:have], []byte("\r\n\r\n")) {
					have = 0
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}
		}()
	}
}

func startBenchServer(b *testing.B, n int) (addr string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"="+strconv.Itoa(n))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		b.Fatal(err)
	}
	return addr
}

// BenchmarkTransport is a request on one of 100 connections that are kept, or on one connection
// with HTTP/2, by a hundred tasks and by a hundred goroutines on one processor. Compare cpu-ns/op,
// the processor time of this process; the server is another one. The reference is
// docs/performance.md; this is quicker.
func BenchmarkTransport(b *testing.B) {
	const workers = 100
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, size := range []int{64, 64 << 10, -64, -(64 << 10)} {
		name, n, protocols := fmt.Sprint(size), size, (*http.Protocols)(nil)
		if size < 0 {
			n, protocols = -size, unencrypted()
			name = fmt.Sprintf("HTTP2-%d", n)
		}
		request := func(ctx context.Context, rt http.RoundTripper, url string) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				return err
			}
			got, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if got != int64(n) && err == nil {
				err = fmt.Errorf("%d bytes", got)
			}
			return err
		}
		measure := func(b *testing.B, work func() error) {
			b.ReportAllocs()
			before := processorTime(b)
			b.ResetTimer()
			if err := work(); err != nil {
				b.Error(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		}
		b.Run(name+"/net-http", func(b *testing.B) {
			url := "http://" + startBenchServer(b, size) + "/"
			tr := &http.Transport{MaxIdleConnsPerHost: workers, Protocols: protocols}
			defer tr.CloseIdleConnections()
			round := func(total int) error {
				var wg sync.WaitGroup
				var mu sync.Mutex
				var failed error
				for w := range workers {
					wg.Go(func() {
						for range share(total, workers, w) {
							if err := request(context.Background(), tr, url); err != nil {
								mu.Lock()
								failed = err
								mu.Unlock()
								return
							}
						}
					})
				}
				wg.Wait()
				return failed
			}
			if err := round(workers); err != nil {
				b.Fatal(err)
			}
			measure(b, func() error { return round(b.N) })
		})
		b.Run(name+"/asynciohttp", func(b *testing.B) {
			url := "http://" + startBenchServer(b, size) + "/"
			_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
				tr := &asynciohttp.Transport{MaxIdleConnsPerHost: workers, Protocols: protocols}
				defer tr.CloseIdleConnections()
				round := func(total int) error {
					return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
						for w := range workers {
							tg.CreateTask(ctx, func(ctx context.Context) error {
								for range share(total, workers, w) {
									if err := request(ctx, tr, url); err != nil {
										return err
									}
								}
								return nil
							})
						}
						return nil
					})
				}
				if err := round(workers); err != nil {
					return err
				}
				measure(b, func() error { return round(b.N) })
				return nil
			}))
			if err != nil {
				b.Error(err)
			}
		})
	}
}

// share is how much of the total is for worker w.
func share(total, workers, w int) int { return (total + workers - 1 - w) / workers }
