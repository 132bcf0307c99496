package asyncio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/metering"
)

// EventLoop runs callbacks and tasks one at a time. [Run] makes, runs and closes one for a program;
// NewEventLoop is for programs that need these steps one by one.
//
// Unless its comment says otherwise, a method does not suspend and is for the loop only: for tasks
// and callbacks of the loop or, while the loop is not running, for the goroutine that owns it. A
// call from elsewhere is refused with [ErrForeignGoroutine], whether the loop waits or works. A
// call that reads or changes only plain fields of its own object, such as a lock that nobody waits
// for, may go unnoticed outside debug mode.
//
// # One iteration
//
//	loop 1: If callbacks are ready or a stop was asked for, do not wait; otherwise wait for the
//	   earliest timer or a wake-up.
//	loop 2: Take in what other goroutines sent, then the timers that are due, earliest first and
//	   equal ones in the order they were set. All of these go behind what was ready before.
//	loop 3: Run exactly as many callbacks as are in the queue then. What they schedule runs in the
//	   next iteration.
//	loop 4: If a stop was asked for, end. A stop asked for before the run still gives one whole
//	   iteration.
//	loop 5: In CPython another thread appends straight to the queue. Here the inbox is emptied into
//	   the queue before anything else is appended. So what a goroutine sent still comes before what
//	   happened after it on the loop.
//	loop 6: I/O that is ready is taken in between the inbox and the timers. That is done always when
//	   the loop would wait. While the loop is busy, it is done after pollSteps steps or before a
//	   timer fires, if pollInterval has passed since the last time. CPython asks the kernel in every
//	   iteration. Here a busy loop spends a few hundredths of its time on that, I/O waits for at
//	   most pollSteps steps longer, and no timer overtakes I/O that was ready pollInterval before
//	   it.
//	loop 7: A busy loop on a single processor enters Go's scheduler every schedulerSteps steps,
//	   because switches of coroutines bypass the scheduler and the collector's own goroutine runs
//	   nowhere else. Otherwise a collection would last until the loop had done all of its work,
//	   allocating all the while, and during a collection storing a pointer costs several times as
//	   much.
type EventLoop struct {
	drv      driver.Driver
	chooser  driver.Chooser  // nil: first in, first out
	observer driver.Observer // nil: nobody watches
	recorder recorder        // nil: nobody records
	attended bool            // it has one of these
	gate     driver.Gate     // nil: what other goroutines post arrives when the loop next looks
	ctx      *loopContext
	labels   context.Context // the labels of ctx, and nothing else (label 1)

	// The iteration.
	ready    readyQueue
	todo     int    // callbacks still to run in this iteration (loop 3)
	chosen   bool   // the chooser has picked the first of them
	turns    bool   // loops of its kind run one at a time (foreign 9)
	parked   uint64 // guard, while another of them has the turn
	timers   timerHeap
	timerSeq uint64
	iterated bool // an iteration of this run has begun (loop 4)
	stopping bool
	halted   bool // the run is over, mid-iteration if need be
	goexit   bool // it was halted by a call of runtime.Goexit
	stalled  bool // it was halted because nothing can happen any more
	killed   bool // it was halted by the driver; there is no other run

	stacks  stackPool
	current *task

	tasks       taskList // the tasks that are not done
	taskSeq     uint32
	mark        uint32 // the number of the latest pass; see future.mark
	cancelDepth int    // how many futures a cancel is being passed on through (future 4)
	reports     reportList

	watches               map[<-chan struct{}]*watch
	firstWatch, lastWatch *watch
	// the watch with which a task has begun to wait last, nil if it is closed
	recent    *watch
	rootDone  <-chan struct{} // Done of ctx
	rootWatch *watch          // on ctx, once a task has waited with it
	links     *watchLink      // the free list of watchLinks
	spare     int             // the length of that list
	// the clocked contexts made from ctx, nil if there are none
	rootClocks interface{ endChildren() }

	parts    []any  // see partOf; nil before the first is made
	source   source // nil while there is nothing to look at
	unbroken unbroken

	sockets   driver.Sockets // nil until sockets are asked for
	iteration uint64
	steps     int           // steps since the driver was last asked, or might have been (loop 6)
	polled    time.Duration // when the driver was last asked
	unvisited int           // steps since the scheduler was last entered (loop 7)
	scheduled func()        // run by the goroutine of visitScheduler
	returned  chan struct{} // that goroutine gives control back here

	exceptionHandler func(*EventLoop, ExceptionContext)
	handling         int // how many reports are being made, one inside another
	taskFactory      TaskFactory

	inbox   inbox
	running atomic.Bool
	closing atomic.Bool // Close has begun; nothing may suspend any more
	closed  atomic.Bool

	// unwinding decides who ends a task whose goroutine Close has given up on: Close, or the
	// goroutine after all.
	unwinding sync.Mutex

	// guard says how a call to the loop is checked (foreign 1). Zero: by the bit of its goroutine.
	// guardParked: the loop waits, so every caller is foreign. guardClosed: the loop is closing or
	// closed. guardShared: several loops run, so the bit is not enough (foreign 6). Any other value
	// is the id of the goroutine that has control. It is kept in debug mode only, because finding
	// one's own id is slow (foreign 7).
	guard  atomic.Uint64
	blocks atomic.Pointer[blocks] // of the stack in control, where needed
	kin    kin
	runner atomic.Uint64 // id of the goroutine that runs the loop, or ran it last

	modes    atomic.Uint32 // the loop's observers (debug 1)
	step     step
	slowStep atomic.Int64 // 0: defaultSlowStep
	watchdog watchdog
}

