package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/goasyncio/asyncio"
)

// A tracer records each step of a run. That costs time and memory, so only runs that are to be
// compared or explained have one (world 2).
type tracer struct {
	blocks  [][]stepTaken     // of blockSize each, except the last: so no step is ever copied
	names   []string          // of steps, each once
	numbers map[string]uint32 // of names
	recent  [16]uint32        // numbers of recently used names
	more    []*details        // of steps that have any; the first is that of all others
	task    asyncio.AnyTask   // the task that the last step continued

	places map[uint64]string    // where tasks wait, by the hash of the calls there
	calls  map[uint64][]uintptr // the calls, where the words are not needed yet
	asked  []asked              // what goroutines have asked for, in a bubble
	data   []datum              // what was sent, stored and said
	// words about a pick or a cancel: where the tasks are that it is about
	where map[deviationKey]string
	hosts map[string]string // names, by address

	noted   placesNoted // at which steps the places are recorded
	picture *picture    // nil: none is made
	// also where each step begins, and where those are that a deviation is about
	explains bool

	sameShape bool // bytes do not enter the hash of the data
}

// placesNoted says at which steps a tracer records where the task waits then. To look at a task
// costs ten times what a step does.
type placesNoted uint8

const (
	noPlaces placesNoted = iota
	// at the first steps, and some of the others: enough to see that two runs wait at different
	// places
	somePlaces
	allPlaces // for people
)

// at reports whether the place is recorded at a step.
func (p placesNoted) at(step int) bool {
	return p == allPlaces || p == somePlaces && (step <= 2 || step%16 == 0)
}

func newTracer(noted placesNoted) *tracer {
	return &tracer{numbers: make(map[string]uint32), more: []*details{{}}, places: make(map[uint64]string), calls: make(map[uint64][]uintptr), where: make(map[deviationKey]string), hosts: make(map[string]string), noted: noted}
}

const blockSize = 4096

// A stepTaken is one step. It has no pointers, so the garbage collector skips it.
type stepTaken struct {
	at    time.Duration
	name  uint32 // in names
	more  uint32 // in more
	cause int    // the step that made it ready, 0 if none did
	place uint64 // where its task then waits, in calls; 0 if that was not recorded
}

// details holds the data that few steps have.
type details struct {
	first  string // the oldest callback, if another was picked
	from   string // the line from which the task went on
	after  string
	cancel string // the task that was cancelled before it
	notes  []note // events in the step, or between it and the next
}

// A note is a line of the trace: a fault, or a remark of the program or the test.
type note struct {
	text  string
	fault bool
}

// len returns the number of steps.
func (t *tracer) len() int {
	n := len(t.blocks)
	if n == 0 {
		return 0
	}
	return (n-1)*blockSize + len(t.blocks[n-1])
}

// step returns a step, counted from 0.
func (t *tracer) step(i int) *stepTaken { return &t.blocks[i/blockSize][i%blockSize] }

// last returns the last step, nil if there is none.
func (t *tracer) last() *stepTaken {
	n := t.len()
	if n == 0 {
		return nil
	}
	return t.step(n - 1)
}

func (t *tracer) add(e stepTaken) {
	n := len(t.blocks)
	if n == 0 || len(t.blocks[n-1]) == blockSize {
		t.blocks = append(t.blocks, make([]stepTaken, 0, blockSize))
		n++
	}
	t.blocks[n-1] = append(t.blocks[n-1], e)
}

// number returns the number of a name.
func (t *tracer) number(name string) uint32 {
	if name == "" {
		return t.find(name)
	}
	recent := &t.recent[(len(name)+int(name[len(name)-1]))%len(t.recent)]
	if n := *recent; n < uint32(len(t.names)) && t.names[n] == name {
		return n
	}
	*recent = t.find(name)
	return *recent
}

func (t *tracer) find(name string) uint32 {
	n, ok := t.numbers[name]
	if !ok {
		n = uint32(len(t.names))
		t.names = append(t.names, name)
		t.numbers[name] = n
	}
	return n
}

func (t *tracer) name(e *stepTaken) string { return t.names[e.name] }

