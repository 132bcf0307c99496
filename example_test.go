package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// The examples run on virtual time, so they take no real time.
var background = asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)

func fetch(name string, d time.Duration) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		if err := asyncio.Sleep(ctx, d); err != nil {
			return "", err
		}
		return name, nil
	}
}

func ExampleRun() {
	v, err := asyncio.Run(background, func(ctx context.Context) (int, error) {
		fmt.Println("hello")
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return 0, err
		}
		fmt.Println("world")
		return 42, nil
	})
	fmt.Println(v, err)
	// Output:
	// hello
	// world
	// 42 <nil>
}

func ExampleDo() {
	main := func(ctx context.Context) error { // a function that returns only an error
		return asyncio.Sleep(ctx, time.Second)
	}
	result, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(result, err)
	// Output: None <nil>
}

func ExampleCoroutine() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		coro := fetch("page", time.Second) // runs nothing
		page, err := coro(ctx)             // runs the coroutine here and now
		fmt.Println(page)
		return err
	}))
	fmt.Println(err)
	// Output:
	// page
	// <nil>
}

func ExampleTask() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, fetch("page", time.Second), asyncio.TaskName("fetcher"))
		fmt.Println(task.GetName(), task.Done())
		page, err := task.Await(ctx)
		fmt.Println(page, task.Done())
		return err
	}))
	fmt.Println(err)
	// Output:
	// fetcher false
	// page true
	// <nil>
}

func ExampleFuture() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		answer := asyncio.CreateFuture[int](ctx)
		answer.AddDoneCallback(func(f *asyncio.Future[int]) { fmt.Println(f) })
		loop.CallLater(time.Second, func() {
			if err := answer.SetResult(42); err != nil {
				fmt.Println(err)
			}
		})
		v, err := answer.Await(ctx)
		fmt.Println(v)
		return err
	}))
	fmt.Println(err)
	// Output:
	// <Future finished result=42>
	// 42
	// <nil>
}

func ExampleFuture_Cancel() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			defer fmt.Println("cleaned up")
			return asyncio.Sleep(ctx, time.Hour)
		}))
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		task.Cancel("no longer needed")
		_, err := task.Await(ctx)
		fmt.Println(errors.Is(err, asyncio.ErrCancelled), err)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// cleaned up
	// true asyncio: cancelled: no longer needed (by Task-1)
	// <nil>
}

func ExampleGather() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		pages, err := asyncio.Gather(ctx, fetch("a", 3*time.Second), fetch("b", time.Second), fetch("c", 2*time.Second))
		fmt.Println(pages, loop.Time())
		return err
	}))
	fmt.Println(err)
	// Output:
	// [a b c] 3s
	// <nil>
}

func ExampleGatherResults() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		broken := asyncio.Coroutine[string](func(context.Context) (string, error) { return "", errors.New("broken") })
		results, err := asyncio.GatherResults(ctx, fetch("a", time.Second), broken)
		for _, r := range results {
			fmt.Printf("%q %v\n", r.Value, r.Err)
		}
		return err
	}))
	fmt.Println(err)
	// Output:
	// "a" <nil>
	// "" broken
	// <nil>
}

func ExampleWait() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fetch("slow", time.Minute)),
			asyncio.CreateTask(ctx, fetch("fast", time.Second)),
		}
		done, pending, err := asyncio.Wait(ctx, tasks, asyncio.ReturnWhen(asyncio.FirstCompleted))
		if err != nil {
			return err
		}
		page, err := done[0].Result()
		fmt.Println(page, len(pending))
		return err // Run cancels the slow one
	}))
	fmt.Println(err)
	// Output:
	// fast 1
	// <nil>
}

func ExampleToThread() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			return "what blocks runs here", ctx.Err()
		})
		fmt.Println(v)
		return err
	}))
	fmt.Println(err)
	// Output:
	// what blocks runs here
	// <nil>
}

func ExampleRunCoroutineThreadsafe() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		// This function runs on another goroutine and calls into the loop.
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			return asyncio.RunCoroutineThreadsafe(fetch("page", 0), loop).Result(ctx)
		})
		fmt.Println(v)
		return err
	}))
	fmt.Println(err)
	// Output:
	// page
	// <nil>
}

func ExampleWithTimeout() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := fetch("page", time.Hour)(hurried)
		fmt.Println(errors.Is(err, context.DeadlineExceeded), err)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// true context deadline exceeded
	// <nil>
}

func ExampleEventLoop() {
	loop := asyncio.NewEventLoop(background)
	loop.CallLater(2*time.Second, loop.Stop)
	loop.CallLater(time.Second, func() { fmt.Println("tick at", loop.Time()) })
	loop.CallSoon(func() { fmt.Println("first") })
	err := loop.RunForever()
	fmt.Println(err, loop.Close())
	// Output:
	// first
	// tick at 1s
	// <nil> <nil>
}

func ExampleRunner() {
	runner := asyncio.NewRunner(background)
	for _, name := range []string{"a", "b"} {
		page, err := asyncio.RunIn(runner, fetch(name, time.Second))
		fmt.Println(page, err)
	}
	loop, err := runner.GetLoop()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(loop.Time(), runner.Close())
	// Output:
	// a <nil>
	// b <nil>
	// 2s <nil>
}

func ExampleEventLoop_SetExceptionHandler() {
	loop := asyncio.NewEventLoop(background)
	loop.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
		fmt.Println(c.Message, c.Exception)
	})
	_, err := asyncio.RunUntilComplete(loop, asyncio.Do(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return errors.New("unseen") }))
		return asyncio.Sleep(ctx, time.Second)
	}))
	fmt.Println(err, loop.Close())
	// Output:
	// Task exception was never retrieved unseen
	// <nil> <nil>
}
