package asyncio_test

import (
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A cancelled sleep leaves no timer; otherwise the clock would advance to it.
func TestSleep_CancelledLeavesNoTimer(t *testing.T) {
	l := newLoop(t)
	l.SetExceptionHandler(new(reports).handle)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		must(t, yields(ctx, 1))
		task.Cancel()
		endsCancelled(t, ctx, task)
		return never(ctx)
	}))
	wantErr(t, "the run", err, asyncio.ErrDeadlock)
	is(t, "time", l.Time().SinceStart(), 0*time.Second)
}
