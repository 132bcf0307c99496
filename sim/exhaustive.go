package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// coverage is how far an enumeration got.
type coverage struct {
	complete bool // all schedules within the bound have been run
	whole    bool // and there are none beyond the bound
	depth    int  // all schedules with at most this many deviations have been run; -1: none
	runs     int

	reduced bool // schedules were left out that differ only in the order of independent steps
	states  int  // states seen, if the program declares its state
	leftOut int  // choices that were not run because of either
}

// A node is a schedule to be run: that of its parent, and one decision behind the others.
type node struct {
	parent *node
	// the decision: a deviation, or that the callback kept back by one of them runs
	dev  deviation
	ends int // which of them, counted from 1; 0: none

	step, rank int // of the decision (schedule 1)
	n          int // deviations

	all []deviation // instead, if schedules are left out (reduce 4)
}

func (n *node) devs() []deviation {
	if n.all != nil {
		return n.all
	}
	all := make([]deviation, n.n)
	for at := n; at.parent != nil; at = at.parent {
		switch {
		case at.ends == 0:
			all[at.n-1] = at.dev
			if at.dev.until > 0 {
				all[at.n-1].until = forever
			}
		}
	}
	for at := n; at.parent != nil; at = at.parent {
		if at.ends > 0 {
			all[at.ends-1].until = at.step - 1
		}
	}
	return all
}

// enumerate runs every schedule with at most bound deviations once, fewest first, until each
// returns false or left returns that no more are allowed. If worth is there it is asked before the
// schedules of each number of deviations, with how many are known; false ends the enumeration, and
// so does a number of which not all can be run.
//
//	exhaustive 1: A schedule's decisions are its deviations and the ends of those that keep a
//	   callback back (keep 4), in the order of time. Its children have its decisions and one behind
//	   the last. Up to there a child's run is its parent's, so the parent's run shows what could be
//	   decided. Each schedule is the child of exactly one other: itself without its last decision.
//	exhaustive 2: An end is no deviation. So a child may have as many deviations as its parent, and
//	   the schedules of one number are known only when all of them have been run.
func (x *exploration) enumerate(seed uint64, bound int, cancels, faults bool, each func(*outcome) bool, left func() int, worth func(n int) bool) coverage {
	// Those whose outcomes are not known: with depth deviations, and with more.
	level, next := []*node{{}}, []*node(nil)
	begun := 0 // how many of level are under way
	depth := 0
	c := coverage{depth: math.MaxInt, whole: true}
	undone := func(depth int) { c.depth = min(c.depth, depth-1) }
	r := newReducer()
	states := make(seen)
	reduces := bound == math.MaxInt && !cancels && worth == nil
	x.ahead(func() (plan, bool) {
		if len(level) == 0 && len(next) > 0 {
			level, next = next, nil
			depth++
			if worth != nil && (c.depth < depth || !worth(len(level))) {
				undone(depth)
				level = nil
			}
		}
		if begun == len(level) {
			return plan{}, false
		}
		if left() <= begun {
			undone(depth)
			return plan{}, false
		}
		n := level[begun]
		begun++
		devs := n.devs()
		return plan{seed: seed, cancels: cancels, lists: faults, branching: true, reduces: reduces, strategy: func(*world) strategy { return newReplay(devs, false) }}, true
	}, func(o *outcome) bool {
		n := level[0]
		level[0] = nil
		level = level[1:]
		begun--
		c.runs++
		if !each(o) {
			undone(n.n)
			return false
		}
		room := left() - len(level) - len(next)
		reduces = reduces && o.w.declared && len(o.w.stateOf) == 0 && len(o.w.steps) <= maxReduced
		if c.reduced = c.reduced || reduces; c.reduced && !reduces {
			undone(n.n) // it is too late for the others
			return false
		}
		children := o.w.children(n, cancels)
		if reduces {
			children = slices.Values(r.children(o.w))
		}
		upTo := states.upTo(o.w, n)
		for child := range children {
			if child.step > upTo {
				c.leftOut++
				continue
			}
			if child.n > bound {
				c.whole = false
				continue
			}
			if room <= 0 {
				undone(child.n)
				if worth != nil && child.n == depth {
					return false
				}
				continue
			}
			if child.n <= depth {
				level = append(level, child)
			} else {
				next = append(next, child)
			}
			room--
		}
		return true
	})
	c.complete = c.depth == math.MaxInt
	c.whole = c.whole && c.complete
	c.leftOut += r.leftOut()
	c.states = len(states)
	return c
}

// A choice is what could have run in a step.
type choice struct {
	ready   int // how many callbacks were
	ran     int
	kept    []keptReady // those of them that were kept back
	entries []int       // their numbers, if schedules may be left out
}

// A keptReady is a ready callback that is kept back.
type keptReady struct{ index, dev int }

// choice describes the choice k of n.
func (w *world) choice(n, k int) choice {
	c := choice{ready: n, ran: k}
	if w.reduces {
		c.entries = w.numbered()
	}
	if w.keeps == 0 {
		return c
	}
	base := 0
	for _, l := range w.able {
		for _, b := range l.kept {
			if b.pos < l.n {
				c.kept = append(c.kept, keptReady{base + b.pos, b.dev})
			}
		}
		base += l.n
	}
	return c
}

// A branch is a choice that was not made.
type branch struct {
	index int  // which of the ready callbacks
	dev   int  // of a callback that is kept back: by which deviation; otherwise -1
	next  bool // it jumps over one only
}

