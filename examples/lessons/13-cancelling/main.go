package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func worker(name string, stubborn bool) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		fmt.Println(name, "works")
		err := asyncio.Sleep(ctx, 10*time.Second)
		if errors.Is(err, asyncio.ErrCancelled) {
			fmt.Println(name, "cleans up")
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if !stubborn {
				return err
			}
		} else if err != nil {
			return err
		}
		fmt.Println(name, "goes on")
		return nil
	})
}

func program(ctx context.Context) error {
	polite := asyncio.CreateTask(ctx, worker("polite", false))
	stubborn := asyncio.CreateTask(ctx, worker("stubborn", true))
	if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	polite.Cancel()
	stubborn.Cancel()
	fmt.Println("both were asked")
	tasks := []*asyncio.Task[asyncio.None]{polite, stubborn}
	if _, _, err := asyncio.Wait(ctx, tasks); err != nil {
		return err
	}
	for _, task := range tasks {
		if task.Cancelled() {
			fmt.Println("cancelled")
		} else {
			fmt.Println("not cancelled")
		}
	}
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
