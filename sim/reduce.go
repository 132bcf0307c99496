package sim

import (
	"context"
	"slices"
	"time"
)

// Leaving out schedules that differ only in the order of independent steps: dynamic partial-order
// reduction (Flanagan and Godefroid, "Dynamic Partial-Order Reduction for Model Checking Software",
// 2005), with the races and initials of Abdulla, Aronsson, Jonsson and Sagonas, "Optimal Dynamic
// Partial Order Reduction" (2014), without sleep sets.
//
//	reduce 1: Two steps are independent if their order changes neither what they do nor what comes
//	   of it. Tasks share Go variables, which nobody sees. So nothing is independent unless the
//	   program declares what its steps touch, and an undeclared step depends on every other.
//	reduce 2: A step is undeclared, whatever its task says, if in it the world has acted for the
//	   program (a fault or an amount was asked for, an event of the network was set, a host was
//	   turned on or off), if an Always or Eventually looks at what it does, or if main has ended. A
//	   callback on behalf of a task that waits touches that task alone. Any other callback is
//	   undeclared.
//	reduce 3: A step happens before a later one of its own task, before those that it has made
//	   ready, before those that depend on it, and before all that follow a move of the clock.
//	reduce 4: If two steps of a run depend on each other, nothing between them puts them in order,
//	   and the first has not made the second ready, then their other order is run too: from the
//	   state before the first, with a step that happens before neither. Each choice in a state is
//	   run once.
//	reduce 5: A schedule that stands for others may have more deviations than they. So nothing is
//	   left out under a bound. Nothing is left out with Cancels either: a cancel depends on
//	   everything, and may come between any two steps.

// maxReduced is how many steps a run may have that is looked at for races.
const maxReduced = 1000

// Touches declares what the calling task touches, in the current step and in all that follow, until
// its next call: every variable and object through which its steps may influence others, or be
// influenced by them, by names of the program's own: "account 1". That includes files, asyncio's
// locks, queues and events, tasks that it cancels, and whatever functions do that it calls. No
// names means nothing of that kind.
//
//	for i, account := range accounts {
//		group.Go(func(ctx context.Context) error {
//			sim.Touches(ctx, fmt.Sprint("account ", i))
//			return account.AddInterest(ctx)
//		})
//	}
//
// Under [Exhaustive] without a bound, schedules that differ only in the order of steps with nothing
// in common are then run once. A task that declares nothing is taken to touch everything. What is
// declared is believed: if a step touches something else too, failures may be missed. Elsewhere
// Touches does nothing. It is for the loop only and does not suspend. It panics if ctx does not
// come from a simulation.
func Touches(ctx context.Context, names ...string) {
	w := worldOf(ctx, "Touches")
	if !w.reduces || w.current == nil {
		return
	}
	if w.touches == nil {
		w.touches = make(map[any][]string)
	}
	w.touches[w.current] = slices.Clone(names)
	w.newly = append(w.newly, names...)
	w.declared = true
}

// effects is what a world knows for the reduction.
type effects struct {
	did      []effect // each step
	births   []int    // of each callback that has been ready: the first step at which it was
	touches  map[any][]string
	declared bool // there are some
	// in the running step:
	current any      // its task
	newly   []string // what it has declared
	acted   bool     // the world has acted for it
}

// An effect is a step as the reduction sees it.
type effect struct {
	entry   int // which callback it ran, by the order in which they became ready
	proc    any // its task; for another callback, entry
	born    int // the first step at which it was ready
	at      time.Duration
	touched []string
	tasks   []any // that it acts for
	all     bool  // it is undeclared
}

// An entryReady is a callback while it is ready.
type entryReady struct{ number, born int }

// numbered returns the numbers of the ready callbacks, in order.
func (w *world) numbered() []int {
	var all []int
	for _, l := range w.able {
		for len(l.entries) < l.n {
			l.entries = append(l.entries, entryReady{len(w.births), w.step})
			w.births = append(w.births, w.step)
		}
		for _, e := range l.entries[:l.n] {
			all = append(all, e.number)
		}
	}
	return all
}

