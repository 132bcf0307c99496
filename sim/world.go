package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A world is the driver of one run: the one place for every choice.
//
//	W1 A step is one callback that the loop runs. Steps are counted from 1, and before each the world is
//	   asked (Choose). Between two steps it, and nothing else, acts: it looks at what the last step did
//	   (checks), injects a cancel, picks the next.
//	W2 What a run does depends on the program, on the seed (only by what tasks draw, and by what a strategy
//	   draws), and on the deviations from first in, first out that the strategy decides on. So the seed and the
//	   deviations that are recorded make the run again (P2 in schedule.go).
//	W3 Each consumer of random numbers has a stream of its own, derived from the seed and its name: each task, the
//	   strategy, the choice of cancels.
//	W4 Once something is wrong, the run is over: what is still run is run in order, unchecked and unrecorded.
type world struct {
	*driver.Virtual
	loop     *asyncio.EventLoop
	seed     uint64
	strategy strategy
	limits   limits
	cancels  bool // tasks may be cancelled, and live is recorded
	stopAt   int  // before this step, for a debugger

	ready     driver.Ready
	step      int           // the one that runs or ran last
	stillFrom int           // the step at which the clock moved last
	now       time.Duration // as of the last step
	injected  bool          // a task has been cancelled by the world
	closing   bool          // main has ended
	over      bool          // W4

	devs   []deviation // made
	widths []uint32    // of each step: how many were ready
	live   [][]target  // of each step: who could have been cancelled before, if cancels

	checks  []check
	hopes   []*hope
	atEnd   []check
	idle    []*asyncio.Future[asyncio.None]
	idleAt  int // the step after which the loop was about to wait when last seen
	failure error

	tracer *tracer // nil: no trace is made

	leaking atomic.Bool
	leakMu  sync.Mutex
	leaks   []error // guarded by leakMu
}

type limits struct {
	still int // steps without time passing
	total int
}

// A check is something that must hold.
type check struct {
	name string
	fn   func() error
}

// A hope is something that must become true.
type hope struct {
	cond func() bool
	done *asyncio.Future[asyncio.None]
}

type worldKey struct{}

// worldOf returns the world that ctx leads to, and panics if there is none.
func worldOf(ctx context.Context, caller string) *world {
	w, ok := ctx.Value(worldKey{}).(*world)
	if !ok {
		panic(fmt.Errorf("%w: this ctx does not come from sim.Run, Explore or Check (in sim.%s)", asyncio.ErrInvalidArgument, caller))
	}
	return w
}

// newLoop makes the loop of the run.
func (w *world) newLoop(ctx context.Context) *asyncio.EventLoop {
	l := asyncio.NewEventLoop(ctx, asyncio.Driver(w))
	l.SetDebug(w.tracer != nil)
	l.SetExceptionHandler(w.report)
	w.loop = l
	if w.tracer != nil {
		l.SetStallWatchdog(stepPatience, w.stalled)
	}
	return l
}

func (w *world) Seed(consumer string) (uint64, uint64) { return driver.Derive(w.seed, consumer) }

func (w *world) stream(consumer string) *rand.Rand {
	return rand.New(rand.NewPCG(w.Seed("sim " + consumer)))
}

// Choose is W1.
func (w *world) Choose(ready driver.Ready, todo, n int) int {
	w.ready = ready
	if w.tracer != nil {
		w.tracer.endStep(w)
	}
	if !w.over {
		w.check()
	}
	if w.over {
		return 0
	}
	w.step++
	if now := w.Now(); now != w.now {
		w.now, w.stillFrom = now, w.step
	}
	if w.step-w.stillFrom >= w.limits.still {
		w.fail(&livelock{steps: w.limits.still, at: w.now, what: ready.Name(0)})
		return 0
	}
	if w.step > w.limits.total {
		w.fail(&tooLong{steps: w.limits.total, at: w.now})
		return 0
	}
	if w.step == w.stopAt {
		breakpoint()
	}
	if w.cancels {
		var live []target
		if !w.closing && !w.injected {
			live = w.targets()
		}
		w.live = append(w.live, live)
	}
	if t, ok := w.strategy.cancel(w); ok && !w.injected && !w.closing {
		w.inject(t)
	}
	k := 0
	if n > 1 {
		if k = w.strategy.pick(w, todo, n); k > 0 {
			w.devs = append(w.devs, deviation{step: w.step, pick: k})
		}
	}
	w.widths = append(w.widths, uint32(n))
	if w.tracer != nil {
		w.tracer.beginStep(w, k, n)
	}
	return k
}

// inject cancels a task, if it is there. It is apart so that not every step allocates a target.
//
//go:noinline
func (w *world) inject(t target) {
	if task := w.find(t); task != nil {
		w.injected = true
		w.devs = append(w.devs, deviation{step: w.step, cancel: &t})
		task.Cancel("injected by package sim")
	}
}

