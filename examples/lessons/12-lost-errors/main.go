package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func charge(amount int) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return fmt.Errorf("card declined for %d", amount)
	})
}

func handler(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	fmt.Println("handler:", c.Message)
}

func program(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	loop.SetExceptionHandler(handler)
	forgotten := asyncio.CreateTask(ctx, charge(5))
	kept := asyncio.CreateTask(ctx, charge(7))
	if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	fmt.Println("main goes on")
	fmt.Println("kept:", kept.Exception())
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if forgotten.Done() {
		fmt.Println("main ends")
	} else {
		fmt.Println("never printed")
	}
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
