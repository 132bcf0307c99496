package sim

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/timeline"
)

// The picture of a run: what its trace does not have because only a drawing needs it.
//
//	drawing 1: Only the run that explains a failure, and that of [WriteTimeline], have one. All
//	   others pay for a comparison with nil.
//	drawing 2: A picture looks and decides nothing: it draws no random numbers, asks no questions,
//	   numbers no messages, makes nothing ready, and retrieves no error. So the run is the same with
//	   it and without.
//	drawing 3: A task is seen when it makes its first step, and has been made in the step that made
//	   that one ready.
//	drawing 4: Each life of a host is a process, since nothing in memory outlives it.
//	drawing 5: A packet leads to the first step that it makes ready, or else to the lane of its
//	   host's network. Acknowledgments are left out, as is what a host sends to itself.
type picture struct {
	w    *world
	line timeline.Timeline

	processes map[*life]*processPicture
	latest    map[string]*processPicture // by the names of hosts
	tracks    map[asyncio.AnyTask]int
	waits     map[int]int // the last wait of a track, by its track

	task asyncio.AnyTask // of the step that runs, nil if it is of no task
	life *life           // of the step that runs
}

// Bounds of a picture: how many packets of a life wait to be claimed by a step, and how many steps
// are drawn, the last of them.
const (
	mostArrived = 64
	mostDrawn   = 100_000
)

// A processPicture is a life.
type processPicture struct {
	index     int
	callbacks int // the track, or timeline.None
	network   int // the track, or timeline.None
	ready     int // the counter
	tasks     int // the counter
	alive     int // tasks
	arrived   []int
}

func newPicture(w *world) *picture {
	p := &picture{
		w:         w,
		processes: make(map[*life]*processPicture), latest: make(map[string]*processPicture),
		tracks: make(map[asyncio.AnyTask]int), waits: make(map[int]int),
	}
	p.line.Simulated, p.line.Start = true, w.epoch
	for _, h := range w.hosts {
		if h.life != nil {
			p.begins(h.life)
		}
	}
	return p
}

// begins adds a life.
func (p *picture) begins(l *life) {
	now := p.w.time()
	of := &processPicture{index: len(p.line.Processes), callbacks: timeline.None, network: timeline.None, ready: len(p.line.Counters), tasks: len(p.line.Counters) + 1}
	p.line.Processes = append(p.line.Processes, timeline.Process{Name: l.host.name, Begin: now, End: timeline.Open})
	p.line.Counters = append(p.line.Counters, timeline.Counter{Process: of.index, Name: "ready"}, timeline.Counter{Process: of.index, Name: "tasks"})
	p.processes[l], p.latest[l.host.name] = of, of
}

// ends ends a life with all that is in it.
func (p *picture) ends(l *life, err error) {
	of := p.processes[l]
	if of == nil || p.w.ended {
		return
	}
	now, how := p.w.time(), "ended"
	switch {
	case errors.Is(err, ErrCrashed):
		how = "crashed"
	case errors.Is(err, asyncio.ErrCancelled):
		how = "shut down"
	case err != nil:
		how, _, _ = strings.Cut(err.Error(), "\n")
	}
	process := &p.line.Processes[of.index]
	process.End, process.Ended = now, how
	for i := range p.line.Tracks {
		if t := &p.line.Tracks[i]; t.Process == of.index && t.End == timeline.Open {
			t.End, t.Ended = now, how
			p.endWait(i, now)
		}
	}
	p.count(of.ready, 0)
	p.count(of.tasks, 0)
}

// count adds a value of a counter, if it is another one.
func (p *picture) count(counter, value int) {
	c := &p.line.Counters[counter]
	if n := len(c.Samples); n == 0 || c.Samples[n-1].Value != int64(value) {
		c.Samples = append(c.Samples, timeline.Sample{At: p.w.time(), Value: int64(value), Step: len(p.line.Steps) - 1})
	}
}

