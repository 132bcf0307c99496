package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// An explorer runs a small program in every possible order of its ready callbacks. As the loop's
// driver it is asked which callback is next wherever there are several. Each run follows the
// previous run's choices up to the last one that had an alternative, and takes that: depth first,
// until no choice has an alternative left. Nothing else chooses, so the same choices lead to the
// same run; the explorer checks that.
type explorer struct {
	*driver.Virtual
	choices   []choice
	pos       int // index into choices
	iteration int
	begin     func() // called at the beginning of each iteration
	diverged  bool
	calm      bool // make no more choices
}

// A choice is the index taken, of how many.
type choice struct{ taken, of int }

func (e *explorer) Attach(driver.Loop) {}

func (e *explorer) Choose(n, _ int) int {
	if e.calm || n == 1 {
		return 0
	}
	if e.pos == len(e.choices) {
		e.choices = append(e.choices, choice{0, n})
	}
	c := e.choices[e.pos]
	e.pos++
	if c.of != n {
		e.diverged = true
		return 0
	}
	return c.taken
}

func (e *explorer) BeginIteration() {
	e.iteration++
	if e.begin != nil {
		e.begin()
	}
}

// next moves on to the next order and reports whether there is one.
func (e *explorer) next() bool {
	e.choices = e.choices[:e.pos]
	for len(e.choices) > 0 {
		last := &e.choices[len(e.choices)-1]
		if last.taken+1 < last.of {
			last.taken++
			return true
		}
		e.choices = e.choices[:len(e.choices)-1]
	}
	return false
}

// An exploration is a program that can be run in every order.
type exploration interface {
	// start makes tasks and returns them.
	start(ctx context.Context) []tasked

	// disturb cancels a task, or ends its context.
	disturb(n int, endContext bool)

	// check is called between iterations, and idle when nothing can happen any more. Then release
	// lets the waiting tasks end, and over is called when they have ended. wrong returns the error
	// that was found.
	check()
	idle()
	release()
	over()
	wrong() error
}

// exploreLimit bounds the number of orders of one program with one disturbance. A program that is
// too large fails instead of running for a day.
const exploreLimit = 2_000_000

// A disturber is a callback that is ready in one iteration. The explorer runs it before, between
// and after all others.
type disturber struct {
	task, at   int
	endContext bool
}

// explore runs the exploration from makes in every order, undisturbed and with every disturbance. A
// disturbance cancels a task or ends its context, in each iteration and at every place among the
// iteration's callbacks. explore returns the number of runs.
func explore(t *testing.T, tasks int, makes func() exploration) (runs int) {
	t.Helper()
	e := &explorer{Virtual: driver.NewVirtual()}
	l := asyncio.NewEventLoop(driver.With(context.Background(), e))
	l.SetDebug(false) // debug mode would only slow this down
	var r reports
	l.SetExceptionHandler(r.handle)
	defer func() { must(t, l.Close()) }()

	// orders runs every order with one disturbance, nil for none, and reports whether the
	// disturbance ever came.
	orders := func(d *disturber) (came bool) {
		e.choices = e.choices[:0]
		for n := 1; ; n++ {
			if n > exploreLimit {
				t.Fatalf("not exhausted after %d runs", n)
			}
			x := makes()
			came = exploreOnce(t, l, e, x, d) || came
			runs++
			if x.wrong() != nil || e.diverged || t.Failed() || len(r.messages()) > 0 {
				t.Fatalf("%v\n\tdisturbance %+v, choices %v, diverged: %v, reports %v", x.wrong(), d, e.choices, e.diverged, r.messages())
			}
			if !e.next() {
				return came
			}
		}
	}
	orders(nil)
	for n := range tasks {
		for _, endContext := range []bool{false, true} {
			for at := 1; orders(&disturber{n, at, endContext}); at++ {
			}
		}
	}
	return runs
}

