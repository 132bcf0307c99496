package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What Perfetto and Chrome have in common: both draw slices with a begin and an end on tracks,
// nested where one lies within another, and both know time alone, not order.
//
//	slices 1: The slices of a track do not overlap, are in order and lie within the slice of the
//	   track's life.
//	slices 2: In a simulation, steps at the same time are spread by a nanosecond each, so that they
//	   can be seen and have their order (timeline 2).

// A slice is a step or a wait on its track.
type slice struct {
	begin, end time.Duration
	name       string
	step       int // None: it is a wait
	state      string
	detail     string
}

// drawing is a timeline as slices.
type drawing struct {
	*Timeline
	end        time.Duration
	begin, cut []time.Duration // of each step, as it is drawn
	names      []string        // of the processes, with the number of the life
	tracks     [][]slice
}

func (t *Timeline) drawing() *drawing {
	d := &drawing{Timeline: t, end: t.End(), tracks: make([][]slice, len(t.Tracks)), names: t.processNames()}
	d.spread()
	woken := make(map[int]int) // by the step in which a task went on: the one in which it was woken
	for i := range t.Arrows {
		if a := &t.Arrows[i]; a.Kind == Wake && a.To.Step != None && a.From.Step != None {
			woken[a.To.Step] = a.From.Step
		}
	}
	for i := range t.Steps {
		s := &t.Steps[i]
		name := cmp.Or(s.Name, s.From, "runs")
		d.tracks[s.Track] = append(d.tracks[s.Track], slice{d.begin[i], d.cut[i], name, i, "step", s.From})
	}
	next := make([][]int, len(t.Tracks)) // the steps of each track
	for i := range t.Steps {
		next[t.Steps[i].Track] = append(next[t.Steps[i].Track], i)
	}
	for i := range t.Waits {
		w := &t.Waits[i]
		begin, end := w.Begin, w.End
		if w.After != None {
			begin = d.cut[w.After]
		}
		if end == Open {
			end = d.end
		}
		if of := next[w.Track]; t.Simulated { // up to the waking step
			if n, _ := slices.BinarySearch(of, w.After+1); n < len(of) {
				end = d.begin[of[n]]
				if by, ok := woken[of[n]]; ok {
					end = d.begin[by]
				}
			}
		}
		d.tracks[w.Track] = append(d.tracks[w.Track], slice{begin, max(begin, end), cmp.Or(w.On, w.Where, "waits"), None, "wait", w.Where})
	}
	for _, of := range d.tracks {
		slices.SortStableFunc(of, func(a, b slice) int { return cmp.Compare(a.begin, b.begin) })
		for i := range of[:max(0, len(of)-1)] { // a step has its time; a wait gives way
			of[i].end = max(of[i].begin, min(of[i].end, of[i+1].begin))
		}
	}
	return d
}

// spread says when each step is drawn (slices 2).
func (d *drawing) spread() {
	d.begin, d.cut = make([]time.Duration, len(d.Steps)), make([]time.Duration, len(d.Steps))
	var last time.Duration
	for i := range d.Steps {
		begin, end := d.Steps[i].Begin, d.Steps[i].End
		if end == Open {
			end = d.end
		}
		if d.Simulated {
			begin = max(begin, last)
			end = max(end, begin+1)
			last = end
		}
		d.begin[i], d.cut[i] = begin, end
		d.end = max(d.end, end)
	}
}

// at is when a point is drawn.
func (d *drawing) at(p Point) time.Duration {
	switch {
	case p.Step != None:
		return d.begin[p.Step]
	case p.At == Open:
		return d.end
	}
	return p.At
}

// sampled is when a sample is drawn.
func (d *drawing) sampled(s Sample) time.Duration {
	if d.Simulated && s.Step != None {
		return d.begin[s.Step]
	}
	return s.At
}

// trackName is the name of a track, or what it is of.
func (d *drawing) trackName(i int) string {
	return cmp.Or(d.Tracks[i].Name, [...]string{Task: "task", Callbacks: "callbacks", Network: "network", Job: "job"}[d.Tracks[i].Kind])
}

// life is the slice of a whole track. ok is false if it has none.
func (d *drawing) life(i int) (begin, end time.Duration, ok bool) {
	tr, of := &d.Tracks[i], d.tracks[i]
	begin, end = tr.Begin, tr.End
	if end == Open {
		end = d.end
	}
	if len(of) > 0 {
		begin, end = min(begin, of[0].begin), max(end, of[len(of)-1].end)
	}
	return begin, end, tr.Kind == Task || tr.Kind == Job
}

// processNames names processes, and their lives if there are several of a name (timeline 5).
func (t *Timeline) processNames() []string {
	lives := make(map[string]int)
	names := make([]string, len(t.Processes))
	for i := range t.Processes {
		name := t.Processes[i].Name
		if lives[name]++; lives[name] > 1 {
			names[i] = fmt.Sprintf("%s (life %d)", name, lives[name])
		} else {
			names[i] = name
		}
	}
	return names
}

var markWords = [...]string{Note: "note", Cancel: "cancel", Panic: "panic", Deviation: "deviation", Fault: "fault", Stall: "stall", Failure: "failure"}

func (k MarkKind) String() string { return markWords[k] }

// fateWords says what became of a message that has not arrived.
var fateWords = [...]string{Arrived: "", Lost: "lost", Held: "held"}

// label says what an arrow is.
func (a *Arrow) label() string {
	s := cmp.Or(a.Name, map[ArrowKind]string{Wake: "wakes", Message: "message"}[a.Kind])
	if a.Kind == Message && a.Size > 0 {
		s += fmt.Sprintf(", %d bytes", a.Size)
	}
	if a.Fate != Arrived {
		s += ", " + fateWords[a.Fate]
	}
	return s
}

// clean makes any text one of valid UTF-8 without control characters (timeline 6).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}
