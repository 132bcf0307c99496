package asyncio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// A loop, or a goroutine, can await a coroutine on another loop.
//
//	call 1: A call that waits suspends a task, or blocks a goroutine that runs no loop. It never
//	   blocks a loop. So loops that call each other, in any depth and in both directions at once, go
//	   on: each answers calls while its own task waits.
//	call 2: The start, cancels and the result all go through the inbox of the receiving loop, in
//	   order.
//	call 3: A call is over when its coroutine has ended on the other loop, not before. A cancel of
//	   the caller and the end of its context go to the coroutine, which may clean up and decides the
//	   result. The caller never goes on while the coroutine still works for it. A cancel that
//	   arrives after the coroutine has ended is delivered to the caller, just as within a single
//	   loop a cancel that comes after the result (CPython 13).
//	call 4: The coroutine's context has the values of the caller's. It ends when the caller's does,
//	   with its cause; when the loop's own does; and when the call is over. If the caller's context
//	   has ended before the coroutine's first step, the coroutine is not run. All of this holds for
//	   a call within one loop too, so that nothing depends on which loop is called.
//	call 5: A loop that closes ends the calls that it was to do, with ErrLoopClosed, and cancels
//	   those that it waits for.
//	call 6: Two clocks of which one is virtual have no time in common, and could stand still for
//	   ever waiting for each other. Loops with such clocks do not call each other.

// Call runs coro as a task of l and waits until it has ended. The caller may be a task of l or of
// another loop, which is suspended, or a goroutine outside of every loop, which is blocked. Only
// the arguments and the result go from loop to loop: coro alone touches the state of l.
//
// coro's ctx has the values of the caller's, ends with it and, at the latest, with the call. Give
// [EventLoop.Context] to tasks that coro leaves running. A cancel of the calling task cancels coro.
// In both cases Call waits for coro to end and returns coro's result, or a [CancelledError] if coro
// had ended before the cancel came. Loops may call each other as they like; a loop goes on with its
// other work while it waits for another. opts are those of [CreateTask].
//
// Besides coro's errors it returns a [*PanicError] if coro panics, which l has reported;
// [ErrLoopClosed] if l is closed, or closes before coro is done; [ErrNotInTask] in a callback;
// [ErrLoopRunning] in a task that does not use its ctx, where that can be told; and
// [errors.ErrUnsupported] between two loops one of which is on virtual time.
func Call[T any](ctx context.Context, l *EventLoop, coro Coroutine[T], opts ...TaskOption) (T, error) {
	var zero T
	if ctx == nil || l == nil || coro == nil {
		return zero, fmt.Errorf("%w: nil context, loop or coroutine (in Call)", ErrInvalidArgument)
	}
	from := loopOf(ctx)
	if from == nil {
		return callFromOutside(ctx, l, coro, opts)
	}
	t, err := enter(ctx, "Call")
	if err != nil {
		return zero, err
	}
	patient := context.WithoutCancel(ctx) // the end of ctx goes to coro (call 3)
	if from == l {
		inner := newClockContext(ctx, "Call") // the coroutine's ctx ends with the call (call 4)
		defer inner.release()
		return CreateTask(inner, unlessOver(ctx, coro), opts...).Await(patient)
	}
	// Their clocks have no time in common (call 6).
	if from.drv.Polls() || l.drv.Polls() {
		return zero, fmt.Errorf("asyncio: %w: a loop on virtual time and another one have no common clock (in Call)", errors.ErrUnsupported)
	}
	c := StartCall(ctx, l, coro, opts...)
	w := &callWait[T]{future: future{loop: t.loop()}, call: c, caller: t}
	w.super = w
	defer func() {
		if !c.Done() { // the caller's loop is closed and unwinds the task
			w.cancel(&CancelledError{Msg: "the loop that called is closed"})
		}
	}()
	defer c.whenDone(func() { _ = w.loop.post((*callDone[T])(w)) })()
	if err := w.await(patient); err != nil {
		return zero, err
	}
	return c.value, c.err
}

