package mutex

import (
	"context"
	"sync"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

type both struct {
	sync.RWMutex
	n int
}

func (b *both) paths(ctx context.Context, mu *sync.Mutex, c bool) error {
	mu.Lock()
	b.n++
	mu.Unlock()
	helpers.Wait(ctx)

	b.RLock()
	helpers.Wait(ctx) // want `asyncio.Sleep awaits while b is locked.*helpers.Wait → asyncio.Sleep`
	b.RUnlock()

	mu.Lock()
	if c {
		helpers.Wait(ctx) // want `while mu is locked`
		mu.Unlock()
		return helpers.Wait(ctx)
	}
	for range 3 {
		helpers.Wait(ctx) // want `while mu is locked`
	}
	mu.Unlock()

	if c {
		mu.Lock()
	}
	helpers.Wait(ctx) // not on every path
	if c {
		mu.Unlock()
	}

	mu.Lock()
	task := asyncio.CreateTask(ctx, helpers.Fetch) // it does not suspend
	go helpers.Wait(ctx)
	asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, helpers.Wait(ctx) })
	func() { // want `asyncio.Sleep awaits while mu is locked`
		helpers.Wait(ctx)
	}()
	mu.Unlock()
	task.Await(ctx)

	switch {
	case c:
		mu.Lock()
		helpers.Wait(ctx) //asynciovet:allow mutex nobody else has it
		mu.Unlock()
	}

	mu.Lock()
	helpers.Produce(ctx)(ctx) // want `a Coroutine awaits while mu is locked`
	return nil
}
