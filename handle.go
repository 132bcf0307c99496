package asyncio

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A Handle is a callback that was scheduled and can still be cancelled. Its methods do not suspend.
type Handle struct {
	loop    *EventLoop
	fn      func()
	state   atomic.Uint64   // bit 0: it was cancelled; the other bits: see posted
	created *trace          // in debug mode
	ctx     context.Context // of the task that scheduled it, nil if no task did
}

// Cancel keeps the callback from running, if it has not begun. Any goroutine may call it on a
// Handle, unlike [TimerHandle.Cancel].
func (h *Handle) Cancel() { h.state.Or(1) }

// Cancelled reports whether Cancel was called. Any goroutine may call it.
func (h *Handle) Cancelled() bool { return h.state.Load()&1 != 0 }

func (h *Handle) fire(*future) {
	if !h.Cancelled() {
		h.loop.invoke(h.fn, h.fn, h)
	}
}

// posted is the Handle of [EventLoop.CallSoonThreadsafe] (inbox 4). Its state has the address of
// its function's code from bit 1 on. So any goroutine can print it, even after its turn, without
// looking at fn.
type posted Handle

func (h *posted) fire(*future) {
	fn := h.fn
	h.fn = nil
	if h.state.Load()&1 == 0 {
		h.loop.invoke(fn, fn, (*Handle)(h))
	}
}

// String returns Python's repr: <Handle main.tick() at tick.go:12>.
func (h *Handle) String() string { return h.repr("Handle", "") }

func (h *Handle) repr(kind, when string) string {
	if h.Cancelled() {
		return fmt.Sprintf("<%s cancelled%s>", kind, when)
	}
	return fmt.Sprintf("<%s%s %s>", kind, when, callSite(h.code()))
}

// code returns the address of the callback's code.
func (h *Handle) code() uintptr {
	if pc := uintptr(h.state.Load() >> 1); pc != 0 {
		return pc
	}
	return funcPC(h.fn)
}

// A TimerHandle is a callback that was scheduled for later and can still be cancelled. Its methods
// are for the loop only and do not suspend.
type TimerHandle struct {
	Handle
	timer timer
}

// Cancel keeps the callback from running, if it has not begun. It is for the loop only.
func (h *TimerHandle) Cancel() {
	h.loop.mustNotBeForeign("Cancel")
	h.Handle.Cancel()
	h.loop.timers.remove(&h.timer)
}

// When returns the Instant at which the callback is due.
func (h *TimerHandle) When() Instant { return h.timer.when }

// String returns Python's repr: <TimerHandle when=1.5s main.tick() at tick.go:12>.
func (h *TimerHandle) String() string {
	return h.repr("TimerHandle", fmt.Sprintf(" when=%v", h.timer.when))
}

// CallSoon schedules fn for the next iteration. Callbacks run in the order they were scheduled,
// each once. A callback runs in no task, so it must not await. A panic in it goes to the exception
// handler, and the loop goes on. CallSoon is for the loop only and does not suspend. It panics with
// [ErrLoopClosed], [ErrForeignGoroutine] or, if fn is nil, [ErrInvalidArgument].
func (l *EventLoop) CallSoon(fn func()) *Handle {
	l.mustBeCallable(fn, "CallSoon")
	h := &Handle{loop: l, fn: fn, created: l.created(), ctx: l.currentContext()}
	l.schedule(h, nil)
	return h
}

// CallLater schedules fn for the time when d has passed on the loop's clock; fn never runs before.
// A delay that is not positive is due at once, in the next iteration. A delay that reaches past the
// end of time is never due. See [EventLoop.CallSoon] for the rest.
func (l *EventLoop) CallLater(d time.Duration, fn func()) *TimerHandle {
	l.mustBeCallable(fn, "CallLater")
	return l.callAt(l.after(d), fn)
}

// CallAt schedules fn for the time when the loop's clock, [EventLoop.Time], reads when; fn never
// runs before. Callbacks due at the same time run in the order they were scheduled. See
// [EventLoop.CallSoon] for the rest.
func (l *EventLoop) CallAt(when Instant, fn func()) *TimerHandle {
	l.mustBeCallable(fn, "CallAt")
	return l.callAt(when, fn)
}

func (l *EventLoop) callAt(when Instant, fn func()) *TimerHandle {
	h := &TimerHandle{Handle: Handle{loop: l, fn: fn, created: l.created(), ctx: l.currentContext()}}
	h.timer = timer{when: when, cb: h}
	l.setTimer(&h.timer)
	return h
}

func (h *TimerHandle) fire(*future) {
	if !h.Cancelled() {
		h.loop.invoke(h.fn, h.fn, h)
	}
}

// currentContext returns the context of the task that is running, nil if no task is.
func (l *EventLoop) currentContext() context.Context {
	if l.current == nil {
		return nil
	}
	return l.current.ctx
}

func (l *EventLoop) mustBeCallable(fn func(), caller string) {
	l.mustBeOwner(caller)
	if fn == nil {
		panic(fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller))
	}
}
