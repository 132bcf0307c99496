package asyncio

import (
	"math"
	"slices"
	"time"
)

// How idle stacks are kept and ended (stack 6).
//
//	idle 1: An idle stack is kept while the program needs it. A low-water mark tells how many it
//	   does not need: the fewest that were idle at any moment of a period were idle all the time.
//	   These end when the period is over. But the last keptIdle stay, and as many as there are
//	   callbacks ready, because each of those may be a task that begins.
//	idle 2: A period is at least idlePeriod long, on the loop's clock. The loop looks for its end
//	   where it waits, and a busy loop where it enters the scheduler (loop 7). So a program whose
//	   bursts are less than a period apart keeps its stacks, and an idle program has given them back
//	   after two periods.
//	idle 3: A loop on the machine's clock wakes up for the end of a period, as for a timer. It does
//	   so only while more than keptIdle stacks are idle. So an idle loop wakes up a bounded number
//	   of times after a burst, and then no more. On a clock that jumps there is no such wake-up:
//	   nothing in a run may be different because stacks are kept or end.
//	idle 4: Stacks end in batches. Between batches the loop looks for work, and a busy loop does
//	   some.
//	idle 5: A loop that does not run cannot give anything back. So at most restingIdle stacks stay
//	   when a run ends.
const (
	keptIdle    = 128
	restingIdle = 1024
	idlePeriod  = time.Second
	idleBatch   = 128 // takes some tens of microseconds
)

// unneeded returns how many idle stacks have not been needed in this period (idle 1).
func (p *stackPool) unneeded() int {
	n := len(p.idle)
	return max(0, min(p.low, n-keptIdle, n-p.loop.ready.n))
}

// age ends the period if it is over (idle 2), and as many stacks as are to end now. It is called on
// the stack in control, which is the dispatcher. next is when it is to be called again.
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
		return now // the period goes on until the rest has ended (idle 4)
	}
	p.dismiss(p.dispatcher, n)
	l.ready.shrink()
	p.since, p.low = now, len(p.idle)
	if p.low <= keptIdle {
		return math.MaxInt64
	}
	return now + idlePeriod
}

// dismiss ends n idle stacks. It is called by me, which has control: by a stack or, while nothing
// runs, by a goroutine that stands for one.
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