// beginEffect notes the step that runs callback i of l.
func (w *world) beginEffect(l *life, i int) {
	e := l.entries[i]
	l.entries = slices.Delete(l.entries, i, i+1)
	task, _ := l.loop.Task(i)
	f := effect{entry: e.number, proc: task, born: e.born, at: w.now, all: true}
	w.current, w.newly, w.acted = task, nil, false
	if task == nil {
		f.proc = e.number
		f.tasks = l.loop.Awaiters(i)
		f.all = len(f.tasks) == 0
	} else if names, ok := w.touches[task]; ok {
		f.all, f.touched = false, slices.Clone(names)
	}
	w.did = append(w.did, f)
}

// endEffect completes it.
func (w *world) endEffect() {
	f := &w.did[len(w.did)-1]
	if _, ok := w.touches[w.current]; ok {
		f.all, f.touched = false, append(f.touched, w.newly...)
	}
	if w.acted || w.closing || w.over || len(w.checks) > 0 || len(w.hopes) > 0 {
		f.all = true
	}
	w.current = nil
}

// acts notes that the world does something for the program: in the running step, or behind the
// last.
func (w *world) acts() {
	if w.acted = true; !w.made && len(w.did) > 0 {
		w.did[len(w.did)-1].all = true
	}
}

// depends reports whether the order of two steps may matter.
func (f *effect) depends(g *effect) bool {
	if f.all || g.all || f.proc == g.proc {
		return true
	}
	common := func(name string) bool { return slices.Contains(g.touched, name) }
	task := func(t any) bool { return t == g.proc || slices.Contains(g.tasks, t) }
	return slices.ContainsFunc(f.touched, common) || task(f.proc) || slices.ContainsFunc(f.tasks, task)
}

// A reducer knows which choices have been run, or are going to be.
type reducer struct {
	done   map[uint64]bool // by the hash of the state's choices, and the choice
	states map[uint64]bool // states seen, by their choices
	open   int             // choices that there were in these states
}

func newReducer() *reducer {
	return &reducer{done: make(map[uint64]bool), states: make(map[uint64]bool)}
}

// leftOut is how many choices were not run.
func (r *reducer) leftOut() int { return r.open - len(r.done) }

// A stepSet is a set of steps.
type stepSet []uint64

func (s stepSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s stepSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s stepSet) addAll(t stepSet) {
	for i, bits := range t {
		s[i] |= bits
	}
}

// children returns the schedules that the run of w makes necessary (reduce 4).
func (r *reducer) children(w *world) []*node {
	before := make([]uint64, len(w.steps)+1) // each step: the choices so far, as a hash
	var nodes []*node
	made, asked, h := w.devs, w.asked, uint64(1)
	answer := func(step int) { // up to this step
		for len(asked) > 0 && asked[0].step <= step {
			a := asked[0]
			asked = asked[1:]
			for len(made) > 0 && !made[0].answers() {
				made = made[1:]
			}
			if len(made) > 0 && made[0].question() == a.question() {
				h = mix(h, hashOf(a.String()))
				made = made[1:]
				continue
			}
			if key := mix(h, hashOf("other "+a.String())); !r.states[key] {
				r.states[key] = true
				nodes = append(nodes, w.answering(a))
			}
		}
	}
	for i, c := range w.steps {
		answer(i)
		if before[i] = h; !r.states[h] {
			r.states[h] = true
			r.open += c.ready
		}
		h = mix(h, uint64(c.ran))
		r.done[h] = true
	}
	answer(len(w.steps))
	for i, initials := range w.races {
		c := w.steps[i]
		x := -1 // which of the ready callbacks
		for k, entry := range c.entries {
			if slices.Contains(initials, entry) {
				if x = k; r.done[mix(before[i], uint64(k))] {
					x = -1
					break
				}
			}
		}
		if x < 0 {
			continue
		}
		r.done[mix(before[i], uint64(x))] = true
		for b := range c.others {
			if b.index != x {
				continue
			}
			nodes = append(nodes, w.branchAt(i+1, func(devs []deviation) []deviation {
				if b.dev >= 0 {
					devs[b.dev].until = i
					return devs
				}
				d := deviation{step: i + 1, pick: x}
				if b.next {
					d.until = forever
				}
				return append(devs, d)
			}))
		}
	}
	return nodes
}

