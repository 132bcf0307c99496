package droppederror

import (
	"context"
	"time"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

func drop(ctx context.Context, w *asyncio.StreamWriter, task *asyncio.Task[int], q *asyncio.Queue[int]) (int, error) {
	asyncio.Sleep(ctx, 0)
	asyncio.Sleep(ctx, -1)
	defer w.Close(ctx) // nothing can be returned
	task.Await(ctx)    // want `the error of asyncio.Future.Await is dropped`
	w.Drain(ctx)       // want `the error of asyncio.StreamWriter.Drain is dropped`
	helpers.Wait(ctx)  // want `the error of helpers.Wait is dropped.*helpers.Wait → asyncio.Sleep`
	helpers.Fetch(ctx) // want `the error of helpers.Fetch is dropped`
	local(ctx)         // want `the error of droppederror.local is dropped`
	q.PutNowait(1)     // it does not await
	_ = w.Drain(ctx)
	w.Drain(ctx) //asynciovet:allow droppederror the example needs one that is allowed
	noError(ctx)
	go helpers.Wait(ctx)
	asyncio.CreateTask(ctx, helpers.Fetch)
	for ; ; w.Drain(ctx) { // want `the error of asyncio.StreamWriter.Drain is dropped`
		break
	}
	return 0, nil
}

func local(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }

func noError(ctx context.Context) {
	asyncio.Sleep(ctx, time.Second) // want `the error of asyncio.Sleep is dropped`
}

func generic[T any](ctx context.Context) (v T, err error) {
	asyncio.Sleep(ctx, time.Second) // want `the error of asyncio.Sleep is dropped`
	return v, nil
}
