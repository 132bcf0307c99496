package sim

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A tracer notes what each step of a run is. It costs too much to be always on: a run that is to be explained is
// replayed with one (W2).
type tracer struct {
	steps  []stepTaken
	hashes []uint64        // after each step (P6)
	task   asyncio.AnyTask // that the last step went on with
}

// A stepTaken is one step.
type stepTaken struct {
	name   string
	first  string // the oldest, if that was another
	at     time.Duration
	cause  int // the step that made it ready, 0 if none did
	after  string
	cancel string   // the task that was cancelled before it
	faults []string // that happened in it, or behind it
}

// endStep notes where the last step has left its task.
func (t *tracer) endStep(w *world) {
	if l := w.turn; l.state != gone {
		if l.outside {
			l.note(0)
		} else {
			l.note(w.step)
		}
		l.outside = false
	}
	if t.task == nil {
		return
	}
	task := t.task
	t.task = nil
	e := &t.steps[len(t.steps)-1]
	switch {
	case task.Cancelled():
		e.after = "ends cancelled"
	case task.Done():
		e.after = "ends"
	default:
		w.turn.do(func() { e.after = waitsAt(task.GetStack()) })
	}
}

// beginStep notes that the step is callback i of l, the k-th of n that are ready.
func (t *tracer) beginStep(w *world, l *life, i, k, n int) {
	e := stepTaken{name: w.readyName(k), at: w.now}
	if k > 0 {
		e.first = w.readyName(0)
		w.devs[len(w.devs)-1].recorded = &recorded{n, e.name, e.first}
	}
	for d := len(w.devs) - 1; d >= 0 && w.devs[d].step == w.step; d-- {
		if c := w.devs[d].cancel; c != nil {
			e.cancel = c.task
		}
	}
	l.note(0) // by the world's own cancel
	e.cause = l.causes[i]
	l.causes = append(l.causes[:i], l.causes[i+1:]...)
	l.outside = false
	if task, resumes := l.loop.Task(i); resumes {
		t.task = task.(asyncio.AnyTask)
	}
	t.steps = append(t.steps, e)
	h := fnv.New64a()
	if len(t.hashes) > 0 {
		_, _ = h.Write(strconv.AppendUint(nil, t.hashes[len(t.hashes)-1], 16))
	}
	_, _ = h.Write([]byte(e.name + "\x00" + strconv.FormatInt(int64(e.at), 10) + "\n"))
	t.hashes = append(t.hashes, h.Sum64())
}

// fault notes that one has happened.
func (t *tracer) fault(what string) {
	if n := len(t.steps); n > 0 {
		t.steps[n-1].faults = append(t.steps[n-1].faults, what)
	}
}

// hash is the hash after so many steps, 0 if there were fewer.
func (t *tracer) hash(steps int) uint64 {
	if steps < 1 || steps > len(t.hashes) {
		return 0
	}
	return t.hashes[steps-1]
}

// differ compares the traces of two runs that should be the same.
func (t *tracer) differ(u *tracer) error {
	for i := range max(len(t.steps), len(u.steps)) {
		a, b := t.line(i), u.line(i)
		if a == b {
			continue
		}
		s := fmt.Sprintf("at step %d the first has\n\t%s\nand the second\n\t%s", i+1, a, b)
		if i > 0 {
			s += fmt.Sprintf("\nafter both had\n\t%s", t.line(i-1))
		}
		return fmt.Errorf("%w: two runs with the same seed differ: %s\nSomething other than the seed has a say: "+
			"the order of a map, select, time.Now, a goroutine, random numbers that are not asyncio.Rand's, or a variable that is left from the run before", ErrNotDeterministic, s)
	}
	return nil
}

func (t *tracer) line(i int) string {
	if i >= len(t.steps) {
		return "ended"
	}
	return t.steps[i].String()
}

func (e stepTaken) String() string {
	return strings.TrimRight(fmt.Sprintf("%-10v %-20s %-48s", e.at, e.name, e.after), " ")
}

// shownSteps bounds what is printed of a trace.
const shownSteps = 60

// text is the trace for people: the last steps, and all deviations.
func (t *tracer) text() string {
	var b strings.Builder
	from := max(0, len(t.steps)-shownSteps)
	fmt.Fprintf(&b, "%6s  %-10s %-20s %-52s  %s\n", "step", "time", "what", "then it", "because of")
	skipped := 0
	for i, e := range t.steps {
		if i < from && e.first == "" && e.cancel == "" && len(e.faults) == 0 {
			skipped++
			continue
		}
		if skipped > 0 {
			fmt.Fprintf(&b, "%6s  (%d steps)\n", "...", skipped)
			skipped = 0
		}
		if e.cancel != "" {
			fmt.Fprintf(&b, "%6s  %-10v task %s is cancelled\n", "*", e.at, quote(e.cancel))
		}
		mark := ""
		if e.first != "" {
			mark = "*"
		}
		why := "time"
		switch {
		case i == 0:
			why = "Run"
		case e.cause > 0:
			why = "step " + strconv.Itoa(e.cause)
		}
		if e.first != "" {
			why += ", before " + quote(e.first)
		}
		fmt.Fprintf(&b, "%6s  %-10v %-20s %-52s  %s\n", mark+strconv.Itoa(i+1), e.at, e.name, e.after, why)
		for _, what := range e.faults {
			fmt.Fprintf(&b, "%6s  %-10v fault: %s\n", "*", e.at, what)
		}
	}
	return b.String()
}

const (
	rootPackage = "github.com/goasyncio/asyncio."
	simPackage  = "github.com/goasyncio/asyncio/sim."
)

// isLibrary reports whether f is a function of the library or below it.
func isLibrary(f runtime.Frame) bool {
	for _, p := range []string{rootPackage, simPackage, "github.com/goasyncio/asyncio/internal/", "iter.", "runtime."} {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return false
}

// place is a frame for people: the same on every machine.
func place(f runtime.Frame) string {
	return fmt.Sprintf("%s at %s:%d", shortName(f), filepath.Base(f.File), f.Line)
}

func shortName(f runtime.Frame) string {
	return f.Function[strings.LastIndexByte(f.Function, '/')+1:]
}

// waitsAt says where a suspended task is: the innermost place that is the program's, and what of the library it calls there.
func waitsAt(frames []runtime.Frame) string {
	called := ""
	for _, f := range frames {
		if isLibrary(f) {
			called = shortName(f)
			continue
		}
		where := fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		if called == "" {
			return "waits at " + where
		}
		return fmt.Sprintf("waits in %s at %s", called, where)
	}
	return ""
}
