// Package bubble is the seam between package sim, which imports nothing of package testing, and
// sim/simtest, which puts runs into bubbles of testing/synctest.
package bubble

// A Bubble makes bubbles.
type Bubble struct {
	// Begin is called before the first run of an exploration, and end after the last.
	Begin func() (end func())

	// Run calls fn in a bubble of its own and returns when all of the bubble's goroutines have
	// ended, or when those that are left can never go on. Cryptographic random numbers follow from
	// seed.
	Run func(seed uint64, fn func())

	// Wait waits until all other goroutines of the bubble are durably blocked.
	Wait func()
}

// Option makes the option of package sim, a sim.Option, by which all runs are in bubbles. Package
// sim sets it.
var Option func(*Bubble) any
