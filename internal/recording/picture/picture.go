// Package picture makes a timeline of a recording.
package picture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/recording"
	"github.com/goasyncio/asyncio/internal/timeline"
)

// Of returns the timeline of a recording. Loops become processes, tasks and the callbacks of a loop
// become tracks. The error is that of [recording.Loop.Events].
//
//	painting 1: A step ends where the next step, callback or wait of its loop begins, because the
//	   clock is not read in between. A callback that needs no step of its own takes no time.
//	painting 2: A task waits from the end of the step that says so until it is woken, and is ready
//	   from there to its next step. A step that ends without a wait leaves its task ready.
//	painting 3: A task of which the window says nothing, because it waits all the time, has a track
//	   with one wait, if the loop has listed it; at most maxIdle of them do.
//	painting 4: The functions of executors are on tracks called thread 1, 2 and so on, each on the
//	   first that was free; which of the executor's goroutines ran it is not known. The wake behind
//	   such a function comes from it.
//	painting 5: Time 0 is that of the first event of all loops, by their wall clocks.
func Of(r *recording.Recording) (*timeline.Timeline, error) {
	p := &painter{t: &timeline.Timeline{
		Title: fmt.Sprintf("%s, process %d", r.Program, r.PID),
	}}
	if !strings.HasPrefix(r.Reason, recording.Asked) {
		p.t.Text = fmt.Sprintf("The flight recorder was read at %s because of %s.", r.Time.UTC().Format(time.RFC3339), r.Reason)
	}
	events := make([][]recording.Event, len(r.Loops))
	for i, l := range r.Loops {
		var err error
		if events[i], err = l.Events(); err != nil {
			return nil, fmt.Errorf("loop %d: %w", l.Number, err)
		}
		begin := l.Start.Add(l.Now)
		if len(events[i]) > 0 {
			begin = l.Start.Add(events[i][0].At)
		}
		if p.t.Start.IsZero() || begin.Before(p.t.Start) {
			p.t.Start = begin
		}
		p.t.Simulated = p.t.Simulated || l.Simulated
	}
	for i, l := range r.Loops {
		p.loop(l, events[i])
	}
	p.sortSteps()
	return p.t, nil
}

// maxIdle is how many tasks are shown of which the window says nothing (painting 3).
const maxIdle = 5000

type painter struct {
	t *timeline.Timeline

	// Of the loop that is painted.
	l         *recording.Loop
	process   int
	offset    time.Duration // of the loop's clock
	tracks    map[uint32]*lane
	callbacks *lane
	under     *lane // whose step is under way
	tasks     int64
	ready     *timeline.Counter
	timers    *timeline.Counter
	alive     *timeline.Counter
	due       map[uint32]timeline.Point // by callback
	threads   []thread
	ran       timeline.Point // the end of the function that the event before told of (painting 4)
}

// A lane is a track with what is open on it.
type lane struct {
	track int
	step  int // the last, None if there is none
	wait  int // that has not ended, None if there is none
	woken timeline.Point
}

// A thread is a track for functions of executors (painting 4).
type thread struct {
	track int
	free  time.Duration // when the last of them ended
}

func (p *painter) loop(l *recording.Loop, events []recording.Event) {
	p.l, p.tracks, p.under, p.callbacks = l, map[uint32]*lane{}, nil, nil
	p.due = map[uint32]timeline.Point{}
	p.threads, p.ran = nil, timeline.Nowhere
	p.offset = l.Start.Sub(p.t.Start)
	p.process = len(p.t.Processes)
	begin := p.at(l.Now)
	if len(events) > 0 {
		begin = p.at(events[0].At)
	}
	p.t.Processes = append(p.t.Processes, timeline.Process{Name: fmt.Sprintf("loop %d", max(l.Number, 1)), Begin: begin, End: timeline.Open})
	p.ready, p.timers, p.alive = &timeline.Counter{Process: p.process, Name: "ready"}, &timeline.Counter{Process: p.process, Name: "timers"}, &timeline.Counter{Process: p.process, Name: "tasks"}
	p.count(events)
	p.define(events, begin)
	for i := range events {
		p.event(&events[i])
	}
	p.closeStep(p.at(l.Now))
	for _, n := range []*timeline.Counter{p.ready, p.timers, p.alive} {
		if len(n.Samples) > 0 {
			p.t.Counters = append(p.t.Counters, *n)
		}
	}
}

