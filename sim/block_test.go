package sim_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A step that blocks makes the others late: a timer fires when the step is over, not when it is
// due.
func TestBlock(t *testing.T) {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		begin := loop.Time()
		sleeper := asyncio.CreateTask(ctx, func(ctx context.Context) (time.Duration, error) {
			err := asyncio.Sleep(ctx, time.Second)
			return loop.Time().Sub(begin), err
		})
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if err := sim.Block(ctx, 3*time.Second); err != nil {
			return err
		}
		if got := loop.Time().Sub(begin); got != 3*time.Second || sleeper.Done() {
			t.Errorf("after Block the clock shows %v, and the sleeper is done: %v", got, sleeper.Done())
		}
		woke, err := sleeper.Await(ctx)
		if woke != 3*time.Second {
			t.Errorf("the sleeper woke at %v", woke)
		}
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
}

func TestBlock_NeedsAVirtualLoop(t *testing.T) {
	if err := sim.Block(context.Background(), time.Second); !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Fatalf("Block without a loop: %v", err)
	}
}
