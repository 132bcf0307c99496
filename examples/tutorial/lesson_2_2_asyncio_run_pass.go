// Lesson 2.2: making a coroutine object runs nothing. Its body runs only once an event
// loop is given it, or a coroutine that is running awaits it.
//
// So this program prints nothing.

package tutorial

import (
	"context"
	"fmt"
	"io"

	"github.com/goasyncio/asyncio"
)

func asyncioRunPass(_ context.Context, stdout io.Writer) error {
	fun := func(context.Context) error { // 协程函数: the coroutine function
		_, err := fmt.Fprintln(stdout, "not printed")
		return err
	}
	result := asyncio.Do(fun) // 协程对象: the coroutine object
	_ = result                // Go insists that a variable is used
	return nil
}
