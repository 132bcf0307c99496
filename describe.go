package asyncio

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"

	"github.com/goasyncio/asyncio/internal/driver"
)

// FormatTasks describes the tasks of the loop that ctx leads to, except those that are done, each
// once, in the order they were created. It gives a task's name and function, the thing it waits
// for, the tasks that this thing depends on, and the calls it is in, innermost first. If tasks wait
// for each other in a circle, the end of the text says so. To look at a program that hangs, have
// the loop do it, from a signal handler or a debug page:
//
//	loop.CallSoonThreadsafe(func() { asyncio.PrintTasks(loop.Context(), os.Stderr) })
//
// It is for the loop only and does not suspend: the whole description is made in one step, in
// memory, and the loop does nothing else meanwhile. That takes about two microseconds and a few
// hundred bytes for each task, so a fifth of a second for a hundred thousand tasks. It costs
// nothing before it is called. It panics with [ErrNoRunningLoop] if ctx leads to no loop. Python
// 3.14: asyncio pstree, from outside.
func FormatTasks(ctx context.Context) string {
	l := mustLoop(ctx, "FormatTasks")
	return l.describeTasks(l.allTasks(), math.MaxInt, math.MaxInt, "")
}

// PrintTasks writes what [FormatTasks] returns to w, and returns w's error. It is for the loop only
// and does not suspend: all of it, including the writing, is one step of the loop. To write to a
// file or a connection without stopping the loop for that long, give the text of FormatTasks to a
// goroutine.
func PrintTasks(ctx context.Context, w io.Writer) error {
	l := mustLoop(ctx, "PrintTasks")
	_, err := io.WriteString(w, l.describeTasks(l.allTasks(), math.MaxInt, math.MaxInt, ""))
	return err
}

func (l *EventLoop) allTasks() []*task {
	var all []*task
	for t := range l.tasks.all {
		all = append(all, t)
	}
	return all
}

// deadlock returns the error that says which tasks wait while nothing can happen, for what, and
// where.
func (l *EventLoop) deadlock() error {
	all := l.allTasks()
	text := strings.TrimSuffix(l.describeTasks(all, 20, 8, "\t"), "\n")
	return fmt.Errorf("%w: %w; tasks that wait: %d\n%s", ErrDeadlock, driver.ErrStalled, len(all), text)
}

// describeTasks describes all, but no more than most tasks, and no more than calls calls of each.
func (l *EventLoop) describeTasks(all []*task, most, calls int, indent string) string {
	waitsFor := map[*task][]*task{}
	for _, u := range all {
		for _, t := range u.fut.blocks() {
			waitsFor[t] = append(waitsFor[t], u)
		}
	}
	for _, t := range all {
		if h, ok := t.on.(holder); ok && t.parked && h.heldBy() != nil {
			waitsFor[t] = append(waitsFor[t], h.heldBy())
		}
	}
	shown := all[:min(len(all), most)]
	d := describer{most: calls, indent: indent, names: map[uintptr]string{}, texts: map[string]string{}}
	stacks := make(map[*task]string, len(shown))
	l.lookAt(shown, func(t *task, pcs []uintptr) { stacks[t] = d.callsOf(t, pcs) })
	size := 0
	for _, t := range shown {
		size += len(stacks[t]) + len(indent) + 96
	}
	var b strings.Builder
	b.Grow(size)
	for _, t := range shown {
		b.WriteString(indent)
		b.WriteString("task ")
		b.WriteString(reprString(t.GetName()))
		b.WriteString(", ")
		b.WriteString(d.nameOf(t))
		b.WriteString("(), ")
		b.WriteString(d.doing(t))
		for i, u := range waitsFor[t] {
			if u.fut == t.waiter {
				break // that task has been named
			}
			if i == 3 && len(waitsFor[t]) > 4 {
				fmt.Fprintf(&b, " and %d more", len(waitsFor[t])-i)
				break
			}
			fmt.Fprintf(&b, "%s task %s", [...]string{", that is for", " and"}[min(i, 1)], reprString(u.GetName()))
		}
		b.WriteString("\n")
		b.WriteString(stacks[t])
	}
	if n := len(all) - len(shown); n > 0 {
		fmt.Fprintf(&b, "%sand %d more\n", indent, n)
	}
	if circle := findCircle(all, waitsFor); circle != nil {
		names := make([]string, len(circle))
		for i, t := range circle {
			names[i] = reprString(t.GetName())
		}
		fmt.Fprintf(&b, "%sin a circle: %s -> %s\n", indent, strings.Join(names, " -> "), names[0])
	}
	return b.String()
}

