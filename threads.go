package asyncio

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// ToThread runs fn on a goroutine of the default executor and suspends the calling task until fn
// returns. Use it to call functions that block.
//
// fn gets a ctx with the values of the caller's, but without the loop. It must not touch the loop,
// except by what any goroutine may call: [EventLoop.CallSoonThreadsafe], [RunCoroutineThreadsafe],
// [Call], views of connections ([ThreadsafeConn]). When the await is cancelled, or the caller's ctx
// ends, ToThread returns at once and fn's ctx ends; fn itself goes on until it heeds that, and its
// result is dropped.
//
// fn's ctx also ends when fn fails. When fn succeeds its ctx goes on, for results that depend on
// it, such as a [database/sql.Tx]. Then it ends when the caller's does; or, if the program has
// dropped both it and whatever was derived from it, when the collector finds that.
//
// Errors: fn's own; those of [Future.Await]; [ErrExecutorShutDown]. A panic of fn is reported and
// returned as a [*PanicError]. Python: asyncio.to_thread.
func ToThread[T any](ctx context.Context, fn func(ctx context.Context) (T, error)) (T, error) {
	var zero T
	if fn == nil {
		return zero, fmt.Errorf("%w: nil function (in ToThread)", ErrInvalidArgument)
	}
	t, err := taskOf(ctx, "ToThread")
	if err != nil {
		return zero, err
	}
	c := new(threadCall[T])
	c.job = threadJob[T]{ctx: ctx, fut: &c.future, with: fn, inside: &c.inside, awaited: true}
	c.future.loop = t.loop()
	c.inside.outsideContext = outsideContext{ctx, c.future.loop}
	err = ErrLoopClosed // unless Await returns
	defer func() {
		if err != nil {
			c.inside.end(context.Canceled, err)
		}
	}()
	c.job.start(nil)
	var v T
	v, err = c.future.Await(ctx)
	if c.job.over {
		c.future.value = zero // keep it from staying alive with fn's ctx
		// also if the error came together with the end of ctx: fn's result is dropped then
		c.future.retrieved()
		return v, err
	}
	c.job.withdraw()
	// only ctx ended the wait: fn's result is dropped, and is not reported as an error
	if c.future.state == pending {
		c.future.finishCancelled(&CancelledError{})
	}
	return v, err
}

// A threadCall holds everything that one ToThread needs.
type threadCall[T any] struct {
	job    threadJob[T]
	future Future[T]
	inside threadContext
}

// A threadContext is the context of a thread function. It ends with the caller's, and before that
// if the call does not succeed. Most functions never ask when it ends, so the means to tell them
// are made at the first question.
//
// When the call has succeeded, the program may keep the context, or silently drop it while the
// caller's goes on for ever. So the caller's context refers to it only weakly, unless somebody has
// registered for its end: contexts derived from it, and functions of [context.AfterFunc]. These
// stay registered until they are stopped, as with any other context.
type threadContext struct {
	outsideContext

	mu    sync.Mutex
	done  *doneChannel // nil until Done is called
	told  map[*threadAfter]struct{}
	err   error // set when the context has ended
	cause error // nil if it is err
}

// A doneChannel is closed once, when its context ends or the collector finds it.
type doneChannel struct {
	c    chan struct{}
	once sync.Once
}

func (d *doneChannel) close() { d.once.Do(func() { close(d.c) }) }

// A threadAfter is one function to be called at the end.
type threadAfter struct {
	f       func()
	release func() bool // unregisters it from the caller's context
}

// end ends the context with a cause, as [context.CancelCauseFunc] does.
func (c *threadContext) end(err, cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err, c.cause = err, cause
	done, told := c.done, c.told
	c.told = nil
	c.mu.Unlock()
	if done != nil {
		done.close()
	}
	for a := range told {
		a.release()
		go a.f()
	}
}

// endWith ends the context because the caller's has ended.
func (c *threadContext) endWith(caller context.Context) { c.end(caller.Err(), context.Cause(caller)) }

