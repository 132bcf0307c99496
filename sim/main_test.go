package sim_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// TestMain fails the run if it leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leakedGoroutines(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func leakedGoroutines() string {
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		left = left[:0]
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && !strings.Contains(g, "os/signal.") && !strings.Contains(g, "testing.(*M)") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// yield lets others run, n times.
func yield(ctx context.Context, n int) error {
	for range n {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// start starts a task with a name.
func start(ctx context.Context, name string, fn func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, asyncio.Do(fn), asyncio.Name(name))
}
