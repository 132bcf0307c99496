package asyncio

import (
	"context"
	"math"
)

// The cancels that a task owes to those who asked it to stop. Everything that counts, keeps, holds
// back or delivers a cancel is here; task 3 says how a cancel travels.
//
//	cancel 1: Each request is counted ([Task.Cancelling]) until it is taken back. Uncancel takes one
//	   back. A timeout or task group of the task's own takes back the request that it made, when it
//	   is left.
//	cancel 2: A request is owed until an await has returned because of it. All requests that are
//	   owed and not held back are delivered together, as one error: the last that came from outside,
//	   or else the last that a scope of the task's own made. A request has also been delivered if it
//	   went down to the future that the task waits for and the wait is over, whatever has become of
//	   the request there. If a context ends the wait first (context 2), the request is owed as if it
//	   had not gone down.
//	cancel 3: Every request has a depth, a number of Cleanups. For a timeout or group of the task's
//	   own it is the number that this was opened in; for anything else it is zero. A request is held
//	   back while the task is in more Cleanups than its depth.
//	cancel 4: A scope counts the requests that it can see: all but those held back by the Cleanups
//	   around it. So it takes none of those for its own, nor for a reason to stop.
//	cancel 5: Uncancel takes back a request that was delivered. If there is none, it takes back one
//	   that is owed, those from outside first.

// A request is a cancel of a task by one of its own scopes, or a cancel that has been delivered and
// is owed again.
type request struct {
	err   *CancelledError
	depth int // in Cleanups (cancel 3)
	owed  bool
	// a scope will take it back; until then it stays in the list, even after it has been delivered
	scope bool
	next  *request
}

// A cancelState says how far the requests that are owed and not held back have come.
type cancelState uint8

const (
	noCancel   cancelState = iota // there are none
	mustCancel                    // to be delivered when the task next resumes or waits
	wentDown                      // they have gone down to the future that the task waits for
	evicted                       // they have woken the task from its park
)

// cancel asks t to stop (task 3). Cancel of the task's future ends up here.
func (t *task) cancel(c *CancelledError) cancelAnswer { return t.ask(c, nil) }

// ask is cancel for a request r of one of the task's own scopes. r is nil if the cancel comes from
// elsewhere.
func (t *task) ask(c *CancelledError, r *request) cancelAnswer {
	t.fut.retrieved()
	if t.fut.state != pending {
		return refused
	}
	if t.descending {
		return inCircle // the cancel has come back to t (task 7)
	}
	if rep := t.fut.report; rep != nil {
		rep.cancel = c
	}
	if l := t.loop(); l.recorder != nil {
		l.recorder.cancelled(t, c)
	}
	if held := t.note(c, r); held {
		return accepted
	}
	if t.waiter != nil {
		t.descending = true
		answer := t.waiter.cancel(c)
		t.descending = false
		switch {
		case answer == accepted:
			t.state = wentDown
			return accepted // waiter stays: it may ignore the cancel and be cancelled again
		case answer == inCircle && t.covered:
			t.state = wentDown // to the task on top of it
			return inCircle
		case answer == inCircle:
			t.waiter.removeCallback(t)
			t.waiter = nil
			t.loop().schedule(t, nil)
		}
	} else if t.parked {
		t.evict()
		return accepted
	}
	if t.state != evicted {
		t.state = mustCancel
	}
	return accepted
}

// evict wakes a parked task with the cancel that is owed.
func (t *task) evict() {
	t.parked, t.state = false, evicted
	if t.cancelErr == nil {
		t.cancelErr = t.speaks()
	}
	t.wokenByScope = t.isOwn(t.cancelErr)
	t.loop().schedule(t, nil)
}

// note counts a request and reports whether it is held back. r is nil if the request is not by a
// scope of the task's own.
func (t *task) note(c *CancelledError, r *request) (held bool) {
	t.cancels++
	if r != nil {
		r.err, r.owed = c, true
		t.owe(r)
		if t.outside == 0 && t.state != evicted {
			t.cancelErr = c
		}
		return int(t.cleanups) > r.depth
	}
	// otherwise t gets the cancel that woke it, as in CPython, even if that was taken back
	if t.state != evicted || t.wokenByScope {
		t.cancelErr = c
	}
	t.outside++
	return t.cleanups > 0
}

// owe appends r to the list.
func (t *task) owe(r *request) {
	p := &t.asked
	for *p != nil {
		p = &(*p).next
	}
	*p = r
}

// owes reports whether something is owed and not held back.
func (t *task) owes() bool { return t.speaks() != nil }

// owed counts the requests that are owed and less deep than depth.
func (t *task) owed(depth int) int {
	n := 0
	if depth > 0 {
		n = int(t.outside)
	}
	for r := t.asked; r != nil; r = r.next {
		if r.owed && r.depth < depth {
			n++
		}
	}
	return n
}

// seen counts the requests that a scope of this depth sees (cancel 4).
func (t *task) seen(depth int) int { return int(t.cancels) - t.owed(depth) }

// delivered counts the requests that have been delivered and not been taken back.
func (t *task) delivered() int { return int(t.cancels) - t.owed(math.MaxInt) }

