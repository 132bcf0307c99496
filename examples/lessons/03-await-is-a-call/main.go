package main

import (
	"context"
	"fmt"
	"log"

	"github.com/goasyncio/asyncio"
)

func add(ctx context.Context, a, b int) (int, error) {
	fmt.Println("adding", a, b)
	return a + b, nil
}

func total(ctx context.Context, a, b, c int) (int, error) {
	sum, err := add(ctx, a, b)
	if err != nil {
		return 0, err
	}
	return add(ctx, sum, c)
}

func say(text string) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		fmt.Println(text)
		return nil
	})
}

func program(ctx context.Context) error {
	first := asyncio.CreateTask(ctx, say("first task"))
	sum, err := total(ctx, 1, 2, 3)
	if err != nil {
		return err
	}
	fmt.Println("total", sum)
	if _, err := first.Await(ctx); err != nil {
		return err
	}
	second := asyncio.CreateTask(ctx, say("second task"))
	if _, err := first.Await(ctx); err != nil {
		return err
	}
	fmt.Println("first is done")
	if _, err := second.Await(ctx); err != nil {
		return err
	}
	fmt.Println("main returns")
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