// beginStep is told of a step when the tracer has it: callback i of l.
func (p *picture) beginStep(t *tracer, l *life, i int) {
	e, of := t.last(), p.processes[l]
	from := t.details(e).from
	p.line.Steps = append(p.line.Steps, timeline.Step{Begin: e.at, End: timeline.Open, From: from})
	step := &p.line.Steps[len(p.line.Steps)-1]
	p.task, p.life = nil, l
	if task, resumes := l.loop.Task(i); resumes {
		p.task = task.(asyncio.AnyTask)
		step.Track = p.trackOf(p.task, l, e, from == "")
	} else {
		step.Track = p.lane(of, timeline.Callbacks)
		step.Name = l.loop.Name(i)
	}
	to := timeline.Point{Track: step.Track, Step: len(p.line.Steps) - 1, At: e.at}
	woken := e.at
	if e.cause > 0 && !p.isFirst(to) {
		by := p.line.Steps[e.cause-1]
		if at, ok := p.claim(of, e.cause-1, to); ok {
			woken = at
		} else {
			woken = max(by.Begin, by.End)
			p.line.Arrows = append(p.line.Arrows, timeline.Arrow{Kind: timeline.Wake, From: p.point(e.cause - 1), To: to})
		}
	}
	p.endWait(step.Track, min(woken, e.at))
	p.count(of.ready, l.n)
}

// isFirst reports whether a step is the one with which its task begins: what caused it has made the
// task.
func (p *picture) isFirst(at timeline.Point) bool {
	maker := p.line.Tracks[at.Track].Maker
	return maker.Step != timeline.None && p.waits[at.Track] == timeline.None && p.line.Tracks[at.Track].Kind == timeline.Task
}

// point is where a step is.
func (p *picture) point(step int) timeline.Point {
	s := &p.line.Steps[step]
	return timeline.Point{Track: s.Track, Step: step, At: s.Begin}
}

// trackOf returns the track of a task (drawing 3).
func (p *picture) trackOf(task asyncio.AnyTask, l *life, e *stepTaken, begins bool) int {
	i, ok := p.tracks[task]
	if ok {
		return i
	}
	i = len(p.line.Tracks)
	p.tracks[task] = i
	of := p.processes[l]
	tr := timeline.Track{Process: of.index, Name: task.GetName(), Maker: timeline.Nowhere, Begin: e.at, End: timeline.Open}
	l.do(func() { tr.Coroutine = reprField(task.String(), " coro=") })
	tr.Coroutine = strings.TrimPrefix(strings.TrimSuffix(tr.Coroutine, ">"), "<")
	// the same on every machine
	if name, at, ok := strings.Cut(tr.Coroutine, " running, defined at "); ok {
		tr.Coroutine = name + " at " + at[strings.LastIndexAny(at, `/\\`)+1:]
	}
	if begins && e.cause > 0 {
		tr.Maker = p.point(e.cause - 1)
		tr.Begin = tr.Maker.At
	}
	p.line.Tracks = append(p.line.Tracks, tr)
	p.waits[i] = timeline.None
	of.alive++
	p.count(of.tasks, of.alive)
	return i
}

// lane returns the track of a life that is no task's.
func (p *picture) lane(of *processPicture, kind timeline.TrackKind) int {
	i := &of.callbacks
	if kind == timeline.Network {
		i = &of.network
	}
	if *i == timeline.None {
		*i = len(p.line.Tracks)
		process := p.line.Processes[of.index]
		p.line.Tracks = append(p.line.Tracks, timeline.Track{Process: of.index, Kind: kind, Maker: timeline.Nowhere, Begin: process.Begin, End: process.End})
		p.waits[*i] = timeline.None
	}
	return *i
}

