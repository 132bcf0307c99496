package asyncio

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
)

// An ExceptionContext describes an error that no caller can be given. Python passes a dict to an
// exception handler instead.
type ExceptionContext struct {
	Message   string       // what happened
	Exception error        // the error, if there is one
	Task      AnyTask      // the task concerned, if there is one and it still exists
	Handle    fmt.Stringer // the callback concerned, if there is one
	Conn      net.Conn     // the connection concerned, if there is one; Python's transport
	Source    string       // repr of a future that nobody holds any more
	Stack     []byte       // a stack that belongs to the error, if there is one

	// SourceTraceback says where the task, future or handle was made, one call a line, in debug
	// mode.
	SourceTraceback string

	// Context has the values that are to be known when the error is dealt with, for example a trace
	// or request id. It is the context of the task concerned or, for a callback, of the task that
	// registered it. If there is no such task, it is the loop's own.
	Context context.Context
}

// SetExceptionHandler makes handler receive the errors that would otherwise be logged: panics in
// callbacks and tasks, errors that nobody retrieved, tasks destroyed while pending. It runs on the
// loop, or inside Close, and must not await. nil restores the default,
// [EventLoop.DefaultExceptionHandler].
func (l *EventLoop) SetExceptionHandler(handler func(*EventLoop, ExceptionContext)) {
	l.mustBeOwner("SetExceptionHandler")
	l.exceptionHandler = handler
}

// GetExceptionHandler returns the handler in use, nil for the default.
func (l *EventLoop) GetExceptionHandler() func(*EventLoop, ExceptionContext) {
	return l.exceptionHandler
}

// DefaultExceptionHandler logs c as an error with [log/slog]. Any goroutine may call it. The record
// has the values of c as attributes, and c.Context as its context. The attribute "stack" has a call
// in each line, the innermost one of the program first. If the program has set no logger, all of
// this is in the message, each call in a line of its own.
func (l *EventLoop) DefaultExceptionHandler(c ExceptionContext) {
	if c.Message == "" {
		c.Message = "unhandled exception in event loop"
	}
	var attrs []slog.Attr
	add := func(key string, value any) { attrs = append(attrs, slog.Any(key, value)) }
	if c.Exception != nil {
		add("exception", fmt.Sprint(c.Exception)) // Sprint survives an Error method that panics
	}
	stack := c.Stack
	if p, ok := c.Exception.(*PanicError); ok && stack == nil {
		stack = p.Stack
	}
	if stack != nil {
		attrs = append(attrs, stackAttr(stack))
	}
	if c.Task != nil {
		add("task", c.Task.String())
	}
	if c.Handle != nil {
		add("handle", c.Handle.String())
	}
	if c.Conn != nil {
		add("local", c.Conn.LocalAddr())
		add("remote", c.Conn.RemoteAddr())
	}
	if c.Source != "" {
		add("source", c.Source)
	}
	if c.SourceTraceback != "" {
		add("created", c.SourceTraceback)
	}
	logReport(c.Context, slog.LevelError, "asyncio: "+c.Message, attrs...)
}

// CallExceptionHandler hands c to the exception handler, with a Context if it has none. If the
// handler panics, the default handler reports that. The default handler also gets everything that
// is reported while the handler is at work, even by the handler itself, which is not called again
// then. It is for the loop only: a call from another goroutine goes to the default handler. Python:
// loop.call_exception_handler.
func (l *EventLoop) CallExceptionHandler(c ExceptionContext) {
	if l.checkForeign("CallExceptionHandler") != nil {
		l.DefaultExceptionHandler(c)
		return
	}
	if c.SourceTraceback == "" && l.debug() {
		c.SourceTraceback = c.source().String()
	}
	switch {
	case c.Context != nil:
	case c.Task != nil && !isNil(c.Task):
		c.Context = c.Task.GetContext()
	default:
		c.Context = l.ctx
	}
	if !l.closing.Load() {
		l.handle(c)
		return
	}
	// Close must get to its end even if the handler exits its goroutine.
	done := make(chan struct{})
	go func() {
		defer close(done)
		debug.SetPanicOnFault(true) // it does the loop's work (foreign 2)
		l.handle(c)
	}()
	<-done
}

