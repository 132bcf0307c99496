package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

// example runs main on virtual time and prints the error it returns.
func example(main func(ctx context.Context) error) {
	if _, err := asyncio.Run(background, asyncio.Do(main)); err != nil {
		fmt.Println(err)
	}
}

func ExampleTimeout() {
	example(func(ctx context.Context) error {
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			_, err := fetch("page", time.Hour)(ctx)
			return err
		})
		fmt.Println(errors.Is(err, asyncio.ErrTimeout), err)
		return nil
	})
	// Output: true asyncio: timed out
}

func ExampleTimeoutScope() {
	example(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, tm *asyncio.TimeoutScope) error {
			fmt.Println(tm)
			if err := tm.Reschedule(asyncio.Never); err != nil {
				return err
			}
			fmt.Println(tm)
			return asyncio.Sleep(ctx, time.Hour)
		})
	})
	// Output:
	// <Timeout [active] when=1s>
	// <Timeout [active] when=None>
}

func ExampleTimeoutError() {
	example(func(ctx context.Context) error {
		_, err := asyncio.WaitFor(ctx, fetch("page", time.Hour), time.Second)
		var timeout *asyncio.TimeoutError
		fmt.Println(errors.As(err, &timeout), timeout.When, timeout.From)
		return nil
	})
	// Output: true 1s asyncio: cancelled: timed out
}

func ExampleWaitFor() {
	example(func(ctx context.Context) error {
		page, err := asyncio.WaitFor(ctx, fetch("page", time.Second), time.Minute)
		fmt.Println(page)
		return err
	})
	// Output: page
}

func ExampleShield() {
	example(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, fetch("page", time.Minute))
		_, err := asyncio.WaitFor(ctx, asyncio.Shield(ctx, task), time.Second)
		fmt.Println(err)
		page, err := task.Await(ctx)
		fmt.Println(page)
		return err
	})
	// Output:
	// asyncio: timed out
	// page
}

func ExampleAsCompleted() {
	example(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fetch("slow", time.Minute)),
			asyncio.CreateTask(ctx, fetch("fast", time.Second)),
		}
		for task, err := range asyncio.AsCompleted(ctx, tasks) {
			if err != nil {
				return err
			}
			page, err := task.Result()
			fmt.Println(page, err, task == tasks[1])
		}
		return nil
	})
	// Output:
	// fast <nil> true
	// slow <nil> false
}

func ExampleAsCompletedTimeout() {
	example(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{asyncio.CreateTask(ctx, fetch("slow", time.Minute))}
		for _, err := range asyncio.AsCompleted(ctx, tasks, asyncio.AsCompletedTimeout(time.Second)) {
			fmt.Println(err, tasks[0].Done())
		}
		return nil
	})
	// Output: asyncio: timed out false
}

func ExampleTaskGroup() {
	example(func(ctx context.Context) error {
		var a, b *asyncio.Task[string]
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			a = asyncio.GroupTask(ctx, tg, fetch("a", time.Second))
			b = asyncio.GroupTask(ctx, tg, fetch("b", time.Minute))
			return nil
		})
		if err != nil {
			return err
		}
		// Both are done.
		x, _ := a.Result()
		y, _ := b.Result()
		fmt.Println(x, y)
		return nil
	})
	// Output: a b
}

func ExampleGroupError() {
	example(func(ctx context.Context) error {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, func(context.Context) error { return errors.New("boom") })
			tg.CreateTask(ctx, func(ctx context.Context) error {
				// cancelled, because the other one failed
				if err := asyncio.Sleep(ctx, time.Hour); err != nil {
					return errors.ErrUnsupported
				}
				return nil
			})
			return nil
		})
		fmt.Println(err)
		var group *asyncio.GroupError
		if errors.As(err, &group) {
			match, rest := group.Split(func(err error) bool { return err == errors.ErrUnsupported })
			fmt.Println(match.Exceptions, "and", rest)
		}
		return nil
	})
	// Output:
	// asyncio: unhandled errors in a TaskGroup (2 sub-exceptions): boom; unsupported operation
	// [unsupported operation] and asyncio: unhandled errors in a TaskGroup (1 sub-exception): boom
}

func ExampleGroupOption() {
	example(func(ctx context.Context) error {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range 3 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					fmt.Println("start", i)
					if err := asyncio.Sleep(ctx, time.Second); err != nil {
						return err
					}
					return fmt.Errorf("failure %d", i)
				})
			}
			return nil
		}, asyncio.GroupLimit(1), asyncio.Supervisor())
		fmt.Println(err)
		return nil
	})
	// Output:
	// start 0
	// start 1
	// start 2
	// asyncio: unhandled errors in a TaskGroup (3 sub-exceptions): failure 0; failure 1; failure 2
}

func ExampleTaskStatus() {
	serve := func(ctx context.Context, status *asyncio.TaskStatus[string]) error {
		// stands for the time it takes to listen
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := status.Started("localhost:8080"); err != nil {
			return err
		}
		return asyncio.Sleep(ctx, time.Hour)
	}
	example(func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			addr, err := asyncio.GroupStart(ctx, tg, serve)
			fmt.Println("ready at", addr)
			tg.Cancel()
			return err
		})
	})
	// Output: ready at localhost:8080
}

func ExampleGroupCompleted() {
	example(func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			asyncio.GroupTask(ctx, tg, fetch("slow", time.Minute))
			asyncio.GroupTask(ctx, tg, fetch("fast", time.Second))
			for task, err := range asyncio.GroupCompleted[string](ctx, tg) {
				if err != nil {
					return err
				}
				fmt.Println(task.Result())
			}
			return nil
		})
	})
	// Output:
	// fast <nil>
	// slow <nil>
}

func ExampleMoveOnAfter() {
	example(func(ctx context.Context) error {
		expired, err := asyncio.MoveOnAfter(ctx, time.Second, func(ctx context.Context) error {
			_, err := fetch("page", time.Hour)(ctx)
			return err
		})
		fmt.Println(expired, err)
		return nil
	})
	// Output: true <nil>
}

func ExampleCleanup() {
	example(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) (err error) {
			defer func() {
				e := asyncio.Cleanup(ctx, 5*time.Second, func(ctx context.Context) error {
					// stands for closing a connection in order
					return asyncio.Sleep(ctx, time.Second)
				})
				fmt.Println("closed:", e)
				if e != nil {
					err = errors.Join(err, e)
				}
			}()
			return asyncio.Sleep(ctx, time.Hour)
		}))
		for range 2 { // the second one arrives in the middle of the cleanup
			if err := asyncio.Sleep(ctx, time.Second/2); err != nil {
				return err
			}
			task.Cancel()
		}
		_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{task})
		fmt.Println("cancelled:", task.Cancelled())
		return err
	})
	// Output:
	// closed: <nil>
	// cancelled: true
}

// A child gets the ctx of its creator, like any other task.
func ExampleTaskGroup_CreateTask() {
	type requestID struct{}
	handle := func(ctx context.Context) error {
		fmt.Println("request", ctx.Value(requestID{}))
		return nil
	}
	example(func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for id := range 3 {
				ctx := context.WithValue(ctx, requestID{}, id)
				tg.CreateTask(ctx, handle)
			}
			return nil
		})
	})
	// Output:
	// request 0
	// request 1
	// request 2
}
