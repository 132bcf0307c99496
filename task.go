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

// A Task runs a coroutine on the loop, beside the others. Make one with [CreateTask]. It is
// also the [Future] of the coroutine's result and has its methods: Await, Result, Cancel, Done
// and the rest. Its methods are for the loop only and do not suspend, except Await.
//
// # The life of a task
//
//	task 1: It is scheduled when made, and the coroutine is first entered in the next
//	   iteration; an eager one is entered at once.
//	task 2: It runs until it awaits something that is not done. Then it is suspended, and
//	   there is exactly one thing that will schedule it again: the future it waits for,
//	   or whoever it is parked with (a timer, a queue), or it has been scheduled
//	   already (a bare yield). Never two: a context that ends, or a cancel, first
//	   takes that thing away.
//	task 3: Cancel goes to what the task waits for. If that does not accept it (because it
//	   is done, or there is nothing), the request is noted and the cancellation is delivered
//	   when the task next resumes, in place of what it was to receive, or at its
//	   next wait.
//	task 4: It ends when its coroutine returns: cancelled if the error is a CancelledError or
//	   a cancel is still to be delivered, else finished. The loop holds it until then.
//	task 5: A task that is cancelled before it starts ends cancelled without being entered.
//	task 6: A panic ends it with a *PanicError and is reported at once, and the task group that
//	   it is in is aborted at once (group 4, at TaskGroup). A Goexit ends
//	   it with ErrGoexit and halts the run. Closing the loop unwinds it as Goexit does.
//	task 7: If a cancel comes back to a task that it is on its way down from, tasks wait for
//	   each other in a circle. The last of them whose stack allows it is then woken with
//	   the cancellation, as if it had not been waiting. CPython ends in a RecursionError.
type Task[T any] struct {
	Future[T]
	task
	coro Coroutine[T]
}

// AnyTask is a [*Task] whatever its result type.
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

// task is what [Task] is without the type of the result.
type task struct {
	fut  *future // the task's own
	self body
	ctx  context.Context
	name atomic.Pointer[string] // nil: "Task-" and num; the watchdog reads it from outside

	stack  *stack       // once started and until ended
	waiter *future      // what it is suspended on (task 2), nil if it is parked
	on     fmt.Stringer // what it is parked for, for people to read

	rand *rand.Rand // see Rand

	asked     *request        // by scopes of its own, oldest first (cancel 2)
	cancelErr *CancelledError // the last that is owed from outside, or what it was woken with
	cancels   int32           // requests that have not been taken back (cancel 1)
	outside   int32           // of these from outside and owed
	num       uint32
	index     uint32 // in the loop's list of tasks
	cleanups  uint16 // that it is in (cancel 3)

	state       cancelState
	watching    watching
	parked      bool // waits for unpark
	interrupted bool // woken by the end of its context
	covered     bool // a task it waits for runs on top of it (stack 5)
	descending  bool // a cancel is on its way down from it (task 7)
}

// body is the typed part of a task.
type body interface {
	AnyTask
	run(ctx context.Context) error
	code() uintptr // address of the coroutine function
}

// A TaskOption is an option of [CreateTask]. Any goroutine may make one.
type TaskOption struct {
	name  string
	eager int8 // 0: not said, 1: on, -1: off
	group *TaskGroup
}

// Name names the task. The default is Task-1, Task-2 and so on, counted by each loop.
func Name(name string) TaskOption { return TaskOption{name: name} }

// EagerStart enters the coroutine inside CreateTask, up to its first suspension, if the
// loop is running. A task that ends there was never scheduled.
func EagerStart(eager bool) TaskOption { return TaskOption{eager: onOff(eager)} }

// InGroup makes the task a child of tg: the group waits for it, and its error aborts the group. It
// is the usual way to create children, for like any other task they get the ctx of whoever creates
// them, with the values and the end that it has there; [GroupTask] and [TaskGroup.CreateTask] give
// them the group's. Only [CreateTask] takes it. Python: TaskGroup.create_task.
func InGroup(tg *TaskGroup) TaskOption {
	if err := tg.checkMade("InGroup"); err != nil {
		panic(err)
	}
	return TaskOption{group: tg}
}

// groupOf returns the group that opts name, nil if they name none.
func groupOf(opts []TaskOption) (g *TaskGroup) {
	for _, o := range opts {
		if o.group != nil {
			g = o.group
		}
	}
	return g
}

// refuseInGroup is for callers that make a task of their own kind.
func refuseInGroup(opts []TaskOption, caller string) error {
	if groupOf(opts) == nil {
		return nil
	}
	return fmt.Errorf("%w: InGroup is an option of CreateTask alone (in %s)", ErrInvalidArgument, caller)
}

