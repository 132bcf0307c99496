package mathrand

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func retryRepeatably(ctx context.Context, try func(ctx context.Context) error) error {
	for delay := time.Second; ; delay *= 2 {
		err := try(ctx)
		if err == nil {
			return nil
		}
		jitter := time.Duration(asyncio.Rand(ctx).Int64N(int64(delay)))
		if err := asyncio.Sleep(ctx, delay+jitter); err != nil {
			return err
		}
	}
}