// details returns the details of e, for reading only: all steps without details share one value.
func (t *tracer) details(e *stepTaken) *details { return t.more[e.more] }

// ownDetails returns the details of e, for adding to.
func (t *tracer) ownDetails(e *stepTaken) *details {
	if e.more == 0 {
		e.more = uint32(len(t.more))
		t.more = append(t.more, new(details))
	}
	return t.more[e.more]
}

// deviates reports whether the step deviates from first in, first out without faults.
func (d *details) deviates() bool {
	return d.first != "" || d.cancel != "" || slices.ContainsFunc(d.notes, func(n note) bool { return n.fault })
}

// endStep records where the last step has left its task.
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
	e := t.last()
	switch {
	case task.Done():
		t.ownDetails(e).after = "ends"
		if task.Cancelled() {
			t.ownDetails(e).after = "ends cancelled"
		}
		t.addDatum(datum{kind: anEnd, what: ending(task)}, nil)
	case t.noted == allPlaces:
		w.turn.do(func() { t.ownDetails(e).after = t.place(w.turn.loop.Calls(task), task) })
	case t.noted.at(w.step):
		w.turn.do(func() {
			calls := w.turn.loop.Calls(task)
			e.place = hashOfCalls(calls)
			t.calls[e.place] = calls
		})
	}
}

// place returns where task waits, in these calls. To find out their lines and functions takes much
// longer than a step, and there are few places, so each is looked up once.
func (t *tracer) place(calls []uintptr, task asyncio.AnyTask) string {
	h := hashOfCalls(calls)
	place, ok := t.places[h]
	if !ok {
		place = waitsAt(task.GetStack())
		t.places[h] = place
	}
	return place
}

func hashOfCalls(calls []uintptr) uint64 {
	h := fnv.New64a()
	var buf [8]byte
	for _, pc := range calls {
		_, _ = h.Write(binary.NativeEndian.AppendUint64(buf[:0], uint64(pc)))
	}
	return h.Sum64()
}

// after returns where the task of e waits behind that step, or that it has ended, as far as that
// was recorded.
func (t *tracer) after(e *stepTaken) string {
	if calls, ok := t.calls[e.place]; ok {
		return waitsAt(slices.Collect(framesOf(calls)))
	}
	return t.details(e).after
}

// beginStep records that the step is callback i of l, the k-th of n ready ones. first would have
// run without a deviation at this step; it is -1 if there is none.
func (t *tracer) beginStep(w *world, l *life, i, k, n, first int) {
	name := w.readyName(k)
	e := &stepTaken{at: w.now, name: t.number(name)}
	if first >= 0 && t.noted == allPlaces {
		t.ownDetails(e).first = w.readyName(first)
		w.devs[len(w.devs)-1].recorded = &recorded{of: n, chosen: name, first: t.ownDetails(e).first}
	}
	w.overtakes(name)
	for d := len(w.devs) - 1; d >= 0 && w.devs[d].step == w.step; d-- {
		if c := w.devs[d].cancel; c != nil {
			t.ownDetails(e).cancel = c.task
		}
	}
	if t.explains {
		t.explain(w, e, k, first)
	}
	l.note(0) // made ready by the world's own cancel
	e.cause = l.causes[i]
	copy(l.causes[i:], l.causes[i+1:])
	l.causes = l.causes[:len(l.causes)-1]
	l.outside = false
	if task, resumes := l.loop.Task(i); resumes {
		t.task = task.(asyncio.AnyTask)
	}
	t.add(*e)
}

// note adds a line behind the last step, and behind the earlier notes of that step.
func (t *tracer) note(n note) {
	if t.picture != nil {
		t.picture.note(n)
	}
	if e := t.last(); e != nil {
		d := t.ownDetails(e)
		d.notes = append(d.notes, n)
		if !n.fault {
			t.addDatum(datum{kind: aNote, what: n.text}, nil)
		}
	}
}

// hash returns the hash of the first steps (schedule 6), 0 if there are fewer.
func (t *tracer) hash(steps int) uint64 {
	if steps < 1 || steps > t.len() {
		return 0
	}
	h := fnv.New64a()
	var line []byte
	for i := range steps {
		e := t.step(i)
		line = append(append(line[:0], t.name(e)...), 0)
		line = append(strconv.AppendInt(line, int64(e.at), 10), '\n')
		_, _ = h.Write(line)
	}
	return h.Sum64()
}

