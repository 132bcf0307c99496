package allow

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func warmUp(ctx context.Context) error {
	time.Sleep(time.Millisecond) //asynciovet:allow blocking the device needs it, and nothing else runs yet
	//asynciovet:allow blocking the device needs it, and nothing else runs yet
	time.Sleep(time.Millisecond)
	return asyncio.Sleep(ctx, time.Second)
}
