package asyncio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Scopes are the level-triggered kind of limit (design rule R2): the body gets a context that
// ends, and every await made with it fails from then on, not only one. They do not touch the
// task's cancel count, and a [Future.Cancel] of the task passes through them.

// MoveOnAfter runs body with a context that ends when d has passed on the loop's clock, and
// reports whether that is what ended body: if body returns the end of its context, wrapped or not,
// the result is true and a nil error. Otherwise body's error is returned as it is; that it
// took longer does not matter by itself. A task group or [Gather] in body counts as body does.
//
// It must be called in a task and suspends only where body does. Its own errors are those of
// [Timeout]. Python has no counterpart; trio and anyio: move_on_after.
func MoveOnAfter(ctx context.Context, d time.Duration, body func(ctx context.Context) error) (expired bool, err error) {
	timeout, err := limit(ctx, d, body, "MoveOnAfter")
	if timeout != nil {
		return true, nil
	}
	return false, err
}

// FailAfter is [MoveOnAfter] with an error: if the time ended body, it returns a [*TimeoutError],
// or body's error if that wraps one. trio and anyio: fail_after.
func FailAfter(ctx context.Context, d time.Duration, body func(ctx context.Context) error) error {
	return failAfter(ctx, d, body, "FailAfter")
}

func failAfter(ctx context.Context, d time.Duration, body func(ctx context.Context) error, caller string) error {
	timeout, err := limit(ctx, d, body, caller)
	if timeout != nil && !errors.Is(err, ErrTimeout) {
		return &TimeoutError{When: timeout.When, From: err}
	}
	return err
}

// limit runs body for d. If the end of that time is what body's error says, it returns
// also the cause that the context ended with.
func limit(ctx context.Context, d time.Duration, body func(ctx context.Context) error, caller string) (*TimeoutError, error) {
	if body == nil {
		return nil, fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller)
	}
	t, err := taskOf(ctx, caller)
	if err != nil {
		return nil, err
	}
	c := newClockContext(ctx, caller)
	// The cause is this scope's own, so a scope can tell its end from that of one around it.
	cause := &TimeoutError{When: t.loop().after(d)}
	if cause.When != Forever {
		c.setDeadline(cause.When, cause)
	}
	defer func() {
		c.cancel(nil)
		c.arrive()
	}()
	err = body(c)
	if context.Cause(c) == cause && isEndOf(c, err) {
		return cause, err
	}
	return nil, err
}

// isEndOf reports whether err is, or wraps, what code returns that stopped because ctx is done.
// Joined errors are not searched: such an error beside real failures does not hide them.
func isEndOf(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	cause := context.Cause(ctx)
	for err != nil {
		if same(err, context.Canceled) || same(err, context.DeadlineExceeded) || same(err, cause) {
			return true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

// same is a == b for errors that may be of a type that cannot be compared.
func same(a, b error) bool {
	if va, vb := reflect.ValueOf(a), reflect.ValueOf(b); va.Type() != vb.Type() {
		return false
	} else if !va.Comparable() || !vb.Comparable() {
		return reflect.DeepEqual(a, b)
	}
	return a == b
}

// Cleanup runs body as work that has to be finished: neither the end of ctx nor a cancel of
// the task interrupts it, for as long as budget. When that has passed on the loop's clock, the context
// given to body ends, and Cleanup returns as [FailAfter] does.
//
//	defer func() {
//		if e := asyncio.Cleanup(ctx, 5*time.Second, conn.Shutdown); e != nil {
//			err = errors.Join(err, e)
//		}
//	}()
//
// A cancel of the task that arrives meanwhile, or had not been delivered before, is
// counted at once ([Task.Cancelling]) and delivered after body has returned, at the task's next
// await. That goes for the timeouts and task groups around Cleanup too; those inside body work as ever.
// A cancel of something that body waits for is not held back. Cleanups may be nested.
//
// It must be called in a task, and suspends only where body does. In a deferred function of a task
// that a closing loop unwinds body runs too, but cannot await. Its own errors are those of
// [Timeout]. Python has no counterpart; trio: move_on_after(t, shield=True), Kotlin: NonCancellable.
func Cleanup(ctx context.Context, budget time.Duration, body func(ctx context.Context) error) error {
	t, err := taskOf(ctx, "Cleanup")
	closed := errors.Is(err, ErrLoopClosed) && body != nil
	if err != nil && !closed {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if closed {
		return body(ctx)
	}
	defer t.enterCleanup().exit(t)
	return failAfter(ctx, budget, body, "Cleanup")
}

// cleanup is one call of Cleanup that a task is in; nil is none.
//
//	N1 Cleanups are counted from the outermost, which is 1 deep. What cancels a task has a depth of
//	   its own: a timeout or group of the task's, the number of Cleanups it was opened in; anything
//	   else, none.
//	N2 A cancel is held back by the outermost Cleanup that is deeper than it, and delivered when
//	   that ends. Of several, the first is.
type cleanup struct {
	outer *cleanup
	depth int
	late  *CancelledError // held back
}

func (t *task) enterCleanup() *cleanup {
	c := &cleanup{outer: t.cleanup, depth: t.cleanup.nesting() + 1}
	if t.mustCancel {
		t.mustCancel, c.late = false, t.cancelErr
	}
	t.cleanup = c
	return c
}

func (c *cleanup) exit(t *task) {
	t.cleanup = c.outer
	if c.late != nil && !t.mustCancel {
		t.mustCancel, t.cancelErr = true, c.late
	}
}

func (c *cleanup) nesting() int {
	if c == nil {
		return 0
	}
	return c.depth
}

// defers holds e back, if N2 says so.
func (c *cleanup) defers(e *CancelledError, depth int) bool {
	if c.nesting() <= depth {
		return false
	}
	for c.depth > depth+1 {
		c = c.outer
	}
	if c.late == nil {
		c.late = e
	}
	return true
}

// forget drops what is held back.
func (c *cleanup) forget() {
	for ; c != nil; c = c.outer {
		c.late = nil
	}
}
