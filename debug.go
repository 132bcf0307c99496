package asyncio

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/goasyncio/asyncio/internal/metering"
)

// What debug mode does, and why it costs nothing when it is off.
//
//	debug 1: modes says which observers a loop has. While it is zero, a step spends one load and a
//	   branch on them.
//	debug 2: A step runs from the time a task or a callback gets control until it gives control
//	   back. noteStep begins one. A step ends when its task suspends, when the next step begins, or
//	   when the loop waits or halts, whichever is first.
//	debug 3: The place where a future was made is kept in its report. For that purpose the report is
//	   made with the future, and not thrown away when the error is retrieved.
//	debug 4: Slow steps are measured on the loop's clock, so on virtual time there are none.

const (
	debugMode uint32 = 1 << iota
	watchdogMode
	guardedMode  // guard has the id of a goroutine; outlives debugMode until the next step
	sharedMode   // several loops run (foreign 6)
	kinMode      // stacks note their ids, because sequences of iter.Pull use the loop (foreign 5)
	labelledMode // there may be labels for profiles (label 3)
	namedMode    // tasks get labels with their names
	inspectMode  // steps are noted for those who look at a loop from outside
	timedMode    // they are timed, because somebody is looking
	recordMode   // the loop has a recorder
	meteredMode  // the loop keeps a meter (meter 1)
	tracedMode   // there may be tasks in execution traces (trace 3)
	tracingMode  // tasks are put there when they are made
)

// stepModes are the modes in which somebody observes steps.
const stepModes = ^(labelledMode | namedMode | tracedMode | tracingMode)

// A recorder notes what happens on a loop. Its methods are called where that happens, in this order
// for each turn of a callback: turn, begun unless the callback is quick, then whatever it does. See
// the flight recorder (recorder 1).
type recorder interface {
	iteration()                           // an iteration begins
	idle()                                // the loop is about to wait
	woken()                               // it has waited
	turn(cb callback)                     // cb is next
	begun(cb callback)                    // a step begins; nil if one goes on that was interrupted
	waits(t *task)                        // the step ends because t waits
	scheduled(cb callback)                // cb has become ready
	made(t *task)                         // t is a new task
	ended(t *task)                        // t has ended
	cancelled(t *task, c *CancelledError) // t was asked to end
	panicked()                            // the step under way has panicked

	// ran tells of a function that was called on a thread so long ago, and has returned.
	ran(code uintptr, ago, took time.Duration)
}

// A room sets these. beginRecording is called for every new loop, stallRecorded by the goroutine of
// a watchdog for a step that has taken so long.
var (
	beginRecording = func(l *EventLoop) {}
	stallRecorded  = func(l *EventLoop, d time.Duration) {}
)

// setRecorder makes r the recorder of the loop, or takes it away if r is nil.
func (l *EventLoop) setRecorder(r recorder) {
	l.recorder = r
	l.attended = l.chooser != nil || l.observer != nil || r != nil
	l.setMode(recordMode, r != nil)
}

// debugByEnvironment is ASYNCIODEBUG as of the start of the program, as in Python.
var debugByEnvironment = os.Getenv("ASYNCIODEBUG") != "" && os.Getenv("ASYNCIODEBUG") != "0"

// GetDebug reports whether the loop is in debug mode. Any goroutine may call it. Python:
// loop.get_debug.
func (l *EventLoop) GetDebug() bool { return l.debug() }

func (l *EventLoop) debug() bool { return l.modes.Load()&debugMode != 0 }

// SetDebug switches debug mode. Any goroutine may call it. The environment variable ASYNCIODEBUG=1
// switches it on for every loop. In debug mode
//
//   - a call from a foreign goroutine is refused in two more cases: if it could do no more harm
//     than to confuse its own object, as with a lock that nobody waits for, and if the goroutine
//     has called [debug.SetPanicOnFault] or runs a sequence of [iter.Pull] that belongs to a task.
//     (A queue, event or the like that no task ever had to wait for has no loop to be foreign to,
//     so calls of it are not refused.) While the program has at most a thousand goroutines, a call
//     by a sequence of iter.Pull takes as long as a look at all of them;
//   - a slow step is logged as a warning, with the place it ended at. A step is everything that a
//     task or callback does between two waits. It is slow if it takes at least as long as
//     [EventLoop.SetSlowCallbackDuration] says;
//   - a step that has not returned after ten times as long is logged while it goes on, with its
//     stack, as by [EventLoop.SetStallWatchdog], unless that has been called; not on virtual time.
//     The limit is the one in force when the run began;
//   - tasks, futures and handles remember where they were made, and reports to the exception
//     handler say it;
//   - a task that was cancelled and returned a result as if nothing had happened is logged as a
//     warning. A task that means to carry on says so with [Task.Uncancel];
//   - a delay or timeout below a microsecond is logged as a warning, once for each place, except on
//     virtual time: Sleep(ctx, 1) is a nanosecond.
//
// Python: loop.set_debug.
func (l *EventLoop) SetDebug(enabled bool) { l.setMode(debugMode, enabled) }

