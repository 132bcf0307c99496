package asyncio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
)

// AnyFuture is a [*Future] or [*Task] of any result type. Only those two implement it.
type AnyFuture interface {
	Done() bool
	Cancelled() bool
	Exception() error
	Cancel(msg ...string) bool
	CancelCause(cause error) bool
	GetLoop() *EventLoop
	String() string
	core() *future
}

// A Future is a result that will be there later: low-level code sets it and tasks await it. Make
// one with [CreateFuture]; the zero value is not usable.
//
// It is pending until it gets a value or an error, or is cancelled. Then it is done and does not
// change again. Its methods are for the loop only and do not suspend, except Await.
type Future[T any] struct {
	future
	value T
}

// future is the state machine below [Future], without the type of the result.
//
//	future 1: pending -> finished or cancelled, once.
//	future 2: Done callbacks never run inline. Completing the future schedules each of them, in the
//	   order of adding. Adding one to a done future schedules it (CPython 9).
//	future 3: err is set when the future is cancelled (a *CancelledError, perhaps wrapped) and when
//	   it finishes with an error.
//	future 4: A cancel that is passed on reaches a task or gathering once, however many ways lead
//	   there. Where tasks gather the same tasks, which gather others, each would otherwise be asked
//	   as often as there are paths to it. CPython asks as often.
type future struct {
	_    noCopy
	loop *EventLoop
	err  error // set when cancelled or failed (future 3)

	// Done callbacks in order: first, then more. Nearly always there is only one.
	first callback
	more  *callbackList

	// super overrides cancel, as a subclass does in Python. It is the task whose result this is, or
	// the gathering whose outer future this is.
	super interface {
		cancel(*CancelledError) cancelAnswer
	}

	report *report     // set while nobody has looked at err, and always in debug mode
	state  futureState // changes once (future 1)
	shown  bool        // repr is at work on it
	quiet  bool        // set for a task: do not report it if it is destroyed pending
	mark   uint32      // for combinators and cancel: the number of the last pass that saw it
}

// A cancelAnswer is the answer of a future or task to a cancel that was passed on to it.
type cancelAnswer uint8

const (
	refused  cancelAnswer = iota // the future was done already
	accepted                     // the future will end, or use the cancel otherwise
	inCircle                     // the cancel has come back to where it was (task 7)
)

type futureState uint8

const (
	pending futureState = iota
	cancelled
	finished
)

func (s futureState) String() string {
	return [...]string{"pending", "cancelled", "finished"}[s]
}

// noCopy makes go vet object to copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// CreateFuture makes a pending future of the loop ctx leads to. It is for the loop only
// and does not suspend; it panics with [ErrNoRunningLoop] if ctx has no loop. Python:
// loop.create_future.
func CreateFuture[T any](ctx context.Context) *Future[T] {
	l := mustLoop(ctx, "CreateFuture")
	f := &Future[T]{future: future{loop: l}}
	if l.modes.Load() != 0 {
		f.remember()
	}
	return f
}

func (f *future) core() *future { return f }

// zeroFuture returns the error for a future without a loop.
func zeroFuture(caller string) error {
	return fmt.Errorf("%w: a zero Future or Task has no loop: make one with CreateFuture or CreateTask (in %s)", ErrInvalidArgument, caller)
}

func (f *future) mustBeMade(caller string) {
	if f.loop == nil {
		panic(zeroFuture(caller))
	}
}

// checkFuture returns an error if f does not belong to l.
func (l *EventLoop) checkFuture(f AnyFuture, caller string) error {
	switch f.core().loop {
	case l:
		return nil
	case nil:
		return zeroFuture(caller)
	}
	return fmt.Errorf("%w: %v (in %s)", ErrDifferentLoop, f, caller)
}

// GetLoop returns the loop the future belongs to. Any goroutine may call it.
func (f *future) GetLoop() *EventLoop { return f.loop }

// Done reports whether the future has a value, has an error or was cancelled.
func (f *future) Done() bool { return f.state != pending }

// Cancelled reports whether the future was cancelled. A task is cancelled once its coroutine has
// ended with a [CancelledError], not when the cancel is requested.
func (f *future) Cancelled() bool { return f.state == cancelled }