// handle calls the exception handler, or the default one for a report from inside the exception
// handler. A report from inside both, which then comes from the program's logger, goes to standard
// error: a report never leads to itself.
func (l *EventLoop) handle(c ExceptionContext) {
	l.handling++
	defer func() { l.handling-- }()
	switch {
	case l.handling == 1 && l.exceptionHandler != nil:
		l.runExceptionHandler(c)
	case l.handling <= 2:
		if l.handling == 2 {
			c.Message = "reported while the exception handler was at work: " + c.Message
		}
		l.runDefaultHandler(c)
	default:
		c.printPlainly()
	}
}

// runDefaultHandler calls DefaultExceptionHandler where a panic of the program's logger would end
// the program.
func (l *EventLoop) runDefaultHandler(c ExceptionContext) {
	defer func() {
		if v := recover(); v != nil {
			c.printPlainly()
			ExceptionContext{
				Message:   "panic in the default exception handler",
				Exception: &PanicError{Value: v, Stack: debug.Stack()},
			}.printPlainly()
		}
	}()
	l.DefaultExceptionHandler(c)
}

func (c ExceptionContext) printPlainly() {
	fmt.Fprintf(os.Stderr, "asyncio: %s: %v\n", c.Message, c.Exception)
	if p, ok := c.Exception.(*PanicError); ok {
		fmt.Fprintf(os.Stderr, "%s\n", p.Stack)
	}
}

// reportSoon reports c at a moment at which no user code may run, because a task has begun to wait:
// a callback calls the handler. While the loop closes, reportSoon calls it at once.
func (l *EventLoop) reportSoon(c ExceptionContext) {
	if l.closing.Load() {
		l.CallExceptionHandler(c)
	} else {
		l.schedule(&laterReport{l, c}, outside)
	}
}

type laterReport struct {
	loop *EventLoop
	c    ExceptionContext
}

func (r *laterReport) fire(*future) { r.loop.CallExceptionHandler(r.c) }

func (r *laterReport) String() string { return "report: " + r.c.Message }

// source returns where the subject of c was made.
func (c ExceptionContext) source() *trace {
	if c.Task != nil {
		if r := c.Task.core().report; r != nil {
			return r.created
		}
	}
	switch h := c.Handle.(type) {
	case *Handle:
		return h.created
	case *TimerHandle:
		return h.created
	}
	return nil
}

func (l *EventLoop) runExceptionHandler(c ExceptionContext) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			mustEnd(v)
			c.Context = nil // not for printing
			l.runDefaultHandler(ExceptionContext{
				Message:   "unhandled error in exception handler",
				Exception: &PanicError{Value: v, Stack: debug.Stack()},
				Source:    fmt.Sprintf("%+v", c),
			})
			return
		}
		l.haltByGoexit()
	}()
	l.exceptionHandler(l, c)
	returned = true
}

// invoke runs a user's callback fn. Messages name it after the function src.
func (l *EventLoop) invoke(fn func(), src any, handle any) {
	returned := false
	defer func() {
		if !returned {
			l.haltByGoexit() // whatever a deferred function did meanwhile; see task.call
		}
	}()
	l.invokeRecovering(fn, src, handle)
	l.unlabel()
	returned = true
}

func (l *EventLoop) invokeRecovering(fn func(), src any, handle any) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			mustEnd(v)
			c := ExceptionContext{
				Message:   "exception in callback " + callSite(funcPC(src)),
				Exception: &PanicError{Value: v, Stack: debug.Stack()},
			}
			if l.recorder != nil {
				l.recorder.panicked()
			}
			c.Handle, _ = handle.(fmt.Stringer)
			c.Context = callbackContext(handle)
			l.CallExceptionHandler(c)
		}
	}()
	if l.labelled() {
		l.labelCallback(handle)
	}
	fn()
	returned = true
}

