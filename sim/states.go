package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
)

// States that were seen before.
//
//	state 1: A state is what the functions given to State return, and what the world knows: the
//	   time, which tasks there are, where each of them waits and since when, those that wait in the
//	   order in which they began to, and the callbacks that are ready, in no order.
//	state 2: What follows a state that was seen before, with no more deviations, has been run or is
//	   going to be. So the schedules that deviate behind it are left out.
//	state 3: The world does not know what is under way in a network or on a disk, or where a stream
//	   of random numbers is. So once something is drawn, and while an event is set, no state counts
//	   as seen. Nor does one in which a host has crashed or a task was cancelled.
//	state 4: State and Touches are not combined: what one leaves out the other may rely on. State
//	   has precedence.

// State declares that the program's own data is what state returns, as [fmt] prints it: all that
// its tasks share, and also the local variables whose values may differ when a task waits at a
// place: counters of loops, and what was read before the wait. [Exhaustive] then does not go on
// from a state that it has seen before; [Report.States] says how many it has seen.
//
//	sim.State(ctx, func() any { return []any{ballots, chosen} })
//
// What is declared is believed: if something is left out that makes a difference, failures may be
// missed. Print values, not pointers. state is called after every step, and must not await or
// change anything. Elsewhere State does nothing. It is for the loop only and does not suspend. It
// panics if ctx does not come from a simulation.
func State(ctx context.Context, state func() any) {
	w := worldOf(ctx, "State")
	if state == nil {
		panic(fmt.Errorf("%w: a nil function (in sim.State)", asyncio.ErrInvalidArgument))
	}
	w.stateOf = append(w.stateOf, state)
}

// lastRun says when a task made its last step.
type lastRun struct {
	step int
	at   time.Duration
}

// noteState notes the state behind the last step, if there are functions for it.
func (w *world) noteState() {
	if len(w.stateOf) == 0 {
		return
	}
	for len(w.states) <= w.step {
		w.states = append(w.states, 0)
	}
	if w.drew || w.events.Len() > 0 || w.injected || w.closing || len(w.devs) > 0 && w.devs[len(w.devs)-1].answers() {
		return
	}
	h := mix(1, uint64(w.now))
	for _, state := range w.stateOf {
		if err := w.run(check{"State", func() error { h = mix(h, hashOf(fmt.Sprintf("%+v", state()))); return nil }}); err != nil {
			w.fail(err)
			return
		}
	}
	var waiting []waitingTask
	ready := make(map[any]bool)
	for _, host := range w.hosts {
		l := host.life
		if l == nil || l.loop == nil {
			continue
		}
		sum := uint64(0)
		for i := range l.loop.Len() {
			entry := hashOf(host.prefix + l.loop.Name(i))
			if task, resumes := l.loop.Task(i); resumes {
				ready[task] = true
				entry = mix(entry, w.waits(l, task))
			}
			if l.isKept(i) {
				entry++
			}
			sum += mix(entry, 1)
		}
		h = mix(h, sum)
	}
	for name, t := range w.tasks {
		if !ready[any(t.AnyTask)] {
			waiting = append(waiting, waitingTask{w.ranLast[t.AnyTask], mix(hashOf(name.task), w.waits(t.life, t.AnyTask))})
		}
	}
	slices.SortStableFunc(waiting, func(a, b waitingTask) int { return cmp.Compare(a.step, b.step) })
	for _, t := range waiting {
		h = mix(h, mix(t.hash, uint64(t.at)))
	}
	w.states[w.step] = max(h, 1)
}

// A waitingTask is one that is not ready.
type waitingTask struct {
	lastRun
	hash uint64
}

// waits returns where a task waits, as a hash.
func (w *world) waits(l *life, task any) (h uint64) {
	l.do(func() { h = hashOfCalls(l.loop.Calls(task)) })
	return h
}

// A seen set has the states from which an enumeration has gone on.
type seen map[uint64]bool

// upTo returns the last step behind which the run of w, which is that of n, is to be deviated from,
// and adds its states.
func (s seen) upTo(w *world, n *node) int {
	from := n.step
	if n.rank == faultRank { // it may have come behind the state
		from++
	}
	for step := from; step < len(w.states); step++ {
		switch h := w.states[step]; {
		case h == 0:
		case s[h]:
			return step
		default:
			s[h] = true
		}
	}
	return forever
}
