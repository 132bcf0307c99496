package asyncio

import (
	"context"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Which tasks wait for which, and where.
//
//	callgraph 1: Nothing is kept for the graph while programs run. A future calls back those that
//	   wait for it when it is done, so its done callbacks lead to the waiting tasks (awaiter).
//	callgraph 2: Only a goroutine can walk its own stack. So each stack is given control with the
//	   order to note its callers and to give control back (stack 10). It notes them in memory of the
//	   stack that asks, and calls nothing else: what it would allocate, and the room it would need
//	   on a stack of 2 KiB (stack 9), would cost more than all the rest.
//	callgraph 3: Tasks share a stack (stack 2, stack 5). At the bottom of each task is the function
//	   call. So, from the top down, that function tells where one task ends and the next begins.

// A FutureCallGraph is a task or future, the calls it is in, and the tasks that wait for it.
// Python: asyncio.FutureCallGraph.
type FutureCallGraph struct {
	Future AnyFuture
	// of a task that is suspended or runs, innermost first; otherwise nil
	CallStack []runtime.Frame
	AwaitedBy []*FutureCallGraph // the tasks that wait for it, each the same wherever it occurs
}

// CaptureCallGraph returns the call graph of f, or of the current task if f is nil. The graph has
// the calls that the task is in, the tasks that wait for it, directly or in Gather, Wait,
// AsCompleted, Shield or a task group, the calls that those are in, and so on. CaptureCallGraph
// returns nil if f is nil and there is no current task.
//
// It is for the loop only and does not suspend. It costs two switches for each task in the graph,
// and nothing before it is called. It panics with [ErrNoRunningLoop] if ctx leads to no loop, and
// with [ErrDifferentLoop] if f belongs to another loop. Python: asyncio.capture_call_graph.
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

// FormatCallGraph is [CaptureCallGraph] as text. A task that occurs more than once is described
// where it comes first. Python: asyncio.format_call_graph.
func FormatCallGraph(ctx context.Context, f AnyFuture) string {
	g := CaptureCallGraph(ctx, f)
	if g == nil {
		return ""
	}
	var b strings.Builder
	g.format(&b, "", map[*FutureCallGraph]bool{})
	return b.String()
}

// PrintCallGraph writes what [FormatCallGraph] returns to w, and returns w's error. It is for the
// loop only and does not suspend. Python: asyncio.print_call_graph.
func PrintCallGraph(ctx context.Context, f AnyFuture, w io.Writer) error {
	_, err := io.WriteString(w, FormatCallGraph(ctx, f))
	return err
}

// maxIndent is where a chain of tasks is not indented further. Otherwise the text would grow with
// the square of the chain's length.
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
// waits in, if it does, and its own calls down to its coroutine. For the task that is running, the
// innermost call is the one that asks. The result is empty if the task has not started or is done.
// It is for the loop only and does not suspend. Python: Task.get_stack.
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

// awaiter is a done callback on behalf of tasks that wait (callgraph 1).
type awaiter interface{ awaiters() []*task }

// An awaiter has this method if its tasks may be doing something else.
type onlooker interface {
	// waits reports whether they cannot go on before the future is done.
	waits() bool
}

func (t *task) awaiters() []*task { return []*task{t} }

// awaitedBy returns the tasks that wait for f, each once. As in Python, the parent of a task group
// counts as waiting for its children all the time.
func (f *future) awaitedBy() []*task { return f.awaitedIf(func(awaiter) bool { return true }) }

// blocks returns the tasks that cannot go on before f is done. A parent that is still in the body
// of its group is not among them.
func (f *future) blocks() []*task {
	return f.awaitedIf(func(a awaiter) bool {
		o, ok := a.(onlooker)
		return !ok || o.waits()
	})
}

func (f *future) awaitedIf(counts func(awaiter) bool) []*task {
	var all []*task
	var seen map[*task]bool // used once there are many
	for cb := range f.callbacks {
		if a, ok := cb.(awaiter); ok && counts(a) {
			for _, t := range a.awaiters() {
				if seen == nil && len(all) == 16 {
					seen = map[*task]bool{}
					for _, t := range all {
						seen[t] = true
					}
				}
				if seen == nil && !slices.Contains(all, t) || seen != nil && !seen[t] {
					all = append(all, t)
				}
				if seen != nil {
					seen[t] = true
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

// callStacks returns the frames of the given tasks, for those that have any.
func (l *EventLoop) callStacks(tasks []*task) map[*task][]runtime.Frame {
	frames := map[*task][]runtime.Frame{}
	l.lookAt(tasks, func(t *task, pcs []uintptr) { frames[t] = t.userFrames(pcs) })
	return frames
}

// userFrames returns the frames of t, given the program counters on its stack.
func (t *task) userFrames(pcs []uintptr) []runtime.Frame {
	f := userFrames(pcs)
	if t == t.loop().current && len(f) > 1 && ours(f[0]) {
		return f[1:] // t does not wait, but asks
	}
	return f
}

// lookAt calls tell for each of the tasks that has a stack, and for the other tasks on the same
// stack. pcs are the program counters of the calls that the task is in. They are valid until tell
// returns.
func (l *EventLoop) lookAt(tasks []*task, tell func(t *task, pcs []uintptr)) {
	if l.closing.Load() {
		return // the tasks are being unwound, each on a goroutine of its own
	}
	if !slices.ContainsFunc(tasks, func(t *task) bool { return t.stack != nil }) {
		return
	}
	looks := looker{me: l.stackInControl(), calls: map[uintptr]bool{}, tell: tell}
	if l.running.Load() && looks.me != nil {
		looks.at(tasks)
		return
	}
	done := make(chan struct{})
	go func() { // the caller's goroutine may be locked to a thread
		defer close(done)
		looks.me = &stack{pool: &l.stacks}
		looks.at(tasks)
	}()
	<-done
}

// A looker looks at stacks, one after the other.
type looker struct {
	me    *stack           // the stack in control
	calls map[uintptr]bool // whether a program counter is in the function call (callgraph 3)
	tell  func(t *task, pcs []uintptr)
}

func (k *looker) at(tasks []*task) {
	seen := map[*stack]bool{} // the stacks that more than one task is on
	for _, t := range tasks {
		s := t.stack
		if s == nil || seen[s] {
			continue
		}
		for t.covered { // up to the topmost task
			above, ok := t.waiter.super.(*task)
			if !ok || above.stack != s {
				break // the upper task has just ended
			}
			t = above
		}
		rest := k.note(s)
		for t != nil {
			var part []uintptr
			part, rest = k.cutAtCall(rest)
			below := t.below(s)
			if below != nil {
				seen[s] = true
			}
			k.tell(t, part)
			t = below
		}
	}
	k.me.pool.noted = nil
}

// note has s note its callers (callgraph 2).
func (k *looker) note(s *stack) []uintptr {
	p := k.me.pool
	for size := max(64, len(p.noted)); ; size *= 4 {
		if size > len(p.noted) {
			p.noted = make([]uintptr, size)
		}
		if s == k.me {
			p.notes = runtime.Callers(2, p.noted)
		} else {
			p.order = order{noteIt, k.me}
			k.me.give(s)
		}
		if p.notes < size {
			return p.noted[:p.notes]
		}
	}
}

const callName = libraryPrefix + "(*task).call"

// cutAtCall splits off the frames of the topmost task, at the function call (callgraph 3).
func (k *looker) cutAtCall(pcs []uintptr) (top, rest []uintptr) {
	for i, pc := range pcs {
		is, known := k.calls[pc]
		if !known {
			fn := runtime.FuncForPC(pc - 1)
			is = fn != nil && fn.Name() == callName
			k.calls[pc] = is
		}
		if is {
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

// ofLibrary reports whether f is a function of this package. Until Go 1.26 a function literal that
// was inlined into the program, as an iterator's is, is named after the function that it was
// inlined into. Its file says where it is from.
func ofLibrary(f runtime.Frame) bool {
	return strings.HasPrefix(f.Function, libraryPrefix) ||
		path.Dir(f.File) == libraryDir() && !strings.HasSuffix(f.File, "_test.go")
}

// libraryDir is the directory of this package, as frames have it.
var libraryDir = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return path.Dir(file)
})

// calledIn picks one of the frames of the library that the program called, which are given
// innermost first. It picks the one that tells a reader most: the outermost exported function. It
// passes over the literal of an iterator and picks the exported function that the literal calls. If
// the literal calls none, it names the function that made the iterator, because that is the one in
// the program's range loop.
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

// enclosing returns the name, without the package, of the declared function that a function is or
// is a literal of: "(*T).Method" or "Function".
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

// userFrames leaves the library's own frames out: at the top all but the one that calledIn picks,
// and at the bottom all of them.
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

// runSuffix is the end of the name of the function that calls the coroutine.
const runSuffix = "asyncio.(*Task[...]).run"

// firstOutside returns the innermost place outside the library: "main.fetch() at fetch.go:12".
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