// at returns a time of the loop's clock as one of the timeline.
func (p *painter) at(t time.Duration) time.Duration { return max(0, t+p.offset) }

// count finds out how many tasks there were at the beginning.
func (p *painter) count(events []recording.Event) {
	p.tasks = int64(len(p.l.Tasks))
	if !p.l.Listed {
		p.tasks = 0
	}
	for i := range events {
		switch events[i].Kind {
		case recording.Made:
			p.tasks--
		case recording.Done:
			p.tasks++
		}
	}
	p.tasks = max(p.tasks, 0)
}

// define makes the tracks: of the tasks that are there now, and of those that the words define.
func (p *painter) define(events []recording.Event, begin time.Duration) {
	idle := 0
	for i := range p.l.Tasks {
		t := &p.l.Tasks[i]
		name := t.Name
		if name == "" {
			name = fmt.Sprintf("Task-%d", t.Number)
		}
		if t.ID == 0 {
			if idle++; idle > maxIdle {
				continue
			}
		}
		lane := p.addTask(t.ID, name, t.Coroutine, begin)
		if t.ID == 0 && (t.Waits.Name != 0 || t.Waits.Task != 0) {
			p.t.Waits = append(p.t.Waits, timeline.Wait{Track: lane.track, After: timeline.None, Begin: begin, End: timeline.Open, On: p.thing(t.Waits)})
		}
	}
	for i := range events {
		e := &events[i]
		if e.Kind == recording.Made || e.Kind == recording.Known {
			if p.tracks[e.Task] == nil {
				p.addTask(e.Task, e.Text, e.Name, begin)
			}
		}
	}
}

func (p *painter) addTask(id uint32, name string, coroutine uint32, begin time.Duration) *lane {
	lane := &lane{track: len(p.t.Tracks), step: timeline.None, wait: timeline.None, woken: timeline.Nowhere}
	p.t.Tracks = append(p.t.Tracks, timeline.Track{
		Process: p.process, Kind: timeline.Task, Name: name, Coroutine: p.name(coroutine, true), Maker: timeline.Nowhere, Begin: begin, End: timeline.Open,
	})
	if id != 0 {
		p.tracks[id] = lane
	}
	return lane
}

// lane returns the lane of a task. One whose name has been overwritten is called by its number.
func (p *painter) lane(id uint32) *lane {
	if l := p.tracks[id]; l != nil {
		return l
	}
	return p.addTask(id, fmt.Sprintf("task %d of the recording", id), 0, p.t.Processes[p.process].Begin)
}

// laneOf returns the lane of the task or callback under way, nil if there is none.
func (p *painter) laneOf(a recording.Actor) *lane {
	switch a.Kind {
	case recording.ATask:
		return p.lane(a.Task)
	case recording.ACallback:
		return p.callbackLane()
	}
	return nil
}

func (p *painter) callbackLane() *lane {
	if p.callbacks == nil {
		p.callbacks = &lane{track: len(p.t.Tracks), step: timeline.None, wait: timeline.None, woken: timeline.Nowhere}
		p.t.Tracks = append(p.t.Tracks, timeline.Track{Process: p.process, Kind: timeline.Callbacks, Name: "callbacks", Maker: timeline.Nowhere, Begin: p.t.Processes[p.process].Begin, End: timeline.Open})
	}
	return p.callbacks
}

// name returns a name that words refer to, with its place if that is asked for.
func (p *painter) name(i uint32, place bool) string {
	if int(i) >= len(p.l.Names) {
		return ""
	}
	n := p.l.Names[i]
	if place && n.Place != "" {
		return n.Text + " at " + n.Place
	}
	return n.Text
}

