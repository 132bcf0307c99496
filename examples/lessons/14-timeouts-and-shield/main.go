package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func save(name string, takes time.Duration) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		err := asyncio.Sleep(ctx, takes)
		if err != nil {
			fmt.Println("gave up", name)
			return err
		}
		fmt.Println("saved", name)
		return nil
	})
}

func program(ctx context.Context) error {
	err := asyncio.Timeout(ctx, 2*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		_, err := save("A", 5*time.Second)(ctx)
		return err
	})
	if !errors.Is(err, asyncio.ErrTimeout) {
		return fmt.Errorf("A ends with %w", err)
	}
	fmt.Println("A took too long")

	b := asyncio.CreateTask(ctx, save("B", 3*time.Second))
	_, err = asyncio.WaitFor(ctx, asyncio.Shield(ctx, b), time.Second)
	if !errors.Is(err, asyncio.ErrTimeout) {
		return fmt.Errorf("B ends with %w", err)
	}
	fmt.Println("B takes long, and goes on")
	if _, err := b.Await(ctx); err != nil {
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
