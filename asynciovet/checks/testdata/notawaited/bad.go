package notawaited

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

func log(line string) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		fmt.Println(line)
		return nil
	})
}

func work(ctx context.Context) error {
	log("begun") // want `the coroutine that notawaited.log returns is never awaited`
	return asyncio.Sleep(ctx, time.Minute)
}
