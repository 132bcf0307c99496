package asyncio

import (
	"context"
	"fmt"
)

// waitQueue is the queue of tasks under every synchronization primitive: fair, cancellable, first
// in, first out. It stands for the deque of futures that CPython's primitives keep, with the same
// states and the same number of iterations.
//
//	waiter 1: A waiter is in the queue from the time its task parks until the task has resumed,
//	   whatever woke it. So a primitive that looks at the queue also sees the waiters on their way
//	   out. CPython's Queue takes a waiter out when it wakes it; dismissNext and dismissAll do the
//	   same.
//	waiter 2: A waiter is pending, and then either woken (by wake) or cancelled (by a cancel of its
//	   task or the end of its context), once. Waking is a hand-over: the waker has set aside what it
//	   gives.
//	waiter 3: A cancel can reach a waiter that has been woken but has not resumed (CPython 13). Then
//	   wait returns an error and woken is true, and the primitive must pass on what the waiter was
//	   given.
//	waiter 4: A task can be in several queues (Select). Once one of its waiters is woken, the others
//	   count as cancelled, until they join again.
//	waiter 5: No waiter up to and including idle is pending, and every waiter up to and including
//	   dead is cancelled; nil stands for the place before the first. By waiter 2 a waiter does not
//	   become pending again, except when it joins again (waiter 4). So both only move towards the
//	   end, and all searches for the next waiter together cost one step for each waiter there has
//	   been. Otherwise n waiters that are cancelled at once, each of which looks for the next one,
//	   would cost n*n.
//
// It is for the loop only.
type waitQueue struct {
	first, last *waiter
	idle, dead  *waiter // where searches begin (waiter 5)
	n           int     // waiters
}

// waiter is one task in a waitQueue.
type waiter struct {
	t          *task
	q          *waitQueue
	prev, next *waiter
	seq        uint64 // its place in the order of the queue
	what       any    // what the task waits for, if the waker needs to know
	woken      bool
}

// wait parks t, the current task, at the end of the queue until it is woken. On return the waiter
// has left the queue. err is the error of the wait (waiter 3). on is the primitive, as users know
// it.
func (q *waitQueue) wait(ctx context.Context, t *task, on fmt.Stringer) (woken bool, err error) {
	// loopContext.Err without the call, which costs a hundredth of a queue's round trip
	if c, ok := ctx.(*loopContext); (!ok || c.loop.rootDone != nil) && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	w := q.join(t)
	link := t.beginPark(ctx, on)
	if at := t.depart(); at != nil {
		if at.Toggle() {
			at.Yield(struct{}{})
		} else {
			at.Next()
		}
	}
	t.arrive()
	err = t.endPark(ctx, link)
	return w.done(), err
}

// waitWith is wait with a waiter of the caller's. The caller looks at that waiter even if waitWith
// does not return.
func (q *waitQueue) waitWith(ctx context.Context, t *task, w *waiter, on fmt.Stringer) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.t = t
	q.push(w)
	defer w.leave()
	return t.park(ctx, on)
}

// waiterOf returns the waiter of t, the current task, for one wait. It is part of t's stack. Of two
// tasks that share a stack, the lower one waits for the upper one and not in a queue (stack 5).
func waiterOf(t *task) *waiter {
	w := &t.stack.waiter
	w.t = t
	return w
}

// join puts a waiter for t at the end of the queue.
//
//go:noinline
func (q *waitQueue) join(t *task) *waiter {
	w := waiterOf(t)
	q.push(w)
	return w
}

// done ends the use of a waiter from waiterOf that nobody looks at any more. It reports whether the
// waiter was woken.
//
//go:noinline
func (w *waiter) done() (woken bool) {
	w.leave()
	woken = w.woken
	w.t, w.what, w.woken = nil, nil, false // the waiter is in no queue
	return woken
}

// leave takes w out of the queue it is in, if any.
func (w *waiter) leave() {
	if w.q != nil {
		w.q.remove(w)
	}
}

// pending reports whether the waiter has neither been woken nor cancelled.
func (w *waiter) pending() bool { return !w.woken && w.t.parked }

