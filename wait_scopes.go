package asyncio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Scopes are the level-triggered kind of limit (design rule design 2): the body gets a context that
// ends, and from then on every await made with it fails, not only one. They do not touch the task's
// cancel count, and a [Future.Cancel] of the task passes through them.

// MoveOnAfter runs body with a context that ends when d has passed on the loop's clock, and reports
// whether that end stopped body. If body returns the end of its context, wrapped or not, the result
// is true and a nil error. Otherwise body's error is returned as it is, even if body took longer
// than d. A task group or [Gather] in body counts as body does. The end of another scope is not the
// end of this one, and neither is a cancel caused by a deadline, or a panic. If the task is
// cancelled while it waits, and the time is up before the wait is over, the wait returns the
// cancel.
//
// Only calls that are given the body's context learn of its end. The Read and Write of a [Conn]
// take no context, and neither does code written for a [net.Conn], such as bufio: limit those with
// [Timeout] or [Conn.SetDeadline].
//
// MoveOnAfter must be called in a task and suspends only where body does. Its own errors are those
// of [Timeout]. Python has no counterpart; trio and anyio: move_on_after.
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

// limit runs body for d. If body's error is the end of that time, limit also returns the cause with
// which the context ended.
func limit(ctx context.Context, d time.Duration, body func(ctx context.Context) error, caller string) (*TimeoutError, error) {
	if body == nil {
		return nil, fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller)
	}
	t, err := taskOf(ctx, caller)
	if err != nil {
		return nil, err
	}
	c := newClockContext(ctx, caller)
	// The cause is this scope's own, so a scope can distinguish its end from that of a scope around
	// it.
	cause := &TimeoutError{When: t.loop().after(d)}
	if cause.When.age != Forever {
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

// Cleanup runs body as work that has to be finished: for as long as budget, neither the end of ctx
// nor a cancel of the task interrupts it. When budget has passed on the loop's clock, the context
// given to body ends, and Cleanup returns as [FailAfter] does.
//
//	defer func() {
//		if e := asyncio.Cleanup(ctx, 5*time.Second, conn.Shutdown); e != nil {
//			err = errors.Join(err, e)
//		}
//	}()
//
// A cancel of the task that arrives meanwhile, or had not been delivered before, is counted at once
// ([Task.Cancelling]) and delivered after body has returned, at the task's next await. So are the
// cancels of timeouts and task groups around Cleanup; those inside body work as usual. If body
// waits for a task or future, a cancel of that is not held back. Cleanups may be nested.
//
// Cleanup must be called in a task, and suspends only where body does. In a deferred function of a
// task that a closing loop unwinds, body runs too, but cannot await. Its own errors are those of
// [Timeout]. Python has no counterpart; trio: move_on_after(t, shield=True), Kotlin:
// NonCancellable.
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
	if t.cleanups == math.MaxUint16 {
		return fmt.Errorf("%w: %d Cleanups in one another (in Cleanup)", ErrInvalidArgument, t.cleanups)
	}
	t.enterCleanup()
	defer t.exitCleanup()
	return failAfter(ctx, budget, body, "Cleanup")
}