// Exception returns the error the future finished with, nil if it finished with a
// value, a [CancelledError] if it was cancelled, [ErrInvalidState] if it is not done.
// The error then counts as retrieved.
func (f *future) Exception() error {
	if f.state == pending {
		return fmt.Errorf("%w: the exception is not set yet: await the future first", ErrInvalidState)
	}
	if f.report != nil {
		if err := f.loop.checkForeign("Exception"); err != nil {
			return err
		}
		f.retrieved()
	}
	return f.err
}

// Cancel cancels a pending future, or asks a task to stop. msg, at most one, is kept in the error.
// It reports false if the future was done.
//
// Tasks that wait for the future get a [CancelledError] in the next iteration. A task that is
// cancelled gets it at the await it is in, or at its next one; it may clean up, and may even carry
// on.
//
// It panics with [ErrForeignGoroutine], and with [ErrInvalidArgument] for a zero future. On a
// closed loop it reports false. Python: Future.cancel, Task.cancel.
func (f *future) Cancel(msg ...string) bool {
	return f.requestCancel(nil, msg)
}

// CancelCause is [Future.Cancel] with a reason that errors.Is and errors.As find in
// the [CancelledError]. It has no counterpart in Python.
func (f *future) CancelCause(cause error) bool {
	return f.requestCancel(cause, nil)
}

func (f *future) requestCancel(cause error, msg []string) bool {
	f.mustBeMade("Cancel")
	f.loop.mustNotBeForeign("Cancel")
	if f.state != pending || f.loop.guard.Load() == guardClosed {
		f.retrieved()
		return false
	}
	c := &CancelledError{cause: cause}
	if len(msg) > 0 {
		c.Msg = msg[0]
	}
	if t := f.loop.current; t != nil {
		c.By = t.GetName()
	}
	return f.cancel(c) != refused
}

func (f *future) cancel(c *CancelledError) cancelAnswer {
	if f.super != nil {
		return f.passCancel(c)
	}
	f.retrieved()
	if f.state != pending {
		return refused
	}
	f.finishCancelled(c)
	return accepted
}

// passCancel passes a cancel on to super, at most once for each cancel (future 4). No code of the
// program runs meanwhile, so marks of combinators and marks of a cancel do not meet. A future whose
// answer was inCircle may be asked again (task 7).
func (f *future) passCancel(c *CancelledError) cancelAnswer {
	l := f.loop
	if l.cancelDepth == 0 {
		l.mark++
	} else if f.mark == l.mark && f.state == pending {
		return accepted
	}
	l.cancelDepth++
	answer := f.super.cancel(c)
	l.cancelDepth--
	if answer == accepted {
		f.mark = l.mark
	}
	return answer
}

// finishCancelled completes a pending future as cancelled.
func (f *future) finishCancelled(err error) {
	f.state, f.err = cancelled, err
	f.scheduleCallbacks()
}

// finish completes the future. If err is nil, the value has been stored already.
func (f *future) finish(err error) {
	f.state, f.err = finished, err
	if err != nil {
		f.arm()
	}
	f.scheduleCallbacks()
}

// scheduleCallbacks schedules the done callbacks when the future completes (future 2). addCallback
// does so for those that come later.
func (f *future) scheduleCallbacks() {
	if cb := f.first; cb != nil {
		f.first = nil
		f.loop.schedule(cb, f)
	}
	if more := f.more; more != nil {
		f.more = nil
		for _, cb := range more.all {
			if cb != nil {
				f.loop.schedule(cb, f)
			}
		}
	}
}

// addCallback makes f schedule cb when it is done, or now if it is done already.
func (f *future) addCallback(cb callback) {
	switch {
	case f.state != pending:
		f.loop.schedule(cb, f)
	case f.more != nil:
		f.more.add(cb)
	case f.first != nil:
		f.more = &callbackList{all: []callback{cb}, live: 1}
	default:
		f.first = cb
	}
}