// others iterates over the choices that were not made.
func (c *choice) others(yield func(branch) bool) {
	if c.ready == 1 {
		return
	}
	for _, k := range c.kept {
		if k.index != c.ran && !yield(branch{k.index, k.dev, false}) {
			return
		}
	}
	isKept := func(i int) bool { return slices.ContainsFunc(c.kept, func(k keptReady) bool { return k.index == i }) }
	jumped := 0
	for i := range c.ready {
		if isKept(i) {
			continue
		}
		if i != c.ran && jumped > 0 && !yield(branch{i, -1, jumped == 1}) {
			return
		}
		jumped++
	}
}

// children iterates over the schedules with one decision behind those of n; w is the run of n.
func (w *world) children(n *node, cancels bool) func(func(*node) bool) {
	return func(yield func(*node) bool) {
		deviate := func(d deviation) bool {
			return yield(&node{parent: n, dev: d, step: d.step, rank: d.rank(), n: n.n + 1})
		}
		asked := w.asked
		for len(asked) > 0 && asked[0].step < n.step {
			asked = asked[1:]
		}
		if n.dev.answers() && n.rank == faultRank {
			for len(asked) > 0 && asked[0].question() != n.dev.question() {
				asked = asked[1:]
			}
			asked = asked[min(1, len(asked)):]
		}
		for step := n.step; step <= len(w.steps); step++ {
			if step > n.step && cancels && !w.injected {
				for _, t := range w.live[step-1] {
					if !deviate(deviation{step: step, cancel: &t}) {
						return
					}
				}
			}
			if step > 0 && (step > n.step || n.rank == cancelRank) {
				for b := range w.steps[step-1].others {
					child := &node{parent: n, step: step, rank: pickRank, n: n.n}
					if b.dev >= 0 {
						child.ends = b.dev + 1
					} else {
						child.n, child.dev = n.n+1, deviation{step: step, pick: b.index}
						if b.next {
							child.dev.until = forever
						}
					}
					if !yield(child) {
						return
					}
				}
			}
			for ; len(asked) > 0 && asked[0].step == step; asked = asked[1:] {
				if !deviate(asked[0]) {
					return
				}
			}
		}
	}
}

// exhaust runs the strategy Exhaustive (exhaustive 1): every schedule of a seed, and if the seed
// has had a say, those of the next, as far as the runs go.
func (x *exploration) exhaust() *Failure {
	p := plan{name: x.strategy.name, seed: x.seed, strategy: func(*world) strategy { return fifo{} }}
	if f := x.calibrate(true); f != nil && errors.Is(f, ErrNotDeterministic) {
		return f
	}
	x.report = Report{}
	left := func() int { return x.runs - x.report.Runs }
	c := coverage{whole: true}
	drew := false // the runs depend on the seed
	for {
		var failed *outcome
		next := x.enumerate(p.seed, x.strategy.bound, x.cancels, true, func(o *outcome) bool {
			x.count(o.w)
			x.faults = x.faults || slices.ContainsFunc(o.w.asked, func(d deviation) bool { return d.fault != nil })
			x.amounts = x.amounts || slices.ContainsFunc(o.w.asked, func(d deviation) bool { return d.amount != nil })
			drew = drew || o.w.drew
			x.fair = x.fair || o.w.fair
			if o.err != nil {
				failed = o
			}
			return o.err == nil
		}, left, nil)
		if failed != nil {
			return x.explain(p, failed)
		}
		if p.seed > x.seed && !next.complete {
			break // all of the seeds before, and some of this one
		}
		next.whole = next.whole && c.whole
		x.report.LeftOut += next.leftOut
		x.report.States += next.states
		c = next
		if p.seed++; !drew || !c.complete || left() <= 0 {
			break
		}
	}
	x.report.Coverage = fmt.Sprintf("%d runs, %d steps: %s%s", x.report.Runs, x.report.Steps, x.covered(c, drew, p.seed), x.report.tallies())
	return x.unreached()
}

// covered says what was covered: c, for the seeds before end if the runs depend on the seed.
func (x *exploration) covered(c coverage, drew bool, end uint64) string {
	var what string
	switch {
	case c.states > 0 && c.whole:
		what = fmt.Sprintf("every one of %s that sim.State tells apart, and every choice in each", counted(c.states, "state"))
	case c.reduced && c.whole:
		what = "every schedule there is, of those that differ in the order of steps that sim.Touches declares independent one each"
	case c.reduced:
		what = "some schedules, of those that differ in the order of steps that sim.Touches declares independent one each; the others were not run (see Runs)"
	case c.whole:
		what = "every schedule there is"
	case c.complete:
		what = fmt.Sprintf("every schedule with at most %d deviations from first in, first out, and none with more", x.strategy.bound)
	case c.depth < 0:
		what = "not one schedule"
	default:
		what = fmt.Sprintf("every schedule with at most %d deviations from first in, first out, and some with %d; the others were not run (see Runs)", c.depth, c.depth+1)
	}
	switch {
	case !drew:
	case end > x.seed+1:
		what += fmt.Sprintf(", for the seeds %d to %d: the program, the network or a disk draws numbers, and those of other seeds were not tried", x.seed, end-1)
	default:
		what += fmt.Sprintf(", for seed %d: the program, the network or a disk draws numbers, and those of other seeds were not tried", x.seed)
	}
	if x.fair {
		what += fmt.Sprintf("; no callback is kept back for more than %d steps, or while the clock stands still for half of the steps of StepLimit", maxKept)
	}
	if x.cancels {
		what += "; a cancel of a task counts as a deviation"
	}
	if x.faults {
		what += "; a fault counts as a deviation"
	}
	if x.amounts {
		what += "; so does a time or size that is not the usual one, of which one other is tried at each place"
	}
	return what
}
