// Lesson 2.3, example 3: two awaits come one after the other. The second coroutine
// starts when the first has returned, so this takes ten seconds. How to have both
// at the same time is lesson 2.4.

package tutorial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func await3(ctx context.Context, stdout io.Writer) error {
	others := func(ctx context.Context) (string, error) {
		fmt.Fprintln(stdout, "start")
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return "", err
		}
		fmt.Fprintln(stdout, "end")
		return "返回值", nil
	}
	fn := func(ctx context.Context) error {
		fmt.Fprintln(stdout, "执行协程内部代码")
		// await等执行结束了，执行后面程序
		response1, err := others(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, "IO请求结束，结果为", response1)
		response2, err := others(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, "IO请求结束，结果为", response2)
		return nil
	}
	_, err := asyncio.Run(ctx, asyncio.Do(fn))
	return err
}
