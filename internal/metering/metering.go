package metering

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// How the numbers of all loops are read.
//
//	reading 1: Totals come from the meters, without the loops' doing. The rest is counted by a
//	   census, which the loop makes in slices, like a survey (inspection 1). A loop is asked for one
//	   census at a time: whoever comes meanwhile gets the same one.
//	reading 2: Nobody waits for a loop that does not answer. One whose step has not returned after
//	   inspection.Patience is stuck (inspection 2); one that is only busy has the time of Limit.
//	   Then its last census is given, and the one that it has not made stays asked for.
//	reading 3: A loop has a number from its first run until it is closed, the smallest that is
//	   free. The meter stays with the number. So totals never go down, and a program that makes a
//	   thousand loops in turn does not have a thousand sets of numbers.

// Limit is how long a reading may take.
const Limit = 200 * time.Millisecond

// A Loop is an [inspection.Loop] that can keep a meter. Any goroutine may call its methods.
type Loop interface {
	inspection.Loop

	// SetMeter has the loop keep m from now on, and Meter returns the loop's meter.
	SetMeter(m *Meter)
	Meter() *Meter

	// Count asks for a census. began is closed when the loop takes it up, and done gets the result,
	// unless the loop closes before. ok is false if the loop is closed.
	Count() (began <-chan struct{}, done <-chan *Census, ok bool)
}

// A Census is what a loop has counted at one time.
type Census struct {
	Kinds       []Kind
	Ready       int
	Timers      int
	Connections int
	Executor    Executor // nil if there is none that tells
}

// A Kind is the tasks that run the same coroutine and are in the same state.
type Kind struct {
	Coroutine, State string
	Count            int
}

// An Executor tells how many jobs wait, and how many run. Any goroutine may ask it.
type Executor interface {
	Load() (queued, running int)
}

// Numbers is what is known of a loop.
type Numbers struct {
	*Meter
	Live *Live // nil if the loop does not run
}

// Live is what is known of a loop that runs.
type Live struct {
	Stuck bool
	Task  string        // of the step that does not return, empty for a callback
	For   time.Duration // how long it has not returned, since somebody has first seen it
	Lag   time.Duration // how long the census has waited for its turn, so far
	Last  *Census       // nil if there has not been one
}

var registry struct {
	sync.Mutex
	on     bool
	meters []*Meter // by number, from 1 on
}

// Begins is called when a loop's run begins, after [inspection.Begins].
func Begins(l Loop) {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if r.on {
		keep(l)
	}
}

// Enable has all loops keep meters from now on.
func Enable() {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if r.on {
		return
	}
	r.on = true // before the loops are looked up, so one that begins now is found here or in Begins
	for _, run := range inspection.Running() {
		if l, ok := run.Loop.(Loop); ok {
			keep(l)
		}
	}
}

// keep gives a loop the meter with the smallest number that is free (reading 3). It is called with
// the registry locked.
func keep(l Loop) {
	if l.Meter() != nil {
		return
	}
	r := &registry
	i := slices.IndexFunc(r.meters, func(m *Meter) bool { return !m.taken })
	if i < 0 {
		i = len(r.meters)
		r.meters = append(r.meters, &Meter{Number: i + 1})
	}
	m := r.meters[i]
	m.taken, m.readings = true, new(readings)
	l.SetMeter(m)
}

// GiveBack is called when the loop that has m has been closed.
func GiveBack(m *Meter) {
	r := &registry
	r.Lock()
	defer r.Unlock()
	m.taken = false
}

// Read returns the numbers of all loops, in the order of their numbers, which begin with 1. It
// blocks its caller for at most Limit, and not after ctx is done.
func Read(ctx context.Context) []Numbers {
	r := &registry
	r.Lock()
	found, readings := make([]Numbers, len(r.meters)), make([]*readings, len(r.meters))
	for i, m := range r.meters {
		found[i].Meter, readings[i] = m, m.readings
	}
	r.Unlock()
	var all sync.WaitGroup
	for _, run := range inspection.Running() {
		l, ok := run.Loop.(Loop)
		if !ok {
			continue
		}
		if m := l.Meter(); m != nil && m.Number <= len(found) { // not closed or begun just now
			all.Go(func() { found[m.Number-1].Live = readings[m.Number-1].read(ctx, l, run.Ended) })
		}
	}
	all.Wait()
	return found
}

// readings is how a loop that has a meter is read.
type readings struct {
	mu     sync.Mutex
	flight *flight // the reading under way, nil if there is none

	// For the reading under way.
	asked time.Time       // when the census was asked for
	began <-chan struct{} // nil once it has begun
	done  <-chan *Census  // nil if none is asked for
	lag   time.Duration   // of the last that has begun
	last  *Census         // the last that was made
	step  inspection.Step // as it was last seen
	since time.Time       // when it was first seen
}

// A flight is a reading of one loop, for all who come while it lasts (reading 1).
type flight struct {
	landed chan struct{}
	found  *Live
}

// read joins the reading under way, or begins one. It returns nil if the run has ended.
func (r *readings) read(ctx context.Context, l Loop, ended <-chan struct{}) *Live {
	r.mu.Lock()
	f := r.flight
	if f == nil {
		f = &flight{landed: make(chan struct{})}
		r.flight = f
		go func() {
			f.found = r.look(l, ended)
			r.mu.Lock()
			r.flight = nil
			r.mu.Unlock()
			close(f.landed)
		}()
	}
	r.mu.Unlock()
	select {
	case <-f.landed:
		return f.found
	case <-ctx.Done():
		return &Live{}
	}
}

// look asks for a census, unless one is asked for already, and waits for it as long as there is
// hope (reading 2).
func (r *readings) look(l Loop, ended <-chan struct{}) *Live {
	first := r.sees(l, time.Now())
	if r.done == nil {
		var ok bool
		r.asked = time.Now()
		if r.began, r.done, ok = l.Count(); !ok {
			return nil
		}
	}
	patience := time.NewTicker(inspection.Patience)
	defer patience.Stop()
	limit := time.NewTimer(Limit)
	defer limit.Stop()
	for {
		select {
		case <-r.began:
			r.began, r.lag = nil, time.Since(r.asked)
		case r.last = <-r.done:
			if r.began != nil {
				r.began, r.lag = nil, time.Since(r.asked)
			}
			r.done = nil
			return &Live{Lag: r.lag, Last: r.last}
		case <-ended:
			return nil
		case <-limit.C:
			return &Live{Lag: r.lagNow(), Last: r.last}
		case now := <-patience.C:
			if r.sees(l, now).Count == first.Count && first.Goroutine != 0 {
				return &Live{Stuck: true, Task: r.step.Task, For: time.Since(r.since), Lag: r.lagNow(), Last: r.last}
			}
			first = r.step
		}
	}
}

func (r *readings) lagNow() time.Duration {
	if r.began == nil {
		return r.lag
	}
	return time.Since(r.asked)
}

// sees notes the step under way.
func (r *readings) sees(l Loop, now time.Time) inspection.Step {
	if s := l.Step(); s.Count != r.step.Count || r.since.IsZero() {
		r.step, r.since = s, now
	}
	return r.step
}