func (c *threadContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done.c
	}
	c.done = &doneChannel{c: make(chan struct{})}
	if c.err != nil {
		c.done.close()
		return c.done.c
	}
	caller, me := c.outsideContext.Context, weak.Make(c)
	if l := c.outsideContext.loop; l != nil && l.gate != nil {
		// The collector has no say in a simulation.
		context.AfterFunc(caller, func() { c.endWith(caller) })
		return c.done.c
	}
	stop := context.AfterFunc(caller, func() {
		if c := me.Value(); c != nil {
			c.endWith(caller)
		}
	})
	done := c.done
	runtime.AddCleanup(c, func(stop func() bool) {
		stop()
		done.close() // for a goroutine that keeps nothing but this channel
	}, stop)
	return c.done.c
}

// Err does not depend on when the goroutine of an AfterFunc gets to run.
func (c *threadContext) Err() error {
	if caller := c.outsideContext.Context; caller.Err() != nil {
		c.endWith(caller)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is called by package context to register a derived context, or a function, for the end.
// While one is registered, the caller's context holds this one.
func (c *threadContext) AfterFunc(f func()) (stop func() bool) {
	caller := c.outsideContext.Context
	a := &threadAfter{f: f, release: context.AfterFunc(caller, func() { c.endWith(caller) })}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		a.release()
		go f()
		return func() bool { return false }
	}
	if c.told == nil {
		c.told = make(map[*threadAfter]struct{})
	}
	c.told[a] = struct{}{}
	return func() bool {
		c.mu.Lock()
		_, there := c.told[a]
		delete(c.told, a)
		c.mu.Unlock()
		if there {
			a.release()
		}
		return there
	}
}

// Value also serves package context, which looks for the cause with a key of its own. It finds the
// cause in a context that was ended with it.
func (c *threadContext) Value(key any) any {
	c.mu.Lock()
	err, cause := c.err, c.cause
	c.mu.Unlock()
	if err == nil || c.outsideContext.Context.Err() != nil {
		return c.outsideContext.Value(key)
	}
	ended, cancel := context.WithCancelCause(context.WithoutCancel(c.outsideContext))
	cancel(cause)
	return ended.Value(key)
}

// RunInExecutor runs fn in e, or in the default executor if e is nil, and returns a future of its
// result. Cancelling the future keeps fn from starting, but cannot stop it once it has started.
// RunInExecutor is for the loop only and does not suspend. The future fails with Submit's error if
// the executor refuses. It panics as [CreateTask] does. Python: loop.run_in_executor.
func RunInExecutor[T any](ctx context.Context, e Executor, fn func() (T, error)) *Future[T] {
	l := mustLoop(ctx, "RunInExecutor")
	if fn == nil {
		panic(fmt.Errorf("%w: nil function (in RunInExecutor)", ErrInvalidArgument))
	}
	c := new(struct {
		job    threadJob[T]
		future Future[T]
	})
	c.job = threadJob[T]{ctx: ctx, fut: &c.future, fn: fn}
	c.future.loop = l
	c.job.start(e)
	return &c.future
}

// threadJob is a function on its way through an executor. It is also the done callback that keeps
// the function from starting when the future is cancelled. When the job is over, it refers neither
// to the function nor to its value.
type threadJob[T any] struct {
	ctx    context.Context // the caller's
	fut    *Future[T]
	fn     func() (T, error) // or
	with   func(ctx context.Context) (T, error)
	inside *threadContext // its argument
	// nil, or called once, on the loop, when fn has returned or will not be called
	ended func()
	taken atomic.Bool // by the goroutine that runs it, or by a cancel
	value T
	err   error

	ran *threadRun // nil unless the loop had a recorder when fn was called

	awaited bool // ToThread waits for it and withdraws it itself, so it is no done callback of fut
	over    bool // the loop knows that fn has returned, or the executor has refused the job
}

// start hands j to e, or to the default executor if e is nil. If the executor refuses, j has
// failed.
func (j *threadJob[T]) start(e Executor) {
	var err error
	if e == nil {
		e, err = j.fut.loop.defaultExecutor()
	}
	if err == nil {
		err = j.submit(e)
	}
	if err != nil {
		j.end()
		j.over = true
		j.fut.finish(err)
	}
}

func (j *threadJob[T]) end() {
	if j.ended != nil {
		j.ended()
	}
}

// submit hands j to e. It holds the loop's clock from before that until j has run, but not if e
// refuses.
func (j *threadJob[T]) submit(e Executor) (err error) {
	if !j.awaited {
		j.fut.addCallback(j)
	}
	j.fut.loop.drv.Hold()
	accepted := false
	defer func() {
		if !accepted { // also when Submit panics
			j.fut.removeCallback(j)
			if !j.taken.Swap(true) {
				j.fut.loop.drv.Release()
			}
		}
	}()
	if p, ok := e.(*ThreadPoolExecutor); ok {
		err = p.submit(j)
	} else {
		err = e.Submit(j.run)
	}
	accepted = err == nil
	return err
}

// withdraw keeps j from starting and reports whether it could.
func (j *threadJob[T]) withdraw() bool {
	if j.taken.Swap(true) {
		return false
	}
	j.fut.loop.drv.Release()
	j.fn, j.with = nil, nil
	j.end()
	return true
}

// run is called by the executor.
func (j *threadJob[T]) run() {
	if j.taken.Swap(true) {
		return
	}
	l := j.fut.loop
	if l.modes.Load()&recordMode != 0 && !l.drv.Polls() {
		if j.ran = (&threadRun{begun: time.Now()}); j.with != nil {
			j.ran.code = funcPC(j.with)
		} else {
			j.ran.code = funcPC(j.fn)
		}
	}
	j.err = ErrGoexit // unless fn returns
	defer func() {
		if j.ran != nil {
			j.ran.took = time.Since(j.ran.begun)
		}
		if v := recover(); v != nil {
			j.err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		j.fn, j.with = nil, nil
		p, panicked := j.err.(*PanicError)
		var result callback = (*threadResult[T])(j)
		if panicked {
			result = (*threadPanic[T])(j)
		}
		if err := l.post(result); err != nil && panicked {
			// The loop is gone, but a panic must not go unreported.
			l.runDefaultHandler(ExceptionContext{Message: "panic in thread function", Exception: p})
		}
		l.drv.Release()
	}()
	if j.with != nil {
		j.value, j.err = j.with(j.inside)
	} else {
		j.value, j.err = j.fn()
	}
}

// labels returns the caller's context, so that fn has the labels of its caller (label 1).
func (j *threadJob[T]) labels() context.Context {
	if j.fut.loop.labelled() {
		return j.ctx
	}
	return nil
}

func (j *threadJob[T]) fire(f *future) {
	if f.state == cancelled {
		j.withdraw()
	}
}

func (*threadJob[T]) quick() {}

func (j *threadJob[T]) String() string { return "RunInExecutor()" }

// A threadRun is what a recorder wants to know of a function that has run on a thread. In a
// simulation there is none, because such functions take real time.
type threadRun struct {
	code  uintptr
	begun time.Time
	took  time.Duration
}

// threadResult is a threadJob on its way back to the loop. It runs no user code.
type threadResult[T any] threadJob[T]

func (*threadResult[T]) quick() {}

func (r *threadResult[T]) fire(*future) {
	j := (*threadJob[T])(r)
	if l := j.fut.loop; j.ran != nil && l.recorder != nil {
		l.recorder.ran(j.ran.code, time.Since(j.ran.begun), j.ran.took)
	}
	j.end()
	j.over = true
	if f := j.fut; f.state == pending {
		f.value = j.value
		f.finish(j.err)
	}
	var zero T
	j.value = zero
}

// threadPanic is a threadResult that is reported.
type threadPanic[T any] threadJob[T]

func (r *threadPanic[T]) fire(f *future) {
	r.fut.loop.CallExceptionHandler(ExceptionContext{Message: "panic in thread function", Exception: r.err, Context: r.ctx})
	was := r.fut.state
	(*threadResult[T])(r).fire(f)
	if was == pending {
		r.fut.retrieved()
	}
}

// A ConcurrentFuture is the result of a task as seen from outside its loop. All of its methods are
// for any goroutine; only Result blocks, and only Await suspends a task. Python:
// concurrent.futures.Future.
type ConcurrentFuture[T any] struct {
	loop *EventLoop
	coro Coroutine[T]
	from context.Context // the caller's; nil for RunCoroutineThreadsafe
	opts []TaskOption

	mu    sync.Mutex
	done  chan struct{}
	over  bool // done is closed
	value T
	err   error
	waits []*func() // to be called when it is over
	held  int       // goroutines in Result that have given up their hold on the loop's clock
	task  *Task[T]  // once created; touched on the loop only
	leave func()    // ends the task's context; likewise
}

// RunCoroutineThreadsafe runs coro as a task of l, on behalf of another goroutine. Any
// goroutine may call it; it does not block. If the loop is closed, or closes before the task
// is done, the result is [ErrLoopClosed]. Python: asyncio.run_coroutine_threadsafe.
func RunCoroutineThreadsafe[T any](coro Coroutine[T], l *EventLoop) *ConcurrentFuture[T] {
	c := &ConcurrentFuture[T]{loop: l, coro: coro, done: make(chan struct{})}
	c.begin("RunCoroutineThreadsafe")
	return c
}

// zeroConcurrentFuture is the error for a zero ConcurrentFuture, which would never be done.
func zeroConcurrentFuture(caller string) error {
	return fmt.Errorf("%w: a zero ConcurrentFuture has no task: make one with RunCoroutineThreadsafe or StartCall (in %s)", ErrInvalidArgument, caller)
}

// begin posts c to the loop.
func (c *ConcurrentFuture[T]) begin(caller string) {
	var err error
	switch {
	case c.coro == nil || c.loop == nil:
		err = fmt.Errorf("%w: nil coroutine or loop (in %s)", ErrInvalidArgument, caller)
	default:
		err = c.loop.post((*concurrentStart[T])(c))
	}
	if err != nil {
		var zero T
		c.resolve(zero, err)
	}
}

// resolve sets the outcome, if there is none yet.
func (c *ConcurrentFuture[T]) resolve(v T, err error) bool {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return false
	}
	c.value, c.err, c.over = v, err, true
	for range c.held {
		c.loop.drv.Hold() // before the clock can go on
	}
	close(c.done)
	waits := c.waits
	c.waits = nil
	c.mu.Unlock()
	for _, tell := range waits {
		(*tell)()
	}
	return true
}

// whenDone calls tell, on any goroutine, when there is a result, unless forget is called before.
func (c *ConcurrentFuture[T]) whenDone(tell func()) (forget func()) {
	c.mu.Lock()
	over := c.over
	if !over {
		c.waits = append(c.waits, &tell)
	}
	c.mu.Unlock()
	if over {
		tell()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waits = slices.DeleteFunc(c.waits, func(w *func()) bool { return w == &tell })
	}
}

// Result blocks the calling goroutine until the task is done, or ctx is, and returns the task's
// result. It is for goroutines outside of the loop: a task of the loop would wait for itself. So a
// ctx that leads to the loop is refused with [ErrLoopRunning], and in debug mode any call by a
// task. A done ctx ends the wait, not the task.
func (c *ConcurrentFuture[T]) Result(ctx context.Context) (T, error) {
	var zero T
	switch {
	case ctx == nil:
		return zero, fmt.Errorf("%w: nil context (in Result)", ErrInvalidArgument)
	case c.done == nil:
		return zero, zeroConcurrentFuture("Result")
	}
	select {
	case <-c.done:
		return c.value, c.err
	default:
	}
	if loopOf(ctx) == c.loop || c.loop.isOn() {
		return zero, fmt.Errorf("%w: Result would block the loop it waits for: in a task use Await, in a goroutine a ctx of its own", ErrLoopRunning)
	}
	if ctx.Err() != nil {
		return zero, context.Cause(ctx) // before the clock can go on
	}
	defer c.lendClock(ctx)()
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

// lendClock is called by a goroutine that is going to wait for c. A thread function of the same
// loop holds the loop's clock; while it waits, the clock must be able to go on.
func (c *ConcurrentFuture[T]) lendClock(ctx context.Context) (takeBack func()) {
	if inside, _ := ctx.Value(outsideKey{}).(*EventLoop); inside == nil || inside != c.loop {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return func() {}
	}
	c.held++
	c.loop.drv.Release()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.over {
			c.held--
			c.loop.drv.Hold()
		}
	}
}

// Finished returns a channel that is closed when there is a result, for a goroutine's select. In a
// task use Await.
func (c *ConcurrentFuture[T]) Finished() <-chan struct{} { return c.done }

// Done reports whether there is a result.
func (c *ConcurrentFuture[T]) Done() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Cancel makes the result a [CancelledError] at once and asks the task to stop, without waiting
// until it has. It reports false if there was a result already.
func (c *ConcurrentFuture[T]) Cancel(msg ...string) bool {
	e := &CancelledError{}
	if len(msg) > 0 {
		e.Msg = msg[0]
	}
	return c.cancel(e)
}

func (c *ConcurrentFuture[T]) cancel(e *CancelledError) bool {
	var zero T
	if c.done == nil {
		panic(zeroConcurrentFuture("Cancel"))
	}
	if !c.resolve(zero, e) {
		return false
	}
	_ = c.loop.post((*concurrentCancel[T])(c)) // a closed loop has ended the task
	return true
}

// Await suspends the calling task, of any loop, until there is a result. A cancel of that task
// cancels the concurrent future. Python: asyncio.wrap_future.
func (c *ConcurrentFuture[T]) Await(ctx context.Context) (T, error) {
	var zero T
	t, err := enter(ctx, "Await")
	if err != nil {
		return zero, err
	}
	if c.done == nil {
		return zero, zeroConcurrentFuture("Await")
	}
	if !c.Done() {
		l := t.loop()
		f := CreateFuture[None](ctx)
		arrived := &Handle{loop: l, fn: func() {
			if !f.Done() {
				_ = f.SetResult(None{})
			}
		}}
		defer arrived.Cancel()
		if c.loop != l {
			l.drv.Hold() // the other loop works in real time
			defer l.drv.Release()
		}
		defer c.whenDone(func() { _ = l.post(arrived) })()
		if _, err := f.Await(ctx); err != nil {
			if e := asCancelled(f.err); f.Cancelled() && e != nil {
				c.cancel(e)
			}
			return zero, err
		}
	}
	return c.value, c.err
}

// concurrentStart creates the task, on the loop.
type concurrentStart[T any] ConcurrentFuture[T]

func (s *concurrentStart[T]) fire(*future) {
	c := (*ConcurrentFuture[T])(s)
	if c.Done() {
		return // cancelled before it could start
	}
	if c.loop.taskFactory == nil && c.from == nil {
		c.create()
		return
	}
	c.loop.invoke(func() { // the factory's code, or methods of the context
		created := false
		defer func() {
			if created {
				return
			}
			v := recover()
			err := ErrGoexit
			if v != nil {
				mustEnd(v)
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			var zero T
			c.resolve(zero, err)
			if v != nil {
				panic(v) // so that it is reported, too
			}
		}()
		c.create()
		created = true
	}, c.coro, nil)
}

func (c *ConcurrentFuture[T]) create() {
	ctx, coro := c.loop.Context(), c.coro
	if c.from != nil {
		if c.from.Err() != nil {
			var zero T
			c.resolve(zero, context.Cause(c.from))
			return
		}
		ctx, c.leave = c.loop.enterCall(c.from)
		coro = unlessOver(c.from, coro)
	}
	c.task = CreateTask(ctx, coro, c.opts...)
	c.task.addCallback((*concurrentEnd[T])(c))
}

// concurrentCancel passes a cancel on, on the loop.
type concurrentCancel[T any] ConcurrentFuture[T]

func (s *concurrentCancel[T]) fire(*future) {
	if s.task != nil {
		s.task.Future.cancel(s.err.(*CancelledError))
	}
}

// concurrentEnd is the task's done callback.
type concurrentEnd[T any] ConcurrentFuture[T]

func (s *concurrentEnd[T]) fire(f *future) { s.settle(f) }

func (s *concurrentEnd[T]) settle(f *future) {
	c := (*ConcurrentFuture[T])(s)
	f.retrieved()
	if c.leave != nil {
		c.leave()
	}
	c.resolve(c.task.value, f.err)
}

func (s *concurrentEnd[T]) String() string { return "RunCoroutineThreadsafe()" }
