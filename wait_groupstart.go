package asyncio

import (
	"context"
	"fmt"
	"math"
)

// GroupStart creates a child that reports when it is ready, and waits until it does. For example, a
// server reports its address, and then goes on serving in the group. child calls Started of its
// status once; GroupStart returns the value given to Started.
//
// A child that ends before it is ready has failed to start. GroupStart returns its error, or
// [ErrInvalidState] if it has none; the error does not abort the group, unless it is a panic.
//
// A cancel of the calling task, or the end of ctx, cancels the child. GroupStart goes on waiting
// until the child has ended, or is ready after all. If the child calls Started before it has heard
// of the cancel, because a [Cleanup] holds that back, the caller could not rely on the child:
// GroupStart returns the cancel, or the cause of ctx, and the group waits for the child. Once it is
// ready the child is like any other.
//
// The child gets the group's ctx: a limit of the start must not end a child that has started. If it
// needs more of the caller's ctx, its function must capture that.
//
// GroupStart must be called in a task and may suspend; under a [GroupLimit] also for the child's
// turn. Other errors are [ErrInvalidArgument], [ErrNotInTask], and [ErrInvalidState] if the group
// has been left. Python has no counterpart; trio: nursery.start.
func GroupStart[R any](ctx context.Context, tg *TaskGroup, child func(ctx context.Context, status *TaskStatus[R]) error, opts ...TaskOption) (R, error) {
	var zero R
	if child == nil {
		return zero, fmt.Errorf("%w: nil function (in GroupStart)", ErrInvalidArgument)
	}
	t, err := enter(ctx, "GroupStart")
	if err != nil {
		return zero, err
	}
	if err := tg.checkMade("GroupStart"); err != nil {
		return zero, err
	}
	if t.loop() != tg.loop {
		return zero, fmt.Errorf("%w: %v (in GroupStart)", ErrDifferentLoop, tg)
	}
	if tg.exiting && tg.count == 0 {
		return zero, fmt.Errorf("%w: the task group is finished (in GroupStart)", ErrInvalidState)
	}
	s := &TaskStatus[R]{}
	s.ready.loop, s.ready.super = t.loop(), s
	groupTask(tg.ctx, tg, Do(func(ctx context.Context) error { return child(ctx, s) }), s, "GroupStart", opts)
	v, err := s.ready.Await(ctx)
	if s.ready.state != pending {
		return v, err
	}
	// err may also be a cancel that has gone down to the child
	ended := &CancelledError{cause: context.Cause(ctx)}
	s.cancel(ended)
	v, late := s.ready.Await(context.WithoutCancel(ctx))
	switch {
	case asCancelled(late) == nil:
		return v, late
	case s.asked != nil && s.asked != ended:
		return v, s.asked
	}
	return v, err
}

// A child made by [GroupStart] uses its TaskStatus to say that it is ready. trio and anyio:
// TaskStatus.
type TaskStatus[R any] struct {
	ready Future[R] // GroupStart waits for this
	task  *task
	asked *CancelledError // the last cancel that was passed on to the child
}

// anyStatus is a *TaskStatus with any type of value.
type anyStatus interface {
	setChild(t *task)
	childEnded(f *future) (beforeReady bool)
}

// Started says that the child is ready and hands v to the caller of GroupStart. It is for the loop
// only, and for the child, which goes on with its work; it does not suspend. It returns
// [ErrInvalidState] if the child has called it before.
func (s *TaskStatus[R]) Started(v R) error {
	if s.ready.loop == nil {
		return fmt.Errorf("%w: a zero TaskStatus: GroupStart makes one (in Started)", ErrInvalidArgument)
	}
	if err := s.ready.loop.checkOwner("Started"); err != nil {
		return err
	}
	if s.ready.state != pending {
		return fmt.Errorf("%w: Started was called before", ErrInvalidState)
	}
	if s.asked != nil && s.task.owed(math.MaxInt) > 0 { // the child has not heard of the cancel
		s.ready.finishCancelled(s.asked)
		return nil
	}
	s.ready.value = v
	s.ready.finish(nil)
	return nil
}

func (s *TaskStatus[R]) setChild(t *task) { s.task = t }

func (s *TaskStatus[R]) childEnded(f *future) bool {
	if s.ready.state != pending {
		return false
	}
	switch {
	case f.state == cancelled:
		s.ready.finishCancelled(asCancelled(f.err))
		s.ready.err = f.err
	case f.err != nil:
		s.ready.finish(f.err)
	default:
		s.ready.finish(fmt.Errorf("%w: the child ended without calling Started", ErrInvalidState))
	}
	return true
}

// cancel passes a cancel of GroupStart's caller on to the child.
func (s *TaskStatus[R]) cancel(c *CancelledError) cancelAnswer {
	if s.ready.state != pending {
		return refused
	}
	answer := s.task.cancel(c)
	if answer == accepted {
		s.asked = c
	}
	return answer
}
