package sim

import (
	"fmt"
	"strings"
)

// Replaying a schedule: a strategy that follows its deviations, to the letter (schedule 3) or as
// far as they fit (schedule 4).

// A replay follows a schedule.
type replay struct {
	devs     []deviation // cancels and picks
	pos      int
	answers  map[fault]deviation
	strict   bool  // replayed to the letter (schedule 3); otherwise a guess (schedule 4)
	mismatch error // why the file does not fit the program (schedule 3)
}

func newReplay(devs []deviation, strict bool) *replay {
	r := &replay{strict: strict}
	for _, d := range devs {
		if !d.answers() {
			r.devs = append(r.devs, d)
			continue
		}
		if r.answers == nil {
			r.answers = make(map[fault]deviation)
		}
		r.answers[d.question()] = d
	}
	return r
}

func (r *replay) cancel(w *world) (target, bool) {
	for r.pos < len(r.devs) && r.devs[r.pos].step < w.step { // only one callback was ready
		d := r.devs[r.pos]
		r.pos++
		if r.strict {
			r.refuse(w, fmt.Errorf("at step %d it has %d ready, and there was one", d.step, d.of))
		}
	}
	if r.pos < len(r.devs) && r.devs[r.pos].step == w.step && r.devs[r.pos].cancel != nil {
		t := *r.devs[r.pos].cancel
		r.pos++
		if _, found := w.find(t); r.strict && !found {
			r.refuse(w, fmt.Errorf("before step %d task %s is to be cancelled, and it is not there", w.step, quote(t.task)))
		}
		return t, true
	}
	return target{}, false
}

func (r *replay) pick(w *world, n int) int {
	if r.pos == len(r.devs) || r.devs[r.pos].step != w.step {
		return w.planned()
	}
	d := r.devs[r.pos]
	r.pos++
	if r.strict && (n != d.of || w.readyName(d.pick) != d.chosen || w.readyName(w.oldest()) != d.first) {
		const most = 4
		now := make([]string, min(n, most))
		for i := range now {
			now[i] = quote(w.readyName(i))
		}
		if n > most {
			now = append(now, fmt.Sprintf("and %d more", n-most))
		}
		r.refuse(w, fmt.Errorf("at step %d it has %d ready, %s the oldest and %s number %d; now there are %s",
			d.step, d.of, quote(d.first), quote(d.chosen), d.pick, strings.Join(now, ", ")))
		return 0
	}
	w.until = d.until
	if d.until > d.step { // whichever is next, if it is a guess
		if next := w.nextAfter(w.oldest()); next >= 0 {
			return next
		}
	}
	if d.pick >= n {
		return w.planned()
	}
	return d.pick
}

func (r *replay) fault(w *world, q *question, _ float64) bool {
	return r.answer(w, q).fault != nil
}

func (r *replay) amount(w *world, q *question, s span) int64 {
	if d := r.answer(w, q); d.amount != nil {
		return d.amount.got
	}
	return s.usual
}

// answer returns the recorded answer to a question, if there is one.
func (r *replay) answer(w *world, q *question) deviation {
	if len(r.answers) == 0 {
		return deviation{}
	}
	at := fault{q.what, q.asked}
	d, ok := r.answers[at]
	if !ok {
		return deviation{}
	}
	delete(r.answers, at)
	if r.strict && d.step != w.step {
		r.refuse(w, fmt.Errorf("%s is at step %d, and was at step %d", quote(q.what), w.step, d.step))
	}
	return d
}

func (r *replay) refuse(w *world, why error) {
	if r.mismatch == nil {
		r.mismatch = fmt.Errorf("%w, which has changed since it was recorded: %w", ErrIncompatible, why)
		w.fail(r.mismatch)
	}
}

// finish checks, after the run, that the schedule was used up and the steps are the recorded ones
// (schedule 3).
func (r *replay) finish(s *schedule, steps int, trace uint64) error {
	missing := -1
	if r.pos < len(r.devs) {
		missing = r.devs[r.pos].step
	}
	for _, d := range r.answers {
		if missing < 0 || d.step < missing {
			missing = d.step
		}
	}
	switch {
	case r.mismatch != nil:
		return r.mismatch
	case missing >= 0:
		return fmt.Errorf("%w, which has changed since it was recorded: it ends after %d steps, and the schedule has something at step %d",
			ErrIncompatible, steps, missing)
	case steps < s.steps || trace != s.trace:
		return fmt.Errorf("%w, which has changed since it was recorded: the schedule can be followed, but the first %d steps are not those that were recorded",
			ErrIncompatible, s.steps)
	}
	return nil
}
