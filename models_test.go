package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// modelPrograms returns the number of random programs for each model. If ASYNCIO_EXPLORE is all,
// the programs take minutes.
func modelPrograms() uint64 {
	switch {
	case everything():
		return 20_000
	case testing.Short() || raceEnabled:
		return 200
	}
	return 1000
}

// randomOrder is a driver that picks the next ready callback at random, from a seed.
type randomOrder struct {
	*driver.Virtual
	r *rand.Rand
	// 0: first in, first out; 1: any of this iteration; 2: any, even of the next iteration
	kind  int
	calm  bool
	picks int
}

func (d *randomOrder) Attach(driver.Loop) {}

func (d *randomOrder) Choose(todo, n int) int {
	d.picks++
	switch {
	case d.calm || d.kind == 0 || d.r.IntN(3) == 0:
		return 0
	case d.kind == 1:
		return d.r.IntN(todo)
	}
	return d.r.IntN(n)
}

// A modelRun is one random program beside a model of the primitives it uses. The program draws each
// next action from the seed as it goes, so the same seed gives the same run. The program acts and
// the model is told of it in the same step.
type modelRun struct {
	r       *rand.Rand
	order   *randomOrder
	l       *asyncio.EventLoop
	tasks   []*modelTask
	reports reports

	panicked int // tasks
	moves    int // grows with everything that happens, to tell which tasks were suspended
	log      []string
	wrong    error // the first mistake found

	interrupted func(t *modelTask) // called when a disturbance ends a wait of t

	idle func() // looks for tasks that wait without reason, when nothing can happen any more
	over func() // called when all tasks have ended

	closed func() // called when the loop is closed
}

// A modelTask is a task of a modelRun, with the disturbances still due to it.
type modelTask struct {
	*asyncio.Task[asyncio.None]
	n        int
	ctx      context.Context
	end      context.CancelFunc
	pending  bool // a cancel has been requested and not yet delivered
	stubborn bool // goes on after it has been cancelled
	waits    func() (reason string)
}

func (m *modelRun) complain(format string, args ...any) {
	if m.wrong == nil {
		m.note("WRONG: "+format, args...)
		m.wrong = fmt.Errorf(format, args...)
	}
}

func (m *modelRun) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%v ", m.l.Time())+fmt.Sprintf(format, args...))
}

// chance is true in one of n cases.
func (m *modelRun) chance(n int) bool { return m.r.IntN(n) == 0 }

// start makes a task that does steps until one returns an error. A stubborn task goes on after an
// error unless its context has ended.
func (m *modelRun) start(steps int, step func(t *modelTask) error) {
	t := &modelTask{n: len(m.tasks), stubborn: m.chance(2)}
	t.ctx, t.end = asyncio.WithCancel(m.l.Context())
	m.tasks = append(m.tasks, t)
	t.Task = asyncio.CreateTask(t.ctx, asyncio.Do(func(ctx context.Context) error {
		for range steps {
			if err := m.came(t, step(t)); err != nil && (!t.stubborn || ctx.Err() != nil) {
				return err
			} else if err != nil {
				// it has dealt with the cancels
				for me := asyncio.CurrentTask(ctx); me.Cancelling() > 0; {
					me.Uncancel()
				}
			}
		}
		return nil
	}), asyncio.EagerStart(m.chance(6)))
}

// came checks the error that an await of t returned. An error that does not come from a disturbance
// of t is a mistake.
func (m *modelRun) came(t *modelTask, err error) error {
	m.moves++
	switch {
	case err == nil:
	case errors.Is(err, asyncio.ErrCancelled):
		if !t.pending {
			m.complain("task %d: a cancel that nobody asked for: %v", t.n, err)
		}
		t.pending = false
		m.note("task %d: %v", t.n, err)
	case t.ctx.Err() != nil && errors.Is(err, context.Canceled):
		m.note("task %d: %v", t.n, err)
	default:
		m.complain("task %d: %v", t.n, err)
	}
	return err
}

// while does something that may suspend t. When nothing can happen any more, reason returns why t
// should not be waiting, or "" if it may wait.
func (m *modelRun) while(t *modelTask, what string, reason func() string, do func() error) error {
	m.moves++
	m.note("task %d: %s", t.n, what)
	t.waits = func() string {
		if why := reason(); why != "" {
			return what + ": " + why
		}
		return ""
	}
	err := do()
	t.waits = nil
	m.moves++
	return err
}

