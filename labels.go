package asyncio

import (
	"context"
	"runtime/pprof"
	exectrace "runtime/trace"
)

// What profiles and execution traces tell of tasks.

// Labels of profiles (package runtime/pprof).
//
//	label 1: A task begins with the labels of its context, and keeps the labels that it sets itself
//	   until it ends. A callback has the labels of the context of the task that scheduled it, and a
//	   thread function has those of its caller's context. Everything else has the labels of the
//	   context that the loop was made with.
//	label 2: Labels belong to a goroutine and cannot be read back. So they are set when a task or
//	   callback begins, and set to the loop's when it has ended: a stack with nothing on it has the
//	   labels of the loop. New stacks have these too, from the hub.
//	label 3: All of that is done in labelledMode only, which begins when there may be labels.
//	   Package pprof looks for a context's labels before it adds to them or sets them, and that look
//	   comes to loopContext.Value. It may come from any goroutine. Labels made with a context from
//	   elsewhere do not come by there; for them SetTaskLabels begins the mode as well.
//	label 4: In labelledMode no task is called on top of another (stack 5), because nothing could
//	   give the lower task its labels back. A task that was on top when the mode began is on top of
//	   one that had the loop's labels.

// SetTaskLabels gives each task that is made from now on two labels, so that profiles of package
// [runtime/pprof] tell tasks apart: "task" is the name that it is made with, and "coroutine" the
// function that it runs.
//
//	go tool pprof -tagfocus task=fetch cpu.prof
//	go tool pprof -tagroot coroutine -http :8080 cpu.prof
//
// The labels are in the task's context, so they stay when [pprof.Do] adds to them, and go along to
// [ToThread]. Creating and awaiting a task that returns at once takes about five times as long.
// The loop's work between two steps counts for the task that was suspended last.
//
// Labels are a task's own even without SetTaskLabels. A task begins with the labels of its context,
// and labels that it sets are gone when it has ended. A callback has the labels of the context of
// the task that scheduled it. The loop does nothing for that until a context of the loop is asked
// for labels. So a program that calls [pprof.SetGoroutineLabels] with contexts that do not descend
// from the loop's has to call SetTaskLabels first. From then on the loop sees to all labels, even
// if SetTaskLabels is switched off again.
//
// Any goroutine may call it. It does not suspend. Python has no equivalent.
func (l *EventLoop) SetTaskLabels(enabled bool) {
	if enabled {
		l.setMode(labelledMode, true)
	}
	l.setMode(namedMode, enabled)
}

// labelKey is the key by which package pprof looks for labels in a context, nil if it looks some
// other way. If it is nil, the loop cannot see when there may be labels (label 3), and the mode is
// always on.
var labelKey = func() any {
	var p keyProbe
	pprof.Label(&p, "")
	return p.key
}()

type keyProbe struct {
	context.Context
	key any
}

func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}

// initLabels takes the labels of the context that l is made with.
func (l *EventLoop) initLabels(ctx context.Context) {
	var pairs []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		pairs = append(pairs, key, value)
		return true
	})
	l.labels = context.Background()
	if len(pairs) > 0 { // a context of one layer, which does not panic
		l.labels = pprof.WithLabels(l.labels, pprof.Labels(pairs...))
	}
	l.setMode(labelledMode, labelKey == nil) // every stack has these already
}

// labelled reports whether there may be labels (label 3).
func (l *EventLoop) labelled() bool { return l.modes.Load()&labelledMode != 0 }

// unlabel gives a stack the loop's labels when something on it has ended (label 2).
func (l *EventLoop) unlabel() {
	if l.labelled() {
		pprof.SetGoroutineLabels(l.labels)
	}
}

// labelCallback sets the labels of a callback, given its handle (label 1).
func (l *EventLoop) labelCallback(handle any) {
	if ctx := callbackContext(handle); ctx != nil {
		setLabels(ctx)
	}
}

