package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// Futures and tasks of different types in one list.
func ExampleAnyFuture() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		name := asyncio.CreateTask(ctx, fetch("page", time.Second))
		size := asyncio.CreateFuture[int](ctx)
		for _, f := range []asyncio.AnyFuture{name, size} {
			f.Cancel()
		}
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{name, size})
		fmt.Println(name.Cancelled(), size.Cancelled())
		return err
	}))
	fmt.Println(err)
	// Output:
	// true true
	// <nil>
}

// All tasks of the loop except this one.
func ExampleAnyTask() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, fetch("page", time.Hour), asyncio.TaskName("crawler"))
		for _, task := range asyncio.AllTasks(ctx) {
			if task != asyncio.CurrentTask(ctx) {
				fmt.Println("stop", task.GetName())
				task.Cancel()
			}
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// stop crawler
	// <nil>
}

// A function that accepts anything that can be awaited.
func ExampleAwaitable() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		shout := func(ctx context.Context, a asyncio.Awaitable[string]) error {
			s, err := a.Await(ctx)
			fmt.Println(strings.ToUpper(s))
			return err
		}
		if err := shout(ctx, fetch("coroutine", 0)); err != nil {
			return err
		}
		return shout(ctx, asyncio.CreateTask(ctx, fetch("task", 0)))
	}))
	fmt.Println(err)
	// Output:
	// COROUTINE
	// TASK
	// <nil>
}

// A loop is made by the factory of its context, if that has one; here it is package sim's.
func ExampleNewEventLoop() {
	loop := asyncio.NewEventLoop(background)
	page, err := asyncio.RunUntilComplete(loop, fetch("page", time.Hour))
	fmt.Println(page, err, loop.Time(), loop.Close())
	// Output: page <nil> 1h0m0s <nil>
}

func ExampleAsCompletedOption() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fetch("slow", time.Hour)),
			asyncio.CreateTask(ctx, fetch("quick", time.Second)),
		}
		limit := asyncio.AsCompletedTimeout(time.Minute)
		for task, err := range asyncio.AsCompleted(ctx, tasks, limit) {
			if err != nil {
				fmt.Println(err)
				break
			}
			page, err := task.Result()
			fmt.Println(page, err)
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// quick <nil>
	// asyncio: timed out
	// <nil>
}

func ExampleBarrierStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		barrier := asyncio.NewBarrier(3)
		asyncio.CreateTask(ctx, barrier.Wait, asyncio.TaskName("first"))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		s := barrier.Statistics()
		fmt.Println(s.Waiting, "of", s.Parties, s.Waiters[0].GetName())
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 1 of 3 first
	// <nil>
}

func ExampleCancelledError() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, fetch("page", time.Hour))
		task.Cancel("no longer needed")
		_, err := task.Await(ctx)
		var c *asyncio.CancelledError
		fmt.Println(errors.As(err, &c), errors.Is(err, context.Canceled))
		fmt.Println(c.Msg, "by", c.By)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// true true
	// no longer needed by Task-1
	// <nil>
}

func ExampleCapacityLimiterStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		limiter := asyncio.NewCapacityLimiter(4)
		if err := limiter.AcquireOnBehalfOf(ctx, "a customer"); err != nil {
			return err
		}
		s := limiter.Statistics()
		fmt.Println(s.BorrowedTokens, "of", s.TotalTokens, s.Borrowers)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 1 of 4 [a customer]
	// <nil>
}

// A goroutine outside the loop starts a task on it and waits for the task.
func ExampleConcurrentFuture() {
	loop := asyncio.NewEventLoop(context.Background())
	stopped := make(chan error)
	go func() { stopped <- loop.RunForever() }()

	future := asyncio.RunCoroutineThreadsafe(fetch("page", 0), loop)
	page, err := future.Result(context.Background())
	fmt.Println(page, err)

	_, err = loop.CallSoonThreadsafe(loop.Stop)
	fmt.Println(err, <-stopped, loop.Close())
	// Output:
	// page <nil>
	// <nil> <nil> <nil>
}

func ExampleConditionStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		cond := asyncio.NewCondition(nil)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			if err := cond.Acquire(ctx); err != nil {
				return err
			}
			defer cond.Release()
			return cond.Wait(ctx)
		}), asyncio.TaskName("reader"))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		s := cond.Statistics()
		fmt.Println(s.Waiters[0].GetName(), s.Lock.Locked)
		return nil
	}))
	fmt.Println(err)
	// Output:
	// reader false
	// <nil>
}

