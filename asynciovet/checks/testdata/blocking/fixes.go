package blocking

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

// Fixes need a ctx and an error to return.
func fixes(ctx context.Context) (int, string, *program, program, error) {
	n := 0
	if err := asyncio.Sleep(ctx, 1); err != nil {
		return 0, "", nil, program{}, err
	}
	time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
	if n > 0 {
		time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
	}
	switch n {
	case 1:
		time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
	}
	for ; n < 3; time.Sleep(time.Millisecond) { // want `time.Sleep blocks the loop`
		n++
	}
	defer time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
	{
		ctx := 1
		time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
		_ = ctx
	}
	return 0, "", nil, program{}, nil
}

func results(ctx context.Context) (n int, err error) {
	n, err = 1, asyncio.Sleep(ctx, 1)
	time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
	return
}

func noFix(ctx context.Context, e *asyncio.Event) {
	if err := e.Wait(ctx); err != nil {
		return
	}
	time.Sleep(time.Millisecond) // want `time.Sleep blocks the loop`
}
