package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func cook(dish string, takes time.Duration) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		fmt.Println("start", dish)
		if err := asyncio.Sleep(ctx, takes); err != nil {
			return "", err
		}
		fmt.Println("done", dish)
		return dish, nil
	}
}

func program(ctx context.Context) error {
	rice := asyncio.CreateTask(ctx, cook("rice", 3*time.Second))
	soup := asyncio.CreateTask(ctx, cook("soup", 2*time.Second))
	fmt.Println("both ordered")
	for _, task := range []*asyncio.Task[string]{rice, soup} {
		dish, err := task.Await(ctx)
		if err != nil {
			return err
		}
		fmt.Println("got", dish)
	}
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
