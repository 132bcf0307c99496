package asyncio

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A RunOption is an option of [Run], [NewRunner] and [RunLoopGroup]. Any goroutine may make one.
type RunOption struct {
	factory  func(context.Context) *EventLoop
	shutdown *time.Duration
	stall    *time.Duration
	debug    int8 // 0: as the loop has it, 1: on, -1: off
	sigint   int8 // likewise; the default is on
	labels   int8 // likewise
	recorder *int // the bytes of its ring
	trace    int8 // likewise
	signals  []os.Signal
}

// DebugMode switches the debug mode of the loop; see [EventLoop.SetDebug].
func DebugMode(enabled bool) RunOption { return RunOption{debug: onOff(enabled)} }

// LoopFactory makes the runner take its loop from factory, even if ctx carries another; see
// [WithLoopFactory].
func LoopFactory(factory func(context.Context) *EventLoop) RunOption {
	return RunOption{factory: factory}
}

// HandleSIGINT says whether SIGINT cancels the main task. It does by default, except on virtual
// time; see [Run]. Switch it off in a bubble of testing/synctest, and in a program that calls
// signal.Notify for SIGINT itself: both would get the signal. If the program was started with
// SIGINT ignored, as a background job of a shell script is, SIGINT stays ignored.
func HandleSIGINT(enabled bool) RunOption { return RunOption{sigint: onOff(enabled)} }

// HandleSignals makes these signals cancel the main task, in addition to SIGINT (see
// [HandleSIGINT]). With SIGTERM, a service that is told to stop finishes what it has begun. The
// signals work as SIGINT does (see [Run]), except for the error: if main ends cancelled, Run
// returns a [*SignalError], and [ErrKeyboardInterrupt] for SIGINT alone. After the first of the
// signals, whichever it was, all have their usual effect again.
func HandleSignals(sigs ...os.Signal) RunOption { return RunOption{signals: slices.Clone(sigs)} }

// ShutdownTimeout bounds how long closing the runner waits for the jobs of the default executor. If
// d is not positive, closing does not wait for them. The default is CPython's, five minutes.
func ShutdownTimeout(d time.Duration) RunOption { return RunOption{shutdown: &d} }

// StallWatchdog makes the loop of a [Run] report steps that do not return within limit; see
// [EventLoop.SetStallWatchdog], which takes a function for the reports as well.
func StallWatchdog(limit time.Duration) RunOption { return RunOption{stall: &limit} }

// LabelTasks switches the labels of tasks for the loop of a [Run]; see [EventLoop.SetTaskLabels].
func LabelTasks(enabled bool) RunOption { return RunOption{labels: onOff(enabled)} }

// TraceTasks switches the tasks of execution traces for the loop of a [Run]; see
// [EventLoop.SetTaskTrace].
func TraceTasks(enabled bool) RunOption { return RunOption{trace: onOff(enabled)} }

// slowShutdown is how long a shutdown goes on before it names the tasks that have not ended.
const slowShutdown = 10 * time.Second

// executorJoinTimeout is CPython's THREAD_JOIN_TIMEOUT.
const executorJoinTimeout = 300 * time.Second

// Run makes an event loop, runs main on it as a task, and returns what main returns. Before it
// returns, it cancels all other tasks, waits for them, shuts the default executor down and closes
// the loop. Nothing of the loop is left.
//
// The tasks' contexts descend from ctx; when it is done, every await fails with its cause. Run
// blocks the calling goroutine, which may be any one, even one that is locked to its thread. In a
// task it would block the task's loop: with the task's ctx it returns [ErrLoopRunning] instead.
//
// SIGINT cancels main; if main ends cancelled, Run returns [ErrKeyboardInterrupt]. From then on
// SIGINT has its usual effect again, so a second one ends the program at once. Of several runs at a
// time only the first handles SIGINT; see [HandleSIGINT], and [HandleSignals] for SIGTERM and
// others.
//
// A panic of main is reported and returned as a [*PanicError]. If a task calls t.FailNow,
// everything is cleaned up and then the calling goroutine exits too. Python: asyncio.run.
func Run[T any](ctx context.Context, main Coroutine[T], opts ...RunOption) (_ T, err error) {
	var zero T
	if err := checkRun(ctx, main == nil, "Run"); err != nil {
		return zero, err
	}
	r := NewRunner(ctx, opts...)
	defer func() { err = joinErrors(err, r.Close()) }()
	return RunIn(r, main)
}

func checkRun(ctx context.Context, noMain bool, caller string) error {
	if ctx == nil {
		return fmt.Errorf("%w: nil context (in %s): use context.Background()", ErrInvalidArgument, caller)
	}
	if noMain {
		return fmt.Errorf("%w: nil coroutine (in %s)", ErrInvalidArgument, caller)
	}
	if l := loopOf(ctx); l != nil && l.running.Load() {
		return fmt.Errorf("%w: %s was called from a task: await the coroutine instead, or run it in a goroutine made by ToThread", ErrLoopRunning, caller)
	}
	return nil
}

