package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func child(ctx context.Context) error {
	fmt.Println("task 1")
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	fmt.Println("task 2")
	return nil
}

func program(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	soon := func() {
		fmt.Println("soon 1")
		loop.CallSoon(func() { fmt.Println("soon 2") })
	}
	loop.CallLater(time.Second, func() { fmt.Println("second 1") })
	loop.CallLater(0, func() { fmt.Println("timer") })
	loop.CallSoon(soon)
	task := asyncio.CreateTask(ctx, asyncio.Do(child))
	fmt.Println("main 0")
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	fmt.Println("main 1")
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	fmt.Println("main 2")
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	fmt.Println("main 3")
	_, err = task.Await(ctx)
	return err
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