const (
	guardParked = ^uint64(0) - iota
	guardClosed
	guardShared // the smallest of these
)

// NewEventLoop makes a loop that is not running. The contexts of its tasks descend
// from ctx: they carry its values, and when ctx is done every await fails with its cause.
// If ctx carries a factory ([WithLoopFactory]), the factory makes the loop.
//
// The loop must be closed with [EventLoop.Close]. Any goroutine may call NewEventLoop.
func NewEventLoop(ctx context.Context) *EventLoop {
	if ctx == nil {
		panic(fmt.Errorf("%w: nil context (in NewEventLoop): use context.Background()", ErrInvalidArgument))
	}
	d, ctx := driver.From(ctx)
	if d == nil {
		if f := loopFactory(ctx); f != nil {
			masked := &factoryMask{Context: ctx} // the factory may call NewEventLoop
			l := mustBeALoop(f(masked))
			masked.off.Store(true) // so that it also serves runs inside of this one
			if l.ctx.Context == masked {
				l.ctx.Context = ctx
			}
			return l
		}
		d = driver.NewReal()
	}
	l := &EventLoop{drv: d}
	l.chooser, _ = d.(driver.Chooser)
	if l.chooser != nil {
		l.chooser.Attach((*driven)(l))
	}
	l.observer, _ = d.(driver.Observer)
	_, l.turns = d.(driver.Turns)
	if g, ok := d.(driver.Gated); ok {
		if l.gate = g.Gate(); l.gate != nil {
			l.comeToGate()
		}
	}
	l.ctx = &loopContext{Context: ctx, loop: l}
	l.rootDone = ctx.Done()
	l.stacks.loop = l
	l.initLabels(ctx)
	l.setMode(debugMode, debugByEnvironment)
	l.setRecorder(nil)
	beginRecording(l)
	return l
}

// mustBeALoop panics if a loop factory returned nil.
func mustBeALoop(l *EventLoop) *EventLoop {
	if l == nil {
		panic(fmt.Errorf("%w: the loop factory returned nil", ErrInvalidArgument))
	}
	return l
}

// GetRunningLoop returns the loop that ctx leads to. It fails with [ErrNoRunningLoop] if
// ctx leads to none or that loop is not running. Any goroutine may call it.
func GetRunningLoop(ctx context.Context) (*EventLoop, error) {
	l := loopOf(ctx)
	if l == nil || !l.running.Load() {
		return nil, ErrNoRunningLoop
	}
	return l, nil
}

// Context returns the root context of the loop, for creating tasks and futures
// outside of any task. Any goroutine may call it.
func (l *EventLoop) Context() context.Context { return l.ctx }

// Time returns the present on the loop's clock, which began when the loop was made and does not run
// backwards. Any goroutine may call Time.
func (l *EventLoop) Time() Instant { return Instant{l.drv.Now()} }

// Now returns the wall-clock time of the loop's world: the machine's, or that of a simulated host,
// whose clock may drift and be set. Deadlines that are given as a [time.Time] are on this scale.
// Any goroutine may call it. Python: time.time().
func (l *EventLoop) Now() time.Time { return l.drv.Wall() }