// A Runner is [Run] in pieces: one loop, on which several main coroutines run in turn. It is for
// one goroutine at a time.
type Runner struct {
	ctx    context.Context
	opts   RunOption
	loop   *EventLoop
	closed bool
}

// NewRunner makes a runner. The first use of the runner makes its loop. The runner must be closed.
// Any goroutine may call it.
func NewRunner(ctx context.Context, opts ...RunOption) *Runner {
	r := &Runner{ctx: ctx}
	for _, o := range opts {
		if o.factory != nil {
			r.opts.factory = o.factory
		}
		if o.shutdown != nil {
			r.opts.shutdown = o.shutdown
		}
		if o.stall != nil {
			r.opts.stall = o.stall
		}
		if o.debug != 0 {
			r.opts.debug = o.debug
		}
		if o.sigint != 0 {
			r.opts.sigint = o.sigint
		}
		if o.labels != 0 {
			r.opts.labels = o.labels
		}
		if o.recorder != nil {
			r.opts.recorder = o.recorder
		}
		if o.trace != 0 {
			r.opts.trace = o.trace
		}
		r.opts.signals = append(r.opts.signals, o.signals...)
	}
	return r
}

// GetLoop returns the runner's loop. It returns [ErrLoopClosed] if the runner is closed.
func (r *Runner) GetLoop() (*EventLoop, error) {
	if r.closed {
		return nil, fmt.Errorf("%w: so is its runner", ErrLoopClosed)
	}
	if r.loop == nil {
		if err := checkRun(r.ctx, false, "Runner"); err != nil {
			return nil, err
		}
		if r.opts.factory != nil {
			r.loop = mustBeALoop(r.opts.factory(r.ctx))
		} else {
			r.loop = NewEventLoop(r.ctx)
		}
		if r.opts.debug != 0 {
			r.loop.SetDebug(r.opts.debug > 0)
		}
		if r.opts.labels != 0 {
			r.loop.SetTaskLabels(r.opts.labels > 0)
		}
		if r.opts.recorder != nil {
			r.loop.SetFlightRecorder(*r.opts.recorder)
		}
		if r.opts.trace != 0 {
			r.loop.SetTaskTrace(r.opts.trace > 0)
		}
		if r.opts.stall != nil {
			r.loop.SetStallWatchdog(*r.opts.stall, nil)
		}
	}
	return r.loop, nil
}

// RunIn runs main on the runner's loop and returns what main returns. Other tasks stay on the loop
// and go on in the next run. It blocks the calling goroutine, which may be any one, but only one at
// a time. See [Run] for the rest. Python: Runner.run.
func RunIn[T any](r *Runner, main Coroutine[T]) (T, error) {
	var zero T
	if err := checkRun(r.ctx, main == nil, "RunIn"); err != nil {
		return zero, err
	}
	l, err := r.GetLoop()
	if err != nil {
		return zero, err
	}
	if l.running.Load() {
		return zero, fmt.Errorf("%w: RunIn was called from a task", ErrLoopRunning)
	}
	if l.closed.Load() {
		return zero, fmt.Errorf("%w: its owner has closed it by hand (in RunIn)", ErrLoopClosed)
	}
	t := CreateTask(l.Context(), main)
	signals := r.opts.signals
	if r.opts.sigint > 0 || r.opts.sigint == 0 && !l.drv.Polls() {
		signals = append([]os.Signal{os.Interrupt}, signals...)
	}
	s := listenForSignals(l, &t.task, signals)
	defer s.stop()
	v, err := RunUntilComplete(l, t)
	switch s.stop(); {
	case s.came() && !s.accepted: // main was done already
		return v, joinErrors(stoppedBy(s.got), err)
	case s.came() && t.Cancelled() && t.Uncancel() == 0:
		return v, fmt.Errorf("%w: %w", stoppedBy(s.got), err)
	}
	return v, err
}

func stoppedBy(sig os.Signal) error {
	if sig == os.Interrupt {
		return ErrKeyboardInterrupt
	}
	return &SignalError{Signal: sig}
}

// signalsTaken holds the signals that a run handles.
var signalsTaken struct {
	sync.Mutex
	sigs []os.Signal
}

// takeSignals returns those of sigs that are neither ignored nor handled by another run.
func takeSignals(sigs []os.Signal) []os.Signal {
	signalsTaken.Lock()
	defer signalsTaken.Unlock()
	var taken []os.Signal
	for _, sig := range sigs {
		if sig != nil && !ignored(sig) && !slices.Contains(signalsTaken.sigs, sig) {
			signalsTaken.sigs = append(signalsTaken.sigs, sig)
			taken = append(taken, sig)
		}
	}
	return taken
}

