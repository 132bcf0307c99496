package asyncio

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// What a look at a loop finds.
//
//	survey 1: A survey is a callback that puts itself into the ready queue again after each
//	   slice (inspection 1). It sees the tasks that are there from its begin until their turn. So
//	   it ends, however fast tasks come.
//	survey 2: What a group has in common decides to which group a task belongs: its coroutine, its
//	   state, the type of the thing it waits for (these make its kind), and the calls it is in.
//	survey 3: To look at the calls of a task takes ten times as long as all the rest. So where
//	   there are many tasks of a kind, only one of several is looked at, and the next ones count
//	   as being where that one is. Such a group is marked as sampled.

// A survey goes through the tasks of a loop, a slice in each iteration (survey 1).
type survey struct {
	loop  *EventLoop
	ctx   context.Context
	ask   inspection.Ask
	began chan struct{}
	done  chan *inspection.Survey

	found    inspection.Survey
	cursor   *taskCursor
	until    time.Time // the end of this slice
	kinds    map[kindKey]*kind
	objects  map[any]*object
	listed   []*task              // tasks to be described one by one
	waitsFor map[*task][]*task    // what tasks wait for, as far as that is tasks
	waiting  []*task              // the keys of waitsFor, in the order of the list
	stacks   map[uint64][]uintptr // calls, by their hashes
	calls    map[uintptr]bool     // of all lookers

	batch   []*task
	kindsOf [surveyBatch]*kind  // of the tasks of the batch
	wheres  [surveyBatch]uint64 // the hashes of the calls that they are in
	looked  []*task             // those of the batch whose calls are looked at
	rest    []func()            // the work that is left once all tasks have been seen

	servers map[*Server]bool
	sockets map[socketPlace]int // how many of a kind there are
}

// A kindKey is what the tasks of a kind have in common (survey 2).
type kindKey struct {
	code  uintptr
	doing activity
	on    reflect.Type // of the thing that they wait for
}

type kind struct {
	kindKey
	n      int
	places map[uint64]*group // by the hashes of the calls
	last   *group            // of the last task that was looked at
}

type group struct {
	*kind
	where    uint64
	n        int
	sampled  bool
	examples []*task
}

// An object is something that a task waits for. It is shown if several tasks can wait for it.
type object struct {
	n        int
	examples []*task
}

const (
	shownExamples = 5
	shownObjects  = 20
	shownGroups   = 200
	maxObjects    = 10_000
	surveyBatch   = 16   // tasks between two looks at the clock
	exactLooks    = 4096 // tasks of a kind whose calls are all looked at (survey 3)
	looksAtOneOf  = 16   // of the further ones
)

func (s *survey) String() string { return "Survey()" }

func (s *survey) readyName() string { return "Survey()" }

// fire does a slice.
func (s *survey) fire(*future) {
	if s.ctx.Err() != nil { // nobody waits for it any more
		s.loop.tasks.forget(s.cursor)
		return
	}
	begins := time.Now()
	s.until = begins.Add(inspection.Slice)
	if s.cursor == nil {
		s.begin()
	}
	over := s.slice()
	s.found.Longest = max(s.found.Longest, time.Since(begins))
	if over {
		s.loop.tasks.forget(s.cursor)
		go s.lookForCircle()
	} else {
		s.loop.schedule(s, nil)
	}
}

func (s *survey) begin() {
	l := s.loop
	close(s.began)
	s.found.Tasks, s.found.Ready, s.found.Timers = l.tasks.n, l.ready.n, len(l.timers)
	o := l.observed()
	s.found.Steps, s.found.Made = o.measured(), o.made()
	s.batch = make([]*task, 0, surveyBatch)
	s.cursor = l.tasks.cursor()
}

