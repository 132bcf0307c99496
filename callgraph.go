package asyncio

import (
	"context"
	"fmt"
	"io"
	"math"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Who waits for whom, and where.
//
//	V1 Nothing is kept for it while programs run. Who waits for a future is who is called back when
//	   it is done: its done callbacks lead to the tasks (awaiter).
//	V2 Only a goroutine can walk its own stack. So each stack is given control with the order to note its
//	   callers and to give control back (K10).
//	V3 Tasks share a stack (K2, K5). The function call is at the bottom of each, so it
//	   tells where one ends and the next begins, from the top down.

// A FutureCallGraph is a task or future, where it is, and who waits for it. Python: asyncio.FutureCallGraph.
type FutureCallGraph struct {
	Future    AnyFuture
	CallStack []runtime.Frame    // of a task that is suspended or runs, innermost first; nil for others
	AwaitedBy []*FutureCallGraph // the tasks that wait for it, each the same wherever it occurs
}

// CaptureCallGraph returns the call graph of f, of the current task if f is nil: the calls that the task is in, the
// tasks that wait for it, directly or in Gather, Wait, AsCompleted, Shield or a task group, the calls
// that those are in, and so on. It returns nil if f is nil and there is no current task.
//
// It is for the loop only and does not suspend. It costs two switches for each task in the
// graph, and nothing before it is called. It panics with [ErrNoRunningLoop] if ctx leads to no loop,
// and with [ErrDifferentLoop] if f belongs to another. Python: asyncio.capture_call_graph.
func CaptureCallGraph(ctx context.Context, f AnyFuture) *FutureCallGraph {
	l := mustLoop(ctx, "CaptureCallGraph")
	if f == nil || isNil(f) {
		if l.current == nil {
			return nil
		}
		f = l.current.self
	}
	if err := l.checkFuture(f, "CaptureCallGraph"); err != nil {
		panic(err)
	}
	var order []*FutureCallGraph
	nodes := map[*future]*FutureCallGraph{}
	var visit func(f AnyFuture) *FutureCallGraph
	visit = func(f AnyFuture) *FutureCallGraph {
		core := f.core()
		if n := nodes[core]; n != nil {
			return n
		}
		n := &FutureCallGraph{Future: f}
		nodes[core] = n
		order = append(order, n)
		for _, t := range core.awaitedBy() {
			n.AwaitedBy = append(n.AwaitedBy, visit(t.self))
		}
		return n
	}
	root := visit(f)

	var tasks []*task
	for _, n := range order {
		if t, ok := n.Future.core().super.(*task); ok {
			tasks = append(tasks, t)
		}
	}
	frames := l.callStacks(tasks)
	for _, n := range order {
		if t, ok := n.Future.core().super.(*task); ok {
			n.CallStack = frames[t]
		}
	}
	return root
}

// FormatCallGraph is [CaptureCallGraph] as text. A task that occurs more than once is described where
// it comes first. Python: asyncio.format_call_graph.
func FormatCallGraph(ctx context.Context, f AnyFuture) string {
	g := CaptureCallGraph(ctx, f)
	if g == nil {
		return ""
	}
	var b strings.Builder
	g.format(&b, "", map[*FutureCallGraph]bool{})
	return b.String()
}

// PrintCallGraph writes what [FormatCallGraph] returns to w, and returns w's error. It is for the loop only
// and does not suspend. Python: asyncio.print_call_graph.
func PrintCallGraph(ctx context.Context, f AnyFuture, w io.Writer) error {
	_, err := io.WriteString(w, FormatCallGraph(ctx, f))
	return err
}

// maxIndent is where a chain of tasks is not indented further: the text would grow with the square of its length.
const maxIndent = 160

func (g *FutureCallGraph) format(b *strings.Builder, indent string, shown map[*FutureCallGraph]bool) {
	b.WriteString(indent + "* ")
	if t, ok := g.Future.(AnyTask); ok {
		name, _ := function(t.taskCore().self.code())
		fmt.Fprintf(b, "Task %s, %s()", reprString(t.GetName()), name)
	} else {
		fmt.Fprintf(b, "Future, %v", g.Future.core().state)
	}
	if shown[g] {
		b.WriteString(", as above\n")
		return
	}
	shown[g] = true
	b.WriteString("\n")
	if len(g.CallStack) > 0 {
		b.WriteString(indent + "  + Call stack:\n")
		b.WriteString(formatFrames(g.CallStack, indent+"  |   ", "\n"))
		b.WriteString("\n")
	}
	if len(g.AwaitedBy) > 0 {
		b.WriteString(indent + "  + Awaited by:\n")
		if len(indent) < maxIndent {
			indent += "    "
		}
		for _, n := range g.AwaitedBy {
			n.format(b, indent, shown)
		}
	}
}

// GetStack returns the calls the task is in, innermost first: the function of this library that it
// waits in, if it does, and its own down to its coroutine. Of the task that runs they end where it asks. It is empty if the task has not
// started or is done. It is for the loop only and does not suspend. Python: Task.get_stack.
func (t *task) GetStack() []runtime.Frame {
	if t.fut == nil {
		panic(zeroFuture("GetStack"))
	}
	t.loop().mustNotBeForeign("GetStack")
	return t.loop().callStacks([]*task{t})[t]
}

// PrintStack writes the calls of [Task.GetStack] to w, one a line. Python: Task.print_stack.
func (t *task) PrintStack(w io.Writer) error {
	stack := t.GetStack()
	_, err := fmt.Fprintf(w, "Task %s, %s\n%s\n", reprString(t.GetName()), t.fut.state, formatFrames(stack, "  ", "\n"))
	return err
}

// awaiter is a done callback on behalf of tasks that wait (V1).
type awaiter interface{ awaiters() []*task }

func (t *task) awaiters() []*task          { return []*task{t} }
func (w *waiting) awaiters() []*task       { return []*task{w.t} }
func (g *gathering) awaiters() []*task     { return g.outer.awaitedBy() }
func (s *selecting) awaiters() []*task     { return []*task{s.t} }
func (s *shield[T]) awaiters() []*task     { return s.outer.awaitedBy() }
func (c *groupChild) awaiters() []*task    { return []*task{c.g.parent} }
func (i *completing[F]) awaiters() []*task { return i.c.waiters.tasks() }
func (c *racer[T]) awaiters() []*task {
	if c.r.over == nil {
		return nil
	}
	return c.r.over.awaitedBy()
}

// awaitedBy returns the tasks that wait for f, each once. As in Python the parent of a task group waits for its children all the time.
func (f *future) awaitedBy() []*task { return f.awaitedIf(func(awaiter) bool { return true }) }

// blocks returns those that cannot go on before f is done. Not among them is a parent that is still in the body of its group.
func (f *future) blocks() []*task {
	return f.awaitedIf(func(a awaiter) bool {
		c, ok := a.(*groupChild)
		return !ok || c.g.waiting
	})
}

func (f *future) awaitedIf(counts func(awaiter) bool) []*task {
	var all []*task
	seen := map[*task]bool{}
	for cb := range f.callbacks {
		if a, ok := cb.(awaiter); ok && counts(a) {
			for _, t := range a.awaiters() {
				if !seen[t] {
					seen[t] = true
					all = append(all, t)
				}
			}
		}
	}
	return all
}

// callbacks is a sequence of f's done callbacks.
func (f *future) callbacks(yield func(callback) bool) {
	if f.first != nil && !yield(f.first) || f.more == nil {
		return
	}
	for _, cb := range f.more.all {
		if cb != nil && !yield(cb) {
			return
		}
	}
}

// A holder is something that tasks wait for while one task has it.
type holder interface{ heldBy() *task }

func (l *Lock) heldBy() *task { return l.owner }

// callStacks returns the frames of the given tasks, of those that have any.
func (l *EventLoop) callStacks(tasks []*task) map[*task][]runtime.Frame {
	if l.closing.Load() {
		return nil // the tasks are being unwound, each on a goroutine of its own
	}
	asked := map[*stack][]*task{} // with what is on each
	wanted := map[*task]bool{}
	for _, t := range tasks {
		wanted[t] = true
		if t.stack != nil {
			asked[t.stack] = nil
		}
	}
	if len(asked) == 0 {
		return nil
	}
	if me := l.stackInControl(); l.running.Load() && me != nil {
		l.stacks.noteStacks(me, tasks)
	} else {
		done := make(chan struct{})
		go func() { // the caller's may be locked to a thread
			defer close(done)
			l.stacks.noteStacks(&stack{pool: &l.stacks}, tasks)
		}()
		<-done
	}
	for t := range l.tasks.all {
		if _, ok := asked[t.stack]; ok {
			asked[t.stack] = append(asked[t.stack], t)
		}
	}
	frames := map[*task][]runtime.Frame{}
	for s, on := range asked { // each on its own: the order does not matter
		rest := s.notes.frames
		var top *task                  // that no other is on top of
		beneath := map[*future]*task{} // whom the task with this future is on top of
		for _, t := range on {
			if t.covered {
				beneath[t.waiter] = t
			} else {
				top = t
			}
		}
		for t := top; t != nil; t = beneath[t.fut] {
			var part []uintptr
			part, rest = cutAtCall(rest)
			if wanted[t] {
				frames[t] = userFrames(part)
				if f := frames[t]; t == l.current && len(f) > 1 && ours(f[0]) {
					frames[t] = f[1:] // it does not wait, but asks
				}
			}
		}
		s.notes.frames = nil
	}
	return frames
}

// noteStacks has the stacks of tasks note what is on them (V2). It is called on the stack in control.
func (p *stackPool) noteStacks(me *stack, tasks []*task) {
	for _, t := range tasks {
		if s := t.stack; s == me {
			s.note().frames = callers(0)
		} else if s != nil && s.note().frames == nil {
			p.order = order{noteIt, me}
			me.give(s)
		}
	}
}

const callName = libraryPrefix + "(*task).call"

// cutAtCall is V3: it splits off the frames of the topmost task.
func cutAtCall(pcs []uintptr) (top, rest []uintptr) {
	for i, pc := range pcs {
		if fn := runtime.FuncForPC(pc - 1); fn != nil && fn.Name() == callName {
			return pcs[:i], pcs[i+1:]
		}
	}
	return pcs, nil
}

const libraryPrefix = "github.com/goasyncio/asyncio."

// ours reports whether f belongs to the machinery below a task.
func ours(f runtime.Frame) bool {
	for _, p := range []string{libraryPrefix, "github.com/goasyncio/asyncio/internal/", "iter.", "runtime."} {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return ofLibrary(f)
}

// ofLibrary reports whether f is a function of this package. A function literal that was inlined into the program, as an iterator's
// is, has the name of where it went until Go 1.26; its file says where it is from.
func ofLibrary(f runtime.Frame) bool {
	return strings.HasPrefix(f.Function, libraryPrefix) ||
		path.Dir(f.File) == libraryDir() && !strings.HasSuffix(f.File, "_test.go")
}

// libraryDir is the directory of this package, as frames have it.
var libraryDir = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return path.Dir(file)
})

