package asyncio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Scopes are the level-triggered kind of limit (design rule design 2): the body gets a context that
// ends, and every await made with it fails from then on, not only one. They do not touch the
// task's cancel count, and a [Future.Cancel] of the task passes through them.

// MoveOnAfter runs body with a context that ends when d has passed on the loop's clock, and reports
// whether that is what ended body: if body returns the end of its context, wrapped or not, the
// result is true and a nil error. Otherwise body's error is returned as it is; that it took longer
// does not matter by itself. A task group or [Gather] in body counts as body does. The end of
// another scope is not the end of this one, and neither is a cancel with a deadline for its cause,
// or a panic. If the task is cancelled while it waits, and the time is up before the wait is over,
// the wait returns the cancel.
//
// Only what is given the body's context hears of its end. The Read and Write of a [Conn] take none,
// and with them all that is written for a [net.Conn], as bufio is: limit those with [Timeout] or
// [Conn.SetDeadline].
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

// isEndOf reports whether err is, or wraps, what code returns that stopped because ctx is done: the
// cause, or one of the two errors that Err of a context can be. It asks for these very errors, not
// for what matches them. A cancel that has one of them for its cause is a cancel all the same
// (design 2), and a panic stays one (design 4). Joined errors are not searched: such an error
// beside real failures does not hide them.
func isEndOf(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	cause := context.Cause(ctx)
	for err != nil {
		if same(err, context.Canceled) || same(err, context.DeadlineExceeded) || same(err, cause) {
			return true
		}
		err = unwrap(err)
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

// Cleanup runs body as work that has to be finished: neither the end of ctx nor a cancel of the
// task interrupts it, for as long as budget. When that has passed on the loop's clock, the context
// given to body ends, and Cleanup returns as [FailAfter] does.
//
//	defer func() {
//		if e := asyncio.Cleanup(ctx, 5*time.Second, conn.Shutdown); e != nil {
//			err = errors.Join(err, e)
//		}
//	}()
//
// A cancel of the task that arrives meanwhile, or had not been delivered before, is counted at once
// ([Task.Cancelling]) and delivered after body has returned, at the task's next await. That goes
// for the timeouts and task groups around Cleanup too; those inside body work as ever. A cancel of
// something that body waits for is not held back. Cleanups may be nested.
//
// It must be called in a task, and suspends only where body does. In a deferred function of a task
// that a closing loop unwinds body runs too, but cannot await. Its own errors are those of
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
