package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

type account struct {
	balance int
	lock    asyncio.Lock
}

func withdraw(a *account, name string, amount int) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		if err := a.lock.Acquire(ctx); err != nil {
			return err
		}
		defer a.lock.Release()
		seen := a.balance
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		a.balance = seen - amount
		fmt.Println(name, "leaves", a.balance)
		return nil
	})
}

func download(slots *asyncio.Semaphore, name string, takes time.Duration) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		if err := slots.Acquire(ctx); err != nil {
			return err
		}
		defer slots.Release()
		fmt.Println("start", name)
		if err := asyncio.Sleep(ctx, takes); err != nil {
			return err
		}
		fmt.Println("end", name)
		return nil
	})
}

func program(ctx context.Context) error {
	a := &account{balance: 100}
	if _, err := asyncio.Gather(ctx, withdraw(a, "a", 30), withdraw(a, "b", 50)); err != nil {
		return err
	}
	fmt.Println("balance", a.balance)

	slots := asyncio.NewSemaphore(2)
	downloads := []asyncio.Coroutine[asyncio.None]{
		download(slots, "one", 4*time.Second), download(slots, "two", time.Second),
		download(slots, "three", time.Second), download(slots, "four", time.Second),
	}
	if _, err := asyncio.Gather(ctx, downloads...); err != nil {
		return err
	}
	fmt.Println("main ends")
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
