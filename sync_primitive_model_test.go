package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A model is a plain account of something that can be acquired: how many hold it, and which tasks
// asked, in order.
type model struct {
	t        *testing.T
	what     string
	capacity int
	held     int
	asked    []*request
	overtake bool // a task that need not wait may overtake one that is about to resume

	// free returns how many are given to nobody. It is set where tasks that have been given theirs
	// may resume in any order.
	free func() int
}

type request struct {
	n         int  // the task
	forgiven  bool // the task was cancelled or its context ended: others may go before it
	suspended bool
}

func (m *model) ask(n int) *request {
	r := &request{n: n}
	m.asked = append(m.asked, r)
	return r
}

func (m *model) granted(r *request) {
	aside := 0 // set aside for others that have not resumed
	if m.free != nil {
		aside = m.capacity - m.free() - m.held - 1
	}
	for _, earlier := range m.asked {
		if earlier == r {
			break
		}
		if !earlier.forgiven && aside > 0 {
			aside--
			continue
		}
		if !earlier.forgiven && (r.suspended || !m.overtake) {
			m.t.Errorf("%s: task %d before task %d, which asked first", m.what, r.n, earlier.n)
		}
	}
	m.forget(r)
	if m.held++; m.held > m.capacity {
		m.t.Errorf("%s: %d holders, only %d allowed", m.what, m.held, m.capacity)
	}
}

func (m *model) forget(r *request) {
	m.asked = slices.DeleteFunc(m.asked, func(q *request) bool { return q == r })
}

// idle checks the model when nothing can happen any more. free is the number the primitive has
// left.
func (m *model) idle(free int) {
	m.t.Helper()
	if free+m.held != m.capacity {
		m.t.Errorf("%s: %d held and %d free of %d", m.what, m.held, free, m.capacity)
	}
	if free > 0 && len(m.asked) > 0 {
		m.t.Errorf("%s: %d free, and task %d waits", m.what, free, m.asked[0].n)
	}
}

// A modelProgram is a script for each of some tasks, with the disturbances made to them. The steps:
//
//	l s m  hold the Lock, a permit of the Semaphore(2), a token of the CapacityLimiter(2) for an iteration
//	p c    put an item in, take one out, under the Condition, with one notification for each item
//	e E x  wait for, set, clear the Event
//	b r    wait at, reset the Barrier(2)
//	0-3    cancel that task
//	.      let an iteration pass
type modelProgram struct {
	scripts  []string
	orders   []modelOrder
	stubborn bool // a cancelled task goes on with its next step
}

type modelOrder struct {
	n, at int
	ctx   bool // end its context instead of cancelling it
}

const modelSteps = "lsmpceExbr.0123"

// A modelWorld is a run of a modelProgram.
type modelWorld struct {
	t                   *testing.T
	lock                asyncio.Lock
	sem                 *asyncio.Semaphore
	limiter             *asyncio.CapacityLimiter
	cond                asyncio.Condition
	event               asyncio.Event
	barrier             *asyncio.Barrier
	locks, sems, tokens model
	conds               model
	items               int
	consumers           int // tasks that wait for items
	watchers            int // tasks that wait for the event
	atBarrier           int
	running             int // counts everything that happens, to tell which tasks were suspended
	tasks               []*asyncio.Task[asyncio.None]
	ends                []context.CancelFunc
	requests            []*request // by task, nil if it asks for nothing
	doomed              []bool     // by task, whether a cancel is still to reach it
}

func (w *modelWorld) acquire(ctx context.Context, m *model, n int, acquire func(context.Context) error) error {
	r := m.ask(n)
	r.forgiven = w.doomed[n]
	w.requests[n] = r
	w.running++
	before := w.running
	err := acquire(ctx)
	r.suspended = w.running != before
	w.running++
	w.requests[n] = nil
	if err != nil {
		m.forget(r)
		return err
	}
	m.granted(r)
	return nil
}

func (w *modelWorld) section(ctx context.Context, m *model, n int, acquire func(context.Context) error, release func()) error {
	if err := w.acquire(ctx, m, n, acquire); err != nil {
		return err
	}
	defer func() {
		m.held--
		release()
	}()
	return asyncio.Sleep(ctx, 0)
}

