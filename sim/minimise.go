package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/goasyncio/asyncio"
)

// The promises of minimising.
//
//	minimise 1: The result fails in the same way as the failure that was found (kind).
//	minimise 2: It is 1-minimal: without any one of its deviations, the rest followed as far as it
//	   fits (schedule 4), the run does not fail in that way.
//	minimise 3: Where the budget allows, all schedules with fewer deviations have been run, and
//	   none fails in that way: no schedule for this seed has fewer. Of a time or size only one
//	   other than the usual one is tried at each place, as Exhaustive does, so a schedule with
//	   fewer may still be there where such amounts are among the deviations. Failure.Minimal says
//	   which of these holds. The search ends before a number of deviations for whose schedules the
//	   budget will not do: some of them would prove nothing.
//	minimise 4: A callback that is kept back for long is one deviation (keep 2). It is kept back
//	   for as few steps as halving their number finds.
//	minimise 5: Minimising is deterministic. Its budget counts runs and steps, not time.

// The budget, in runs and steps (minimise 5), and the part of it that is for minimise 3.
const (
	minimiseRuns  = 5_000
	minimiseSteps = 5_000_000
	fewestRuns    = 2_000
	fewestSteps   = 200_000
)

// kind returns the way in which a run failed, for comparing failures (minimise 1).
func kind(err error) string {
	if err == nil {
		return ""
	}
	var v *violation
	var l *livelock
	var long *tooLong
	var leak *leaked
	switch {
	case errors.As(err, &v):
		return "invariant " + v.name
	case errors.As(err, &l):
		return "livelock"
	case errors.As(err, &long):
		return "too long"
	case errors.As(err, &leak):
		return "leak"
	case errors.Is(err, asyncio.ErrDeadlock):
		return "deadlock"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return withoutNumbers(line)
}

// withoutNumbers returns text without its words that have a digit: numbers, and names that are
// drawn (3f1c09ab), differ from run to run.
func withoutNumbers(text string) string {
	var kept []rune
	word, drop := 0, false // where the last word begins, and whether it has a digit
	for _, r := range text + " " {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			drop = drop || unicode.IsDigit(r)
		} else {
			if drop {
				kept = kept[:word]
			}
			word, drop = len(kept)+1, false
		}
		kept = append(kept, r)
	}
	return string(kept)
}

// A minimiser makes schedules smaller.
type minimiser struct {
	x           *exploration
	seed        uint64
	kind        string
	runs, steps int
}

func (m *minimiser) spent() bool { return m.runs >= minimiseRuns || m.steps >= minimiseSteps }

// try runs a schedule. It returns the deviations that the run had, and whether it fails in the same
// way.
func (m *minimiser) try(devs []deviation) ([]deviation, bool) {
	o := m.x.follow(m.seed, devs)
	m.runs++
	m.steps += o.w.step
	return o.w.devs, o.err != nil && kind(o.err) == m.kind
}

// class is the class of a deviation: most failures need only one or two of these.
type class uint8

const (
	ofFaults class = 1 << iota
	ofOrder
	ofTimes
)

func (d deviation) class() class {
	switch {
	case d.amount != nil && d.amount.usualKind:
		return ofTimes
	case d.answers():
		return ofFaults
	}
	return ofOrder
}

// only returns the deviations of these classes.
func only(devs []deviation, of class) []deviation {
	return slices.DeleteFunc(slices.Clone(devs), func(d deviation) bool { return d.class()&of == 0 })
}

// shrink makes the schedule 1-minimal (minimise 2): delta debugging, then each deviation alone
// until none can go.
func (m *minimiser) shrink(devs []deviation) (_ []deviation, minimal bool) {
	if without, ok := m.try(nil); ok {
		return without, true
	}
	there := class(0)
	for _, d := range devs {
		there |= d.class()
	}
	for _, classes := range []class{ofFaults, ofOrder, ofTimes, ofFaults | ofOrder, ofFaults | ofTimes, ofOrder | ofTimes} {
		if classes&there == 0 || classes&there == there || classes&there != classes {
			continue
		}
		if made, ok := m.try(only(devs, classes)); ok {
			devs = made
			break
		}
	}
	if 2*len(devs)*m.steps/m.runs > minimiseSteps { // there is no time for each of them
		devs = m.reduceQuestions(devs)
	}
	for {
		devs, minimal = m.reduce(devs)
		smaller := m.fold(devs)
		if smaller == nil {
			smaller = m.shorten(devs)
		}
		if smaller == nil {
			smaller = m.retime(devs)
		}
		if smaller == nil || m.spent() {
			return devs, minimal && !m.spent()
		}
		devs = smaller
	}
}