// ignored reports whether the program was started so that sig does nothing. On a system without
// signals, package signal cannot be asked.
func ignored(sig os.Signal) bool { return runtime.GOOS != "js" && signal.Ignored(sig) }

func giveSignals(sigs []os.Signal) {
	signalsTaken.Lock()
	defer signalsTaken.Unlock()
	signalsTaken.sigs = slices.DeleteFunc(signalsTaken.sigs, func(sig os.Signal) bool { return slices.Contains(sigs, sig) })
}

// A stopper cancels a task at the first of some signals and then stops listening, which gives the
// signals their default effect back. A nil stopper does nothing.
type stopper struct {
	loop    *EventLoop
	task    *task
	handles []os.Signal
	ports   []*signalPort // of handles

	accepted bool // the task accepted the cancel; only the loop touches it
	stopped  bool

	// Guarded by the mutex of the ports.
	got  os.Signal // the first signal, valid after stop
	over bool      // the task has ended
}

// listenForSignals returns a stopper for t, nil if there is no signal to listen for.
func listenForSignals(l *EventLoop, t *task, sigs []os.Signal) *stopper {
	handles := takeSignals(sigs)
	if len(handles) == 0 {
		return nil
	}
	s := &stopper{loop: l, task: t, handles: handles}
	ports := signalPortsOf.of(l)
	ports.mu.Lock() // a signal may come before all are open
	defer ports.mu.Unlock()
	for _, sig := range handles {
		p := ports.open(l, sig)
		p.take = s.take
		s.ports = append(s.ports, p)
	}
	return s
}

// take deals with a signal that has no handler (signals 2 and 3). Its caller holds the mutex of the
// ports.
func (s *stopper) take(sig os.Signal) {
	if s.got != nil {
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			_ = p.Signal(sig)
		}
		return
	}
	s.got = sig
	for _, p := range s.ports {
		p.leave()
	}
	if !s.over {
		_, _ = s.loop.CallSoonThreadsafe(func() { s.accepted = s.task.fut.Cancel() })
	}
}

// stop ends listening, if it has not ended.
func (s *stopper) stop() {
	if s == nil || s.stopped {
		return
	}
	s.stopped = true
	mu := &signalPortsOf.of(s.loop).mu
	mu.Lock()
	s.over = true
	for _, p := range s.ports {
		p.leave()
	}
	closed := slices.DeleteFunc(slices.Clone(s.ports), (*signalPort).isOpen)
	mu.Unlock()
	for _, p := range closed {
		<-p.ended
	}
	giveSignals(s.handles)
}

// came reports whether a signal came. It may be called after stop only.
func (s *stopper) came() bool { return s != nil && s.got != nil }

// Close cancels all tasks of the runner's loop, oldest first, and waits for them. It reports those
// that fail, shuts the default executor down and closes the loop. Closing a closed runner does
// nothing. It returns an error if the loop could not be closed in order, for example [ErrDeadlock]
// if a task on virtual time did not end.
func (r *Runner) Close() (err error) {
	if r.closed {
		return nil
	}
	l := r.loop
	if l != nil && l.running.Load() {
		return fmt.Errorf("%w: a runner cannot be closed by its own task", ErrLoopRunning)
	}
	r.closed = true
	if l == nil || l.IsClosed() {
		return nil
	}
	defer func() { err = joinErrors(err, l.Close()) }()
	timeout := executorJoinTimeout
	if r.opts.shutdown != nil {
		timeout = *r.opts.shutdown
	}
	if l.tasks.n == 0 && !l.hasExecutor() {
		return nil
	}
	return joinErrors(cancelAllTasks(l), shutdownExecutor(l, timeout))
}

func cancelAllTasks(l *EventLoop) error {
	tasks := AllTasks(l.Context())
	if len(tasks) == 0 {
		return nil
	}
	for _, t := range tasks {
		t.core().cancel(&CancelledError{Msg: "the event loop is shutting down"})
	}
	err := runOwnTask(l, func(ctx context.Context) error {
		if !l.drv.Polls() {
			_, pending, err := Wait(ctx, tasks, WaitTimeout(slowShutdown))
			if err != nil {
				return err
			}
			for _, t := range pending {
				l.CallExceptionHandler(ExceptionContext{
					Message: fmt.Sprintf("shutdown still waits for a task that was cancelled %v ago; a task must return the ErrCancelled it gets", slowShutdown),
					Task:    t,
					Stack:   stacksWith("asyncio.(*task).call("),
				})
			}
		}
		_, _, err := Wait(ctx, tasks)
		return err
	})
	for _, t := range tasks {
		if t.Done() && !t.Cancelled() && t.core().unretrieved() {
			l.CallExceptionHandler(ExceptionContext{
				Message:   "unhandled exception during asyncio.Run shutdown",
				Exception: t.Exception(),
				Task:      t,
			})
		}
	}
	return err
}

