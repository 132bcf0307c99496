// Lesson 2.3, example 2: a coroutine awaits another one and uses its result. To await a
// coroutine is to call it with the ctx at hand: it runs here and now.

package tutorial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func await2(ctx context.Context, stdout io.Writer) error {
	others := func(ctx context.Context) (string, error) {
		fmt.Fprintln(stdout, "start")
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return "", err
		}
		fmt.Fprintln(stdout, "end")
		return "返回值", nil
	}
	fn := func(ctx context.Context) error { // "func" in Python, a keyword in Go
		fmt.Fprintln(stdout, "执行协程内部代码")
		response, err := others(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, "IO请求结束，结果为", response)
		return nil
	}
	_, err := asyncio.Run(ctx, asyncio.Do(fn))
	return err
}
