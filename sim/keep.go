package sim

import (
	"math"
	"slices"
)

// What a choice counts: callbacks that are kept back.
//
//	keep 1: A ready callback that a schedule has kept back stays kept back until it runs, or its
//	   life ends. The oldest ready callback that is not kept back runs without a deviation, and so
//	   does each that is kept back: its time may be over at any step. If all that are ready are kept
//	   back, the oldest of them is the oldest.
//	keep 2: Any other choice is one deviation. If it jumps over one callback that is not kept back,
//	   that callback is kept back from then on (until is set). If it jumps over several, they are
//	   not.
//	keep 3: So each sequence of choices has one form as a set of deviations, whichever strategy has
//	   made the choices, and a callback that is kept back for a thousand steps is one of them. (A
//	   bound on these is the delay bound of Emmi, Qadeer and Rakamarić, "Delay-Bounded Scheduling",
//	   2011, except that a delay lasts as long as it needs to.)
//	keep 4: until is the last step at which the callback was kept back: it runs in the next, or the
//	   run has ended, or its host has. A replay lets it run then, even if others are older.

//	keep 5: Schedules are fair, so that none is found that lets a task spin and starves the one it
//	   spins for. A guess keeps a callback back for maxKept steps at most. And when half of the
//	   steps have been made that StepLimit allows without the clock moving, the rest runs first in,
//	   first out, whatever is kept back and whatever the strategy says, until the clock moves. That
//	   takes no deviation (keep 1). What is a livelock then is one.

// maxKept is how long the end of a callback that is kept back is looked for.
const maxKept = 256

// mustBeFair reports whether the next step is to be the oldest callback, to be fair (keep 5).
func (w *world) mustBeFair() bool { return w.step-w.stillFrom >= w.limits.still/2 }

// forever is the until of a callback that is kept back while anything else is ready.
const forever = math.MaxInt

// A keptBack is a callback that is kept back. It stays at its place in its loop's queue, because
// only picks take anything out of that.
type keptBack struct {
	pos int // in the queue
	dev int // in the world's devs
}

// notKept returns the first of the ready callbacks of l that is not kept back, -1 if there is none.
func (l *life) notKept() int {
	p := 0
	for _, k := range l.kept {
		if k.pos == p {
			p++
		}
	}
	if p < l.n {
		return p
	}
	return -1
}

// isKept reports whether the callback at pos is kept back.
func (l *life) isKept(pos int) bool {
	for _, k := range l.kept {
		if k.pos == pos {
			return true
		}
	}
	return false
}

// oldest returns the ready callback that runs without a deviation (keep 1).
func (w *world) oldest() int {
	if w.keeps == 0 {
		return 0
	}
	base := 0
	for _, l := range w.able {
		if p := l.notKept(); p >= 0 {
			return base + p
		}
		base += l.n
	}
	return 0
}

// nextAfter returns the next ready callback behind i that is not kept back, -1 if there is none.
func (w *world) nextAfter(i int) int {
	base := 0
	for _, l := range w.able {
		for p := max(0, i+1-base); p < l.n; p++ {
			if !l.isKept(p) {
				return base + p
			}
		}
		base += l.n
	}
	return -1
}

// planned returns the callback that is next by the deviations made so far: one whose time is over
// (keep 4), or else the oldest.
func (w *world) planned() int {
	if w.keeps == 0 {
		return 0
	}
	base := 0
	for _, l := range w.able {
		for _, k := range l.kept {
			if k.pos >= l.n {
				break
			}
			switch d := &w.devs[k.dev]; {
			case d.until < w.step:
				return base + k.pos
			case d.until == forever && w.step-d.step > maxKept:
				w.fair = true
				return base + k.pos
			}
		}
		base += l.n
	}
	return w.oldest()
}

// account records the choice k of a strategy, of several ready callbacks, if it is a deviation
// (keep 2). It returns the callback that would have run without it, -1 if it is none.
func (w *world) account(k int) int {
	first := w.oldest()
	if k == first {
		return -1
	}
	if l, i := w.ready(k); l.isKept(i) {
		return -1
	}
	d := deviation{step: w.step, pick: k}
	if l, i := w.ready(first); !l.isKept(i) && w.nextAfter(first) == k {
		d.until = max(w.until, w.step)
		at := 0
		for at < len(l.kept) && l.kept[at].pos < i {
			at++
		}
		l.kept = append(l.kept, keptBack{})
		copy(l.kept[at+1:], l.kept[at:])
		l.kept[at] = keptBack{i, len(w.devs)}
		w.keeps++
	}
	w.devs = append(w.devs, d)
	return first
}

// take notes that l runs the callback at pos.
func (w *world) take(l *life, pos int) {
	if len(l.kept) == 0 {
		return
	}
	rest := l.kept[:0]
	for _, k := range l.kept {
		switch {
		case k.pos == pos:
			w.devs[k.dev].until = w.step - 1
			w.keeps--
			continue
		case k.pos > pos:
			k.pos--
		}
		rest = append(rest, k)
	}
	l.kept = rest
}

// forget ends what is kept back in a life that has ended.
func (w *world) forget(l *life) {
	for _, k := range l.kept {
		w.devs[k.dev].until = min(w.devs[k.dev].until, w.step)
		w.keeps--
	}
	l.kept = nil
}

// forgetAll does that when the run has ended.
func (w *world) forgetAll() {
	for i := range w.devs {
		if w.devs[i].until > w.step {
			w.devs[i].until = w.step
		}
	}
}

// overtakes notes, for people, that the callback name runs while others are kept back.
func (w *world) overtakes(name string) {
	if w.keeps == 0 {
		return
	}
	for _, l := range w.able {
		for _, k := range l.kept {
			if r := w.devs[k.dev].recorded; r != nil && !slices.Contains(r.ran, name) {
				r.ran = append(r.ran, name)
			}
		}
	}
}
