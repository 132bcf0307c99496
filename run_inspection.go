package asyncio

import (
	"context"

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
func (l *inspected) Stack(goroutine uint64) []byte { return stackOf(goroutine) }

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
