package asyncio

import (
	"context"
	"fmt"
)

// Shield returns a future that completes as aw does, but whose cancellation does not reach aw:
//
//	v, err := asyncio.Shield(ctx, task).Await(ctx)
//
// This is task.Await(ctx), except that a cancel of the calling task ends the wait at once, and task
// goes on. A coroutine becomes a task. If aw is a future or task that is done, Shield returns its
// future.
//
// If aw is cancelled, so is the returned future. If aw fails after the returned future was
// cancelled, its error is treated like any other: it is reported if nobody retrieves it, through aw
// or a future of Shield's. A returned future that was cancelled leaves nothing registered with aw.
//
// A shield protects from cancels. The end of ctx never reaches the awaited future anyway, so a wait
// that only a deadline is to end needs no shield.
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

func (*shield[T]) quick() {}

func (s *shield[T]) awaiters() []*task { return s.outer.awaitedBy() }

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

func (*shieldOuter[T]) quick() {}

func (s *shieldOuter[T]) String() string { return "Shield()" }