func (l *EventLoop) setMode(mode uint32, on bool) {
	if on {
		l.modes.Or(mode)
	} else {
		l.modes.And(^mode)
	}
}

// SetSlowCallbackDuration sets how long a step may take before debug mode warns about it. The
// default is 100 milliseconds; d must be positive. Any goroutine may call it. Python:
// loop.slow_callback_duration.
func (l *EventLoop) SetSlowCallbackDuration(d time.Duration) {
	if d <= 0 {
		panic(fmt.Errorf("%w: a duration of %v (in SetSlowCallbackDuration)", ErrInvalidArgument, d))
	}
	l.slowStep.Store(int64(d))
}

const defaultSlowStep = 100 * time.Millisecond

func (l *EventLoop) slowStepLimit() time.Duration {
	if d := l.slowStep.Load(); d != 0 {
		return time.Duration(d)
	}
	return defaultSlowStep
}

// step describes the step that is running (debug 2), while the loop has observers.
type step struct {
	what  callback // nil between two steps
	began time.Duration

	// For the goroutine of the watchdog.
	count     atomic.Uint64 // how many steps and waits have begun
	goroutine atomic.Uint64 // the goroutine that runs the step
	task      atomic.Pointer[task]

	observer stepObserver                   // nil before the loop is first inspected
	meter    atomic.Pointer[metering.Meter] // nil unless the loop has been given one (meter 1)

	// For checks of suspected goroutines (foreign 5): the id of the stack that runs the step, 0 if
	// it is not known. It is kept only in kinMode. A loop never leaves that mode, so head is not of
	// an earlier step.
	head atomic.Uint64
}

// A stepObserver is told of the tasks that a loop makes in inspectMode, and of its steps in
// timedMode. It is called on the loop, runs no user code and does nothing to the loop.
type stepObserver interface {
	taskMade(t *task)

	// stepEnded gets a step that has taken so long. suspends is the task if the step has ended
	// because its task suspends; its stack is then the one we are on.
	stepEnded(what callback, took time.Duration, suspends *task)
}

// beginStep is the rest of noteStep. what is nil if a step goes on that was interrupted by another.
func (l *EventLoop) beginStep(s *stack, what callback) {
	modes := l.modes.Load()
	if modes == recordMode {
		l.step.what = what
		l.recorder.begun(what)
		return
	}
	l.endStep(nil)
	if modes&meteredMode != 0 {
		l.step.meter.Load().Begins(l.iteration)
	}
	exact := modes&debugMode != 0 && !l.turns // foreign 9
	if exact || modes&sharedMode != 0 {
		b := &s.note().blocks
		if block := blockOf(unsafe.Pointer(&modes)); !b.have(block) { // it has moved
			b.clear()
			// Debug mode is not satisfied with a sequence of iter.Pull on which the step goes on.
			if !exact || s.goroutine() == goroutineID() {
				b.add(block)
			}
		}
		l.blocks.Store(b)
	}
	if !exact && modes&guardedMode != 0 {
		l.setGuard(0)
		l.setMode(guardedMode, false)
	}
	if modes&recordMode != 0 {
		l.recorder.begun(what)
		l.step.what = what
	}
	if modes&(debugMode|watchdogMode|kinMode|inspectMode|timedMode) == 0 {
		return
	}
	id := s.goroutine() // s is the stack we are on
	l.step.goroutine.Store(id)
	if modes&kinMode != 0 {
		l.step.head.Store(s.note().id)
	}
	if exact {
		l.guard.Store(id)
		l.setMode(guardedMode, true)
	}
	if modes&(debugMode|timedMode) != 0 {
		l.step.began = l.drv.Now() // the loop's clock (debug 4)
	}
	l.step.what = what
	if modes&debugMode != 0 && !l.watchdog.chosen && l.watchdog.stop == nil && !l.drv.Polls() {
		l.watchdog.start(l) // debug mode has been switched on in the run
	}
	if l.watchdog.stop != nil || modes&inspectMode != 0 {
		t, _ := what.(*task)
		l.step.task.Store(t)
		l.step.count.Add(1)
	}
}

