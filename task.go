package asyncio

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/coro"
)

// A Task runs a coroutine on the loop, beside the others. Make one with [CreateTask]. It is also
// the [Future] of the coroutine's result and has its methods: Await, Result, Cancel, Done and the
// rest. Its methods are for the loop only and do not suspend, except Await.
//
// # The life of a task
//
//	task 1: A task is scheduled when it is made, and its coroutine is first entered in the next
//	   iteration. An eager task is entered at once.
//	task 2: It runs until it awaits something that is not done. Then it is suspended, and exactly
//	   one thing will schedule it again: the future it waits for, or the timer or queue it is parked
//	   with; after a bare yield it has been scheduled already. There are never two: a context that
//	   ends, or a cancel, first takes that thing away.
//	task 3: Cancel goes to the future that the task waits for. If that does not accept it (because
//	   it is done), or if there is none, the request is noted. The cancellation is then delivered
//	   when the task next resumes, in place of what it was to receive, or at its next wait.
//	task 4: A task ends when its coroutine returns. It ends cancelled if the error is a
//	   CancelledError, or if there is no error and a cancel is still to be delivered; otherwise it
//	   ends finished. The loop keeps it until then.
//	task 5: A task that is cancelled before it starts ends cancelled without being entered.
//	task 6: A panic ends the task with a *PanicError. It is reported at once, and the task group
//	   that the task is in is aborted at once (group 4, at TaskGroup). A Goexit ends the task with
//	   ErrGoexit and halts the run. Closing the loop unwinds the task as Goexit does.
//	task 7: If a cancel on its way down from a task comes back to that task, tasks wait for each
//	   other in a circle. The last of them whose stack allows it is then woken with the
//	   cancellation, as if it had not been waiting. CPython ends in a RecursionError.
type Task[T any] struct {
	Future[T]
	task
	coro Coroutine[T]
}

// AnyTask is a [*Task] of any result type.
type AnyTask interface {
	AnyFuture
	GetName() string
	SetName(name string)
	GetContext() context.Context
	Cancelling() int
	Uncancel() int
	GetStack() []runtime.Frame
	PrintStack(w io.Writer) error
	taskCore() *task
}

// task is a [Task] without the type of the result.
type task struct {
	fut  *future // the task's own
	self body
	ctx  context.Context
	name atomic.Pointer[string] // nil: "Task-" and num; the watchdog's goroutine reads it, too

	stack  *stack       // nil before it starts and after it ends
	waiter *future      // the future it is suspended on (task 2), nil if it is parked
	on     fmt.Stringer // the thing it is parked for, to be shown to people

	rand *rand.Rand // see Rand

	asked     *request        // requests by scopes of its own, oldest first (cancel 2)
	cancelErr *CancelledError // the last that is owed from outside, or the one that woke it
	cancels   int32           // requests that have not been taken back (cancel 1)
	outside   int32           // how many of these came from outside and are owed
	num       uint32
	index     uint32 // in the loop's list of tasks
	recorded  uint32 // the number by which the recorder knows it, 0 if it has none
	cleanups  uint16 // how many Cleanups it is in (cancel 3)

	state    cancelState
	watching watching
	parked   bool // waits for unpark
	// it was evicted by a request of one of its own scopes (cancel 2)
	wokenByScope bool
	interrupted  bool // woken by the end of its context
	covered      bool // a task it waits for runs on top of it (stack 5)
	descending   bool // a cancel is on its way down from it (task 7)
	own          bool // the library has made it for itself, where Python has no task
}

// body is the typed part of a task.
type body interface {
	AnyTask
	run(ctx context.Context) error
	code() uintptr // address of the coroutine function
	codeWith(*codes) uintptr
}

// A TaskOption is an option of [CreateTask], [GroupTask], [GroupStart], [Call] and [StartCall]. Any
// goroutine may make one.
type TaskOption struct {
	name  string
	eager int8 // 0: not given, 1: on, -1: off
}

// TaskName names the task. The default is Task-1, Task-2 and so on, counted by each loop.
func TaskName(name string) TaskOption { return TaskOption{name: name} }

// EagerStart enters the coroutine inside CreateTask, up to its first suspension, if the
// loop is running. A task that ends there was never scheduled.
func EagerStart(eager bool) TaskOption { return TaskOption{eager: onOff(eager)} }