// CreateTask runs coro as a task and returns it without waiting. The coroutine gets ctx:
// its values, and its end if it has one. The loop keeps the task until it is done,
// whether or not the caller does.
//
// It is for the loop only; on a loop that is not running yet, use [EventLoop.Context].
// The coroutine must not hold [runtime.LockOSThread] where it suspends or starts an eager
// task: the Go runtime ends the program then. What needs a thread of its own goes to [ToThread].
//
// With [InGroup] the task is a child of a group.
//
// It does not suspend. It panics with [ErrNoRunningLoop], [ErrLoopClosed], [ErrForeignGoroutine]
// or, if coro is nil, [ErrInvalidArgument]; for a child also as [GroupTask] does, and with
// [ErrDifferentLoop] if ctx leads to another loop than the group's. Python: asyncio.create_task.
func CreateTask[T any](ctx context.Context, coro Coroutine[T], opts ...TaskOption) *Task[T] {
	l := mustLoop(ctx, "CreateTask")
	if coro == nil {
		panic(fmt.Errorf("%w: nil coroutine (in CreateTask)", ErrInvalidArgument))
	}
	if len(opts) > 0 {
		if g := groupOf(opts); g != nil {
			if g.loop != l {
				panic(fmt.Errorf("%w: %v (in CreateTask)", ErrDifferentLoop, g))
			}
			return groupTask(ctx, g, coro, nil, "CreateTask", opts)
		}
	}
	t := &Task[T]{coro: coro}
	ctx, eager := t.prepare(l, ctx, opts)
	t.start(l, ctx, eager)
	return t
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

// configure applies opts and returns what they say about an eager start.
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
		t.nameLabel(modes) // may panic, as ctx does
		t.fut.remember()
	}
	l.tasks.add(t)
}

// CurrentTask returns the task that is running on the loop ctx leads to, nil in a
// callback or without a loop. It is for the loop only and does not suspend; it panics with
// [ErrForeignGoroutine]. Python: asyncio.current_task.
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

// AllTasks returns the tasks of the loop ctx leads to that are not done, in the order they were
// created. It is for the loop only and does not suspend; it panics with [ErrForeignGoroutine].
// Python: asyncio.all_tasks.
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

// Cancelling returns the number of cancels asked for, less those taken back with Uncancel.
func (t *task) Cancelling() int { return int(t.cancels) }

// fire makes a task a callback; the dispatcher knows tasks and does not call it.
func (t *task) fire(*future) { panic("asyncio: a task is not called") }

// An outcome says what the error that a task ended with is.
type outcome uint8

const (
	asResult       outcome = iota // no error, or one like any other
	asCancellation                // the task ends cancelled
	asSeen                        // it has been reported, or is what the task was told to end with
)

// classify looks at the error a coroutine returned, which may run methods of the user's.
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
	if t.loop().labelled() {
		setLabels(t.ctx)
	}
	err := t.self.run(t.ctx)
	return err, t.classify(err)
}

// recovered is deferred by call.
func (t *task) recovered() {
	if v := recover(); v != nil {
		mustEnd(v)
		p := &PanicError{Value: v, Stack: debug.Stack()}
		t.fut.err = p
		t.loop().CallExceptionHandler(ExceptionContext{Message: "panic in task", Exception: p, Task: t.self})
		t.panicked(p)
	}
}

// exited ends a task whose goroutine, s, is exiting. If Close has given up on that, the task has
// ended already.
func (t *task) exited(s *stack) {
	l := t.loop()
	if l.closing.Load() {
		l.unwinding.Lock()
		defer l.unwinding.Unlock()
		if !s.abandoned {
			l.current = t.below(s)
			t.end(&CancelledError{cause: ErrLoopClosed}, asCancellation)
		}
		return
	}
	u := t.below(s)
	if u != nil {
		// nothing wakes it but what its deferred functions wait for (task 2)
		t.fut.removeCallback(u)
		u.waiter, u.covered = nil, false
	}
	t.end(ErrGoexit, asSeen) // the exit of the run says it
	l.haltByGoexit()
	l.current = u
}

// below returns the task whose wait for t is underneath t on stack s, nil if there is none.
// It is what a Goexit of t goes on to unwind (stack 8), and its deferred functions may await.
func (t *task) below(s *stack) *task {
	for cb := range t.fut.callbacks {
		if u, ok := cb.(*task); ok && u.stack == s && u.covered {
			return u
		}
	}
	return nil
}

// end is task 4.
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
	if as == asCancellation {
		t.fut.finishCancelled(err)
		return
	}
	t.fut.finish(err)
	if as == asSeen {
		t.fut.retrieved()
	}
}

// startEagerly is task 1 for an eager task (stack 7).
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
	l.noteStep(below, step) // which goes on
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
// in the function that waits, because a function around it would be one more frame on the stack of
// every suspended task (stack 9). Between depart and arrive the rest of the loop goes on.

