package asyncio

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"strings"
)

// A Queue carries values from tasks to tasks, first in, first out. With a maximum size, Put
// waits for room. Make one with [NewQueue]. Python: asyncio.Queue.
//
// # Rules
//
//	queue 1: A value that is put is got once, or discarded by an immediate Shutdown. It stays in the
//	   queue until a task takes it: waking a getter gives it no value, only its turn to look.
//	queue 2: Put wakes the getter that has waited longest, Get the putter. The woken task looks in
//	   the next iteration; if another task was faster, it waits again, behind all others.
//	queue 3: A task that is woken and cancelled before it looks passes the wake-up on, if there
//	   still is a value to get, or room.
//	queue 4: An operation that need not wait does not suspend and does not allocate. It does not let
//	   others go first either: a getter that comes when there is a value takes it, even if others
//	   wait.
//	queue 5: The queue belongs to the loop on which a task first had to wait, until that loop is
//	   closed.
//
// The methods are for the loop only: for its tasks, and those without a context also for its
// callbacks. Besides their own errors, Put and Get return:
//   - a [CancelledError] if the calling task was cancelled while it waited;
//   - the cause of ctx if that is done, before or while it waited;
//   - [ErrNotInTask], [ErrNoRunningLoop], [ErrForeignGoroutine], [ErrDifferentLoop] (queue 5), and
//     [ErrInvalidArgument] for a nil context or a queue that was not made with NewQueue and its
//     like.
//
// With any error the call has had no effect.
type Queue[T any] struct {
	_       noCopy
	binding // to the loop on which a task first had to wait (queue 5)
	name    string
	maxsize int
	n       int      // values in the queue
	fifo    ring[T]  // keeps the values, if order is nil
	order   store[T] // keeps the values in another order; nil: first in, first out

	getters, putters waitQueue
	joiners          waitQueue
	unfinished       int
	noted            int  // the size that observeLarge was last told
	down             bool // Shutdown was called
}

// A LifoQueue is a [Queue] that returns the value put last first. Make one with [NewLifoQueue].
// Python: asyncio.LifoQueue.
type LifoQueue[T any] struct{ Queue[T] }

// A PriorityQueue is a [Queue] that returns the smallest value first, and of equal values the one
// put first. Make one with [NewPriorityQueue]. Python: asyncio.PriorityQueue, which leaves the
// order of equal values to chance.
type PriorityQueue[T any] struct{ Queue[T] }

// NewQueue makes a queue that holds at most maxsize values, any number if maxsize is not positive.
// It needs no loop and any goroutine may call it. Python: asyncio.Queue(maxsize).
func NewQueue[T any](maxsize int) *Queue[T] {
	return &Queue[T]{name: "Queue", maxsize: maxsize}
}

// NewLifoQueue makes a queue as [NewQueue] does, last in, first out. Any goroutine may call it.
// Python: asyncio.LifoQueue(maxsize).
func NewLifoQueue[T any](maxsize int) *LifoQueue[T] {
	return &LifoQueue[T]{Queue[T]{name: "LifoQueue", maxsize: maxsize, order: new(pile[T])}}
}

// NewPriorityQueue makes a queue as [NewQueue] does, ordered by compare. compare is a function as
// for [slices.SortFunc]: cmp.Compare[int], or one that compares the relevant fields. If compare
// panics, so does the call that needed it, and the queue is as it was before. NewPriorityQueue
// panics with [ErrInvalidArgument] if compare is nil. Any goroutine may call it. Python:
// asyncio.PriorityQueue(maxsize).
func NewPriorityQueue[T any](maxsize int, compare func(a, b T) int) *PriorityQueue[T] {
	if compare == nil {
		panic(fmt.Errorf("%w: nil function (in NewPriorityQueue): cmp.Compare orders what has an order", ErrInvalidArgument))
	}
	return &PriorityQueue[T]{Queue[T]{name: "PriorityQueue", maxsize: maxsize, order: &heapq[T]{compare: compare}}}
}

