package sim_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// yield lets other tasks run, n times.
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
	return asyncio.CreateTask(ctx, asyncio.Do(fn), asyncio.TaskName(name))
}

// Tests called TestAttack run programs that nobody should write; each has broken package sim once.

func anHour(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }
