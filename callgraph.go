package asyncio

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
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

// Calls implements [driver.Loop].
func (l *driven) Calls(of any) (calls []uintptr) {
	t := of.(AnyTask).taskCore()
	(*EventLoop)(l).lookAt([]*task{t}, func(at *task, pcs []uintptr) {
		if at == t {
			calls = slices.Clone(pcs)
		}
	})
	return calls
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
