package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// clockKey is the key of a loop's virtual clock among the values of its contexts.
type clockKey struct{}

// Block takes d of the loop's time without suspending: it stands for a step that computes for so
// long, or calls something that blocks. Nothing else of the loop runs meanwhile, and timers that
// become due fire after the step. ctx is that of a task or callback on a loop of [NewEventLoop];
// with any other Block returns an error that matches [asyncio.ErrInvalidArgument]. A cancel does
// not end it. A span that is not positive does nothing.
func Block(ctx context.Context, d time.Duration) error {
	clock, ok := ctx.Value(clockKey{}).(*driver.Virtual)
	if !ok {
		return fmt.Errorf("%w: Block is for loops of sim.NewEventLoop; on a host, time passes only between steps", asyncio.ErrInvalidArgument)
	}
	clock.Pass(d)
	return nil
}