// speaks returns the error for the requests that are owed and not held back (cancel 2), nil if
// there are none.
func (t *task) speaks() (c *CancelledError) {
	if t.outside > 0 && t.cleanups == 0 {
		return t.cancelErr
	}
	for r := t.asked; r != nil; r = r.next {
		if r.owed && r.depth >= int(t.cleanups) {
			c = r.err
		}
	}
	return c
}

// deliver marks all requests that are owed and not held back as delivered (cancel 2). It returns
// the error that speaks for all of them.
func (t *task) deliver() *CancelledError {
	c := t.speaks()
	if c == nil {
		c = t.cancelErr // all requests have been taken back since the task was woken
	}
	t.state = noCancel
	if t.cleanups == 0 {
		t.outside = 0
	}
	if t.outside == 0 {
		t.cancelErr = nil
	}
	for p := &t.asked; *p != nil; {
		r := *p
		if r.owed && r.depth >= int(t.cleanups) {
			r.owed = false
			if !r.scope {
				*p, r.next = r.next, nil
				continue
			}
		}
		p = &r.next
	}
	return c
}

// replace returns what t gets in place of the result of f when a cancel is to be delivered (CPython
// 13). t has waited for f, which may not be done if the wait was interrupted. If f was cancelled,
// by itself or by a cancel that reached it in time, t gets f's error, unless that is the error of
// one of t's own scopes.
func (t *task) replace(f *future, interrupted bool) error {
	c := t.deliver()
	if interrupted {
		return c
	}
	f.retrieved()
	if asCancelled(f.err) == nil || t.isOwn(asCancelled(f.err)) {
		return c
	}
	return f.err
}

// isOwn reports whether c is the error of a request by a scope of the task's own.
func (t *task) isOwn(c *CancelledError) bool {
	for r := t.asked; r != nil; r = r.next {
		if r.err == c {
			return true
		}
	}
	return false
}

// DeliverAgain has a cancel delivered to the calling task once more, at its next await. It is for a
// library whose operation a cancel came too late to stop: err has ended the library's wait, but the
// operation has succeeded all the same, so the caller gets its result instead of err. [Recv] does
// this by itself. ctx is the context of that wait.
//
// The request to cancel is the same one as before: [Task.Cancelling] does not count it twice, and a
// [Timeout] that made it knows it again. If it has been taken back since, or err is the cause of
// ctx or no [*CancelledError] at all, nothing happens.
//
// It must be called in a task and does not suspend. It panics with [ErrNotInTask],
// [ErrNoRunningLoop], [ErrForeignGoroutine] or [ErrLoopClosed]. Python: task.uncancel() and
// task.cancel(), as TaskGroup does, which would lose who asked.
func DeliverAgain(ctx context.Context, err error) {
	t, misuse := taskOf(ctx, "DeliverAgain")
	if misuse != nil {
		panic(misuse)
	}
	t.deliverAgain(ctx, err)
}

// deliverAgain is for a wait that a cancel ended too late to stop the operation: the caller returns
// the operation's result, and the cancel is owed to the next await. err is the error that ended the
// wait; it may also be the cause of ctx.
func (t *task) deliverAgain(ctx context.Context, err error) {
	c, ok := err.(*CancelledError)
	if !ok {
		return
	}
	if ended, _ := cause(ctx); ended == err {
		return
	}
	for r := t.asked; r != nil; r = r.next {
		if r.err == c && !r.owed {
			r.owed, t.state = true, mustCancel
			t.settle()
			return
		}
	}
	t.repeat(c)
}

// repeat has c delivered again, as a request that belongs to no scope.
func (t *task) repeat(c *CancelledError) {
	t.owe(&request{err: c, depth: int(t.cleanups), owed: true})
	t.state = mustCancel
	t.settle()
}

// withdraw takes back a scope's request r, and returns how many other requests the scope still
// sees.
func (t *task) withdraw(r *request) int {
	t.drop(r)
	if t.seen(r.depth) > 0 { // otherwise somebody's Uncancel took it back
		t.cancels--
	}
	t.settle()
	return t.seen(r.depth)
}

// drop takes r out of the list if it is there.
func (t *task) drop(r *request) {
	for p := &t.asked; *p != nil; p = &(*p).next {
		if *p == r {
			*p, r.next = r.next, nil
			return
		}
	}
}

// enterCleanup begins a Cleanup, which holds back all that is owed.
func (t *task) enterCleanup() {
	t.cleanups++
	t.state = noCancel
}

// exitCleanup ends a Cleanup. What nothing else holds back is then owed to the next await.
func (t *task) exitCleanup() {
	t.cleanups--
	if t.owes() {
		t.state = mustCancel
	}
}

// Uncancel takes back one request to cancel and returns how many remain. Call it after catching a
// cancellation to carry on. At zero, a cancel not yet delivered is dropped.
func (t *task) Uncancel() int {
	if t.fut != nil {
		t.loop().mustNotBeForeign("Uncancel")
	}
	if t.cancels > 0 {
		t.cancels--
		t.settle()
	}
	return int(t.cancels)
}

// settle drops requests that are owed but no longer counted (cancel 5).
func (t *task) settle() {
	for t.delivered() < 0 {
		if t.outside > 0 {
			t.outside--
			continue
		}
		var last *request
		for r := t.asked; r != nil; r = r.next {
			if r.owed {
				last = r
			}
		}
		last.owed = false
		if !last.scope {
			t.drop(last)
		}
	}
	if t.state != evicted && !t.owes() {
		t.state = noCancel
	}
}
