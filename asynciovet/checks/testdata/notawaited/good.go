package notawaited

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func workAndLog(ctx context.Context) error {
	if _, err := log("begun")(ctx); err != nil { // now
		return err
	}
	asyncio.CreateTask(ctx, log("going on")) // meanwhile
	return asyncio.Sleep(ctx, time.Minute)
}