// unlessOver returns coro, but does not run it if from ends before its first step (call 4). The
// loop may not have heard of that end by then.
func unlessOver[T any](from context.Context, coro Coroutine[T]) Coroutine[T] {
	return wrapped(coro, func(ctx context.Context, run func(ctx context.Context) error) error {
		if from.Err() != nil {
			return context.Cause(from)
		}
		return run(ctx)
	})
}

func callFromOutside[T any](ctx context.Context, l *EventLoop, coro Coroutine[T], opts []TaskOption) (T, error) {
	if l.isOn() {
		var zero T
		return zero, fmt.Errorf("%w: this is its goroutine; use the ctx that the coroutine was given (in Call)", ErrLoopRunning)
	}
	c := StartCall(ctx, l, coro, opts...)
	defer c.lendClock(ctx)()
	<-c.done
	return c.value, c.err
}

// StartCall is [Call] without the wait: it runs coro as a task of l and returns a future, whose
// Await or Result waits. It is [RunCoroutineThreadsafe] with a ctx: coro's has the values of ctx
// and ends with it, and when coro is done. Any goroutine may call it; it does not block. If ctx is
// done before coro starts, coro is not run, and the error is the cause of ctx. Else the errors are
// those of [Call].
func StartCall[T any](ctx context.Context, l *EventLoop, coro Coroutine[T], opts ...TaskOption) *ConcurrentFuture[T] {
	c := &ConcurrentFuture[T]{loop: l, coro: coro, from: ctx, opts: slices.Clone(opts), done: make(chan struct{})}
	if ctx == nil {
		var zero T
		c.resolve(zero, fmt.Errorf("%w: nil context (in StartCall)", ErrInvalidArgument))
		return c
	}
	c.begin("StartCall")
	return c
}

// A calling task is suspended on a callWait: a future that passes a cancel on and ends with the
// call.
type callWait[T any] struct {
	future
	call   *ConcurrentFuture[T]
	caller *task

	asked   *CancelledError                // the last cancel that was passed on
	arrived atomic.Pointer[CancelledError] // the last that came before the coroutine had ended
}

func (w *callWait[T]) cancel(e *CancelledError) cancelAnswer {
	if w.state != pending || w.call.Done() {
		return refused
	}
	w.asked = e
	_ = w.call.loop.post(&callCancel[T]{w, e}) // a closed loop has ended it
	return accepted
}

// callCancel is a cancel that arrives behind the start (call 2).
type callCancel[T any] struct {
	w *callWait[T]
	e *CancelledError
}

func (p *callCancel[T]) fire(*future) {
	if t := p.w.call.task; t != nil && t.Future.cancel(p.e) != refused {
		p.w.arrived.Store(p.e)
	}
}

// callDone is the result that arrives at the caller's loop.
type callDone[T any] callWait[T]

func (d *callDone[T]) fire(*future) {
	f := &d.future
	if f.state != pending {
		return
	}
	// too late for the coroutine (call 3)
	if e := d.asked; e != nil && e != d.arrived.Load() && d.caller.state == wentDown {
		d.caller.state = mustCancel
	}
	if d.call.err != nil && asCancelled(d.call.err) != nil {
		f.finishCancelled(d.call.err)
		f.retrieved()
	} else {
		f.finish(nil)
	}
}

// callContext is the parent of a called coroutine's context: the values are the caller's, the rest
// is the loop's.
type callContext struct {
	*loopContext
	values context.Context
}

func (c *callContext) Value(key any) any {
	switch key.(type) {
	case loopKey, clockKey, outsideKey:
		return c.loopContext.Value(key)
	}
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.loopContext.Value(key)
}

// enterCall makes the context of a called coroutine, on its loop, and returns the function that
// ends it (call 4).
func (l *EventLoop) enterCall(from context.Context) (_ context.Context, leave func()) {
	// WithoutCancel keeps package context from taking the caller's end for the loop's.
	inner := newClockContext(&callContext{l.ctx, context.WithoutCancel(from)}, "Call")
	if d, ok := from.Deadline(); ok && !l.drv.Polls() {
		inner.deadline = d
	}
	stop := context.AfterFunc(from, func() {
		inner.cancel(context.Cause(from))
		_ = l.post(inner)
	})
	return inner, func() {
		stop()
		inner.release()
	}
}