// endStep ends the step that is running, if there is one. If the step ends because its task
// suspends, that task is given: its stack is the one we are on.
func (l *EventLoop) endStep(suspends *task) {
	if suspends != nil && l.recorder != nil {
		l.recorder.waits(suspends)
	}
	what, began := l.step.what, l.step.began
	l.step.what, l.step.began = nil, 0
	if what == nil || began == 0 {
		return
	}
	took := l.drv.Now() - began
	if l.step.observer != nil && l.modes.Load()&timedMode != 0 {
		l.step.observer.stepEnded(what, took, suspends)
	}
	if took < l.slowStepLimit() || !l.debug() {
		return
	}
	var attrs []slog.Attr
	if suspends != nil {
		if at := firstOutside(callers(maxCallers)); at != "" {
			attrs = append(attrs, slog.String("until", at))
		}
	}
	logReport(context.Background(), slog.LevelWarn, fmt.Sprintf("asyncio: executing %s took %.3f seconds", describe(what), took.Seconds()), attrs...)
}

// isMade does what the observers want when a task is made, before it is in the loop's list.
func (t *task) isMade(modes uint32) {
	t.nameLabel(modes) // may panic, because a method of ctx may
	t.beginTrace(modes)
	t.fut.remember()
	if modes&meteredMode != 0 {
		t.loop().step.meter.Load().Makes()
	}
}

// hasEnded does what they want when a task has ended with err.
func (t *task) hasEnded(err error, as outcome) {
	modes := t.loop().modes.Load()
	t.endTrace(modes)
	if modes&meteredMode == 0 {
		return
	}
	how := metering.Failed
	_, panicked := err.(*PanicError)
	switch {
	case err == nil:
		how = metering.Returned
	case panicked && as == asSeen:
		how = metering.Panicked
	case as != asResult && err != ErrGoexit: // the end of its context is as good as a cancel
		how = metering.Cancelled
	}
	t.loop().step.meter.Load().Ends(how)
}

// tinyDuration is shorter than any duration that is meant, and longer than a number without a unit.
const tinyDuration = time.Microsecond

// tinyDurations has the places that have been warned about.
var tinyDurations sync.Map

// warnOfTinyDuration warns about Sleep(ctx, 1), which is a nanosecond. On virtual time that may be
// meant.
func (l *EventLoop) warnOfTinyDuration(d time.Duration) {
	if !l.debug() || l.drv.Polls() {
		return
	}
	at := firstOutside(callers(maxCallers))
	if _, told := tinyDurations.LoadOrStore(at, true); !told {
		logReport(context.Background(), slog.LevelWarn, fmt.Sprintf("asyncio: a duration of %v: a bare number counts nanoseconds; write time.Second", d), slog.String("at", at))
	}
}

// describe returns the String of anything the loop can run.
func describe(cb callback) string {
	switch cb := cb.(type) {
	case *task:
		return cb.self.String()
	case *DoneCallback:
		return fmt.Sprintf("<DoneCallback %s>", callSite(funcPC(cb.src)))
	case fmt.Stringer:
		return cb.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", cb), "*asyncio.")
}

// reportSwallowedCancel warns about a task that ends with a result although it was cancelled.
func (t *task) reportSwallowedCancel() {
	var attrs []slog.Attr
	if r := t.fut.report; r != nil {
		if r.cancel != nil {
			attrs = append(attrs, slog.String("cancel", fmt.Sprint(r.cancel)))
		}
		if r.created != nil {
			attrs = append(attrs, slog.String("created", r.created.String()))
		}
	}
	name, place := function(t.self.code())
	if place != "" {
		name += "() at " + place
	}
	logReport(t.ctx, slog.LevelWarn, fmt.Sprintf("asyncio: task %s was cancelled and returned a result: it, or what it awaited, swallowed the "+
		"cancellation; return the error, or call Uncancel to say that it carries on", reprString(t.GetName())),
		append(attrs, slog.String("coro", name))...)
}

// trace holds the calls in which something was made, innermost first.
type trace []uintptr

// maxCallers is how many callers are kept: as many as Python keeps, and the library's own frames on
// top.
const maxCallers = 16

// created returns the calls that led to the library, nil outside debug mode.
func (l *EventLoop) created() *trace {
	if !l.debug() {
		return nil
	}
	tr := trace(callers(maxCallers))
	return &tr
}

// remember keeps the place where f is made, in debug mode (debug 3).
func (f *future) remember() {
	if created := f.loop.created(); created != nil {
		f.report = &report{loop: f.loop, created: created}
	}
}

func (tr *trace) String() string {
	if tr == nil || firstOutside(*tr) == "" { // for example, of the task for a server's client
		return ""
	}
	return formatFrames(userFrames(*tr), "", "\n")
}

// callers returns up to n callers of the caller, or all of them if n is zero.
func callers(n int) []uintptr {
	if n > 0 {
		pcs := make([]uintptr, n)
		return pcs[:runtime.Callers(3, pcs)]
	}
	for size := 64; ; size *= 4 {
		pcs := make([]uintptr, size)
		if n := runtime.Callers(3, pcs); n < size {
			return pcs[:n]
		}
	}
}
