package asyncio

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// A Stall is a step of a loop that does not return: a task or callback computes, or blocks without
// awaiting, while all others have to wait. See [EventLoop.SetStallWatchdog].
type Stall struct {
	For   time.Duration // how long it has been running, at least
	Task  string        // the name of the task, empty for a callback
	Stack []byte        // of its goroutine, now; nil if it cannot be told from others
}

// SetStallWatchdog has the loop watched from outside while it runs. A step that has not returned
// after limit is reported while it still runs, with its stack, and again each time it has taken
// twice as long. The watchdog is meant to be left on in production: a step costs a few nanoseconds
// more, and a goroutine looks at the loop four times per limit. A limit of zero switches it off.
//
// report runs on a goroutine of its own, so it must not touch the loop except by the loop's
// thread-safe calls. If report is nil, a warning is logged. A report that panics, or exits its
// goroutine as t.FailNow does, is logged, and the watchdog goes on. The end of a run waits for a
// report that is under way. Times are those of the wall clock, even if the loop's clock is virtual.
//
// SetStallWatchdog is for the loop only. It does not suspend. It panics with [ErrInvalidArgument]
// if limit is negative. Python has no equivalent; debug mode reports slow steps when they are over.
func (l *EventLoop) SetStallWatchdog(limit time.Duration, report func(Stall)) {
	l.mustBeOwner("SetStallWatchdog")
	if limit < 0 {
		panic(fmt.Errorf("%w: a limit of %v (in SetStallWatchdog)", ErrInvalidArgument, limit))
	}
	running := l.watchdog.stop != nil
	l.watchdog.leave()
	l.watchdog.limit, l.watchdog.report, l.watchdog.chosen = limit, report, true
	l.setMode(watchdogMode, limit > 0)
	if running || l.stacks.dispatcher != nil {
		l.step.isWatched(l.current) // the noted step may be from before the watchdog was last off
		l.watchdog.start(l)
	}
}

// watchdog looks at a loop from a goroutine that exists while the loop runs.
type watchdog struct {
	limit      time.Duration
	report     func(Stall)
	chosen     bool          // by SetStallWatchdog; otherwise debug mode has a watchdog of its own
	stop, gone chan struct{} // nil while there is no goroutine
}

func (w *watchdog) start(l *EventLoop) {
	limit := w.limit
	if !w.chosen && l.debug() && !l.drv.Polls() {
		limit = stalledAfter * l.slowStepLimit()
	}
	if limit == 0 {
		return
	}
	w.stop, w.gone = make(chan struct{}), make(chan struct{})
	go l.watchSteps(limit, w.report, w.stop, w.gone)
}

// stalledAfter is how many times as long as a slow step a step may go on before the watchdog of
// debug mode reports it. On virtual time debug mode has no watchdog: a simulation has its own, and
// is made of a great many short runs.
const stalledAfter = 10

func (w *watchdog) leave() {
	if w.stop != nil {
		close(w.stop)
		<-w.gone
		w.stop, w.gone = nil, nil
	}
}

// watchSteps reports steps that take longer than limit, until stop is closed.
func (l *EventLoop) watchSteps(limit time.Duration, report func(Stall), stop <-chan struct{}, gone chan<- struct{}) {
	s := &l.step
	defer close(gone)
	if report == nil {
		report = logStall
	}
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	var seen uint64 // the step that the last look saw
	var since time.Time
	var next time.Duration // how long the step may take before it is reported
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		n, g := s.count.Load(), s.goroutine.Load()
		if n != seen || g == 0 {
			seen, since, next = n, time.Now(), limit
			continue
		}
		took := time.Since(since)
		if took < next {
			continue
		}
		next = 2 * took
		stall := Stall{For: took, Stack: s.stack()}
		if t := s.task.Load(); t != nil {
			stall.Task = t.GetName()
		}
		if s.count.Load() == n { // it is still that step
			stallRecorded(l, took)
			l.reportStall(report, stall)
		}
	}
}

// reportStall calls report, which must end neither the program nor the watchdog.
func (l *EventLoop) reportStall(report func(Stall), stall Stall) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		err := ErrGoexit // unless report returns
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			if err != nil {
				l.runDefaultHandler(ExceptionContext{
					Message:   "panic or exit in the report function of a stall watchdog",
					Exception: err,
				})
			}
		}()
		report(stall)
		err = nil
	}()
	<-over
}

func logStall(s Stall) {
	what := "a callback"
	if s.Task != "" {
		what = "task " + reprString(s.Task)
	}
	var attrs []slog.Attr
	if at := inspection.ProgramsPlace(string(s.Stack)); at != "" {
		attrs = append(attrs, slog.String("at", at)) // what it calls there comes first in the stack
	}
	if s.Stack != nil {
		attrs = append(attrs, stackAttr(s.Stack))
	}
	logReport(context.Background(), slog.LevelWarn, fmt.Sprintf("asyncio: %s has been keeping the loop for %.3f seconds and still is", what, s.For.Seconds()), attrs...)
}

// isWatched notes the current step, which calls it: that of t, or of a callback if t is nil.
func (s *step) isWatched(t *task) {
	s.task.Store(t)
	s.goroutine.Store(goroutineID())
	s.count.Add(1)
}