// Until returns how long it takes on the loop's clock until t, which is less than zero if t has
// passed. t is on the scale of [EventLoop.Now], or was made with [time.Now]: that means so much
// from now on a virtual clock too. Real time has gone by since it was made, a few microseconds that
// differ from run to run, so the result is then rounded up, by at most a millisecond or a
// hundredth. It is for types that have deadlines of their own, as [Conn.SetDeadline]. Any goroutine
// may call it.
func (l *EventLoop) Until(t time.Time) time.Duration {
	if !l.isOfMachine(t) {
		return t.Sub(l.Now())
	}
	left := time.Until(t)
	grain := time.Millisecond
	for grain <= left/1000 {
		grain *= 10
	}
	if over := left % grain; over > 0 && left < math.MaxInt64-grain {
		left += grain - over
	}
	return left
}

// isOfMachine reports whether t is on the machine's clock, and the loop's is another. A monotonic
// reading says that t was made with [time.Now].
func (l *EventLoop) isOfMachine(t time.Time) bool {
	return isMonotonic(t) && !isMonotonic(l.drv.Start())
}

func isMonotonic(t time.Time) bool { return t != t.Round(0) }

// IsRunning reports whether the loop is running. Any goroutine may call it.
func (l *EventLoop) IsRunning() bool { return l.running.Load() }

// IsClosed reports whether the loop was closed. Any goroutine may call it.
func (l *EventLoop) IsClosed() bool { return l.closed.Load() }

// Stop makes the loop end its run after the current iteration, or, if it is not running, makes its
// next run end after one iteration. On a loop that is closed or being closed it does nothing. It
// does not suspend. It panics with [ErrForeignGoroutine].
func (l *EventLoop) Stop() {
	if l.closed.Load() {
		return
	}
	l.mustNotBeForeign("Stop")
	if l.closing.Load() {
		return
	}
	l.stopping = true
}

// runToHalt runs iterations until one ends with a stop. It does so on a goroutine of its own,
// because the caller's may be locked to a thread, and coroutines must not be.
func (l *EventLoop) runToHalt() {
	l.halted, l.iterated, l.chosen = false, false, false
	l.watchdog.start(l)
	l.joinsLoops()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.stacks.run()
	}()
	<-done
	l.leavesLoops()
	l.endStep(nil)
	l.step.waits()
	l.watchdog.leave()
	l.guard.Store(0)
	l.ready.shrink()
}

// haltByGoexit ends the run because a goroutine of the loop is exiting.
func (l *EventLoop) haltByGoexit() { l.goexit, l.halted, l.todo = true, true, 0 }

// beginIteration ends the run if a stop was asked for (loop 4), waits if nothing is ready (loop 1)
// and takes in what has arrived (loop 2). It reports whether there is anything to run; if not, the
// run is over. The only user code it runs is the Err method of contexts, so any of the loop's
// stacks may call it.
func (l *EventLoop) beginIteration() bool {
	for {
		if l.iterated && l.stopping {
			l.stopping = false
			l.halted = true
			return false
		}
		l.iterated = true
		l.iteration++
		if l.attended {
			l.tellIteration()
		}
		l.takeIn()
		looked := l.sockets == nil
		if l.ready.n == 0 && !l.stopping {
			looked = true
			if !l.park() {
				l.halted = true
				return false
			}
			l.takeIn()
		} else if !looked && (l.steps >= pollSteps || l.stopping) {
			l.poll(l.drv.Now())
			looked = true
		}
		if len(l.timers) > 0 {
			now := l.Time()
			if !looked && !l.timers[0].when.After(now) {
				l.poll(now.age)
			}
			l.takeDue(now)
		}
		l.todo = l.ready.n
		l.steps += l.todo
		if l.unvisited += l.todo; l.unvisited >= schedulerSteps {
			l.visitScheduler()
		}
		if l.todo > 0 {
			return true
		}
	}
}

// tellIteration tells those who attend to the loop that an iteration begins.
func (l *EventLoop) tellIteration() {
	if l.observer != nil {
		l.observer.BeginIteration()
	}
	if l.recorder != nil {
		l.recorder.iteration()
	}
}

// A source is where events come from that neither a driver nor the inbox knows of: Go channels. The
// loop looks at it in every iteration.
type source interface {
	// poll schedules what has come.
	poll()

	// wait calls the driver's Wait, and ends it when something comes.
	wait(until time.Duration) error
}

// takeIn takes in what came from outside the loop: posts, ends of contexts, what the source has.
func (l *EventLoop) takeIn() {
	if l.inbox.some.Load() {
		l.emptyInbox()
	}
	if (l.firstWatch != nil || l.rootWatch != nil) && l.drv.Polls() {
		l.pollWatches()
	}
	if l.source != nil {
		l.source.poll()
	}
}

