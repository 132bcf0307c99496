package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func produce(ctx context.Context, queue *asyncio.Queue[int]) error {
	for job := 1; job < 6; job++ {
		if err := queue.Put(ctx, job); err != nil {
			return err
		}
		fmt.Println("put", job)
	}
	return nil
}

func consume(queue *asyncio.Queue[int], name string, takes time.Duration) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		for {
			job, err := queue.Get(ctx)
			if err != nil {
				return err
			}
			fmt.Println(name, "takes", job)
			if err := asyncio.Sleep(ctx, takes); err != nil {
				return err
			}
			fmt.Println(name, "did", job)
			queue.TaskDone()
		}
	})
}

func program(ctx context.Context) error {
	queue := asyncio.NewQueue[int](2)
	a := asyncio.CreateTask(ctx, consume(queue, "a", 2*time.Second))
	b := asyncio.CreateTask(ctx, consume(queue, "b", 5*time.Second))
	if err := produce(ctx, queue); err != nil {
		return err
	}
	fmt.Println("all put")
	if err := queue.Join(ctx); err != nil {
		return err
	}
	fmt.Println("all done")
	a.Cancel()
	b.Cancel()
	ended, err := asyncio.GatherResults(ctx, a, b)
	if err != nil {
		return err
	}
	for _, r := range ended {
		if !errors.Is(r.Err, asyncio.ErrCancelled) {
			return r.Err
		}
	}
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