// A describer remembers the texts it has made. Where there are many tasks, most of them run few
// functions, and wait in few places and for few things.
type describer struct {
	most   int // how many calls to show of each task
	indent string
	names  map[uintptr]string // of coroutine functions
	texts  map[string]string  // of calls, by their program counters
	key    []byte

	on   fmt.Stringer // the thing that the last task was parked for
	says string       // the text for it
}

func (d *describer) nameOf(t *task) string {
	pc := t.self.code()
	name, ok := d.names[pc]
	if !ok {
		name, _ = function(pc)
		d.names[pc] = name
	}
	return name
}

// callsOf returns the text of the calls that t is in.
func (d *describer) callsOf(t *task, pcs []uintptr) string {
	if t == t.loop().current { // a task suspended in the same calls is shown differently
		return d.callsText(t.userFrames(pcs))
	}
	d.key = d.key[:0]
	for _, pc := range pcs {
		d.key = binary.NativeEndian.AppendUint64(d.key, uint64(pc))
	}
	text, ok := d.texts[string(d.key)]
	if !ok {
		text = d.callsText(userFrames(pcs))
		d.texts[string(d.key)] = text
	}
	return text
}

func (d *describer) callsText(f []runtime.Frame) string {
	if len(f) == 0 {
		return ""
	}
	return formatFrames(f[:min(len(f), d.most)], d.indent+"\t", "\n") + "\n"
}

// doing is [task.doing], but makes the text only once if many tasks are parked for the same thing.
func (d *describer) doing(t *task) string {
	if !t.parked || t.on == nil || t.stack == nil || t == t.loop().current {
		return t.doing()
	}
	if t.on != d.on {
		d.on, d.says = t.on, t.doing()
	}
	return d.says
}

// An activity is what a task that is not done is doing.
type activity uint8

const (
	activityRuns activity = iota
	activityWaitsForTurn
	activityNotStarted
	activityWaits
	activityCanGoOn // it is in the ready queue, or has started an eager task that runs
)

func (t *task) activity() activity {
	switch {
	case t == t.loop().current:
		return activityRuns
	case t.stack == nil && t.parked:
		return activityWaitsForTurn
	case t.stack == nil:
		return activityNotStarted
	case t.parked && t.on != nil, t.waiter != nil && t.waiter.state == pending:
		return activityWaits
	}
	return activityCanGoOn
}

// doing says what t, which is not done, is doing.
func (t *task) doing() string {
	switch t.activity() {
	case activityRuns:
		return "runs"
	case activityWaitsForTurn:
		return "waits for its turn in a TaskGroup"
	case activityNotStarted:
		return "has not started"
	case activityWaits:
		return "waits for " + t.waitingFor()
	}
	return "can go on"
}

// waitsOn returns the thing that a task waits for whose activity is activityWaits. It is nil for a
// future that is nothing else.
func (t *task) waitsOn() any {
	if t.parked && t.on != nil {
		return t.on
	}
	return t.waiter.super
}

// waitingFor describes what a suspended task waits for.
func (t *task) waitingFor() string {
	if t.parked && t.on != nil {
		return t.on.String()
	}
	if t.waiter != nil {
		switch s := t.waiter.super.(type) {
		case *task:
			return "task " + reprString(s.GetName())
		case fmt.Stringer:
			return s.String()
		}
	}
	return "a future"
}

// findCircle returns tasks of which each waits for the next, and the last for the first. It returns
// nil if there are none.
func findCircle(tasks []*task, waitsFor map[*task][]*task) []*task {
	next := map[*task]int{}  // for each visited task, how many of its edges have been followed
	place := map[*task]int{} // the index of each task on the path
	for _, t := range tasks {
		if _, seen := next[t]; seen || len(waitsFor[t]) == 0 {
			continue
		}
		path := []*task{t}
		place[t] = 0
		for len(path) > 0 {
			t := path[len(path)-1]
			i := next[t]
			next[t]++
			if i >= len(waitsFor[t]) {
				path = path[:len(path)-1]
				delete(place, t)
				continue
			}
			u := waitsFor[t][i]
			if i, ok := place[u]; ok {
				return path[i:]
			}
			if _, seen := next[u]; !seen && len(waitsFor[u]) > 0 {
				place[u] = len(path)
				path = append(path, u)
			}
		}
	}
	return nil
}
