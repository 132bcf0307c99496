package sim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goasyncio/asyncio"
)

// The cause of a failure in words: the deviations, each with the step that it is about and the
// places in the source between which that step ran, and the step that went wrong.

// becauseOf adds to each deviation, in words, where the tasks are that it is about.
func (t *tracer) becauseOf(devs []deviation) []string {
	words := wordsOf(devs, func(i int) string {
		d := devs[i]
		switch at := d.step - 1; {
		case d.answers() && at >= 0 && at < t.len():
			return fmt.Sprintf(" (%s)", t.sentence(at))
		case !d.answers():
			return t.where[d.key()]
		}
		return ""
	})
	for i, line := range words {
		words[i] = t.people(line)
	}
	return words
}

// key identifies a pick or a cancel: a step has at most one of each (schedule 1).
func (d deviation) key() deviationKey { return deviationKey{d.step, d.cancel != nil} }

type deviationKey struct {
	step   int
	cancel bool
}

// sentence describes a step, counted from 0: its task, and from where to where that went.
func (t *tracer) sentence(i int) string {
	e := t.step(i)
	more := t.details(e)
	s := fmt.Sprintf("step %d, %s", i+1, quote(t.people(t.name(e))))
	if more.from != "" {
		s += " from " + more.from
	}
	after := t.after(e)
	for _, r := range []struct{ begin, words string }{
		{"waits in ", " to "}, {"waits at ", " to "}, {"ends cancelled", " to its end, cancelled"}, {"ends", " to its end"},
	} {
		if rest, ok := strings.CutPrefix(after, r.begin); ok {
			return s + r.words + rest
		}
	}
	return s
}

// goesWrong says which step the failure is about, if it is about one: the last one of a task, if
// one has ended with the error, or the one after which something did not hold.
func (t *tracer) goesWrong(o *outcome) string {
	if at := t.wrongStep(o); at > 0 {
		return t.sentence(at - 1)
	}
	return ""
}

// wrongStep returns the number of that step, 0 if there is none.
func (t *tracer) wrongStep(o *outcome) int {
	if errors.Is(o.err, ErrNotDeterministic) {
		return 0
	}
	at := o.w.wrongAt
	if o.w.wrongTask != "" {
		for at = t.len(); at > 0 && t.name(t.step(at-1)) != o.w.wrongTask; at-- {
		}
	}
	if at < 1 || at > t.len() {
		return 0
	}
	return at
}

// explain records where step e, the k-th of those that are ready, begins, and if it was picked out
// of turn, before the first-th, where the two tasks are. Otherwise first is -1.
func (t *tracer) explain(w *world, e *stepTaken, k, first int) {
	l, i := w.ready(k)
	place := t.placeOf(l, i)
	if place != "" {
		t.ownDetails(e).from = lineOf(place)
	}
	if first >= 0 {
		l, i := w.ready(first)
		words := t.placeOf(l, i)
		if place != "" {
			words = strings.TrimPrefix(words+"; "+quote(t.name(e))+" goes on from "+lineOf(place), "; ")
		}
		t.where[deviationKey{w.step, false}] = aside(words)
	}
}

// placeOf returns where the task of a ready callback of l waits: "in asyncio.Sleep at bank.go:31",
// empty if there is no task or it has not begun.
func (t *tracer) placeOf(l *life, i int) (place string) {
	task, _ := l.loop.Task(i)
	if waiting, ok := task.(asyncio.AnyTask); ok && !waiting.Done() {
		place = t.placeOfTask(l, waiting)
	}
	return place
}

func (t *tracer) placeOfTask(l *life, task asyncio.AnyTask) (place string) {
	l.do(func() { place = t.place(l.loop.Calls(task), task) })
	return strings.TrimPrefix(place, "waits ")
}

// lineOf returns the line of the source that a place ends in.
func lineOf(place string) string { return place[strings.LastIndexByte(place, ' ')+1:] }

// aside is a remark behind the name of a task, empty if there is nothing to say.
func aside(place string) string {
	if place == "" {
		return ""
	}
	return " (" + place + ")"
}
