package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func program(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	loop.CallSoon(func() { fmt.Println("tick") })
	loop.CallLater(time.Second, func() { fmt.Println("tock") })
	loop.CallLater(5*time.Second, func() { fmt.Println("too late") })
	total := 0
	for n := range 50_000 {
		total += n
	}
	fmt.Println("counted", total)
	if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
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