// reduceQuestions leaves out all answers to some questions, in large groups first: there may be a
// thousand of them for a link whose segments are all late, where no other number of them will do,
// and a hundred questions.
func (m *minimiser) reduceQuestions(devs []deviation) []deviation {
	asked := questionsOf(devs)
	for size := (len(asked) + 1) / 2; size >= 1 && !m.spent(); size = (size + 1) / 2 {
		for from := 0; from < len(asked) && !m.spent(); {
			left := asked[from:min(from+size, len(asked))]
			rest := slices.DeleteFunc(slices.Clone(devs), func(d deviation) bool { return d.answers() && slices.Contains(left, d.question().what) })
			if made, ok := m.try(rest); ok && len(made) < len(devs) {
				devs, asked = made, questionsOf(made)
			} else {
				from += size
			}
		}
		if size == 1 {
			break
		}
	}
	return devs
}

// questionsOf returns the names of the questions that are answered, each once.
func questionsOf(devs []deviation) (asked []string) {
	seen := make(map[string]bool)
	for _, d := range devs {
		if d.answers() && !seen[d.question().what] {
			seen[d.question().what] = true
			asked = append(asked, d.question().what)
		}
	}
	return asked
}

// reduce leaves deviations out, in large groups first, until none can go (minimise 2).
func (m *minimiser) reduce(devs []deviation) (_ []deviation, minimal bool) {
	for size := (len(devs) + 1) / 2; size >= 1 && !m.spent(); {
		smaller := false
		for from := 0; from < len(devs) && !m.spent(); {
			rest := slices.Delete(slices.Clone(devs), from, min(from+size, len(devs)))
			if made, ok := m.try(rest); ok && len(made) < len(devs) {
				devs, smaller = made, true
			} else {
				from += size
			}
		}
		switch {
		case size > 1:
			size = (size + 1) / 2
		case !smaller:
			return devs, true
		}
	}
	return devs, len(devs) == 0
}

// fold looks for one callback that is kept back instead of several picks. It returns nil if it
// finds none.
func (m *minimiser) fold(devs []deviation) []deviation {
	isPick := func(d deviation) bool { return d.rank() == pickRank }
	for i := range devs {
		if !isPick(devs[i]) {
			continue
		}
		for j := len(devs) - 1; j > i && !m.spent(); j = i + (j-i)/2 {
			one := devs[i]
			one.until = max(devs[j].step, devs[j].until) // whichever is the next (schedule 4)
			rest := slices.DeleteFunc(slices.Clone(devs[i+1:j+1]), isPick)
			if len(rest) == j-i {
				break
			}
			guess := slices.Concat(devs[:i], []deviation{one}, rest, devs[j+1:])
			if made, ok := m.try(guess); ok && len(made) < len(devs) {
				return made
			}
		}
	}
	return nil
}

// retime looks for the failure with at most one of the times that are not the usual ones: the
// others may only have let a fault come at the right moment, and there may be such a moment near by
// without them. It returns nil if it finds none.
func (m *minimiser) retime(devs []deviation) []deviation {
	times := only(devs, ofTimes)
	rest := only(devs, ofFaults|ofOrder)
	if len(times) == 0 || len(rest) == 0 {
		return nil
	}
	guess := func(guess []deviation) []deviation {
		if made, ok := m.try(guess); ok && len(made) < len(devs) {
			return made
		}
		return nil
	}
	for i, d := range rest {
		for moved := range d.near(20) {
			if m.spent() {
				return nil
			}
			if found := guess(slices.Concat(rest[:i], []deviation{moved}, rest[i+1:])); found != nil {
				return found
			}
		}
	}
	if len(times) == 1 {
		return nil
	}
	tries := 0
	for _, late := range slices.Backward(times) {
		for i, d := range rest {
			for moved := range d.near(3) {
				for late := range late.near(6) {
					if tries++; tries > 200 || m.spent() {
						return nil
					}
					if found := guess(slices.Concat(rest[:i], []deviation{late, moved}, rest[i+1:])); found != nil {
						return found
					}
				}
			}
		}
	}
	return nil
}

// near iterates over the same answer at other times that its question is asked, the nearest first.
func (d deviation) near(n int) func(func(deviation) bool) {
	return func(yield func(deviation) bool) {
		if !d.answers() {
			return
		}
		for k := 1; k <= 2*n+1; k++ {
			nth := d.question().nth + (k/2)*(1-k%2*2) // +0, +1, -1, +2 and so on
			if nth > 0 && !yield(d.numbered(nth)) {
				return
			}
		}
	}
}

// numbered is the same answer the nth time that its question is asked.
func (d deviation) numbered(nth int) deviation {
	switch {
	case d.fault != nil:
		d.fault = &fault{d.fault.what, nth}
	case d.amount != nil:
		other := *d.amount
		other.nth = nth
		d.amount = &other
	}
	return d
}

// shorten lets callbacks be kept back for fewer steps, as far as halving finds it. It returns nil
// if it does not find anything.
func (m *minimiser) shorten(devs []deviation) (shorter []deviation) {
	for i := 0; i < len(devs); {
		guess := slices.Clone(devs)
		guess[i].until = devs[i].step + (devs[i].until-devs[i].step)/2
		if devs[i].until <= devs[i].step || m.spent() {
			i++
			continue
		}
		if made, ok := m.try(guess); ok && len(made) <= len(devs) && i < len(made) && made[i].until < devs[i].until {
			devs, shorter = made, made
		} else {
			i++
		}
	}
	return shorter
}