// exploreOnce does one run, in the order of e's choices. It reports whether the disturbance came
// while a task was left.
func exploreOnce(t *testing.T, l *asyncio.EventLoop, e *explorer, x exploration, d *disturber) (came bool) {
	t.Helper()
	e.pos, e.iteration, e.calm = 0, 0, false
	tasks := x.start(l.Context())
	done := func() bool {
		for _, task := range tasks {
			if !task.Done() {
				return false
			}
		}
		return true
	}
	e.begin = func() {
		x.check()
		switch {
		case done():
			l.Stop()
		case d != nil && e.iteration == d.at:
			came = true
			l.CallSoon(func() { x.disturb(d.task, d.endContext) })
		}
	}
	if err := l.RunForever(); err != nil && !errors.Is(err, asyncio.ErrDeadlock) {
		t.Fatal(err)
	}
	x.idle() // every task that still waits must have a reason
	e.calm, e.begin = true, func() {
		if done() {
			l.Stop()
		}
	}
	for i := 0; !done(); i++ {
		if i > 20 {
			t.Fatalf("tasks do not end: %v, choices %v", tasks, e.choices)
		}
		x.release()
		if err := l.RunForever(); err != nil && !errors.Is(err, asyncio.ErrDeadlock) {
			t.Fatal(err)
		}
	}
	x.over()
	return came
}

// lockExploration explores a modelProgram.
type lockExploration struct {
	t *testing.T
	p modelProgram
	w *modelWorld
}

func (x *lockExploration) start(ctx context.Context) []tasked {
	x.w = x.p.start(x.t, ctx)
	x.w.sems.free = func() int { return x.w.sem.Statistics().Value }
	return x.w.tasks
}

func (x *lockExploration) disturb(n int, endContext bool) { x.w.disturb(n, endContext) }
func (x *lockExploration) check()                         {}
func (x *lockExploration) idle()                          { x.w.idle() }
func (x *lockExploration) over()                          { x.w.over() }

func (x *lockExploration) release() {
	for n, task := range x.w.tasks {
		if !task.Done() {
			x.w.cancel(n)
		}
	}
}

func (x *lockExploration) wrong() error {
	if x.t.Failed() {
		return fmt.Errorf("in %+v", x.p)
	}
	return nil
}

// queueExploration explores a queueProgram.
type queueExploration struct {
	p     queueProgram
	w     *queueWorld
	tasks []tasked
	ends  []context.CancelFunc
}

func (x *queueExploration) start(ctx context.Context) []tasked {
	x.w = x.p.world()
	for i := range x.p.tasks {
		ctx, end := asyncio.WithCancel(ctx)
		x.ends = append(x.ends, end)
		x.tasks = append(x.tasks, start(ctx, func(ctx context.Context) error { return x.w.perform(ctx, i) }))
	}
	return x.tasks
}

func (x *queueExploration) disturb(n int, endContext bool) {
	if endContext {
		x.ends[n]()
	} else {
		x.tasks[n].Cancel()
	}
}

func (x *queueExploration) check()   { x.w.agree() }
func (x *queueExploration) idle()    { x.w.idle() }
func (x *queueExploration) release() { x.w.close() }

func (x *queueExploration) over() {
	for i, task := range x.tasks {
		x.ends[i]()
		_ = task.Exception()
	}
	if s := x.w.q.Statistics(); s.Getters+s.Putters+s.Joiners != 0 {
		x.w.complain("at the end: %+v", s)
	}
}

func (x *queueExploration) wrong() error { return x.w.wrong }

// Programs are explored as they are; small ones also with each step delayed by an iteration, in
// every combination. If ASYNCIO_EXPLORE is all, large ones are delayed too; that takes minutes.
func everything() bool { return os.Getenv("ASYNCIO_EXPLORE") == "all" }