func (w *modelWorld) step(ctx context.Context, n int, op rune) error {
	switch op {
	case 'l':
		return w.section(ctx, &w.locks, n, w.lock.Acquire, w.lock.Release)
	case 's':
		return w.section(ctx, &w.sems, n, w.sem.Acquire, w.sem.Release)
	case 'm':
		return w.section(ctx, &w.tokens, n, w.limiter.Acquire, func() { w.limiter.Release(ctx) })
	case 'p', 'c':
		if err := w.acquire(ctx, &w.conds, n, w.cond.Acquire); err != nil {
			return err
		}
		defer func() {
			w.conds.held--
			w.cond.Release()
		}()
		if op == 'p' {
			w.items++
			w.cond.Notify(1)
			return nil
		}
		for w.items == 0 {
			w.consumers++
			w.conds.held--
			err := w.cond.Wait(ctx)
			w.running++
			w.conds.held++ // out of turn: the order is that of notifications, not of requests
			w.consumers--
			if !w.cond.Locked() || w.conds.held != 1 {
				w.t.Errorf("task %d: Wait returned %v without the lock", n, err)
			}
			if err != nil {
				return err
			}
		}
		w.items--
	case 'e':
		w.watchers++
		defer func() { w.watchers-- }()
		return w.event.Wait(ctx)
	case 'E':
		w.event.Set()
	case 'x':
		w.event.Clear()
	case 'b':
		w.atBarrier++
		i, err := w.barrier.Wait(ctx)
		w.atBarrier--
		if i < 0 || i > 1 {
			w.t.Errorf("barrier: index %d", i)
		}
		if errors.Is(err, asyncio.ErrBrokenBarrier) {
			return nil
		}
		return err
	case 'r':
		return w.barrier.Reset(ctx)
	case '.':
		return asyncio.Sleep(ctx, 0)
	default:
		if k := int(op - '0'); k < len(w.tasks) {
			w.cancel(k)
		}
	}
	return nil
}

func (w *modelWorld) cancel(n int) {
	if r := w.requests[n]; r != nil {
		r.forgiven = true
	}
	w.doomed[n] = w.tasks[n].Cancel() || w.doomed[n]
}

// idle is called when nothing can happen any more.
func (w *modelWorld) idle() {
	w.t.Helper()
	locked := func(l interface{ Locked() bool }) int {
		if l.Locked() {
			return 0
		}
		return 1
	}
	w.locks.idle(locked(&w.lock))
	w.sems.idle(w.sem.Statistics().Value)
	w.tokens.idle(w.limiter.AvailableTokens())
	w.conds.idle(locked(&w.cond))
	if w.items > 0 && w.consumers > 0 {
		w.t.Errorf("condition: %d items, and %d tasks wait for one", w.items, w.consumers)
	}
	if w.event.IsSet() && w.watchers > 0 {
		w.t.Errorf("event: set, and %d tasks wait for it", w.watchers)
	}
	if w.barrier.NWaiting() != w.atBarrier || w.atBarrier > 1 {
		w.t.Errorf("barrier: %v, and %d tasks wait at it", w.barrier, w.atBarrier)
	}
}

// start makes the tasks of the program.
func (p modelProgram) start(t *testing.T, ctx context.Context) *modelWorld {
	t.Helper()
	w := &modelWorld{
		t: t, sem: asyncio.NewSemaphore(2), limiter: asyncio.NewCapacityLimiter(2), barrier: asyncio.NewBarrier(2),
		requests: make([]*request, len(p.scripts)), doomed: make([]bool, len(p.scripts)),
		locks:  model{t: t, what: "lock", capacity: 1},
		sems:   model{t: t, what: "semaphore", capacity: 2},
		tokens: model{t: t, what: "limiter", capacity: 2, overtake: true},
		conds:  model{t: t, what: "condition", capacity: 1},
	}
	for n, script := range p.scripts {
		ctx, end := asyncio.WithCancel(ctx)
		w.ends = append(w.ends, end)
		w.tasks = append(w.tasks, start(ctx, func(ctx context.Context) error {
			for _, op := range script {
				err := w.step(ctx, n, op)
				if errors.Is(err, asyncio.ErrCancelled) {
					w.doomed[n] = false
				}
				if err != nil && (!p.stubborn || ctx.Err() != nil) {
					return err
				}
			}
			return nil
		}))
	}
	return w
}

// disturb cancels task n or ends its context.
func (w *modelWorld) disturb(n int, endContext bool) {
	if w.tasks[n].Done() {
		return
	}
	if !endContext {
		w.cancel(n)
		return
	}
	if r := w.requests[n]; r != nil {
		r.forgiven = true
	}
	w.ends[n]()
}

// over is called when all tasks are done.
func (w *modelWorld) over() {
	w.t.Helper()
	for n, end := range w.ends {
		end()
		if err := w.tasks[n].Exception(); err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
		// otherwise the error came before the cancel, as in CPython
		if w.doomed[n] && w.tasks[n].Exception() == nil {
			w.t.Errorf("task %d: a cancel was lost", n)
		}
	}
	for _, m := range []model{w.locks, w.sems, w.tokens, w.conds} {
		if m.held != 0 || len(m.asked) != 0 {
			w.t.Errorf("%s: %d held, %d waiting at the end", m.what, m.held, len(m.asked))
		}
	}
	w.idle()
	for _, s := range []fmt.Stringer{&w.lock, w.sem, w.limiter, &w.cond, w.barrier} {
		switch s.String() {
		case "<asyncio.Lock [unlocked]>", "<asyncio.Semaphore [unlocked, value:2]>", "<asyncio.CapacityLimiter [borrowed:0/2]>",
			"<asyncio.Condition [unlocked]>", "<asyncio.Barrier [filling, waiters:0/2]>":
		default:
			w.t.Errorf("at the end: %v", s)
		}
	}
}

