// Package handling is what the servers of package asynciohttp and the recorder of asynciohttptest
// have in common.
package handling

import (
	"context"
	"errors"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// Key is the key under which the context of a request has its [Response].
type Key struct{}

// A Response is told that an asynciohttp.HandlerFunc has returned an error.
type Response interface{ FailWith(err error) }

// CallingTask returns the task that calls, nil if a callback of the loop of ctx does. The error
// says that another goroutine calls.
func CallingTask(ctx context.Context) (t asyncio.AnyTask, err error) {
	defer func() {
		if v := recover(); v != nil {
			refused, ok := v.(error)
			if !ok || !errors.Is(refused, asyncio.ErrForeignGoroutine) {
				panic(v)
			}
			err = fmt.Errorf("%w (asynciohttp asked for the task: a server, a response and a body are for tasks)", refused)
		}
	}()
	return asyncio.CurrentTask(ctx), nil
}
