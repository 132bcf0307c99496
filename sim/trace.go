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
	steps  []event
	hashes []uint64 // after each step (P6)

	// causes says for each callback in the ready queue which step made it ready, 0 for time and
	// whatever else is not a step.
	causes  []int
	outside bool // what becomes ready now is not the last step's doing
	task    asyncio.AnyTask
}

// An event is one step.
type event struct {
	name   string
	first  string // the oldest, if that was another
	at     time.Duration
	cause  int // the step that made it ready, 0 if none did
	after  string
	cancel string // the task that was cancelled before it
}

// cause notes that what has become ready is the doing of a step.
func (t *tracer) cause(ready, step int) {
	if t.outside {
		step = 0
	}
	for len(t.causes) < ready {
		t.causes = append(t.causes, step)
	}
}

// endStep notes where the last step has left its task.
func (t *tracer) endStep(w *world) {
	t.cause(w.ready.Len(), w.step)
	t.outside = false
	if t.task == nil || len(t.steps) == 0 {
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
		e.after = waitsAt(task.GetStack())
	}
}

func (t *tracer) beginStep(w *world, k, n int) {
	if k >= n {
		k = 0
	}
	e := event{name: w.ready.Name(k), at: w.now}
	if k > 0 {
		e.first = w.ready.Name(0)
		w.devs[len(w.devs)-1].recorded = &recorded{n, e.name, e.first}
	}
	for i := len(w.devs) - 1; i >= 0 && w.devs[i].step == w.step; i-- {
		if c := w.devs[i].cancel; c != nil {
			e.cancel = c.task
		}
	}
	t.cause(w.ready.Len(), 0) // by the world's own cancel
	e.cause = t.causes[k]
	t.causes = append(t.causes[:k], t.causes[k+1:]...)
	if task, resumes := w.ready.Task(k); resumes {
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

func (e event) String() string {
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
		if i < from && e.first == "" && e.cancel == "" {
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
