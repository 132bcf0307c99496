package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func Example() {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	fmt.Println(asyncio.Run(ctx, breakfast))
	// Output:
	// tea started
	// toast started
	// [tea ready toast ready] <nil>
}

func TestBreakfast_TakesAsLongAsTheTea(t *testing.T) {
	ctx := asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop)
	took, err := asyncio.Run(ctx, func(ctx context.Context) (time.Duration, error) {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return 0, err
		}
		_, err = breakfast(ctx)
		return l.Time().SinceStart(), err
	})
	if took != 2*time.Second || err != nil {
		t.Errorf("breakfast took %v, error %v; want 2s, the two at the same time", took, err)
	}
}
