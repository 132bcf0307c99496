package sim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Questions: what a run asks its strategy, besides which callback is next.
//
//	question 1: A question has a name, which says what happens and where. It is asked whether that
//	   happens now, or how much of something there is now: how long a segment takes, where it
//	   ends, how long a host pauses. An answer is identified by the name and by how often that
//	   name was asked for, not by its step: removing one deviation moves the steps of the rest.
//	question 2: In the order of production nothing happens, and every amount is the usual one.
//	   Every other answer is a deviation, and is recorded.
//	question 3: A question is counted whatever the answer is, and even where the answer would make
//	   no difference. So one fault less does not change the numbers of the others.
//	question 4: A random answer is a function of the seed, the name and the number: no state is
//	   kept, and no answer changes the next ones.
//	question 5: Amounts are recorded as numbers, and put in words when they are shown. There may
//	   be one for each packet.
type question struct {
	what  string
	unit  unit // of an amount
	asked int  // how often
	usual bool // it is about an amount of everyday life, and no fault

	trouble Trouble // of chaos, 0 for none
	base    uint64  // of random answers, 0 before the first
}

// A unit is the unit of an amount.
type unit uint8

const (
	inTime unit = iota
	inBytes
	inPPM // parts per million, of a rate
)

// text writes an amount as parse reads it.
func (u unit) text(amount int64) string {
	switch u {
	case inBytes:
		return strconv.FormatInt(amount, 10) + "B"
	case inPPM:
		return strconv.FormatInt(amount, 10) + "ppm"
	}
	return time.Duration(amount).String()
}

// words is the text for people.
func (u unit) words(amount int64) string {
	switch u {
	case inBytes:
		return counted(int(amount), "byte")
	case inPPM:
		return strconv.FormatFloat(1+float64(amount)/1e6, 'f', -1, 64)
	}
	return time.Duration(amount).String()
}

func parseAmount(text string) (int64, unit, error) {
	u := inTime
	number, found := strings.CutSuffix(text, "ppm")
	if found {
		u = inPPM
	} else if number, found = strings.CutSuffix(text, "B"); found {
		u = inBytes
	}
	if found {
		n, err := strconv.ParseInt(number, 10, 64)
		return n, u, err
	}
	d, err := time.ParseDuration(text)
	return int64(d), u, err
}

// An amount stands for the nth time that the amount named by what is asked for: it is got instead
// of the usual one.
type amount struct {
	fault
	got, usual int64
	unit       unit
	usualKind  bool // as the question says, unless it is read from a file
}

func (a *amount) String() string {
	s := a.what + " " + a.unit.words(a.got)
	if a.usual != 0 {
		s += " instead of " + a.unit.words(a.usual)
	}
	return s
}

// line writes an amount into a schedule (schedule 5).
func (a *amount) line(step int) string {
	return fmt.Sprintf("amount %d %q %d %s not %s\n", step, a.what, a.nth, a.unit.text(a.got), a.unit.text(a.usual))
}

func parseAmountLine(rest string) (d deviation, err error) {
	a := new(amount)
	var got, usual string
	if _, err = fmt.Sscanf(rest, "%d %q %d %s not %s", &d.step, &a.what, &a.nth, &got, &usual); err != nil {
		return d, err
	}
	if a.got, a.unit, err = parseAmount(got); err != nil {
		return d, err
	}
	var of unit
	if a.usual, of, err = parseAmount(usual); err != nil {
		return d, err
	}
	if of != a.unit || a.got == a.usual || a.nth < 1 {
		return d, errors.New("that is no deviation")
	}
	d.amount = a
	return d, nil
}

// A span says which amounts there may be. The usual one need not lie in it.
type span struct {
	usual       int64
	least, most int64   // evenly distributed
	p           float64 // of another amount than the usual one; moods have their own
	signed      bool    // it may also be negative
	tried       int64   // by Exhaustive, instead of the usual one
}

// dice are the random numbers of one answer (question 4).
type dice uint64

func (w *world) dice(q *question) dice {
	if q.base == 0 {
		a, b := driver.Derive(w.seed, "sim "+q.what)
		q.base = a ^ b | 1
	}
	return dice(q.base + uint64(q.asked)*0x9e3779b97f4a7c15)
}

// next is splitmix64.
func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// float returns a number from 0 to 1, and never 1.
func (d *dice) float() float64 { return float64(d.next()>>11) / (1 << 53) }

// between returns a number from least to most.
func (d *dice) between(least, most int64) int64 {
	return least + int64(d.next()%uint64(most-least+1))
}

// question returns the question of that name.
func (w *world) question(what string, u unit) *question {
	q := w.questions[what]
	if q == nil {
		q = &question{what: what, unit: u}
		w.questions[what] = q
	}
	return q
}

// fault reports whether the fault named by what, of probability p, happens now.
func (w *world) fault(what string, p float64) bool {
	return p > 0 && w.happens(w.question(what, inTime), p)
}

// amount describes an answer.
func (q *question) amount(got, usual int64) *amount {
	return &amount{fault: fault{q.what, q.asked}, got: got, usual: usual, unit: q.unit, usualKind: q.usual}
}

// isCalm reports whether there are no deviations any more.
func (w *world) isCalm() bool { return w.over || w.closing || w.calm }

// ask counts a question.
func (w *world) ask(q *question) {
	w.acts()
	q.asked++
	w.course.questions++
	if q.trouble != 0 {
		w.course.asked[q.trouble.index()]++
	}
}

// happens asks whether something happens now. What has the probability 1 is no question.
func (w *world) happens(q *question, p float64) bool {
	if w.isCalm() {
		return false
	}
	if p >= 1 {
		return true
	}
	w.ask(q)
	if w.lists {
		w.asked = append(w.asked, deviation{step: w.step, fault: &fault{q.what, q.asked}})
	}
	if !w.strategy.fault(w, q, p) {
		return false
	}
	w.devs = append(w.devs, deviation{step: w.step, fault: &fault{q.what, q.asked}})
	if w.tracer != nil {
		w.tracer.note(note{q.what, true})
	}
	return true
}

// amount asks how much of something there is now.
func (w *world) amount(q *question, s span) int64 {
	if w.over || w.closing {
		return s.usual
	}
	w.ask(q)
	if w.lists && s.tried != s.usual {
		w.asked = append(w.asked, deviation{step: w.step, amount: q.amount(s.tried, s.usual)})
	}
	got := w.strategy.amount(w, q, s)
	if got == s.usual {
		return got
	}
	a := q.amount(got, s.usual)
	w.devs = append(w.devs, deviation{step: w.step, amount: a})
	if w.tracer != nil {
		w.tracer.note(note{a.String(), true})
	}
	return got
}
