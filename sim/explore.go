package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/bubble"
	"github.com/goasyncio/asyncio/internal/driver"
)

// TB is the part of [testing.TB] needed here; package testing has no place in a program.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
}

// An Option is an option of [Run], [Explore], [Check] and [Trace]. Any goroutine may make one.
type Option struct{ set func(*exploration) }

// Runs sets how many schedules an exploration runs at most; the default is 200. The environment
// variable ASYNCIOSIM_RUNS overrides it. Runs panics for an n of less than one.
func Runs(n int) Option {
	if n < 1 {
		panic(fmt.Errorf("%w: %d runs (in sim.Runs)", asyncio.ErrInvalidArgument, n))
	}
	return Option{func(x *exploration) { x.runs = n }}
}

// Seed sets the seed of [Run], and the first of an exploration, which goes on with the numbers
// after it. The default is 0 for Run and [Exhaustive], else 1.
func Seed(seed uint64) Option { return Option{func(x *exploration) { x.seed, x.seeded = seed, true }} }

// WithStrategy sets the strategy. The default is first in, first out for [Run], [Swarm] for an
// exploration.
func WithStrategy(s Strategy) Option { return Option{func(x *exploration) { x.strategy = s }} }

// Cancels cancels one task in each run, at a random step or, with [Exhaustive], at each step in
// turn: Exhaustive(1) cancels every task at every await it makes, one at a time. A run has not
// failed if main, or the program of another host, ends cancelled by that. [Always] and [AtEnd]
// check what must hold nevertheless. In order, and with [Tape], no task is cancelled.
//
// Tasks that the library has made for itself, as the one that accepts a server's connections, are
// left alone. With functions only the tasks are cancelled for which one of them returns true; it
// gets the task's name as a trace shows it, with the host's in front: "db/worker". The functions
// are called in each run, and must not await or change anything.
func Cancels(only ...func(task string) bool) Option {
	if slices.ContainsFunc(only, func(f func(string) bool) bool { return f == nil }) {
		panic(fmt.Errorf("%w: a nil function (in sim.Cancels)", asyncio.ErrInvalidArgument))
	}
	return Option{func(x *exploration) { x.cancels, x.cancelOnly = true, only }}
}

// StepLimit sets how many steps a run may make without the clock moving (more are a livelock), and
// how many in all. The defaults are 100,000 and 10,000,000. It panics for a limit of less than one.
func StepLimit(still, total int) Option {
	if still < 1 || total < 1 {
		panic(fmt.Errorf("%w: limits of %d and %d steps (in sim.StepLimit)", asyncio.ErrInvalidArgument, still, total))
	}
	return Option{func(x *exploration) { x.limits = limits{still, total} }}
}

// Epoch sets the wall-clock time at which each run begins, and the location of the times that
// [asyncio.EventLoop.Now] returns: a minute before a leap day, or before the clocks change. The
// default is 1 January 2000, UTC. Timers, and time in traces, begin at zero in any case.
func Epoch(t time.Time) Option {
	t = t.Round(0) // a time of the simulation has nothing to do with the machine's monotonic clock
	return Option{func(x *exploration) { x.epoch = t }}
}

// SameShape leaves the bytes of data out of the comparison of runs that should be the same: of
// messages and of what is written to disks only the sizes are compared, and of notes and errors
// nothing. It is for programs in whose data is something that does not come from the seed and has
// no consequences, such as the identifiers of a library. Any goroutine may call it.
func SameShape() Option { return Option{func(x *exploration) { x.sameShape = true }} }

// Parallel lets an exploration make up to n runs at a time, as many as [runtime.GOMAXPROCS] says if
// n is zero. What it finds and reports is the same as without Parallel. The goroutines of several
// runs call main at the same time. So main may use a variable of the surrounding function only
// under a lock, and the default is one run at a time. Parallel panics for a negative n.
func Parallel(n int) Option {
	if n < 0 {
		panic(fmt.Errorf("%w: %d runs at a time (in sim.Parallel)", asyncio.ErrInvalidArgument, n))
	}
	return Option{func(x *exploration) { x.parallel = cmp.Or(n, runtime.GOMAXPROCS(0)) }}
}

// Replay runs the schedule recorded in a file, once, instead of exploring. The failure matches
// [ErrIncompatible] if the schedule was recorded with a different program. The environment variable
// ASYNCIOSIM does the same, see [Explore].
func Replay(file string) Option { return Option{func(x *exploration) { x.file = file }} }

