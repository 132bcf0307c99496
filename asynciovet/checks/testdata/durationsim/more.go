// Package durationsim uses package sim, where a nanosecond can be meant.
package durationsim

import (
	"context"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func near(ctx context.Context) error {
	sim.Note(ctx, "x")
	return asyncio.Sleep(ctx, 1)
}