func onOff(b bool) int8 {
	if b {
		return 1
	}
	return -1
}

// CreateTask runs coro as a task and returns it without waiting. The coroutine gets ctx, with its
// values, and its end if it has one. The loop keeps the task until it is done, whether or not the
// caller does.
//
// It is for the loop only; on a loop that is not running yet, use [EventLoop.Context]. The
// coroutine must not hold [runtime.LockOSThread] where it suspends or starts an eager task: the Go
// runtime ends the program then. Work that needs a thread of its own goes to [ToThread].
//
// It does not suspend. It panics with [ErrNoRunningLoop], [ErrLoopClosed], [ErrForeignGoroutine]
// or, if coro is nil, [ErrInvalidArgument]. Python: asyncio.create_task.
func CreateTask[T any](ctx context.Context, coro Coroutine[T], opts ...TaskOption) *Task[T] {
	l := mustLoop(ctx, "CreateTask")
	if coro == nil {
		panic(fmt.Errorf("%w: nil coroutine (in CreateTask)", ErrInvalidArgument))
	}
	t := &Task[T]{coro: coro}
	ctx, eager := t.prepare(l, ctx, opts)
	t.start(l, ctx, eager)
	return t
}

// EnsureFuture returns a itself if it is a future or a task, and otherwise a new task that
// awaits it. It is for the loop only and does not suspend; it panics as [CreateTask] does.
func EnsureFuture[T any](ctx context.Context, a Awaitable[T]) *Future[T] {
	switch a := a.(type) {
	case *Future[T]:
		return a
	case *Task[T]:
		return &a.Future
	case Coroutine[T]:
		return &CreateTask(ctx, a).Future
	case nil:
		panic(fmt.Errorf("%w: nil awaitable (in EnsureFuture)", ErrInvalidArgument))
	}
	return &CreateTask(ctx, a.Await).Future
}

// start makes t a task of l and starts it.
func (t *Task[T]) start(l *EventLoop, ctx context.Context, eager bool) {
	t.enlist(l, ctx, t)
	if eager && l.running.Load() {
		l.startEagerly(&t.task)
	} else {
		l.schedule(&t.task, nil)
	}
}

// configure applies opts. eager is 1 if they ask for an eager start, -1 if they forbid one, else 0.
func (t *task) configure(opts []TaskOption) (eager int8) {
	for _, o := range opts {
		if o.name != "" {
			t.name.Store(&o.name)
		}
		if o.eager != 0 {
			eager = o.eager
		}
	}
	return eager
}

// enlist makes t a task of l.
func (t *task) enlist(l *EventLoop, ctx context.Context, self body) {
	t.fut, t.self, t.ctx = self.core(), self, ctx
	t.fut.loop, t.fut.super = l, t
	if t.name.Load() == nil { // as in Python, a task with a name does not use up a number
		l.taskSeq++
		t.num = l.taskSeq
	}
	if modes := l.modes.Load(); modes != 0 {
		t.enlistIn(modes)
		return
	}
	l.tasks.add(t)
}

// enlistIn is the rest of enlist for a loop with observers (debug 1).
func (t *task) enlistIn(modes uint32) {
	l := t.loop()
	t.isMade(modes)
	if l.recorder != nil {
		l.recorder.made(t)
	}
	l.tasks.add(t)
	if modes&inspectMode != 0 && l.step.observer != nil {
		l.step.observer.taskMade(t)
	}
}

// CurrentTask returns the task that is running on the loop ctx leads to. It returns nil in a
// callback, or if ctx leads to no loop. It is for the loop only and does not suspend; it panics
// with [ErrForeignGoroutine]. Python: asyncio.current_task.
func CurrentTask(ctx context.Context) AnyTask {
	l := loopOf(ctx)
	if l == nil {
		return nil
	}
	l.mustNotBeForeign("CurrentTask")
	if l.current == nil {
		return nil
	}
	return l.current.self
}

// AllTasks returns the tasks of the loop ctx leads to, except those that are done, in the order
// they were created. It is for the loop only and does not suspend; it panics with
// [ErrForeignGoroutine]. Python: asyncio.all_tasks.
func AllTasks(ctx context.Context) []AnyTask {
	var all []AnyTask
	if l := loopOf(ctx); l != nil {
		l.mustNotBeForeign("AllTasks")
		for t := range l.tasks.all {
			all = append(all, t.self)
		}
	}
	return all
}

