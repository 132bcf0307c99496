package asyncio

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// inbox is the only way into a loop from another goroutine: a list under a mutex and one wake-up.
//
//	inbox 1: Every post that is accepted is taken in exactly once, in the order of acceptance.
//	inbox 2: After close nothing is accepted.
//	inbox 3: Every post that was accepted runs, at the latest while the loop closes.
//	inbox 4: Handles are made in batches, so a program that keeps one handle keeps its whole batch,
//	   about a kilobyte. Therefore a handle that has had its turn refers to nothing but the loop.
//	inbox 5: A goroutine that posts faster than the loop takes in gives way to other goroutines each
//	   time the list has grown by blocksAhead blocks, two thousand callbacks. It does not wait for
//	   the loop. Otherwise a goroutine on a single processor would go on until its time slice is
//	   over. By then its posts have left the caches and are a burden to the collector, and each
//	   callback takes three times as long.
type inbox struct {
	some atomic.Bool // the list is not empty; read without the lock by the loop
	// set while the inbox is emptied: an arrival that schedules must not start on the next list
	// (inbox 1); the loop's
	emptying bool
	emptied  *inboxBlock // becomes spare when the loop next has the lock; the loop's

	mu     sync.Mutex
	first  *inboxBlock // first block of the list, nil if the list is empty
	last   *inboxBlock
	blocks int         // how many blocks the list has
	taken  uint64      // how often the list was taken in
	spare  *inboxBlock // an empty block, to be filled next
	unused []Handle    // the rest of a batch (inbox 4)
	closed bool
}

const blocksAhead = 16 // how far a poster gets before it gives way (inbox 5)

// handleBatch handles fill 1 KiB (inbox 4).
const handleBatch = 21

// inboxBlock is a part of the list. A slice would be copied each time it has to grow, and it
// grows without limit while other goroutines are faster than the loop.
type inboxBlock struct {
	next *inboxBlock
	n    int
	cbs  [126]callback
}

// An arrival is a post that acts on the loop where it is taken in, instead of taking its turn in
// the ready queue. It runs no user code.
type arrival interface{ arrive() }

// post hands cb to the loop. Any goroutine may call it; it does not block.
func (l *EventLoop) post(cb callback) error {
	if l.gate != nil && !hasBit() {
		return l.postAtGate(cb)
	}
	b := &l.inbox
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrLoopClosed
	}
	ahead := b.append(cb)
	b.mu.Unlock()
	l.wake(ahead)
	return nil
}

// postFunc posts a function.
func (l *EventLoop) postFunc(fn func()) (*Handle, error) {
	code := funcPC(fn)
	if l.gate != nil && !hasBit() {
		h := &Handle{loop: l, fn: fn}
		h.state.Store(uint64(code) << 1)
		return h, l.postAtGate((*posted)(h))
	}
	b := &l.inbox
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrLoopClosed
	}
	if len(b.unused) == 0 {
		b.unused = make([]Handle, handleBatch)
	}
	h := &b.unused[0]
	b.unused = b.unused[1:]
	h.loop, h.fn = l, fn
	h.state.Store(uint64(code) << 1)
	ahead := b.append((*posted)(h))
	b.mu.Unlock()
	l.wake(ahead)
	return h, nil
}

// wake is called after a post, without the lock. ahead is the result of append.
func (l *EventLoop) wake(ahead bool) {
	l.drv.Wake()
	if ahead {
		runtime.Gosched()
	}
}

// append is called with the lock held. It reports whether the caller is to give way (inbox 5).
func (b *inbox) append(cb callback) (ahead bool) {
	k := b.last
	if k == nil || k.n == len(k.cbs) {
		k = b.grow()
		ahead = b.blocks%blocksAhead == 0
	}
	k.cbs[k.n] = cb
	k.n++
	if !b.some.Load() {
		b.some.Store(true)
	}
	return ahead
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
	b.blocks++
	return k
}

func (l *EventLoop) emptyInbox() {
	b := &l.inbox
	b.mu.Lock()
	first := b.first
	b.first, b.last, b.blocks = nil, nil, 0
	b.taken++
	b.some.Store(false)
	if b.emptied != nil {
		b.spare, b.emptied = b.emptied, nil
	}
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
		b.emptied = first
	}
}

func (l *EventLoop) admit(cb callback) {
	if a, ok := cb.(arrival); ok {
		a.arrive()
	} else {
		l.ready.push(entry{cb, outside})
	}
}

// outside stands in the ready queue in place of a future. It marks a callback that was posted:
// Close must still run it, wherever it is by then (inbox 3).
var outside = new(future)

// close refuses all further posts (inbox 2) and returns those that were accepted before.
func (b *inbox) close() (accepted []callback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := b.first; k != nil; k = k.next {
		accepted = append(accepted, k.cbs[:k.n]...)
	}
	b.first, b.last, b.spare, b.unused, b.closed = nil, nil, nil, nil, true
	b.blocks = 0
	b.some.Store(false)
	return accepted
}

// CallSoonThreadsafe schedules fn as [EventLoop.CallSoon] does and wakes the loop. Any goroutine
// may call it. It does not block; a goroutine that calls it faster than the loop can run the
// callbacks gives way to other goroutines now and then. It returns [ErrLoopClosed] if the loop is
// closed, and [ErrInvalidArgument] if fn is nil. If it returns no error, fn runs once, at the
// latest while the loop closes, unless the handle is cancelled first. Python:
// loop.call_soon_threadsafe.
func (l *EventLoop) CallSoonThreadsafe(fn func()) (*Handle, error) {
	if fn == nil {
		return nil, fmt.Errorf("%w: nil function (in CallSoonThreadsafe)", ErrInvalidArgument)
	}
	h, err := l.postFunc(fn)
	if err != nil {
		return nil, fmt.Errorf("%w (in CallSoonThreadsafe)", err)
	}
	return h, nil
}

// What other goroutines post to a loop whose driver has a gate (driver.Gate) goes through that.

// postAtGate is post for a goroutine that has to pass the gate.
func (l *EventLoop) postAtGate(cb callback) error {
	b := &l.inbox
	b.mu.Lock() // nothing is posted once the gate has been flushed (inbox 3)
	defer b.mu.Unlock()
	if b.closed {
		return ErrLoopClosed
	}
	l.gate.Post(&gatePost{l, cb})
	return nil
}

// A gatePost is a post that waits at the gate.
type gatePost struct {
	loop *EventLoop
	cb   callback
}

func (p *gatePost) Arrive() { p.loop.admit(p.cb) }

// An ordered post has a better place among those of the same instant than its name gives it.
type ordered interface {
	order() (number uint64, name string)
}

func (p *gatePost) Order() (uint64, string) {
	if o, ok := p.cb.(ordered); ok {
		return o.order()
	}
	return 0, nameOf(p.cb)
}

func (p *gatePost) Name() string { return nameOf(p.cb) }

func (fn postedCall) readyName() string { return "callback " + functionName(fn) }
