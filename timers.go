package asyncio

import (
	"fmt"
	"time"
)

// timer is one deadline. It lives in at most one heap, and only the loop's
// goroutine touches it.
type timer struct {
	when Instant
	seq  uint64 // order of setting; breaks ties, so that equal deadlines fire FIFO
	cb   callback
	pos  int // index in the heap plus one; zero while in none
}

// timerHeap is a 4-ary min-heap on (when, seq). Four children a node make it half
// as deep as a binary heap, and siblings share a cache line of pointers.
//
// A cancelled timer is removed at once. CPython leaves it in the heap and sweeps
// when more than half are cancelled; removal costs at most a sift, and in the
// common case, a timeout that was set last and sits near a leaf, next to nothing.
type timerHeap []*timer

func (a *timer) before(b *timer) bool {
	return a.when.Before(b.when) || a.when == b.when && a.seq < b.seq
}

func (h *timerHeap) push(t *timer) {
	*h = append(*h, t)
	h.up(len(*h) - 1)
}

// pop removes and returns the earliest timer.
func (h *timerHeap) pop() *timer {
	t := (*h)[0]
	h.remove(t)
	return t
}

// remove takes t out and reports whether it was in.
func (h *timerHeap) remove(t *timer) bool {
	if t.pos == 0 {
		return false
	}
	i, last := t.pos-1, len(*h)-1
	t.pos = 0
	moved := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	if i != last {
		(*h)[i] = moved
		moved.pos = i + 1
		if !h.down(i) {
			h.up(i)
		}
	}
	if last == 0 && cap(*h) > 1<<14 {
		*h = nil
	}
	return true
}

// clear takes all timers out.
func (h *timerHeap) clear() {
	for _, t := range *h {
		t.pos = 0
	}
	*h = nil
}

func (h timerHeap) up(i int) {
	t := h[i]
	for i > 0 {
		p := (i - 1) / 4
		if !t.before(h[p]) {
			break
		}
		h[i] = h[p]
		h[i].pos = i + 1
		i = p
	}
	h[i] = t
	t.pos = i + 1
}

// down sifts the timer at i towards the leaves and reports whether it moved.
func (h timerHeap) down(i int) bool {
	t, start := h[i], i
	for {
		first := 4*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(h)); c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if !h[least].before(t) {
			break
		}
		h[i] = h[least]
		h[i].pos = i + 1
		i = least
	}
	h[i] = t
	t.pos = i + 1
	return i != start
}

// after returns the Instant at which d has passed: Never if that is past the end of time, because
// "sleep for ever" may be written as the longest duration there is.
func (l *EventLoop) after(d time.Duration) Instant {
	if d > 0 && d < tinyDuration && l.modes.Load() != 0 {
		l.warnOfTinyDuration(d)
	}
	return l.Time().Add(d)
}

// setAlarm sets the task's timer.
func (t *task) setAlarm(d time.Duration) *alarm {
	l := t.loop()
	s := t.stack.alarm
	if s == nil {
		s = new(alarm)
		s.cb = s
		t.stack.alarm = s
	}
	s.t, s.when = t, l.after(d)
	l.setTimer(&s.timer)
	return s
}

// dropAlarm removes the task's timer before its time.
func (t *task) dropAlarm() {
	if t.loop().timers.remove(&t.stack.alarm.timer) {
		t.stack.alarm.t = nil
	} else {
		t.stack.alarm = nil // it is in the ready queue and will fire, so it cannot be used again
	}
}

// An alarm wakes a sleeping task. Each stack has one and reuses it: if two tasks share a stack,
// the lower waits for the upper and does not sleep (stack 5).
type alarm struct {
	timer
	t *task
}

func (s *alarm) String() string { return fmt.Sprintf("sleep until %v", s.when) }

// fire runs in the iteration in which the timer is due; the task resumes in the next,
// as in CPython, where a timer completes a future.
func (s *alarm) fire(*future) {
	if on := s.t.stack; on != nil && on.alarm == s {
		s.t.unpark()
	}
}

func (*alarm) quick() {}
