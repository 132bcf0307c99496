package asyncio

import (
	"context"
	"fmt"
	"time"
)

// Sleep suspends the calling task for d on the loop's clock, never less. If d is not positive it
// lets the others run for one iteration, as Python's sleep(0) does; the longest duration means for
// ever. A cancel of the task, or the end of ctx, ends the sleep with the error that [Future.Await]
// would return. It is for tasks only. Python: asyncio.sleep.
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
	} else {
		t.stack.alarm.t = nil // a stack must not keep a task alive that has ended
	}
	return err
}

// setAlarm sets the task's timer.
func (t *task) setAlarm(d time.Duration) *sleepTimer {
	l := t.loop()
	s := t.stack.alarm
	if s == nil {
		s = new(sleepTimer)
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

// sleepTimer wakes a sleeping task. Each stack has one and reuses it: if two tasks share a stack,
// the lower waits for the upper and does not sleep (stack 5).
type sleepTimer struct {
	timer
	t *task
}

func (s *sleepTimer) String() string { return fmt.Sprintf("sleep until %v", s.when) }

// fire runs in the iteration in which the timer is due; the task resumes in the next,
// as in CPython, where a timer completes a future.
func (s *sleepTimer) fire(*future) {
	if on := s.t.stack; on != nil && on.alarm == s {
		s.t.unpark()
	}
}
