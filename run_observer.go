package asyncio

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// What is noted of a loop from the time on at which somebody could look at it (inspect 1), because
// it cannot be found out afterwards.
//
//	observer 1: Of each task it is noted when it was made, to 16 milliseconds. The tasks that are
//	   there when that begins count as made then.
//	observer 2: Of each coroutine function it is noted how many tasks it was given to. Who made the
//	   task, and where, is noted for one in makersOneOf, because that takes as long as ten steps.
//	observer 3: Steps are timed while somebody looks (inspection 4). They count for the coroutine
//	   function of their task. Of those that took longer than slowStep the longest are kept, for a
//	   minute, with the calls in which their task suspended.
//	observer 4: A queue that becomes large is noted by the process, with the task and the call that
//	   put the last value, each time it has become twice as long. The process does not keep it.
type observer struct {
	loop  *EventLoop
	begun time.Time

	coroutines map[uintptr]*coroutineNotes
	last       *coroutineNotes // of the last task that was made or has run
	lastCode   uintptr
	other      coroutineNotes // of all coroutines that come when there is no room

	timed   time.Time // since when steps are timed; zero if they are not
	steps   int
	busy    time.Duration
	longest time.Duration
	slow    []slowStep
}

const (
	tickUnit      = 16 * time.Millisecond
	makersOneOf   = 64
	maxCoroutines = 4096
	minSlowStep   = time.Millisecond
	maxSlowSteps  = 20
	slowStepsKept = time.Minute
)

// coroutineNotes is what is noted of the tasks with one coroutine function.
type coroutineNotes struct {
	made    int
	by      string // the task that made one of them, empty for a callback
	at      trace
	steps   int
	busy    time.Duration
	longest time.Duration
}

type slowStep struct {
	task string
	code uintptr // of its coroutine, 0 for a callback
	what string  // the callback
	at   trace
	took time.Duration
	when time.Time // when it ended
}

// observed returns the observer of the loop, and makes it if there is none. It is for the loop, or
// for the goroutine that begins a run.
func (l *EventLoop) observed() *observer {
	if o, ok := l.step.observer.(*observer); ok {
		return o
	}
	o := &observer{loop: l, begun: time.Now(), coroutines: make(map[uintptr]*coroutineNotes)}
	l.step.observer = o
	for t := range l.tasks.all { // they are as old, at least
		l.tasks.bear(t, 1)
	}
	return o
}

func (o *observer) taskMade(t *task) {
	o.loop.tasks.bear(t, uint32(time.Since(o.begun)/tickUnit)+1)
	n := o.notesOf(t.self.code())
	if n.made++; n.made%makersOneOf == 1 {
		n.by = ""
		if by := o.loop.current; by != nil {
			n.by = by.GetName()
		}
		n.at = callers(maxCallers)
	}
}

// age returns how old a task is, 0 if that is not known.
func (o *observer) age(t *task) time.Duration {
	tick := o.loop.tasks.bornAt(t)
	if tick == 0 {
		return 0
	}
	return max(time.Since(o.begun)-time.Duration(tick-1)*tickUnit, 1)
}

// made returns how many tasks have been made since the observer is there.
func (o *observer) made() int {
	all := o.other.made
	for _, n := range o.coroutines {
		all += n.made
	}
	return all
}

// notesOf returns the notes of a coroutine function (observer 2).
func (o *observer) notesOf(code uintptr) *coroutineNotes {
	if o.last != nil && o.lastCode == code {
		return o.last
	}
	n := o.coroutines[code]
	if n == nil {
		if len(o.coroutines) == maxCoroutines {
			return &o.other
		}
		n = new(coroutineNotes)
		o.coroutines[code] = n
	}
	o.last, o.lastCode = n, code
	return n
}