// depart runs whatever has its turn until t, which is to be suspended, has to give control away,
// and returns the place for its stack to wait at. It returns nil if t's own turn has come already.
func (t *task) depart() *coro.Place {
	l, s := t.loop(), t.stack
	if l.modes.Load() != 0 {
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

// arrive is for a task that has control again.
func (t *task) arrive() {
	l, s := t.loop(), t.stack
	if l.stacks.order.what != goOn {
		s.obey()
		if s.killed { // the loop is being closed
			s.waiter.leave()
			// whatever has happened here before happened before Close gives up on it
			l.unwinding.Lock()
			l.unwinding.Unlock()
			runtime.Goexit()
		}
	}
	if l.modes.Load() != 0 {
		l.beginStep(s, t)
	}
}

// watchContext has the end of ctx wake t from the wait that it has begun. Methods of ctx that panic
// end the wait (context 5). To call them takes room on the stack, which every waiting task has to
// have: so those that cannot panic are called without a recover.
func (t *task) watchContext(ctx context.Context) *watchLink {
	var done <-chan struct{}
	var failed *PanicError
	if c, ok := ctx.(*loopContext); ok {
		done = c.loop.rootDone
	} else if isTrusted(ctx) {
		done = ctx.Done()
	} else {
		done, failed = doneOf(ctx)
	}
	if done == nil && failed == nil {
		return nil
	}
	l := t.loop()
	if failed == nil && done == l.rootDone {
		failed = l.watchRoot()
		if failed == nil {
			t.watching = withRoot
			return nil
		}
	}
	if failed != nil {
		return t.contextFailed(failed)
	}
	return l.watch(t, ctx, done)
}

// contextFailed ends the wait that t has begun (context 5).
func (t *task) contextFailed(failed *PanicError) *watchLink {
	t.reportContext(failed)
	t.watching = withOther
	t.interrupt()
	return &watchLink{w: &watch{loop: t.loop(), broken: failed}, t: t}
}

// unwatchContext takes that back, and reports whether it has happened. link is what watchContext
// returned.
func (t *task) unwatchContext(link *watchLink) (interrupted bool) {
	if link != nil {
		link.unwatch()
	}
	interrupted = t.interrupted
	t.watching, t.interrupted = withNone, false
	return interrupted
}

// interrupt wakes a task because the context it waits with is done (context 2), unless it is due to
// resume anyway (context 3).
func (t *task) interrupt() {
	switch {
	case t.waiter != nil && t.waiter.state == pending:
		t.waiter.removeCallback(t)
		// a cancel from now on is for the task (task 3), and so is one that went down
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

// park suspends the task until unpark. It is a wait for a future that nobody else
// has: the same iterations, the same cancellation, without the future. A nil error
// means unparked. on is shown to who asks what the task waits for.
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
	if t.state == mustCancel { // CPython 14
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

// unpark schedules a parked task. It reports false if t is not parked (any more).
func (t *task) unpark() bool {
	if !t.parked {
		return false
	}
	t.parked = false
	t.loop().schedule(t, nil)
	return true
}

// yield is CPython 11: it gives the others one iteration.
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

// taskOf returns the task that runs on the loop of ctx, for a function that suspends.
func taskOf(ctx context.Context, caller string) (*task, error) {
	l := loopOf(ctx)
	if l == nil {
		return nil, noLoop(ctx, caller)
	}
	return l.currentTask(caller)
}

// currentTask returns the task that runs on l, or why nobody may suspend there now.
func (l *EventLoop) currentTask(caller string) (*task, error) {
	if l.guard.Load() == 0 {
		if debug.SetPanicOnFault(true) { // checkOwner, in place
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

// enter is how a function that suspends begins: it returns the current task, or the error of a
// ctx that is nil, leads to no task, or is done.
func enter(ctx context.Context, caller string) (*task, error) {
	if t := checkedTask(ctx); t != nil {
		return t, nil
	}
	l := loopOf(ctx) // from here and not from below, where the stack is larger
	if l == nil {
		return nil, noLoop(ctx, caller)
	}
	t, err := l.currentTask(caller)
	if err == nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return t, err
}

// destroy ends a task that is still there when its loop closes, and those on top of it.
func (l *EventLoop) destroy(t *task) {
	if s := t.stack; s != nil && !s.abandoned { // which only Close changes
		l.current = t
		for l.current.covered {
			// the first to be unwound; exited goes on from there
			l.current = l.current.waiter.super.(*task)
		}
		gone := make(chan struct{})
		go func() { // the caller's may be locked to a thread
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
			if l.current != nil { // else it was about to end
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
	}
}

// unwindLimit is how long Close waits for the deferred functions of one task.
var unwindLimit = 10 * time.Second
