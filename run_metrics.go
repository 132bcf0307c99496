package asyncio

import (
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/metering"
)

// SetMeter implements [metering.Loop]. From the next step on the loop counts there.
func (l *inspected) SetMeter(m *metering.Meter) {
	m.GiveTo(l)
	l.step.meter.Store(m)
	(*EventLoop)(l).setMode(meteredMode|inspectMode, true)
}

// Now implements [metering.Meterable].
func (l *inspected) Now() time.Duration { return l.drv.Now() }

// Slow implements [metering.Meterable].
func (l *inspected) Slow() time.Duration { return (*EventLoop)(l).slowStepLimit() }

// NumTasks implements [metering.Meterable].
func (l *inspected) NumTasks() int { return l.tasks.n }

// Meter implements [metering.Loop].
func (l *inspected) Meter() *metering.Meter { return l.step.meter.Load() }

// Count implements [metering.Loop].
func (l *inspected) Count() (began <-chan struct{}, done <-chan *metering.Census, ok bool) {
	c := &census{
		loop: (*EventLoop)(l), began: make(chan struct{}), done: make(chan *metering.Census, 1),
		kinds: make(map[censusKey]int), batch: make([]*task, 0, censusBatch),
	}
	return c.began, c.done, c.loop.post(c) == nil
}

// A census goes through the tasks of a loop, a slice in each iteration (survey 1), and counts them
// by coroutine and state.
type census struct {
	loop   *EventLoop
	began  chan struct{}
	done   chan *metering.Census
	found  metering.Census
	cursor *taskCursor
	batch  []*task
	kinds  map[censusKey]int
}

type censusKey struct {
	code  uintptr
	state string
}

// censusBatch is how many tasks are counted between two looks at the clock.
const censusBatch = 64

func (c *census) String() string { return "Census()" }

func (c *census) readyName() string { return "Census()" }

func (*census) quick() {}

// fire does a slice.
func (c *census) fire(*future) {
	l := c.loop
	l.step.meter.Load().Waits() // this is no part of the step that was before it
	until := time.Now().Add(inspection.Slice)
	if c.cursor == nil {
		close(c.began)
		c.cursor = l.tasks.cursor()
		c.found.Ready, c.found.Timers = l.ready.n, len(l.timers)
		if p := openConns.ifAny(l); p != nil {
			c.found.Connections = p.n
		}
		if d := executors.ifAny(l); d != nil {
			if e, ok := d.current.(*ThreadPoolExecutor); ok {
				c.found.Executor = (*executorLoad)(e)
			}
		}
	}
	for !c.cursor.ended {
		c.batch = l.tasks.take(c.cursor, c.batch[:0])
		for _, t := range c.batch {
			c.kinds[censusKey{t.self.code(), stateLabel(t.activity())}]++
		}
		if !c.cursor.ended && time.Now().After(until) {
			l.schedule(c, nil)
			return
		}
	}
	l.tasks.forget(c.cursor)
	clear(c.batch)
	go c.tell()
}

// executorLoad implements [metering.Executor].
type executorLoad ThreadPoolExecutor

func (e *executorLoad) Load() (queued, running int) {
	_, _, running, queued = (*ThreadPoolExecutor)(e).measure()
	return queued, running
}

// tell makes text of what was counted, on a goroutine of its own.
func (c *census) tell() {
	for key, n := range c.kinds {
		c.found.Kinds = append(c.found.Kinds, metering.Kind{Coroutine: coroutineName(key.code), State: key.state, Count: n})
	}
	c.done <- &c.found
}

func stateLabel(a activity) string {
	switch a {
	case activityRuns:
		return "running"
	case activityNotStarted:
		return "new"
	case activityCanGoOn:
		return "ready"
	}
	return "waiting"
}
