package mathrand

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/goasyncio/asyncio"
)

func retry(ctx context.Context, try func(ctx context.Context) error) error {
	for delay := time.Second; ; delay *= 2 {
		err := try(ctx)
		if err == nil {
			return nil
		}
		jitter := time.Duration(rand.Int64N(int64(delay))) // want `a simulation cannot repeat the numbers of rand.Int64N .*: use asyncio.Rand`
		if err := asyncio.Sleep(ctx, delay+jitter); err != nil {
			return err
		}
	}
}
