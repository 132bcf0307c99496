package asyncio

import (
	"context"
	"fmt"
	"math"
)

// A Condition lets tasks that hold a lock wait until another task notifies them; while they wait
// they do not hold the lock. Make one with [NewCondition]; the zero value has a lock of its own. It
// must not be copied. Its methods are for the loop only. Python: asyncio.Condition.
type Condition struct {
	primitive
	lock *Lock // nil: a lock of its own
	own  Lock
}

// ConditionStatistics is a [Condition] at one moment, for debugging.
type ConditionStatistics struct {
	Waiters []AnyTask // tasks that have not begun to re-acquire the lock, in the order they came
	Lock    LockStatistics
}

// NewCondition makes a condition on lock, which several can share; nil means a lock of its own.
// Any goroutine may call it.
func NewCondition(lock *Lock) *Condition { return &Condition{lock: lock} }

func (c *Condition) theLock() *Lock {
	if c.lock == nil {
		return &c.own
	}
	return c.lock
}

// Acquire is [Lock.Acquire] of the condition's lock. Python: Condition.acquire.
func (c *Condition) Acquire(ctx context.Context) error { return c.theLock().Acquire(ctx) }

func (c *Condition) acquiring() acquiring { return c.theLock() }

// Release is [Lock.Release] of the condition's lock. Python: Condition.release.
func (c *Condition) Release() { c.theLock().Release() }

// Locked is [Lock.Locked] of the condition's lock. Python: Condition.locked.
func (c *Condition) Locked() bool { return c.theLock().Locked() }

// Wait unlocks the lock, suspends the calling task until it is notified, and locks the lock again.
// It may also return without a notification, so the caller must check its condition again, or use
// [Condition.WaitFor].
//
// However the wait ends, Wait returns with the lock locked. A cancel that arrives while the task
// re-acquires the lock is returned afterwards; of several, the last. The end of ctx ends the wait
// for the notification; a task that was notified before re-acquires the lock and returns nil. If
// Wait returns an error, a notification that the task may have been given goes to another. Errors:
//   - [ErrNotAcquired] if the lock is not locked;
//   - those of [Lock.Acquire]. The cause of a ctx that is done is returned at once, with the lock
//     held throughout.
//
// Python: Condition.wait.
func (c *Condition) Wait(ctx context.Context) error {
	t, err := enter(ctx, "Wait")
	if err != nil {
		return err
	}
	lock := c.theLock()
	if !lock.locked {
		return notLocked("Wait")
	}
	if err := c.bind(t, "Wait"); err != nil {
		return err
	}
	if err := lock.bind(t, "Wait"); err != nil {
		return err // it could not be re-acquired
	}
	lock.Release()
	_, err = c.queue.wait(ctx, t, c)
	for {
		e := lock.acquire(context.WithoutCancel(ctx), t)
		if e == nil {
			break
		}
		err = e
		if asCancelled(e) == nil {
			break
		}
	}
	if err != nil {
		c.notify(1)
	}
	return err
}

// WaitFor waits until pred, called with the lock locked, returns true. It does not suspend if pred
// does so at once. Errors and cancellation are those of [Condition.Wait]. Whether the lock is
// locked is checked only if pred returns false. A nil pred is [ErrInvalidArgument]. Python:
// Condition.wait_for.
func (c *Condition) WaitFor(ctx context.Context, pred func() bool) error {
	if pred == nil {
		return fmt.Errorf("%w: nil function (in WaitFor)", ErrInvalidArgument)
	}
	if _, err := enter(ctx, "WaitFor"); err != nil {
		return err
	}
	for !pred() {
		if err := c.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Notify wakes the n tasks that have waited longest, or all if there are fewer. They resume when
// they have re-acquired the lock, which the caller must release first. Notify does not suspend. It
// panics with [ErrNotAcquired] if the lock is not locked. Python: Condition.notify, whose default
// for n is 1.
func (c *Condition) Notify(n int) {
	if c.theLock().mustBeLocked("Notify") {
		c.mustBeOwner("Notify")
		c.notify(n)
	}
}

// NotifyAll is [Condition.Notify] for all tasks that wait. Python: Condition.notify_all.
func (c *Condition) NotifyAll() {
	if c.theLock().mustBeLocked("NotifyAll") {
		c.mustBeOwner("NotifyAll")
		c.notify(math.MaxInt)
	}
}

func (c *Condition) notify(n int) {
	for ; n > 0 && c.queue.wakeNext(); n-- {
	}
}

// Statistics describes the condition. It does not suspend. asyncio has no equivalent; it follows
// trio's Condition.statistics.
func (c *Condition) Statistics() ConditionStatistics {
	return ConditionStatistics{Waiters: c.waiters(), Lock: c.theLock().Statistics()}
}

// String returns Python's repr: <asyncio.Condition [unlocked, waiters:1]>.
func (c *Condition) String() string { return c.repr("Condition", lockState(c.Locked())) }