// breakpoint is where a run stops that is to stop at a step.
var breakpoint = runtime.Breakpoint

// BeginIteration tells the tracer that what becomes ready from now on is not the last step's doing.
func (w *world) BeginIteration() {
	if w.tracer != nil && w.ready != nil {
		w.tracer.cause(w.ready.Len(), w.step)
		w.tracer.outside = true
	}
}

// check looks at what the last step did.
func (w *world) check() {
	if w.leaking.Load() {
		w.leakMu.Lock()
		err := w.leaks[0]
		w.leakMu.Unlock()
		w.fail(err)
		return
	}
	for _, c := range w.checks {
		if err := c.run(); err != nil {
			w.fail(err)
			return
		}
	}
	w.look()
}

// look tells those whose hope has come true.
func (w *world) look() {
	rest := w.hopes[:0]
	for _, h := range w.hopes {
		switch {
		case h.done.Done(): // given up
		case h.cond():
			_ = h.done.SetResult(asyncio.None{})
		default:
			rest = append(rest, h)
		}
	}
	clear(w.hopes[len(rest):])
	w.hopes = rest
}

// run runs the check. One that panics has failed.
func (c check) run() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &violation{c.name, fmt.Errorf("the check panics: %v", v)}
		}
	}()
	if err := c.fn(); err != nil {
		return &violation{c.name, err}
	}
	return nil
}

// fail ends the run (W4).
func (w *world) fail(err error) {
	if w.over {
		return
	}
	w.over, w.failure = true, err
	if w.loop.IsRunning() {
		w.loop.Stop()
	}
}

// report is the loop's exception handler.
func (w *world) report(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	if w.over {
		return
	}
	r := &reported{message: c.Message, err: c.Exception}
	if c.Task != nil {
		r.task = c.Task.GetName()
	} else if m := nameInRepr.FindStringSubmatch(c.Source); m != nil {
		r.task = m[1]
	}
	// Not W4 at once: main goes on to say what it makes of it.
	if w.failure == nil {
		w.failure = r
	}
}

// nameInRepr finds a task's name in the repr of one that nobody holds any more.
var nameInRepr = regexp.MustCompile(`^<Task .*? name='([^']*)'`)

// A target is a task as the schedule names it: the nth of those alive with that name, oldest first.
type target struct {
	task string
	nth  int
}

func (w *world) targets() []target {
	var all []target
	seen := make(map[string]int)
	for _, t := range asyncio.AllTasks(w.loop.Context()) {
		name := t.GetName()
		all = append(all, target{name, seen[name]})
		seen[name]++
	}
	return all
}

// find returns the task that is meant, nil if there is none.
func (w *world) find(want target) asyncio.AnyTask {
	n := 0
	for _, t := range asyncio.AllTasks(w.loop.Context()) {
		if t.GetName() == want.task {
			if n == want.nth {
				return t
			}
			n++
		}
	}
	return nil
}

// Wait moves the clock, unless somebody waits for the time when nothing can run. That is the second time in
// a row that the loop wants to wait: the first time, something may have come from outside.
func (w *world) Wait(until time.Duration) error {
	if len(w.idle) > 0 {
		if w.idleAt != w.step {
			w.idleAt = w.step
			return w.Virtual.Wait(w.Now())
		}
		f := w.idle[0]
		w.idle = w.idle[1:]
		w.idleAt = -1
		if _, err := w.loop.CallSoonThreadsafe(func() {
			if !f.Done() {
				_ = f.SetResult(asyncio.None{})
			}
		}); err != nil {
			return err
		}
	}
	return w.Virtual.Wait(until)
}

// Hold is called when the loop waits in real time for a goroutine: to run a thread function, or at a channel that only
// a goroutine can still use.
func (w *world) Hold() {
	w.Virtual.Hold()
	if calledBy("asyncio.(*EventLoop).waitOrListen") {
		w.leak("a task waits for a channel, and only a goroutine outside of the simulation could still use it")
		w.Virtual.Wake()
		// The loop looks at what is wrong before the next step; there is none before the channel is used.
		w.abort()
	}
}

// stepPatience is how much real time a step may be blocked.
var stepPatience = 250 * time.Millisecond

// stalled is told of a step that does not return. That it computes, or has to wait for a processor, is nobody's fault; that it sleeps or waits
// for a goroutine is.
func (w *world) stalled(s asyncio.Stall) {
	head, _, _ := strings.Cut(string(s.Stack), "\n")
	for _, state := range []string{"[sleep", "[chan ", "[select", "[IO wait", "[sync.", "[semacquire"} {
		if strings.Contains(head, state) {
			w.leak("a step blocks, and real time goes by: in a task asyncio.Sleep, Recv and ToThread are for that; it is\n" + string(s.Stack))
			return
		}
	}
}

