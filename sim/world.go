package sim

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A world is one run. It makes every choice, for the loops of all its hosts.
//
//	world 1: A step is one callback that a loop runs. Steps are counted from 1 across all loops.
//	   Only between two steps does the world act (decide): it checks what the last step did,
//	   delivers what is due in the network, moves the clock, crashes or pauses the host, injects a
//	   cancel, and picks the next step.
//	world 2: A run is determined by the program, by the seed, and by the deviations from first in,
//	   first out without faults that the strategy decides on. The seed determines only what tasks
//	   draw, what a strategy draws, and the details of some faults of disks. So the seed and the
//	   recorded deviations reproduce the run (schedule 2 in schedule.go).
//	world 3: Each consumer of random numbers has a stream of its own, derived from the seed and its
//	   name: each task of each life of a host, the strategy, the choice of cancels, each disk.
//	   Random answers to questions need no stream (question 4).
//	world 4: Once something is wrong, the run is over: main's remaining callbacks run in order,
//	   unchecked and unrecorded, and other hosts run nothing.
//	world 5: Each life of a host has a loop, on a goroutine of its own. Exactly one life has the
//	   turn; the others are parked in Choose or Wait, or have not begun. A life that reaches Choose
//	   or Wait decides who has the turn next and hands it over (pass). So only one goroutine at a
//	   time uses a world, and it needs no locks.
//	world 6: First in, first out among hosts means that they take turns, an iteration each, in the
//	   order in which they were made. Ready callbacks are numbered in that order too, starting with
//	   the host that has the turn.
//	world 7: Time moves only when no loop has anything ready, none is due and no goroutine works for
//	   any of them. It then moves to the next timer or event. A paused host counts as having nothing
//	   ready until its pause ends.
//	world 8: Among things due at the same time, events come first, in the order in which they were
//	   set, then loops.
//	world 9: A step that blocks for ever cannot be ended from outside, so its run is abandoned: the
//	   goroutine that waits for the run goes on without it and no longer looks at the world. If the
//	   step returns after all, all lives of the world are killed.
type world struct {
	seed     uint64
	epoch    time.Time // the wall-clock time of all hosts at which the run begins
	strategy strategy
	limits   limits
	cancels  bool // live is recorded
	// which tasks may be cancelled, by their names; all if there are no functions
	cancelOnly []func(task string) bool
	lists      bool // asked is recorded
	branching  bool // width and choices are recorded
	reduces    bool // and effects
	stopAt     int  // before this step, for a debugger

	bubble *bubbled // nil: goroutines take no part

	supervised bool // debug mode is on
	watched    bool // steps that block are noticed

	clock    atomic.Int64 // the time; read by any goroutine
	hosts    []*Host      // in the order they were made, main's first
	main     *life
	turn     *life // the life that made the last step
	events   eventHeap
	cause    int // while an event happens: the step that set it
	happened int // events since the last step
	net      *network

	step      int           // the running step, or the last one
	made      bool          // the step has run and has not been checked yet
	announced bool          // the next step has been counted, and a cancel has been decided on
	stillFrom int           // the step at which the clock moved last
	now       time.Duration // as of the last step
	injected  bool          // a task has been cancelled by the world
	drew      bool          // random numbers have been drawn, so another seed may make another run
	closing   bool          // main has ended
	calm      bool          // there are no more faults
	over      bool          // something is wrong and the run is over (world 4)
	ended     bool          // no host is turned on any more
	looking   bool          // a function given to Always or Eventually is running

	able     []*life         // lives that have something ready, in the order of world 6
	devs     []deviation     // deviations made so far
	keeps    int             // callbacks that are kept back (keep 1)
	fair     bool            // a callback has run because it was kept back for long (keep 5)
	until    int             // what the strategy says of the callback that its next pick keeps back
	steps    []choice        // of each step, if branching
	features features        // for Guided
	stateOf  []func() any    // given to State
	states   []uint64        // behind each step, as a hash; 0: not comparable
	ranLast  map[any]lastRun // each task, if there may be states
	effects                  // of steps, if schedules may be left out
	live     [][]target      // of each step: tasks that could be cancelled, if cancels
	asked    []deviation     // other deviations that could have been chosen, if lists

	questions map[string]*question // by their names
	chaos     Trouble              // the troubles that there may be
	normal    course               // what the run in order was like,
	course    course               // and this run, so far

	reached map[string]Tally // what Sometimes was told

	checks []check
	hopes  []*hope

	barriers []*Barrier
	atEnd    []check
	idle     []*hope
	failure  error
	// what the failure is about: the step after which it was seen, or the last step of a task
	wrongAt   int
	wrongTask string

	tracer  *tracer  // nil: no trace is made
	picture *picture // nil: none is made (drawing 1)

	mu sync.Mutex
	// signalled when there is something new to look at: a life is pending, held has dropped, or a
	// context has ended
	stirred sync.Cond
	news    bool      // whether there is something new since the last look; guarded by mu
	held    int       // the work that has to end before time moves; guarded by mu
	heldAt  []uintptr // stack of the latest hold; guarded by mu

	beat      atomic.Int64 // step, for the goroutine that watches the run from outside
	abandoned atomic.Bool  // set when the run is abandoned (world 9)

	leaking    atomic.Bool
	performing sync.Map // the *performance of a goroutine's id

	leakMu sync.Mutex
	leaks  []error // guarded by leakMu
}