// removeCallback removes cb, if it has not been scheduled, and returns how many callbacks it
// removed, one or none.
func (f *future) removeCallback(cb callback) int {
	switch {
	case f.first == cb:
		f.first = nil
		return 1
	case f.more == nil || !f.more.remove(cb):
		return 0
	case f.more.live == 0:
		f.more = nil
	}
	return 1
}

// callbackList holds the done callbacks of a future from the second on, in the order of adding. No
// callback is in it twice.
//
// Removing a callback leaves a hole. Holes are closed when they are half of the list, and there are
// none at its ends. Callbacks are searched for from both ends, because when thousands that wait for
// one future leave it at the same time, they nearly always leave in the order in which they came,
// or in the reverse. Once searching has cost more steps than the list is long, an index is made, so
// that removing n callbacks in any order costs a multiple of n.
type callbackList struct {
	all   []callback
	live  int              // entries that are not holes
	steps int              // the cost of searches since there has been no index
	index map[callback]int // where each callback is in all, plus shift; nil while it does not pay
	shift int              // entries cut off at the front since the index was made
}

// fewCallbacks is the most callbacks that are searched without an index.
const fewCallbacks = 32

// passedOver counts, in tests, the entries of lists that searches have looked at in vain.
var passedOver *atomic.Int64

func passOver(n int) {
	if passedOver != nil {
		passedOver.Add(int64(n))
	}
}

func (c *callbackList) add(cb callback) {
	if c.index != nil {
		c.index[cb] = len(c.all) + c.shift
	}
	c.all = append(c.all, cb)
	c.live++
}

func (c *callbackList) remove(cb callback) bool {
	at := c.find(cb)
	if at < 0 {
		return false
	}
	c.all[at] = nil
	c.live--
	if c.index != nil {
		delete(c.index, cb)
	}
	for len(c.all) > 0 && c.all[0] == nil {
		c.all = c.all[1:]
		c.shift++
	}
	for n := len(c.all); n > 0 && c.all[n-1] == nil; n-- {
		c.all = c.all[:n-1]
	}
	switch {
	case c.live <= fewCallbacks/2:
		c.index, c.steps = nil, 0
	case c.live < len(c.all)/2:
		c.all = slices.DeleteFunc(c.all, func(cb callback) bool { return cb == nil })
		if c.index != nil {
			c.makeIndex()
		}
	}
	return true
}

// find returns where cb is in c.all, -1 if it is not there.
func (c *callbackList) find(cb callback) int {
	if c.index == nil && c.steps > len(c.all) && c.live > fewCallbacks {
		c.makeIndex()
	}
	if c.index != nil {
		if at, ok := c.index[cb]; ok {
			return at - c.shift
		}
		return -1
	}
	for i, j := 0, len(c.all)-1; i <= j; i, j = i+1, j-1 {
		if c.all[i] == cb {
			return i
		}
		if c.all[j] == cb {
			return j
		}
		c.steps += 2
		passOver(2)
	}
	return -1
}

func (c *callbackList) makeIndex() {
	c.index, c.shift, c.steps = make(map[callback]int, c.live), 0, 0
	for i, cb := range c.all {
		if cb != nil {
			c.index[cb] = i
		}
	}
}

// await suspends the current task until f is done. A nil error means that f is done, and says
// nothing about its result. The code before and after the suspension is in functions of its own,
// because its frames would be on every suspended stack (stack 9).
func (f *future) await(ctx context.Context) error {
	t, link, err := f.beginWait(ctx)
	if t == nil {
		return err // nil if f is done: then there is no suspension (CPython 10)
	}
	if at := t.depart(); at != nil {
		if at.Toggle() {
			at.Yield(struct{}{})
		} else {
			at.Next()
		}
	}
	t.arrive()
	return f.endWait(ctx, t, link)
}