// abort makes a step, so that what is wrong is seen although nothing is ready.
func (w *world) abort() {
	_, _ = w.loop.CallSoonThreadsafe(func() {})
}

// Wake notices goroutines that reach into the simulation.
func (w *world) Wake() {
	if !w.leaking.Load() && calledBy("asyncio.(*EventLoop).post") && !calledBy(
		"asyncio.(*stack).Run", "asyncio.(*stackPool).hub", // the loop itself
		"sim.(*exploration).run",                             // the goroutine that runs it
		"sim.(*world).perform",                               // which the loop waits for
		"asyncio.(*EventLoop).ShutdownDefaultExecutor.func1", // likewise
		"sim.(*world).Wait", "sim.(*world).Hold", "sim.(*world).leak",
	) {
		w.leak("a goroutine outside of the simulation has called the loop, at a time that no seed decides")
	}
	w.Virtual.Wake()
}

// leak notes that something of the real world has come in, and where.
func (w *world) leak(what string) {
	err := &leaked{what: what, stack: userStack()}
	w.leakMu.Lock()
	w.leaks = append(w.leaks, err)
	w.leakMu.Unlock()
	w.leaking.Store(true)
}

// callers is a sequence of the caller's callers, innermost first.
func callers(yield func(runtime.Frame) bool) {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(2, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	frames := runtime.CallersFrames(pcs[:n])
	for {
		f, more := frames.Next()
		if f.Function != "" && !yield(f) || !more {
			return
		}
	}
}

// calledBy reports whether one of the functions is among the callers.
func calledBy(functions ...string) bool {
	for f := range callers {
		for _, name := range functions {
			if strings.HasSuffix(f.Function, name) {
				return true
			}
		}
	}
	return false
}

// userStack is where the program is, without the library's own functions.
func userStack() string {
	var b strings.Builder
	for f := range callers {
		if !isLibrary(f) {
			fmt.Fprintf(&b, "\n\t%s", place(f))
		}
	}
	return b.String()
}

// threadPatience is how much real time a thread function may take before the loop goes on without it.
var threadPatience = 2 * time.Second

// Submit is the default executor's. A thread function is run as one step of the loop, which waits for it: so the moment at which
// it ends does not depend on real time.
func (w *world) Submit(job func()) error {
	w.loop.CallSoon(func() {
		done := make(chan struct{})
		go w.perform(job, done)
		limit := time.NewTimer(threadPatience)
		defer limit.Stop()
		select {
		case <-done:
		case <-limit.C:
			w.leak(fmt.Sprintf("a thread function waits for something outside of the simulation, or for the loop, or computes for longer than %v; it is\n%s",
				threadPatience, goroutineWith("sim.(*world).perform(")))
			w.abort()
		}
	})
	return nil
}

func (w *world) perform(job func(), done chan<- struct{}) {
	defer close(done)
	job()
}

// Shutdown is the default executor's. No job is under way when it is called.
func (w *world) Shutdown(bool) {}

// goroutineWith returns the stack of the goroutine that is in the function.
func goroutineWith(function string) string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, function) {
			return g
		}
	}
	return ""
}

// How a run can go wrong, besides the errors of main itself.
type (
	// violation is an invariant that does not hold.
	violation struct {
		name string
		err  error
	}
	// reported is what has reached the loop's exception handler.
	reported struct {
		message, task string
		err           error
	}
	livelock struct {
		steps int
		at    time.Duration
		what  string
	}
	tooLong struct {
		steps int
		at    time.Duration
	}
	leaked struct{ what, stack string }
)

func (e *violation) Error() string {
	return fmt.Sprintf("invariant %q does not hold: %v", e.name, e.err)
}
func (e *violation) Unwrap() error { return e.err }

func (e *reported) Error() string {
	s := e.message
	if e.task != "" {
		s += ": task " + quote(e.task)
	}
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}
func (e *reported) Unwrap() error { return e.err }

func (e *livelock) Error() string {
	return fmt.Sprintf("livelock: %d steps at time %v without the clock moving; next was %s (see StepLimit)", e.steps, e.at, e.what)
}

func (e *tooLong) Error() string {
	return fmt.Sprintf("main has not ended after %d steps, at time %v (see StepLimit)", e.steps, e.at)
}

func (e *leaked) Error() string {
	return fmt.Sprintf("not deterministic: %s%s", e.what, e.stack)
}

// ErrNotDeterministic is matched by the failure of a run that depends on something other than its seed: two runs of the
// same seed differ, or something of the real world has come in.
var ErrNotDeterministic = errors.New("sim: not deterministic")

func (e *leaked) Is(target error) bool { return target == ErrNotDeterministic }
