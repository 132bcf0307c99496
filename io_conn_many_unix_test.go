//go:build linux || darwin || freebsd

package asyncio_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// talking returns how long the connections of TestConnections_OpenTalkGone talk: ASYNCIO_SOAK, such
// as 60s. Without it each connection sends linesEach lines.
func talking(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ASYNCIO_SOAK")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("ASYNCIO_SOAK=%s, want a duration", text)
	}
	return d
}

// connections returns how many connections TestConnections_OpenTalkGone opens: ASYNCIO_CONNECTIONS.
// Without it there are 10000 with ASYNCIO_SOAK; otherwise 2000, or fewer if the limit of
// descriptors is too low.
func connections(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ASYNCIO_CONNECTIONS")
	if text == "" && talking(t) > 0 {
		text = "10000"
	}
	if text == "" {
		var limit syscall.Rlimit
		must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		return int(min(2000, uint64(limit.Max)-200))
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ASYNCIO_CONNECTIONS=%s, want a number", text)
	}
	if raceEnabled && n > 5000 {
		t.Fatalf("ASYNCIO_CONNECTIONS=%d: the race detector stops at 8128 goroutines", n)
	}
	return n
}

// allowDescriptors raises the process's limit of descriptors to n until the test ends, if that is
// allowed.
func allowDescriptors(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if uint64(limit.Cur) >= uint64(n) {
		return
	}
	higher := limit
	// the type of the field depends on the system
	for higher.Cur = 1; uint64(higher.Cur) < uint64(n); higher.Cur *= 2 {
	}
	higher.Max = max(higher.Max, higher.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher); err != nil {
		t.Fatalf("%d descriptors are needed, %d allowed: %v", n, limit.Cur, err)
	}
	t.Cleanup(func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) })
}

// Many connections are open, talk, are silent together and go. Nothing of them is left at either
// end. The clients are in a process of their own, so that each end has enough descriptors. With
//
//	ASYNCIO_SOAK=60s go test -v -timeout 5m -run TestConnections_OpenTalkGone .
//
// ten thousand connections talk for a whole minute.
func TestConnections_OpenTalkGone(t *testing.T) {
	n, soak := connections(t), talking(t)
	allowDescriptors(t, n+200)
	before := leaktest.Descriptors()
	onRealTime(t, func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute+2*soak, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			empty := memory()
			began := time.Now()
			idle := asyncio.CreateFuture[asyncio.None](ctx)
			lines, said := 0, 0
			most := int64(0) // the most memory seen
			var writers []*asyncio.StreamWriter
			server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				writers = append(writers, w)
				for line, err := range r.Lines(ctx) {
					if err != nil {
						return err
					}
					if _, err := w.Write(ctx, bytes.ToUpper(line)); err != nil {
						return err
					}
					if lines++; lines%1_000_000 == 0 {
						most = max(most, memory()-empty)
					}
					if string(line) != lastLine {
						continue
					}
					if said++; said == n {
						must(t, idle.SetResult(asyncio.None{}))
					}
				}
				return nil
			}, "127.0.0.1:0")
			if err != nil {
				return err
			}
			clients := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
				address := server.Addrs()[0].String()
				return asyncio.ToThread(ctx, func(context.Context) (string, error) {
					cmd := subprocess("TestConnections_Clients", "ASYNCIO_TEST_SERVER="+address, "ASYNCIO_CONNECTIONS="+strconv.Itoa(n))
					cmd.Args = append(cmd.Args, "-test.timeout="+(time.Minute+2*soak).String())
					out, err := cmd.CombinedOutput()
					return string(out), err
				})
			})
			early := asyncio.OnDone(clients)
			won, err := asyncio.Select(ctx, early, asyncio.OnDone(idle))
			if err != nil {
				return err
			}
			if won == early {
				out, err := clients.Result()
				return fmt.Errorf("the clients ended after %d lines: %w\n%s", lines, err, out)
			}
			if server.Clients() != n || leaktest.Descriptors() < before+n {
				t.Errorf("%d clients, %d descriptors more than before, want %d", server.Clients(), leaktest.Descriptors()-before, n)
			}
			talked := time.Since(began)
			each := (memory() - empty) / int64(n)
			if lines < n*linesEach || talked < soak {
				t.Errorf("%d lines in %v", lines, talked)
			}

			began = time.Now()
			for _, w := range writers {
				if _, err := w.Write(ctx, []byte("go\n")); err != nil {
					return err
				}
			}
			out, err := clients.Await(ctx)
			if err != nil || !strings.Contains(out, "PASS") {
				return fmt.Errorf("the clients: %w\n%s", err, out)
			}
			if err := server.Shutdown(ctx); err != nil {
				return err
			}
			t.Logf("%d connections: open, and %d lines there and back, in %v; %d bytes each when idle; gone in %v", n, lines,
				talked.Round(time.Millisecond), each, time.Since(began).Round(time.Millisecond))
			if soak > 0 {
				t.Logf("%d lines a second; at most %d bytes each while they talked", lines*int(time.Second)/int(talked), most/int64(n))
			}
			if tasks := len(asyncio.AllTasks(ctx)); tasks != 1 || server.Clients() != 0 {
				t.Errorf("%d tasks and %d clients are left", tasks, server.Clients())
			}
			return nil
		})
	})
	if left := leaktest.Goroutines(); left != "" {
		t.Errorf("goroutines left:\n%s", left)
	}
	if after := leaktest.Descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// linesEach is how many lines a connection sends, at least, before it is silent. The last one is
// lastLine.
const linesEach = 3

const lastLine = "that is all\n"

// memory returns the bytes that the program's values and stacks take.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestConnections_Clients runs the clients of TestConnections_OpenTalkGone, in a process that that
// test starts.
func TestConnections_Clients(t *testing.T) {
	address := os.Getenv("ASYNCIO_TEST_SERVER")
	if address == "" {
		return
	}
	n, soak := connections(t), talking(t)
	allowDescriptors(t, n+200)
	open, until := 0, time.Time{}
	onRealTime(t, func(ctx context.Context) error {
		connecting := asyncio.NewSemaphore(100)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range n {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					if err := connecting.Acquire(ctx); err != nil {
						return err
					}
					r, w, err := asyncio.OpenConnection(ctx, address)
					connecting.Release()
					if err != nil {
						return err
					}
					open++
					for j := 0; j < linesEach-1 || soak > 0 && (until.IsZero() || time.Now().Before(until)); j++ {
						if open == n && until.IsZero() {
							until = time.Now().Add(soak) // all connections at once
						}
						want := fmt.Sprintf("LINE %d OF %d", j, i)
						if got, err := ask(ctx, r, w, strings.ToLower(want)); got != want || err != nil {
							return fmt.Errorf("%q, %w, want %q", got, err, want)
						}
					}
					if got, err := ask(ctx, r, w, strings.TrimSpace(lastLine)); got != strings.ToUpper(strings.TrimSpace(lastLine)) || err != nil {
						return fmt.Errorf("%q, %w", got, err)
					}
					if line, err := r.ReadLine(ctx); string(line) != "go\n" || err != nil {
						return fmt.Errorf("%q, %w", line, err)
					}
					if err := w.WriteEOF(ctx); err != nil {
						return err
					}
					if _, err := r.ReadLine(ctx); err != io.EOF {
						return fmt.Errorf("at the end: %w", err)
					}
					return w.Close(ctx)
				})
			}
			return nil
		})
	})
}