// takeDue schedules the timers that are due at now.
func (l *EventLoop) takeDue(now Instant) {
	for len(l.timers) > 0 && !l.timers[0].when.After(now) {
		l.schedule(l.timers.pop().cb, nil)
	}
}

// park waits for the next event. It reports false if there can be no event any more.
func (l *EventLoop) park() bool {
	until := driver.Never
	if len(l.timers) > 0 {
		until = l.timers[0].when.age
	}
	if l.modes.Load() != 0 {
		l.endStep(nil)
		l.step.waits()
		if l.recorder != nil {
			l.recorder.idle()
		}
	}
	if len(l.stacks.idle) > keptIdle {
		if next := l.stacks.age(); !l.drv.Polls() {
			until = min(until, next) // wake up for the end of the period (idle 3)
		}
	}
	guard := l.guard.Load()
	l.guard.Store(guardParked)
	l.steps = 0
	var err error
	if l.source != nil {
		err = l.source.wait(until)
	} else {
		err = l.drv.Wait(until)
	}
	l.setGuard(guard)
	if l.recorder != nil {
		l.recorder.woken()
	}
	switch {
	case err == nil:
	case errors.Is(err, driver.ErrKilled):
		l.killed = true
	case errors.Is(err, driver.ErrStalled):
		l.stalled = true
	default:
		crash(fmt.Errorf("asyncio: waiting for events: %w", err))
	}
	return err == nil
}

const (
	pollSteps    = 16
	pollInterval = 50 * time.Microsecond
)

// poll takes in I/O while the loop is busy (loop 6). Looking at the time only now and then is good
// enough: a step takes a tenth of a microsecond, or as long as it likes.
func (l *EventLoop) poll(now time.Duration) {
	l.steps = 0
	if now-l.polled < pollInterval && !l.stopping {
		return
	}
	l.polled = now
	if err := l.sockets.Poll(); err != nil {
		crash(fmt.Errorf("asyncio: looking for events: %w", err))
	}
}

const schedulerSteps = 2048

// visitScheduler enters Go's scheduler from a busy loop (loop 7). It waits for a goroutine that
// runs next unless the collector has something to do, and then the loop itself is next. With
// runtime.Gosched the loop would queue up behind all other goroutines, each of which may run for 10
// ms. This way it keeps the rest of its own time slice.
func (l *EventLoop) visitScheduler() {
	l.unvisited = 0
	if len(l.stacks.idle) > keptIdle {
		l.stacks.age()
	}
	if runtime.GOMAXPROCS(0) > 1 { // an idle processor runs the collector
		return
	}
	if l.scheduled == nil {
		l.returned = make(chan struct{})
		l.scheduled = func() { l.returned <- struct{}{} }
	}
	go l.scheduled()
	<-l.returned
}

// maxUnbroken is the number of operations after which a task gives way (conn 1, channel 1).
const maxUnbroken = 16

// mayGoOn counts an operation of a step, and reports whether it may be done without giving way
// (channel 1). A step is identified by its place in the iteration; a task that is started eagerly
// is part of it.
func (l *EventLoop) mayGoOn() bool {
	if l.unbroken.iteration != l.iteration || l.unbroken.todo != l.todo {
		l.unbroken.iteration, l.unbroken.todo, l.unbroken.n = l.iteration, l.todo, 0
	}
	l.unbroken.n++
	return l.unbroken.n <= maxUnbroken
}

// unbroken counts the operations done in a step without a wait.
type unbroken struct {
	iteration uint64
	todo, n   int
}

// upcoming returns the callback to run next and leaves it in the queue. It is called on the stack
// s. If the driver ends the run instead, the entry has no callback.
func (l *EventLoop) upcoming(s *stack) entry {
	if l.attended && !l.attend(s) {
		return entry{}
	}
	return l.ready.first()
}

// attend is the part of upcoming for loops that have a chooser or a recorder. It reports false if
// the run is over.
func (l *EventLoop) attend(s *stack) bool {
	if l.chooser != nil && !l.choose(s) {
		return false
	}
	if l.recorder != nil {
		l.recorder.turn(l.ready.first().cb)
	}
	return true
}

// advance takes the callback that upcoming returned off the queue.
func (l *EventLoop) advance() {
	l.chosen = false
	l.todo--
	l.ready.removeFirst()
}

