package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A program is given the virtual clock by its context. In a test that is t.Context().
func ExampleNewEventLoop() {
	poll := func(ctx context.Context) (string, error) {
		for n := 1; n < 4; n++ {
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return "", err
			}
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		return fmt.Sprint("after ", loop.Time()), err
	}

	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	fmt.Println(asyncio.Run(ctx, poll)) // takes no time
	// Output: after 3h0m0s <nil>
}

// A program that can never go on does not hang: the error says who waits for what, and where.
func ExampleNewEventLoop_deadlock() {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	jobs := asyncio.NewQueue[int](0)
	_, err := asyncio.Run(ctx, func(ctx context.Context) (int, error) {
		return jobs.Get(ctx) // and nobody puts
	})

	fmt.Println(errors.Is(err, asyncio.ErrDeadlock))
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, "waits for") {
			fmt.Print(strings.TrimSpace(line))
		}
	}
	// Output:
	// true
	// task 'Task-1', sim_test.ExampleNewEventLoop_deadlock.func1(), waits for <Queue maxsize=0 _getters[1]>
}
