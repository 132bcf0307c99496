package asyncio

import (
	"context"
	"fmt"
	"time"
)

// Sleep suspends the calling task for d on the loop's clock, never less. If d is not
// positive it lets the others run for one iteration, as Python's sleep(0) does; the longest duration means
// for ever. A cancel of the task, or the end of ctx, ends the sleep with the error that [Future.Await] would return.
func Sleep(ctx context.Context, d time.Duration) error {
	t, err := enter(ctx, "Sleep")
	if err != nil {
		return err
	}
	if d <= 0 {
		return t.yield()
	}
	err = t.park(ctx, t.setAlarm(d))
	if err != nil {
		t.dropAlarm()
	}
	return err
}

// setAlarm sets the task's timer.
func (t *task) setAlarm(d time.Duration) *sleepTimer {
	l := t.loop()
	s := t.timer
	if s == nil {
		s = &sleepTimer{t: t}
		t.timer = s
	}
	s.when, s.cb = l.after(d), s
	l.setTimer(&s.timer)
	return s
}

// dropAlarm takes the task's timer back before its time.
func (t *task) dropAlarm() {
	if !t.loop().timers.remove(&t.timer.timer) {
		t.timer = nil // it is in the ready queue and will fire, so it cannot be used again
	}
}

// sleepTimer wakes a sleeping task. A task has at most one in use, and keeps it.
type sleepTimer struct {
	timer
	t *task
}

func (s *sleepTimer) String() string { return fmt.Sprintf("sleep until %v", s.when) }

// fire runs in the iteration in which the timer is due; the task resumes in the next,
// as in CPython, where a timer completes a future.
func (s *sleepTimer) fire(*future) {
	if s.t.timer == s {
		s.t.unpark()
	}
}
