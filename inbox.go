package asyncio

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// inbox is the only way into a loop from another goroutine: a list under a mutex
// and one wake-up.
//
//	X1 What is accepted is taken in exactly once, in the order of acceptance.
//	X2 After close nothing is accepted.
//	X3 What was accepted runs, at the latest while the loop closes.
type inbox struct {
	some     atomic.Bool // the list is not empty; read without the lock by the loop
	emptying bool        // an arrival that schedules must not start on the next list (X1); the loop's

	mu     sync.Mutex
	first  *inboxBlock // of the list, nil if it is empty
	last   *inboxBlock
	spare  *inboxBlock // emptied, to be filled next
	closed bool
}

// inboxBlock is a part of the list. A slice would be copied each time it has to grow, and it
// grows without limit while other goroutines are faster than the loop.
type inboxBlock struct {
	next *inboxBlock
	n    int
	cbs  [126]callback
}

// An arrival is something posted that acts on the loop where it is taken in, instead
// of taking its turn in the ready queue. It runs no user code.
type arrival interface{ arrive() }

// post hands cb to the loop. Any goroutine may call it; it does not block.
func (l *EventLoop) post(cb callback) error {
	b := &l.inbox
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrLoopClosed
	}
	k := b.last
	if k == nil || k.n == len(k.cbs) {
		k = b.grow()
	}
	k.cbs[k.n] = cb
	k.n++
	if !b.some.Load() {
		b.some.Store(true)
	}
	b.mu.Unlock()
	l.drv.Wake()
	return nil
}

// grow appends an empty block to the list.
func (b *inbox) grow() *inboxBlock {
	k := b.spare
	if k == nil {
		k = new(inboxBlock)
	}
	b.spare = nil
	if b.last == nil {
		b.first = k
	} else {
		b.last.next = k
	}
	b.last = k
	return k
}

func (l *EventLoop) emptyInbox() {
	b := &l.inbox
	b.mu.Lock()
	first := b.first
	b.first, b.last = nil, nil
	b.some.Store(false)
	b.mu.Unlock()
	b.emptying = true
	for k := first; k != nil; k = k.next {
		for _, cb := range k.cbs[:k.n] {
			l.admit(cb)
		}
	}
	b.emptying = false
	if first != nil {
		clear(first.cbs[:first.n])
		first.next, first.n = nil, 0
		b.mu.Lock()
		b.spare = first
		b.mu.Unlock()
	}
}

func (l *EventLoop) admit(cb callback) {
	if a, ok := cb.(arrival); ok {
		a.arrive()
	} else {
		l.ready.push(entry{cb, outside})
	}
}

// outside stands in the ready queue where the future would, and marks a callback that
// was posted: Close must still run it, wherever it has got to (X3).
var outside = new(future)

// close refuses all further posts and returns what had been accepted.
func (b *inbox) close() (accepted []callback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := b.first; k != nil; k = k.next {
		accepted = append(accepted, k.cbs[:k.n]...)
	}
	b.first, b.last, b.spare, b.closed = nil, nil, nil, true
	b.some.Store(false)
	return accepted
}

// CallSoonThreadsafe schedules fn as [EventLoop.CallSoon] does and wakes the loop. Any
// goroutine may call it; it does not block. It returns [ErrLoopClosed] if the loop is
// closed; if it returns no error, fn runs once, at the latest while the loop closes,
// unless the handle is cancelled first.
func (l *EventLoop) CallSoonThreadsafe(fn func()) (*Handle, error) {
	if fn == nil {
		return nil, fmt.Errorf("%w: nil function (in CallSoonThreadsafe)", ErrInvalidArgument)
	}
	h := &Handle{loop: l, fn: fn}
	if err := l.post(h); err != nil {
		return nil, fmt.Errorf("%w (in CallSoonThreadsafe)", err)
	}
	return h, nil
}
