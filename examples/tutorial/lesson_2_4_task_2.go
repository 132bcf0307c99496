// Lesson 2.4, example 2 (推荐这种方式): make a list of tasks and wait for all of them. Each
// has a name and a result, which it shows when printed. Where Python gives a set of
// the tasks done, in any order, Wait gives a list in the order they were passed. A
// closure has no name of its own in Go: fn is task2.func1 there.

package tutorial

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/goasyncio/asyncio"
)

func task2(ctx context.Context, stdout io.Writer) error {
	fn := func(ctx context.Context) (string, error) {
		fmt.Fprintln(stdout, 1)
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return "", err
		}
		fmt.Fprintln(stdout, 3)
		return "返回值", nil
	}
	main := func(ctx context.Context) error {
		fmt.Fprintln(stdout, "main开始")
		// 创建task对象，把任务添加到事件循环
		taskList := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fn, asyncio.TaskName("yan1")),
			asyncio.CreateTask(ctx, fn, asyncio.TaskName("yan2")),
		}
		fmt.Fprintln(stdout, "main结束")

		done, _, err := asyncio.Wait(ctx, taskList) // the second result is what is pending
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, done)
		return nil
	}
	_, err := asyncio.Run(ctx, asyncio.Do(main))
	return err
}
