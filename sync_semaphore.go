package asyncio

import (
	"context"
	"fmt"
)

// A Semaphore is a number of permits for the tasks of a loop. It is fair: tasks get permits in the
// order they asked. Make one with [NewSemaphore]; the zero value has no permits. It must not be
// copied. Its methods are for the loop only. Python: asyncio.Semaphore.
type Semaphore struct{ semaphore }

// A BoundedSemaphore is a [Semaphore] that refuses to have more permits than it began with. Make
// one with [NewBoundedSemaphore]; it must not be copied. Its methods are for the loop only. Python:
// asyncio.BoundedSemaphore.
type BoundedSemaphore struct {
	semaphore
	bound int
}

// SemaphoreStatistics is a [Semaphore] or [BoundedSemaphore] at one moment, for debugging.
type SemaphoreStatistics struct {
	Value   int       // permits that are neither taken nor set aside for a waiter
	Waiters []AnyTask // in the order they will be served
}

type semaphore struct {
	primitive
	value int
}

// NewSemaphore makes a semaphore with value permits. Any goroutine may call it. It panics with
// [ErrInvalidArgument] if value is negative.
func NewSemaphore(value int) *Semaphore {
	return &Semaphore{semaphore{value: permits(value, "NewSemaphore")}}
}

// NewBoundedSemaphore makes a semaphore with value permits, and never more. Any goroutine may call
// it. It panics with [ErrInvalidArgument] if value is negative.
func NewBoundedSemaphore(value int) *BoundedSemaphore {
	return &BoundedSemaphore{semaphore{value: permits(value, "NewBoundedSemaphore")}, value}
}

func permits(n int, caller string) int {
	if n < 0 {
		panic(fmt.Errorf("%w: a semaphore cannot have %d permits (in %s)", ErrInvalidArgument, n, caller))
	}
	return n
}

// Acquire takes a permit. If there is none, or others wait for one, it suspends the calling
// task until its turn has come; otherwise it does not suspend.
//
// A cancel of the task, or the end of ctx, ends the wait with an error, and no permit is then
// taken; a permit that had been set aside for the task goes to the next. The errors are those of
// [Lock.Acquire]. Python: Semaphore.acquire.
func (s *semaphore) Acquire(ctx context.Context) error {
	t, err := enter(ctx, "Acquire")
	if err != nil {
		return err
	}
	if !s.Locked() {
		s.value--
		return nil
	}
	if err := s.bindTo(t); err != nil {
		return err
	}
	return s.wait(ctx, t)
}

func (s *semaphore) wait(ctx context.Context, t *task) (err error) {
	w := waiterOf(t)
	acquired := false
	defer func() { // also when the task is unwound
		s.leave(w, acquired)
		w.done()
	}()
	err = s.queue.waitWith(ctx, t, w, s)
	acquired = err == nil
	return err
}

func (s *semaphore) acquiring() acquiring { return s }

// tryAcquire is also for a task that has woken, which may have been given a permit.
func (s *semaphore) tryAcquire(w *waiter) bool {
	if w.woken {
		return true
	}
	if s.value == 0 || s.queue.liveBefore(w) {
		return false
	}
	s.value--
	return true
}

func (s *semaphore) bindTo(t *task) error { return s.bind(t, "Acquire") }

func (s *semaphore) waiting() *waitQueue { return &s.queue }

func (s *semaphore) leave(w *waiter, acquired bool) {
	s.queue.remove(w)
	if w.woken && !acquired {
		s.value++
	}
	// Some tasks may have had to wait only because others were before them.
	for s.value > 0 && s.wakeNext() {
	}
}

// wakeNext sets a permit aside for the task that has waited longest and wakes it.
func (s *semaphore) wakeNext() bool {
	if !s.queue.wakeNext() {
		return false
	}
	s.value--
	return true
}

func (s *semaphore) release() {
	s.mustBeOwner("Release")
	s.value++
	s.wakeNext()
}

// Release gives a permit back, or adds one, and wakes the task that has waited longest. It does
// not suspend. Any task or callback of the loop may call it. Python: Semaphore.release.
func (s *Semaphore) Release() { s.release() }

// Release gives a permit back and wakes the task that has waited longest. It does not suspend. Any
// task or callback of the loop may call it. It panics with [ErrNotAcquired] if no permit is taken.
// Python: BoundedSemaphore.release.
func (s *BoundedSemaphore) Release() {
	if s.value >= s.bound {
		if s.unwinding() {
			return // a task that a closing loop unwinds may not have the permit (primitive 4)
		}
		panic(fmt.Errorf("%w: all %d permits are back already (in Release)", ErrNotAcquired, s.bound))
	}
	s.release()
}

// Locked reports whether Acquire would have to wait. It does not suspend. Python: Semaphore.locked.
func (s *semaphore) Locked() bool { return s.value == 0 || s.queue.hasLive() }

// Statistics describes the semaphore. It does not suspend. asyncio has no equivalent; it follows
// trio's Semaphore.statistics.
func (s *semaphore) Statistics() SemaphoreStatistics {
	return SemaphoreStatistics{Value: s.value, Waiters: s.waiters()}
}

func (s *semaphore) describe(class string) string {
	if s.Locked() {
		return s.repr(class, "locked")
	}
	return s.repr(class, fmt.Sprintf("unlocked, value:%d", s.value))
}

// String returns Python's repr: <asyncio.Semaphore [unlocked, value:2]>.
func (s *semaphore) String() string { return s.describe("Semaphore") }

// String returns Python's repr: <asyncio.BoundedSemaphore [locked, waiters:1]>.
func (s *BoundedSemaphore) String() string { return s.describe("BoundedSemaphore") }
