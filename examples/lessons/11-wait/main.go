package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

func mirror(name string, takes time.Duration, fails bool) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		if err := asyncio.Sleep(ctx, takes); err != nil {
			return "", err
		}
		if fails {
			return "", errors.New(name + " is down")
		}
		return name, nil
	}
}

func program(ctx context.Context) error {
	tasks := []*asyncio.Task[string]{
		asyncio.CreateTask(ctx, mirror("Oslo", 1*time.Second, true)),
		asyncio.CreateTask(ctx, mirror("Rome", 2*time.Second, false)),
		asyncio.CreateTask(ctx, mirror("Lima", 5*time.Second, false)),
	}
	for len(tasks) > 0 {
		done, pending, err := asyncio.Wait(ctx, tasks, asyncio.WaitTimeout(2*time.Second), asyncio.ReturnWhen(asyncio.FirstCompleted))
		if err != nil {
			return err
		}
		if len(done) == 0 {
			fmt.Println("nothing for 2 seconds,", len(tasks), "pending")
			break
		}
		for _, task := range done {
			if city, err := task.Result(); err != nil {
				fmt.Println("error:", err)
			} else {
				fmt.Println("answer:", city)
			}
		}
		tasks = pending
	}
	if tasks[0].Cancelled() {
		fmt.Println("cancelled")
	} else {
		fmt.Println("still running")
	}
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
