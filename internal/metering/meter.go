// Package metering counts what the event loops of a process do, for package metrics.
package metering

import (
	"sync/atomic"
	"time"
)

// What a loop counts, and what that costs.
//
//	meter 1: A loop has no meter until somebody in the process wants numbers ([Enable]). From its
//	   next step on it has one, until it is closed. Only the loop writes to its meter, and any
//	   goroutine may read it at any time: each number by itself is right, and two of them may be a
//	   step apart. While the loop works, some dozens of short steps may not be told yet.
//	meter 2: The clock is read once a step, when it begins. A step is measured from there to the
//	   beginning of the next, or to the wait of the loop. So the sum of all steps is the time in
//	   which the loop did not wait. A step that is under way is not counted yet.
//	meter 3: An iteration is measured from its first step to that of the next one, or to the wait.
//	   What arrives during an iteration waits for its end.
//	meter 4: The tasks that a loop has when it takes its meter count as made. So made less ended is
//	   the number of tasks that are there.
type Meter struct {
	Number int // reading 3

	Made   atomic.Uint64 // tasks
	Ended  [Outcomes]atomic.Uint64
	Stalls atomic.Uint64 // steps that took at least the limit of a slow step

	Steps      Histogram
	Iterations Histogram

	// Guarded by registry.
	taken    bool      // by a loop
	readings *readings // of that loop

	// For the loop only.
	loop       Meterable
	new        bool          // the loop has not begun a step with it
	working    bool          // a step is under way
	began      time.Duration // when it began
	iteration  uint64
	beganRound time.Duration // when the iteration began
}

// How a task can end.
const (
	Returned = iota
	Failed
	Cancelled
	Panicked
	Outcomes // how many there are
)

// A Meterable is the loop that has a meter, which calls these methods on the loop.
type Meterable interface {
	Now() time.Duration  // the loop's clock
	Slow() time.Duration // from when on a step is a stall
	NumTasks() int       // those that are not done
}

// GiveTo has l use the meter from its next step on.
func (m *Meter) GiveTo(l Meterable) { m.loop, m.new = l, true }

// Begins notes that a step begins, in that iteration of the loop.
func (m *Meter) Begins(iteration uint64) {
	if m.new {
		m.new = false
		m.Made.Add(uint64(m.loop.NumTasks())) // meter 4
	}
	now := m.loop.Now()
	if m.working {
		m.ends(now)
		if iteration != m.iteration {
			m.Iterations.Add(now - m.beganRound)
			m.beganRound = now
		}
	} else {
		m.working, m.beganRound = true, now
	}
	m.began, m.iteration = now, iteration
}

// Waits notes that no step is under way any more.
func (m *Meter) Waits() {
	if !m.working {
		return
	}
	now := m.loop.Now()
	m.working = false
	m.ends(now)
	m.Iterations.Add(now - m.beganRound)
	m.Steps.tell()
	m.Iterations.tell()
}

// Makes notes that a task is made.
func (m *Meter) Makes() {
	if !m.new {
		m.Made.Add(1)
	}
}

// Ends notes that a task has ended.
func (m *Meter) Ends(how int) {
	if !m.new {
		m.Ended[how].Add(1)
	}
}

func (m *Meter) ends(now time.Duration) {
	took := now - m.began
	m.Steps.Add(took)
	if took > time.Millisecond && took >= m.loop.Slow() { // most steps need not ask
		m.Stalls.Add(1)
	}
}

// Bounds are the upper bounds of a histogram's buckets; there is one bucket more, without a bound.
var Bounds = [...]time.Duration{
	1 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 500 * time.Microsecond, 1 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 5 * time.Second, 10 * time.Second,
}

// A Histogram counts durations. One goroutine adds, any may read. To store where others read costs
// as much as to look at the clock. So durations of the first bucket, which are most, are told
// manyAtOnce at a time.
type Histogram struct {
	counts [len(Bounds) + 1]atomic.Uint64
	sum    atomic.Int64

	// For the goroutine that adds: what has not been told.
	n     uint64
	total time.Duration
}

const manyAtOnce = 64

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	if d <= Bounds[0] {
		h.total += d
		if h.n++; h.n == manyAtOnce {
			h.tell()
		}
		return
	}
	i := 1
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// tell lets others see what has been added so far.
func (h *Histogram) tell() {
	h.counts[0].Add(h.n)
	h.sum.Add(int64(h.total))
	h.n, h.total = 0, 0
}

// Counts is what a histogram has counted.
type Counts struct {
	Of  [len(Bounds) + 1]uint64 // the durations in each bucket
	Sum time.Duration
}

// Counts returns what has been counted so far.
func (h *Histogram) Counts() (c Counts) {
	for i := range h.counts {
		c.Of[i] = h.counts[i].Load()
	}
	c.Sum = time.Duration(h.sum.Load())
	return c
}

// Total is how many durations there are.
func (c *Counts) Total() (n uint64) {
	for _, m := range c.Of {
		n += m
	}
	return n
}

func (c *Counts) add(d Counts) {
	for i, n := range d.Of {
		c.Of[i] += n
	}
	c.Sum += d.Sum
}
