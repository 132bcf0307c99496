package asyncio

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// An AsCompletedOption is an option of [AsCompleted]. Any goroutine may make one.
type AsCompletedOption struct {
	timed   bool
	timeout time.Duration
}

// AsCompletedTimeout makes the loop end with a [*TimeoutError] if some futures are not done d after
// the call of [AsCompleted], on the loop's clock.
func AsCompletedTimeout(d time.Duration) AsCompletedOption {
	return AsCompletedOption{timed: true, timeout: d}
}

// AsCompleted returns an iterator over futures and tasks in the order in which they complete. It
// yields the values that it was given, each once:
//
//	for task, err := range asyncio.AsCompleted(ctx, tasks) {
//		if err != nil { return err } // of the wait: a cancel, a timeout
//		page, err := task.Result()   // task is done
//
// The order is noted from the call on. After a break, another range over the same value goes on
// where the loop was left, and misses nothing. Nothing is ever cancelled: not by a break, not when
// the time is up, not when the calling task is cancelled. Make a coroutine a task first, so that
// AsCompleted has something to yield.
//
// The call is for the loop only and does not suspend. The range loop must be in a task and suspends
// until the next future completes. If that fails the error comes last, with a nil future: a
// [CancelledError], the cause of ctx, a [*TimeoutError], [ErrNotInTask], or for the arguments
// [ErrInvalidArgument], [ErrDifferentLoop], [ErrNoRunningLoop]. Python: async for task in
// asyncio.as_completed(tasks).
func AsCompleted[F AnyFuture](ctx context.Context, fs []F, opts ...AsCompletedOption) iter.Seq2[F, error] {
	c, err := newCompletion(ctx, fs, opts)
	return func(yield func(F, error) bool) {
		var none F
		if err != nil {
			yield(none, err)
			return
		}
		for {
			f, ok, err := c.next(ctx)
			if err != nil {
				yield(none, err)
				return
			}
			if !ok || !yield(f, nil) {
				return
			}
		}
	}
}

// completion is one call of AsCompleted.
type completion[F AnyFuture] struct {
	loop    *EventLoop
	items   []completing[F]
	todo    int // futures that are not done, as far as has been noticed
	left    int // futures that were not handed out
	done    []F // to be handed out, in order
	waiters waitQueue
	timer   timer
	late    bool // the time is up
}

// completing is one future of a completion, as its done callback.
type completing[F AnyFuture] struct {
	c *completion[F]
	f F
}

func newCompletion[F AnyFuture](ctx context.Context, fs []F, opts []AsCompletedOption) (*completion[F], error) {
	l := loopOf(ctx)
	if l == nil {
		return nil, noLoop(ctx, "AsCompleted")
	}
	if err := l.checkOwner("AsCompleted"); err != nil {
		return nil, err
	}
	c := &completion[F]{loop: l, items: make([]completing[F], 0, len(fs))}
	l.mark++
	for _, f := range fs {
		if isNil(f) {
			return nil, fmt.Errorf("%w: nil future (in AsCompleted)", ErrInvalidArgument)
		}
		if err := l.checkFuture(f, "AsCompleted"); err != nil {
			return nil, err
		}
		if core := f.core(); core.mark != l.mark {
			core.mark = l.mark
			c.items = append(c.items, completing[F]{c, f})
		}
	}
	c.todo, c.left = len(c.items), len(c.items)
	for i := range c.items {
		c.items[i].f.core().addCallback(&c.items[i])
	}
	for _, o := range opts {
		if o.timed && c.todo > 0 {
			l.timers.remove(&c.timer)
			c.timer = timer{when: l.after(o.timeout), cb: (*completionTimeout[F])(c)}
			if c.timer.when.age != Forever {
				l.setTimer(&c.timer)
			}
		}
	}
	return c, nil
}

func (c *completion[F]) String() string { return "AsCompleted()" }

// next waits for the next future. ok is false if there is none left.
func (c *completion[F]) next(ctx context.Context) (f F, ok bool, err error) {
	for {
		switch {
		case c.left == 0:
			return f, false, nil
		case ctx.Err() != nil:
			return f, false, context.Cause(ctx)
		case len(c.done) > 0:
			f, c.done = c.done[0], c.done[1:]
			if c.left--; c.left == 0 {
				c.waiters.wakeAll() // other tasks may share the iterator
			}
			return f, true, nil
		case c.late:
			return f, false, &TimeoutError{When: c.timer.when}
		}
		t, err := taskOf(ctx, "AsCompleted")
		if err != nil {
			return f, false, err
		}
		if woken, err := c.waiters.wait(ctx, t, c); err != nil {
			if woken {
				c.waiters.wakeNext()
			}
			return f, false, err
		}
	}
}

func (i *completing[F]) fire(*future) {
	c := i.c
	if c.late {
		return
	}
	c.done = append(c.done, i.f)
	c.waiters.wakeNext()
	if c.todo--; c.todo == 0 {
		c.loop.timers.remove(&c.timer)
	}
}

func (*completing[F]) quick() {}

func (i *completing[F]) awaiters() []*task { return i.c.waiters.tasks() }

func (i *completing[F]) String() string { return "AsCompleted()" }

// completionTimeout is a completion as the callback of its timer.
type completionTimeout[F AnyFuture] completion[F]

func (c *completionTimeout[F]) fire(*future) {
	if c.todo == 0 {
		return // the last one came just before
	}
	c.late = true
	for i := range c.items {
		c.items[i].f.core().removeCallback(&c.items[i])
	}
	c.waiters.wakeAll()
}

func (*completionTimeout[F]) quick() {}