// StopAt stops a [Replay] before a step, with [runtime.Breakpoint], for a debugger.
func StopAt(step int) Option { return Option{func(x *exploration) { x.stopAt = step }} }

// An exploration is one call of Run, Explore or Check.
type exploration struct {
	program  func(ctx context.Context) error
	tb       TB // nil for Check
	runs     int
	seed     uint64
	seeded   bool
	strategy Strategy
	cancels  bool
	// tasks that may be cancelled, if there are any functions
	cancelOnly []func(task string) bool
	limits     limits
	epoch      time.Time
	parallel   int // runs at a time
	file       string
	tapes      string   // the directory of Corpus
	must       []string // be reached
	stopAt     int
	sameShape  bool           // bytes are not compared (data 2)
	watched    bool           // steps that block are noticed
	bubble     *bubble.Bubble // nil: runs are in no bubble

	chaos   Trouble
	normal  course // of the first run, in order
	steps   int    // of that
	faults  bool   // there are some that can happen
	amounts bool   // there are some that can be other than usual
	fair    bool   // in some runs the end was made fair (keep 5)
	report  Report
}

const defaultRuns = 200

func newExploration(main func(ctx context.Context) error, opts []Option) *exploration {
	if main == nil {
		panic(fmt.Errorf("%w: nil main (in package sim)", asyncio.ErrInvalidArgument))
	}
	x := &exploration{program: main, runs: defaultRuns, epoch: driver.VirtualStart, limits: limits{still: 100_000, total: 10_000_000}}
	for _, o := range opts {
		if o.set != nil {
			o.set(x)
		}
	}
	if x.bubble != nil {
		x.parallel = 1 // processors and cryptographic random numbers are the process's
	}
	return x
}

// Run runs main under virtual time, in the order of production (first in, first out), as part of
// the test t. It fails t if main returns an error or something else goes wrong: a panic, a report
// to the loop's exception handler, as of an error that nobody retrieves, a deadlock, an invariant
// ([Always], [AtEnd]) that does not hold, too many steps, a leak of the real world. With [Replay]
// or [WithStrategy] the run follows another schedule.
//
// main runs as a task named main, on a loop of its own. When it returns, the remaining tasks are
// cancelled, as by [asyncio.Run]. It must not depend on anything left behind by an earlier run. Run
// blocks the calling goroutine, which may be any one on which t.Fatalf may be called. See [Explore]
// for the failure and for the environment variable ASYNCIOSIM.
func Run(t TB, main func(ctx context.Context) error, opts ...Option) {
	t.Helper()
	x := newExploration(main, opts)
	x.tb = t
	x.test(func() *Failure {
		if x.strategy.exhaustive {
			return x.explore()
		}
		x.runs, x.watched = 1, true
		return x.single(x.seed)
	})
}

// Explore runs main as [Run] does, many times, on the schedules of a strategy: once in order, with
// seed 0, then with seeds from 1 or, with [Exhaustive], every schedule. It fails t with the first
// run that goes wrong and explains it in full: the seed, the fewest deviations from first in, first
// out that reproduce it, the trace, and a line that runs it again. The schedule is written to
// testdata/sim, in a directory with the name of the test, unless the failing run is the one in
// order. Schedules in that directory are replayed first, every time, so a failure found once is
// tried for ever. A schedule that no longer fits the program is logged, and its seed runs instead.
//
// main should return what it finds wrong as an error: after t.Error the runs cannot be told apart,
// and the failing one is not minimised.
//
// To see whether main depends on more than its seed, the first run of the strategy is made twice
// and the traces compared. The run in order is in debug mode, in which more calls from foreign
// goroutines are refused. See docs/simulation.md and [asyncio.EventLoop.SetDebug].
//
// The environment variable ASYNCIOSIM makes Run and Explore do one thing only. A number runs one
// seed. The name of a file replays the schedule in it. With @ and a step behind that, the run stops
// there for a debugger.
//
//	ASYNCIOSIM=testdata/sim/TestTransfer/5f3c09aa.sim@41 dlv test -- -test.run '^TestTransfer$'
func Explore(t TB, main func(ctx context.Context) error, opts ...Option) {
	t.Helper()
	x := newExploration(main, append([]Option{WithStrategy(Swarm())}, opts...))
	x.tb = t
	x.test(func() *Failure {
		if f := x.corpus(); f != nil {
			return f
		}
		return x.explore()
	})
}