// slice works until the slice is over, and reports whether all is done.
func (s *survey) slice() bool {
	l := s.loop
	looks := looker{me: l.stackInControl(), calls: s.calls, tell: s.tell}
	for !s.cursor.ended {
		s.batch = l.tasks.take(s.cursor, s.batch[:0])
		s.look(&looks)
		if time.Now().After(s.until) {
			return false
		}
	}
	for len(s.rest) > 0 {
		next := s.rest[0]
		s.rest = s.rest[1:]
		next()
		if time.Now().After(s.until) {
			return false
		}
	}
	return true
}

// look sees the tasks of the batch.
func (s *survey) look(looks *looker) {
	s.looked = s.looked[:0]
	clear(s.wheres[:])
	for i, t := range s.batch {
		k := s.kindOf(t)
		s.kindsOf[i] = k
		if k.n++; k.n <= exactLooks || k.n%looksAtOneOf == 0 {
			s.looked = append(s.looked, t)
			s.wheres[i] = notTold
		}
	}
	looks.at(s.looked)
	for i, t := range s.batch {
		k := s.kindsOf[i]
		switch where := s.wheres[i]; where {
		case 0: // not looked at
			k.last.sampled = true
		case notTold: // it has no calls
			k.last = k.at(0)
		default:
			k.last = k.at(where)
		}
		g := k.last
		if g.n++; len(g.examples) < shownExamples {
			g.examples = append(g.examples, t)
		}
		for _, u := range t.fut.blocks() {
			s.waits(u, t)
		}
		if h, ok := t.on.(holder); ok && t.parked && h.heldBy() != nil {
			s.waits(t, h.heldBy())
		}
		if t.own {
			s.serverOf(t)
		}
		if len(s.listed) < s.ask.Tasks {
			s.listed = append(s.listed, t)
		}
	}
	if s.cursor.ended {
		s.plan()
	}
}

// notTold is the hash of the calls of a task that is to be looked at.
const notTold = 1

// tell notes the calls that a task of the batch is in.
func (s *survey) tell(t *task, pcs []uintptr) {
	i := slices.Index(s.batch, t)
	if i < 0 || len(pcs) == 0 {
		return // another task on the same stack
	}
	h := uint64(14695981039346656037) // FNV-1a, a word at a time
	for _, pc := range pcs {
		h = (h ^ uint64(pc)) * 1099511628211
	}
	s.wheres[i] = h
	if _, known := s.stacks[h]; !known {
		s.stacks[h] = slices.Clone(pcs)
	}
}

// waits notes that t waits for another task.
func (s *survey) waits(t, other *task) {
	if s.waitsFor[t] == nil {
		s.waiting = append(s.waiting, t)
	}
	s.waitsFor[t] = append(s.waitsFor[t], other)
}

func (s *survey) kindOf(t *task) *kind {
	key := kindKey{code: t.self.code(), doing: t.activity()}
	if key.doing == activityWaits {
		if on := t.waitsOn(); on != nil {
			key.on = reflect.TypeOf(on)
			s.countAt(on, t)
		}
	}
	k := s.kinds[key]
	if k == nil {
		k = &kind{kindKey: key, places: make(map[uint64]*group)}
		s.kinds[key] = k
	}
	return k
}

// at returns the group of the tasks of the kind that are in the same calls.
func (k *kind) at(where uint64) *group {
	g := k.places[where]
	if g == nil {
		g = &group{kind: k, where: where}
		k.places[where] = g
	}
	return g
}

// countAt notes that t waits for on.
func (s *survey) countAt(on any, t *task) {
	o := s.objects[on]
	if o == nil {
		if _, sleeps := on.(*alarm); sleeps || len(s.objects) >= maxObjects {
			return
		}
		o = new(object)
		s.objects[on] = o
	}
	if o.n++; len(o.examples) < shownExamples {
		o.examples = append(o.examples, t)
	}
}

