// The rows of the comparison that are what github.com/sourcegraph/conc is for.
package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/goasyncio/asyncio/bench/internal/peer"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
)

var rows = map[string]peer.Row{
	"spawn":          peer.Timed("spawn", spawnAndAwait),
	"gather_now":     peer.Timed("gather_now", gather(func() int { return 1 })),
	"gather_suspend": peer.Timed("gather_suspend", gather(func() int { runtime.Gosched(); return 1 })),
	"taskgroup":      peer.Timed("taskgroup", taskGroup),
}

func main() { peer.Main(rows) }

func spawnAndAwait(n int) error {
	sum := 0
	for range n {
		var wg conc.WaitGroup
		wg.Go(func() { sum++ })
		wg.Wait()
	}
	if sum != n {
		return fmt.Errorf("%d of %d", sum, n)
	}
	return nil
}

const groupSize = 1000

func gather(child func() int) func(n int) error {
	return func(n int) error {
		for range max(1, n/groupSize) {
			p := pool.NewWithResults[int]()
			for range groupSize {
				p.Go(child)
			}
			if results := p.Wait(); len(results) != groupSize {
				return fmt.Errorf("%d results", len(results))
			}
		}
		return nil
	}
}

func taskGroup(n int) error {
	for range max(1, n/groupSize) {
		p := pool.New().WithContext(context.Background()).WithCancelOnError()
		for range groupSize {
			p.Go(func(context.Context) error { return nil })
		}
		if err := p.Wait(); err != nil {
			return err
		}
	}
	return nil
}
