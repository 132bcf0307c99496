package asyncio

import "context"

// An Event is a flag that tasks can wait for. The zero value is not set; it must not be copied.
// Its methods are for the loop only; from another goroutine, set one with
// [EventLoop.CallSoonThreadsafe]. Python: asyncio.Event.
type Event struct {
	primitive
	set bool
}

// EventStatistics is an [Event] at one moment, for debugging.
type EventStatistics struct {
	Set     bool
	Waiters []AnyTask // in the order they came
}

// Wait suspends the calling task until the event is set. If it is set already Wait does not
// suspend. A task that waited when the event was set resumes, even if it is cleared before its
// turn.
//
// A cancel of the task, or the end of ctx, ends the wait. The errors are those of [Lock.Acquire].
// Python: Event.wait.
func (e *Event) Wait(ctx context.Context) error {
	t, err := enter(ctx, "Wait")
	if err != nil || e.set {
		return err
	}
	if err := e.bind(t, "Wait"); err != nil {
		return err
	}
	_, err = e.queue.wait(ctx, t, e)
	return err
}

// Set sets the event and wakes all tasks that wait for it. It does not suspend. Python: Event.set.
func (e *Event) Set() {
	e.mustBeOwner("Set")
	if !e.set {
		e.set = true
		e.queue.wakeAll()
	}
}

// Clear unsets the event. It does not suspend. Python: Event.clear.
func (e *Event) Clear() {
	e.mustBeOwner("Clear")
	e.set = false
}

// IsSet reports whether the event is set. It does not suspend. Python: Event.is_set.
func (e *Event) IsSet() bool { return e.set }

// Statistics describes the event. It does not suspend. asyncio has no equivalent; it follows trio's
// Event.statistics.
func (e *Event) Statistics() EventStatistics {
	return EventStatistics{Set: e.set, Waiters: e.waiters()}
}

// String returns Python's repr: <asyncio.Event [unset, waiters:1]>.
func (e *Event) String() string {
	if e.set {
		return e.repr("Event", "set")
	}
	return e.repr("Event", "unset")
}