// Qsize returns the number of values in the queue. It does not suspend. Python: qsize.
func (q *Queue[T]) Qsize() int {
	q.mustBeMade("Qsize")
	return q.n
}

// Maxsize returns the number of values that the queue can hold, as given to NewQueue. Any goroutine
// may call it. Python: maxsize.
func (q *Queue[T]) Maxsize() int { return q.maxsize }

// Empty reports whether there is no value in the queue. It does not suspend. Python: empty.
func (q *Queue[T]) Empty() bool {
	q.mustBeMade("Empty")
	return q.empty()
}

func (q *Queue[T]) empty() bool { return q.n == 0 }

// Full reports whether a Put would have to wait. It does not suspend. Python: full.
func (q *Queue[T]) Full() bool {
	q.mustBeMade("Full")
	return q.full()
}

func (q *Queue[T]) full() bool { return q.maxsize > 0 && q.n >= q.maxsize }

// checkMade refuses a zero queue, whose order is not known.
func (q *Queue[T]) checkMade(caller string) error {
	if q.name == "" {
		return zeroQueue(caller)
	}
	return nil
}

func (q *Queue[T]) mustBeMade(caller string) {
	if q.name == "" {
		panic(zeroQueue(caller))
	}
}

func zeroQueue(caller string) error {
	return fmt.Errorf("%w: a zero queue: make one with NewQueue, NewLifoQueue or NewPriorityQueue (in %s)", ErrInvalidArgument, caller)
}

// Put puts v into the queue. It suspends the calling task while the queue is full, and only then. A
// cancel that arrives while it waits ends the wait, and v has not been put. Put returns
// [ErrQueueShutDown] if the queue is shut down, also while it waits, and otherwise the errors that
// [Queue] lists. Python: put.
func (q *Queue[T]) Put(ctx context.Context, v T) error {
	t := inTask(ctx)
	if t != nil && !debug.SetPanicOnFault(true) { // checkedTask, written out (foreign 3)
		debug.SetPanicOnFault(false)
		t = nil
	}
	if t == nil || q.loop != t.loop() && (q.loop != nil || q.name == "") {
		var err error
		if t, err = q.enter(ctx, "Put"); err != nil {
			return err
		}
	}
	for q.full() {
		if q.down {
			return ErrQueueShutDown
		}
		if err := q.bind(t, "Put"); err != nil {
			return err
		}
		if woken, err := q.putters.wait(ctx, t, q); err != nil {
			if woken && !q.full() {
				q.putters.dismissNext() // the wake-up is passed on (queue 3)
			}
			return err
		}
	}
	return q.put(v)
}

// PutNowait puts v into the queue without waiting. It does not suspend; a callback may call it.
// It returns [ErrQueueFull] if there is no room, [ErrQueueShutDown] if the queue is shut down, and
// [ErrForeignGoroutine] once a task has had to wait. Python: put_nowait.
func (q *Queue[T]) PutNowait(v T) error {
	if err := q.checkOwner("PutNowait"); err != nil {
		return err
	}
	return q.put(v)
}

// enter is the function [enter] for a queue.
func (q *Queue[T]) enter(ctx context.Context, caller string) (*task, error) {
	if err := q.checkMade(caller); err != nil {
		return nil, err
	}
	t, err := enter(ctx, caller)
	if err == nil && q.loop != nil && q.loop != t.loop() && (q.getters.first != nil || q.putters.first != nil) {
		err = q.bind(t, caller) // the operation would wake a task of the other loop
	}
	return t, err
}

func (q *Queue[T]) put(v T) error {
	if q.down {
		return ErrQueueShutDown
	}
	if q.full() {
		return ErrQueueFull
	}
	q.push(v)
	q.unfinished++
	// Only the getter that has waited longest is woken (queue 2).
	if q.getters.first != nil {
		q.getters.dismissNext()
	}
	return nil
}

