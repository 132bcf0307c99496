package outerctx

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func fetchWithin(ctx context.Context, address string) (line []byte, err error) {
	err = asyncio.FailAfter(ctx, 10*time.Second, func(ctx context.Context) error { // the same name hides the other
		r, w, err := asyncio.OpenConnection(ctx, address)
		if err != nil {
			return err
		}
		defer w.CloseSoon()
		line, err = r.ReadLine(ctx)
		return err
	})
	return line, err
}
