package asyncio

import (
	"context"
	"fmt"
	"slices"
)

// A task waits for the first of several events and leaves the others as they are.
//
//	select 1: Select looks at its branches in the order of the arguments, and the first that need
//	   not wait wins. So if several are ready the first in that order wins, whichever was ready
//	   first. If none is, the task joins the queue of every branch and parks once. A wake-up does
//	   not choose for the task: it looks again, in the same order. If another task was faster, it
//	   waits again.
//	select 2: A task is woken once. If a waker finds that another branch has woken the task already,
//	   it goes on to the next waiter, as if the task had been cancelled (waiter 2). So at most one
//	   branch is handed something. If that branch does not win, it passes the gift on before Select
//	   returns: a turn at a lock, a permit, a wake-up of a queue.
//	select 3: A value moves only where the branch wins: out of a queue, into one, through a channel.
//	   All channels of a Select share one listener (channel 2), so that at most one operation
//	   happens. An operation that has happened cannot be undone, so it wins, even over branches
//	   before it that are ready (channel 3). On virtual time there is no such race.
//	select 4: A future or task that does not win, of this loop or of another (ConcurrentFuture), is
//	   left alone. A coroutine runs in a task of Select's own, made when nothing was ready. If it
//	   does not win it is cancelled, and Select waits until it has ended. A result that it has all
//	   the same is kept in its Case; an error there that nobody looks at is reported like that of
//	   any task.
//	select 5: A cancel of the task, or the end of ctx, ends the wait as if no branch had won. A
//	   cancel that comes while Select waits for its coroutines to end is passed on to them; if a
//	   branch had won, the cancel is delivered at the task's next await.
//	select 6: Select leaves every queue also when it panics (a send to a closed channel, the compare
//	   of a PriorityQueue) or is unwound with its loop.

// selecting is one call of Select. It is also the callback of its futures.
type selecting struct {
	ctx      context.Context
	t        *task
	branches []branch
	channels channelWait
	started  []AnyTask // coroutines (select 4)
	left     bool      // no longer in any queue; callbacks scheduled before may still come
	closing  bool      // waits for started to end
}

// Select waits for the first of several branches and returns it. If several are ready, the first in
// the order of the arguments wins. The other branches take nothing: no value from a queue or
// channel and no permit from a semaphore, and they cancel no task. Each branch is a [Case], which
// then has the result:
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
// Keep each Case that you want to recognise in a variable, and compare won to it. A Case written in
// the call can be identified only by elimination: it has won if won is neither nil nor any of the
// others.
//
// Select suspends the calling task if no branch is ready. If one is ready, it suspends only to let
// other tasks go on, for an iteration, after sixteen calls in the task without a wait, and never
// with a [OnDefault]. A coroutine given to [OnDone] is cancelled if another branch wins, and Select
// waits until it has ended.
//
// A cancel of the calling task ends the wait; no branch has won then, and futures and tasks are not
// cancelled. But if goroutines use a channel, the cancel may come too late to stop the operation:
// then Select returns that branch, and the cancel is delivered at the next await. The same holds
// when ctx ends.
//
// With an error the case returned is nil. Errors:
//   - a [CancelledError] if the calling task was cancelled;
//   - the cause of ctx if that is done, also if a branch is ready;
//   - [ErrInvalidArgument] without any case, for a case that is nil, given twice or in use by
//     another Select, and for a nil context, future, queue or lock;
//   - [ErrDifferentLoop], [ErrAwaitSelf], [ErrNotInTask], [ErrNoRunningLoop],
//     [ErrForeignGoroutine].
//
// If the result of a branch is an error, Select itself does not fail. It panics if a channel to
// send to is closed, as Go's select does. Python has no counterpart; the nearest is asyncio.wait
// with FIRST_COMPLETED on a task for each branch, which loses a result if two branches get one at a
// time.
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

	if !s.hasDefault() && !t.loop().mayGoOn() { // a task that never waits gives way (channel 1)
		if err := t.giveWay(ctx); err != nil {
			return nil, err
		}
	}

	defer func() { // Select leaves every queue, also by a panic (select 6)
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

// maxCases is the limit of a listener (reflect.Select), less its stop signal.
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
			if s.start() { // a coroutine that ran eagerly may have made a branch ready
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
		// The first branch to wake the task is the only one (select 2).
		err := s.t.park(s.ctx, s)
		s.channels.leave()
		if over := s.channels.over; over != nil { // an operation that has happened wins (select 3)
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

// leave ends the waits of all branches, except for the end of the coroutines.
func (s *selecting) leave() {
	s.left = true
	s.channels.leave() // if the loop unwinds the task
	for _, b := range s.branches {
		b.leave(s)
	}
}

// stop cancels the coroutines that have not ended and waits until they have (select 5). err is the
// error that ended the wait, if no branch did. stop returns the last cancel that came meanwhile.
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

func (*selecting) quick() {}

func (s *selecting) awaiters() []*task { return []*task{s.t} }

func (s *selecting) String() string { return "Select()" }