// callbackContext returns the context of the task that scheduled the callback of handle, nil if no
// task did.
func callbackContext(handle any) context.Context {
	switch h := handle.(type) {
	case *Handle:
		return h.ctx
	case *TimerHandle:
		return h.ctx
	case *DoneCallback:
		return h.ctx
	}
	return nil
}

// A report is an error that nobody has looked at. The loop lists it until somebody looks, until the
// garbage collector finds that nobody can any more, or until the loop closes. A report must not
// refer to the future, which could then never be collected.
type report struct {
	list       *reportList
	prev, next *report
	loop       *EventLoop
	err        error
	ctx        context.Context // of the task, nil for a future
	name       string
	pc         uintptr

	created *trace          // where the future was made (debug 3)
	cancel  *CancelledError // the last cancel of the task; in debug mode
}

type reportList struct{ first, last *report }

// arm notes that f has an error that nobody has looked at.
func (f *future) arm() {
	l := f.loop
	r := f.report
	if r == nil {
		r = &report{loop: l}
		f.report = r
	}
	r.err = f.err
	if t, ok := f.super.(*task); ok {
		r.ctx, r.name, r.pc = t.ctx, t.GetName(), t.self.code()
	}
	r.link(&l.reports)
	if !l.drv.Polls() {
		// The moment at which the collector runs is not deterministic, so on virtual time the
		// report waits for Close.
		runtime.AddCleanup(f, func(r *report) { _ = r.loop.post(r) }, r)
	}
}

// mirror completes f as g has finished. The two share one error: a look at it through either counts
// for both, and if nobody looks, it is reported once. An error that has been reported already is
// not reported again.
func (f *future) mirror(g *future) {
	f.state, f.err = finished, g.err
	if g.unretrieved() {
		f.report, f.super = g.report, mirrored{g}
	}
	f.scheduleCallbacks()
}

// mirrored keeps the future that another one mirrors from being collected first.
type mirrored struct{ of *future }

func (mirrored) cancel(*CancelledError) cancelAnswer { return refused }

func (r *report) link(list *reportList) {
	r.list = list
	if list.last == nil {
		list.first = r
	} else {
		list.last.next, r.prev = r, list.last
	}
	list.last = r
}

func (r *report) unlink() {
	if r.list == nil {
		return
	}
	if r.prev == nil {
		r.list.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		r.list.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.list, r.prev, r.next = nil, nil, nil
}

// fire runs when the collector has found that nobody holds the future.
func (r *report) fire(*future) {
	if r.list != nil {
		r.unlink()
		r.deliver()
	}
}

func (r *report) deliver() {
	c := ExceptionContext{Exception: r.err, Context: r.ctx, SourceTraceback: r.created.String()}
	if r.ctx != nil {
		c.Message = "Task exception was never retrieved"
		c.Source = fmt.Sprintf("<Task finished name=%s coro=<%s> exception=%s>", reprString(r.name), coroutineSite(r.pc, "done"), reprError(r.err))
	} else {
		c.Message = "Future exception was never retrieved"
		c.Source = fmt.Sprintf("<Future finished exception=%s>", reprError(r.err))
	}
	r.loop.CallExceptionHandler(c)
}

func (list *reportList) flush(l *EventLoop) {
	for r := list.first; r != nil; r = list.first {
		r.unlink()
		r.deliver()
	}
}

// stacksWith returns the stacks of all goroutines in a function whose name contains marker.
func stacksWith(marker string) []byte {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out []byte
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.Contains(g, []byte(marker)) {
			out = append(append(out, g...), "\n\n"...)
		}
	}
	return out
}
