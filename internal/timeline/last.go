package timeline

import "time"

// Last returns what belongs to the last n steps, which is t itself if there are not more. Times
// stay as they are. Of what is older, only tracks and processes are left that had not ended, and
// counters.
func (t *Timeline) Last(n int) *Timeline {
	drop := len(t.Steps) - n
	if drop <= 0 {
		return t
	}
	c := cutter{drop: drop, begin: t.End(), tracks: make([]int, len(t.Tracks))}
	if n > 0 {
		c.begin = t.Steps[drop].Begin
	}
	last := *t
	last.Steps, last.Waits, last.Arrows, last.Marks, last.Tracks = nil, nil, nil, nil, nil
	used := make([]bool, len(t.Tracks)) // by what is left
	for i := range t.Steps[drop:] {
		used[t.Steps[drop+i].Track] = true
	}
	for i := range t.Arrows {
		if a := &t.Arrows[i]; c.keepsArrow(a) {
			used[a.From.Track], used[a.To.Track] = true, true
		}
	}
	for i, tr := range t.Tracks {
		if c.tracks[i] = None; used[i] || tr.End == Open || tr.End > c.begin {
			c.tracks[i] = len(last.Tracks)
			last.Tracks = append(last.Tracks, tr)
		}
	}
	for i := range last.Tracks {
		last.Tracks[i].Maker = c.point(last.Tracks[i].Maker)
	}
	for _, s := range t.Steps[drop:] {
		s.Track = c.tracks[s.Track]
		last.Steps = append(last.Steps, s)
	}
	for _, w := range t.Waits {
		if w.End != Open && w.End < c.begin || c.tracks[w.Track] == None {
			continue
		}
		w.Track, w.After = c.tracks[w.Track], c.step(w.After)
		last.Waits = append(last.Waits, w)
	}
	for _, a := range t.Arrows {
		if c.keepsArrow(&a) {
			a.From, a.To = c.point(a.From), c.point(a.To)
			last.Arrows = append(last.Arrows, a)
		}
	}
	for _, m := range t.Marks {
		m.Point, m.By = c.point(m.Point), c.point(m.By)
		last.Marks = append(last.Marks, m)
	}
	last.Counters = make([]Counter, len(t.Counters))
	for i, n := range t.Counters {
		last.Counters[i] = Counter{Process: n.Process, Name: n.Name, Unit: n.Unit}
		for _, s := range n.Samples {
			if s.At >= c.begin {
				s.Step = c.step(s.Step)
				last.Counters[i].Samples = append(last.Counters[i].Samples, s)
			}
		}
	}
	return &last
}

// A cutter maps what is left to its new places.
type cutter struct {
	drop   int // steps
	begin  time.Duration
	tracks []int // None: it is not left
}

func (c *cutter) step(i int) int { return max(None, i-c.drop) }

func (c *cutter) point(p Point) Point {
	if p.Track != None {
		p.Track = c.tracks[p.Track]
	}
	p.Step = c.step(p.Step)
	return p
}

// keepsArrow reports whether an arrow ends at what is left, or is under way there.
func (c *cutter) keepsArrow(a *Arrow) bool {
	if a.To.Step != None {
		return a.To.Step >= c.drop
	}
	return a.To.At == Open || a.To.At >= c.begin
}