// calledIn returns, of frames of the library that the program called, innermost first, the one that tells a reader most: the outermost
// function that is exported. The literal of an iterator is passed over for the exported function that it calls; if it calls none, the
// function that made the iterator is named, which is what stands in the program's range loop.
func calledIn(frames []runtime.Frame) (called runtime.Frame, ok bool) {
	for _, f := range slices.Backward(frames) {
		if !ofLibrary(f) {
			continue
		}
		name, literal := enclosing(f.Function)
		if !literal && unicode.IsUpper(rune(name[strings.LastIndexByte(name, '.')+1])) {
			return f, true
		}
		if !ok {
			called, ok = f, true
			if literal {
				called.Function = libraryPrefix + name
			}
		}
	}
	return called, ok
}

// enclosing returns the name of the declared function that a function is or is a literal of, without the package: "(*T).Method" or "Function".
func enclosing(function string) (name string, literal bool) {
	const generic = "[...]"
	parts := strings.Split(strings.ReplaceAll(function, generic, "[]"), ".")
	for len(parts) > 1 && isLiteral(parts[len(parts)-1]) {
		parts, literal = parts[:len(parts)-1], true
	}
	n := len(parts)
	name = parts[n-1]
	if n > 1 && strings.HasSuffix(parts[n-2], ")") {
		name = parts[n-2][strings.LastIndexByte(parts[n-2], '('):] + "." + name
	}
	return strings.ReplaceAll(name, "[]", generic), literal
}

