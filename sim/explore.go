package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"unicode"

	"github.com/goasyncio/asyncio"
)

// TB is the part of [testing.TB] needed here; package testing has no place in a program.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
}

// An Option is an option of [Run], [Explore] and [Check]. Any goroutine may make one.
type Option func(*exploration)

// Runs sets how many schedules an exploration runs at most; the default is 200. The environment
// variable ASYNCIOSIM_RUNS overrides it.
func Runs(n int) Option { return func(x *exploration) { x.runs = n } }

// Seed sets the seed of [Run], and the first of an exploration, which goes on with the numbers
// after it. The default is 0 for Run and [Exhaustive], else 1.
func Seed(seed uint64) Option { return func(x *exploration) { x.seed, x.seeded = seed, true } }

// With sets the strategy. The default is first in, first out for [Run], [Random] for an
// exploration.
func With(s Strategy) Option { return func(x *exploration) { x.strategy = s } }

// Cancels cancels one task in each run, at a random step or, with [Exhaustive], at each step in
// turn: Exhaustive(1) cancels every task at every await it makes, one at a time. A run has not
// failed if main, or the program of another host, ends cancelled by that. [Always] and [AtEnd]
// check what must hold nevertheless. In order, and with [Tape], no task is cancelled.
func Cancels() Option { return func(x *exploration) { x.cancels = true } }

// StepLimit sets how many steps a run may make without the clock moving (more are a livelock), and
// how many in all. The defaults are 100,000 and 10,000,000.
func StepLimit(still, total int) Option {
	return func(x *exploration) { x.limits = limits{still, total} }
}

// Replay runs the schedule recorded in a file, once, instead of exploring. The failure matches
// [ErrIncompatible] if the schedule was recorded with a different program. The environment variable
// ASYNCIOSIM does the same, see [Explore].
func Replay(file string) Option { return func(x *exploration) { x.file = file } }

// StopAt stops a [Replay] before a step, with [runtime.Breakpoint], for a debugger.
func StopAt(step int) Option { return func(x *exploration) { x.stopAt = step } }

// A Report describes an exploration that has ended.
type Report struct {
	Runs     int      // schedules that were run
	Steps    int      // of all of them
	Coverage string   // what was covered and what was not, in words
	Failure  *Failure // nil if every run passed
}

// A Failure is a run that went wrong. As an error it is the whole explanation.
type Failure struct {
	Err        error    // what went wrong
	Seed       uint64   // of the random numbers
	Run        int      // which run of the exploration it was, counted from 1; 0 for a replay
	Strategy   string   // that found it
	Steps      int      // until it had gone wrong
	Deviations []string // from first in, first out, after minimising, in words
	Found      int      // how many deviations the run had before
	Minimal    string   // in what sense they are the fewest
	Trace      string   // of the minimised run
	Schedule   string   // the recorded schedule, to be written to a file and given to Replay

	reproduce string
	unread    bool // Err says why there is no schedule to be replayed
}

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", f.Err)
	if f.unread {
		return b.String()
	}
	var p *asyncio.PanicError
	if errors.As(f.Err, &p) {
		fmt.Fprintf(&b, "%s", placesIn(p.Stack))
	}
	if f.Run > 0 {
		fmt.Fprintf(&b, "\nseed %d, %s, run %d", f.Seed, f.Strategy, f.Run)
	} else {
		fmt.Fprintf(&b, "\nseed %d, replayed", f.Seed)
	}
	if f.reproduce != "" {
		fmt.Fprintf(&b, "\nonce more: %s", f.reproduce)
	}
	if f.Schedule != "" || f.Strategy == inOrder || len(f.Deviations) > 0 {
		b.WriteString("\n\nIt takes: first in, first out everywhere")
	}
	if len(f.Deviations) > 0 {
		b.WriteString(", except that\n  " + strings.Join(f.Deviations, ",\n  "))
	}
	b.WriteString("\n")
	if f.Minimal != "" {
		fmt.Fprintf(&b, "(%s)\n", f.Minimal)
	}
	if f.Trace != "" {
		b.WriteString("\n" + f.Trace)
	}
	return b.String()
}

const inOrder = "in order"

// An exploration is one call of Run, Explore or Check.
type exploration struct {
	program  func(ctx context.Context) error
	tb       TB // nil for Check
	runs     int
	seed     uint64
	seeded   bool
	strategy Strategy
	cancels  bool
	limits   limits
	file     string
	stopAt   int
	watched  bool // steps that block are noticed

	steps  int  // of the first run, in order
	faults bool // there are some that can happen
	report Report
}

