// The rows of the comparison for which github.com/sourcegraph/conc is made.
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
	"gather_suspend": peer.Timed("gather_suspend", gather(yielding)),
	"gather3000":     peer.Bursts("gather3000", 3000, gatherOf(yielding)),
	"gather10000":    peer.Bursts("gather10000", 10_000, gatherOf(yielding)),
	"gather100000":   peer.Bursts("gather100000", 100_000, gatherOf(yielding)),
	"taskgroup":      peer.Timed("taskgroup", taskGroup),
}

func main() { peer.Main(rows, nil, nil) }

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

func yielding() int { runtime.Gosched(); return 1 }

func gatherOf(child func() int) func(size int) error {
	return func(size int) error {
		p := pool.NewWithResults[int]()
		for range size {
			p.Go(child)
		}
		if results := p.Wait(); len(results) != size {
			return fmt.Errorf("%d results", len(results))
		}
		return nil
	}
}

func gather(child func() int) func(n int) error {
	group := gatherOf(child)
	return func(n int) error {
		for range max(1, n/groupSize) {
			if err := group(groupSize); err != nil {
				return err
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