// thing describes what a task waits for.
func (p *painter) thing(t recording.Thing) string {
	if t.Task != 0 {
		return "task " + p.t.Tracks[p.lane(t.Task).track].Name
	}
	name := p.typeName(t.Name)
	switch name {
	case "alarm":
		return "sleep"
	case "future":
		return "a future"
	}
	return fmt.Sprintf("%s #%d", name, t.Object)
}

// typeName is the name of a type without what it is clear without.
func (p *painter) typeName(i uint32) string {
	return strings.TrimPrefix(strings.TrimPrefix(p.name(i, false), "*"), "asyncio.")
}

// point returns where e happened.
func (p *painter) point(e *recording.Event) timeline.Point {
	l := p.laneOf(e.By)
	if l == nil {
		return timeline.Nowhere
	}
	return timeline.Point{Track: l.track, Step: l.step, At: p.at(e.At)}
}

func (p *painter) event(e *recording.Event) {
	at := p.at(e.At)
	ran := p.ran
	p.ran = timeline.Nowhere
	switch e.Kind {
	case recording.Step:
		p.begin(p.lane(e.Task), at, "")
	case recording.Call:
		p.begin(p.callbackLane(), at, p.typeName(recording.CallbackName(e.Callback)))
		if from, ok := p.due[e.Callback]; ok {
			delete(p.due, e.Callback)
			p.arrow(from, p.callbacks, at)
		}
	case recording.Due:
		if from := p.point(e); from.Track != timeline.None {
			p.due[e.Callback] = from
		}
	case recording.Idle:
		p.closeStep(at)
	case recording.Wait, recording.Join:
		l := p.lane(e.Task)
		l.wait = len(p.t.Waits)
		p.t.Waits = append(p.t.Waits, timeline.Wait{Track: l.track, After: l.step, Begin: at, End: timeline.Open, On: p.thing(e.Thing)})
	case recording.Wake:
		if ran.Track != timeline.None {
			p.wake(p.lane(e.Task), ran, at)
		} else {
			p.wake(p.lane(e.Task), p.point(e), at)
		}
	case recording.Job:
		p.job(p.typeName(recording.CallbackName(e.Callback)), at, p.at(e.At+e.Took))
	case recording.Made:
		l := p.lane(e.Task)
		p.t.Tracks[l.track].Begin, p.t.Tracks[l.track].Maker = at, p.point(e)
		p.tasks++
		p.alive.Samples = append(p.alive.Samples, timeline.Sample{At: at, Value: p.tasks})
	case recording.Done:
		p.done(p.lane(e.Task), e, at)
	case recording.Cancel:
		l := p.lane(e.Task)
		p.t.Marks = append(p.t.Marks, timeline.Mark{Kind: timeline.Cancel, Process: p.process, Point: timeline.Point{Track: l.track, Step: timeline.None, At: at}, By: p.point(e), Text: p.reason(e)})
	case recording.Iteration:
		if e.Ready != recording.Unknown {
			p.ready.Samples = append(p.ready.Samples, timeline.Sample{At: at, Value: int64(e.Ready)})
			p.timers.Samples = append(p.timers.Samples, timeline.Sample{At: at, Value: int64(e.Timers)})
		}
	case recording.Stall:
		p.t.Marks = append(p.t.Marks, timeline.Mark{Kind: timeline.Stall, Process: p.process, Point: timeline.Point{Track: timeline.None, Step: timeline.None, At: at}, By: timeline.Nowhere, Text: fmt.Sprintf("a step took at least %v", e.Took)})
	}
}

// job draws a function that ran on a goroutine (painting 4).
func (p *painter) job(name string, begin, end time.Duration) {
	i := slices.IndexFunc(p.threads, func(t thread) bool { return t.free <= begin })
	if i < 0 {
		i = len(p.threads)
		p.threads = append(p.threads, thread{track: len(p.t.Tracks)})
		p.t.Tracks = append(p.t.Tracks, timeline.Track{
			Process: p.process, Kind: timeline.Job, Name: fmt.Sprintf("thread %d", i+1), Maker: timeline.Nowhere, Begin: p.t.Processes[p.process].Begin, End: timeline.Open,
		})
	}
	t := &p.threads[i]
	t.free = end
	p.ran = timeline.Point{Track: t.track, Step: len(p.t.Steps), At: end}
	p.t.Steps = append(p.t.Steps, timeline.Step{Track: t.track, Begin: begin, End: end, Name: name})
}

