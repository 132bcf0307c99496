// Lesson 2.2: Run makes an event loop, runs a coroutine on it until it returns, and closes
// the loop. It is how a program starts; lesson 1.1 has done the same by hand.

package tutorial

import (
	"context"
	"fmt"
	"io"

	"github.com/goasyncio/asyncio"
)

func asyncioRun(ctx context.Context, stdout io.Writer) error {
	fun := func(context.Context) error {
		fmt.Fprintln(stdout, "jugeng")
		return nil
	}
	result := asyncio.Do(fun)
	_, err := asyncio.Run(ctx, result)
	return err
}
