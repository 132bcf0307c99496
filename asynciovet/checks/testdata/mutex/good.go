package mutex

import (
	"context"

	"github.com/goasyncio/asyncio"
)

// Between two awaits nothing else of the loop runs, so pages needs no lock. The lock is there to
// read each file only once.
type loopCache struct {
	reading asyncio.Lock
	pages   map[string][]byte
}

func (c *loopCache) get(ctx context.Context, name string) ([]byte, error) {
	if err := c.reading.Acquire(ctx); err != nil {
		return nil, err
	}
	defer c.reading.Release()
	if page, ok := c.pages[name]; ok {
		return page, nil
	}
	page, err := asyncio.ReadFile(ctx, name)
	if err == nil {
		c.pages[name] = page
	}
	return page, err
}
