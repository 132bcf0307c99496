package mutex

import (
	"context"
	"sync"

	"github.com/goasyncio/asyncio"
)

type cache struct {
	mu    sync.Mutex
	pages map[string][]byte
}

func (c *cache) get(ctx context.Context, name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if page, ok := c.pages[name]; ok {
		return page, nil
	}
	page, err := asyncio.ReadFile(ctx, name) // want `asyncio.ReadFile awaits while c.mu is locked`
	if err == nil {
		c.pages[name] = page
	}
	return page, err
}