func shutdownExecutor(l *EventLoop, timeout time.Duration) error {
	if !l.hasExecutor() {
		return nil
	}
	return runOwnTask(l, func(ctx context.Context) error { return l.ShutdownDefaultExecutor(ctx, timeout) })
}

// runOwnTask runs fn as a task of the library's own, which no task factory sees: the shutdown must
// run whatever a factory does, and even if the loop's own context is done.
func runOwnTask(l *EventLoop, fn func(ctx context.Context) error) error {
	t := &Task[None]{coro: Do(fn)}
	t.start(l, context.WithoutCancel(l.Context()), false)
	_, err := runUntilComplete(l, t)
	return err
}

// RunForever runs the loop until Stop is called. It blocks the calling goroutine, which may be any
// one, even one that is locked to its thread; tasks run on goroutines of the loop's own. It returns
//   - [ErrLoopRunning] if the loop is running already, also when called by one of its tasks,
//   - [ErrLoopClosed] if it was closed,
//   - [ErrDeadlock], on a virtual clock, when nothing can happen any more,
//   - [ErrLoopStopped], in a simulation, if an earlier run ended because the host crashed.
//
// If a task or callback calls [runtime.Goexit], usually by t.FailNow, the run ends at once and
// RunForever exits the calling goroutine in turn.
func (l *EventLoop) RunForever() error {
	if l.closed.Load() || l.closing.Load() {
		return fmt.Errorf("%w (in RunForever)", ErrLoopClosed)
	}
	if l.killed {
		return fmt.Errorf("%w: its host has crashed", ErrLoopStopped)
	}
	if !l.running.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: a task that needs another run can await it, or hand it to a goroutine with ToThread", ErrLoopRunning)
	}
	if l.closed.Load() { // another goroutine has closed it just now
		l.running.Store(false)
		return fmt.Errorf("%w (in RunForever)", ErrLoopClosed)
	}
	l.runToHalt()
	l.stopping = false // also if the run ended otherwise
	l.running.Store(false)
	if l.goexit {
		l.goexit = false
		runtime.Goexit()
	}
	if l.stalled {
		l.stalled = false
		return l.deadlock()
	}
	return nil
}

// RunUntilComplete runs the loop until a is done and returns its result. A coroutine is run as a
// task. The iteration in which a's completion is noticed still runs to its end; what is left then
// waits for the next run. It blocks the calling goroutine, as [EventLoop.RunForever] does. If a is
// cancelled, that is its result. Besides a's own errors and those of [EventLoop.RunForever] it
// returns
//   - [ErrLoopStopped] if the loop was stopped before a was done,
//   - [ErrDifferentLoop] if a is a future of another loop.
func RunUntilComplete[T any](l *EventLoop, a Awaitable[T]) (T, error) {
	var zero T
	if l.running.Load() {
		return zero, fmt.Errorf("%w: in a task, await instead (in RunUntilComplete)", ErrLoopRunning)
	}
	if err := l.checkOwner("RunUntilComplete"); err != nil {
		return zero, err
	}
	_, given := a.(AnyFuture)
	if a == nil || given && isNil(a) {
		return zero, fmt.Errorf("%w: nil awaitable (in RunUntilComplete)", ErrInvalidArgument)
	}
	if c, ok := a.(Coroutine[T]); ok && c == nil {
		return zero, fmt.Errorf("%w: nil coroutine (in RunUntilComplete)", ErrInvalidArgument)
	}
	f := EnsureFuture(l.Context(), a)
	if err := l.checkFuture(f, "RunUntilComplete"); err != nil {
		return zero, err
	}
	return runUntilComplete(l, f)
}

func runUntilComplete[T any, F interface {
	AnyFuture
	Result() (T, error)
}](l *EventLoop, f F) (T, error) {
	var zero T
	if t, ok := f.core().super.(*task); ok {
		t.fut.quiet = true // its caller is told, so Close need not report it
	}
	stop := &stopCallback{l: l}
	f.core().addCallback(stop)
	defer func() {
		f.core().removeCallback(stop)
		stop.l = nil // stop may still be in the ready queue
	}()
	if err := l.RunForever(); err != nil {
		return zero, err
	}
	if !f.Done() {
		return zero, ErrLoopStopped
	}
	return f.Result()
}

// stopCallback is the done callback that stops the loop (CPython 16); l is nil once the run is
// over.
type stopCallback struct{ l *EventLoop }

func (c *stopCallback) fire(*future) {
	if c.l != nil {
		c.l.stopping = true
	}
}

func (*stopCallback) quick() {}

func (*stopCallback) readyName() string { return "end of the run" }

func (c *stopCallback) String() string { return "RunUntilComplete()" }
