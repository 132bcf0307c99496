package duration

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func heartbeatInSeconds(ctx context.Context, out *asyncio.StreamWriter) error {
	for {
		if err := asyncio.Sleep(ctx, 30*time.Second); err != nil {
			return err
		}
		err := asyncio.FailAfter(ctx, 5*time.Second, func(ctx context.Context) error {
			_, err := out.Write(ctx, []byte("ping\n"))
			return err
		})
		if err != nil {
			return err
		}
	}
}