func (o *observer) stepEnded(what callback, took time.Duration, suspends *task) {
	if o.timed.IsZero() {
		o.timed = time.Now()
	}
	o.steps++
	o.busy += took
	o.longest = max(o.longest, took)
	t, _ := what.(*task)
	if t != nil {
		n := o.notesOf(t.self.code())
		n.steps++
		n.busy += took
		n.longest = max(n.longest, took)
	}
	if took < minSlowStep {
		return
	}
	if _, looks := what.(*survey); looks {
		return
	}
	s := slowStep{took: took, when: time.Now()}
	if t != nil {
		s.task, s.code = t.GetName(), t.self.code()
	} else {
		s.what = nameOf(what)
	}
	if suspends != nil {
		s.at = callers(maxCallers)
	}
	o.keep(s)
}

// keep keeps s if it is among the longest (observer 3).
func (o *observer) keep(s slowStep) {
	o.slow = slices.DeleteFunc(o.slow, func(old slowStep) bool { return s.when.Sub(old.when) > slowStepsKept })
	o.slow = append(o.slow, s)
	slices.SortStableFunc(o.slow, func(a, b slowStep) int { return cmp.Compare(b.took, a.took) })
	o.slow = o.slow[:min(len(o.slow), maxSlowSteps)]
}

// measured describes the steps, nil if none was timed.
func (o *observer) measured() *inspection.Steps {
	if o.timed.IsZero() {
		return nil
	}
	shown := &inspection.Steps{Count: o.steps, Busy: o.busy, Longest: o.longest, For: time.Since(o.timed)}
	for _, s := range o.slow {
		ago := time.Since(s.when)
		if ago > slowStepsKept {
			continue
		}
		one := &inspection.SlowStep{Task: s.task, What: s.what, Where: s.at.place(), Took: s.took, Ago: ago}
		if s.code != 0 {
			one.What, _ = function(s.code)
		}
		shown.Slow = append(shown.Slow, one)
	}
	return shown
}

// place returns the innermost place of the program, "/src/app/main.go:12".
func (tr trace) place() string {
	for _, f := range userFrames(tr) {
		if !ours(f) {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	return ""
}

// largeQueues has the queues that have become large (observer 4).
var largeQueues struct {
	sync.Mutex
	all []*largeNote
}

// maxLargeQueues bounds how many queues are noted.
const maxLargeQueues = 1000

type largeNote struct {
	queue func() largeOne
	loop  *EventLoop
	by    string
	at    trace
	size  int
	when  time.Time
}

func init() { observeLarge = noteLarge }

// noteLarge notes a queue, if the caller works for a loop that can be looked at.
func noteLarge(q largeOne) {
	l, by := workingLoop(q.home())
	if l == nil {
		return
	}
	note := &largeNote{queue: q.weakly(), loop: l, by: by, at: callers(maxCallers), size: q.measure().size, when: time.Now()}
	a := &largeQueues
	a.Lock()
	defer a.Unlock()
	a.all = slices.DeleteFunc(a.all, func(n *largeNote) bool {
		other := n.queue()
		return other == nil || other == q || n.loop.closed.Load()
	})
	if len(a.all) < maxLargeQueues {
		a.all = append(a.all, note)
	}
}

// workingLoop returns the loop that the calling goroutine works for, and the name of its task.
// It is found by the goroutine of its step, or, if a sequence of iter.Pull calls, by the queue.
func workingLoop(home *EventLoop) (l *EventLoop, task string) {
	r := &runningLoops
	r.Lock()
	defer r.Unlock()
	id := goroutineID()
	for other := range r.all {
		if other.modes.Load()&inspectMode != 0 && other.step.goroutine.Load() == id {
			home = other
		}
	}
	if home == nil || home.modes.Load()&inspectMode == 0 {
		return nil, ""
	}
	if t := home.step.task.Load(); t != nil {
		task = t.GetName()
	}
	return home, task
}

// largeQueuesOf returns what was noted of queues of the loop. It is for the loop.
func largeQueuesOf(l *EventLoop) []*largeNote {
	a := &largeQueues
	a.Lock()
	defer a.Unlock()
	var all []*largeNote
	for _, n := range a.all {
		if n.loop == l {
			all = append(all, n)
		}
	}
	return all
}
