package simtest

import "sync/atomic"

// CountWaits counts how often runs wait for their goroutines to come to rest, until stop is called.
func CountWaits() (n *atomic.Int64, stop func()) {
	n = new(atomic.Int64)
	before := wait
	wait = func() {
		n.Add(1)
		before()
	}
	return n, func() { wait = before }
}
