package asyncio

import (
	"context"
	"fmt"
)

// Shield returns a future that completes as aw does, and whose cancellation leaves aw alone:
//
//	v, err := asyncio.Shield(ctx, task).Await(ctx)
//
// is task.Await(ctx), but a cancel of the calling task ends the wait at once, and task goes on. A
// coroutine becomes a task. What is done already is returned itself.
//
// If aw is cancelled, so is the future. If it fails after the future was cancelled, that is an
// error of aw like any other: it is reported if nobody retrieves it, through aw or a future of
// Shield's. Of a future that was cancelled nothing stays at aw.
//
// A shield is against cancels. That ctx ends leaves what is awaited alone in any case, so a wait
// which only a deadline is to end needs none.
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
	if inner.state == cancelled {
		outer.finishCancelled(asCancelled(inner.err))
		outer.err = inner.err
		return
	}
	outer.value = inner.value
	outer.mirror(&inner.future)
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
}

func (s *shieldOuter[T]) String() string { return "Shield()" }