func (t *task) taskCore() *task  { return t }
func (t *task) loop() *EventLoop { return t.fut.loop }

func (t *Task[T]) run(ctx context.Context) (err error) {
	t.value, err = t.coro(ctx)
	return err
}

func (t *Task[T]) code() uintptr { return coroutinePC(t.coro) }

func (t *Task[T]) codeWith(c *codes) uintptr { return codeOf(t.coro, c) }

// AddDoneCallback is [Future.AddDoneCallback] for the task: fn gets the task itself. Python:
// Task.add_done_callback.
func (t *Task[T]) AddDoneCallback(fn func(*Task[T])) *DoneCallback {
	if fn == nil {
		panic(fmt.Errorf("%w: nil function (in AddDoneCallback)", ErrInvalidArgument))
	}
	return t.addDoneCallback(func() { fn(t) }, fn)
}

// GetCoro returns the coroutine that the task runs.
func (t *Task[T]) GetCoro() Coroutine[T] { return t.coro }

// GetContext returns the context that the task's coroutine was given. Any goroutine may call it.
func (t *task) GetContext() context.Context { return t.ctx }

// GetName returns the task's name. Python: Task.get_name.
func (t *task) GetName() string {
	if name := t.name.Load(); name != nil {
		return *name
	}
	name := "Task-" + strconv.FormatUint(uint64(t.num), 10)
	t.name.CompareAndSwap(nil, &name) // unless it was given one meanwhile
	return *t.name.Load()
}

// SetName changes the task's name. Python: Task.set_name.
func (t *task) SetName(name string) { t.name.Store(&name) }

// Cancelling returns the number of cancels asked for, minus those taken back with Uncancel.
func (t *task) Cancelling() int { return int(t.cancels) }

// fire makes a task a callback; the dispatcher knows tasks and does not call it.
func (t *task) fire(*future) { panic("asyncio: a task is not called") }

// An outcome classifies the error that a task ended with.
type outcome uint8

const (
	asResult       outcome = iota // no error, or an ordinary one
	asCancellation                // the task ends cancelled
	asSeen                        // the error has been reported, or is the end of its context
)

// classify looks at the error that a coroutine returned. That may run methods of the user's.
func (t *task) classify(err error) outcome {
	switch {
	case err == nil:
		return asResult
	case asCancelled(err) != nil:
		return asCancellation
	case isEndOf(t.ctx, err):
		return asSeen
	}
	return asResult
}

// call runs the coroutine. If it panics, the error is left in the task's future.
func (t *task) call() (error, outcome) {
	defer t.recovered()
	if t.loop().modes.Load()&(labelledMode|tracedMode) != 0 {
		return t.callShown()
	}
	err := t.self.run(t.ctx)
	return err, t.classify(err)
}

// recovered is deferred by call. It turns a panic into the task's error.
func (t *task) recovered() {
	if v := recover(); v != nil {
		mustEnd(v)
		p := &PanicError{Value: v, Stack: debug.Stack()}
		t.fut.err = p
		if r := t.loop().recorder; r != nil {
			r.panicked()
		}
		t.loop().CallExceptionHandler(ExceptionContext{Message: "panic in task", Exception: p, Task: t.self})
		t.panicked(p)
	}
}

// A done callback has this method if it must know of a panic in the step in which that happens.
type panicWatcher interface{ childPanicked(p *PanicError) }

// panicked tells those who must know at once that t has panicked.
func (t *task) panicked(p *PanicError) {
	for cb := range t.fut.callbacks {
		if w, ok := cb.(panicWatcher); ok {
			w.childPanicked(p)
			return
		}
	}
}

// exited ends a task whose goroutine, that of s, is exiting. If Close has given up on that
// goroutine, the task has ended already.
func (t *task) exited(s *stack) {
	l := t.loop()
	if l.closing.Load() {
		l.unwinding.Lock()
		defer l.unwinding.Unlock()
		if !s.abandoned {
			l.current = t.below(s)
			t.end(&CancelledError{cause: ErrLoopClosed}, asCancellation)
			t.leaves(recordMode)
		}
		return
	}
	u := t.below(s)
	if u != nil {
		// only what its deferred functions wait for may wake it now (task 2)
		t.fut.removeCallback(u)
		u.waiter, u.covered = nil, false
	}
	t.end(ErrGoexit, asSeen) // the exit of the run reports it
	t.leaves(recordMode)
	l.haltByGoexit()
	l.current = u
}

