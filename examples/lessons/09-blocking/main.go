package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

// block keeps the loop busy for d. On a virtual clock, sim.Block takes its place.
var block = func(_ context.Context, d time.Duration) error {
	time.Sleep(d)
	return nil
}

// blockThread keeps another goroutine busy for d. On a virtual clock, asyncio.Sleep takes its
// place.
var blockThread = func(ctx context.Context, d time.Duration) error {
	_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
		time.Sleep(d)
		return asyncio.None{}, nil
	})
	return err
}

func heartbeat(ctx context.Context) error {
	for n := range 3 {
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		fmt.Println("beat", n+1)
	}
	return nil
}

func report(ctx context.Context, name string) error {
	fmt.Println("writing", name)
	if err := block(ctx, 3*time.Second); err != nil {
		return err
	}
	fmt.Println("wrote", name)
	return nil
}

func program(ctx context.Context) error {
	beats := asyncio.CreateTask(ctx, asyncio.Do(heartbeat))
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	if err := report(ctx, "A"); err != nil {
		return err
	}
	if _, err := beats.Await(ctx); err != nil {
		return err
	}

	beats = asyncio.CreateTask(ctx, asyncio.Do(heartbeat))
	fmt.Println("writing B in a thread")
	if err := blockThread(ctx, 2500*time.Millisecond); err != nil {
		return err
	}
	fmt.Println("wrote B")
	_, err := beats.Await(ctx)
	return err
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
