package droppederror

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func watch(ctx context.Context, changed *asyncio.Event, reload func()) error {
	for {
		changed.Wait(ctx)                        // want `the error of asyncio.Event.Wait is dropped, so a cancel is lost`
		asyncio.Sleep(ctx, 100*time.Millisecond) // want `the error of asyncio.Sleep is dropped, so a cancel is lost`
		changed.Clear()
		reload()
	}
}