const defaultRuns = 200

func newExploration(main func(ctx context.Context) error, opts []Option) *exploration {
	if main == nil {
		panic(fmt.Errorf("%w: nil main (in package sim)", asyncio.ErrInvalidArgument))
	}
	x := &exploration{program: main, runs: defaultRuns, limits: limits{still: 100_000, total: 10_000_000}}
	for _, o := range opts {
		o(x)
	}
	return x
}

// Run runs main under virtual time, in the order of production (first in, first out), as part of
// the test t. It fails t if main returns an error or something else goes wrong: a panic, an error
// that nobody retrieves, a deadlock, an invariant ([Always], [AtEnd]) that does not hold, too many
// steps, a leak of the real world. With [Replay] or [With] the run follows another schedule.
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
// To see whether main depends on more than its seed, the first run in order and the first of the
// strategy are each made twice and the traces compared. These runs are in debug mode, in which more
// calls from foreign goroutines are refused. See docs/simulation.md and
// [asyncio.EventLoop.SetDebug].
//
// The environment variable ASYNCIOSIM makes Run and Explore do one thing only. A number runs one
// seed. The name of a file replays the schedule in it. With @ and a step behind that, the run stops
// there for a debugger.
//
//	ASYNCIOSIM=testdata/sim/TestTransfer/5f3c09aa.sim@41 dlv test -- -test.run '^TestTransfer$'
func Explore(t TB, main func(ctx context.Context) error, opts ...Option) {
	t.Helper()
	x := newExploration(main, append([]Option{With(Random())}, opts...))
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
	x := newExploration(main, append([]Option{With(Random())}, opts...))
	x.report.Failure = whole(func() *Failure {
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
// options give the same text, byte for byte. [Seed] and [With] choose the schedule; [Exhaustive]
// stands for the order of production. It blocks the calling goroutine, which may be any one that
// does not run a loop.
func Trace(main func(ctx context.Context) error, opts ...Option) (trace string, err error) {
	x := newExploration(main, opts)
	f := whole(func() *Failure {
		p := x.plan(x.seed)
		if x.strategy.make != nil {
			x.steps = max(x.play(plan{strategy: func(*world) strategy { return fifo{} }}).w.step, 1)
		}
		p.traced, p.placesFrom = true, 1
		o := x.play(p)
		trace, err = o.w.tracer.text(o.w.tracer.len()), o.err
		return nil
	})
	if f != nil {
		err = f.Err
	}
	return trace, err
}

// whole returns the result of do, or the failure of a run that do has abandoned.
func whole(do func() *Failure) (f *Failure) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case abandoned:
			f = v.failure
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
	f := whole(func() *Failure { return x.asked(do) })
	if f == nil {
		if x.report.Coverage != "" {
			x.tb.Logf("%s", x.report.Coverage)
		}
		return
	}
	if f.Run > 0 {
		f.reproduce = x.record(f)
	}
	x.tb.Fatalf("%v", f)
}

// asked does what an option or the environment asks for, or else calls do.
func (x *exploration) asked(do func() *Failure) *Failure {
	env := os.Getenv("ASYNCIOSIM")
	seed, err := strconv.ParseUint(env, 10, 64)
	switch file, step, stops := strings.Cut(env, "@"); {
	case x.file != "":
		return x.replay(x.file)
	case env == "":
		if n, err := strconv.Atoi(os.Getenv("ASYNCIOSIM_RUNS")); err == nil && n > 0 {
			x.runs = n
		}
		return do()
	case err == nil:
		x.runs = 1
		if f := x.calibrate(); f != nil || seed == 0 {
			return f
		}
		return x.single(seed)
	default:
		if stops {
			if x.stopAt, err = strconv.Atoi(step); err != nil {
				return &Failure{Err: fmt.Errorf("sim: ASYNCIOSIM=%s: behind the @ is no step: %w", env, err), unread: true}
			}
		}
		f := x.replay(file)
		if f != nil && f.unread {
			f.Err = fmt.Errorf("sim: ASYNCIOSIM=%s is neither a seed nor the file of a schedule: %w", env, f.Err)
		}
		return f
	}
}

// record writes the schedule to a file, unless the test follows it anyway, and returns the line
// that runs it once more.
func (x *exploration) record(f *Failure) string {
	command := fmt.Sprintf("go test -run '^%s$' %s", strings.ReplaceAll(x.tb.Name(), "/", "$/^"), testedPackage())
	if f.Strategy == inOrder && len(f.Deviations) == 0 { // the test runs it first in any case
		return command
	}
	if f.Schedule == "" {
		return fmt.Sprintf("ASYNCIOSIM=%d %s", f.Seed, command)
	}
	dir := x.dir()
	file := filepath.Join(dir, fmt.Sprintf("%08x.sim", uint32(hashOf(f.Schedule))))
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.WriteFile(file, []byte(f.Schedule), 0o666)
	}
	if err != nil {
		x.tb.Logf("the schedule could not be written: %v", err)
		return fmt.Sprintf("ASYNCIOSIM=%d %s", f.Seed, command)
	}
	return fmt.Sprintf("ASYNCIOSIM=%s %s", filepath.ToSlash(file), command)
}

// testedPackage returns the import path of the package whose tests run, so that the command works
// in every directory of its module.
func testedPackage() string {
	if b, ok := debug.ReadBuildInfo(); ok && strings.HasSuffix(b.Path, ".test") {
		return strings.TrimSuffix(b.Path, ".test")
	}
	return "."
}

// dir returns the directory of the test's schedules.
func (x *exploration) dir() string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-.=", r) {
			return r
		}
		return '-'
	}, x.tb.Name())
	return filepath.Join("testdata", "sim", name)
}

