// Lesson 2.4, example 1: a task is a coroutine that the loop runs beside the others.
// CreateTask only puts it on the loop's list; it starts when main waits for something.
//
// So "main结束" comes before both 1s, and all is over after five seconds, not ten.

package tutorial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func task1(ctx context.Context, stdout io.Writer) error {
	fn := func(ctx context.Context) error {
		fmt.Fprintln(stdout, 1)
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		fmt.Fprintln(stdout, 3)
		return nil
	}
	main := func(ctx context.Context) error {
		fmt.Fprintln(stdout, "main开始")
		// 创建task对象，把任务添加到事件循环
		task1 := asyncio.CreateTask(ctx, asyncio.Do(fn))
		task2 := asyncio.CreateTask(ctx, asyncio.Do(fn))
		fmt.Fprintln(stdout, "main结束")

		ret1, err := task1.Await(ctx)
		if err != nil {
			return err
		}
		ret2, err := task2.Await(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, ret1, ret2) // None None: fn returns no value
		return nil
	}
	_, err := asyncio.Run(ctx, asyncio.Do(main))
	return err
}
