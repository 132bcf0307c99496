// Lesson 2.3, example 1: a coroutine waits. Sleep suspends this coroutine and not
// the thread: the loop could run others meanwhile.

package tutorial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func await1(ctx context.Context, stdout io.Writer) error {
	fun := func(ctx context.Context) error {
		fmt.Fprintln(stdout, "come")
		// An await can fail, because the program is being stopped for example. Where
		// Python raises, Go returns the error.
		if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "over")
		return nil
	}
	_, err := asyncio.Run(ctx, asyncio.Do(fun))
	return err
}
