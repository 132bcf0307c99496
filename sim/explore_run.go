package sim

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/goasyncio/asyncio"
)

// One run of an exploration: making it by a plan, on a world of its own, and telling whether
// something went wrong.

// A plan says how to make a run.
type plan struct {
	name     string // of the strategy
	seed     uint64
	strategy func(*world) strategy
	traced   bool

	supervised bool        // debug mode is on, and blocking steps are noticed
	places     placesNoted // with a trace: where tasks wait
	explains   bool        // with a trace: also note where steps begin, to explain a failure
	pictured   bool        // with these: also draw the run
	cancels    bool        // note the tasks that could be cancelled,
	lists      bool        // and the faults that could happen
	branching  bool        // and what else could have been picked,
	features   bool        // note what the run has had, for Guided
	reduces    bool        // and what steps touch
	stopAt     int
}

// An outcome is the result of a run.
type outcome struct {
	w   *world
	err error // nil if nothing went wrong
}

// play makes a run. It has a goroutine of its own because t.FailNow in a task exits it.
func (x *exploration) play(p plan) *outcome {
	failed := x.tb != nil && x.tb.Failed()
	o := &outcome{err: errExited}
	before := runtime.NumGoroutine()
	r := &playing{begun: make(chan struct{}), stuck: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if x.bubble == nil {
			o.w = x.newWorld(p)
			close(r.begun)
			o.err = x.run(o.w)
		} else {
			x.inBubble(p, o, r, before)
		}
	}()
	<-r.begun
	if err := o.w.await(r); err != nil {
		panic(abandoned{&Failure{Err: err, Seed: p.seed, Strategy: p.name}})
	}
	o.w.course.time = o.w.time()
	o.w.forgetAll()
	if o.err == nil && !failed && x.tb != nil && x.tb.Failed() {
		o.err = errTestFailed
	}
	if b := o.w.bubble; b != nil && b.open {
		// What pools of the standard library keep must not come up in another bubble.
		runtime.GC()
		runtime.GC()
	}
	return o
}

// playing is a run as it is seen from outside its bubble, where the channels are made.
type playing struct {
	begun chan struct{} // closed when there is a world
	stuck chan struct{} // closed when a step is blocked for ever (bubble 4)
	done  chan struct{} // closed when the run is over
	left  bool          // goroutines are left that can never go on
}

// newWorld makes the world for a run by p.
func (x *exploration) newWorld(p plan) *world {
	w := newWorld(p.seed, x.epoch, x.limits)
	w.cancels, w.cancelOnly, w.lists, w.branching, w.stopAt = p.cancels, x.cancelOnly, p.lists, p.branching, p.stopAt
	w.reduces = p.reduces
	if p.features {
		w.features.of = make(map[uint64]bool)
	}
	if p.branching {
		w.ranLast = make(map[any]lastRun)
	}
	if p.traced {
		w.tracer = newTracer(p.places)
		w.tracer.sameShape = x.sameShape
		w.tracer.explains = p.explains
		w.observe()
		if p.pictured {
			w.picture = newPicture(w)
			w.tracer.picture, w.net.picture = w.picture, w.picture
		}
	}
	w.chaos, w.normal = x.chaos, x.normal
	w.supervised, w.watched = p.supervised, p.supervised || x.watched
	w.strategy = p.strategy(w)
	return w
}

// run makes the run of w.
func (x *exploration) run(w *world) error {
	runner := w.main.runner
	l, err := runner.GetLoop()
	if err != nil {
		return err
	}
	defer func() {
		w.over, w.ended = true, true
		w.killAll()
		_ = l.Close()
	}()
	main := asyncio.CreateTask(l.Context(), asyncio.Do(x.program), asyncio.TaskName("main"))
	_, err = asyncio.RunUntilComplete(l, main)
	w.closing = true
	if w.settle(); w.failure != nil {
		return w.failure
	}
	if err != nil && !(w.injected && errors.Is(err, asyncio.ErrCancelled)) {
		if errors.Is(err, asyncio.ErrDeadlock) {
			return w.withHostErrors(w.describeHosts(err))
		}
		w.wrongTask = "main"
		return w.withHostErrors(fmt.Errorf("main returned an error: %w", err))
	}
	err = runner.Close()
	if w.settle(); w.failure != nil {
		return w.failure
	}
	if err != nil {
		return fmt.Errorf("while the tasks that main had left were ended: %w", err)
	}
	w.ended = true
	w.killAll()
	if err := w.leaked(); err != nil {
		return err
	}
	for _, c := range w.atEnd {
		if err := w.run(c); err != nil {
			return err
		}
	}
	for h, err := range w.hostErrors {
		w.wrongTask = h.prefix + "main"
		return err
	}
	return nil
}

// hostErrors iterates over the errors with which programs have ended and which nobody has seen.
func (w *world) hostErrors(yield func(*Host, error) bool) {
	for _, h := range w.hosts {
		asked := w.injected && errors.Is(h.err, asyncio.ErrCancelled) // by Cancels
		if h.err != nil && !h.known && !asked && !yield(h, fmt.Errorf("the program of host %s ended with an error that nobody asked for: %w", h.name, h.err)) {
			return
		}
	}
}

// withHostErrors adds those errors to a failure of main, behind its first line: they may be the
// cause.
func (w *world) withHostErrors(failure error) error {
	for _, err := range w.hostErrors {
		failure = fmt.Errorf("%w\n\t%w", failure, err)
	}
	return failure
}

// describeHosts adds to a deadlock of main what the other hosts wait for.
func (w *world) describeHosts(deadlock error) error {
	var b strings.Builder
	about := map[*Host]string{w.hosts[0]: deadlock.Error()}
	for _, h := range w.hosts[1:] {
		l := h.life
		if l == nil {
			fmt.Fprintf(&b, "\n\thost %s is off", h.name)
			if h.err != nil && h.known { // the other errors are in hostErrors
				fmt.Fprintf(&b, ": its program ended with: %v", h.err)
			}
			continue
		}
		var tasks string
		l.do(func() { tasks = asyncio.FormatTasks(l.eventLoop.Context()) })
		about[h] = tasks
		fmt.Fprintf(&b, "\n\thost %s:\n\t\t%s", h.name, strings.ReplaceAll(strings.TrimSpace(tasks), "\n", "\n\t\t"))
	}
	text := w.circleOfHosts(about) + b.String()
	if text == "" {
		return deadlock
	}
	if w.tracer != nil {
		text = w.tracer.people(text)
	}
	return fmt.Errorf("%w%s", deadlock, text)
}

// killAll ends the lives of all hosts but main's, when main has ended (host 4).
func (w *world) killAll() {
	for _, h := range w.hosts[1:] {
		h.Kill()
	}
}
