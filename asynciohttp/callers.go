package asynciohttp

import (
	"context"
	"errors"

	"github.com/goasyncio/asyncio"
)

// callingTask returns the task that calls, nil if a callback of the loop of ctx does. The error
// says that another goroutine calls.
func callingTask(ctx context.Context) (t asyncio.AnyTask, err error) {
	defer func() {
		if v := recover(); v != nil {
			refused, ok := v.(error)
			if !ok || !errors.Is(refused, asyncio.ErrForeignGoroutine) {
				panic(v)
			}
			err = refused
		}
	}()
	return asyncio.CurrentTask(ctx), nil
}
