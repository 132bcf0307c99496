package asyncio

import (
	"context"
	"fmt"
	"strings"
)

// Shield returns a future that completes as aw does, and whose cancellation leaves aw alone:
//
//	v, err := asyncio.Shield(ctx, task).Await(ctx)
//
// is task.Await(ctx), but a cancel of the calling task ends the wait at once, and task goes on. A
// coroutine becomes a task. What is done already is returned itself.
//
// If aw is cancelled, so is the future. If it fails after the future was cancelled, and nobody
// else has retrieved the error by then, that goes to the exception handler as "… exception in shielded future".
//
// It is for the loop only and does not suspend. It panics as [EnsureFuture] does, and with
// [ErrInvalidArgument] if aw is nil. Python: asyncio.shield.
func Shield[T any](ctx context.Context, aw Awaitable[T]) *Future[T] {
	l := mustLoop(ctx, "Shield")
	if aw == nil || isNil(aw) {
		panic(fmt.Errorf("%w: nil awaitable (in Shield)", ErrInvalidArgument))
	}
	inner := EnsureFuture(ctx, aw)
	if inner.state != pending {
		return inner
	}
	if err := l.checkFuture(inner, "Shield"); err != nil {
		panic(err)
	}
	s := &shield[T]{inner: inner, outer: &Future[T]{future: future{loop: l}}}
	inner.addCallback(s)
	s.outer.addCallback((*shieldOuter[T])(s))
	return s.outer
}

// shield is one call of Shield, as the done callback of the inner future.
type shield[T any] struct {
	inner, outer *Future[T]
}

func (s *shield[T]) fire(*future) {
	inner, outer := s.inner, s.outer
	if outer.state != pending {
		return
	}
	inner.retrieved()
	if inner.state == cancelled {
		outer.finishCancelled(asCancelled(inner.err))
		outer.err = inner.err
		return
	}
	outer.value = inner.value
	outer.finish(inner.err)
}

func (s *shield[T]) String() string { return "Shield()" }

// shieldOuter is a shield as the done callback of the outer future.
type shieldOuter[T any] shield[T]

func (s *shieldOuter[T]) fire(*future) {
	inner := &s.inner.future
	if inner.state != pending {
		return
	}
	inner.removeCallback((*shield[T])(s))
	inner.addCallback(lateError{})
}

func (s *shieldOuter[T]) String() string { return "Shield()" }

// lateError reports an error that nobody is left to be given. Of several shields one reports, because
// the error then counts as retrieved.
type lateError struct{}

func (lateError) fire(f *future) {
	if f.state == cancelled || !f.unretrieved() {
		return
	}
	f.retrieved()
	c := ExceptionContext{
		Message:   strings.TrimPrefix(fmt.Sprintf("%T", f.err), "*") + " exception in shielded future",
		Exception: f.err,
	}
	if t, ok := f.super.(*task); ok {
		c.Task = t.self
	}
	f.loop.CallExceptionHandler(c)
}

func (lateError) String() string { return "Shield()" }