// beginWait begins a wait of the current task for f and returns the task, or nil if it does not
// wait.
func (f *future) beginWait(ctx context.Context) (*task, *watchLink, error) {
	t, err := f.waiterFor(ctx)
	if t == nil {
		return nil, nil, err
	}
	t.waiter = f
	f.addCallback(t)
	if t.state == mustCancel { // f is cancelled at once (CPython 14)
		t.descending = true
		answer := f.cancel(t.speaks())
		t.descending = false
		switch answer {
		case accepted:
			t.state = wentDown
		case inCircle: // the tasks the cancel has come through are underneath this one (task 7)
			f.removeCallback(t)
			t.waiter = nil
			t.loop().schedule(t, nil)
		}
	}
	return t, t.watchContext(ctx), nil
}

// waiterFor returns the current task if it is to wait for f. Otherwise it returns nil and, unless f
// is done, an error.
func (f *future) waiterFor(ctx context.Context) (*task, error) {
	if ctx == nil {
		return nil, f.refusal(nil)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f.state != pending {
		return nil, nil
	}
	l := loopOf(ctx)
	if l == nil {
		return nil, noLoop(ctx, "Await")
	}
	t, err := l.currentTask("Await")
	if err != nil {
		return nil, err
	}
	if f.loop != l || f == t.fut {
		return nil, f.refusal(t)
	}
	return t, nil
}

// refusal returns the error for t, which cannot wait for f. It is separate so that waiterFor needs
// little room on the stack.
//
//go:noinline
func (f *future) refusal(t *task) error {
	switch {
	case t == nil:
		return fmt.Errorf("%w: nil context (in Await)", ErrInvalidArgument)
	case f.loop == nil:
		return zeroFuture("Await")
	case f == t.fut:
		return t.refuse(fmt.Errorf("%w: %v", ErrAwaitSelf, t.self))
	}
	return t.refuse(fmt.Errorf("%w: %v", ErrDifferentLoop, t.self))
}

// endWait ends t's wait for f.
func (f *future) endWait(ctx context.Context, t *task, link *watchLink) error {
	t.waiter = nil
	interrupted := t.watching != withNone && t.unwatchContext(link)
	switch t.state {
	// the cancel replaces whatever arrived, unless that is a cancellation (CPython 13)
	case mustCancel:
		return t.replace(f, interrupted)
	case wentDown:
		t.deliver() // the outcome of f is the answer, whatever it is
	}
	if interrupted {
		return t.causeOf(ctx, link)
	}
	return nil
}

// retrieved notes that someone has looked at the future's error.
func (f *future) retrieved() {
	if r := f.report; r != nil {
		r.unlink()
		if r.created == nil {
			f.report = nil
		}
	}
}

// unretrieved reports whether f has an error that nobody has looked at.
func (f *future) unretrieved() bool { return f.report != nil && f.report.list != nil }

// Await suspends the calling task until the future is done and returns its result. It does not
// suspend if the future is done already.
//
// A cancel of the calling task cancels the future it waits for. If that future is a task, this is a
// request, and Await goes on waiting until the task has ended. A done ctx ends only the wait.
// Errors:
//   - the future's own, a [CancelledError] if it was cancelled;
//   - a CancelledError if the calling task was cancelled;
//   - the cause of ctx if that is done;
//   - [ErrDifferentLoop], [ErrAwaitSelf], [ErrNotInTask], [ErrNoRunningLoop],
//     [ErrForeignGoroutine], [ErrLoopClosed], and [ErrInvalidArgument] for a nil ctx or a zero
//     future.
//
// Python: await.
func (f *Future[T]) Await(ctx context.Context) (T, error) {
	if err := f.await(ctx); err != nil {
		var zero T
		return zero, err
	}
	return f.Result()
}

// Result returns the future's value or error: a [CancelledError] if it was cancelled,
// [ErrInvalidState] if it is not done. The error then counts as retrieved.
func (f *Future[T]) Result() (T, error) {
	if f.state == pending {
		var zero T
		return zero, fmt.Errorf("%w: the result is not ready: await the future first", ErrInvalidState)
	}
	if f.report != nil {
		if err := f.loop.checkForeign("Result"); err != nil {
			var zero T
			return zero, err
		}
		f.retrieved()
	}
	return f.value, f.err
}

// SetResult completes the future with a value. It returns [ErrInvalidState] if the future is done,
// or if it is a task, because only the coroutine sets a task's result. It also returns
// [ErrForeignGoroutine], which is logged, too; [ErrLoopClosed]; or [ErrInvalidArgument] for a zero
// future. Python: set_result.
func (f *Future[T]) SetResult(v T) error {
	if err := f.checkSettable("SetResult"); err != nil {
		return err
	}
	f.value = v
	f.finish(nil)
	return nil
}

// SetException completes the future with an error. A [CancelledError] is an error like any other
// here: the future is then finished, not cancelled. It returns [ErrInvalidArgument] if err is nil,
// and otherwise the errors of [Future.SetResult]. Python: set_exception.
func (f *Future[T]) SetException(err error) error {
	if err == nil {
		return fmt.Errorf("%w: nil error (in SetException): use SetResult", ErrInvalidArgument)
	}
	if e := f.checkSettable("SetException"); e != nil {
		return e
	}
	f.finish(err)
	return nil
}

func (f *future) checkSettable(caller string) error {
	if f.super != nil {
		return fmt.Errorf("%w: %s: only its coroutine sets the result of a task", ErrInvalidState, caller)
	}
	if f.loop == nil {
		return zeroFuture(caller)
	}
	if err := f.loop.checkOwner(caller); err != nil {
		if errors.Is(err, ErrForeignGoroutine) {
			// The future's waiters would wait for ever, and callers easily drop this error.
			f.loop.runDefaultHandler(ExceptionContext{Message: "a result was not set", Exception: err})
		}
		return err
	}
	if f.state != pending {
		return fmt.Errorf("%w: %s: the future is %s already", ErrInvalidState, caller, f.state)
	}
	return nil
}

// A DoneCallback is a function that was added to a future with [Future.AddDoneCallback]. Give it to
// [Future.RemoveDoneCallback] to remove the function.
type DoneCallback struct {
	fn  func()
	src any             // the user's function, for its name
	ctx context.Context // of the task that added it, nil if none did
}

func (c *DoneCallback) fire(f *future) { f.loop.invoke(c.fn, c.src, c) }

// String returns Python's repr of the callback's handle: <Handle main.done() at done.go:12>.
func (c *DoneCallback) String() string { return fmt.Sprintf("<Handle %s>", callSite(funcPC(c.src))) }

// AddDoneCallback schedules fn when the future is done, or at once if it is done already. Callbacks
// run in the order they were added, never inside the call that completes the future. It panics with
// [ErrInvalidArgument] if fn is nil or the future zero, [ErrLoopClosed], and [ErrForeignGoroutine].
// Python: add_done_callback.
func (f *Future[T]) AddDoneCallback(fn func(*Future[T])) *DoneCallback {
	if fn == nil {
		panic(fmt.Errorf("%w: nil function (in AddDoneCallback)", ErrInvalidArgument))
	}
	return f.addDoneCallback(func() { fn(f) }, fn)
}

// addDoneCallback adds fn. Messages name it after the function src.
func (f *future) addDoneCallback(fn func(), src any) *DoneCallback {
	f.mustBeMade("AddDoneCallback")
	f.loop.mustBeOwner("AddDoneCallback")
	c := &DoneCallback{fn: fn, src: src, ctx: f.loop.currentContext()}
	f.addCallback(c)
	return c
}

// RemoveDoneCallback takes c back if it has not been scheduled yet, and returns how many callbacks
// it removed, one or none. It panics with [ErrForeignGoroutine]. Python: remove_done_callback,
// which removes by equality; Go's functions cannot be compared.
func (f *Future[T]) RemoveDoneCallback(c *DoneCallback) int {
	f.mustBeMade("RemoveDoneCallback")
	f.loop.mustNotBeForeign("RemoveDoneCallback")
	return f.removeCallback(c)
}

// callbacks is a sequence of f's done callbacks.
func (f *future) callbacks(yield func(callback) bool) {
	if f.first != nil && !yield(f.first) || f.more == nil {
		return
	}
	for _, cb := range f.more.all {
		if cb != nil && !yield(cb) {
			return
		}
	}
}

// isNil reports whether f is a nil pointer or interface.
func isNil(f any) bool {
	v := reflect.ValueOf(f)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