// corpus replays the recorded failures.
func (x *exploration) corpus() *Failure {
	files, _ := filepath.Glob(filepath.Join(x.dir(), "*.sim")) // sorted
	for _, file := range files {
		f := x.replay(file)
		if f == nil {
			continue
		}
		if !errors.Is(f, ErrIncompatible) {
			return f
		}
		x.tb.Logf("%s: %v; its seed is run instead. If what it once found is found in another way, delete the file", file, f.Err)
		if f := x.calibrate(); f != nil {
			return f
		}
		if f := x.single(f.Seed); f != nil {
			return f
		}
	}
	return nil
}

// explore runs the schedules of the strategy.
func (x *exploration) explore() *Failure {
	if x.strategy.exhaustive {
		return x.exhaust()
	}
	if f := x.calibrate(); f != nil {
		return f
	}
	seed := x.seed
	if !x.seeded {
		seed = 1
	}
	for i := 1; i < x.runs; i++ {
		if f := x.single(seed); f != nil {
			return f
		}
		if i == 1 {
			p := x.plan(seed)
			p.traced = true
			if f := x.compare(p, x.play(p), x.play(p)); f != nil {
				return f
			}
		}
		seed++
	}
	x.report.Coverage = fmt.Sprintf("%d runs, %d steps, %s: a sample, which proves nothing of the schedules that were not run", x.report.Runs, x.report.Steps, x.strategy)
	return nil
}

