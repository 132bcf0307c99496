package asyncio

import (
	"fmt"
	"strings"
)

// Python's repr shapes, with Go's function names and places.

// String returns Python's repr: <Future finished result=3>.
func (f *Future[T]) String() string { return f.repr(f.value) }

// repr describes a future or task; value is its result if it has one.
func (f *future) repr(value any) string {
	if f.loop != nil && f.loop.checkForeign("String") != nil { // others see the name only
		if t, ok := f.super.(*task); ok {
			return fmt.Sprintf("<Task name=%s>", reprString(t.GetName()))
		}
		return "<Future>"
	}
	if f.shown { // the result leads back to the future
		return "..."
	}
	f.shown = true
	defer func() { f.shown = false }()
	var b strings.Builder
	t, isTask := f.super.(*task)
	if !isTask {
		fmt.Fprintf(&b, "<Future %v", f.state)
	} else {
		state, doing := f.state.String(), "running"
		switch {
		case f.state != pending:
			doing = "done"
		case t.cancels > 0:
			state = "cancelling"
		}
		fmt.Fprintf(&b, "<Task %s name=%s coro=<%s>", state, reprString(t.GetName()), coroutineSite(t.self.code(), doing))
		// A task waits until it has resumed, even if what it waits for is done.
		if t.waiter != nil {
			fmt.Fprintf(&b, " wait_for=%s", t.waiter.brief())
		} else if t.on != nil {
			fmt.Fprintf(&b, " wait_for=%s", t.on)
		}
	}
	if f.state == finished {
		if f.err != nil {
			fmt.Fprintf(&b, " exception=%s", reprError(f.err))
		} else {
			fmt.Fprintf(&b, " result=%s", reprValue(value))
		}
	}
	b.WriteString(f.reprCallbacks())
	b.WriteString(">")
	return b.String()
}

// brief describes a future inside the description of the task that waits for it. It does not say
// what that future waits for in turn: tasks can wait for each other in a circle.
func (f *future) brief() string {
	if t, ok := f.super.(*task); ok {
		return fmt.Sprintf("<Task %v name=%s>", f.state, reprString(t.GetName()))
	}
	if f.state == finished && f.err != nil {
		return fmt.Sprintf("<Future %v exception=%s>", f.state, reprError(f.err))
	}
	return fmt.Sprintf("<Future %v%s>", f.state, f.reprCallbacks())
}

func (f *future) reprCallbacks() string {
	var all []string
	for cb := range f.callbacks {
		switch c := cb.(type) {
		case *task:
			all = append(all, "Task.task_wakeup()")
		case *DoneCallback:
			all = append(all, callSite(funcPC(c.src)))
		case fmt.Stringer:
			all = append(all, c.String())
		default:
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T()", c), "*asyncio."))
		}
	}
	if len(all) > 2 {
		all = []string{all[0], fmt.Sprintf("<%d more>", len(all)-2), all[len(all)-1]}
	}
	if len(all) == 0 {
		return ""
	}
	return " cb=[" + strings.Join(all, ", ") + "]"
}

func reprValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case string:
		return reprString(shorten(v))
	case error:
		return reprError(v)
	case AnyFuture:
		return v.String()
	}
	return shorten(fmt.Sprintf("%v", v))
}
