package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/goasyncio/asyncio"
)

// A fetchError is the error of a fetch that fails: its name.
type fetchError string

func (e fetchError) Error() string { return string(e) }

func fetch(name string, takes time.Duration, fails bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		err := asyncio.Sleep(ctx, takes)
		if errors.Is(err, asyncio.ErrCancelled) {
			fmt.Println(name, "is cancelled")
			if e := asyncio.Cleanup(ctx, time.Minute, tidyUp); e != nil {
				return errors.Join(err, e)
			}
			fmt.Println(name, "has tidied up")
		}
		if err != nil {
			return err
		}
		if fails {
			return fetchError(name)
		}
		fmt.Println(name, "is done")
		return nil
	}
}

func tidyUp(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }

func program(ctx context.Context) error {
	err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, group *asyncio.TaskGroup) error {
		group.CreateTask(ctx, fetch("a", time.Second, false))
		group.CreateTask(ctx, fetch("b", 2*time.Second, true))
		group.CreateTask(ctx, fetch("c", 5*time.Second, false))
		fmt.Println("all started")
		return nil
	})
	if group, ok := errors.AsType[*asyncio.GroupError](err); ok {
		failed, rest := group.Split(func(err error) bool {
			_, ok := errors.AsType[fetchError](err)
			return ok
		})
		if failed != nil {
			for _, e := range failed.Exceptions {
				fmt.Println("failed", e)
			}
		}
		err = rest
	}
	if err != nil {
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
