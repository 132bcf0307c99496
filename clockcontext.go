package asyncio

import (
	"context"
	"fmt"
	"time"
)

// A clockContext ends on the loop's clock. Below it is a standard cancel context,
// so that contexts derived from it with the standard library follow at once.
//
// If the loop knows everything that can end it (its timer, its cancel function, and a parent of
// which the loop knows the same), it is told: the loop passes the end on from parent to child, and
// needs neither to listen for it nor to poll.
type clockContext struct {
	context.Context
	loop     *EventLoop
	cancel   context.CancelCauseFunc
	expiry   error     // the cause when the deadline passes
	deadline time.Time // zero if none
	timer    timer

	told       bool
	watch      watch         // if told: the tasks that wait with it
	family     *clockContext // if told: its parent, or that of all made from the loop's (rootOf)
	child      *clockContext // the youngest
	prev, next *clockContext // siblings, younger and older
}

// WithCancel is [context.WithCancel] for a loop: cancel wakes the tasks that wait with the context
// in the next iteration, on real and on virtual time alike. It must be called in a task or a
// callback of the loop; any goroutine may call cancel. It panics with [ErrNoRunningLoop] if ctx has
// no loop.
func WithCancel(ctx context.Context) (_ context.Context, cancel context.CancelFunc) {
	c := newClockContext(ctx, "WithCancel")
	return c, c.release
}

// WithTimeout returns a context that is done, with [context.DeadlineExceeded], once d has passed on
// the loop's clock; at once if d is not positive. A standard context.WithTimeout works in a task
// too, but counts on the machine's clock, which a simulated program should not see. A context that
// the context package derives from this one ends with it; its cause is then DeadlineExceeded, its
// Err Canceled. WithTimeout does not suspend. As with [WithCancel], only a task or a callback of
// the loop may call it, and any goroutine may call cancel.
func WithTimeout(ctx context.Context, d time.Duration) (_ context.Context, cancel context.CancelFunc) {
	l := mustLoop(ctx, "WithTimeout")
	return WithDeadline(ctx, l.after(d))
}

// WithDeadline returns a context that is done, with [context.DeadlineExceeded], when the loop's
// clock reads when. Its Deadline method translates that to the wall clock. WithDeadline does not
// suspend. As with [WithCancel], only a task or a callback of the loop may call it, and any
// goroutine may call cancel. It panics with [ErrNoRunningLoop] if ctx has no loop.
func WithDeadline(ctx context.Context, when Instant) (_ context.Context, cancel context.CancelFunc) {
	c := newClockContext(ctx, "WithDeadline")
	c.setDeadline(when, context.DeadlineExceeded)
	return c, c.release
}

// setDeadline makes c end at when with cause expiry. It is called once.
func (c *clockContext) setDeadline(when Instant, expiry error) {
	l := c.loop
	if when.age == Forever {
		return
	}
	c.deadline, c.expiry = l.drv.Start().Add(when.age), expiry
	if !when.After(l.Time()) {
		c.expire()
	} else if c.Context.Err() == nil {
		c.timer = timer{when: when, cb: c}
		l.setTimer(&c.timer)
	}
}

func newClockContext(ctx context.Context, caller string) *clockContext {
	l := mustLoop(ctx, caller)
	c := &clockContext{loop: l}
	c.watch.loop = l
	c.Context, c.cancel = context.WithCancelCause(ctx)
	switch done := ctx.Done(); {
	case done == nil:
		c.told = true
	case done == l.rootDone:
		if failed := l.watchRoot(); failed != nil {
			panic(failed.Value)
		}
		c.follow(rootOf(l))
	default:
		if parent, ok := ctx.Value(clockKey{}).(*clockContext); ok && parent.ownWatch(done) != nil {
			c.follow(parent)
		}
	}
	return c
}

// rootOf returns the parent of the contexts made from that of l.
func rootOf(l *EventLoop) *clockContext {
	if root, ok := l.rootClocks.(*clockContext); ok {
		return root
	}
	root := new(clockContext)
	l.rootClocks = root
	return root
}

func (c *clockContext) ownWatch(done <-chan struct{}) *watch {
	if !c.told || c.Done() != done {
		return nil
	}
	c.watch.done = done
	return &c.watch
}

func (c *clockContext) follow(parent *clockContext) {
	c.told, c.family = true, parent
	if c.next = parent.child; c.next != nil {
		c.next.prev = c
	}
	parent.child = c
}

func (c *clockContext) leave() {
	if c.family == nil {
		return
	}
	if c.prev == nil {
		c.family.child = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.family, c.prev, c.next = nil, nil, nil
}

func (c *clockContext) Value(key any) any {
	switch key.(type) {
	case clockKey:
		return c
	case loopKey:
		return c.loop
	}
	return c.Context.Value(key)
}

func (c *clockContext) Deadline() (time.Time, bool) {
	d, ok := c.Context.Deadline()
	if !c.deadline.IsZero() && (!ok || c.deadline.Before(d)) {
		return c.deadline, true
	}
	return d, ok
}

// Err returns DeadlineExceeded if a deadline is the cause. The cancel context below knows only
// Canceled.
func (c *clockContext) Err() error {
	err := c.Context.Err()
	if err != nil {
		cause := context.Cause(c.Context)
		if _, ok := cause.(*TimeoutError); ok || cause == context.DeadlineExceeded {
			return context.DeadlineExceeded
		}
	}
	return err
}

func (c *clockContext) String() string { return fmt.Sprintf("%v.OnLoop", c.Context) }

// fire is called for the timer.
func (c *clockContext) fire(*future) { c.expire() }

func (*clockContext) quick() {}

func (*clockContext) readyName() string { return "end of a context" }

func (c *clockContext) expire() {
	c.cancel(c.expiry)
	c.arrive()
}

// release is the cancel function. It may run on any goroutine, so what it does to the loop goes
// through the inbox, even if it is called on the loop.
func (c *clockContext) release() {
	if c.Context.Err() == nil {
		c.cancel(nil)
	}
	_ = c.loop.post(c) // a closed loop has no timers left
}

// arrive runs on the loop once the context is done.
func (c *clockContext) arrive() {
	c.loop.timers.remove(&c.timer)
	if !c.told {
		if w := c.loop.watches[c.Done()]; w != nil {
			w.arrive()
		}
		return
	}
	c.leave()
	c.watch.arrive()
	c.endChildren()
}

// endChildren passes the end of c on to its children, oldest first, as they would be told one by
// one.
func (c *clockContext) endChildren() {
	last := c.child
	for last != nil && last.next != nil {
		last = last.next
	}
	for last != nil {
		before := last.prev
		if last.Context.Err() != nil {
			last.arrive()
		}
		last = before
	}
}