// setLabels gives the calling goroutine the labels of ctx, or none if ctx panics.
func setLabels(ctx context.Context) {
	if failed := trySetLabels(ctx); failed != nil {
		pprof.SetGoroutineLabels(context.Background())
	}
}

func trySetLabels(ctx context.Context) (failed *PanicError) {
	defer catch(&failed)
	pprof.SetGoroutineLabels(ctx)
	return nil
}

// nameLabel puts labels with the names of t and its coroutine into t's context, if they are asked
// for.
func (t *task) nameLabel(modes uint32) {
	if modes&namedMode != 0 {
		t.ctx = pprof.WithLabels(t.ctx, pprof.Labels("task", t.GetName(), "coroutine", coroutineName(t.self.code())))
	}
}

// Tasks in execution traces (package runtime/trace).
//
//	trace 1: A task of the loop is a task of the trace, from when it is made until it ends, with its
//	   name as a log entry. The task of the trace is in the context that the coroutine is given, so
//	   what the coroutine makes with that context belongs to it, also on other goroutines and loops.
//	trace 2: The regions of a goroutine nest, or the whole trace cannot be read. A coroutine may
//	   suspend inside a region of its own. So there is no region for each step: there is one for the
//	   coroutine, from its first step to its end, on the stack that it runs on. What runs on top of
//	   a suspended task ends before the task goes on (stack 5), so these regions nest too. When the
//	   coroutine has control is what the trace tells of the stack's goroutine.
//	trace 3: A task is in traces if tracingMode was on when it was made, until it ends.
//	   tracedMode begins with the first such task and stays.

// SetTaskTrace makes each task that is made from now on a task of the execution trace (package
// [runtime/trace]), of the type of its coroutine, such as main.fetch, and with its name as a log
// entry "task". Its coroutine is a region of the same type. The tasks, regions and log entries that
// it makes with its ctx are below it, those of functions in threads too:
//
//	curl -o trace http://localhost:6060/debug/pprof/trace?seconds=5
//	go tool trace trace
//
// A region that is begun in a coroutine must be ended there, as package trace demands of
// goroutines, or the trace cannot be read: coroutines share goroutines. While no trace is being
// made, creating and awaiting a task that returns at once takes two and a half times as long.
//
// Any goroutine may call it. It does not suspend. Python has no equivalent.
func (l *EventLoop) SetTaskTrace(enabled bool) {
	if enabled {
		l.setMode(tracedMode, true)
	}
	l.setMode(tracingMode, enabled)
}

// A tracedContext leads to the trace's task of the task whose context it is.
type tracedContext struct {
	context.Context
	task *exectrace.Task
	of   *task // whose it is; others can have been given it too
}

// beginTrace puts a task of the trace into t's context (trace 1).
func (t *task) beginTrace(modes uint32) {
	if modes&tracingMode == 0 {
		return
	}
	ctx, task := exectrace.NewTask(t.ctx, coroutineName(t.self.code()))
	t.ctx = &tracedContext{ctx, task, t}
	if exectrace.IsEnabled() {
		exectrace.Log(ctx, "task", t.GetName())
	}
}

// inTrace returns the trace's task of t, nil if it has none. The context may be that of the task
// that made t.
func (t *task) inTrace() *exectrace.Task {
	if c, ok := t.ctx.(*tracedContext); ok && c.of == t {
		return c.task
	}
	return nil
}

// endTrace ends the trace's task of t.
func (t *task) endTrace(modes uint32) {
	if modes&tracedMode == 0 {
		return
	}
	if task := t.inTrace(); task != nil {
		task.End()
	}
}

// callShown is the rest of call for a task that profiles or traces may show. Its region ends with
// the coroutine (trace 2).
func (t *task) callShown() (error, outcome) {
	if t.loop().labelled() {
		setLabels(t.ctx)
	}
	err := t.runTraced()
	return err, t.classify(err)
}

func (t *task) runTraced() error {
	if t.inTrace() != nil {
		defer exectrace.StartRegion(t.ctx, coroutineName(t.self.code())).End()
	}
	return t.self.run(t.ctx)
}