// Check explores main as [Explore] does, outside a test: it reads no environment and writes no
// files. It blocks the calling goroutine, which may be any one that does not run a loop.
func Check(main func(ctx context.Context) error, opts ...Option) *Report {
	x := newExploration(main, append([]Option{WithStrategy(Swarm())}, opts...))
	x.report.Failure = x.whole(func() *Failure {
		if x.file != "" {
			return x.replay(x.file)
		}
		return x.explore()
	})
	return &x.report
}

// Trace runs main once, as [Run] does, and returns everything that happened, step by step, in the
// form in which a failure shows the last steps: the time, the callback, where its task waits then,
// and the step that made it ready. err is the failure, without an explanation. The same program and
// options give the same text, byte for byte. [Seed] and [WithStrategy] choose the schedule;
// [Exhaustive] stands for the order of production. It blocks the calling goroutine, which may be
// any one that does not run a loop.
func Trace(main func(ctx context.Context) error, opts ...Option) (trace string, err error) {
	x := newExploration(main, opts)
	o, f := x.once(func(*plan) {})
	if f != nil {
		return "", f.Err
	}
	return o.w.tracer.text(o.w.tracer.len()) + o.w.tracer.summary(), o.err
}

// WriteTimeline runs main once, as [Trace] does, and writes the run to w as a page for a browser: a
// lane for each task, with its steps and waits, and messages between hosts. The error is that of w,
// or else the failure of the run, of which the page is written all the same. It blocks the calling
// goroutine, which may be any one that does not run a loop.
func WriteTimeline(w io.Writer, main func(ctx context.Context) error, opts ...Option) error {
	x := newExploration(main, opts)
	o, f := x.once(func(p *plan) { p.explains, p.pictured = true, true })
	if f != nil {
		return f.Err
	}
	if err := o.w.picture.finish(o.w.tracer, o).WriteHTML(w); err != nil {
		return err
	}
	return o.err
}

// once makes one run with a trace, in which places are noted. If it cannot be made, that is the
// failure.
func (x *exploration) once(more func(*plan)) (o *outcome, f *Failure) {
	f = x.whole(func() *Failure {
		p := x.plan(x.seed)
		if x.strategy.make != nil {
			first := x.play(plan{strategy: func(*world) strategy { return fifo{} }}).w
			x.steps, x.normal = max(first.step, 1), first.course
		}
		p.traced, p.places = true, allPlaces
		more(&p)
		o = x.play(p)
		return nil
	})
	return o, f
}

// whole returns the result of do, or the failure of a run that do has abandoned.
func (x *exploration) whole(do func() *Failure) (f *Failure) {
	if x.bubble != nil {
		defer x.bubble.Begin()()
	}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case abandoned:
			f = v.failure
			if f.Strategy != "" { // not a replay
				f.Run = x.report.Runs + 1
			}
		default:
			panic(v)
		}
	}()
	return do()
}

// abandoned is the panic value of play when a run is abandoned (world 9): its exploration cannot go
// on.
type abandoned struct{ failure *Failure }

// test is the common part of Run and Explore.
func (x *exploration) test(do func() *Failure) {
	x.tb.Helper()
	f := x.whole(func() *Failure { return x.asked(do) })
	if f == nil {
		if x.report.Coverage != "" {
			x.tb.Logf("%s", x.report.Coverage)
		}
		return
	}
	if f.Run > 0 {
		f.reproduce = x.record(f)
	}
	x.draw(f)
	x.tb.Fatalf("%v", f)
}

// explore runs the schedules of the strategy.
func (x *exploration) explore() *Failure {
	if x.strategy.exhaustive {
		return x.exhaust()
	}
	if x.strategy.guided {
		if f := x.calibrate(true); f != nil {
			return f
		}
		return x.guide()
	}
	if f := x.calibrate(x.runs == 1); f != nil {
		return f
	}
	seed := x.seed
	if !x.seeded {
		seed = 1
	}
	if x.runs > 1 {
		p := x.plan(seed)
		p.traced, p.places = true, somePlaces
		first := x.play(p)
		x.count(first.w)
		if first.err != nil {
			return x.explain(x.plan(seed), first)
		}
		second := x.play(p)
		if f := x.compare(p, first, second); f != nil {
			return f
		}
	}
	if f := x.sample(seed+1, x.runs-2); f != nil {
		return f
	}
	x.report.Coverage = fmt.Sprintf("%d runs, %d steps, %s: a sample, which proves nothing of the schedules that were not run%s", x.report.Runs, x.report.Steps, x.strategy, x.report.tallies())
	return x.unreached()
}