// below returns the task that waits for t and is underneath t on stack s, nil if there is none. A
// Goexit of t goes on to unwind that task (stack 8), whose deferred functions may await.
func (t *task) below(s *stack) *task {
	for cb := range t.fut.callbacks {
		if u, ok := cb.(*task); ok && u.stack == s && u.covered {
			return u
		}
	}
	return nil
}

// end ends t with the error of its coroutine (task 4).
func (t *task) end(err error, as outcome) {
	l := t.loop()
	t.stack = nil
	l.tasks.remove(t)

	if err == nil && t.state == mustCancel {
		err, as = t.deliver(), asCancellation
	}
	if err == nil && t.cancels > 0 && l.debug() {
		t.reportSwallowedCancel()
	}
	if l.modes.Load() != 0 {
		t.hasEnded(err, as)
	}
	if as == asCancellation {
		t.fut.finishCancelled(err)
		return
	}
	t.fut.finish(err)
	if as == asSeen {
		t.fut.retrieved()
	}
}

// leaves does what is to be done in some modes when t has ended.
func (t *task) leaves(modes uint32) {
	l := t.loop()
	if modes&recordMode != 0 && l.recorder != nil {
		l.recorder.ended(t)
	}
	if modes&labelledMode != 0 {
		l.unlabel()
	}
}

// startEagerly enters t at once (task 1), on an idle stack (stack 7).
func (l *EventLoop) startEagerly(t *task) {
	current, step, below := l.current, l.step.what, l.stackInControl()
	if len(l.stacks.idle) > 0 {
		s := l.stacks.take()
		s.start, s.starter = t, below
		below.give(s)
	} else { // the hub makes one
		l.stacks.eager = eagerStart{t, below}
		below.give(&l.stacks.hub)
	}
	l.current = current
	l.noteStep(below, step) // the interrupted step goes on
}

// Every suspension (in park, yield, waitQueue.wait and future.await) is written out as
//
//	if at := t.depart(); at != nil {
//		if at.Toggle() {
//			at.Yield(struct{}{})
//		} else {
//			at.Next()
//		}
//	}
//	t.arrive()
//
// in the function that waits. A function around it would be one more frame on the stack of every
// suspended task (stack 9). Between depart and arrive the rest of the loop goes on.

// depart runs whatever has its turn until t, which is to be suspended, must give control away. It
// returns the place where t's stack is to wait, or nil if t's own turn has come already.
func (t *task) depart() *coro.Place {
	l, s := t.loop(), t.stack
	if l.modes.Load()&stepModes != 0 {
		l.endStep(t)
	}
	l.current = nil
	to := l.stacks.dispatchOn(t)
	if to == nil {
		return nil
	}
	s.at = to.at
	return s.at
}

// arrive runs when the suspended task has control again.
func (t *task) arrive() {
	l, s := t.loop(), t.stack
	if l.stacks.order.what != goOn {
		s.obey()
		if s.killed { // the loop is being closed
			s.waiter.leave()
			// what has happened here so far happens before Close gives up on the stack
			l.unwinding.Lock()
			l.unwinding.Unlock()
			runtime.Goexit()
		}
	}
	if l.modes.Load()&stepModes != 0 {
		l.beginStep(s, t)
	}
}

// interrupt wakes t because the context it waits with is done (context 2). If t is due to resume
// anyway, interrupt does nothing (context 3).
func (t *task) interrupt() {
	switch {
	case t.waiter != nil && t.waiter.state == pending:
		t.waiter.removeCallback(t)
		// a cancel now goes to the task (task 3), and so does one that went down
		t.waiter = nil
		if t.state == wentDown {
			t.state = mustCancel
		}
	case t.parked:
		t.parked = false
	default:
		return
	}
	t.interrupted = true
	t.loop().schedule(t, nil)
}

// park suspends the task until unpark. It is like a wait for a future that nobody else has: the
// same iterations and the same cancellation, without the future. A nil error means unparked. on is
// shown when somebody asks what the task waits for.
func (t *task) park(ctx context.Context, on fmt.Stringer) error {
	link := t.beginPark(ctx, on)
	if at := t.depart(); at != nil {
		if at.Toggle() {
			at.Yield(struct{}{})
		} else {
			at.Next()
		}
	}
	t.arrive()
	return t.endPark(ctx, link)
}

