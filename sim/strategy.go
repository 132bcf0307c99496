package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// fifo is the order of production: first in, first out.
type fifo struct{}

func (fifo) pick(*world, int) int                       { return 0 }
func (fifo) cancel(*world) (target, bool)               { return target{}, false }
func (fifo) fault(*world, *question, float64) bool      { return false }
func (fifo) amount(_ *world, _ *question, s span) int64 { return s.usual }

// A randomCancel cancels a random task before a random step.
type randomCancel struct {
	at  int // 0: never
	rng *rand.Rand
}

// newRandomCancel expects a run of about this many steps.
func newRandomCancel(w *world, steps int) randomCancel {
	rng := w.stream("cancel")
	return randomCancel{at: 1 + rng.IntN(max(steps, 1)), rng: rng}
}

func (c randomCancel) cancel(w *world) (target, bool) {
	if w.step != c.at || w.injected || w.closing {
		return target{}, false
	}
	all := w.targets()
	if len(all) == 0 {
		return target{}, false
	}
	return all[c.rng.IntN(len(all))], true
}

// randomFaults makes each fault happen with its probability, and draws amounts (question 4).
// Troubles are the mood's.
type randomFaults struct {
	mood  *mood // once asked
	times times
}

// times says which of the usual amounts are other than usual.
type times struct {
	p      float64 // so often, of the times that the question allows
	steady bool    // all answers to a question are the same until shifts is increased
	shifts uint64
}

func (r *randomFaults) fault(w *world, q *question, p float64) bool {
	d := w.dice(q)
	if q.trouble != 0 {
		return r.moodOf(w).happens(q, &d)
	}
	return d.float() < p
}

func (r *randomFaults) amount(w *world, q *question, s span) int64 {
	d := w.dice(q)
	switch {
	case q.trouble != 0:
		return r.moodOf(w).amount(q, s, &d)
	case q.usual && r.times.steady && s.p == 1:
		d = dice(q.base ^ r.times.shifts*0x9e3779b97f4a7c15)
	case d.float() >= s.p || q.usual && r.times.p < 1 && d.float() >= r.times.p:
		return s.usual
	}
	return d.between(s.least, s.most)
}

func (r *randomFaults) moodOf(w *world) *mood {
	if r.mood == nil {
		r.mood = newMood(w, w.stream("mood"))
	}
	return r.mood
}

// random picks each ready callback with the same probability.
type random struct {
	randomCancel
	randomFaults
	rng *rand.Rand
}

func (r *random) pick(_ *world, n int) int { return r.rng.IntN(n) }

// pct is the algorithm of Burckhardt, Kothari, Musuvathi and Nagarakatte, "A Randomized Scheduler
// with Probabilistic Guarantees of Finding Bugs" (2010). Tasks have random priorities, and the
// ready task with the highest priority runs. Only at depth-1 random steps the task that is about to
// run falls below all others. A bug that needs depth orderings of steps, in a program of n tasks
// and k steps, is found with a probability of at least 1/(n*k^(depth-1)).
//
// With several hosts the network decides more than the scheduler. So every link, and every kind of
// packet on it, has a latency of its own, which is drawn anew at these steps too: one link is
// always faster than another until their order changes.
//
// A callback that belongs to no task runs first, as soon as it is ready. A task that has been
// preferred for maxRow steps falls too, because it may be waiting for another in a loop; the
// guarantee does not cover that.
type pct struct {
	randomCancel
	randomFaults
	rng      *rand.Rand
	falls    map[int]bool // steps
	priority map[any]int64
	lowest   int64
	last     any
	row      int
}

const maxRow = 256

func newPCT(w *world, depth, steps int) *pct {
	p := &pct{rng: w.stream("strategy"), falls: make(map[int]bool), priority: make(map[any]int64), randomFaults: randomFaults{times: times{p: 1, steady: true}}}
	for range depth - 1 {
		p.falls[1+p.rng.IntN(max(steps, 1))] = true
	}
	return p
}

func (p *pct) of(task any) int64 {
	if task == nil {
		return math.MaxInt64
	}
	v, ok := p.priority[task]
	if !ok {
		v = 1 + p.rng.Int64N(math.MaxInt64-2)
		p.priority[task] = v
	}
	return v
}

func (p *pct) highest(w *world, n int) (best int, who any) {
	most := int64(math.MinInt64)
	for i := range n {
		task := w.readyTask(i)
		if v := p.of(task); v > most {
			best, who, most = i, task, v
		}
	}
	return best, who
}