func ExampleDoneCallback() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		future := asyncio.CreateFuture[int](ctx)
		future.AddDoneCallback(func(f *asyncio.Future[int]) { fmt.Println("done:", f) })
		second := future.AddDoneCallback(func(*asyncio.Future[int]) { fmt.Println("never printed") })
		fmt.Println(future.RemoveDoneCallback(second))
		if err := future.SetResult(7); err != nil {
			return err
		}
		return asyncio.Sleep(ctx, 0)
	}))
	fmt.Println(err)
	// Output:
	// 1
	// done: <Future finished result=7>
	// <nil>
}

func ExampleEventStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var event asyncio.Event
		asyncio.CreateTask(ctx, asyncio.Do(event.Wait), asyncio.TaskName("sleeper"))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		s := event.Statistics()
		fmt.Println(s.Set, s.Waiters[0].GetName())
		return nil
	}))
	fmt.Println(err)
	// Output:
	// false sleeper
	// <nil>
}

func ExampleExceptionContext() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
			fmt.Println("reported:", c.Exception)
		})
		loop.CallSoon(func() { panic(errors.New("out of paper")) })
		return asyncio.Sleep(ctx, 0)
	}))
	fmt.Println(err)
	// Output:
	// reported: asyncio: panic: out of paper
	// <nil>
}

func ExampleExecutor() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var executor asyncio.Executor = asyncio.NewThreadPoolExecutor(2)
		defer executor.Shutdown(true)
		v, err := asyncio.RunInExecutor(ctx, executor, func() (int, error) { return 6 * 7, nil }).Await(ctx)
		fmt.Println(v)
		return err
	}))
	fmt.Println(err)
	// Output:
	// 42
	// <nil>
}

func ExampleHandle() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.CallSoon(func() { fmt.Println("runs") })
		handle := loop.CallSoon(func() { fmt.Println("never printed") })
		handle.Cancel()
		fmt.Println(handle)
		return asyncio.Sleep(ctx, 0)
	}))
	fmt.Println(err)
	// Output:
	// <Handle cancelled>
	// runs
	// <nil>
}

func ExampleLockStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var lock asyncio.Lock
		if err := lock.Acquire(ctx); err != nil {
			return err
		}
		defer lock.Release()
		asyncio.CreateTask(ctx, asyncio.Do(lock.Acquire), asyncio.TaskName("next"))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		s := lock.Statistics()
		fmt.Println(s.Owner.GetName(), "before", s.Waiters[0].GetName())
		return nil
	}))
	fmt.Println(err)
	// Output:
	// Task-1 before next
	// <nil>
}

func ExampleNone() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return nil }))
		var none asyncio.None
		none, err := task.Await(ctx)
		fmt.Println(none)
		return err
	}))
	fmt.Println(err)
	// Output:
	// None
	// <nil>
}

func ExamplePanicError() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) { fmt.Println("reported:", c.Message) })
		task := asyncio.CreateTask(ctx, func(context.Context) (int, error) { panic("out of paper") })
		_, err = task.Await(ctx)
		var p *asyncio.PanicError
		if errors.As(err, &p) {
			fmt.Println(p.Value, len(p.Stack) > 0)
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// reported: panic in task
	// out of paper true
	// <nil>
}

func ExampleResult() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		broken := func(context.Context) (string, error) { return "", errors.New("not found") }
		results, err := asyncio.GatherResults(ctx, fetch("page", time.Second), broken)
		for _, r := range results {
			fmt.Printf("%q %v\n", r.Value, r.Err)
		}
		return err
	}))
	fmt.Println(err)
	// Output:
	// "page" <nil>
	// "" not found
	// <nil>
}

func ExampleReturnCondition() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fetch("quick", time.Second)),
			asyncio.CreateTask(ctx, fetch("slow", time.Hour)),
		}
		for _, when := range []asyncio.ReturnCondition{asyncio.FirstCompleted, asyncio.AllCompleted} {
			done, pending, err := asyncio.Wait(ctx, tasks, asyncio.ReturnWhen(when))
			if err != nil {
				return err
			}
			fmt.Println(len(done), "done,", len(pending), "pending")
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 1 done, 1 pending
	// 2 done, 0 pending
	// <nil>
}

func ExampleRunOption() {
	page, err := asyncio.Run(background, fetch("page", time.Second),
		asyncio.DebugMode(true), asyncio.HandleSIGINT(false), asyncio.ShutdownTimeout(time.Minute))
	fmt.Println(page, err)
	// Output: page <nil>
}

func ExampleSemaphoreStatistics() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		permits := asyncio.NewSemaphore(3)
		if err := permits.Acquire(ctx); err != nil {
			return err
		}
		s := permits.Statistics()
		fmt.Println(s.Value, len(s.Waiters))
		return nil
	}))
	fmt.Println(err)
	// Output:
	// 2 0
	// <nil>
}

