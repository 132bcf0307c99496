package duration

import (
	"context"

	"github.com/goasyncio/asyncio"
)

func heartbeat(ctx context.Context, out *asyncio.StreamWriter) error {
	for {
		if err := asyncio.Sleep(ctx, 30); err != nil { // want `30 is 30ns: give it a unit, such as 30\*time.Second`
			return err
		}
		err := asyncio.FailAfter(ctx, 2*2.5, func(ctx context.Context) error { // want `2 \* 2.5 is 5ns: give it a unit`
			_, err := out.Write(ctx, []byte("ping\n"))
			return err
		})
		if err != nil {
			return err
		}
	}
}
