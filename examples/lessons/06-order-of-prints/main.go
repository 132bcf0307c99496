package main

import (
	"context"
	"fmt"
	"log"

	"github.com/goasyncio/asyncio"
)

func worker(name string, turns int) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		for i := range turns {
			fmt.Println(name, i)
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		fmt.Println(name, "done")
		return nil
	})
}

func program(ctx context.Context) error {
	a := asyncio.CreateTask(ctx, worker("A", 2))
	b := asyncio.CreateTask(ctx, worker("B", 1))
	c := asyncio.CreateTask(ctx, worker("C", 3))
	fmt.Println("main waits for B")
	if _, err := b.Await(ctx); err != nil {
		return err
	}
	fmt.Println("main goes on")
	if _, err := a.Await(ctx); err != nil {
		return err
	}
	if _, err := c.Await(ctx); err != nil {
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