func (p *pct) pick(w *world, n int) int {
	best, who := p.highest(w, n)
	if who == p.last {
		p.row++
	} else {
		p.last, p.row = who, 0
	}
	if p.falls[w.step] {
		p.times.shifts++
	}
	if who != nil && (p.falls[w.step] || p.row >= maxRow) {
		p.lowest--
		p.priority[who] = p.lowest
		best, p.last = p.highest(w, n)
		p.row = 0
	}
	return best
}

// tape takes each choice from a byte, so go test -fuzz searches and shrinks schedules.
type tape struct {
	fifo
	bytes []byte
}

func (t *tape) pick(_ *world, n int) int { return int(t.next()) % n }

// fault takes a byte too: the fault happens if the byte is not zero and within its probability.
func (t *tape) fault(_ *world, _ *question, p float64) bool {
	return faultOf(t.next(), p)
}

func faultOf(b byte, p float64) bool { return b > 0 && float64(b) <= max(1, 255*p) }

// amount takes a byte as well: 0 is the usual amount, and 255 the most.
func (t *tape) amount(_ *world, _ *question, s span) int64 {
	return amountOf(t.next(), s)
}

func amountOf(b byte, s span) int64 {
	if b == 0 {
		return s.usual
	}
	return s.least + int64(float64(s.most-s.least)*float64(b)/255)
}

func (t *tape) next() byte {
	if len(t.bytes) == 0 {
		return 0
	}
	b := t.bytes[0]
	t.bytes = t.bytes[1:]
	return b
}

// A Strategy says which schedules an exploration runs. Make one with [Random], [PCT], [Exhaustive],
// [Guided] or [Tape]. Any goroutine may make one.
type Strategy struct {
	name string
	make func(w *world, steps int, cancels bool) strategy // of one run

	exhaustive bool
	bound      int // of deviations
	guided     bool
}

func (s Strategy) String() string { return s.name }

// Random picks each ready callback with the same probability.
func Random() Strategy {
	return Strategy{name: "Random()", make: func(w *world, steps int, cancels bool) strategy {
		r := &random{rng: w.stream("strategy"), randomFaults: randomFaults{times: times{p: 1}}}
		if cancels {
			r.randomCancel = newRandomCancel(w, steps)
		}
		return r
	}}
}

// PCT gives tasks random priorities and changes them at depth-1 random steps; depth is the number
// of orderings that a bug needs, rarely more than 3. PCT finds bugs that are rare under [Random]
// because a task has to be kept waiting for long. Its probability can be stated: with n tasks and k
// steps, each run finds a bug of that depth with at least 1/(n*k^(depth-1)). A depth that is not
// positive counts as 1.
func PCT(depth int) Strategy {
	depth = max(depth, 1)
	return Strategy{name: fmt.Sprintf("PCT(%d)", depth), make: func(w *world, steps int, cancels bool) strategy {
		p := newPCT(w, depth, steps)
		if cancels {
			p.randomCancel = newRandomCancel(w, steps)
		}
		return p
	}}
}

// Exhaustive runs every schedule once, those with the fewest deviations from first in, first out
// first, and none with more than bound; a bound of 0 or less means no bound. So the failures that
// it finds need no minimising. A callback that is kept back counts as one deviation, however long
// it is; so does one that runs before several others, a [Fault], and a cancel with [Cancels].
// [Touches] and [State] let it leave schedules out. What tasks draw, and how long the network and
// disks take, is the seed's: if anything was drawn and all schedules of a seed have been run,
// Exhaustive goes on with the next seed. [Report.Coverage] says how far it got within [Runs].
func Exhaustive(bound int) Strategy {
	name := fmt.Sprintf("Exhaustive(%d)", max(bound, 0))
	if bound <= 0 {
		bound = math.MaxInt
	}
	return Strategy{name: name, exhaustive: true, bound: bound}
}

// Tape takes each choice from a byte of the input of a fuzz test: where several callbacks are
// ready, the next byte, modulo their number, picks one. A byte also decides on each [Fault], and
// [Cancels] does nothing. When the input is used up the rest runs in order. So go test -fuzz
// searches schedules by the code that they reach.
//
//	func FuzzTransfer(f *testing.F) {
//		f.Fuzz(func(t *testing.T, schedule []byte) { sim.Run(t, transfer, sim.WithStrategy(sim.Tape(schedule))) })
//	}
func Tape(schedule []byte) Strategy {
	return Strategy{name: "Tape", make: func(*world, int, bool) strategy { return &tape{bytes: schedule} }}
}
