package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

type account struct{ balance int }

func withdraw(a *account, name string, amount int) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		seen := a.balance
		fmt.Println(name, "sees", seen)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		a.balance = seen - amount
		fmt.Println(name, "leaves", a.balance)
		return nil
	})
}

func program(ctx context.Context) error {
	a := &account{balance: 100}
	if _, err := asyncio.Gather(ctx, withdraw(a, "a", 30), withdraw(a, "b", 50)); err != nil {
		return err
	}
	fmt.Println("balance", a.balance)
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