// differ compares two runs that should be the same; with shape it leaves the bytes of data out
// (data 2).
func (t *tracer) differ(u *tracer, shape bool) error {
	at := 0
	for at < min(t.len(), u.len()) {
		e, f := t.step(at), u.step(at)
		if e.at != f.at || t.name(e) != u.name(f) || e.place != f.place || t.details(e).after != u.details(f).after {
			break
		}
		at++
	}
	d, e := t.dataDiffers(u, shape)
	if in := stepOf(d, e); in >= 0 && in <= at { // data 3
		return dataDiffer(t, d, e, in)
	}
	if at == max(t.len(), u.len()) {
		return nil
	}
	s := fmt.Sprintf("at step %d the first has\n\t%s\nand the second\n\t%s", at+1, t.line(at), u.line(at))
	if at > 0 {
		s += fmt.Sprintf("\nafter both had\n\t%s", t.line(at-1))
	}
	why := t.swapped(u, at)
	if why == "" && at < min(t.len(), u.len()) && t.name(t.step(at)) == u.name(u.step(at)) && t.step(at).at != u.step(at).at {
		why = "The times differ: one is computed from time.Now, or from random numbers that are not asyncio.Rand's"
	}
	return notTheSame(s+t.askedOtherwise(u), why)
}

// dataDiffer is the failure of two runs that differ in a datum, behind step in.
func dataDiffer(t *tracer, d, e *datum, in int) error {
	s := fmt.Sprintf("the first has\n\t%s\nand the second\n\t%s", d.shown(), e.shown())
	if in > 0 {
		s = t.sentence(in-1) + ": " + s
	}
	return notTheSame(s, suspects(d, e))
}

// notTheSame says how two runs differ, and why, if that is known.
func notTheSame(how, why string) error {
	if why == "" {
		why = otherThanTheSeed
	}
	if others := outsiders(); others != "" {
		why += ".\nAlso " + others
	}
	return fmt.Errorf("%w: two runs with the same seed differ: %s\n%s", ErrNotDeterministic, how, why)
}

const otherThanTheSeed = "Something other than the seed has a say: the order of a map, select, time.Now, a goroutine, timers of package time that are due at one moment, random numbers that are not asyncio.Rand's, " +
	"or a variable that is left from the run before"

func (t *tracer) line(i int) string {
	if i >= t.len() {
		return "ended"
	}
	e := t.step(i)
	return strings.TrimRight(fmt.Sprintf("%-10v %-20s %-48s", e.at, t.name(e), t.after(e)), " ")
}

// shownSteps is how many steps of a trace a failure shows at most.
const shownSteps = 60

// text returns the trace for people: the last shown steps, and all deviations with a few steps
// around each.
func (t *tracer) text(shown int) string {
	rows := table{{"step", "time", "what", "then it", "because of"}}
	around := t.around()
	from := max(0, t.len()-shown)
	skipped := 0
	data := t.data
	for i := range t.len() {
		e := t.step(i)
		more := t.details(e)
		for len(around) > 1 && i > around[0]+stepsAround {
			around = around[1:]
		}
		near := len(around) > 0 && i >= around[0]-stepsAround && i <= around[0]+stepsAround
		if i < from && !near && !more.deviates() && len(more.notes) == 0 {
			skipped++
			continue
		}
		if skipped > 0 {
			rows = append(rows, []string{"...", fmt.Sprintf("(%d steps)", skipped)})
			skipped = 0
		}
		at := e.at.String()
		if more.cancel != "" {
			rows = append(rows, []string{"*", at, "task " + quote(t.people(more.cancel)) + " is cancelled"})
		}
		mark, why := "", "time"
		switch {
		case i == 0:
			why = "Run"
		case e.cause > 0:
			why = "step " + strconv.Itoa(e.cause)
		}
		if more.first != "" {
			mark = "*"
			why += ", before " + quote(t.people(more.first))
		}
		rows = append(rows, []string{mark + strconv.Itoa(i+1), at, t.people(t.name(e)), t.after(e), why})
		for len(data) > 0 && data[0].step <= i {
			data = data[1:]
		}
		for ; len(data) > 0 && data[0].step == i+1; data = data[1:] {
			if data[0].kind == aMessage {
				rows = append(rows, []string{"", at, data[0].msg.String()})
			}
		}
		for _, n := range more.notes {
			mark, text := "", strings.ReplaceAll(n.text, "\n", " ")
			if n.fault {
				mark, text = "*", "fault: "+text
			}
			rows = append(rows, []string{mark, at, text})
		}
	}
	return rows.String()
}

