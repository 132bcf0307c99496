package asyncio

import (
	"context"
	"fmt"
	"time"
)

// A ReturnCondition says when [Wait] is over.
type ReturnCondition int

const (
	AllCompleted   ReturnCondition = iota // all futures are done; the default
	FirstCompleted                        // one is done
	FirstException                        // one finished with an error, or all are done
)

// A WaitOption is an option of [Wait]. Any goroutine may make one.
type WaitOption struct {
	timed   bool
	timeout time.Duration
	when    ReturnCondition
	whenSet bool
}

// ReturnWhen makes [Wait] return when c is met.
func ReturnWhen(c ReturnCondition) WaitOption { return WaitOption{when: c, whenSet: true} }

// WaitTimeout makes [Wait] return after d on the loop's clock, with the futures done by then. It is
// not an error for Wait to run into it. With a d that is not positive, Wait only checks which are
// done and returns.
func WaitTimeout(d time.Duration) WaitOption { return WaitOption{timed: true, timeout: d} }

// Wait suspends the calling task until the futures are done, or until the conditions of
// [ReturnWhen] and [WaitTimeout] are met. It returns the futures that are done and those that are
// not, in the order they were given, each once. It neither cancels futures nor looks at their
// results: a failed one is in done.
//
// A cancel of the task ends the wait and leaves the futures alone. Wait returns
// [ErrInvalidArgument] for an empty list or a nil future, [ErrDifferentLoop] for a future of
// another loop, and the errors of [Future.Await] that are not the future's own.
// Python: asyncio.wait.
func Wait[F AnyFuture](ctx context.Context, fs []F, opts ...WaitOption) (done, pending []F, err error) {
	var o WaitOption
	for _, opt := range opts {
		if opt.whenSet {
			o.when = opt.when
		}
		if opt.timed {
			o.timed, o.timeout = true, opt.timeout
		}
	}
	if len(fs) == 0 {
		return nil, nil, fmt.Errorf("%w: no futures (in Wait)", ErrInvalidArgument)
	}
	if o.when < AllCompleted || o.when > FirstException {
		return nil, nil, fmt.Errorf("%w: unknown ReturnCondition %d (in Wait)", ErrInvalidArgument, o.when)
	}
	t, err := enter(ctx, "Wait")
	if err != nil {
		return nil, nil, err
	}
	l := t.loop()
	unique := make([]F, 0, len(fs))
	l.mark++
	for _, f := range fs {
		if isNil(f) {
			return nil, nil, fmt.Errorf("%w: nil future (in Wait)", ErrInvalidArgument)
		}
		if err := l.checkFuture(f, "Wait"); err != nil {
			return nil, nil, err
		}
		if c := f.core(); c.mark != l.mark {
			c.mark = l.mark
			unique = append(unique, f)
		}
	}

	w := &waiting{t: t, left: len(unique), when: o.when}
	if o.timed {
		w.timer = timer{when: l.after(o.timeout), cb: (*waitTimeout)(w)}
		l.setTimer(&w.timer)
	}
	for _, f := range unique {
		f.core().addCallback(w)
	}
	err = t.park(ctx, w)
	w.over = true
	l.timers.remove(&w.timer)
	n := 0
	for _, f := range unique {
		f.core().removeCallback(w)
		if f.Done() {
			n++
		}
	}
	if err != nil {
		return nil, nil, err
	}
	done, pending = make([]F, 0, n), make([]F, 0, len(unique)-n)
	for _, f := range unique {
		if f.Done() {
			done = append(done, f)
		} else {
			pending = append(pending, f)
		}
	}
	return done, pending, nil
}

// waiting is one call of Wait, as the done callback of its futures.
type waiting struct {
	t     *task
	timer timer
	left  int
	when  ReturnCondition
	over  bool // the wait is over; callbacks scheduled before may still come
}

func (w *waiting) fire(f *future) {
	w.left--
	failed := f.state == finished && f.err != nil
	if w.left == 0 || w.when == FirstCompleted || failed && w.when == FirstException {
		w.release()
	}
}

func (*waiting) quick() {}

func (w *waiting) awaiters() []*task { return []*task{w.t} }

func (w *waiting) release() {
	if !w.over {
		w.t.loop().timers.remove(&w.timer)
		w.t.unpark()
	}
}

func (w *waiting) String() string { return "Wait()" }

// waitTimeout is a waiting as the callback of its timer.
type waitTimeout waiting

func (w *waitTimeout) fire(*future) { (*waiting)(w).release() }

func (*waitTimeout) quick() {}
