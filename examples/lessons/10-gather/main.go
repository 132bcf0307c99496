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

func fetch(name string, takes time.Duration, fails bool) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		if err := asyncio.Sleep(ctx, takes); err != nil {
			return "", err
		}
		if fails {
			return "", fetchError(name)
		}
		fmt.Println(name, "is done")
		return name, nil
	}
}

func program(ctx context.Context) error {
	got, err := asyncio.Gather(ctx, fetch("a", 2*time.Second, false), fetch("b", time.Second, false))
	if err != nil {
		return err
	}
	fmt.Println("got", got[0], got[1])
	_, err = asyncio.Gather(ctx, fetch("c", 3*time.Second, false), fetch("d", time.Second, true))
	if e, ok := errors.AsType[fetchError](err); ok {
		fmt.Println("failed", e)
	} else if err != nil {
		return err
	}
	if err := asyncio.Sleep(ctx, 3*time.Second); err != nil {
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
