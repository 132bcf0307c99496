package allow

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

func warm(ctx context.Context) error {
	time.Sleep(time.Millisecond)           //asynciovet:allow blocking // want `say why: //asynciovet:allow blocking reason`
	time.Sleep(time.Millisecond)           //asynciovet:allow sleeping it is short // want `there is no check named "sleeping"`
	return asyncio.Sleep(ctx, time.Second) //asynciovet:allow blocking it is a minute // want `blocking reports nothing here: remove the comment`
}
