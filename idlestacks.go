package asyncio

import (
	"math"
	"slices"
	"time"
)

// What becomes of idle stacks (stack 6).
//
//	idle 1: An idle stack is kept while the program needs it. What is too much is seen by a
//	   low-water mark, the fewest that were idle at any moment of a period: so many were idle all
//	   the time. They end when the period is over, but never the last keptIdle, nor as many as there
//	   are callbacks ready, each of which may be a task that begins.
//	idle 2: A period is at least idlePeriod long, on the loop's clock. Its end is looked for where
//	   the loop waits, and where a busy loop enters the scheduler (loop 7). So a program whose
//	   bursts are closer together than that keeps its stacks, and one that is idle has given them
//	   back after two periods.
//	idle 3: A loop on the machine's clock wakes up for the end of a period, as for a timer. It does
//	   so only while more than keptIdle stacks are idle, so an idle loop wakes up a bounded number
//	   of times after a burst, and then no more. A clock that jumps is left alone: nothing in a run
//	   on it is different because stacks are kept or end.
//	idle 4: Stacks end in batches, between which the loop looks for work, and a busy loop does some.
//	idle 5: A loop that does not run cannot give anything back. So no more than restingIdle stay
//	   when a run ends.
const (
	keptIdle    = 128
	restingIdle = 1024
	idlePeriod  = time.Second
	idleBatch   = 128 // takes some tens of microseconds
)

// unneeded returns how many of the idle stacks have not been needed in this period (idle 1).
func (p *stackPool) unneeded() int {
	n := len(p.idle)
	return max(0, min(p.low, n-keptIdle, n-p.loop.ready.n))
}

// age ends the period if it is over, and as many stacks as are to end now. It is called on the
// stack in control, which is the dispatcher, and returns when it is to be called again.
func (p *stackPool) age() (next time.Duration) {
	l := p.loop
	now := l.drv.Now()
	if over := p.since + idlePeriod; now < over {
		return over
	}
	n := p.unneeded()
	if batch := idleBatch; n > batch && !l.drv.Polls() {
		p.dismiss(p.dispatcher, batch)
		p.low -= batch
		return now // the period goes on until the rest has ended
	}
	p.dismiss(p.dispatcher, n)
	l.ready.shrink()
	p.since, p.low = now, len(p.idle)
	if p.low <= keptIdle {
		return math.MaxInt64
	}
	return now + idlePeriod
}

// dismiss ends n idle stacks. It is called by me, which has control: a stack, or while nothing runs
// a goroutine as the stacks see it.
func (p *stackPool) dismiss(me *stack, n int) {
	for range n {
		last := len(p.idle) - 1
		s := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.order = order{endHere, me}
		me.give(s)
	}
	if n > 0 && cap(p.idle) > max(restingIdle, 4*len(p.idle)) {
		p.idle = slices.Clone(p.idle)
	}
}