func (t *task) beginPark(ctx context.Context, on fmt.Stringer) *watchLink {
	t.parked, t.on = true, on
	if t.state == mustCancel { // the cancel is delivered at this wait (CPython 14)
		t.evict()
	}
	return t.watchContext(ctx)
}

func (t *task) endPark(ctx context.Context, link *watchLink) error {
	t.on = nil
	interrupted := t.watching != withNone && t.unwatchContext(link)
	if t.state != noCancel {
		return t.deliver()
	}
	if interrupted {
		return t.causeOf(ctx, link)
	}
	return nil
}

// unpark schedules a parked task. It reports false if t is not parked, or not any more.
func (t *task) unpark() bool {
	if !t.parked {
		return false
	}
	t.parked = false
	t.loop().schedule(t, nil)
	return true
}

// yield gives the others one iteration (CPython 11).
func (t *task) yield() error {
	t.loop().schedule(t, nil)
	if at := t.depart(); at != nil {
		if at.Toggle() {
			at.Yield(struct{}{})
		} else {
			at.Next()
		}
	}
	t.arrive()
	if t.state == mustCancel {
		return t.deliver()
	}
	return nil
}

// refuse delivers err into the task after one iteration (CPython 15).
func (t *task) refuse(err error) error {
	if e := t.yield(); e != nil {
		return e
	}
	return err
}

// taskOf returns the task that runs on the loop of ctx. It is for functions that suspend.
func taskOf(ctx context.Context, caller string) (*task, error) {
	l := loopOf(ctx)
	if l == nil {
		return nil, noLoop(ctx, caller)
	}
	return l.currentTask(caller)
}

// currentTask returns the task that runs on l, or an error if nobody may suspend there now.
func (l *EventLoop) currentTask(caller string) (*task, error) {
	if l.guard.Load() == 0 {
		if debug.SetPanicOnFault(true) { // checkOwner, written out
			if t := l.current; t != nil {
				return t, nil
			}
		} else {
			debug.SetPanicOnFault(false)
		}
	}
	if err := l.checkOwner(caller); err != nil {
		return nil, err
	}
	t := l.current
	if t == nil {
		return nil, fmt.Errorf("%w (in %s)", ErrNotInTask, caller)
	}
	return t, nil
}

// enter is the beginning of a function that suspends. It returns the current task, or an error if
// ctx is nil, leads to no task, or is done.
func enter(ctx context.Context, caller string) (*task, error) {
	if t := checkedTask(ctx); t != nil {
		return t, nil
	}
	l := loopOf(ctx) // called here and not further down, where the stack is deeper
	if l == nil {
		return nil, noLoop(ctx, caller)
	}
	t, err := l.currentTask(caller)
	if err == nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return t, err
}

// destroy ends a task that is still there when its loop closes, and the tasks on top of it.
func (l *EventLoop) destroy(t *task) {
	if s := t.stack; s != nil && !s.abandoned { // only Close changes abandoned
		l.current = t
		for l.current.covered {
			// the topmost is unwound first; exited goes on from there
			l.current = l.current.waiter.super.(*task)
		}
		gone := make(chan struct{})
		go func() { // the caller's goroutine may be locked to a thread
			defer close(gone)
			l.stacks.end(s)
		}()
		limit := time.NewTimer(unwindLimit)
		defer limit.Stop()
		select {
		case <-gone:
		case <-limit.C:
			l.unwinding.Lock()
			s.abandoned = true
			blocks := t
			if l.current != nil { // otherwise it was about to end
				blocks = l.current
			}
			l.unwinding.Unlock()
			l.CallExceptionHandler(ExceptionContext{
				Message: fmt.Sprintf("task does not unwind: a deferred function blocks (%v passed); its goroutine is left behind", unwindLimit),
				Task:    blocks.self, Stack: stacksWith("asyncio.(*task).call("),
			})
		}
		l.current = nil
	}
	if t.fut.state == pending {
		t.end(&CancelledError{cause: ErrLoopClosed}, asCancellation)
		t.leaves(recordMode)
	}
}

// unwindLimit is how long Close waits for the deferred functions of one task.
var unwindLimit = 10 * time.Second

// giveWay suspends t for one iteration. Like any await it fails if ctx has ended by then.
func (t *task) giveWay(ctx context.Context) error {
	if err := t.yield(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