func (p *painter) reason(e *recording.Event) string {
	if e.Text != "" {
		return e.Text
	}
	return p.typeName(e.Name)
}

// begin begins a step on l.
func (p *painter) begin(l *lane, at time.Duration, name string) {
	p.closeStep(at)
	p.endWait(l, at)
	l.step = len(p.t.Steps)
	p.t.Steps = append(p.t.Steps, timeline.Step{Track: l.track, Begin: at, End: timeline.Open, Name: name})
	p.under = l
	if l.woken.Track != timeline.None {
		p.arrow(l.woken, l, at)
		l.woken = timeline.Nowhere
	}
}

// closeStep ends the step under way (painting 1), and moves the wait behind it to its end.
func (p *painter) closeStep(at time.Duration) {
	l := p.under
	if l == nil {
		return
	}
	p.under = nil
	s := &p.t.Steps[l.step]
	s.End = max(at, s.Begin)
	if l.wait != timeline.None {
		if w := &p.t.Waits[l.wait]; w.After == l.step {
			w.Begin = s.End
		}
	}
	if tr := &p.t.Tracks[l.track]; tr.End != timeline.Open {
		tr.End = max(tr.End, s.End)
	}
}

func (p *painter) endWait(l *lane, at time.Duration) {
	if l.wait != timeline.None {
		w := &p.t.Waits[l.wait]
		w.End = max(at, w.Begin)
		l.wait = timeline.None
	}
}

func (p *painter) wake(l *lane, from timeline.Point, at time.Duration) {
	p.endWait(l, at)
	l.woken = from
}

func (p *painter) arrow(from timeline.Point, to *lane, at time.Duration) {
	p.t.Arrows = append(p.t.Arrows, timeline.Arrow{Kind: timeline.Wake, From: from, To: timeline.Point{Track: to.track, Step: to.step, At: max(at, from.At)}})
}

func (p *painter) done(l *lane, e *recording.Event, at time.Duration) {
	p.endWait(l, at)
	tr := &p.t.Tracks[l.track]
	tr.End, tr.Ended = max(at, tr.Begin), e.End.String()
	if e.End == recording.Failed {
		tr.Ended += ": " + p.name(e.Name, false)
	}
	if e.End == recording.Panicked {
		p.t.Marks = append(p.t.Marks, timeline.Mark{Kind: timeline.Panic, Process: p.process, Point: timeline.Point{Track: l.track, Step: l.step, At: at}, By: timeline.Nowhere, Text: "panic"})
	}
	p.tasks = max(p.tasks-1, 0)
	p.alive.Samples = append(p.alive.Samples, timeline.Sample{At: at, Value: p.tasks})
}

// sortSteps puts the steps into the order in which they began. Those of several loops are not, nor
// are functions of executors, which the loop hears of when they are over.
func (p *painter) sortSteps() {
	earlier := func(a, b timeline.Step) int { return cmp.Compare(a.Begin, b.Begin) }
	if slices.IsSortedFunc(p.t.Steps, earlier) {
		return
	}
	order := make([]int, len(p.t.Steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.t.Steps[a].Begin, p.t.Steps[b].Begin) })
	now := make([]int, len(order))
	steps := make([]timeline.Step, len(order))
	for to, from := range order {
		now[from], steps[to] = to, p.t.Steps[from]
	}
	move := func(i *int) {
		if *i != timeline.None {
			*i = now[*i]
		}
	}
	p.t.Steps = steps
	for i := range p.t.Tracks {
		move(&p.t.Tracks[i].Maker.Step)
	}
	for i := range p.t.Waits {
		move(&p.t.Waits[i].After)
	}
	for i := range p.t.Arrows {
		move(&p.t.Arrows[i].From.Step)
		move(&p.t.Arrows[i].To.Step)
	}
	for i := range p.t.Marks {
		move(&p.t.Marks[i].Point.Step)
		move(&p.t.Marks[i].By.Step)
	}
}