// userFrames leaves the library's own frames out: on top all but the one that calledIn picks, at the bottom all.
func userFrames(pcs []uintptr) []runtime.Frame {
	var all []runtime.Frame
	for next := runtime.CallersFrames(pcs); len(pcs) > 0; {
		f, more := next.Next()
		all = append(all, f)
		if !more {
			break
		}
	}
	if i := slices.IndexFunc(all, func(f runtime.Frame) bool { return strings.HasSuffix(f.Function, runSuffix) }); i >= 0 {
		all = all[:i]
	}
	last := len(all)
	for last > 0 && ours(all[last-1]) {
		last--
	}
	if last == 0 { // the coroutine is a function of the library
		return all[max(len(all)-1, 0):]
	}
	first := slices.IndexFunc(all, func(f runtime.Frame) bool { return !ours(f) })
	if called, ok := calledIn(all[:first]); ok {
		first--
		all[first] = called
	}
	return all[first:last]
}

// runSuffix is how the name of the function ends that calls the coroutine.
const runSuffix = "asyncio.(*Task[...]).run"

// firstOutside is the innermost place that is not the library's: "main.fetch() at fetch.go:12".
func firstOutside(pcs []uintptr) string {
	for _, f := range userFrames(pcs) {
		if !ours(f) {
			return formatFrame(f)
		}
	}
	return ""
}

