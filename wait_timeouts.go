package asyncio

import (
	"context"
	"fmt"
	"time"
)

// Timeout runs body in the calling task and cancels the task if body has not returned when d
// has passed on the loop's clock. It is edge-triggered, as CPython's:
//
//   - On expiry the task is cancelled once ([Future.Cancel]): body gets one [CancelledError] at
//     the await it is in, or at its next one. It may clean up, and await for that.
//   - When body then returns that error, wrapped or not, Timeout takes the cancel back and
//     returns a [*TimeoutError] in its place.
//   - A cancel by anyone else, before, during or after, is left as it is: body's CancelledError
//     is returned and [Task.Cancelling] keeps its count.
//   - If body returns nil after it was cancelled, Timeout returns nil. If it returns an error of
//     its own, so does Timeout; the text says that the time was up, but the error does not match
//     [ErrTimeout]. [TimeoutScope.Expired] tells.
//
// A d that is not positive expires in the next iteration; [Forever] never does. If body returns
// before the time is up, its error is returned as it is. For code that must not run on after the
// deadline, even if it ignores one cancel, use [FailAfter].
//
// It must be called in a task and suspends only where body does. Besides body's errors it returns
// [ErrInvalidArgument] if ctx or body is nil, [ErrNoRunningLoop], [ErrNotInTask]. Python:
// asyncio.timeout.
func Timeout(ctx context.Context, d time.Duration, body func(ctx context.Context, tm *TimeoutScope) error) error {
	tm, err := newTimeoutScope(ctx, body == nil, "Timeout")
	if err != nil {
		return err
	}
	return tm.run(ctx, tm.t.loop().after(d), body)
}

// TimeoutAt is [Timeout] with the Instant at which the time is up. One that has passed expires in
// the next iteration; [Never] never does. Python: asyncio.timeout_at.
func TimeoutAt(ctx context.Context, when Instant, body func(ctx context.Context, tm *TimeoutScope) error) error {
	tm, err := newTimeoutScope(ctx, body == nil, "TimeoutAt")
	if err != nil {
		return err
	}
	return tm.run(ctx, when, body)
}

// A TimeoutScope is a running call of [Timeout], which its body can inspect and reschedule. Its
// methods are for the loop only, and do not suspend. Python: asyncio.Timeout.
//
//	timeout 1: It is active until it expires or its body returns. Expiry is one cancel of the task.
//	timeout 2: Counting decides whose cancel it was. Cancels that a Cleanup around the timeout holds
//	   back are not counted. At exit the expiry's own request is taken back. If no more remain than
//	   when the body was entered, the cancellation was the expiry's.
//	timeout 3: A request that is still to be delivered when the timeout expires is not counted among
//	   those before, even if it is older than the body: it arrives inside, and must go on from
//	   there. (CPython 3.13 loses it to the expiry, gh-134471.)
//	timeout 4: The expiry's cancel, if it is still to be delivered when the body returns, is
//	   dropped. Any other cancel that is to be delivered then stays, even if timeout 2 counted it
//	   among those before.
type TimeoutScope struct {
	t      *task
	when   Instant
	expiry *expiry // the callback that is set, nil if none
	before int     // requests in force when the body was entered (timeout 2)
	ask    request // the cancel request of the expiry
	state  timeoutState
}

type timeoutState uint8

const (
	timeoutActive timeoutState = iota
	timeoutExpiring
	timeoutExpired
	timeoutFinished
)

func (s timeoutState) String() string {
	return [...]string{"active", "expiring", "expired", "finished"}[s]
}

func newTimeoutScope(ctx context.Context, noBody bool, caller string) (*TimeoutScope, error) {
	if noBody {
		return nil, fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller)
	}
	t, err := taskOf(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &TimeoutScope{t: t}, nil
}

func (tm *TimeoutScope) run(ctx context.Context, when Instant, body func(context.Context, *TimeoutScope) error) (err error) {
	t := tm.t
	tm.ask = request{depth: int(t.cleanups), scope: true}
	tm.before = t.seen(tm.ask.depth)
	tm.set(when)
	defer func() { err = tm.exit(err) }() // also when body panics
	return body(ctx, tm)
}

// set sets the deadline.
func (tm *TimeoutScope) set(when Instant) {
	tm.disarm()
	tm.when = when
	if when.age == Forever {
		return
	}
	l := tm.t.loop()
	e := &expiry{tm: tm}
	tm.expiry = e
	if !when.After(l.Time()) {
		l.schedule(e, nil)
	} else {
		e.timer = timer{when: when, cb: e}
		l.setTimer(&e.timer)
	}
}

func (tm *TimeoutScope) disarm() {
	if e := tm.expiry; e != nil {
		tm.expiry, e.tm = nil, nil
		tm.t.loop().timers.remove(&e.timer)
	}
}

