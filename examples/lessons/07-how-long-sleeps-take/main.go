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

func nap(name string, d time.Duration) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		begin := loop.Time()
		if err := asyncio.Sleep(ctx, d); err != nil {
			return err
		}
		slept := loop.Time().Sub(begin).Round(time.Second)
		fmt.Printf("%s asked for %v, slept %v\n", name, d, slept)
		return nil
	})
}

func program(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	begin := loop.Time()
	naps := []*asyncio.Task[asyncio.None]{
		asyncio.CreateTask(ctx, nap("A", 1*time.Second)),
		asyncio.CreateTask(ctx, nap("B", 2*time.Second)),
		asyncio.CreateTask(ctx, nap("C", 4*time.Second)),
	}
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	if err := block(ctx, 3*time.Second); err != nil {
		return err
	}
	fmt.Println("main was busy for 3s")
	for _, task := range naps {
		if _, err := task.Await(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("all of it took %v\n", loop.Time().Sub(begin).Round(time.Second))
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