// pause lets other tasks go on, for some iterations or some time.
func (m *modelRun) pause(t *modelTask) error {
	d := time.Duration(max(0, m.r.IntN(8)-4)) * time.Millisecond
	return m.while(t, "pause", func() string { return "time stands still" }, func() error { return asyncio.Sleep(t.ctx, d) })
}

// disturb cancels a task or ends its context.
func (m *modelRun) disturb() {
	t := m.tasks[m.r.IntN(len(m.tasks))]
	if t.Task == nil || t.Done() { // a nil Task is just being started eagerly
		return
	}
	m.moves++
	switch m.r.IntN(4) {
	case 0:
		m.note("the context of task %d ends", t.n)
		m.interrupt(t)
		t.end()
		m.l.CallSoon(func() {}) // so that the loop takes in the end of the context
	default:
		m.cancel(t)
	}
}

func (m *modelRun) cancel(t *modelTask) {
	m.note("cancel of task %d", t.n)
	m.interrupt(t)
	t.pending = t.Cancel() || t.pending
}

func (m *modelRun) interrupt(t *modelTask) {
	if m.interrupted != nil {
		m.interrupted(t)
	}
}

// finish waits until nothing can happen, checks the tasks that wait, makes all tasks end, and
// checks again.
func (m *modelRun) finish(ctx context.Context) error {
	for range m.r.IntN(5) {
		for range m.r.IntN(6) {
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		if err := asyncio.Sleep(ctx, time.Duration(m.r.IntN(3))*time.Millisecond); err != nil {
			return err
		}
		m.disturb()
	}
	if err := asyncio.Sleep(ctx, time.Hour); err != nil {
		return err
	}
	for _, t := range m.tasks {
		if t.Done() || t.waits == nil {
			continue
		}
		if why := t.waits(); why != "" {
			m.complain("task %d waits without reason: %s", t.n, why)
		}
	}
	if m.idle != nil {
		m.idle()
	}
	m.order.calm = true
	for round := 0; ; round++ {
		left := 0
		for _, t := range m.tasks {
			if !t.Done() {
				left++
				t.stubborn = false
				m.cancel(t)
			}
		}
		if left == 0 {
			break
		}
		if round > 50 {
			m.complain("%d tasks do not end", left)
			break
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	for _, t := range m.tasks {
		t.end()
		if err := t.Exception(); t.pending && err == nil {
			m.complain("task %d: a cancel was lost", t.n)
		}
	}
	if m.over != nil {
		m.over()
	}
	return nil
}

// checkModel runs random programs, each on a loop of its own, and reports the ones that go wrong.
// want returns the expected reports to the exception handler.
func checkModel(t *testing.T, kind uint64, program func(m *modelRun), want func(m *modelRun) []string) {
	t.Helper()
	picks, failures := 0, 0
	for seed := range modelPrograms() {
		m := newModelRun(kind, seed)
		program(m)
		_, err := asyncio.RunUntilComplete(m.l, asyncio.Do(m.finish))
		if err = errors.Join(err, m.l.Close()); err != nil {
			m.complain("%v", err)
		}
		if m.closed != nil {
			m.closed()
		}
		var expected []string
		if want != nil {
			expected = want(m)
		}
		if got := m.reports.messages(); strings.Join(got, "; ") != strings.Join(expected, "; ") {
			m.complain("reported: %q, want %q", got, expected)
		}
		picks += m.order.picks
		if m.wrong != nil {
			failures++
			if failures == 1 {
				t.Errorf("seed %d: %v\n\t%s", seed, m.wrong, strings.Join(m.log, "\n\t"))
			}
		}
	}
	t.Logf("%d programs, %d steps, %d programs differ from the model", modelPrograms(), picks, failures)
}

func newModelRun(kind, seed uint64) *modelRun {
	r := rand.New(rand.NewPCG(kind, seed))
	order := &randomOrder{Virtual: driver.NewVirtual(), r: r, kind: r.IntN(3)}
	m := &modelRun{r: r, order: order, l: asyncio.NewEventLoop(driver.With(context.Background(), order))}
	m.l.SetDebug(false)
	m.l.SetExceptionHandler(m.reports.handle)
	return m
}

// panicsInTasks returns the reports of a program in which only coroutines of tasks panic.
func panicsInTasks(m *modelRun) []string {
	return slices.Repeat([]string{"panic in task"}, m.panicked)
}
