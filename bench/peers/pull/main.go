// The physical limit: what the runtime's coroutines cost by themselves, to switch to and back,
// and to have.
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

func main() { peer.Main(rows) }

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

// suspended makes n sequences that have yielded once, and lets them end.
func suspended(n int) ([]peer.Measurement, error) {
	before := peer.Resident()
	start := time.Now()
	nexts := make([]func() (struct{}, bool), n)
	for i := range nexts {
		nexts[i], _ = iter.Pull(func(yield func(struct{}) bool) { yield(struct{}{}) })
		if _, ok := nexts[i](); !ok {
			return nil, errEnded
		}
	}
	create := time.Since(start)
	bytes := peer.Resident() - before

	start = time.Now()
	for _, next := range nexts {
		if _, ok := next(); ok {
			return nil, errEnded
		}
	}
	return []peer.Measurement{
		{Row: "suspended_create", N: n, Total: create, Bytes: bytes},
		{Row: "suspended_finish", N: n, Total: time.Since(start)},
	}, nil
}