// sample runs n seeds. The failure is that of the first seed that fails.
func (x *exploration) sample(seed uint64, n int) (failure *Failure) {
	var failed *outcome
	begun := 0
	x.ahead(func() (plan, bool) {
		if begun >= n {
			return plan{}, false
		}
		begun++
		return x.plan(seed + uint64(begun-1)), true
	}, func(o *outcome) bool {
		x.count(o.w)
		if o.err != nil {
			failed = o
		}
		return o.err == nil
	})
	if failed == nil {
		return nil
	}
	return x.explain(x.plan(failed.w.seed), failed)
}

// calibrate makes the first run, in order and under supervision, and notes how long it is. It makes
// the run twice if it fails, or if twice says that no other is going to be repeated. Supervision is
// slow, so the second run goes without it if nothing is wrong.
func (x *exploration) calibrate(twice bool) *Failure {
	p := plan{name: inOrder, strategy: func(*world) strategy { return fifo{} }, traced: true, supervised: true}
	if twice {
		p.places = somePlaces
	}
	first := x.play(p)
	x.count(first.w)
	x.steps, x.normal = max(first.w.step, 1), first.w.course
	if first.err == errExited || first.err == errTestFailed {
		return x.explain(p, first)
	}
	if first.err == nil {
		p.supervised = false
		if !twice {
			return nil
		}
	}
	second := x.play(p)
	if f := x.compare(p, first, second); f != nil {
		return f
	}
	if first.err == nil {
		return nil
	}
	p.traced, p.supervised = false, false
	if o := x.play(p); o.err != nil {
		return x.explain(p, o)
	}
	return x.unexplained(p, first) // debug mode sees more
}

// compare reports whether two runs of one plan, with traces, were the same, and ended in the same
// way. If one of them has noticed why they cannot be, that is the failure.
func (x *exploration) compare(p plan, first, second *outcome) *Failure {
	for _, o := range []*outcome{first, second} {
		if errors.Is(o.err, ErrNotDeterministic) {
			return x.unexplained(p, o)
		}
	}
	err := first.w.tracer.differ(second.w.tracer, x.sameShape || first.w.bubble != nil && first.w.bubble.open)
	if err == nil && kind(first.err) != kind(second.err) {
		err = endDiffers(first.err, second.err)
	}
	if err == nil {
		return nil
	}
	return x.unexplained(p, &outcome{second.w, err})
}

// endDiffers is the failure of two runs that made the same steps, and whose ends differ.
func endDiffers(first, second error) error {
	ending := func(err error) string {
		if err == nil {
			return "passes"
		}
		return "fails: " + err.Error()
	}
	return fmt.Errorf("%w: two runs with the same seed make the same steps and end differently. The first %s. The second %s\n%s",
		ErrNotDeterministic, ending(first), ending(second), otherThanTheSeed)
}

// unexplained is the failure of a run that cannot be repeated to see more.
func (x *exploration) unexplained(p plan, o *outcome) *Failure {
	return &Failure{Err: o.err, Seed: p.seed, Run: x.report.Runs, Strategy: p.name, Steps: o.w.step, Trace: o.w.tracer.text(shownSteps)}
}

// single runs one seed.
func (x *exploration) single(seed uint64) *Failure {
	if x.strategy.make != nil && x.steps == 0 && x.strategy.name != "Tape" {
		if f := x.calibrate(true); f != nil {
			return f
		}
	}
	return x.attempt(x.plan(seed))
}

// plan returns the plan by which the strategy runs a seed.
func (x *exploration) plan(seed uint64) plan {
	return plan{name: x.strategyName(), seed: seed, strategy: func(w *world) strategy {
		if x.strategy.make == nil {
			return fifo{}
		}
		return x.strategy.make(w, x.steps, x.cancels)
	}}
}

// attempt makes one run, and explains it if it fails.
func (x *exploration) attempt(p plan) *Failure {
	o := x.play(p)
	x.count(o.w)
	if x.steps == 0 {
		x.steps = o.w.step
	}
	if o.err == nil {
		return nil
	}
	return x.explain(p, o)
}

func (x *exploration) strategyName() string {
	if x.strategy.name == "" {
		return inOrder
	}
	return x.strategy.name
}