// check runs the program and compares what happens with the models.
func (p modelProgram) check(t *testing.T, ctx context.Context) {
	t.Helper()
	w := p.start(t, ctx)
	last := 0
	for _, script := range p.scripts {
		last += 4 * len(script)
	}
	for _, o := range p.orders {
		last = max(last, o.at+4)
	}
	for tick := range last + 8 {
		for _, o := range p.orders {
			if o.at == tick {
				w.disturb(o.n, o.ctx)
			}
		}
		must(t, asyncio.Sleep(ctx, 0))
	}
	w.idle()
	for slices.ContainsFunc(w.tasks, func(task *asyncio.Task[asyncio.None]) bool { return !task.Done() }) {
		for n, task := range w.tasks {
			if !task.Done() {
				w.cancel(n)
			}
		}
		must(t, asyncio.Sleep(ctx, 0))
	}
	w.over()
	if t.Failed() {
		t.Fatalf("in %+v", p)
	}
}

// checkAll runs many programs, one after another, on one loop.
func checkAll(t *testing.T, programs func(yield func(modelProgram) bool)) {
	t.Helper()
	var r reports
	n := 0
	_, err := asyncio.Run(onVirtualTime(context.WithoutCancel(t.Context()), &r), asyncio.Do(func(ctx context.Context) error {
		for p := range programs {
			p.check(t, ctx)
			n++
		}
		return nil
	}))
	must(t, err)
	if m := r.messages(); len(m) > 0 {
		t.Errorf("exception handler: %v", m)
	}
	t.Logf("%d programs", n)
}

// Three tasks use each primitive, with every possible cancel: every task in every iteration, by a
// cancel or the end of its context, and every pair of cancels. Nothing is lost, no task waits for
// something that is there, and none overtakes another.
func TestLocks_EveryCancel(t *testing.T) {
	const iterations = 12
	scenarios := [][]string{
		{"l.l", "ll", ".l"}, {"ss", "s.s", "ss", "s"}, {"mm", "m.m", "mm", "m"},
		{"cc", "c", "..pp.p"}, {"pc", "c.c", ".pp"}, {"c", "c", "..ppp"},
		{"ee", "e.e", "..Ex.E"}, {"bb", "bb", ".bb"}, {"b.b", "b", ".rbb"}, {"lsm", "mls", "sml"},
	}
	checkAll(t, func(yield func(modelProgram) bool) {
		for _, scripts := range scenarios {
			for _, stubborn := range []bool{false, true} {
				var all []modelOrder
				for n := range scripts {
					for at := range iterations {
						all = append(all, modelOrder{n: n, at: at})
					}
				}
				yield(modelProgram{scripts: scripts, stubborn: stubborn})
				for i, o := range all {
					yield(modelProgram{scripts, []modelOrder{o}, stubborn})
					ended := o
					ended.ctx = true
					yield(modelProgram{scripts, []modelOrder{ended}, stubborn})
					if raceEnabled && i%4 != 0 {
						continue
					}
					for _, second := range all[i:] {
						yield(modelProgram{scripts, []modelOrder{o, second}, stubborn})
					}
				}
			}
		}
	})
}

// modelProgramOf turns any bytes into a program.
func modelProgramOf(data []byte) modelProgram {
	if len(data) == 0 {
		return modelProgram{}
	}
	p := modelProgram{scripts: make([]string, 2+int(data[0]&3)%3), stubborn: data[0]&4 != 0}
	data = data[1:min(len(data), 64)]
	for i := 0; i < len(data); i++ {
		b := int(data[i])
		n := b % len(p.scripts)
		if b >= 200 && i+1 < len(data) {
			i++
			p.orders = append(p.orders, modelOrder{n, int(data[i] & 31), data[i]&32 != 0})
			continue
		}
		p.scripts[n] += modelSteps[b/len(p.scripts)%len(modelSteps):][:1]
	}
	return p
}

func TestLocks_RandomPrograms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	checkAll(t, func(yield func(modelProgram) bool) {
		for range 4000 {
			data := make([]byte, 1+rnd.IntN(40))
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			yield(modelProgramOf(data))
		}
	})
}

func FuzzLocks(f *testing.F) {
	f.Add([]byte{1, 0, 1, 2, 3, 4, 5, 200, 3})
	f.Add([]byte{6, 12, 13, 14, 9, 10, 11, 250, 40, 201, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reports
		l := sim.NewEventLoop(t.Context())
		l.SetExceptionHandler(r.handle)
		_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
			modelProgramOf(data).check(t, ctx)
			return nil
		}))
		must(t, errors.Join(err, l.Close()))
		if m := r.messages(); len(m) > 0 {
			t.Errorf("exception handler: %v", m)
		}
	})
}