func (q *Queue[T]) push(v T) {
	if q.order == nil {
		q.fifo.push(v)
	} else {
		q.order.push(v)
	}
	q.n++
	if q.n >= largeQueue && q.n >= 2*q.noted {
		q.becomesLarge()
	}
}

func (q *Queue[T]) pop() (v T) {
	if q.order == nil {
		v = q.fifo.pop()
	} else {
		v = q.order.pop()
	}
	q.n--
	return v
}

func (q *Queue[T]) at(i int) T {
	if q.order == nil {
		return q.fifo.at(i)
	}
	return q.order.at(i)
}

// Get takes a value out of the queue. It suspends the calling task while the queue is empty, and
// only then. A cancel that arrives while it waits ends the wait and has taken nothing. Get returns
// [ErrQueueShutDown] if the queue is shut down and empty, also while it waits, and otherwise the
// errors that [Queue] lists. Python: get.
func (q *Queue[T]) Get(ctx context.Context) (T, error) {
	var zero T
	t := inTask(ctx)
	if t != nil && !debug.SetPanicOnFault(true) { // checkedTask, written out (foreign 3)
		debug.SetPanicOnFault(false)
		t = nil
	}
	if t == nil || q.loop != t.loop() && (q.loop != nil || q.name == "") {
		var err error
		if t, err = q.enter(ctx, "Get"); err != nil {
			return zero, err
		}
	}
	// A value is taken at once, even if other tasks wait (queue 4).
	for q.empty() {
		if q.down {
			return zero, ErrQueueShutDown
		}
		if err := q.bind(t, "Get"); err != nil {
			return zero, err
		}
		if woken, err := q.getters.wait(ctx, t, q); err != nil {
			if woken && !q.empty() {
				q.getters.dismissNext() // the wake-up is passed on (queue 3)
			}
			return zero, err
		}
	}
	return q.get()
}

// GetNowait takes a value out of the queue without waiting. It does not suspend; a callback may
// call it. It returns [ErrQueueEmpty] if there is none, [ErrQueueShutDown] if the queue is also
// shut down, and [ErrForeignGoroutine] once a task has had to wait. Python: get_nowait.
func (q *Queue[T]) GetNowait() (T, error) {
	if err := q.checkOwner("GetNowait"); err != nil {
		var zero T
		return zero, err
	}
	return q.get()
}

func (q *Queue[T]) get() (T, error) {
	if q.empty() {
		var zero T
		if q.down {
			return zero, ErrQueueShutDown
		}
		return zero, ErrQueueEmpty
	}
	v := q.pop()
	if q.putters.first != nil {
		q.putters.dismissNext()
	}
	return v, nil
}

