package maprange

import (
	"context"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// The cases of a test may come in any order.
func TestTable(t *testing.T) {
	tests := map[string]int{"one": 1, "two": 2}
	room := make(map[string]*asyncio.Event)
	sim.Run(t, func(ctx context.Context) error {
		for range map[string]int{"one": 1} {
			asyncio.Sleep(ctx, 0)
		}
		for name, n := range tests {
			if asyncio.Sleep(ctx, 0) != nil || n == 0 {
				t.Error(name)
			}
		}
		for _, e := range room { // want `the body schedules by asyncio.Event.Set`
			e.Set()
		}
		return nil
	})
}
