// The physical limit: the cost of the runtime's coroutines by themselves, to switch to and back,
// and to keep.
package main

import (
	"errors"
	"iter"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

var rows = map[string]peer.Row{
	"switch":    peer.Timed("switch", roundTrips),
	"suspended": suspended,
}

var errEnded = errors.New("a sequence ended too early or too late")

func main() { peer.Main(rows, nil, nil) }

func roundTrips(n int) error {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		for yield(struct{}{}) {
		}
	})
	defer stop()
	for range n {
		if _, ok := next(); !ok {
			return errEnded
		}
	}
	return nil
}

func suspended(n int) ([]peer.Measurement, error) {
	create, finish, bytes, err := suspend(n)
	if err != nil {
		return nil, err
	}
	createAgain, finishAgain, _, err := suspend(n)
	return peer.Suspended(n, bytes, create, finish, createAgain, finishAgain), err
}

// suspend makes n sequences that have yielded once, and lets them end.
func suspend(n int) (create, finish time.Duration, bytes int64, err error) {
	before := peer.Resident()
	start := time.Now()
	nexts := make([]func() (struct{}, bool), n)
	for i := range nexts {
		nexts[i], _ = iter.Pull(func(yield func(struct{}) bool) { yield(struct{}{}) })
		if _, ok := nexts[i](); !ok {
			return 0, 0, 0, errEnded
		}
	}
	create = time.Since(start)
	bytes = peer.Resident() - before

	start = time.Now()
	for _, next := range nexts {
		if _, ok := next(); ok {
			return 0, 0, 0, errEnded
		}
	}
	return create, time.Since(start), bytes, nil
}
