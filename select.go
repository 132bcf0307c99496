package asyncio

import (
	"context"
	"fmt"
	"slices"
)

// How a task waits for the first of several things and leaves the others as they are.
//
//	select 1: Select looks at its branches in the order of the arguments, and the first that need
//	   not wait wins. So of several that are ready the first wins, whichever was ready first. If
//	   none is, the task joins the queue of every branch and parks once; whoever wakes it does not
//	   choose for it: it looks again, in the same order. If somebody was faster, it waits again.
//	select 2: A task is woken once. Who wakes a waiter of a task that has been woken by another
//	   branch is told so and goes on to the next waiter, as if the task had been cancelled (waiter
//	   2). So at most one branch hands something over. If that is not the one that wins, it passes
//	   on what it was given before Select returns: a turn at a lock, a permit, a wake-up of a queue.
//	select 3: A value moves only where the branch wins: out of a queue, into one, through a channel.
//	   Channels have a listener (channel 2) for all channels of the Select together, so that one
//	   operation happens at most. One that has happened cannot be undone, so it wins, whatever is
//	   ready before it (channel 3). On virtual time there is no such race.
//	select 4: A future or task that does not win, of this loop or of another (ConcurrentFuture), is
//	   left alone. A coroutine is a task of Select's own, made when nothing was ready. If it does
//	   not win it is cancelled, and Select waits until it has ended. What it ended with in spite of
//	   that is kept in its Case; an error there that nobody looks at is reported like that of any
//	   task.
//	select 5: A cancel of the task, or the end of ctx, ends the wait as if no branch had won. A
//	   cancel that comes while Select waits for its coroutines to end is passed on to them; if a
//	   branch had won, it is delivered at the task's next await.
//	select 6: Also when it panics (a send to a closed channel, the compare of a PriorityQueue) or
//	   is unwound with its loop, Select has left every queue.

// selecting is one call of Select, as the callback of its futures.
type selecting struct {
	ctx      context.Context
	t        *task
	branches []branch
	channels channelWait
	started  []AnyTask // coroutines (select 4)
	left     bool      // callbacks scheduled before that may still come
	closing  bool      // waits for started
}

// Select waits for the first of several branches and returns it. Of several that are ready, the
// first in the order of the arguments wins. What the others wait for is not touched: no value is
// taken from a queue or channel, no permit from a semaphore, no task is cancelled. Each branch is a
// [Case], which then has the result:
//
//	job, quit := asyncio.OnGet(jobs), asyncio.OnDone(stop)
//	for {
//		won, err := asyncio.Select(ctx, quit, job)
//		switch won {
//		case quit:
//			return nil
//		case job:
//			j, err := job.Result()
//			…
//		default:
//			return err
//		}
//	}
//
// won is compared to the cases, so one that matters needs a variable: one written in the call is
// told only by its not being any of the others, and has won if won is not nil.
//
// It suspends the calling task if no branch is ready; else only to let others go on, for an
// iteration, in a task that has called it sixteen times without that, and not with a [Default]. A
// coroutine given to [OnDone] is cancelled if another branch wins, and Select waits until it has
// ended.
//
// A cancel of the calling task ends the wait; no branch has won then, and futures and tasks are not
// cancelled. But if goroutines use a channel, it may come too late to stop the operation: Select
// returns that branch, and the cancel is delivered at the next await. The same holds when ctx ends.
//
// With an error the case returned is nil. Errors:
//   - a [CancelledError] if the calling task was cancelled;
//   - the cause of ctx if that is done, also if a branch is ready;
//   - [ErrInvalidArgument] without any case, for one that is nil, given twice or at work in
//     another Select, and for a nil context, future, queue or lock;
//   - [ErrDifferentLoop], [ErrAwaitSelf], [ErrNotInTask], [ErrNoRunningLoop],
//     [ErrForeignGoroutine].
//
// A result of a branch that is an error is no error of Select's. It panics if a channel to send to
// is closed, as Go's select does. Python has no counterpart; the nearest is asyncio.wait with
// FIRST_COMPLETED on a task for each branch, which loses what two of them got at a time.
func Select(ctx context.Context, cases ...AnyCase) (won AnyCase, err error) {
	t, err := enter(ctx, "Select")
	if err != nil {
		return nil, err
	}
	if len(cases) == 0 || len(cases) > maxCases {
		return nil, fmt.Errorf("%w: %d cases (in Select)", ErrInvalidArgument, len(cases))
	}
	s := &selecting{ctx: ctx, t: t, branches: make([]branch, 0, len(cases))}
	s.channels.t = t
	defer func() {
		for _, c := range cases[:len(s.branches)] {
			c.end()
		}
	}()
	for _, c := range cases {
		if c == nil {
			return nil, fmt.Errorf("%w: a nil case (in Select)", ErrInvalidArgument)
		}
		b, err := c.begin()
		if err != nil {
			return nil, err
		}
		s.branches = append(s.branches, b)
		if err := b.check(t); err != nil {
			return nil, err
		}
	}

	if !s.hasDefault() && !t.loop().mayGoOn() { // channel 1
		if err := t.giveWay(ctx); err != nil {
			return nil, err
		}
	}

	defer func() { // select 6, and after each Select that has chosen
		s.leave()
		if late := s.stop(err); late != nil && won == nil && err != nil {
			err = late
		} else if late != nil {
			t.deliverAgain(context.WithoutCancel(ctx), late)
		}
	}()
	i, err := s.choose()
	if err != nil {
		return nil, err
	}
	cases[i].win()
	return cases[i], nil
}

