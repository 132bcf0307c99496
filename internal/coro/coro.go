// Package coro provides the places at which the stacks of tasks wait for control. They are built on
// [iter.Pull], the only switch between goroutines that Go documents and that bypasses the
// scheduler.
//
// # What a place is
//
// iter.Pull is meant for a caller and a sequence: next gives control to the sequence, and yield
// gives it back. The two functions promise more than that. next resumes the goroutine that waits in
// yield, and itself waits until yield is called; yield does the reverse. Neither checks which
// goroutine calls it. So the pair is a place where exactly one goroutine waits, and any other
// goroutine can take its turn there: it crosses, waits there itself, and the goroutine that waited
// goes on. In a set of goroutines, one runs while each of the others waits at a place, and any of
// them can hand control directly to any other. That costs one switch. Returning to a common caller
// first would cost two.
//
// # Contract
//
//  1. Exactly one goroutine of a set has control. Only that one touches places and whatever else
//     the set shares.
//  2. At each place that is in use, one goroutine waits. At first it is the goroutine that Init
//     makes for the body, at its home. Later it may be any goroutine of the set.
//  3. Cross gives control to the goroutine that waits at the place and makes the caller wait
//     there. It returns when another goroutine crosses there again.
//  4. A body that returns ends its goroutine and the place that is its home; the goroutine that
//     waits at its home goes on. So before a body returns, see to it that this goroutine may go
//     on.
//  5. A body that ends by [runtime.Goexit] may take the goroutine that waits at its home with it:
//     iter.Pull passes a Goexit on to the caller of next, which is every other goroutine to cross
//     there, beginning with the first. So the goroutine there must be one made for the purpose.
//  6. A body must recover its panics. Otherwise they would come out at the goroutine that waits at
//     its home.
//
// A goroutine must not hold [runtime.LockOSThread] while it waits at a place, nor when it calls
// Init: the runtime ends the program in that case.
package coro

import "iter"

// A Place is where a goroutine waits for control. Only the goroutine that has control may call its
// methods.
type Place struct {
	Next  func() (struct{}, bool)
	Yield func(struct{}) bool

	crossed bool // an odd number of times, so the next goroutine to cross has to call Yield
}

// Init makes a goroutine for body, which waits at p, its home. The goroutine exists until the body
// ends. The body must begin by storing yield in p.Yield. (A function around the body could do that,
// but it would be one more frame on the stack of every goroutine that waits. Toggle exists for the
// same reason: with it callers can write Cross out in place.)
func (p *Place) Init(body func(yield func(struct{}) bool)) {
	p.Next, _ = iter.Pull(iter.Seq[struct{}](body))
}

// Toggle begins a crossing. It reports whether the caller has to call Yield now; if not, the caller
// has to call Next.
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
