package main

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

func prepare(what string, d time.Duration) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		fmt.Println(what, "started")
		err := asyncio.Sleep(ctx, d)
		return what + " ready", err
	}
}

func breakfast(ctx context.Context) ([]string, error) {
	tea := asyncio.CreateTask(ctx, prepare("tea", 2*time.Second))
	toast := asyncio.CreateTask(ctx, prepare("toast", time.Second))
	return asyncio.Gather(ctx, tea, toast)
}

func main() {
	fmt.Println(asyncio.Run(context.Background(), breakfast))
}