// All yields the results of Get, value by value, for a range loop that ends when the queue is shut
// down and empty:
//
//	for v, err := range q.All(ctx) {
//		if err != nil {
//			return err // the task was cancelled, or ctx is done
//		}
//		…
//	}
//
// The body may await. Each step suspends, is cancelled and fails as [Queue.Get]; an error ends the
// loop after the body has seen it. A loop that is left early has taken only the values that the
// body was given. The body must call TaskDone itself. All itself does not suspend. Python has no
// counterpart: a proposal to let "async for" loop over queues was declined.
func (q *Queue[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := q.Get(ctx)
			if errors.Is(err, ErrQueueShutDown) || !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// TaskDone says that the work on one value that was got is done. Once it has been called for every
// value that was put, Join returns. It does not suspend; a callback may call it. It panics with
// [ErrInvalidArgument] when called more often than values were put, as Python raises ValueError,
// and with [ErrForeignGoroutine] once a task has had to wait. Python: task_done.
func (q *Queue[T]) TaskDone() {
	q.mustBeOwner("TaskDone")
	if q.unfinished <= 0 {
		panic(fmt.Errorf("%w: TaskDone called more often than values were put", ErrInvalidArgument))
	}
	q.finish()
}

// finish counts one value as done.
func (q *Queue[T]) finish() {
	if q.unfinished--; q.unfinished == 0 {
		q.joiners.wakeAll()
	}
}

// Join waits until TaskDone has been called for every value that was put. It suspends the calling
// task if there are any left, and only then. A value that is put after Join was woken and before it
// returns does not hold it back. A cancel that arrives while it waits ends the wait. The errors are
// those that [Queue] lists; a Shutdown is none. Python: join.
func (q *Queue[T]) Join(ctx context.Context) error {
	t, err := q.enter(ctx, "Join")
	if err != nil {
		return err
	}
	if q.unfinished == 0 {
		return nil
	}
	if err := q.bind(t, "Join"); err != nil {
		return err
	}
	_, err = q.joiners.wait(ctx, t, q)
	return err
}

// Shutdown closes the queue: from now on puts fail with [ErrQueueShutDown], and gets do once the
// queue is empty. If immediate, the values in the queue are discarded and count as done, so that
// Join may return. All tasks that wait in Put or Get are woken and look again. It does not suspend,
// a callback may call it, and it may be called again. It panics with [ErrForeignGoroutine] once a
// task has had to wait. Python: shutdown.
func (q *Queue[T]) Shutdown(immediate bool) {
	q.mustBeOwner("Shutdown")
	q.down = true
	if immediate {
		for !q.empty() {
			q.pop()
			if q.unfinished > 0 { // TaskDone may have come before its Get
				q.finish()
			}
		}
	}
	q.getters.dismissAll()
	q.putters.dismissAll()
}

// QueueStatistics is the result of [Queue.Statistics].
type QueueStatistics struct {
	Size       int // values in the queue
	Maxsize    int // values it can hold; not positive: any number
	Getters    int // tasks that wait in Get
	Putters    int // tasks that wait in Put
	Joiners    int // tasks that wait in Join
	Unfinished int // values put for which TaskDone was not called
	ShutDown   bool
}

// Statistics returns the state of the queue. Like Python's repr it counts a task that was cancelled
// as waiting until it has left. It does not suspend; a callback may call it. Python has no
// counterpart.
func (q *Queue[T]) Statistics() QueueStatistics {
	q.mustBeOwner("Statistics")
	return QueueStatistics{
		Size:       q.n,
		Maxsize:    q.maxsize,
		Getters:    q.getters.len(),
		Putters:    q.putters.len(),
		Joiners:    q.joiners.len(),
		Unfinished: q.unfinished,
		ShutDown:   q.down,
	}
}

// String returns Python's str: <Queue maxsize=2 _queue=[1, 2] _putters[1] tasks=2>. If there are
// many values, it shows only the first.
func (q *Queue[T]) String() string {
	if q.name == "" {
		return "<Queue, zero>"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%s maxsize=%d", q.name, q.maxsize)
	if q.checkOwner("String") != nil {
		return b.String() + ">"
	}
	if n := q.n; n > 0 {
		b.WriteString(" _queue=[")
		for i := range min(n, queueReprMax) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(reprValue(q.at(i)))
		}
		if n > queueReprMax {
			b.WriteString(", ...")
		}
		b.WriteString("]")
	}
	for _, w := range []struct {
		what string
		n    int
	}{{"_getters", q.getters.len()}, {"_putters", q.putters.len()}} {
		if w.n > 0 {
			fmt.Fprintf(&b, " %s[%d]", w.what, w.n)
		}
	}
	if q.unfinished > 0 {
		fmt.Fprintf(&b, " tasks=%d", q.unfinished)
	}
	if q.down {
		b.WriteString(" shutdown")
	}
	b.WriteString(">")
	return b.String()
}

// queueReprMax is the number of values that String shows.
const queueReprMax = 20

// checkOwner is the binding's checkOwner, and refuses a zero queue as well. Every method that
// changes the queue calls it.
func (q *Queue[T]) checkOwner(caller string) error {
	if err := q.checkMade(caller); err != nil {
		return err
	}
	return q.binding.checkOwner(caller)
}

func (q *Queue[T]) mustBeOwner(caller string) {
	if err := q.checkOwner(caller); err != nil {
		panic(err)
	}
}
