package asyncio

import (
	"context"
	"fmt"
)

// A Lock is a mutual exclusion lock for the tasks of a loop. Use it for state that must stay
// consistent across an await; between two awaits nothing else runs. It is fair: tasks get it in the
// order they asked. It is not reentrant, and any task may release it. The zero value is unlocked;
// it must not be copied. Python: asyncio.Lock, where "async with lock" is
//
//	if err := lock.Acquire(ctx); err != nil {
//		return err
//	}
//	defer lock.Release()
//
// Its methods are for the loop only. A lock serves one loop at a time: see [Lock.Acquire].
type Lock struct {
	primitive
	owner  *task
	locked bool
}

// LockStatistics is a [Lock] at one moment, for debugging.
type LockStatistics struct {
	Locked  bool
	Owner   AnyTask   // the task that acquired it, nil if it is unlocked
	Waiters []AnyTask // in the order they will be served
}

// Acquire locks the lock. If it is locked, or others wait for it, it suspends the calling task
// until its turn has come; otherwise it does not suspend.
//
// A cancel of the task, or the end of ctx, ends the wait with an error, and the lock is then not
// acquired; a turn that had been given to the task goes to the next. Acquire returns
//   - a [CancelledError] if the task was cancelled;
//   - the cause of ctx if that is done, even if the lock is free;
//   - [ErrDifferentLoop] if it would have to wait while another loop that is not closed
//     uses the lock;
//   - [ErrNotInTask], [ErrNoRunningLoop], [ErrForeignGoroutine], [ErrLoopClosed] or
//     [ErrInvalidArgument].
//
// Python: Lock.acquire.
func (l *Lock) Acquire(ctx context.Context) error {
	t := inTask(ctx)
	if t == nil {
		var err error
		if t, err = enter(ctx, "Acquire"); err != nil {
			return err
		}
	}
	if !l.locked && l.queue.first == nil {
		l.locked, l.owner = true, t
		return nil
	}
	return l.acquire(ctx, t)
}

func (l *Lock) acquire(ctx context.Context, t *task) error {
	if err := t.loop().checkOwner("Acquire"); err != nil {
		return err
	}
	if !l.locked && !l.queue.hasLive() {
		l.locked, l.owner = true, t
		return nil
	}
	if err := l.bindTo(t); err != nil {
		return err
	}
	if _, err := l.queue.wait(ctx, t, l); err != nil {
		l.passOn()
		return err
	}
	l.locked, l.owner = true, t
	return nil
}

func (l *Lock) acquiring() acquiring { return l }

// tryAcquire is also for a task that has woken and may have left its turn unused. Between a release
// and the resumption of the waiter that it woke, the lock is unlocked, but the waiter is in the
// queue and keeps the waiters behind it from taking the lock.
func (l *Lock) tryAcquire(w *waiter) bool {
	if l.locked || l.queue.liveBefore(w) {
		return false
	}
	l.locked, l.owner = true, w.t
	return true
}

func (l *Lock) bindTo(t *task) error {
	if l.owner != nil && l.owner.loop() != t.loop() && !l.owner.loop().closed.Load() {
		return fmt.Errorf("%w: the lock is held there (in Acquire)", ErrDifferentLoop)
	}
	return l.bind(t, "Acquire")
}

func (l *Lock) waiting() *waitQueue { return &l.queue }

func (l *Lock) leave(w *waiter, acquired bool) {
	l.queue.remove(w)
	if !acquired {
		l.passOn()
	}
}

// passOn gives the turn at a free lock to the next waiter.
func (l *Lock) passOn() {
	if !l.locked {
		l.queue.wakeFirst()
	}
}

// Release unlocks the lock and wakes the task that has waited longest. It does not suspend. Any
// task or callback of the loop may call it, not only the task that acquired the lock. It panics
// with [ErrNotAcquired] if the lock is not locked. Python: Lock.release.
func (l *Lock) Release() {
	// The fast path, for nearly every call.
	if l.locked && l.queue.first == nil && !raceDetector && l.owner.fut.loop.guard.Load() == 0 {
		l.locked, l.owner = false, nil
		return
	}
	if l.mustBeLocked("Release") {
		l.release()
	}
}

func (l *Lock) release() {
	l.locked, l.owner = false, nil
	l.queue.wakeFirst()
}

// mustBeLocked panics if the lock is not locked, or if the caller is foreign to the loop of its
// owner. It reports false if the lock is not locked but its loop is unwinding tasks, which excuses
// that (primitive 4).
func (l *Lock) mustBeLocked(caller string) bool {
	if !l.locked {
		if !l.unwinding() {
			panic(notLocked(caller))
		}
		return false
	}
	l.owner.loop().mustNotBeForeign(caller)
	return true
}

func notLocked(caller string) error {
	return fmt.Errorf("%w: the lock is not locked (in %s)", ErrNotAcquired, caller)
}

// Locked reports whether the lock is locked. It does not suspend. Python: Lock.locked.
func (l *Lock) Locked() bool { return l.locked }

// Statistics describes the lock. It does not suspend. asyncio has no equivalent; it follows trio's
// Lock.statistics.
func (l *Lock) Statistics() LockStatistics {
	s := LockStatistics{Locked: l.locked, Waiters: l.waiters()}
	if l.owner != nil {
		s.Owner = l.owner.self
	}
	return s
}

// String returns Python's repr: <asyncio.Lock [locked, waiters:2]>.
func (l *Lock) String() string { return l.repr("Lock", lockState(l.locked)) }

func lockState(locked bool) string {
	if locked {
		return "locked"
	}
	return "unlocked"
}

func (l *Lock) heldBy() *task { return l.owner }
