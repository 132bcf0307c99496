// Package coro provides the places at which the stacks of tasks wait for control, built on
// [iter.Pull], the only switch between goroutines that Go documents and that does not go
// through the scheduler.
//
// # What a place is
//
// iter.Pull is meant for a caller and a sequence: next gives control to the sequence, yield
// gives it back. What the two promise is more: next resumes whoever waits in yield and waits
// itself until yield is called, and yield the other way round. Neither asks who calls. So the
// pair is a place where exactly one goroutine waits, and any other can take its turn there: it
// crosses, waits in its stead, and the one that waited goes on. A set of goroutines, one of
// which runs while each of the others waits at a place, so hands control directly from any to
// any. It costs one switch, where a caller that has to be returned to first costs two.
//
// # Contract
//
//  1. Exactly one goroutine of a set has control. Only that one touches places and what
//     else the set shares.
//  2. There is one waiting at each place that is in use. First it is the goroutine
//     that Init makes for the body, at its home. Later it may be any of the set.
//  3. Cross gives control to whoever waits at the place and makes the caller wait there. It
//     returns when somebody crosses there again.
//  4. A body that returns ends its goroutine and the place that is its home; whoever waits at its
//     home goes on. So before it returns, see to it that somebody may.
//  5. A body that ends by [runtime.Goexit] may take whoever waits at its home with it: iter.Pull
//     passes a Goexit on to the caller of next, which is every other one to cross there, beginning
//     with the first. So the one there must be a goroutine made for the purpose.
//  6. A body must recover its panics, which would come out at whoever waits at its home.
//
// A goroutine must not hold [runtime.LockOSThread] while it waits at a place, nor when it calls
// Init: the runtime ends the program in that case.
package coro

import "iter"

// Place is where a goroutine waits for control. Its methods are for the goroutine that has control.
type Place struct {
	Next  func() (struct{}, bool)
	Yield func(struct{}) bool

	crossed bool // an odd number of times, so the next to cross has to call Yield
}

// Init makes a goroutine for body, waiting at p, its home. The goroutine is there until the body
// ends. The body has to begin by storing yield in p.Yield. (A function around the body could do
// that, but it would be one more frame on the stack of every goroutine that waits. For the same
// reason there is Toggle: with it callers can write Cross out in place.)
func (p *Place) Init(body func(yield func(struct{}) bool)) {
	p.Next, _ = iter.Pull(iter.Seq[struct{}](body))
}

// Toggle begins a crossing: it reports whether the caller now has to call Yield; otherwise it has
// to call Next.
func (p *Place) Toggle() bool {
	p.crossed = !p.crossed
	return !p.crossed
}

// Cross gives control to the goroutine that waits at p and waits there in its stead.
func (p *Place) Cross() {
	if p.Toggle() {
		p.Yield(struct{}{})
	} else {
		p.Next()
	}
}
