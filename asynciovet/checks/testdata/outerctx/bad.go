package outerctx

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func fetch(ctx context.Context, address string) (line []byte, err error) {
	err = asyncio.FailAfter(ctx, 10*time.Second, func(limited context.Context) error {
		r, w, err := asyncio.OpenConnection(limited, address)
		if err != nil {
			return err
		}
		defer w.CloseSoon()
		line, err = r.ReadLine(ctx) // want `ctx is the ctx of outerctx.fetch, and this body has one of its own`
		return err
	})
	return line, err
}
