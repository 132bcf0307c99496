package asyncio

import (
	"context"
	"runtime/pprof"
)

// Labels of profiles (package runtime/pprof).
//
//	label 1: A task begins with the labels of its context, and keeps what it sets itself until it
//	   ends. A callback has the labels of the context of the task that scheduled it, a thread
//	   function those of its caller's. All else has those of the context that the loop was made
//	   with.
//	label 2: Labels belong to a goroutine and cannot be read back. So they are set when a task or
//	   callback begins, and set to the loop's when it has ended: a stack with nothing on it has the
//	   labels of the loop. That goes for new stacks too, which have them from the hub.
//	label 3: All that is done in labelledMode only, which begins when there may be labels. Package
//	   pprof looks for a context's labels before it adds to them or sets them, and that look comes
//	   to loopContext.Value. It may come from any goroutine. Labels made of a context from elsewhere
//	   do not pass there; for them SetTaskLabels begins the mode as well.
//	label 4: In labelledMode no task is called on top of another (stack 5): nothing could give the
//	   lower one its labels back. A task that was on top when the mode began is on top of one that
//	   had the loop's.

// SetTaskLabels gives each task that is made from now on a label with the key "task" and the name
// it is made with, so that profiles of package [runtime/pprof] tell tasks apart:
//
//	go tool pprof -tagfocus task=fetch cpu.prof
//
// The label is in the task's context, so it stays when [pprof.Do] adds to it, and goes along to
// [ToThread]. To create and await a task that returns at once takes three to four times as long.
// What the loop does between two steps counts for the task that was suspended last.
//
// Without it, too, labels are a task's own. A task begins with those of its context, and whatever
// it sets is gone when it has ended; a callback has the labels of the context of the task that
// scheduled it. As long as no context of the loop has been asked for labels, the loop does nothing
// for that. So a program that calls [pprof.SetGoroutineLabels] with contexts that descend from none
// of the loop's has to call SetTaskLabels first; from then on the loop sees to all labels, also if
// it is switched off again.
//
// Any goroutine may call it. It does not suspend. Python has nothing like it.
func (l *EventLoop) SetTaskLabels(enabled bool) {
	if enabled {
		l.setMode(labelledMode, true)
	}
	l.setMode(namedMode, enabled)
}

// TaskLabels switches the labels of tasks for the loop of a [Run]; see [EventLoop.SetTaskLabels].
func TaskLabels(enabled bool) RunOption { return RunOption{labels: onOff(enabled)} }

// labelKey is the key by which package pprof looks for labels in a context, nil if it looks some
// other way: then label 3 cannot see when there may be labels, and the mode is always on.
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

// initLabels looks at the context that l is made with.
func (l *EventLoop) initLabels(ctx context.Context) {
	var pairs []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		pairs = append(pairs, key, value)
		return true
	})
	l.labels = context.Background()
	if len(pairs) > 0 { // a context of one layer, that does not panic
		l.labels = pprof.WithLabels(l.labels, pprof.Labels(pairs...))
	}
	l.setMode(labelledMode, labelKey == nil) // every stack has these already
}

// labelled reports whether there may be labels (label 3).
func (l *EventLoop) labelled() bool { return l.modes.Load()&labelledMode != 0 }

// unlabel is for a stack on which something has ended (label 2).
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

// nameLabel puts the label with t's name into its context, if that is asked for.
func (t *task) nameLabel(modes uint32) {
	if modes&namedMode != 0 {
		t.ctx = pprof.WithLabels(t.ctx, pprof.Labels("task", t.GetName()))
	}
}