// endStep is told when the step is over and the tracer has looked at it.
func (p *picture) endStep(t *tracer) {
	now := p.w.time()
	index := len(p.line.Steps) - 1
	step := &p.line.Steps[index]
	step.End = now
	task, l := p.task, p.life
	p.task, p.life = nil, nil
	if task == nil || l.state == gone {
		return
	}
	if !task.Done() {
		on := ""
		l.do(func() { on = reprField(task.String(), " wait_for=") })
		p.waits[step.Track] = len(p.line.Waits)
		p.line.Waits = append(p.line.Waits, timeline.Wait{Track: step.Track, After: index, Begin: now, End: timeline.Open, On: t.people(on), Where: t.after(t.last())})
		return
	}
	tr := &p.line.Tracks[step.Track]
	tr.End, tr.Ended = now, "finished"
	failed := ""
	l.do(func() { // Exception would say that somebody has seen the error
		if task.Cancelled() {
			tr.Ended = "cancelled"
		} else {
			failed = reprField(task.String(), " exception=")
		}
	})
	tr.Ended = cmp.Or(failed, tr.Ended)
	if strings.HasPrefix(failed, "PanicError(") {
		p.line.Marks = append(p.line.Marks, timeline.Mark{Kind: timeline.Panic, Process: tr.Process, Point: p.point(index), By: timeline.Nowhere, Text: tr.Ended})
	}
	delete(p.tracks, task)
	of := p.processes[l]
	of.alive--
	p.count(of.tasks, of.alive)
}

// endWait ends the last wait of a track, if it has not ended.
func (p *picture) endWait(track int, at time.Duration) {
	if i := p.waits[track]; i != timeline.None {
		if w := &p.line.Waits[i]; w.End == timeline.Open {
			w.End = max(w.Begin, at)
		}
	}
}

// note adds a mark for a line of the trace, behind the last step.
func (p *picture) note(n note) {
	m := timeline.Mark{Kind: timeline.Note, Process: timeline.None, Point: timeline.Nowhere, By: timeline.Nowhere, Text: n.text}
	m.Point.At = p.w.time()
	if last := len(p.line.Steps) - 1; last >= 0 {
		m.Point.Step = last
	}
	if n.fault {
		m.Kind = timeline.Fault
	}
	if of := p.hostIn(n.text); of != nil {
		m.Process = of.index
	} else if m.Point.Step != timeline.None {
		m.Process = p.line.Tracks[p.line.Steps[m.Point.Step].Track].Process
	}
	p.line.Marks = append(p.line.Marks, m)
}

// hostIn returns the life of the first host that a text names.
func (p *picture) hostIn(text string) *processPicture {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" :,/", r) }) {
		if of := p.latest[word]; of != nil {
			return of
		}
	}
	return nil
}

// sent adds a packet that leaves on a wire, and returns its number, 0 if it is left out (picture
// 5). It may be asked of no picture.
func (p *picture) sent(w *wire, c cargo) int {
	if p == nil || w.from == w.to || c.noun() == anAcknowledgment {
		return 0
	}
	from, to := p.latest[w.from.name], p.latest[w.to.name]
	if from == nil || to == nil {
		return 0
	}
	a := timeline.Arrow{Kind: timeline.Message, Name: string(c.noun())}
	a.From = timeline.Point{Step: timeline.None, At: p.w.time()}
	if p.w.made && p.life != nil && p.processes[p.life] == from {
		a.From = p.point(len(p.line.Steps) - 1)
	} else {
		a.From.Track = p.lane(from, timeline.Network)
	}
	a.To = timeline.Point{Track: p.lane(to, timeline.Network), Step: timeline.None, At: timeline.Open}
	switch c := c.(type) {
	case *segment:
		a.Size = len(c.data)
		if name := c.writes(); name != "" {
			a.Name = name
		} else if c.fin {
			a.Name = "end of the stream"
		}
	case *datagram:
		a.Size = len(c.data)
	}
	p.line.Arrows = append(p.line.Arrows, a)
	return len(p.line.Arrows)
}

// A numbered write is the number of its first byte, and that of its message.
type numbered struct {
	from int64
	id   uint64
}

// writes names the writes whose bytes a segment has, "" if there are none.
func (p *segment) writes() string {
	if p.from == nil || len(p.data) == 0 {
		return ""
	}
	var first, last uint64
	for _, w := range p.from.ids {
		if w.from <= p.number {
			first = w.id
		}
		if w.from < p.number+int64(len(p.data)) {
			last = w.id
		}
	}
	switch {
	case first == 0:
		return ""
	case first == last:
		return fmt.Sprintf("write %d", first)
	}
	return fmt.Sprintf("writes %d to %d", first, last)
}