// calibrate makes the first run, in order, twice and under supervision, and notes how long it is.
// Supervision is slow, so the second run goes without it if nothing is wrong.
func (x *exploration) calibrate() *Failure {
	p := plan{name: inOrder, strategy: func(*world) strategy { return fifo{} }, traced: true, supervised: true}
	first := x.play(p)
	x.report.Runs++
	x.report.Steps += first.w.step
	x.steps = max(first.w.step, 1)
	if first.err == errExited || first.err == errTestFailed {
		return x.explain(p, first)
	}
	if first.err == nil {
		p.supervised, p.placesFrom = false, 1
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

// compare reports whether two runs of one plan, with traces, were the same.
func (x *exploration) compare(p plan, first, second *outcome) *Failure {
	err := first.w.tracer.differ(second.w.tracer)
	if err == nil {
		return nil
	}
	return x.unexplained(p, &outcome{second.w, err})
}

// unexplained is the failure of a run that cannot be repeated to see more.
func (x *exploration) unexplained(p plan, o *outcome) *Failure {
	return &Failure{Err: o.err, Seed: p.seed, Run: x.report.Runs, Strategy: p.name, Steps: o.w.step, Trace: o.w.tracer.text(shownSteps)}
}

// single runs one seed.
func (x *exploration) single(seed uint64) *Failure {
	if x.strategy.make != nil && x.steps == 0 && x.strategy.name != "Tape" {
		if f := x.calibrate(); f != nil {
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
	x.report.Runs++
	x.report.Steps += o.w.step
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

// replay runs a recorded schedule (schedule 3).
func (x *exploration) replay(file string) *Failure {
	s, err := readSchedule(file)
	if err != nil {
		return &Failure{Err: err, unread: true}
	}
	r := newReplay(s.devs, true)
	o := x.play(plan{seed: s.seed, traced: true, placesFrom: s.steps - shownSteps, stopAt: x.stopAt, strategy: func(*world) strategy { return r }})
	if misfit := r.finish(s, o.w.step, o.w.tracer.hash(s.steps)); misfit != nil && (o.err == nil || r.mismatch != nil) {
		return &Failure{Err: misfit, Seed: s.seed}
	}
	if o.err == nil {
		x.report.Coverage = file + ": the schedule fits, and nothing went wrong"
		return nil
	}
	f := &Failure{Err: o.err, Seed: s.seed, Steps: o.w.step, Trace: o.w.tracer.text(shownSteps), Schedule: s.String()}
	for _, d := range o.w.devs {
		f.Deviations = append(f.Deviations, d.String())
	}
	return f
}

// A plan says how to make a run.
type plan struct {
	name     string // of the strategy
	seed     uint64
	strategy func(*world) strategy
	traced   bool

	supervised bool // debug mode is on, and blocking steps are noticed
	// the step from which the places where tasks wait are noted, if supervised or traced
	placesFrom int
	cancels    bool // note the tasks that could be cancelled,
	lists      bool // and the faults that could happen
	stopAt     int
}

// An outcome is the result of a run.
type outcome struct {
	w   *world
	err error // nil if nothing went wrong
}

// errExited is the outcome of a run that t.FailNow ended.
var errExited = errors.New("the test was ended by t.Fatal, t.FailNow or t.SkipNow, in a task or callback")

var errTestFailed = errors.New("t.Error or t.Fail was called")

// play makes a run. It has a goroutine of its own because t.FailNow in a task exits it.
func (x *exploration) play(p plan) *outcome {
	w := newWorld(p.seed, x.limits)
	w.cancels, w.lists, w.stopAt = p.cancels, p.lists, p.stopAt
	if p.traced {
		w.tracer = newTracer(p.placesFrom)
		if !p.supervised && p.placesFrom == 0 {
			w.tracer.placesFrom = math.MaxInt
		}
	}
	w.supervised, w.watched = p.supervised, p.supervised || x.watched
	w.strategy = p.strategy(w)
	failed := x.tb != nil && x.tb.Failed()
	o := &outcome{w: w, err: errExited}
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.err = x.run(w)
	}()
	if err := w.await(done); err != nil {
		f := &Failure{Err: err, Seed: p.seed, Strategy: p.name}
		if p.name != "" { // not a replay
			f.Run = x.report.Runs + 1
		}
		panic(abandoned{f})
	}
	if o.err == nil && !failed && x.tb != nil && x.tb.Failed() {
		o.err = errTestFailed
	}
	return o
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
	main := asyncio.CreateTask(l.Context(), asyncio.Do(x.program), asyncio.Name("main"))
	_, err = asyncio.RunUntilComplete(l, main)
	w.closing = true
	if w.settle(); w.failure != nil {
		return w.failure
	}
	if err != nil && !(w.injected && errors.Is(err, asyncio.ErrCancelled)) {
		if errors.Is(err, asyncio.ErrDeadlock) {
			return w.withHostErrors(w.describeHosts(err))
		}
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
	for err := range w.hostErrors {
		return err
	}
	return nil
}

// hostErrors iterates over the errors with which programs have ended and which nobody has seen.
func (w *world) hostErrors(yield func(error) bool) {
	for _, h := range w.hosts {
		asked := w.injected && errors.Is(h.err, asyncio.ErrCancelled) // by Cancels
		if h.err != nil && !h.known && !asked && !yield(fmt.Errorf("the program of host %s ended with an error that nobody asked for: %w", h.name, h.err)) {
			return
		}
	}
}

// withHostErrors adds those errors to a failure of main, behind its first line: they may be the
// cause.
func (w *world) withHostErrors(failure error) error {
	for err := range w.hostErrors {
		failure = fmt.Errorf("%w\n\t%w", failure, err)
	}
	return failure
}

// describeHosts adds to a deadlock of main what the other hosts wait for.
func (w *world) describeHosts(deadlock error) error {
	var b strings.Builder
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
		fmt.Fprintf(&b, "\n\thost %s:\n\t\t%s", h.name, strings.ReplaceAll(strings.TrimSpace(tasks), "\n", "\n\t\t"))
	}
	if b.Len() == 0 {
		return deadlock
	}
	return fmt.Errorf("%w%s", deadlock, b.String())
}

// killAll ends the lives of all hosts but main's, when main has ended (host 4).
func (w *world) killAll() {
	for _, h := range w.hosts[1:] {
		h.Kill()
	}
}

// settle does the remaining work after the last step.
func (w *world) settle() {
	if !w.made {
		return
	}
	w.made = false
	if w.tracer != nil {
		w.tracer.endStep(w)
	}
	if !w.over {
		w.check()
	}
}