func ExampleTaskOption() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, fetch("page", time.Second), asyncio.TaskName("fetcher"), asyncio.EagerStart(true))
		fmt.Println(task.GetName())
		_, err := task.Await(ctx)
		return err
	}))
	fmt.Println(err)
	// Output:
	// fetcher
	// <nil>
}

func ExampleThreadPoolExecutor() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		pool := asyncio.NewThreadPoolExecutor(1) // one job at a time
		defer pool.Shutdown(true)
		var order []int
		job := func(n int) *asyncio.Future[int] {
			return asyncio.RunInExecutor(ctx, pool, func() (int, error) {
				order = append(order, n)
				return n, nil
			})
		}
		_, err := asyncio.Gather(ctx, job(1), job(2), job(3))
		fmt.Println(order)
		return err
	}))
	fmt.Println(err)
	// Output:
	// [1 2 3]
	// <nil>
}

func ExampleInstant() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		deadline := loop.Time().Add(3 * time.Second)
		for n := 0; loop.Time().Before(deadline); n++ {
			fmt.Println("attempt", n, "at", loop.Time(), "with", deadline.Sub(loop.Time()), "left")
			if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
				return err
			}
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// attempt 0 at 0s with 3s left
	// attempt 1 at 2s with 1s left
	// <nil>
}

func ExampleTimerHandle() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		reminder := loop.CallLater(time.Hour, func() { fmt.Println("never printed") })
		fmt.Println("due at", reminder.When())
		reminder.Cancel()
		fmt.Println(reminder.Cancelled())
		return asyncio.Sleep(ctx, 2*time.Hour)
	}))
	fmt.Println(err)
	// Output:
	// due at 1h0m0s
	// true
	// <nil>
}

func ExampleWaitOption() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		tasks := []*asyncio.Task[string]{
			asyncio.CreateTask(ctx, fetch("quick", time.Second)),
			asyncio.CreateTask(ctx, fetch("slow", time.Hour)),
		}
		done, pending, err := asyncio.Wait(ctx, tasks, asyncio.WaitTimeout(time.Minute))
		fmt.Println(len(done), "done,", len(pending), "pending")
		return err
	}))
	fmt.Println(err)
	// Output:
	// 1 done, 1 pending
	// <nil>
}

// Where any awaitable is accepted, Coro turns a function into one, and T need not be written.
func ExampleCoro() {
	load := func(ctx context.Context) (string, error) { return "page", asyncio.Sleep(ctx, time.Second) }
	count := func(ctx context.Context) (int, error) { return 7, asyncio.Sleep(ctx, time.Second) }
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		page, err := asyncio.WaitFor(ctx, asyncio.Coro(load), 2*time.Second)
		if err != nil {
			return err
		}
		fmt.Println(page)
		pages, err := asyncio.Gather(ctx, asyncio.Coro(load), asyncio.Coro(load))
		if err != nil {
			return err
		}
		fmt.Println(pages)
		n, s, err := asyncio.Gather2(ctx, asyncio.Coro(count), asyncio.Coro(load))
		if err != nil {
			return err
		}
		fmt.Println(n, s)
		shielded, err := asyncio.Shield(ctx, asyncio.Coro(count)).Await(ctx)
		if err != nil {
			return err
		}
		fmt.Println(shielded)
		counted := asyncio.OnDone(asyncio.Coro(count))
		if _, err := asyncio.Select(ctx, counted, asyncio.OnTimeout(time.Minute)); err != nil {
			return err
		}
		fmt.Println(counted.Result())
		return nil
	}))
	fmt.Println(err)
	// Output:
	// page
	// [page page]
	// 7 page
	// 7
	// 7 <nil>
	// <nil>
}

func ExampleLoopGroup() {
	// Counters are spread over three loops by the counted word. Only its own loop touches a
	// counter.
	words := strings.Fields("to be or not to be that is the question to")
	total, err := asyncio.RunLoopGroup(background, 3, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		counts := make([]map[string]int, g.Len())
		for i := range counts {
			counts[i] = make(map[string]int)
		}
		count := func(word string) asyncio.Coroutine[int] {
			shard := len(word) % g.Len()
			return func(ctx context.Context) (int, error) {
				return asyncio.Call(ctx, g.Loop(shard), func(context.Context) (int, error) {
					counts[shard][word]++
					return counts[shard][word], nil
				})
			}
		}
		for _, word := range words {
			if _, err := count(word)(ctx); err != nil {
				return 0, err
			}
		}
		return count("to")(ctx)
	})
	fmt.Println(total, err)
	// Output:
	// 4 <nil>
}