func newWorld(seed uint64, epoch time.Time, limits limits) *world {
	w := &world{seed: seed, epoch: epoch, limits: limits, questions: make(map[string]*question)}
	w.stirred.L = &w.mu
	w.heldAt = make([]uintptr, 0, 64)
	w.net = newNetwork(w.time, w.at, w.question, w.happens, w.amount)
	w.net.note, w.net.endure = w.note, w.endures
	w.main = w.newHost("main").begin(nil)
	w.main.state = running
	return w
}

// A strategy decides which callback runs where several are ready.
type strategy interface {
	// pick returns which of the n ready callbacks (world 6) is next, n > 1.
	pick(w *world, n int) int

	// cancel is asked before each step whether to cancel a task, and which.
	cancel(w *world) (target, bool)

	// fault is asked whether something with the probability p happens.
	fault(w *world, q *question, p float64) bool

	// amount is asked how much of something there is.
	amount(w *world, q *question, s span) int64
}

type limits struct {
	still int // steps without time passing
	total int
}

func (w *world) stream(consumer string) *rand.Rand {
	return rand.New(&source{w: w, PCG: rand.NewPCG(driver.Derive(w.seed, "sim "+consumer))})
}

// A source notes that numbers are drawn from it.
type source struct {
	*rand.PCG
	w *world
}

func (s *source) Uint64() uint64 {
	s.w.drew = true
	return s.PCG.Uint64()
}

func (w *world) time() time.Duration {
	if w.bubble != nil && w.bubble.asleep.Load() { // a goroutine asks
		return time.Since(w.bubble.start)
	}
	return time.Duration(w.clock.Load())
}

// Orders to a life, besides the index of the callback that it is to run.
const (
	die   = driver.Killed
	goOn  = -2
	stall = -3
)

// pass hands the turn on, and returns the order with which from gets it back. A life that is gone
// does not get it back.
func (w *world) pass(from *life) int {
	to, order := w.main, die
	if w.abandoned.Load() {
		w.main.killed = true // and ends the others
	} else {
		to, order = w.decide()
	}
	if to != from {
		if from.state == gone {
			to.baton <- order
			return die
		}
		from.loop.Park(true)
		to.baton <- order
		order = <-from.baton
		from.loop.Park(false)
	}
	from.state = running
	return order
}

