// The physical limit: what the runtime's switch between coroutines costs by itself.
//
// A yield of one of two tasks cannot cost less than a round trip of iter.Pull, to the other
// task and back.
package main

import (
	"errors"
	"iter"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

var rows = map[string]peer.Row{"switch": peer.Timed("switch", roundTrips)}

func main() { peer.Main(rows) }

func roundTrips(n int) error {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		for yield(struct{}{}) {
		}
	})
	defer stop()
	for range n {
		if _, ok := next(); !ok {
			return errors.New("the sequence has ended")
		}
	}
	return nil
}