// delayed calls each with every way to insert up to most yields before each step.
func delayed[E any](most int, scripts [][]E, yield E, each func([][]E)) {
	steps := 0
	for _, script := range scripts {
		steps += len(script)
	}
	delays := make([]int, steps) // as a number with one digit for each step
	for {
		with, at := make([][]E, len(scripts)), 0
		for i, script := range scripts {
			for _, step := range script {
				for range delays[at] {
					with[i] = append(with[i], yield)
				}
				with[i] = append(with[i], step)
				at++
			}
		}
		each(with)
		at = 0
		for ; at < steps && delays[at] == most; at++ {
			delays[at] = 0
		}
		if at == steps {
			return
		}
		delays[at]++
	}
}

// The programs by primitive: small ones and large ones of three tasks, and ones of four tasks.
var (
	lockPrograms = map[string][3][][]string{
		"Lock":      {{{"l", "l", "l"}}, {{"ll", "l", "l"}, {"ll", "ll", "l"}, {"ll", "ll", "ll"}}, {{"l", "l", "l", "l"}}},
		"Semaphore": {{{"s", "s", "s"}}, {{"ss", "s", "s"}, {"ss", "ss", "s"}}, {{"s", "s", "s", "s"}}},
		"Condition": {{{"c", "c", "pp"}, {"c", "p", "p"}}, {{"c", "cp", "p"}, {"cc", "c", "ppp"}, {"cp", "cp", "pc"}}, {{"c", "c", "c", "ppp"}, {"c", "c", "p", "p"}}},
		"Event":     {{{"e", "e", "E"}}, {{"ee", "e", "ExE"}, {"ee", "ee", "ExE"}}, {{"e", "e", "e", "E"}, {"e", "e", "E", "xE"}}},
		"Barrier":   {{{"b", "b", "b"}, {"b", "b", "r"}}, {{"bb", "b", "b"}, {"bb", "bb", "r"}, {"b", "b", "rb"}}, {{"b", "b", "b", "b"}, {"b", "b", "b", "r"}}},
	}
	queuePrograms = [3][]queueProgram{{
		{maxsize: 0, tasks: [][]queueOp{{opGet}, {opGet}, {opPut, opPut}}},
		{maxsize: 1, tasks: [][]queueOp{{opGet, opGet}, {opPut}, {opPut}}},
		{maxsize: 1, tasks: [][]queueOp{{opGet, opPut}, {opGet}, {opPut}}},
		{maxsize: 0, tasks: [][]queueOp{{opJoin}, {opPut}, {opGet, opTaskDone}}},
		{maxsize: 1, tasks: [][]queueOp{{opGet}, {opPut, opPut}, {opShutdown}}},
	}, {
		{maxsize: 1, tasks: [][]queueOp{{opPut, opPut}, {opPut}, {opGet, opGet}}},
		{maxsize: 1, tasks: [][]queueOp{{opPut, opGet}, {opPut, opGet}, {opPut, opGet}}},
		{maxsize: 2, kind: 1, tasks: [][]queueOp{{opPut, opPut}, {opGet, opGet}, {opGet, opPut}}},
		{maxsize: 1, kind: 2, tasks: [][]queueOp{{opGet, opPutNowait}, {opGet, opPut}, {opPut, opPut}}},
	}, {
		{maxsize: 0, tasks: [][]queueOp{{opGet}, {opGet}, {opPut}, {opPut}}},
		{maxsize: 1, tasks: [][]queueOp{{opGet}, {opPut}, {opPut}, {opGet}}},
		{maxsize: 1, tasks: [][]queueOp{{opPut}, {opPut}, {opGet}, {opShutdown}}},
	}}
)

// explored calls each with every program and with the number of iterations by which to delay its
// steps.
func explored[P any](programs [3][]P, each func(p P, most int)) {
	for size, all := range programs {
		for _, p := range all {
			if size == 2 && !everything() {
				continue
			}
			if everything() || size == 0 && !raceEnabled && !testing.Short() {
				each(p, 1)
			} else {
				each(p, 0)
			}
		}
	}
}

