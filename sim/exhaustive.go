package sim

import (
	"errors"
	"fmt"
	"math"
)

// coverage is how far an enumeration got.
type coverage struct {
	complete bool // all schedules within the bound have been run
	whole    bool // and there are none beyond the bound
	depth    int  // all schedules with at most this many deviations have been run; -1: none
	runs     int
}

// A node is a schedule to be run: that of its parent, and one deviation behind the others.
type node struct {
	parent *node
	dev    deviation
	depth  int
}

func (n *node) devs() []deviation {
	all := make([]deviation, n.depth)
	for ; n.depth > 0; n = n.parent {
		all[n.depth-1] = n.dev
	}
	return all
}

// enumerate runs every schedule with at most bound deviations once, fewest first, until each
// returns false or left returns that no more are allowed. If worth is there it is asked before the
// schedules of each number of deviations, with how many there are; false ends the enumeration, and
// so does a number that is not known because no more are allowed.
//
//	exhaustive 1: A schedule's children have its deviations and one behind the last (in the order of
//	   schedule 1). Up to there a child's run is its parent's, so the parent's run shows what could
//	   be picked. Each schedule is the child of exactly one other: itself without its last
//	   deviation.
func (x *exploration) enumerate(seed uint64, bound int, cancels, faults bool, each func(*outcome) bool, left func() int, worth func(n int) bool) coverage {
	queue := []*node{{}} // those whose outcomes are not known
	begun := 0           // how many of them are under way
	depth := 0           // that has been begun
	c := coverage{depth: math.MaxInt, whole: true}
	undone := func(depth int) { c.depth = min(c.depth, depth-1) }
	x.ahead(func() (plan, bool) {
		if begun == len(queue) {
			return plan{}, false
		}
		n := queue[begun]
		if left() <= begun {
			undone(n.depth)
			return plan{}, false
		}
		if n.depth > depth && worth != nil {
			if begun > 0 { // their children are of this depth too
				return plan{}, false
			}
			if c.depth < n.depth || !worth(len(queue)) {
				undone(n.depth)
				return plan{}, false
			}
			depth = n.depth
		}
		begun++
		devs := n.devs()
		return plan{seed: seed, cancels: cancels, lists: faults, strategy: func(*world) strategy { return newReplay(devs, false) }}, true
	}, func(o *outcome) bool {
		n := queue[0]
		queue[0] = nil
		queue = queue[1:]
		begun--
		c.runs++
		if !each(o) {
			undone(n.depth)
			return false
		}
		room := left() - len(queue)
		for d := range o.w.children(n, cancels) {
			if n.depth == bound {
				c.whole = false
				break
			}
			if room <= 0 {
				undone(n.depth + 1)
				break
			}
			queue = append(queue, &node{parent: n, dev: d, depth: n.depth + 1})
			room--
		}
		return true
	})
	c.complete = c.depth == math.MaxInt
	c.whole = c.whole && c.complete
	return c
}

// children iterates over the deviations that can follow those of n; w is the run of n.
func (w *world) children(n *node, cancels bool) func(func(deviation) bool) {
	return func(yield func(deviation) bool) {
		asked := w.asked
		for len(asked) > 0 && asked[0].step < n.dev.step {
			asked = asked[1:]
		}
		if n.dev.fault != nil {
			for len(asked) > 0 && *asked[0].fault != *n.dev.fault {
				asked = asked[1:]
			}
			asked = asked[min(1, len(asked)):]
		}
		for step := n.dev.step; step <= len(w.width); step++ {
			if step > n.dev.step && cancels && !w.injected {
				for _, t := range w.live[step-1] {
					if !yield(deviation{step: step, cancel: &t}) {
						return
					}
				}
			}
			if step > n.dev.step || n.dev.cancel != nil {
				for k := 1; step > 0 && k < int(w.width[step-1]); k++ {
					if !yield(deviation{step: step, pick: k}) {
						return
					}
				}
			}
			for ; len(asked) > 0 && asked[0].step == step; asked = asked[1:] {
				if !yield(asked[0]) {
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
	if f := x.calibrate(); f != nil && errors.Is(f, ErrNotDeterministic) {
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
			x.faults = x.faults || len(o.w.asked) > 0
			drew = drew || o.w.drew
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
	if x.cancels {
		what += "; a cancel of a task counts as a deviation"
	}
	if x.faults {
		what += "; a fault counts as a deviation"
	}
	return what
}
