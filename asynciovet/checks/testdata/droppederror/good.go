package droppederror

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func watchUntilCancelled(ctx context.Context, changed *asyncio.Event, reload func()) error {
	for {
		if err := changed.Wait(ctx); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		changed.Clear()
		reload()
	}
}

func wait(ctx context.Context, child *asyncio.Task[int]) {
	child.Cancel()
	_, _ = child.Await(ctx) // whatever became of it
}