// answering returns the schedule that is that of w up to a question, and answers it with a.
func (w *world) answering(a deviation) *node {
	asked := make(map[any]bool)
	for _, q := range w.asked {
		if asked[q.question()] = true; q.question() == a.question() {
			break
		}
	}
	return w.branchAt(a.step+1, func(devs []deviation) []deviation {
		return append(slices.DeleteFunc(devs, func(d deviation) bool { return d.answers() && !asked[d.question()] }), a)
	})
}

// races iterates over the pairs of steps whose other order is to be run too (reduce 4): the first,
// counted from 0, and the callbacks of which one is to run instead.
func (w *world) races(yield func(i int, initials []int) bool) {
	all := w.did
	n := len(all)
	if left := w.steps[len(w.steps)-1].entries; len(left) > 1 { // those that have not run
		for _, number := range left {
			ran := func(f effect) bool { return f.entry == number }
			if !slices.ContainsFunc(w.did, ran) {
				all = append(all, effect{entry: number, proc: number, born: w.births[number], all: true})
			}
		}
	}
	past := make([]stepSet, len(all)) // of each step: those that happen before it
	last := make(map[any]int)         // of each task: its last step
	barrier := -1                     // the last step before the clock moved last
	words := len(all)/64 + 1
	for j := range all {
		f := &all[j]
		past[j] = make(stepSet, words)
		after := func(i int) {
			past[j].addAll(past[i])
			past[j].add(i)
		}
		if j > 0 && j < n && w.did[j].at != w.did[j-1].at {
			barrier = j - 1
		}
		for i := 0; i <= barrier; i++ {
			past[j].add(i)
		}
		if i, ok := last[f.proc]; ok {
			after(i)
		}
		last[f.proc] = j
		if f.born >= 2 && f.born-2 < j {
			after(f.born - 2) // the step before the first at which it was ready
		}
		for i := min(j, n) - 1; i > barrier; i-- {
			if past[j].has(i) || !all[i].depends(f) {
				continue
			}
			// Nothing between i and j puts them in order: those that would have been added before
			// i.
			initials := w.initials(all, past, i, j)
			after(i)
			if !yield(i, initials) {
				return
			}
		}
	}
}

// initials returns the callbacks that can run instead of step i so that j comes before it.
func (w *world) initials(all []effect, past []stepSet, i, j int) []int {
	var entries []int
	var between []int
	for k := i + 1; k < j && k < len(w.did); k++ {
		if !past[k].has(i) {
			between = append(between, k)
		}
	}
	for _, k := range append(between, j) {
		first := true
		for _, b := range between {
			first = first && (b >= k || !past[k].has(b))
		}
		if first {
			entries = append(entries, all[k].entry)
		}
	}
	return entries
}

// branchAt returns a schedule that is that of w before a step.
func (w *world) branchAt(step int, change func([]deviation) []deviation) *node {
	var devs []deviation
	for _, d := range w.devs {
		if d.step >= step {
			break
		}
		if d.until > 0 && d.until >= step-1 { // it ran in the step, or later
			d.until = forever
		}
		devs = append(devs, d)
	}
	devs = change(devs)
	if devs == nil {
		devs = []deviation{}
	}
	return &node{all: devs, n: len(devs)}
}

func mix(h, v uint64) uint64 {
	h ^= v + 0x9e3779b97f4a7c15 + h<<6 + h>>2
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>29
}