// choose has the chooser pick the callback to run next, once, and brings it forward. If a stop was
// asked for, the run ends with this iteration (loop 4), so the chooser is then offered this
// iteration's callbacks only. choose reports false if the run is over.
func (l *EventLoop) choose(s *stack) bool {
	if l.chosen || l.killed { // a killed loop runs in order what it still runs while it closes
		return true
	}
	l.chosen = true
	if l.modes.Load() != 0 {
		l.endStep(nil)
		l.step.waits() // the driver may let others run
	}
	if isID(l.guard.Load()) { // s's goroutine is not foreign, whichever had control before
		l.guard.Store(s.goroutine())
		l.blocks.Store(&s.note().blocks)
	}
	n := l.ready.n
	if l.stopping {
		n = l.todo
	}
	k := l.chooser.Choose(l.todo, n)
	if k == driver.Killed {
		l.killed, l.halted, l.chosen, l.todo = true, true, false, 0
		return false
	}
	if k >= l.todo {
		l.tellIteration()
		l.takeIn()
		l.takeDue(l.Time())
		l.todo = l.ready.n
	}
	if k > 0 {
		l.ready.bringForward(k)
	}
	return true
}

// schedule appends cb to the ready queue, behind what is in the inbox (loop 5).
func (l *EventLoop) schedule(cb callback, fut *future) {
	if l.inbox.some.Load() && !l.inbox.emptying {
		l.emptyInbox()
	}
	l.ready.push(entry{cb, fut})
	if l.recorder != nil {
		l.recorder.scheduled(cb)
	}
}

func (l *EventLoop) setTimer(t *timer) {
	l.timerSeq++
	t.seq = l.timerSeq
	l.timers.push(t)
}

// Close ends a loop that is not running. In this order it
//
//   - refuses whatever other goroutines send from now on, and runs the callbacks that it accepted
//     from them before: every callback given to [EventLoop.CallSoonThreadsafe] either runs or was
//     refused with an error;
//   - reports each task that is not done ("Task was destroyed but it is pending!"), unwinds it, so
//     that its deferred functions run, and lets it end cancelled. An await in such a function fails
//     with [ErrLoopClosed]. A task that had not started does not start;
//   - kills subprocesses with their groups and waits for them, unless they are detached;
//   - closes files that are still open, and reports each ("unclosed file");
//   - fails the calls that goroutines still wait for ([RunCoroutineThreadsafe]) with ErrLoopClosed;
//   - reports errors that nobody retrieved;
//   - drops callbacks and timers, shuts the default executor down without waiting, and closes the
//     connections and listeners that are left.
//
// Closing a closed loop does nothing. Close returns [ErrLoopRunning] if the loop is running.
func (l *EventLoop) Close() error {
	if l.closed.Load() {
		return nil
	}
	if !l.running.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: stop it, or let Run close it", ErrLoopRunning)
	}
	defer l.running.Store(false)
	defer borrow()()

	accepted := l.inbox.close()
	var dropped readyQueue
	l.ready.sift(&dropped)
	l.timers.clear() // none fires because the loop closes
	for _, cb := range accepted {
		l.admit(cb)
	}
	if l.gate != nil {
		l.gate.Flush()
	}
	for l.ready.n > 0 { // once, unless a callback halts the run with a Goexit
		l.stopping, l.todo = true, 0
		l.runToHalt()
		l.ready.sift(&dropped)
	}

	l.closing.Store(true)
	l.guard.Store(guardClosed)
	l.leaveGate()
	for t := range l.tasks.all {
		if !t.fut.quiet {
			l.CallExceptionHandler(ExceptionContext{Message: "Task was destroyed but it is pending!", Task: t.self})
		}
	}
	for t := l.tasks.first(); t != nil; t = l.tasks.first() {
		l.destroy(t)
	}
	for _, stage := range []endStage{endSources, endWork, endOpen} {
		l.endParts(stage)
	}
	l.ready.sift(&dropped)
	for dropped.n > 0 {
		if e := dropped.pop(); e.fut != nil {
			if s, ok := e.cb.(settler); ok {
				s.settle(e.fut)
			}
		}
	}
	l.reports.flush(l)
	l.endParts(endWorkers)
	for w := l.firstWatch; w != nil; w = l.firstWatch {
		w.close()
	}
	if l.rootWatch != nil {
		l.rootWatch.stop()
	}
	l.timers.clear()
	l.stacks.drain()
	if m := l.step.meter.Load(); m != nil {
		metering.GiveBack(m)
	}
	err := l.drv.Close()
	l.closed.Store(true) // only now: from here on any goroutine may close descriptors
	if l.goexit {
		l.goexit = false
		runtime.Goexit()
	}
	return err
}

// A settler is a done callback that a goroutine outside the loop waits for. It is told the outcome
// even if the loop closes before the callback's turn.
type settler interface{ settle(*future) }
