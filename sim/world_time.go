package sim

import (
	"container/heap"
	"slices"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Time in a run (world 7, world 8): events, the order of those that are due, and when the clock
// moves.

// An event is something that happens at a time, on no loop.
type event struct {
	when  time.Duration
	seq   uint64
	cause int // the step that set it
	fn    func()
}

// eventHeap has the events to come, earliest first, then in the order they were set.
type eventHeap struct {
	list []event
	seq  uint64
}

func (h *eventHeap) Len() int { return len(h.list) }
func (h *eventHeap) Less(i, j int) bool {
	a, b := &h.list[i], &h.list[j]
	return a.when < b.when || a.when == b.when && a.seq < b.seq
}
func (h *eventHeap) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *eventHeap) Push(x any)    { h.list = append(h.list, x.(event)) }
func (h *eventHeap) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list[last] = event{}
	h.list = h.list[:last]
	return e
}

// at schedules fn to run at a time, between two steps.
func (w *world) at(when time.Duration, fn func()) {
	w.events.seq++
	w.acts()
	cause := w.cause
	if cause == 0 {
		cause = w.step
	}
	heap.Push(&w.events, event{max(when, w.time()), w.events.seq, cause, fn})
}

// happen runs all events that are due, before any loop that is due at the same time (world 8).
func (w *world) happen() {
	for now := w.time(); len(w.events.list) > 0 && w.events.list[0].when <= now; {
		e := heap.Pop(&w.events).(event)
		w.cause = e.cause
		w.happened++
		e.fn()
		for _, h := range w.hosts {
			if h.life != nil {
				h.life.deliver(e.cause)
			}
		}
		w.cause = 0
	}
}

// maxEvents is how many events may happen in a row between two steps. More than that means a
// network that is busy for ever without any host taking part.
const maxEvents = 1_000_000

// advance moves the clock, or first wakes a task that waits until nothing else can run. It reports
// false if nothing can happen any more. It is called only when nothing is ready or due (world 7).
func (w *world) advance() bool {
	if w.bubble != nil && (w.bubble.open || len(w.idle) > 0) && w.rest() || w.pendingAfterHolds() {
		return true
	}
	if len(w.idle) > 0 {
		h := w.idle[0]
		w.idle = w.idle[1:]
		h.comeTrue()
		return true
	}
	next := driver.Never
	if len(w.events.list) > 0 {
		next = w.events.list[0].when
	}
	for _, h := range w.hosts {
		if h.life != nil {
			next = min(next, h.life.next())
		}
	}
	if w.bubble != nil {
		return w.bubble.sleep(w, min(next, w.time()+endOfTime)) || next != driver.Never
	}
	if next == driver.Never {
		return false
	}
	w.clock.Store(int64(next))
	return true
}

// pendingAfterHolds waits in real time for goroutines outside, and reports whether they woke a
// loop. If a task waits with a context that has ended, its loop is woken here, when nothing else
// can run, rather than when package context gets round to it.
func (w *world) pendingAfterHolds() bool {
	var patience *time.Timer
	for began := time.Now(); ; {
		w.mu.Lock()
		w.news = false
		w.mu.Unlock()
		for _, h := range w.hosts {
			l := h.life
			if l == nil || l.isPaused() {
				continue
			}
			if l.state == waiting && l.loop.ContextEnded() {
				l.pending.Store(true)
			}
			if l.pending.Load() {
				return true
			}
		}
		w.mu.Lock()
		// What a goroutine has told a loop before its release may have come after the look at that
		// loop.
		if w.held == 0 && !w.news {
			w.mu.Unlock()
			return false
		}
		if patience == nil {
			patience = time.AfterFunc(threadPatience, w.stir)
			defer patience.Stop()
		}
		for !w.news {
			w.stirred.Wait()
		}
		at := slices.Clone(w.heldAt)
		w.mu.Unlock()
		if time.Since(began) >= threadPatience {
			w.leak(heldTooLong(at))
			w.fail(w.leaked())
			return true
		}
	}
}

// stir makes a goroutine that waits in pendingAfterHolds look again.
func (w *world) stir() {
	w.mu.Lock()
	w.news = true
	w.mu.Unlock()
	w.stirred.Signal()
	if w.bubble != nil {
		w.bubble.wake()
	}
}
