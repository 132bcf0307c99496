package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// What the runs of an exploration have reached: which faults happened, and which conditions of
// Sometimes held, how often.

// Sometimes states that cond holds somewhere in an exploration, in at least one of its runs. If it
// does not, [Explore] and [Check] fail: they have not tested what the program's author had in mind.
// name identifies the condition, which is true if any call with that name has a true cond. A place
// that no run reaches makes no call; so call Sometimes with false where every run comes by.
//
//	sim.Sometimes(ctx, "a follower is behind by more than a snapshot", index < snapshot.Index)
//
// [Report.Reached] says how often it held. A single run, of [Run] or a replay, does not fail.
// Sometimes is for the loop only and does not suspend. It panics if ctx does not come from a
// simulation.
func Sometimes(ctx context.Context, name string, cond bool) {
	w := worldOf(ctx, "Sometimes")
	if w.over || w.closing {
		return
	}
	if w.reached == nil {
		w.reached = make(map[string]Tally)
	}
	t := w.reached[name]
	t.Asked++
	if cond {
		t.Times++
	}
	w.reached[name] = t
}

// Reachable notes that a run has come by: [Report.Reached] says how often, and [Guided] goes on
// from such runs. An exploration with the option [MustReach] fails if no run does. Reachable is for
// the loop only and does not suspend. It panics if ctx does not come from a simulation.
func Reachable(ctx context.Context, name string) { Sometimes(ctx, name, true) }

// MustReach makes [Explore] and [Check] fail if no run comes by a [Reachable] with one of these
// names, or a [Sometimes] that is true.
func MustReach(names ...string) Option {
	return Option{func(x *exploration) { x.must = append(x.must, names...) }}
}

// A Tally says how often something happened in the runs of an exploration.
type Tally struct {
	Name  string // for Chaos that of the trouble
	Runs  int    // in which it happened
	Times int    // that it happened, in all runs
	Asked int    // times that it could have happened: calls of Fault or Sometimes with that name
}

// String returns the tally in words. Any goroutine may call it.
func (t Tally) String() string {
	return fmt.Sprintf("%s: %d of %d times, in %s", quote(t.Name), t.Times, t.Asked, counted(t.Runs, "run"))
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// count adds a run to the report.
func (x *exploration) count(w *world) {
	x.report.Runs++
	x.report.Steps += w.step
	faults := make(map[string]Tally)
	for _, q := range w.questions {
		if q.usual || q.asked == 0 {
			continue
		}
		t := faults[q.kind()]
		t.Asked += q.asked
		faults[q.kind()] = t
	}
	for _, d := range w.devs {
		if d.fault != nil || d.amount != nil && !d.amount.usualKind {
			what := w.questions[d.question().what].kind()
			t := faults[what]
			t.Times++
			faults[what] = t
		}
	}
	x.report.Faults = addTallies(x.report.Faults, faults)
	x.report.Reached = addTallies(x.report.Reached, w.reached)
}

// addTallies adds those of a run to sum, which is in the order of names.
func addTallies(sum []Tally, run map[string]Tally) []Tally {
	for name, t := range run {
		i, found := slices.BinarySearchFunc(sum, name, func(t Tally, name string) int { return cmp.Compare(t.Name, name) })
		if !found {
			sum = slices.Insert(sum, i, Tally{Name: name})
		}
		sum[i].Times += t.Times
		sum[i].Asked += t.Asked
		if t.Times > 0 {
			sum[i].Runs++
		}
	}
	return sum
}

// kind returns the name under which a question is in the report.
func (q *question) kind() string {
	if q.trouble != 0 {
		return q.trouble.String()
	}
	return faultKind(q.what)
}

// faultKind returns the name of a fault without its details: of "kv: tear: write log at 512, 8
// bytes" only "kv: tear". Numbers are details too, but not those in names.
func faultKind(what string) string {
	words := strings.Split(what, ": ")
	what = strings.Join(words[:min(len(words), 2)], ": ")
	words = strings.Fields(what)
	for i, word := range words {
		if strings.IndexFunc(word, func(r rune) bool { return !unicode.IsDigit(r) }) < 0 {
			words[i] = "N"
		}
	}
	return strings.Join(words, " ")
}

// unreached is the failure of an exploration in which a condition never held, nil if there is none.
func (x *exploration) unreached() *Failure {
	var never []error
	for _, name := range x.must {
		if !slices.ContainsFunc(x.report.Reached, func(t Tally) bool { return t.Name == name }) {
			never = append(never, fmt.Errorf("%s: no run has come by a sim.Reachable or sim.Sometimes of that name", quote(name)))
		}
	}
	for _, t := range x.report.Reached {
		if t.Times == 0 {
			never = append(never, fmt.Errorf("%s: sim.Sometimes has got false each of %s", quote(t.Name), counted(t.Asked, "time")))
		}
	}
	if never == nil {
		return nil
	}
	err := fmt.Errorf("sim: something was not reached in %s: %w", counted(x.report.Runs, "run"), errors.Join(never...))
	return &Failure{Err: fmt.Errorf("%w\n%s", err, x.report.Coverage), unread: true}
}

// shownTallies is how many faults and conditions a report lists.
const shownTallies = 30

// tallies lists what was reached, for people.
func (r *Report) tallies() string {
	var b strings.Builder
	for _, list := range []struct {
		what string
		all  []Tally
	}{{"fault", r.Faults}, {"reached", r.Reached}} {
		for i, t := range list.all {
			if i == shownTallies {
				fmt.Fprintf(&b, "\nand %d more", len(list.all)-i)
				break
			}
			fmt.Fprintf(&b, "\n%s %v", list.what, t)
		}
	}
	return b.String()
}