// fewest looks for a schedule with fewer deviations than devs (minimise 3).
func (m *minimiser) fewest(devs []deviation) (_ []deviation, proven bool) {
	cancels := slices.ContainsFunc(devs, func(d deviation) bool { return d.cancel != nil })
	faults := slices.ContainsFunc(devs, deviation.answers)
	var found []deviation
	runs, steps := 0, 0
	left := func() int { return min(minimiseRuns-m.runs, fewestRuns-runs) }
	all := m.x.enumerate(m.seed, len(devs)-1, cancels, faults, func(o *outcome) bool {
		runs, steps = runs+1, steps+o.w.step
		m.runs++
		m.steps += o.w.step
		if o.err != nil && kind(o.err) == m.kind {
			found = o.w.devs
			return false
		}
		return !m.spent() && steps < fewestSteps
	}, left, func(n int) bool { return n <= left() && n <= (fewestSteps-steps)*runs/max(steps, 1) })
	if found != nil {
		return found, true // schedules with fewer deviations have been run before
	}
	return devs, all.complete
}

// follow runs a schedule, leaving out deviations that do not fit (schedule 4).
func (x *exploration) follow(seed uint64, devs []deviation) *outcome {
	return x.play(x.following(seed, devs))
}

func (x *exploration) following(seed uint64, devs []deviation) plan {
	return plan{seed: seed, strategy: func(*world) strategy { return newReplay(devs, false) }}
}

// explain makes a Failure from a run that failed.
func (x *exploration) explain(p plan, o *outcome) *Failure {
	f := &Failure{Err: o.err, Seed: p.seed, Run: x.report.Runs, Strategy: p.name, Steps: o.w.step, Found: len(o.w.devs)}
	devs := slices.Clone(o.w.devs)
	switch {
	case o.err == errExited || o.err == errTestFailed:
		f.Minimal = "not minimised, because the test can fail only once: return an error instead of calling t.Error or t.Fatal"
		x.write(f, devs, o)
		return f
	case errors.Is(o.err, ErrNotDeterministic):
		f.Minimal = "not minimised, because another run need not be the same"
		x.write(f, devs, o)
		return f
	case x.strategy.exhaustive:
		f.Minimal = "no schedule with fewer deviations fails"
		m := &minimiser{x: x, seed: p.seed, kind: kind(o.err)}
		if shorter := m.shorten(devs); shorter != nil {
			devs = shorter
		}
	default:
		m := &minimiser{x: x, seed: p.seed, kind: kind(o.err)}
		devs, minimal := m.shrink(devs)
		proven := len(devs) < 2
		if !proven && !m.spent() {
			devs, proven = m.fewest(devs)
		}
		switch {
		case len(devs) == 0:
			f.Minimal = "it needs the seed alone"
			if f.Found == 0 && p.name == inOrder {
				f.Minimal = ""
			}
		case proven:
			f.Minimal = fmt.Sprintf("of %s; no schedule with fewer fails", counted(f.Found, "deviation"))
		case minimal:
			f.Minimal = fmt.Sprintf("of %s; without any one of them it does not fail", counted(f.Found, "deviation"))
		default:
			f.Minimal = fmt.Sprintf("of %s; the attempt to find fewer was given up after %d runs", counted(f.Found, "deviation"), m.runs)
		}
		return x.retrace(f, devs)
	}
	return x.retrace(f, devs)
}

// retrace runs the minimised schedule once more, to describe it.
func (x *exploration) retrace(f *Failure, devs []deviation) *Failure {
	p := x.following(f.Seed, devs)
	p.traced, p.places, p.explains, p.pictured = true, allPlaces, true, true
	o := x.play(p)
	if o.err == nil || kind(o.err) != kind(f.Err) {
		now := "it passes"
		if o.err != nil {
			now = "it fails otherwise: " + o.err.Error()
		}
		f.Err = fmt.Errorf("%w: the schedule of this failure was run again, and %s: %w", ErrNotDeterministic, now, f.Err)
	} else {
		f.Err = o.err
	}
	f.Steps = o.w.step
	x.write(f, o.w.devs, o)
	return f
}

// write fills in the fields that follow from the run.
func (x *exploration) write(f *Failure, devs []deviation, o *outcome) {
	f.Deviations = inWords(devs)
	if o.w.tracer == nil || o.w.tracer.noted != allPlaces { // it has no names for the deviations
		return
	}
	f.describe(devs, o)
	line, _, _ := strings.Cut(f.Err.Error(), "\n")
	s := &schedule{seed: f.Seed, steps: o.w.tracer.len(), failure: line, devs: devs}
	s.trace = o.w.tracer.hash(s.steps)
	if x.tb != nil {
		s.test = x.tb.Name()
	}
	f.Schedule = s.String()
}
