package asyncio

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// StaggeredRace runs coroutines as tasks with staggered starts, and takes the first success. The
// first is started at once. Each of the others is started when the one before it has failed or when
// delay has passed since that was started, whichever is first; with [Forever] as delay they run one
// after the other. The first that returns without an error wins: those that run are cancelled and
// waited for, and the rest are not started. This is how the addresses of one host are tried, known
// as happy eyeballs.
//
// winner is the winner's result and index its position, -1 if there is none. errs has an entry for
// each coroutine that was started, in the order of the arguments: its error, nil for the winner
// alone. err is for the race itself, and nil if all have merely failed: [ErrInvalidArgument]; a
// [CancelledError] if the calling task was cancelled, or a task of the race that waited for its
// turn; the cause of ctx if that is done; the [PanicError] of a coroutine that panicked. With an
// error, too, all coroutines that were started have ended when StaggeredRace returns, and a winner
// is returned if there was one.
//
// StaggeredRace must be called in a task and suspends. A coroutine should return an error unless it
// has succeeded, also when it is cancelled: a result that it returns after another has won is
// dropped, and its entry in errs is then [ErrInvalidState]. Python:
// asyncio.staggered.staggered_race.
func StaggeredRace[T any](ctx context.Context, delay time.Duration, coros ...Coroutine[T]) (winner T, index int, errs []error, err error) {
	if _, err := enter(ctx, "StaggeredRace"); err != nil {
		return winner, -1, nil, err
	}
	for _, c := range coros {
		if c == nil {
			return winner, -1, nil, fmt.Errorf("%w: nil coroutine (in StaggeredRace)", ErrInvalidArgument)
		}
	}
	r := &race[T]{ctx: ctx, delay: delay, coros: coros, index: -1}
	r.start(nil)
	waitCtx := ctx
	for len(r.running) > 0 { // each task starts the next before it ends
		r.over = CreateFuture[None](ctx)
		_, e := r.over.Await(waitCtx)
		r.over = nil
		if e == nil {
			break
		}
		c := asCancelled(e)
		if c != nil || err == nil {
			err = e
		}
		if c == nil {
			c = &CancelledError{cause: e}
		}
		r.cancelAllBut(nil, c)
		if ctx.Err() != nil {
			waitCtx = context.WithoutCancel(ctx)
		}
	}
	if err == nil {
		err = r.broken
	}
	return r.winner, r.index, r.errs, err
}

// race is one call of StaggeredRace.
type race[T any] struct {
	ctx     context.Context
	delay   time.Duration
	coros   []Coroutine[T]
	running []*Task[None]
	over    *Future[None] // set while the caller waits; done when nothing runs
	stopped bool          // the running tasks have been cancelled
	winner  T
	index   int
	errs    []error
	broken  error // of a task that did not return, or that was cancelled before its coroutine
}

// start makes the next task. That waits until before has failed or the delay has passed, and then
// runs the next coroutine.
func (r *race[T]) start(before *Event) {
	var joined Event // an eager task must not begin before it is in running (gh-124309)
	entry := -1      // index in errs, once the coroutine is entered
	t := CreateTask(r.ctx, Do(func(ctx context.Context) error {
		if err := joined.Wait(ctx); err != nil {
			return err
		}
		return r.run(ctx, before, &entry)
	}))
	r.running = append(r.running, t)
	t.addCallback(&racer[T]{r, t, &entry})
	joined.Set()
}

// racer is a task of a race, as its done callback. entry is the index of its coroutine's error in
// errs, -1 if the coroutine was not entered.
type racer[T any] struct {
	r     *race[T]
	t     *Task[None]
	entry *int
}

func (c *racer[T]) fire(*future) { c.r.ended(c.t, *c.entry) }

func (c *racer[T]) awaiters() []*task {
	if c.r.over == nil {
		return nil
	}
	return c.r.over.awaitedBy()
}

func (c *racer[T]) String() string { return "StaggeredRace()" }

func (r *race[T]) run(ctx context.Context, before *Event, entry *int) error {
	if before != nil {
		_, err := WaitFor(ctx, Do(before.Wait), r.delay)
		if _, late := err.(*TimeoutError); err != nil && !late {
			return err
		}
	}
	i := len(r.errs)
	if i == len(r.coros) {
		return nil
	}
	var failed Event
	r.start(&failed)
	r.errs = append(r.errs, ErrGoexit) // unless it returns
	*entry = i
	v, err := r.coros[i](ctx)
	switch {
	case err != nil:
		r.errs[i] = err
		failed.Set()
		if CurrentTask(ctx).Cancelling() > 0 {
			return err // otherwise it would look as if the cancel had been swallowed
		}
	case r.index >= 0:
		r.errs[i] = fmt.Errorf("%w: it returned a result after another had won", ErrInvalidState)
	default:
		r.winner, r.index, r.errs[i] = v, i, nil
		r.cancelAllBut(CurrentTask(ctx), &CancelledError{Msg: "another has won the staggered race"})
	}
	return nil
}

// cancelAllBut cancels the running tasks, except one.
func (r *race[T]) cancelAllBut(but AnyTask, c *CancelledError) {
	r.stopped = true
	for _, t := range slices.Clone(r.running) {
		if AnyTask(t) != but {
			t.core().cancel(c)
		}
	}
}

// ended is the done callback of each task. entry is the index of its coroutine's error in errs, -1
// if the coroutine was not entered.
func (r *race[T]) ended(t *Task[None], entry int) {
	r.running = slices.DeleteFunc(r.running, func(u *Task[None]) bool { return u == t })
	err := t.Exception()
	_, panicked := err.(*PanicError)
	if panicked && entry >= 0 {
		r.errs[entry] = err
	}
	didNotReturn := panicked || err == ErrGoexit
	// cancelled by code that found it among all tasks; the next ones depend on it
	notTried := entry < 0 && t.Cancelled() && !r.stopped
	if (didNotReturn || notTried) && r.broken == nil {
		r.broken = err
		r.cancelAllBut(nil, &CancelledError{Msg: "a coroutine of the staggered race did not return"})
	}
	if len(r.running) == 0 && r.over != nil && !r.over.Done() {
		_ = r.over.SetResult(None{})
	}
}
