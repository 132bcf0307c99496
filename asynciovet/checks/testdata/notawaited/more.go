package notawaited

import (
	"context"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

func make(ctx context.Context) asyncio.Coroutine[int] {
	asyncio.Do(func(context.Context) error { return nil }) // want `the coroutine that asyncio.Do returns is never awaited`
	helpers.Produce(ctx)                                   // want `the coroutine that helpers.Produce returns is never awaited`
	defer helpers.Produce(ctx)                             // want `never awaited`
	go helpers.Produce(ctx)                                // want `never awaited`
	func() asyncio.Coroutine[int] { return nil }()         // want `the coroutine that .* returns is never awaited`
	helpers.Produce(ctx)                                   //asynciovet:allow notawaited the example needs one that is allowed
	_ = helpers.Produce(ctx)
	helpers.Produce(ctx)(ctx)
	all := []asyncio.Coroutine[int]{helpers.Produce(ctx)}
	asyncio.Gather(ctx, all...)
	return helpers.Produce(ctx)
}