// waits notes that no step runs, because the loop waits or its run is over.
func (s *step) waits() {
	s.goroutine.Store(0)
	s.head.Store(0)
	s.count.Add(1)
	if m := s.meter.Load(); m != nil {
		m.Waits()
	}
}

// stack returns the stack of the step under way, as runtime.Stack prints it; nil if there is no
// step, or it cannot be told from others. Any goroutine may call it.
func (s *step) stack() []byte {
	id := s.goroutine.Load()
	if id == 0 {
		return nil
	}
	if runtime.NumGoroutine() > tooManyToPrint {
		return s.stackAmongMany(id)
	}
	head := fmt.Appendf(nil, "goroutine %d ", id)
	for g := range bytes.SplitSeq(allStacks(), []byte("\n\n")) {
		if bytes.HasPrefix(g, head) {
			return bytes.Clone(g)
		}
	}
	return nil
}

// tooManyToPrint are so many that everything would stand still for too long while the runtime
// prints all of their stacks: that takes some 30 microseconds for each.
const tooManyToPrint = 2000

// stackAmongMany finds the stack in goroutine profiles, for which the program hardly stops. A
// profile has no ids. But the goroutine of a step is a stack's (stack 1), and does not wait at a
// place; the coroutine of its task is known. If steps of other loops fit too, these are over soon,
// and further profiles tell which one stays; a loop that runs the same function again and again
// cannot be told apart.
func (s *step) stackAmongMany(id uint64) []byte {
	count := s.count.Load()
	coroutine := ""
	if t := s.task.Load(); t != nil {
		if fn := runtime.FuncForPC(t.self.code()); fn != nil {
			// The wrapper of a method value is in no stack.
			coroutine = strings.TrimSuffix(fn.Name(), "-fm")
		}
	}
	fit := stepsUnderWay(coroutine)
	for n := 1; n < maxProfiles && len(fit) > 1; n++ {
		time.Sleep(profilePause)
		before := fit
		fit = slices.DeleteFunc(stepsUnderWay(coroutine), func(u underWay) bool {
			return !slices.ContainsFunc(before, func(b underWay) bool { return b.calls == u.calls })
		})
	}
	if len(fit) != 1 || s.count.Load() != count {
		return nil
	}
	return append(fmt.Appendf(nil, "goroutine %d [in a step]:\n", id), fit[0].trace...)
}

const (
	maxProfiles  = 10
	profilePause = 5 * time.Millisecond
)

// underWay is the stack of a step. calls are those that stay while the step goes on: from the
// outermost to the first function of the program.
type underWay struct {
	calls string
	trace []byte
}

// stepsUnderWay returns the stacks of goroutines that are in a step, of a task with this coroutine
// or, if that is empty, of none.
func stepsUnderWay(coroutine string) (all []underWay) {
	var out bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&out, 1); err != nil {
		return nil
	}
	for g := range bytes.SplitSeq(out.Bytes(), []byte("\n\n")) {
		functions, trace := profiled(string(g))
		body := slices.Index(functions, stackBody)
		if body < 0 || slices.Contains(functions, loopParked) || atPlace(trace) || !runs(functions, coroutine) {
			continue
		}
		first := body
		for first > 0 && strings.HasPrefix(functions[first], libraryPrefix) {
			first--
		}
		all = append(all, underWay{strings.Join(functions[first:body], "\n"), trace})
	}
	return all
}

// runs reports whether the task that runs on top of a stack has this coroutine; or, if that is
// empty, whether no task does.
func runs(functions []string, coroutine string) bool {
	i := slices.Index(functions, taskBody)
	if i < 0 {
		return coroutine == ""
	}
	for i--; i >= 0; i-- { // functions of the library come between the task and its coroutine
		if f := functions[i]; f == coroutine || !strings.HasPrefix(f, libraryPrefix) {
			return f == coroutine
		}
	}
	return false
}

// Where a stack is: every stack in stackBody, a task in taskBody, and a loop that waits for events
// in loopParked.
const (
	stackBody  = libraryPrefix + "(*stackPool).take.func1"
	taskBody   = libraryPrefix + "(*task).call"
	loopParked = libraryPrefix + "(*EventLoop).park"
)

// profiled reads a part of a goroutine profile, whose lines are like
//
//	#	0x4a3b1c	main.work+0x1c	/src/main.go:12
//
// It returns the functions, innermost first, and the frames as runtime.Stack prints them.
func profiled(text string) (functions []string, trace []byte) {
	for line := range strings.Lines(text) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' || r == '\n' })
		if len(fields) != 4 || fields[0] != "#" {
			continue
		}
		function, offset, _ := strings.Cut(fields[2], "+")
		functions = append(functions, function)
		trace = fmt.Appendf(trace, "%s(...)\n\t%s +%s\n", function, fields[3], offset)
	}
	return functions, trace
}

// maxTraces bounds how many bytes of traces are looked at.
var maxTraces = 64 << 20

// allStacks returns the stacks of all goroutines, up to maxTraces. While the runtime prints them
// nothing else runs. A buffer that is too small takes just as long, so the first guess is a
// generous one.
func allStacks() []byte {
	for size := min(1<<20+runtime.NumGoroutine()*2048, maxTraces); ; size = min(4*size, maxTraces) {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size == maxTraces {
			return buf[:n]
		}
	}
}
