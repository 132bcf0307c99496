package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

func ExampleLock() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var lock asyncio.Lock
		balance := 100
		withdraw := func(amount int) asyncio.Coroutine[bool] {
			return func(ctx context.Context) (bool, error) {
				if err := lock.Acquire(ctx); err != nil {
					return false, err
				}
				defer lock.Release()
				if balance < amount {
					return false, nil
				}
				err := asyncio.Sleep(ctx, time.Second) // the bank takes its time
				balance -= amount
				return true, err
			}
		}
		paid, err := asyncio.Gather(ctx, withdraw(80), withdraw(80))
		fmt.Println(paid, balance, &lock)
		return err
	}))
	fmt.Println(err)
	// Output:
	// [true false] 20 <asyncio.Lock [unlocked]>
	// <nil>
}

func ExampleEvent() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		var ready asyncio.Event
		guest := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			fmt.Println("waiting")
			err := ready.Wait(ctx)
			fmt.Println("eating")
			return err
		}))
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		fmt.Println("dinner is ready")
		ready.Set()
		_, err := guest.Await(ctx)
		return err
	}))
	fmt.Println(err)
	// Output:
	// waiting
	// dinner is ready
	// eating
	// <nil>
}

func ExampleCondition() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		changed := asyncio.NewCondition(nil)
		level := 0
		alarm := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			if err := changed.Acquire(ctx); err != nil {
				return err
			}
			defer changed.Release()
			err := changed.WaitFor(ctx, func() bool { return level >= 3 })
			fmt.Println("alarm at", level)
			return err
		}))
		for !alarm.Done() {
			if err := changed.Acquire(ctx); err != nil {
				return err
			}
			level++
			changed.NotifyAll()
			changed.Release()
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// alarm at 3
	// <nil>
}

func ExampleSemaphore() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		loop, _ := asyncio.GetRunningLoop(ctx)
		two := asyncio.NewSemaphore(2)
		get := func(page string) asyncio.Coroutine[string] {
			return func(ctx context.Context) (string, error) {
				if err := two.Acquire(ctx); err != nil {
					return "", err
				}
				defer two.Release()
				err := asyncio.Sleep(ctx, time.Second)
				return fmt.Sprint(page, " at ", loop.Time()), err
			}
		}
		pages, err := asyncio.Gather(ctx, get("a"), get("b"), get("c"))
		fmt.Println(pages)
		return err
	}))
	fmt.Println(err)
	// Output:
	// [a at 1s b at 1s c at 2s]
	// <nil>
}

func ExampleBoundedSemaphore() {
	seats := asyncio.NewBoundedSemaphore(1)
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		if err := seats.Acquire(ctx); err != nil {
			return err
		}
		seats.Release()
		defer func() { fmt.Println(recover()) }()
		seats.Release() // once too often
		return nil
	}))
	fmt.Println(err)
	// Output:
	// asyncio: not acquired: all 1 permits are back already (in Release)
	// <nil>
}

func ExampleBarrier() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		start := asyncio.NewBarrier(2)
		runner := func(name string, warmUp time.Duration) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if err := asyncio.Sleep(ctx, warmUp); err != nil {
					return 0, err
				}
				fmt.Println(name, "is ready")
				i, err := start.Wait(ctx)
				fmt.Println(name, "runs")
				return i, err
			}
		}
		order, err := asyncio.Gather(ctx, runner("tortoise", 2*time.Second), runner("hare", time.Second))
		fmt.Println(order)
		return err
	}))
	fmt.Println(err)
	// Output:
	// hare is ready
	// tortoise is ready
	// tortoise runs
	// hare runs
	// [1 0]
	// <nil>
}

func ExampleCapacityLimiter() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		limiter := asyncio.NewCapacityLimiter(1)
		if err := limiter.AcquireOnBehalfOf(ctx, "connection 1"); err != nil {
			return err
		}
		err := limiter.AcquireOnBehalfOfNowait("connection 2")
		fmt.Println(errors.Is(err, asyncio.ErrWouldBlock), limiter)
		limiter.SetTotalTokens(2)
		err = limiter.AcquireOnBehalfOfNowait("connection 2")
		fmt.Println(limiter.Statistics().Borrowers)
		return err
	}))
	fmt.Println(err)
	// Output:
	// true <asyncio.CapacityLimiter [borrowed:1/1]>
	// [connection 1 connection 2]
	// <nil>
}
