package main

import (
	"context"
	"fmt"
	"log"

	"github.com/goasyncio/asyncio"
)

func greet(name string) asyncio.Coroutine[int] {
	return func(ctx context.Context) (int, error) {
		fmt.Println("hello", name)
		return len(name), nil
	}
}

func program(ctx context.Context) error {
	c := greet("Li Lei")
	fmt.Println("made a", "coroutine")
	n, err := c(ctx)
	if err != nil {
		return err
	}
	fmt.Println("counted", n)
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
