package sim

import (
	"sync"
	"sync/atomic"
)

// Runs on several processors.
//
//	ahead 1: Plans are asked for and outcomes are told one at a time, by the caller's goroutine, the
//	   outcomes in the order of the plans. So whatever depends on outcomes is the same as if the
//	   runs were made one after the other, however many are under way.
//	ahead 2: A plan may depend on all outcomes told before. If there is no further plan, an outcome
//	   that is still to come may lead to one.
//	ahead 3: Once an outcome is the last, no further run begins, and ahead returns when the runs
//	   under way have ended. A run that was given up (world 9) counts as ended.

// ahead makes runs, up to x.parallel at a time, until next has no plan or each returns false.
func (x *exploration) ahead(next func() (plan, bool), each func(*outcome) bool) {
	if x.parallel <= 1 {
		for p, ok := next(); ok; p, ok = next() {
			if !each(x.play(p)) {
				return
			}
		}
		return
	}
	most := 2 * x.parallel // so that nobody waits while an outcome is looked at
	begin := make(chan *runAhead, most)
	var workers sync.WaitGroup
	var over atomic.Bool
	defer func() {
		over.Store(true)
		close(begin)
		workers.Wait()
	}()
	var underWay []*runAhead
	for begun := 0; ; {
		for len(underWay) < most {
			p, ok := next()
			if !ok {
				break
			}
			r := &runAhead{plan: p, ended: make(chan struct{})}
			underWay = append(underWay, r)
			if begin <- r; begun < x.parallel {
				begun++
				workers.Go(func() {
					for r := range begin {
						if !over.Load() {
							r.play(x)
						}
					}
				})
			}
		}
		if len(underWay) == 0 {
			return
		}
		r := underWay[0]
		underWay = underWay[1:]
		if <-r.ended; r.panicked != nil {
			panic(r.panicked)
		}
		if !each(r.outcome) {
			return
		}
	}
}

// A runAhead is a run that a worker makes.
type runAhead struct {
	plan     plan
	outcome  *outcome
	panicked any
	ended    chan struct{}
}

func (r *runAhead) play(x *exploration) {
	defer close(r.ended)
	defer func() { r.panicked = recover() }()
	r.outcome = x.play(r.plan)
}
