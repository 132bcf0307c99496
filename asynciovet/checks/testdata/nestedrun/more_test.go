package nestedrun

import (
	"context"
	"errors"
	"testing"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

// A test that names the error wants to see it.
func TestRefused(t *testing.T) {
	helpers.OnLoop(func(ctx context.Context) error {
		if _, err := asyncio.Run(ctx, greet("x")); !errors.Is(err, asyncio.ErrLoopRunning) {
			t.Error(err)
		}
		return nil
	})
}

func TestByMistake(t *testing.T) {
	helpers.OnLoop(func(ctx context.Context) error {
		_, err := asyncio.Run(ctx, greet("x")) // want `asyncio.Run on a loop that is running`
		return err
	})
}
