package asyncio

import (
	"fmt"
	"strings"
)

// A callback is anything the loop can run from its ready queue: a task to start or resume, a
// [Handle], a timer, the done callback of a combinator. fut is the future whose completion
// scheduled it, nil if there is none.
//
// A type says what else it is by methods, all of them optional: quick and awaiters (and waits) for
// the stacks and the call graph, readyName for traces, settle for a loop that closes, childPanicked
// for a task that panics.
type callback interface {
	fire(fut *future)
}

// awaiter is a done callback on behalf of tasks that wait (callgraph 1).
type awaiter interface{ awaiters() []*task }

// An awaiter has this method if its tasks may be doing something else.
type onlooker interface {
	// waits reports whether they cannot go on before the future is done.
	waits() bool
}

// entry is one element of the ready queue.
type entry struct {
	cb  callback
	fut *future
}

// readyQueue is a ring buffer, first in, first out. Its zero value is empty.
type readyQueue struct {
	buf  []entry // len is zero or a power of two
	head int
	n    int
}

func (q *readyQueue) push(e entry) {
	if q.n == len(q.buf) {
		q.grow()
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = e
	q.n++
}

func (q *readyQueue) first() entry { return q.buf[q.head] }

func (q *readyQueue) removeFirst() {
	q.buf[q.head] = entry{} // the queue keeps nothing alive that has run
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
}

func (q *readyQueue) pop() entry {
	e := q.first()
	q.removeFirst()
	return e
}

// bringForward moves the k-th oldest entry to the front and keeps the order of
// the others.
func (q *readyQueue) bringForward(k int) {
	mask := len(q.buf) - 1
	e := q.buf[(q.head+k)&mask]
	for ; k > 0; k-- {
		q.buf[(q.head+k)&mask] = q.buf[(q.head+k-1)&mask]
	}
	q.buf[q.head] = e
}

func (q *readyQueue) grow() {
	buf := make([]entry, max(64, 2*len(q.buf)))
	n := copy(buf, q.buf[q.head:])
	copy(buf[n:], q.buf[:q.head])
	q.buf, q.head = buf, 0
}

// shrink gives back the memory of a burst once the queue is empty.
func (q *readyQueue) shrink() {
	if q.n == 0 && len(q.buf) > 1<<14 {
		*q = readyQueue{}
	}
}

// sift moves everything that was not posted from outside to dropped.
func (q *readyQueue) sift(dropped *readyQueue) {
	for n := q.n; n > 0; n-- {
		if e := q.pop(); e.fut == outside {
			q.push(e)
		} else {
			dropped.push(e)
		}
	}
}

func (q *readyQueue) at(i int) callback { return q.buf[(q.head+i)&(len(q.buf)-1)].cb }

// driven is a loop as seen by its driver: a [driver.Loop].
type driven EventLoop

func (l *driven) Len() int { return l.ready.n }

func (l *driven) Task(i int) (_ any, resumes bool) {
	switch cb := l.ready.at(i).(type) {
	case *task:
		return cb.self, true
	case *alarm:
		return cb.t.self, false
	}
	return nil, false
}

func (l *driven) Awaiters(i int) (tasks []any) {
	if a, ok := l.ready.at(i).(awaiter); ok {
		if _, ok := a.(*task); !ok {
			for _, t := range a.awaiters() {
				tasks = append(tasks, t.self)
			}
		}
	}
	return tasks
}

// A callback has this method if it has a better name for a driver's traces than its type's.
type named interface{ readyName() string }

// Name leaves out the details that differ from run to run or from machine to machine: addresses and
// directories.
func (l *driven) Name(i int) string { return nameOf(l.ready.at(i)) }

// nameOf names a callback.
func nameOf(cb callback) string {
	switch cb := cb.(type) {
	case *task:
		return cb.GetName()
	case *alarm:
		return "sleep of " + cb.t.GetName()
	case *Handle:
		return "callback " + functionName(cb.fn)
	case *posted:
		name, _ := function((*Handle)(cb).code())
		return "callback " + name + "()"
	case *TimerHandle:
		return "callback " + functionName(cb.fn)
	case *DoneCallback:
		return "callback " + functionName(cb.src)
	case named:
		return cb.readyName()
	case awaiter:
		names := make([]string, 0, 1)
		for _, t := range cb.awaiters() {
			names = append(names, t.GetName())
		}
		return strings.TrimSpace("result for " + strings.Join(names, ", "))
	default:
		name, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprintf("%T", cb), "*asyncio."), "[")
		return name
	}
}

func (l *driven) IsOwn(task any) bool { return task.(AnyTask).taskCore().own }

func (l *driven) ContextEnded() bool {
	if w := l.rootWatch; w != nil && !w.fired && w.ctx.Err() != nil {
		return true
	}
	for w := l.firstWatch; w != nil; w = w.next {
		if !w.fired && w.ctx.Err() != nil {
			return true
		}
	}
	return false
}

// Do opens the loop for fn. It may be called on any goroutine, but only while the loop is in Choose
// or Wait and its driver permits it.
func (l *driven) Do(fn func()) {
	guard := l.guard.Swap(0)
	defer (*EventLoop)(l).setGuard(guard)
	defer borrow()()
	fn()
}

// Park closes the loop to everybody while another loop has the turn (foreign 9).
func (l *driven) Park(parked bool) {
	if parked {
		l.parked = l.guard.Swap(guardParked)
	} else {
		(*EventLoop)(l).setGuard(l.parked)
	}
}

func functionName(fn any) string {
	name, _ := function(funcPC(fn))
	return name + "()"
}
