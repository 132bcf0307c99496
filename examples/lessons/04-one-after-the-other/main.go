package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"time"

	"github.com/goasyncio/asyncio"
)

func fetch(ctx context.Context, page string, takes time.Duration) (string, error) {
	fmt.Println("ask for", page)
	if err := asyncio.Sleep(ctx, takes); err != nil {
		return "", err
	}
	fmt.Println("have", page)
	return page, nil
}

func program(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	begin := loop.Time()
	news, err := fetch(ctx, "news", 2*time.Second)
	if err != nil {
		return err
	}
	mail, err := fetch(ctx, "mail", 3*time.Second)
	if err != nil {
		return err
	}
	seconds := math.Round(loop.Time().Sub(begin).Seconds())
	fmt.Println(news, "and", mail, "after", seconds, "seconds")
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
}
