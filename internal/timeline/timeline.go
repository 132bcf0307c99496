// Package timeline has the model of what happened in a run, and ways to show it: a page for
// browsers ([Timeline.WriteHTML]), Perfetto's format ([Timeline.WritePerfetto]) and Chrome's
// ([Timeline.WriteChrome]). Package sim fills it from a simulated run, the flight recorder from a
// window of a real one.
package timeline

import (
	"fmt"
	"time"
)

// A Timeline is what happened in a run, or in a window of it. Its parts refer to each other by
// their indices in its slices; [None] refers to nothing. It is plain data, which one goroutine
// fills; after that any number of them may write it.
//
//	timeline 1: Times are from the beginning of the run or window. What is older than the window
//	   has time 0, and what was not over at its end has the end Open.
//	timeline 2: Steps are in the order in which they began. The order is what counts: in a
//	   simulation, where the clock stands still while anything can run, many have the same time,
//	   and take none.
//	timeline 3: A task that is there, from Begin to End, is in one of three states, and its track
//	   shows which: it runs during its steps; it waits during its waits, which end when it is
//	   woken; and it is ready between that and its next step.
//	timeline 4: Whatever happened in a step names that step. Its time is then only more exact.
//	timeline 5: A program that ends and begins again is another process of the same name.
//	timeline 6: A text may be anything: control characters, quotes, tags, invalid UTF-8. The
//	   writers see to it.
type Timeline struct {
	Title     string
	Text      string    // what one reads first: why a run failed; may have several lines
	Start     time.Time // the wall-clock time of time 0; the zero Time if not known
	Simulated bool      // time is that of a simulation (timeline 2)

	Processes []Process
	Tracks    []Track
	Steps     []Step
	Waits     []Wait
	Arrows    []Arrow
	Marks     []Mark
	Counters  []Counter
}

const (
	// None is the index of nothing.
	None = -1

	// Open is the end of what was not over at the end of the timeline.
	Open time.Duration = -1
)

// A Process is a loop, or one life of a simulated host (timeline 5).
type Process struct {
	Name       string
	Begin, End time.Duration
	Ended      string // how, if it has: "crashed"
}

// A TrackKind says what a track is of.
type TrackKind uint8

// The kinds of tracks.
const (
	Task      TrackKind = iota
	Callbacks           // of a process: whatever runs there and is no task
	Network             // of a process: where messages leave and arrive that no step sends or gets
	Job                 // a function that an executor runs on a goroutine
)

// A Track is a lane of the picture: a task, in most cases.
type Track struct {
	Process    int
	Kind       TrackKind
	Name       string
	Coroutine  string // of a task: its function, with file and line as far as they are known
	Maker      Point  // where it was made; Point.Track is None if that is not known
	Begin, End time.Duration
	Ended      string // how, if it has: "finished", "cancelled", or the error
}

// A Point is a place in the picture.
type Point struct {
	Track int
	Step  int // in which it happened, or None (timeline 4)
	At    time.Duration
}

// Nowhere is no point.
var Nowhere = Point{Track: None, Step: None}

// A Step is what runs between two awaits. The steps of one track do not overlap.
type Step struct {
	Track      int
	Begin, End time.Duration
	Name       string // if it is not the track's
	From       string // the line in which it went on: "bank.go:31"
}

// A Wait is the time in which a task waits (timeline 3).
type Wait struct {
	Track      int
	After      int // the step behind which it began, or None
	Begin, End time.Duration
	On         string // what it waits for: "<asyncio.Lock [locked, waiters:1]>"
	Where      string // "waits in asyncio.Sleep at bank.go:31"
}

// An ArrowKind says what an arrow means.
type ArrowKind uint8

// The kinds of arrows.
const (
	Wake    ArrowKind = iota // from the waker to the woken
	Message                  // from one host to another
)

// A Fate is what became of a message.
type Fate uint8

// The fates of messages.
const (
	Arrived Fate = iota // or is still under way, if To.At is Open
	Lost
	Held // and released later, or never, if To.At is Open
)

// An Arrow leads from where something was caused to where that took effect.
type Arrow struct {
	Kind     ArrowKind
	From, To Point  // if it never arrived, To.At is Open and To.Track where it would have
	Name     string // "write 7", "timer"; may be empty
	Size     int    // of a message, in bytes
	Fate     Fate
}

// A MarkKind says what a mark is about.
type MarkKind uint8

// The kinds of marks.
const (
	Note      MarkKind = iota // a remark of the program or a test
	Cancel                    // a task is asked to end: Point is the task's, By is who asked
	Panic                     // a task or callback has panicked
	Deviation                 // of the schedule of a simulation: this step ran out of turn
	Fault                     // something that was made to go wrong
	Stall                     // a step that takes too long
	Failure                   // where a run went wrong
)

// A Mark is something worth seeing at one point.
type Mark struct {
	Kind    MarkKind
	Process int   // None if it is of the whole run
	Point   Point // its Track may be None
	By      Point // who did it; Nowhere in most cases
	Text    string
}

