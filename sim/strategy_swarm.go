package sim

import "math/rand/v2"

// A picker picks callbacks.
type picker interface{ pick(w *world, n int) int }

// swarm is one run of the strategy Swarm: an order of one kind, times of one kind, and a mood.
type swarm struct {
	randomCancel
	randomFaults
	order picker
	pct   *pct // if that is the order
}

func (s *swarm) pick(w *world, n int) int {
	k := s.order.pick(w, n)
	if s.pct != nil {
		s.times.shifts = s.pct.times.shifts
	}
	return k
}

// few is the order of production but for a few callbacks, which are kept back for a while.
type few struct {
	rng *rand.Rand
	p   float64 // of each choice
}

func (f *few) pick(w *world, _ int) int {
	k := w.planned()
	if f.rng.Float64() >= f.p {
		return k
	}
	if next := w.nextAfter(k); next >= 0 {
		if f.rng.IntN(2) == 0 {
			w.until = w.step + 1<<f.rng.IntN(8)
		}
		return next
	}
	return k
}

// Swarm is the default of [Explore] and [Check]: each run draws what it is like, so that no kind of
// mistake is out of reach of all runs. The order of callbacks is that of production, or that but
// for a few callbacks that are kept back, or as [Random] or [PCT] of a depth up to 3 chooses it.
// The times of networks and disks are all at their least, or a few are not, or all, or each link
// has its own. With [Chaos] a run has some of the troubles, few or many of each. Where the order of
// production is the only one, or nothing is ever asked for, runs are not spent on it.
func Swarm() Strategy {
	return Strategy{name: "Swarm()", make: func(w *world, steps int, cancels bool) strategy {
		rng := w.stream("swarm")
		s := &swarm{order: fifo{}}
		inOrder := 4 // of 11
		if w.normal.questions == 0 && !cancels {
			inOrder = 0
		}
		switch k := rng.IntN(7 + inOrder); {
		case k < 3:
			s.order = &random{rng: w.stream("strategy")}
		case k < 5:
			s.order = &few{rng: w.stream("strategy"), p: float64(int(1)<<rng.IntN(4)) / float64(max(w.normal.choices, 1))}
		case k < 7:
			s.pct = newPCT(w, 1+rng.IntN(3), steps)
			s.order = s.pct
		}
		switch rng.IntN(10) {
		case 0:
			s.times = times{p: 0}
		case 1:
			s.times = times{p: float64(int(1)<<rng.IntN(4)) / float64(max(w.normal.questions, 1))}
		case 2, 3, 4, 5, 6:
			s.times = times{p: 1}
		default:
			s.times = times{p: 1, steady: true}
		}
		if cancels {
			s.randomCancel = newRandomCancel(w, steps)
		}
		return s
	}}
}
