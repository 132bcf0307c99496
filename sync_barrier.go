package asyncio

import (
	"context"
	"fmt"
)

// A Barrier holds tasks until a fixed number of them has come, and then lets them all go on. It can
// be used again and again. Make one with [NewBarrier]; it must not be copied. Its methods are for
// the loop only. Python: asyncio.Barrier.
//
// # States
//
//	barrier 1: Filling: a task that comes waits, until all are there.
//	barrier 2: Draining: all were there, and leave one by one. A task that comes now waits outside
//	   until the last has left; then the barrier is filling.
//	barrier 3: Resetting: the tasks that waited leave one by one with an error; otherwise as
//	   draining.
//	barrier 4: Broken, after Abort: tasks that waited leave with an error, and tasks that come get
//	   it, until Reset.
//	barrier 5: Tasks that wait have a place in the order in which they came. Their indices follow
//	   that order and are given when all are there, so they are distinct also when a task that came
//	   before has left again (gh-155233). A task that is cancelled while the barrier drains takes
//	   its index with it.
type Barrier struct {
	cond    Condition // state or count changed
	parties int
	count   int                        // tasks inside
	waiters linkedList[*barrierWaiter] // those of them that wait or have waited (barrier 5)
	state   barrierState
}

// barrierWaiter is the place of a task that waits at a barrier.
type barrierWaiter struct {
	link  link[*barrierWaiter]
	index int
}

// BarrierStatistics is a [Barrier] at one moment, for debugging.
type BarrierStatistics struct {
	Parties int
	Waiting int // as NWaiting
	Broken  bool
	Waiters []AnyTask // tasks inside or outside that have not begun to leave
}

type barrierState uint8

const (
	filling   barrierState = iota // a task that comes waits (barrier 1)
	draining                      // all were there, and leave (barrier 2)
	resetting                     // tasks leave with an error (barrier 3)
	broken                        // tasks leave with an error until Reset (barrier 4)
)

func (s barrierState) String() string {
	return [...]string{"filling", "draining", "resetting", "broken"}[s]
}

// NewBarrier makes a barrier for parties tasks. Any goroutine may call it. It panics with
// [ErrInvalidArgument] if parties is not positive.
func NewBarrier(parties int) *Barrier {
	if parties < 1 {
		panic(fmt.Errorf("%w: a barrier for %d tasks (in NewBarrier)", ErrInvalidArgument, parties))
	}
	return &Barrier{parties: parties}
}

// Wait suspends the calling task until the barrier's number of tasks wait; the last of them does
// not suspend. Each gets an index of its own, from 0 up in the order they came; a task that left
// early does not count. If others are leaving the barrier, Wait first waits until they have left.
//
// A cancel of the task, or the end of ctx, takes the task out again with an error, and leaves the
// others waiting. Errors:
//   - [ErrBrokenBarrier] if the barrier is broken, or is aborted or reset while the task waits;
//   - [ErrInvalidArgument] if the barrier was not made with NewBarrier;
//   - those of [Lock.Acquire].
//
// Python: Barrier.wait, and "async with barrier".
func (b *Barrier) Wait(ctx context.Context) (index int, err error) {
	if b.parties < 1 {
		return 0, fmt.Errorf("%w: a barrier that was not made with NewBarrier (in Wait)", ErrInvalidArgument)
	}
	if err := b.cond.Acquire(ctx); err != nil {
		return 0, err
	}
	defer b.cond.Release()
	err = b.cond.WaitFor(ctx, func() bool { return b.state == filling || b.state == broken })
	if err != nil {
		return 0, err
	}
	if b.state == broken {
		return 0, fmt.Errorf("%w: it was aborted", ErrBrokenBarrier)
	}
	b.count++
	if b.count == b.parties {
		defer b.leave(nil)
		b.drain()
		return b.parties - 1, nil
	}
	w := new(barrierWaiter)
	b.waiters.add(&w.link, w)
	defer b.leave(w)
	if err := b.cond.WaitFor(ctx, func() bool { return b.state != filling }); err != nil {
		return 0, err
	}
	if b.state != draining {
		return 0, fmt.Errorf("%w: it was aborted or reset", ErrBrokenBarrier)
	}
	return w.index, nil
}

// drain lets all tasks go on, because the last of them has come.
func (b *Barrier) drain() {
	b.state = draining
	i := 0
	for w := range b.waiters.all() {
		w.index = i
		i++
	}
	b.cond.NotifyAll()
}

// leave takes a task out; w is its place, nil if it did not wait. When the last task is out, those
// that wait outside may come in.
func (b *Barrier) leave(w *barrierWaiter) {
	if w != nil {
		b.waiters.remove(&w.link)
	}
	b.count--
	if b.count == 0 {
		if b.state == draining || b.state == resetting {
			b.state = filling
		}
		b.cond.NotifyAll()
	}
}

// Reset returns the barrier to its initial state: tasks that wait at it get [ErrBrokenBarrier], and
// a broken barrier can be used again. Reset suspends if one of them is just leaving. A cancel of
// the task, or the end of ctx, before it got its turn leaves the barrier as it was. The errors are
// those of [Lock.Acquire]. Python: Barrier.reset.
func (b *Barrier) Reset(ctx context.Context) error {
	if err := b.cond.Acquire(ctx); err != nil {
		return err
	}
	defer b.cond.Release()
	if b.count > 0 {
		b.state = resetting
	} else {
		b.state = filling
	}
	b.cond.NotifyAll()
	return nil
}

// Abort breaks the barrier: tasks that wait at it, and those that will, get [ErrBrokenBarrier],
// until it is reset. It suspends if a task is just leaving the barrier. A cancel of the task, or
// the end of ctx, before it got its turn leaves the barrier as it was. The errors are those of
// [Lock.Acquire]. Python: Barrier.abort.
func (b *Barrier) Abort(ctx context.Context) error {
	if err := b.cond.Acquire(ctx); err != nil {
		return err
	}
	defer b.cond.Release()
	b.state = broken
	b.cond.NotifyAll()
	return nil
}

// Parties returns how many tasks the barrier is for. Any goroutine may call it. Python:
// Barrier.parties.
func (b *Barrier) Parties() int { return b.parties }

// NWaiting returns how many tasks wait for others to come; none while they leave. It does not
// suspend. Python: Barrier.n_waiting.
func (b *Barrier) NWaiting() int {
	if b.state == filling {
		return b.count
	}
	return 0
}

// Broken reports whether the barrier was aborted. It does not suspend. Python: Barrier.broken.
func (b *Barrier) Broken() bool { return b.state == broken }

// Statistics describes the barrier. It does not suspend. asyncio has no equivalent.
func (b *Barrier) Statistics() BarrierStatistics {
	return BarrierStatistics{Parties: b.parties, Waiting: b.NWaiting(), Broken: b.Broken(), Waiters: b.cond.waiters()}
}

// String returns Python's repr: <asyncio.Barrier [filling, waiters:1/3]>.
func (b *Barrier) String() string {
	if b.state == broken {
		return "<asyncio.Barrier [broken]>"
	}
	return fmt.Sprintf("<asyncio.Barrier [%v, waiters:%d/%d]>", b.state, b.NWaiting(), b.parties)
}