// A Counter is a number over time: "ready", "tasks", "timers", "lag".
type Counter struct {
	Process int // None if it is of the whole run
	Name    string
	Unit    string // "ns", "bytes"; empty for a number of things
	Samples []Sample
}

// A Sample is the value that a counter has from a time on.
type Sample struct {
	At    time.Duration
	Value int64
	Step  int // in a simulation: the step in which that was so (timeline 4); else without meaning
}

// End returns the time of the last thing that happened.
func (t *Timeline) End() time.Duration {
	var end time.Duration
	for i := range t.Processes {
		end = max(end, t.Processes[i].Begin, t.Processes[i].End)
	}
	for i := range t.Tracks {
		end = max(end, t.Tracks[i].Begin, t.Tracks[i].End)
	}
	for i := range t.Steps {
		end = max(end, t.Steps[i].Begin, t.Steps[i].End)
	}
	for i := range t.Waits {
		end = max(end, t.Waits[i].Begin, t.Waits[i].End)
	}
	for i := range t.Arrows {
		end = max(end, t.Arrows[i].From.At, t.Arrows[i].To.At)
	}
	for i := range t.Marks {
		end = max(end, t.Marks[i].Point.At)
	}
	for i := range t.Counters {
		if s := t.Counters[i].Samples; len(s) > 0 {
			end = max(end, s[len(s)-1].At)
		}
	}
	return end
}

// Check returns an error if a part refers to one that is not there, ends before it begins, or is
// out of order. The writers check first: what they write has no such mistakes.
func (t *Timeline) Check() error {
	c := checker{t: t}
	for i := range t.Processes {
		c.what, c.i = "process", i
		c.span(t.Processes[i].Begin, t.Processes[i].End)
	}
	for i := range t.Tracks {
		tr := &t.Tracks[i]
		c.what, c.i = "track", i
		c.index("process", tr.Process, len(t.Processes), false)
		c.known("kind", tr.Kind <= Job)
		c.point(tr.Maker)
		c.span(tr.Begin, tr.End)
	}
	last := make([]time.Duration, len(t.Tracks)) // when the last step of each track ended
	for i := range t.Steps {
		s := &t.Steps[i]
		c.what, c.i = "step", i
		c.index("track", s.Track, len(t.Tracks), false)
		c.span(s.Begin, s.End)
		if c.err != nil {
			return c.err
		}
		c.known("order: it begins before the step before it", i == 0 || s.Begin >= t.Steps[i-1].Begin)
		c.known("order: it begins before the last step of its track has ended", s.Begin >= last[s.Track] && last[s.Track] != Open)
		last[s.Track] = s.End
	}
	for i := range t.Waits {
		w := &t.Waits[i]
		c.what, c.i = "wait", i
		c.index("track", w.Track, len(t.Tracks), false)
		c.index("step", w.After, len(t.Steps), true)
		c.span(w.Begin, w.End)
	}
	for i := range t.Arrows {
		a := &t.Arrows[i]
		c.what, c.i = "arrow", i
		c.known("kind", a.Kind <= Message && a.Fate <= Held)
		c.index("track", a.From.Track, len(t.Tracks), false)
		c.index("track", a.To.Track, len(t.Tracks), false)
		c.point(a.From)
		c.point(a.To)
		c.span(a.From.At, a.To.At)
	}
	for i := range t.Marks {
		m := &t.Marks[i]
		c.what, c.i = "mark", i
		c.known("kind", m.Kind <= Failure)
		c.index("process", m.Process, len(t.Processes), true)
		c.point(m.Point)
		c.point(m.By)
		c.span(m.Point.At, Open)
	}
	for i := range t.Counters {
		n := &t.Counters[i]
		c.what, c.i = "counter", i
		c.index("process", n.Process, len(t.Processes), true)
		for j := range n.Samples {
			c.span(n.Samples[j].At, Open)
			if t.Simulated {
				c.index("step", n.Samples[j].Step, len(t.Steps), true)
			}
			c.known("order: a sample is before the one before it", j == 0 || n.Samples[j].At >= n.Samples[j-1].At)
		}
	}
	return c.err
}

// A checker keeps the first mistake.
type checker struct {
	t    *Timeline
	what string // what is looked at, and which of them
	i    int
	err  error
}

func (c *checker) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("timeline: %s %d: %s", c.what, c.i, fmt.Sprintf(format, args...))
	}
}

func (c *checker) known(what string, ok bool) {
	if !ok {
		c.fail("wrong %s", what)
	}
}

func (c *checker) index(what string, i, n int, orNone bool) {
	if i >= n || i < 0 && !(orNone && i == None) {
		c.fail("there is no %s %d", what, i)
	}
}

func (c *checker) span(begin, end time.Duration) {
	if begin < 0 || end < begin && end != Open {
		c.fail("it is from %v to %v", begin, end)
	}
}

func (c *checker) point(p Point) {
	c.index("track", p.Track, len(c.t.Tracks), true)
	c.index("step", p.Step, len(c.t.Steps), true)
}