// stepsAround is how many steps are shown before and after a deviation, unless there are many of
// them: then the schedule is not minimal, and its reader needs no detail.
const (
	stepsAround    = 3
	fewEnoughForIt = 20
)

// around returns the numbers of the steps that deviate, none if they are many.
func (t *tracer) around() []int {
	var all []int
	for i := range t.len() {
		if e := t.step(i); e.more != 0 && t.details(e).deviates() {
			if all = append(all, i); len(all) > fewEnoughForIt {
				return nil
			}
		}
	}
	return all
}

// A table has rows of cells. The last cell of a row may be longer than its column.
type table [][]string

func (rows table) String() string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		last := len(row) - 1
		for i, cell := range row {
			pad := ""
			if i == 0 || i < last {
				pad = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			}
			switch {
			case i == 0:
				b.WriteString("  " + pad + cell)
			case i == last:
				b.WriteString("  " + cell)
			default:
				b.WriteString("  " + cell + pad)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const (
	rootPackage = "github.com/goasyncio/asyncio."
	simPackage  = "github.com/goasyncio/asyncio/sim."
)

// isLibrary reports whether f is a function of the library or of a package below it.
func isLibrary(f runtime.Frame) bool {
	for _, p := range []string{rootPackage, simPackage, "github.com/goasyncio/asyncio/internal/", "iter.", "runtime."} {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return false
}

// isInlined reports whether f is a function literal of the library that was compiled into a
// function of the program, as an iterator is. Its name is then the program function's, and only its
// file says where it comes from.
func isInlined(f runtime.Frame) bool {
	dir, root := path.Dir(f.File), libraryDir()
	return (dir == root || dir == root+"/sim") && !strings.HasSuffix(f.File, "_test.go")
}

// libraryDir is the directory of the root package, as frames name it.
var libraryDir = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return path.Dir(path.Dir(file))
})

// place is a frame for people: the same on every machine.
func place(f runtime.Frame) string {
	return fmt.Sprintf("%s at %s:%d", shortName(f), filepath.Base(f.File), f.Line)
}

// placesIn returns the places of the program in a stack recorded at a panic, innermost first.
func placesIn(stack []byte) string {
	const most = 8
	var b strings.Builder
	lines := strings.Split(string(stack), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") {
			lines = lines[min(i+2, len(lines)):]
			break
		}
	}
	n := 0
	for i := 0; i+1 < len(lines) && n < most; i++ {
		at, ok := strings.CutPrefix(lines[i+1], "\t")
		if !ok || strings.HasPrefix(lines[i], "created by ") {
			continue
		}
		at, _, _ = strings.Cut(at, " ")
		colon := strings.LastIndexByte(at, ':')
		args := strings.LastIndexByte(lines[i], '(')
		if colon < 0 || args < 0 {
			continue
		}
		f := runtime.Frame{Function: lines[i][:args], File: at[:colon]}
		f.Line, _ = strconv.Atoi(at[colon+1:])
		if !isLibrary(f) && !isInlined(f) {
			fmt.Fprintf(&b, "\t%s\n", place(f))
			n++
		}
	}
	return b.String()
}

func shortName(f runtime.Frame) string {
	return f.Function[strings.LastIndexByte(f.Function, '/')+1:]
}

// waitsAt returns where a suspended task is: the innermost place in the program, and the library
// function that it calls there.
func waitsAt(frames []runtime.Frame) string {
	called := ""
	for _, f := range frames {
		if isLibrary(f) {
			called = shortName(f)
			continue
		}
		if isInlined(f) {
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