// TestExplore is a proof by exhaustion. It runs three tasks on each primitive, or four if
// ASYNCIO_EXPLORE is all. They run in every order of what is ready, undisturbed and with each task
// cancelled or its context ended at every point. No wake-up and no value is lost, no task waits for
// something that is there, the first to ask is served first, and everything is given back.
func TestExplore(t *testing.T) {
	total := 0
	for name, programs := range lockPrograms {
		t.Run(name, func(t *testing.T) {
			explored(programs, func(scripts []string, most int) {
				steps, several := make([][]rune, len(scripts)), false
				for i, script := range scripts {
					steps[i] = []rune(script)
					several = several || len(script) > 1
				}
				for _, stubborn := range []bool{false, true} {
					if stubborn && !several {
						continue // no task has a next step to go on with
					}
					runs, variants := 0, 0
					delayed(most, steps, '.', func(steps [][]rune) {
						p := modelProgram{scripts: make([]string, len(steps)), stubborn: stubborn}
						for i := range steps {
							p.scripts[i] = string(steps[i])
						}
						runs += explore(t, len(steps), func() exploration { return &lockExploration{t: t, p: p} })
						variants++
					})
					t.Logf("%v, stubborn %v: %d programs, %d runs", scripts, stubborn, variants, runs)
					total += runs
				}
			})
		})
	}
	t.Run("Queue", func(t *testing.T) {
		explored(queuePrograms, func(p queueProgram, most int) {
			runs, variants := 0, 0
			delayed(most, p.tasks, opYield, func(tasks [][]queueOp) {
				p := p
				p.tasks = tasks
				runs += explore(t, len(tasks), func() exploration { return &queueExploration{p: p} })
				variants++
			})
			t.Logf("maxsize %d, %v: %d programs, %d runs", p.maxsize, p.tasks, variants, runs)
			total += runs
		})
	})
	t.Logf("%d runs", total)
}

// The explorer itself runs callbacks that are ready together in every order, each order once.
// Bringing one callback forward leaves the order of the others unchanged.
func TestExplorer_EveryOrderOnce(t *testing.T) {
	for n, want := range []int{1, 1, 2, 6, 24, 120} {
		e := &explorer{Virtual: driver.NewVirtual()}
		l := asyncio.NewEventLoop(driver.With(context.Background(), e))
		seen, before := make(map[string]int), ""
		for {
			e.pos = 0
			var order []byte
			for i := range n {
				l.CallSoon(func() { order = append(order, byte('a'+i)) })
			}
			l.Stop()
			must(t, l.RunForever())
			// this fails if the others changed places
			if seen[string(order)]++; n > 0 && string(order) <= before {
				t.Errorf("order %s after %s", order, before)
			}
			before = string(order)
			if !e.next() {
				break
			}
		}
		must(t, l.Close())
		for order, times := range seen {
			if times != 1 || len(order) != n {
				t.Errorf("order %s came %d times", order, times)
			}
		}
		if len(seen) != want || e.diverged {
			t.Errorf("%d callbacks ran in %d orders, want %d; diverged: %v", n, len(seen), want, e.diverged)
		}
	}
}

// The explorer finds a program that loses a value in one order of many, so the check is not blind.
func TestExplorer_FindsAMistake(t *testing.T) {
	e := &explorer{Virtual: driver.NewVirtual()}
	l := asyncio.NewEventLoop(driver.With(context.Background(), e))
	wrong, runs := 0, 0
	for {
		e.pos = 0
		balance := 100
		withdraw := func(ctx context.Context) error {
			if seen := balance; seen >= 100 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				balance = seen - 100
			}
			return nil
		}
		deposit := func(context.Context) error { balance += 10; return nil }
		tasks := []tasked{start(l.Context(), withdraw), start(l.Context(), func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
			return deposit(ctx)
		})}
		_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
			_, _, err := asyncio.Wait(ctx, tasks)
			return err
		}))
		must(t, err)
		runs++
		if balance != 10 {
			wrong++
		}
		if !e.next() {
			break
		}
	}
	must(t, l.Close())
	if wrong == 0 || wrong == runs {
		t.Errorf("%d of %d orders lose the deposit, want some", wrong, runs)
	}
}
