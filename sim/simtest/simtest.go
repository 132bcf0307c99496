// Package simtest lets goroutines take part in simulations of package sim: servers and clients of
// other packages, as net/http, database drivers and gRPC, run unmodified on simulated hosts, beside
// tasks.
//
//	func TestShop(t *testing.T) {
//		sim.Explore(t, func(ctx context.Context) error {
//			sim.NewHost(ctx, "shop", shop.Main) // serves with net/http on asyncio.NetOf(ctx).Listen
//			client := &http.Client{Transport: &http.Transport{DialContext: asyncio.NetOf(ctx).DialContext}}
//			_, err := asyncio.ToThread(ctx, func(ctx context.Context) (*http.Response, error) { return client.Get("http://shop/") })
//			…
//		}, simtest.Bubble(t))
//	}
//
// docs/goroutines.md says what such a simulation is good for, and what it cannot do.
package simtest

import (
	"net"
	"runtime"
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/goasyncio/asyncio/internal/bubble"
	"github.com/goasyncio/asyncio/sim"
)

// wait is a variable, so that a test can count the calls.
var wait = synctest.Wait

// Bubble makes each run of [sim.Run], [sim.Explore], [sim.Check] or [sim.Trace] a bubble of
// testing/synctest. In it goroutines have a part in the simulation:
//
//   - They reach the network of their host by asyncio.NetOf, or by views of the loop's connections
//     (asyncio.ThreadsafeDialer, asyncio.Conn.Threadsafe), and may call whatever any goroutine may.
//     What they ask for reaches a loop only when all goroutines have come to rest, in an order that
//     is chosen as every other: it is explored, recorded and minimised.
//   - Package time is on the simulated clock: time.Now, time.Sleep, timers, and the deadlines of
//     package context, in goroutines and in tasks.
//   - Functions given to asyncio.ToThread may wait for such connections, for other goroutines and
//     for time, while the loops go on.
//   - crypto/rand and all that depends on it follow from the run's seed.
//
// While a simulation runs the program has one processor (GOMAXPROCS), and one run is made at a
// time, whatever sim.Parallel says. t must not be a parallel test, and must be outside of every
// bubble. Make a new option for each call of Run, Explore, Check or Trace.
func Bubble(t *testing.T) sim.Option {
	return bubble.Option(&bubble.Bubble{
		Begin: func() func() {
			// A look-up makes channels that package net keeps, and that must not belong to a
			// bubble.
			_, _ = net.LookupHost("localhost")
			n := runtime.GOMAXPROCS(1)
			return func() { runtime.GOMAXPROCS(n) }
		},
		Run: func(seed uint64, fn func()) {
			synctest.Test(t, func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, seed)
				fn()
			})
		},
		Wait: wait,
	}).(sim.Option)
}