// arrives is told that a packet has come to its host.
func (p *picture) arrives(number int) {
	if number == 0 {
		return
	}
	a := &p.line.Arrows[number-1]
	a.To.At = p.w.time()
	host := p.line.Processes[p.line.Tracks[a.To.Track].Process].Name
	of := p.latest[host]
	a.To.Track = p.lane(of, timeline.Network)
	if len(of.arrived) == mostArrived {
		of.arrived = append(of.arrived[:0], of.arrived[1:]...)
	}
	of.arrived = append(of.arrived, number-1)
}

// holds is told that a packet is held.
func (p *picture) holds(number int) {
	if number != 0 {
		p.line.Arrows[number-1].Fate = timeline.Held
	}
}

// loses is told that a packet is lost.
func (p *picture) loses(number int) {
	if number != 0 {
		p.line.Arrows[number-1].Fate = timeline.Lost
	}
}

// claim leads a packet that has arrived, sent in a step, to the first step that it has made ready,
// and returns when it arrived.
func (p *picture) claim(of *processPicture, cause int, to timeline.Point) (at time.Duration, ok bool) {
	for i, number := range of.arrived {
		if a := &p.line.Arrows[number]; a.From.Step == cause || (a.From.Step == timeline.None || a.Fate == timeline.Held) && a.To.At == to.At {
			at = a.To.At
			a.To = to
			of.arrived = append(of.arrived[:i], of.arrived[i+1:]...)
			return at, true
		}
	}
	return 0, false
}

// reprField returns a field of the repr of a task, as far as its brackets go.
func reprField(repr, field string) string {
	_, rest, ok := strings.Cut(repr, field)
	if !ok {
		return ""
	}
	depth := 0
	for i, r := range rest {
		switch r {
		case '<':
			depth++
		case '>':
			if depth--; depth < 0 {
				return rest[:i]
			}
			if depth == 0 && rest[0] == '<' {
				return rest[:i+1]
			}
		case ' ':
			if depth == 0 && strings.HasPrefix(rest[i:], " cb=[") {
				return rest[:i]
			}
		}
	}
	return rest
}

// finish makes the timeline of a run that is over.
func (p *picture) finish(t *tracer, o *outcome) *timeline.Timeline {
	line := &p.line
	for i := range line.Tracks {
		tr := &line.Tracks[i]
		tr.Name = t.people(tr.Name)
	}
	for i := range line.Steps {
		line.Steps[i].Name = t.people(line.Steps[i].Name)
		p.deviations(t, i)
	}
	if o.err != nil {
		p.failure(t, o)
	}
	return line.Last(mostDrawn)
}

// failure adds the mark at which the run went wrong.
func (p *picture) failure(t *tracer, o *outcome) {
	line := &p.line
	m := timeline.Mark{Kind: timeline.Failure, Process: timeline.None, Point: timeline.Nowhere, By: timeline.Nowhere}
	m.Text, _, _ = strings.Cut(t.people(o.err.Error()), "\n")
	m.Point.At = p.w.time()
	if at := t.wrongStep(o); at > 0 && at <= len(line.Steps) {
		m.Point = p.point(at - 1)
		m.Process = line.Tracks[m.Point.Track].Process
	} else if len(line.Steps) > 0 {
		m.Point.Step = len(line.Steps) - 1
		m.Process = 0
	}
	line.Marks = append(line.Marks, m)
}

// deviations adds marks for what the schedule has at a step: a pick out of turn, a cancel.
func (p *picture) deviations(t *tracer, step int) {
	more := t.details(t.step(step))
	m := timeline.Mark{Kind: timeline.Deviation, Point: p.point(step), By: timeline.Nowhere}
	m.Process = p.line.Tracks[m.Point.Track].Process
	if more.first != "" {
		m.Text = "before " + quote(t.people(more.first))
		p.line.Marks = append(p.line.Marks, m)
	}
	if more.cancel != "" {
		m.Kind, m.Text = timeline.Cancel, "task "+quote(t.people(more.cancel))+" is cancelled by the schedule"
		if of := p.hostIn(more.cancel); of != nil {
			m.Process = of.index
		}
		p.line.Marks = append(p.line.Marks, m)
	}
}
