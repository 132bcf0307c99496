// Lesson 1.1: an event loop runs several coroutines on one thread. Whenever one of them
// waits (here it sleeps), the loop goes on with another (遇到IO阻塞自动切换).
//
// So 1 and 2 are printed at once, and 3 and 4 together five seconds later.

package tutorial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func runUntilComplete(ctx context.Context, stdout io.Writer) (err error) {
	func1 := func(ctx context.Context) error {
		fmt.Fprintln(stdout, 1)
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		fmt.Fprintln(stdout, 3)
		return nil
	}
	func2 := func(ctx context.Context) error {
		fmt.Fprintln(stdout, 2)
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		fmt.Fprintln(stdout, 4)
		return nil
	}

	// Python finds its loop by itself and closes it at exit. Here both are written out.
	loop := asyncio.NewEventLoop(ctx)
	defer func() { err = errors.Join(err, loop.Close()) }()

	// The loop is not running yet, so this only puts two tasks on its list.
	tasks := []*asyncio.Future[asyncio.None]{
		asyncio.EnsureFuture(loop.Context(), asyncio.Do(func1)),
		asyncio.EnsureFuture(loop.Context(), asyncio.Do(func2)),
	}

	_, err = asyncio.RunUntilComplete(loop, asyncio.Do(func(ctx context.Context) error {
		_, _, err := asyncio.Wait(ctx, tasks)
		return err
	}))
	return err
}