func formatFrame(f runtime.Frame) string {
	return fmt.Sprintf("%s() at %s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.File, f.Line)
}

func formatFrames(frames []runtime.Frame, indent, separator string) string {
	lines := make([]string, len(frames))
	for i, f := range frames {
		lines[i] = indent + formatFrame(f)
	}
	return strings.Join(lines, separator)
}

// FormatTasks describes every task of the loop that ctx leads to and that is not done, each once, in the order they were
// created: its name and function, what it waits for and which tasks that is up to, and the calls it is in,
// innermost first. If tasks wait for each other in a circle, that is said last. To look at a program that
// hangs, have the loop do it, from a signal handler or a debug page:
//
//	loop.CallSoonThreadsafe(func() { asyncio.PrintTasks(loop.Context(), os.Stderr) })
//
// It is for the loop only and does not suspend. It costs two switches for each task, and nothing before it is called. It
// panics with [ErrNoRunningLoop] if ctx leads to no loop. Python 3.14: asyncio pstree, from outside.
func FormatTasks(ctx context.Context) string {
	l := mustLoop(ctx, "FormatTasks")
	return l.describeTasks(l.allTasks(), math.MaxInt, math.MaxInt, "")
}

// PrintTasks writes what [FormatTasks] returns to w, and returns w's error. It is for the loop only
// and does not suspend.
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

// deadlock says who waits while nothing can happen, for what, and where.
func (l *EventLoop) deadlock() error {
	all := l.allTasks()
	text := strings.TrimSuffix(l.describeTasks(all, 20, 8, "\t"), "\n")
	return fmt.Errorf("%w: %w; tasks that wait: %d\n%s", ErrDeadlock, driver.ErrStalled, len(all), text)
}

// describeTasks says of all tasks, or as many as are shown, what they do, and of each as many calls.
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
	frames := l.callStacks(shown)
	var b strings.Builder
	for _, t := range shown {
		name, _ := function(t.self.code())
		fmt.Fprintf(&b, "%stask %s, %s(), %s", indent, reprString(t.GetName()), name, t.doing())
		for i, u := range waitsFor[t] {
			if u.fut == t.waiter {
				break // it has been named
			}
			if i == 3 && len(waitsFor[t]) > 4 {
				fmt.Fprintf(&b, " and %d more", len(waitsFor[t])-i)
				break
			}
			fmt.Fprintf(&b, "%s task %s", [...]string{", that is for", " and"}[min(i, 1)], reprString(u.GetName()))
		}
		b.WriteString("\n")
		if f := frames[t]; len(f) > 0 {
			b.WriteString(formatFrames(f[:min(len(f), calls)], indent+"\t", "\n") + "\n")
		}
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

// doing says what a task that is not done does.
func (t *task) doing() string {
	switch {
	case t == t.loop().current:
		return "runs"
	case t.stack == nil && t.parked:
		return "waits for its turn in a TaskGroup"
	case t.stack == nil:
		return "has not started"
	case t.parked && t.on != nil, t.waiter != nil && t.waiter.state == pending:
		return "waits for " + t.waitingFor()
	}
	return "can go on" // it is in the ready queue, or has started an eager task that runs
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

// findCircle returns tasks that wait each for the next and the last for the first, nil if there
// are none.
func findCircle(tasks []*task, waitsFor map[*task][]*task) []*task {
	next := map[*task]int{}  // of those seen, how many of whom they wait for have been followed
	place := map[*task]int{} // on the path
	for _, t := range tasks {
		if _, seen := next[t]; seen {
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
			if _, seen := next[u]; !seen {
				place[u] = len(path)
				path = append(path, u)
			}
		}
	}
	return nil
}