func (tm *TimeoutScope) exit(err error) error {
	tm.disarm()
	if tm.state == timeoutActive {
		tm.state = timeoutFinished
		return err
	}
	tm.state = timeoutExpired
	if tm.t.withdraw(&tm.ask) > tm.before { // others remain (timeout 2, timeout 4)
		return err
	}
	if err == nil {
		return nil
	}
	timeout := &TimeoutError{When: tm.when}
	if asCancelled(err) == nil {
		return &lateError{err, timeout}
	}
	timeout.From = err
	return timeout
}

// lateError is an error of the body's own after the time was up. As in Python, where the timeout
// becomes the context of such an exception, people are told of it and handlers of timeouts are not.
type lateError struct {
	err     error
	timeout *TimeoutError
}

func (e *lateError) Error() string {
	return fmt.Sprintf("%v (while being stopped: %v)", e.err, e.timeout)
}
func (e *lateError) Unwrap() error { return e.err }

// expiry is one setting of a deadline, as the callback of its timer. It may already be in the ready
// queue when it is taken back, so tm is set to nil then.
type expiry struct {
	timer
	tm *TimeoutScope // nil once taken back
}

func (e *expiry) fire(*future) {
	if tm := e.tm; tm != nil {
		tm.expiry, tm.state = nil, timeoutExpiring
		// undelivered requests do not count (timeout 3)
		tm.before = min(tm.before, tm.t.delivered())
		tm.t.ask(&CancelledError{Msg: "timed out"}, &tm.ask)
	}
}

func (*expiry) quick() {}

// When returns the deadline; [Never] and false if there is none.
func (tm *TimeoutScope) When() (when Instant, ok bool) {
	return tm.when, tm.when.age != Forever
}

// Reschedule changes the deadline to when. One that has passed expires in the next iteration;
// [Never] takes the deadline away. It returns [ErrInvalidState] if the
// timeout has expired or its body has returned.
func (tm *TimeoutScope) Reschedule(when Instant) error {
	if tm.t == nil {
		return fmt.Errorf("%w: a zero TimeoutScope: Timeout makes one (in Reschedule)", ErrInvalidArgument)
	}
	tm.t.loop().mustBeOwner("Reschedule")
	if tm.state != timeoutActive {
		return fmt.Errorf("%w: cannot reschedule a timeout that is %v", ErrInvalidState, tm.state)
	}
	tm.set(when)
	return nil
}

// Expired reports whether the time was up before the body returned, even if the body then ended
// normally.
func (tm *TimeoutScope) Expired() bool {
	return tm.state == timeoutExpiring || tm.state == timeoutExpired
}

// String returns Python's repr: <Timeout [active] when=1.5s>.
func (tm *TimeoutScope) String() string {
	switch {
	case tm.state != timeoutActive:
		return fmt.Sprintf("<Timeout [%v]>", tm.state)
	case tm.when.age == Forever:
		return "<Timeout [active] when=None>"
	}
	return fmt.Sprintf("<Timeout [active] when=%v>", tm.when.age.Round(time.Millisecond))
}

// WaitFor awaits aw in the calling task, without a task in between. It suspends the task where aw
// does, and cancels aw if that is not done when d has passed on the loop's clock. It returns aw's
// result, or a [*TimeoutError] once aw has ended cancelled; if aw ignores the cancel, its result is
// returned, however late. To leave aw running, [Shield] it. [Forever] sets no limit.
//
// If d is not positive, the result of a future that is done is returned at once. Any other
// awaitable is cancelled and waited for; a coroutine is then not entered at all.
//
// A cancel of the calling task cancels aw, and is returned. Other errors are those of
// [Timeout] and of aw, and [ErrInvalidArgument] if aw is nil. Python: asyncio.wait_for.
func WaitFor[T any](ctx context.Context, aw Awaitable[T], d time.Duration) (T, error) {
	var v T
	if aw == nil || isNil(aw) {
		return v, fmt.Errorf("%w: nil awaitable (in WaitFor)", ErrInvalidArgument)
	}
	if d > 0 {
		err := Timeout(ctx, d, func(ctx context.Context, _ *TimeoutScope) (err error) {
			v, err = aw.Await(ctx)
			return err
		})
		return v, err
	}
	t, err := enter(ctx, "WaitFor")
	if err != nil {
		return v, err
	}
	if f, ok := aw.(AnyFuture); ok {
		if err := t.loop().checkFuture(f, "WaitFor"); err != nil {
			return v, t.refuse(err)
		}
	}
	f := EnsureFuture(ctx, aw)
	if f.state != pending {
		return f.Result()
	}
	when := t.loop().Time()
	f.cancel(&CancelledError{Msg: "timed out"})
	if _, _, err := Wait(ctx, []*Future[T]{f}); err != nil {
		return v, err
	}
	v, err = f.Result()
	if asCancelled(err) != nil {
		err = &TimeoutError{When: when, From: err}
	}
	return v, err
}