// decide acts between two steps and returns the life to run next, with its order (world 1).
func (w *world) decide() (*life, int) {
	if w.bubble != nil {
		w.bubble.endStep(w)
	}
	if w.made {
		w.settle()
		if l := w.turn; l.state != gone && l.strike() {
			return l, die // the life that made the step is the caller
		}
	}
	for {
		if w.bubble != nil && w.bubble.open {
			w.bubble.takeIn(w)
		}
		if w.over {
			return w.wayOut()
		}
		if w.happen(); w.happened > maxEvents {
			w.fail(&unending{events: w.happened, at: w.time()})
			continue
		}
		if l := w.due(); l != nil {
			return l, goOn
		}
		if n := w.count(); n > 0 {
			if !w.announced {
				w.announced = true
				w.announce(n)
				continue // a cancel may have made a loop due
			}
			return w.pick(n)
		}
		if !w.advance() {
			return w.main, stall
		}
	}
}

// wayOut returns the only turn left once the run is over: main's, in order (world 4).
func (w *world) wayOut() (*life, int) {
	if w.main.state == choosing {
		return w.main, 0
	}
	return w.main, goOn
}

// due returns a life that has not begun, or whose wait is over.
func (w *world) due() *life {
	for _, h := range w.hosts {
		l := h.life
		if l == nil {
			continue
		}
		l.deliver(0)
		if l.isPaused() {
			continue
		}
		if l.state == starting || l.state == waiting && (l.pending.Load() || l.until <= w.time()) {
			return l
		}
	}
	return nil
}

// count returns how many callbacks are ready, and fills able with the lives that have them (world
// 6).
func (w *world) count() int {
	w.able = w.able[:0]
	if len(w.hosts) == 1 {
		if w.main.state != choosing || w.main.isPaused() {
			return 0
		}
		w.able = append(w.able, w.main)
		return w.main.n
	}
	n := 0
	at := w.turn.host.index
	if w.turn.state == choosing && w.turn.fresh {
		at++
	}
	for i := range w.hosts {
		if l := w.hosts[(at+i)%len(w.hosts)].life; l != nil && l.state == choosing && !l.isPaused() {
			w.able = append(w.able, l)
			n += l.n
		}
	}
	return n
}

// ready maps i, an index over all hosts' ready callbacks, to a life and an index in its queue.
func (w *world) ready(i int) (*life, int) {
	for _, l := range w.able {
		if i < l.n {
			return l, i
		}
		i -= l.n
	}
	panic("sim: there are not so many ready")
}

// readyName names the i-th ready callback.
func (w *world) readyName(i int) string {
	l, k := w.ready(i)
	name := l.loop.Name(k)
	if l == w.main {
		return name // without a copy
	}
	return l.host.prefix + name
}

// readyTask returns the task of the i-th ready callback, nil if it has none.
func (w *world) readyTask(i int) any {
	l, k := w.ready(i)
	task, _ := l.loop.Task(k)
	return task
}