// wake wakes a pending waiter and reports whether it was pending.
func (w *waiter) wake() bool {
	if !w.pending() {
		return false
	}
	w.woken = true
	return w.t.unpark()
}

// wakeFirst wakes the oldest waiter if that is pending. If it is not, wakeFirst wakes nobody: the
// oldest is then on its way and will see to the next.
func (q *waitQueue) wakeFirst() bool { return q.first != nil && q.first.wake() }

// after returns the waiter behind w, or the first waiter if w is nil.
func (q *waitQueue) after(w *waiter) *waiter {
	if w == nil {
		return q.first
	}
	return w.next
}

// firstPending returns the oldest pending waiter, nil if there is none.
func (q *waitQueue) firstPending() *waiter {
	w := q.after(q.idle)
	for ; w != nil && !w.pending(); w = w.next {
		q.idle = w
		passOver(1)
	}
	return w
}

// firstLive returns the oldest waiter that was not cancelled, nil if there is none.
func (q *waitQueue) firstLive() *waiter {
	w := q.after(q.dead)
	for ; w != nil && !w.woken && !w.t.parked; w = w.next {
		q.dead = w
		passOver(1)
	}
	return w
}

// wakeNext wakes the oldest pending waiter and reports whether there was one.
func (q *waitQueue) wakeNext() bool {
	w := q.firstPending()
	return w != nil && w.wake()
}

// wakeAll wakes all pending waiters, oldest first.
func (q *waitQueue) wakeAll() {
	for q.wakeNext() {
	}
}

// dismissNext takes waiters out, oldest first, until it has woken one. The waiters before that one
// had been cancelled.
func (q *waitQueue) dismissNext() {
	for w := q.first; w != nil; w = q.first {
		q.removeFirst()
		if w.wake() {
			return
		}
	}
}

// dismissAll takes all waiters out, oldest first, and wakes those that are pending.
func (q *waitQueue) dismissAll() {
	for w := q.first; w != nil; w = q.first {
		q.removeFirst()
		w.wake()
	}
}

// hasLive reports whether the queue has a waiter that was not cancelled.
func (q *waitQueue) hasLive() bool { return q.firstLive() != nil }

// liveBefore reports whether a waiter before w was not cancelled. If w is not in the queue, every
// waiter counts.
func (q *waitQueue) liveBefore(w *waiter) bool {
	o := q.firstLive()
	return o != nil && (w.q != q || o.seq < w.seq)
}

// tasks returns the tasks that wait, oldest first.
func (q *waitQueue) tasks() []*task {
	var all []*task
	for w := q.first; w != nil; w = w.next {
		all = append(all, w.t)
	}
	return all
}

// rejoin makes w wait (again). It puts w at the end of the queue, unless w is in it already.
func (q *waitQueue) rejoin(w *waiter) {
	w.woken = false
	if w.q == nil {
		q.push(w)
		return
	}
	if q.idle != nil && w.seq <= q.idle.seq {
		q.idle = w.prev
	}
	if q.dead != nil && w.seq <= q.dead.seq {
		q.dead = w.prev
	}
}

// len counts the waiters in the queue, including those on their way out, as CPython's reprs do.
func (q *waitQueue) len() int { return q.n }

func (q *waitQueue) push(w *waiter) {
	w.q, w.seq = q, 0
	q.n++
	if q.last == nil {
		q.first = w
	} else {
		q.last.next, w.prev = w, q.last
		w.seq = q.last.seq + 1
	}
	q.last = w
}

// removeFirst is remove(q.first), short enough to be inlined: a queue's round trip is two of them.
func (q *waitQueue) removeFirst() {
	w := q.first
	if q.idle == w {
		q.idle = nil
	}
	if q.dead == w {
		q.dead = nil
	}
	if q.first = w.next; w.next == nil {
		q.last = nil
	} else {
		w.next.prev = nil
	}
	w.q, w.next = nil, nil
	q.n--
}

// remove takes w out of the queue, if it is in it.
//
//go:noinline
func (q *waitQueue) remove(w *waiter) {
	if w.q != q {
		return
	}
	if q.idle == w {
		q.idle = w.prev
	}
	if q.dead == w {
		q.dead = w.prev
	}
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.q, w.prev, w.next = nil, nil, nil
	q.n--
}
