package asyncio_test

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

func ExampleSelect() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		jobs, stop := asyncio.NewQueue[string](0), asyncio.CreateFuture[string](ctx)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for _, job := range []string{"sweep", "polish"} {
				if err := jobs.Put(ctx, job); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
			}
			return stop.SetResult("evening")
		}))

		job, quit := asyncio.OnGet(jobs), asyncio.OnDone(stop)
		for {
			won, err := asyncio.Select(ctx, quit, job)
			switch won {
			case quit:
				why, err := quit.Result()
				fmt.Println("stopped:", why)
				return err
			case job:
				name, err := job.Result()
				if err != nil {
					return err
				}
				fmt.Println("job:", name)
			default:
				return err // cancelled
			}
		}
	}))
	fmt.Println(err)
	// Output:
	// job: sweep
	// job: polish
	// stopped: evening
	// <nil>
}

// The branches that lose are left untouched: the permit, the value in the channel, the task.
func ExampleCase() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		permits, news := asyncio.NewSemaphore(1), make(chan string, 1)
		news <- "rain"
		page := asyncio.CreateTask(ctx, fetch("page", time.Hour))

		recv := asyncio.OnRecv(news)
		won, err := asyncio.Select(ctx, recv, asyncio.OnAcquire(permits), asyncio.OnDone(page))
		if err != nil {
			return err
		}
		if won == recv {
			text, err := recv.Result()
			fmt.Println(text, err)
		}
		fmt.Println(permits)
		fmt.Println(page.Done())
		return nil
	}))
	fmt.Println(err)
	// Output:
	// rain <nil>
	// <asyncio.Semaphore [unlocked, value:1]>
	// false
	// <nil>
}

// The number of branches may be known only at run time.
func ExampleAnyCase() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var cases []asyncio.AnyCase
		for _, d := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second} {
			cases = append(cases, asyncio.OnDone(fetch(d.String(), d)))
		}
		won, err := asyncio.Select(ctx, cases...)
		if err != nil {
			return err
		}
		fastest, err := won.(*asyncio.Case[string]).Result()
		fmt.Println(fastest)
		return err
	}))
	fmt.Println(err)
	// Output:
	// 1s
	// <nil>
}

func ExampleDefault() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		get, idle := asyncio.OnGet(asyncio.NewQueue[int](0)), asyncio.OnDefault()
		won, err := asyncio.Select(ctx, get, idle)
		fmt.Println(won == idle)
		return err
	}))
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// A function that accepts queues of every kind.
func ExampleAnyQueue() {
	next := func(ctx context.Context, q asyncio.AnyQueue[int]) (int, error) {
		get := asyncio.OnGet(q)
		if _, err := asyncio.Select(ctx, get, asyncio.OnTimeout(time.Second)); err != nil {
			return 0, err
		}
		return get.Result()
	}
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		stack := asyncio.NewLifoQueue[int](0)
		for v := range 3 {
			if err := stack.Put(ctx, v); err != nil {
				return err
			}
		}
		v, err := next(ctx, stack)
		fmt.Println(v)
		return err
	}))
	fmt.Println(err)
	// Output:
	// 2
	// <nil>
}

// A function that accepts locks of every kind.
func ExampleAnyLock() {
	acquireIn := func(ctx context.Context, l asyncio.AnyLock, d time.Duration) (bool, error) {
		acquired := asyncio.OnAcquire(l)
		won, err := asyncio.Select(ctx, acquired, asyncio.OnTimeout(d))
		return won == acquired, err
	}
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var lock asyncio.Lock
		for range 2 {
			ok, err := acquireIn(ctx, &lock, time.Second)
			if err != nil {
				return err
			}
			fmt.Println(ok)
		}
		lock.Release()
		return nil
	}))
	fmt.Println(err)
	// Output:
	// true
	// false
	// <nil>
}