// plan lists the work that is left once all tasks have been seen: the text of what is shown.
func (s *survey) plan() {
	var groups []*group
	for _, k := range s.kinds {
		groups = slices.AppendSeq(groups, maps.Values(k.places))
	}
	slices.SortFunc(groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.examples[0].GetName(), b.examples[0].GetName()))
	})
	s.found.AllGroups = len(groups)
	for _, g := range groups[:min(len(groups), shownGroups)] {
		s.rest = append(s.rest, func() { s.describe(g) })
	}
	type seen struct {
		on any
		o  *object
	}
	var objects []seen
	for on, o := range s.objects {
		if _, held := on.(holder); held || o.n > 1 {
			objects = append(objects, seen{on, o})
		}
	}
	slices.SortFunc(objects, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.o.n, a.o.n), strings.Compare(a.o.examples[0].GetName(), b.o.examples[0].GetName()))
	})
	s.found.AllObjects = len(objects)
	for _, o := range objects[:min(len(objects), shownObjects)] {
		s.rest = append(s.rest, func() { s.describeObject(o.on, o.o) })
	}
	s.planThings()
	for _, t := range s.listed {
		s.rest = append(s.rest, func() { s.describeTask(t) })
	}
}

func (s *survey) describe(g *group) {
	name, place := function(g.code)
	shown := &inspection.Group{Coroutine: name, Defined: place, Count: g.n, Sampled: g.sampled, State: g.examples[0].doing(), Examples: namesOf(g.examples)}
	o := s.loop.observed()
	for _, t := range g.examples {
		shown.IDs = append(shown.IDs, taskID(t))
	}
	if first := g.examples[0]; first.fut.state == pending {
		shown.Age = o.age(first)
	}
	if n := o.coroutines[g.code]; n != nil {
		shown.By, shown.Made = n.by, n.at.place()
		shown.Steps, shown.Busy, shown.Longest = n.steps, n.busy, n.longest
	}
	if i := slices.IndexFunc(g.examples, func(t *task) bool { return t.activity() == g.doing }); i >= 0 {
		shown.State = g.examples[i].doing() // the first may have gone on since
	}
	for _, f := range userFrames(s.stacks[g.where]) {
		shown.Stack = append(shown.Stack, formatFrame(f))
		if shown.Where == "" && !ours(f) {
			shown.Where = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	s.found.Groups = append(s.found.Groups, shown)
}

func (s *survey) describeTask(t *task) {
	if t.fut.state != pending {
		return
	}
	shown := &inspection.Task{ID: taskID(t), Name: t.GetName(), State: t.doing(), Age: s.loop.observed().age(t)}
	shown.Coroutine, _ = function(t.self.code())
	for _, f := range s.loop.callStacks([]*task{t})[t] {
		shown.Stack = append(shown.Stack, formatFrame(f))
	}
	for _, u := range t.fut.awaitedBy() {
		shown.AwaitedBy = append(shown.AwaitedBy, taskID(u))
	}
	s.found.Each = append(s.found.Each, shown)
}

// taskID identifies a task as long as it lives. It looks like the address that CPython prints.
func taskID(t *task) string { return "0x" + strconv.FormatUint(taskNumber(t), 16) }

func taskNumber(t *task) uint64 { return uint64(reflect.ValueOf(t).Pointer()) }

func namesOf(tasks []*task) []string {
	all := make([]string, len(tasks))
	for i, t := range tasks {
		all[i] = t.GetName()
	}
	return all
}

// lookForCircle looks for tasks that wait for each other in a circle, on a goroutine of its own. It
// has the loop confirm what it finds: the slices saw the tasks at different times.
func (s *survey) lookForCircle() {
	circle := findCircle(s.waiting, s.waitsFor)
	if circle == nil {
		s.done <- &s.found
		return
	}
	_, _ = s.loop.postFunc(func() { // a loop that is closed is not waited for
		for i, t := range circle {
			if !t.waitsForTask(circle[(i+1)%len(circle)]) {
				circle = nil
				break
			}
		}
		s.found.Circle = namesOf(circle)
		s.done <- &s.found
	})
}

// waitsForTask reports whether t cannot go on before u does.
func (t *task) waitsForTask(u *task) bool {
	if h, ok := t.on.(holder); ok && t.parked && h.heldBy() == u {
		return true
	}
	return slices.Contains(u.fut.blocks(), t)
}
