package asyncio

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/metering"
)

// What package inspect and the asyncio command see of a loop, as an [inspection.Loop].
//
//	inspect 1: A loop pays nothing for being inspected until something in the process asks for it
//	   (inspection.Enable). From then on a step notes its task and goroutine, as for the watchdog,
//	   and the loop has an observer.

func init() { observeRun = (*EventLoop).isInspected }

// isInspected is called when a run of the loop begins and when it ends. Loops of a simulation are
// left out: their time stands still while somebody looks.
func (l *EventLoop) isInspected(begins bool) {
	if l.drv.Polls() {
		return
	}
	if !begins {
		inspection.Ends((*inspected)(l))
		return
	}
	watched, timed := inspection.Begins((*inspected)(l))
	if watched {
		l.beObserved()
	}
	l.setMode(timedMode, timed)
	metering.Begins((*inspected)(l))
}

// beObserved has the loop note its steps. It is for the loop, or for the goroutine that begins a
// run.
func (l *EventLoop) beObserved() {
	l.observed()
	l.setMode(inspectMode, true)
}

// inspected implements [inspection.Loop].
type inspected EventLoop

// Watch implements [inspection.Loop].
func (l *inspected) Watch() {
	_, _ = (*EventLoop)(l).postFunc((*EventLoop)(l).beObserved)
}

// Time implements [inspection.Loop].
func (l *inspected) Time(on bool) { (*EventLoop)(l).setMode(timedMode, on) }

// Ping implements [inspection.Loop].
func (l *inspected) Ping(fn func()) bool {
	_, err := (*EventLoop)(l).postFunc(fn)
	return err == nil
}

// Step implements [inspection.Loop].
func (l *inspected) Step() inspection.Step {
	s := &l.step
	for {
		n := s.count.Load()
		step := inspection.Step{Count: n, Goroutine: s.goroutine.Load()}
		if t := s.task.Load(); t != nil {
			step.Task = t.GetName()
		}
		if s.count.Load() == n {
			return step
		}
	}
}

// Stack implements [inspection.Loop].
func (l *inspected) Stack() []byte { return l.step.stack() }

// Cancel implements [inspection.Loop].
func (l *inspected) Cancel(ctx context.Context, id, name, why string) (found <-chan bool, ok bool) {
	c := &taskCancel{loop: (*EventLoop)(l), ctx: ctx, name: name, why: why, found: make(chan bool, 1)}
	c.id, _ = strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64) // 0 is no task's
	return c.found, c.loop.post(c) == nil
}

// A taskCancel looks for a task and cancels it. It is a callback that goes on in slices, as a
// survey does (survey 1).
type taskCancel struct {
	loop      *EventLoop
	ctx       context.Context
	id        uint64
	name, why string
	found     chan bool
	cursor    *taskCursor
}

func (c *taskCancel) String() string { return "CancelFromOutside()" }

func (c *taskCancel) readyName() string { return "CancelFromOutside()" }

func (c *taskCancel) fire(*future) {
	tasks := &c.loop.tasks
	if c.cursor == nil {
		c.cursor = tasks.cursor()
	}
	batch := make([]*task, 0, surveyBatch)
	for until := time.Now().Add(inspection.Slice); c.ctx.Err() == nil && !c.cursor.ended; {
		batch = tasks.take(c.cursor, batch[:0])
		for _, t := range batch {
			if taskNumber(t) == c.id && t.GetName() == c.name && t.fut.state == pending {
				tasks.forget(c.cursor)
				t.cancel(&CancelledError{Msg: c.why})
				c.found <- true
				return
			}
		}
		if time.Now().After(until) {
			c.loop.schedule(c, nil)
			return
		}
	}
	tasks.forget(c.cursor)
	c.found <- false
}

// Survey implements [inspection.Loop].
func (l *inspected) Survey(ctx context.Context, ask inspection.Ask) (began <-chan struct{}, done <-chan *inspection.Survey, ok bool) {
	s := &survey{
		loop: (*EventLoop)(l), ctx: ctx, ask: ask,
		began: make(chan struct{}), done: make(chan *inspection.Survey, 1),
		kinds: map[kindKey]*kind{}, objects: map[any]*object{}, waitsFor: map[*task][]*task{},
		stacks: map[uint64][]uintptr{}, calls: map[uintptr]bool{},
	}
	return s.began, s.done, s.loop.post(s) == nil
}
