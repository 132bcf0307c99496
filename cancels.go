package asyncio

import (
	"context"
	"math"
)

// What a task owes to those who asked it to stop. Everything that counts, keeps, holds back or
// delivers a cancel is here; task 3 says how it travels.
//
//	cancel 1: Each request is counted ([Task.Cancelling]) until it is taken back: by Uncancel, or by
//	   the timeout or task group of the task's own that made it, when that is left.
//	cancel 2: It is owed until an await has returned for it. What is owed and not held back is
//	   delivered together, as one error: the last that came from outside, else the last that a scope
//	   of the task's own made. It has also been delivered if it went down to what the task waits for
//	   and the wait is over, whatever has become of it there. If the wait ends before (context 2),
//	   it is owed as if it had not gone down.
//	cancel 3: Whoever asks is so many Cleanups deep: a timeout or group of the task's own as many as
//	   it was opened in, anything else none. A request is held back while the task is in more
//	   Cleanups than that.
//	cancel 4: A scope counts what it can see: all but the requests that are held back by the
//	   Cleanups around it. So it does not take one of those for its own, or for a reason to stop.
//	cancel 5: Uncancel takes back a request that was delivered; if there is none, one that is owed,
//	   those from outside first.

// A request is a cancel of a task by one of its own scopes, or one that has been delivered and is
// owed again.
type request struct {
	err   *CancelledError
	depth int // cancel 3
	owed  bool
	// a scope will take it back: until then it is in the list, also when it has been delivered
	scope bool
	next  *request
}

// A cancelState says how far the requests of a task have come that are owed and not held back.
type cancelState uint8

const (
	noCancel   cancelState = iota // there is none
	mustCancel                    // to be delivered when the task next resumes or waits
	wentDown                      // they are with what the task waits for
	evicted                       // they have woken the task from its park
)

// cancel is task 3. It is where Cancel of the task's future ends up.
func (t *task) cancel(c *CancelledError) cancelAnswer { return t.ask(c, nil) }

// ask is cancel, by a scope of the task's own if r is not nil.
func (t *task) ask(c *CancelledError, r *request) cancelAnswer {
	t.fut.retrieved()
	if t.fut.state != pending {
		return refused
	}
	if t.descending {
		return inCircle // task 7
	}
	if rep := t.fut.report; rep != nil {
		rep.cancel = c
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
			t.state = wentDown // to what is on top of it
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

// evict wakes a parked task with what is owed.
func (t *task) evict() {
	t.parked, t.state = false, evicted
	if t.cancelErr == nil {
		t.cancelErr = t.speaks()
	}
	t.loop().schedule(t, nil)
}

// note counts a request, r if it is by a scope of the task's own, and reports whether it is held
// back.
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
	// else the one that woke it is what it gets, as in CPython, also if taken back
	if t.state != evicted || t.isOwn(t.cancelErr) {
		t.cancelErr = c
	}
	t.outside++
	return t.cleanups > 0
}

// owe puts r at the end of the list.
func (t *task) owe(r *request) {
	p := &t.asked
	for *p != nil {
		p = &(*p).next
	}
	*p = r
}

// owes reports whether something is owed and not held back.
func (t *task) owes() bool { return t.speaks() != nil }

// owed counts what is owed to those who are less than depth deep.
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

// seen counts the requests that a scope sees which is in so many Cleanups (cancel 4).
func (t *task) seen(depth int) int { return int(t.cancels) - t.owed(depth) }

// delivered counts the requests that have been delivered and not been taken back.
func (t *task) delivered() int { return int(t.cancels) - t.owed(math.MaxInt) }

// speaks returns the error for what is owed and not held back (cancel 2), nil if that is nothing.
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

// deliver is cancel 2. It returns the error that speaks for all.
func (t *task) deliver() *CancelledError {
	c := t.speaks()
	if c == nil {
		c = t.cancelErr // all has been taken back since the task was woken
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

// replace is CPython 13: it returns what t gets in place of f, for which it has waited and which
// may not be done if the wait was interrupted. If that is a cancellation, it has come by itself, or
// is the cancel that reached f in time.
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

// isOwn reports whether c is what a scope of the task's own has asked with.
func (t *task) isOwn(c *CancelledError) bool {
	for r := t.asked; r != nil; r = r.next {
		if r.err == c {
			return true
		}
	}
	return false
}

// deliverAgain is for a wait that a cancel has ended too late to stop what it waited for: that is
// returned, and the cancel is owed to the next await. err is what ended the wait, which may also
// have been the end of ctx.
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

// repeat has a cancel delivered again which is nobody's in particular.
func (t *task) repeat(c *CancelledError) {
	t.owe(&request{err: c, depth: int(t.cleanups), owed: true})
	t.state = mustCancel
	t.settle()
}

// withdraw takes back what a scope has asked for, and returns how many requests it sees that
// remain.
func (t *task) withdraw(r *request) int {
	t.drop(r)
	if t.seen(r.depth) > 0 { // else somebody's Uncancel was for it
		t.cancels--
	}
	t.settle()
	return t.seen(r.depth)
}

// drop takes r out of the list, if it is in it.
func (t *task) drop(r *request) {
	for p := &t.asked; *p != nil; p = &(*p).next {
		if *p == r {
			*p, r.next = r.next, nil
			return
		}
	}
}

// enterCleanup is the beginning of a Cleanup: it holds back all that is owed.
func (t *task) enterCleanup() {
	t.cleanups++
	t.state = noCancel
}

// exitCleanup is its end, and what nothing else holds back is owed to the next await.
func (t *task) exitCleanup() {
	t.cleanups--
	if t.owes() {
		t.state = mustCancel
	}
}

// Uncancel takes one request to cancel back and returns how many remain. Who catches a
// cancellation to carry on calls it. At zero, a cancel not yet delivered is dropped.
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

// settle drops what is owed but not counted any more (cancel 5).
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