// maxCases is what a listener can do (reflect.Select), less its stop signal.
const maxCases = 1<<16 - 1

// choose returns the index of the branch that wins.
func (s *selecting) choose() (int, error) {
	for joined := false; ; joined = true {
		if i, ok := s.try(); ok {
			return i, nil
		}
		for i, b := range s.branches {
			if d, ok := b.(*defaultBranch); ok {
				d.c.ok = true
				return i, nil
			}
		}
		if !joined {
			for _, b := range s.branches {
				if err := b.bind(s.t); err != nil {
					return 0, err
				}
			}
			if s.start() { // what has run eagerly may have made a branch ready
				if i, ok := s.try(); ok {
					return i, nil
				}
			}
		}
		s.channels.ops = s.channels.ops[:0]
		for _, b := range s.branches {
			b.join(s)
		}
		s.channels.begin()
		err := s.t.park(s.ctx, s)
		s.channels.leave()
		if over := s.channels.over; over != nil { // select 3
			s.t.deliverAgain(s.ctx, err)
			for i, b := range s.branches {
				if c, ok := b.(channelBranch); ok && c.happened(over) {
					return i, nil
				}
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

// hasDefault reports whether this Select must not suspend.
func (s *selecting) hasDefault() bool {
	return slices.ContainsFunc(s.branches, func(b branch) bool { _, ok := b.(*defaultBranch); return ok })
}

// try returns the index of the first branch that need not wait.
func (s *selecting) try() (int, bool) {
	for i, b := range s.branches {
		if b.try(s) {
			return i, true
		}
	}
	return 0, false
}

// start makes tasks of the coroutines, and reports whether there are any.
func (s *selecting) start() bool {
	for _, b := range s.branches {
		if b, ok := b.(interface{ start(*selecting) }); ok {
			b.start(s)
		}
	}
	return len(s.started) > 0
}

// leave ends to wait for anything but the end of the coroutines.
func (s *selecting) leave() {
	s.left = true
	s.channels.leave() // if the loop unwinds the task
	for _, b := range s.branches {
		b.leave(s)
	}
}

// stop cancels the coroutines that have not ended and waits until they have. err is what ended the
// wait, if no branch did. It returns the last cancel that came meanwhile.
func (s *selecting) stop(err error) (late *CancelledError) {
	t := s.t
	if !s.running() || t.loop().closing.Load() {
		return nil
	}
	c, ok := err.(*CancelledError)
	if !ok {
		c = &CancelledError{Msg: "its Select is over", By: t.GetName()}
	}
	s.left, s.closing = false, true
	defer func() { s.left = true }()
	for _, child := range s.started {
		if !child.Done() {
			child.core().addCallback(s)
		}
	}
	ctx := context.WithoutCancel(s.ctx)
	for s.running() {
		t.descending = true // task 7: a coroutine may wait for this task
		for _, child := range s.started {
			child.core().cancel(c)
		}
		t.descending = false
		for s.running() {
			if again, ok := t.park(ctx, s).(*CancelledError); ok {
				c, late = again, again
				break
			}
		}
	}
	return late
}

// running reports whether a coroutine has not ended.
func (s *selecting) running() bool {
	for _, child := range s.started {
		if !child.Done() {
			return true
		}
	}
	return false
}

func (s *selecting) fire(*future) {
	if !s.left && !(s.closing && s.running()) {
		s.t.unpark()
	}
}

func (s *selecting) String() string { return "Select()" }