// announce begins the next step, one of n.
func (w *world) announce(n int) {
	w.step++
	w.beat.Store(int64(w.step))
	if now := w.time(); now != w.now {
		w.now, w.stillFrom = now, w.step
	}
	if w.step-w.stillFrom >= w.limits.still {
		w.fail(&livelock{steps: w.limits.still, at: w.now, what: w.readyName(0)})
		return
	}
	if w.step > w.limits.total {
		w.fail(&tooLong{steps: w.limits.total, at: w.now})
		return
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
}

// settle does the remaining work after the last step.
func (w *world) settle() {
	if !w.made {
		return
	}
	w.made = false
	if w.reduces {
		w.endEffect()
	}
	if w.tracer != nil {
		w.tracer.endStep(w)
	}
	if w.picture != nil {
		w.picture.endStep(w.tracer)
	}
	if !w.over {
		w.check()
	}
	if w.branching && !w.over {
		w.noteState()
	}
}

// pick chooses the step among n ready callbacks.
func (w *world) pick(n int) (*life, int) {
	w.announced = false
	k, first := 0, -1
	if n > 1 && w.mustBeFair() {
		w.fair = true
		if w.branching {
			c := w.choice(n, 0)
			c.ready = 1 // there is no other
			w.steps = append(w.steps, c)
		}
	} else if n > 1 {
		w.course.choices++
		w.until = forever
		k = w.strategy.pick(w, n)
		if w.over { // a replay that does not fit
			return w.wayOut()
		}
		if w.branching {
			w.steps = append(w.steps, w.choice(n, k))
		}
		if k > 0 || w.keeps > 0 {
			first = w.account(k)
		}
	} else if w.branching {
		w.steps = append(w.steps, w.choice(1, 0))
	}
	l, i := w.ready(k)
	w.take(l, i)
	if w.features.of != nil {
		w.features.step(w.readyName(k))
	}
	if w.branching {
		if task, resumes := l.loop.Task(i); resumes {
			w.ranLast[task] = lastRun{w.step, w.now}
		}
	}
	if w.reduces {
		w.beginEffect(l, i)
	}
	if l.frozen {
		l.steps--
	}
	if w.tracer != nil {
		w.tracer.beginStep(w, l, i, k, n, first)
	}
	if w.picture != nil {
		w.picture.beginStep(w.tracer, l, i)
	}
	w.turn, w.made, w.happened, l.fresh = l, true, 0, false
	if w.bubble != nil {
		w.bubble.beginStep(w)
	}
	return l, i
}

// inject cancels a task, if it is there. It is apart so that not every step allocates a target.
//
//go:noinline
func (w *world) inject(t target) {
	if task, ok := w.find(t); ok {
		if w.tracer != nil && w.tracer.explains {
			w.tracer.where[deviationKey{w.step, true}] = aside(w.tracer.placeOfTask(task.life, task.AnyTask))
		}
		w.injected = true
		w.devs = append(w.devs, deviation{step: w.step, cancel: &t})
		task.life.do(func() { task.Cancel("injected by package sim") })
	}
}

// note adds a line to the trace.
func (w *world) note(text string) {
	if w.tracer != nil {
		w.tracer.note(note{text, false})
	}
}

// breakpoint stops a run that is to stop at a step.
var breakpoint = runtime.Breakpoint

// fail ends the run (world 4).
func (w *world) fail(err error) {
	if w.over {
		return
	}
	w.over, w.failure, w.wrongAt = true, err, w.step
	if l := w.main.eventLoop; l.IsRunning() {
		w.main.do(l.Stop)
	}
}

// tasks iterates over all tasks that are alive, with their names in a schedule.
func (w *world) tasks(yield func(target, aliveTask) bool) {
	seen := make(map[string]int)
	for _, h := range w.hosts {
		l := h.life
		if l == nil || l.loop == nil {
			continue
		}
		var all []asyncio.AnyTask
		l.do(func() { all = asyncio.AllTasks(l.eventLoop.Context()) })
		for _, t := range all {
			name := h.prefix + t.GetName()
			if !yield(target{name, seen[name]}, aliveTask{t, l}) {
				return
			}
			seen[name]++
		}
	}
}

// An aliveTask is a task and the life it belongs to.
type aliveTask struct {
	asyncio.AnyTask
	life *life
}

// targets returns the tasks that may be cancelled.
func (w *world) targets() []target {
	var all []target
	for t, task := range w.tasks {
		chosen := func(only func(task string) bool) bool { return only(t.task) }
		if !task.life.loop.IsOwn(task.AnyTask) && (len(w.cancelOnly) == 0 || slices.ContainsFunc(w.cancelOnly, chosen)) {
			all = append(all, t)
		}
	}
	return all
}

// find returns the task that want names, if it is alive.
func (w *world) find(want target) (t aliveTask, found bool) {
	for name, t := range w.tasks {
		if name == want {
			return t, true
		}
	}
	return t, false
}
