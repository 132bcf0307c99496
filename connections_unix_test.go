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
)

// connections is how many TestConnections_OpenTalkGone opens: ASYNCIO_CONNECTIONS, or 2000 if so many are allowed.
func connections(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ASYNCIO_CONNECTIONS")
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

// allowDescriptors raises the limit of the process to n, where that is allowed, until the test ends.
func allowDescriptors(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if uint64(limit.Cur) >= uint64(n) {
		return
	}
	higher := limit
	for higher.Cur = 1; uint64(higher.Cur) < uint64(n); higher.Cur *= 2 { // its type depends on the system
	}
	higher.Max = max(higher.Max, higher.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher); err != nil {
		t.Fatalf("%d descriptors are needed, %d allowed: %v", n, limit.Cur, err)
	}
	t.Cleanup(func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) })
}

// Connections in great number are open, talk, are silent together and go. Nothing of them is left, at either end. The
// clients are in a process of their own, so that each end has descriptors enough.
func TestConnections_OpenTalkGone(t *testing.T) {
	n := connections(t)
	allowDescriptors(t, n+200)
	before := descriptors()
	onPoller(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			empty := memory()
			began := time.Now()
			idle := asyncio.CreateFuture[asyncio.None](ctx)
			lines := 0
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
					if lines++; lines == n*linesEach {
						must(t, idle.SetResult(asyncio.None{}))
					}
				}
				return nil
			}, "127.0.0.1:0")
			if err != nil {
				return err
			}
			clients := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
				return asyncio.ToThread(ctx, func(context.Context) (string, error) {
					cmd := subprocess("TestConnections_Clients", "ASYNCIO_TEST_SERVER="+server.Addrs()[0].String(), "ASYNCIO_CONNECTIONS="+strconv.Itoa(n))
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
			if server.Clients() != n || descriptors() < before+n {
				t.Errorf("%d clients, %d descriptors more than before, want %d", server.Clients(), descriptors()-before, n)
			}
			talked := time.Since(began)
			each := (memory() - empty) / int64(n)

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
			t.Logf("%d connections: open and %d lines each in %v, %d bytes each when idle, gone in %v", n, linesEach, talked.Round(time.Millisecond), each,
				time.Since(began).Round(time.Millisecond))
			if tasks := len(asyncio.AllTasks(ctx)); tasks != 1 || server.Clients() != 0 {
				t.Errorf("%d tasks and %d clients are left", tasks, server.Clients())
			}
			return nil
		})
	})
	if left := leakedGoroutines(); left != "" {
		t.Errorf("goroutines left:\n%s", left)
	}
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// linesEach is how many lines a connection says before it is silent.
const linesEach = 3

// memory is what the program's values and stacks take.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestConnections_Clients is the clients of TestConnections_OpenTalkGone, in a process that it starts.
func TestConnections_Clients(t *testing.T) {
	address := os.Getenv("ASYNCIO_TEST_SERVER")
	if address == "" {
		return
	}
	n := connections(t)
	allowDescriptors(t, n+200)
	onPoller(t, func(ctx context.Context) error {
		connecting := asyncio.NewSemaphore(100)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range n {
				tg.CreateTask(func(ctx context.Context) error {
					if err := connecting.Acquire(ctx); err != nil {
						return err
					}
					r, w, err := asyncio.OpenConnection(ctx, address)
					connecting.Release()
					if err != nil {
						return err
					}
					for j := range linesEach {
						want := fmt.Sprintf("LINE %d OF %d", j, i)
						if got, err := ask(ctx, r, w, strings.ToLower(want)); got != want || err != nil {
							return fmt.Errorf("%q, %w, want %q", got, err, want)
						}
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
