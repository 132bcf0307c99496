package asyncio

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// What debug mode does, and how it costs nothing when it is off.
//
//	debug 1: modes says which observers a loop has. While it is zero a step costs one load and a
//	   branch for them.
//	debug 2: A step is what runs from the time a task or a callback gets control until it gives it
//	   back. noteStep begins one. It ends when its task suspends, when the next begins, or when the
//	   loop waits or halts, whichever is first.
//	debug 3: Where a future was made is kept in its report, made with the future for that purpose
//	   and not thrown away when the error is retrieved.
//	debug 4: Slow steps are measured on the loop's clock, so on virtual time there are none.

const (
	debugMode uint32 = 1 << iota
	watchdogMode
	guardedMode  // guard has the id of a goroutine; outlives debugMode until the next step
	sharedMode   // several loops run (foreign 6)
	kinMode      // stacks note their ids, because sequences of iter.Pull use the loop (foreign 5)
	labelledMode // there may be labels of profiles (label 3)
	namedMode    // tasks get labels with their names
)

// debugByEnvironment is ASYNCIODEBUG as of the start of the program, as in Python.
var debugByEnvironment = os.Getenv("ASYNCIODEBUG") != "" && os.Getenv("ASYNCIODEBUG") != "0"

// GetDebug reports whether the loop is in debug mode. Any goroutine may call it. Python:
// loop.get_debug.
func (l *EventLoop) GetDebug() bool { return l.debug() }

func (l *EventLoop) debug() bool { return l.modes.Load()&debugMode != 0 }

// SetDebug switches debug mode. Any goroutine may call it. The environment variable ASYNCIODEBUG=1
// switches it on for every loop. In debug mode
//
//   - a call from a foreign goroutine is refused also where it could do no more harm than to
//     confuse its own object, as with a lock that nobody waits for, and where the goroutine has
//     called [debug.SetPanicOnFault] or runs a sequence of [iter.Pull] that belongs to a task. (A
//     queue, event or the like that no task ever had to wait for has no loop to be foreign to, so
//     there a call is not refused.) While the program has at most a thousand goroutines, a call by
//     a sequence of iter.Pull takes as long as a look at all of them;
//   - a step, what a task or callback does between two waits, that takes as long as
//     [EventLoop.SetSlowCallbackDuration] says or longer is logged as a warning, with the place it
//     ended at;
//   - a step that has not returned after ten times as long is logged while it goes on, with its
//     stack, as by [EventLoop.SetStallWatchdog], unless that has been called; not on virtual time.
//     The limit is that of when the run began;
//   - tasks, futures and handles remember where they were made, and reports to the exception
//     handler say it;
//   - a task that was cancelled and returned a result as if nothing had happened is logged as a
//     warning: one that means to carry on says so with [Task.Uncancel];
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

// SetSlowCallbackDuration sets how long a step may take before debug mode warns of it, by default
// 100 milliseconds; d must be positive. Any goroutine may call it. Python:
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

// step is the one that is running (debug 2), while the loop has observers.
type step struct {
	what  callback // nil between two steps
	began time.Duration

	// For the watchdog's goroutine.
	count     atomic.Uint64 // of steps and waits begun
	goroutine atomic.Uint64 // that runs it
	task      atomic.Pointer[task]

	// For whoever is suspected (foreign 5): the stack that runs it, 0 if that is not known. Kept
	// only in kinMode, which is never left, so it is not of an earlier step.
	head atomic.Uint64
}

// beginStep is the rest of noteStep. what may be nil, for a step that was interrupted by
// another and goes on.
func (l *EventLoop) beginStep(s *stack, what callback) {
	modes := l.modes.Load()
	l.endStep(nil)
	if modes&sharedMode != 0 {
		b := &s.note().blocks
		b.takesControl(blockOf(unsafe.Pointer(&modes)))
		l.blocks.Store(b)
	}
	if modes&debugMode == 0 && modes&guardedMode != 0 {
		l.setGuard(0)
		l.setMode(guardedMode, false)
	}
	if modes&(debugMode|watchdogMode|kinMode) == 0 {
		return
	}
	id := s.goroutine() // s is the stack we are on
	l.step.goroutine.Store(id)
	if modes&kinMode != 0 {
		l.step.head.Store(s.note().id)
	}
	if modes&debugMode != 0 {
		l.guard.Store(id)
		l.setMode(guardedMode, true)
		l.step.began = l.drv.Now()
	}
	l.step.what = what
	if modes&debugMode != 0 && !l.watchdog.chosen && l.watchdog.stop == nil && !l.drv.Polls() {
		l.watchdog.start(l) // debug mode has been switched on in the run
	}
	if l.watchdog.stop != nil {
		t, _ := what.(*task)
		l.step.task.Store(t)
		l.step.count.Add(1)
	}
}

// endStep ends the step that is running, if one is. If it ends with the suspension of a
// task, that is given: its stack is the one we are on.
func (l *EventLoop) endStep(suspends *task) {
	what := l.step.what
	l.step.what = nil
	if what == nil || !l.debug() {
		return
	}
	took := l.drv.Now() - l.step.began
	if took < l.slowStepLimit() {
		return
	}
	var attrs []any
	if suspends != nil {
		if at := firstOutside(callers(maxCallers)); at != "" {
			attrs = append(attrs, slog.String("until", at))
		}
	}
	slog.Warn(fmt.Sprintf("asyncio: executing %s took %.3f seconds", describe(what), took.Seconds()), attrs...)
}

// tinyDuration is below what is meant by a duration, and above what a number without a unit is.
const tinyDuration = time.Microsecond

// tinyDurations are the places that have been warned of.
var tinyDurations sync.Map

// warnOfTinyDuration warns of Sleep(ctx, 1), which is a nanosecond. On virtual time that may be
// meant.
func (l *EventLoop) warnOfTinyDuration(d time.Duration) {
	if !l.debug() || l.drv.Polls() {
		return
	}
	at := firstOutside(callers(maxCallers))
	if _, told := tinyDurations.LoadOrStore(at, true); !told {
		slog.Warn(fmt.Sprintf("asyncio: a duration of %v: a bare number counts nanoseconds; write time.Second", d), slog.String("at", at))
	}
}

// describe is the String of whatever the loop can run.
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

// reportSwallowedCancel warns of a task that ends with a result although it was cancelled.
func (t *task) reportSwallowedCancel() {
	var attrs []any
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
	slog.Warn(fmt.Sprintf("asyncio: task %s was cancelled and returned a result: it, or what it awaited, swallowed the "+
		"cancellation; return the error, or call Uncancel to say that it carries on", reprString(t.GetName())),
		append(attrs, slog.String("coro", name))...)
}

// trace is where something was made, innermost first.
type trace []uintptr

// maxCallers is how much of a stack is kept: what Python keeps, and the library's own frames on
// top.
const maxCallers = 16

// created returns where the library was called from, nil outside debug mode.
func (l *EventLoop) created() *trace {
	if !l.debug() {
		return nil
	}
	tr := trace(callers(maxCallers))
	return &tr
}

// remember is debug 3.
func (f *future) remember() {
	if created := f.loop.created(); created != nil {
		f.report = &report{loop: f.loop, created: created}
	}
}

func (tr *trace) String() string {
	if tr == nil || firstOutside(*tr) == "" { // as of a server's client
		return ""
	}
	return formatFrames(userFrames(*tr), "", "\n")
}

// callers returns up to n callers of the caller; all, if n is zero.
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
