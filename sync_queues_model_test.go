package asyncio_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A queueProgram is a program of a few tasks on one queue, with the disturbances made to them. It
// runs beside a model of the queue, a slice. Nothing else runs between an operation of the queue
// and the same operation of the model, so the two must agree at every step. When nothing can happen
// any more, no task may wait without reason: that would be a lost wake-up.
type queueProgram struct {
	kind, maxsize int
	tasks         [][]queueOp
	disturbances  []disturbance
}

type queueOp byte

const (
	opPut queueOp = iota
	opGet
	opPutNowait
	opGetNowait
	opYield
	opTaskDone
	opJoin
	opShutdown
	opShutdownNow
	queueOps
)

func (op queueOp) String() string {
	return [...]string{"put", "get", "putNowait", "getNowait", "yield", "taskDone", "join", "shutdown", "shutdownNow"}[op]
}

// A disturbance hits one task in one iteration, before or after the tasks had their turns in it.
type disturbance struct {
	task, iteration int
	first           bool
	what            byte
}

const (
	cancelTask byte = iota
	cancelAndUncancel
	endContext
	disturbanceKinds
)

func (p queueProgram) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kind %d, maxsize %d", p.kind, p.maxsize)
	for i, ops := range p.tasks {
		fmt.Fprintf(&b, "\n\ttask %d: %v", i, ops)
	}
	for _, d := range p.disturbances {
		fmt.Fprintf(&b, "\n\t%+v", d)
	}
	return b.String()
}

// queueModel is the expected state of the queue.
type queueModel struct {
	kind, maxsize int
	values        []int
	unfinished    int
	down          bool
}

func (m *queueModel) put(v int) error {
	switch {
	case m.down:
		return asyncio.ErrQueueShutDown
	case m.maxsize > 0 && len(m.values) >= m.maxsize:
		return asyncio.ErrQueueFull
	}
	m.values = append(m.values, v)
	m.unfinished++
	return nil
}

func (m *queueModel) get() (int, error) {
	switch {
	case len(m.values) == 0 && m.down:
		return 0, asyncio.ErrQueueShutDown
	case len(m.values) == 0:
		return 0, asyncio.ErrQueueEmpty
	}
	i := 0
	switch m.kind {
	case 1:
		i = len(m.values) - 1
	case 2:
		i = slices.Index(m.values, slices.Min(m.values))
	}
	v := m.values[i]
	m.values = slices.Delete(m.values, i, i+1)
	return v, nil
}

func (m *queueModel) shutdown(immediate bool) {
	m.down = true
	if immediate {
		m.unfinished = max(0, m.unfinished-len(m.values)) // TaskDone may have come before its Get
		m.values = nil
	}
}

// A queueWorld is a run of a queueProgram.
type queueWorld struct {
	p     queueProgram
	q     queueOf[int]
	m     *queueModel
	next  int
	wrong error // the first mistake found
}

func (p queueProgram) world() *queueWorld {
	q := []func() queueOf[int]{
		func() queueOf[int] { return asyncio.NewQueue[int](p.maxsize) },
		func() queueOf[int] { return asyncio.NewLifoQueue[int](p.maxsize) },
		func() queueOf[int] { return asyncio.NewPriorityQueue(p.maxsize, cmp.Compare[int]) },
	}[p.kind]()
	return &queueWorld{p: p, q: q, m: &queueModel{kind: p.kind, maxsize: p.maxsize}}
}

func (w *queueWorld) complain(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format+"\n\tin %v", append(args, w.p)...)
	}
}

func (w *queueWorld) check(i int, op queueOp, v int, err, want error, wantV int) {
	if v != wantV || !errors.Is(err, want) {
		w.complain("task %d: %v = %v, %v, want %v, %v", i, op, v, err, wantV, want)
	}
}

func (w *queueWorld) step(ctx context.Context, i int, op queueOp) error {
	q, m := w.q, w.m
	// values in no particular order, so that the kinds of queue differ
	w.next = (w.next*7 + 5) % 101
	v := w.next
	switch op {
	case opPut:
		err := q.Put(ctx, v)
		if err != nil && !errors.Is(err, asyncio.ErrQueueShutDown) {
			return err // disturbed: the task has not put its value
		}
		w.check(i, op, 0, err, m.put(v), 0)
	case opGet:
		got, err := q.Get(ctx)
		if err != nil && !errors.Is(err, asyncio.ErrQueueShutDown) {
			return err
		}
		want, wantErr := m.get()
		w.check(i, op, got, err, wantErr, want)
	case opPutNowait:
		w.check(i, op, 0, q.PutNowait(v), m.put(v), 0)
	case opGetNowait:
		got, err := q.GetNowait()
		want, wantErr := m.get()
		w.check(i, op, got, err, wantErr, want)
	case opYield:
		return asyncio.Sleep(ctx, 0)
	case opTaskDone:
		if m.unfinished > 0 {
			q.TaskDone()
			m.unfinished--
		} else if err := panicOf(q.TaskDone); !errors.Is(err, asyncio.ErrInvalidArgument) {
			w.complain("task %d: TaskDone with nothing to be done: %v", i, err)
		}
	case opJoin:
		return q.Join(ctx)
	case opShutdown, opShutdownNow:
		q.Shutdown(op == opShutdownNow)
		m.shutdown(op == opShutdownNow)
	}
	return nil
}

// perform runs the operations of task i.
func (w *queueWorld) perform(ctx context.Context, i int) error {
	for _, op := range w.p.tasks[i] {
		if err := w.step(ctx, i, op); err != nil && ctx.Err() != nil {
			return err
		} else if err != nil && !errors.Is(err, asyncio.ErrCancelled) {
			w.complain("task %d: %v: %v", i, op, err)
		}
	}
	return nil
}

// agree compares the queue with the model, between any two steps.
func (w *queueWorld) agree() {
	s := w.q.Statistics()
	if s.Size != len(w.m.values) || s.Unfinished != w.m.unfinished || s.ShutDown != w.m.down {
		w.complain("%+v, want %d values and %d unfinished", s, len(w.m.values), w.m.unfinished)
	}
}

// idle is called when nothing can happen any more.
func (w *queueWorld) idle() {
	switch s := w.q.Statistics(); {
	case s.Getters > 0 && (s.Size > 0 || s.ShutDown), s.Putters > 0 && (!w.q.Full() || s.ShutDown), s.Joiners > 0 && s.Unfinished == 0:
		w.complain("a lost wake-up: %+v", s)
	}
}

// close lets all tasks end that still wait.
func (w *queueWorld) close() {
	w.q.Shutdown(true)
	w.m.shutdown(true)
	for w.m.unfinished > 0 {
		w.q.TaskDone()
		w.m.unfinished--
	}
}

// run runs the program and describes the first mistake, or returns nil.
func (p queueProgram) run(ctx context.Context) error {
	w := p.world()
	tasks := make([]*asyncio.Task[asyncio.None], len(p.tasks))
	ends := make([]context.CancelFunc, len(p.tasks))
	iteration := 0
	disturb := func(first bool) {
		for _, d := range p.disturbances {
			if d.iteration != iteration || d.first != first {
				continue
			}
			switch task := tasks[d.task]; d.what {
			case cancelTask:
				task.Cancel()
			case cancelAndUncancel:
				task.Cancel()
				task.Uncancel()
			case endContext:
				ends[d.task]()
			}
		}
	}
	steps := 0
	for _, ops := range p.tasks {
		steps += len(ops)
	}
	last, quiet := 2*steps+8, 0
	for _, d := range p.disturbances {
		quiet = max(quiet, d.iteration+1)
	}
	last += quiet
	// This task has its turn before the others, to disturb them first.
	asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for range quiet {
			disturb(true)
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := range p.tasks {
		inner, end := asyncio.WithCancel(ctx)
		defer end()
		ends[i] = end
		tasks[i] = start(inner, func(ctx context.Context) error { return w.perform(ctx, i) })
	}
	for iteration = range last {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		disturb(false)
		w.agree()
	}
	w.idle()
	w.close()
	alive := func(task *asyncio.Task[asyncio.None]) bool { return !task.Done() }
	for n := 0; n < last && slices.ContainsFunc(tasks, alive); n++ {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
	}
	for i, task := range tasks {
		if !task.Done() {
			w.complain("task %d has not ended: %v", i, task)
			task.Cancel()
		} else {
			_ = task.Exception()
		}
	}
	return w.wrong
}

// queueProgramOf makes a program from any bytes.
func queueProgramOf(b []byte) queueProgram {
	next := func() int {
		if len(b) == 0 {
			return 0
		}
		v := int(b[0])
		b = b[1:]
		return v
	}
	p := queueProgram{kind: next() % 3, maxsize: next() % 4, tasks: make([][]queueOp, 1+next()%4)}
	for n := min(next()%8, len(b)); n > 0; n-- {
		v, w := next(), next()
		p.disturbances = append(p.disturbances, disturbance{
			task: v % len(p.tasks), iteration: w % 16, first: w&16 != 0, what: byte(v/4) % disturbanceKinds,
		})
	}
	for n := min(len(b), 32); n > 0; n-- {
		v := next()
		op := queueOp(v/4) % queueOps
		if op >= opShutdown && v < 200 {
			op = queueOp(v) % 2 // most programs have no shutdown
		}
		i := v % len(p.tasks)
		p.tasks[i] = append(p.tasks[i], op)
	}
	return p
}

func TestQueue_Model(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	runFast(t, func(ctx context.Context) error {
		r := rand.New(rand.NewPCG(20, 24))
		for range n {
			b := make([]byte, 4+r.IntN(48))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if err := queueProgramOf(b).run(ctx); err != nil {
				t.Fatalf("%v\n\tof %x", err, b)
			}
		}
		return nil
	})
}

// Random programs are disturbed in each way at each point.
func TestQueue_ModelDisturbedEverywhere(t *testing.T) {
	runFast(t, func(ctx context.Context) error {
		r := rand.New(rand.NewPCG(3, 13))
		for range 12 {
			b := make([]byte, 16)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			p := queueProgramOf(b)
			for i := range p.tasks {
				for j := range 12 {
					for what := range disturbanceKinds {
						p.disturbances = []disturbance{{i, j, false, what}}
						if err := p.run(ctx); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
		return nil
	})
}

// TestQueue_ExhaustiveCancel runs three tasks in every combination of roles. It cancels each task
// in each iteration, before and after the others had their turns.
func TestQueue_ExhaustiveCancel(t *testing.T) {
	roles := [][]queueOp{
		{opGet, opGet},
		{opPut, opPut},
		{opGet, opPut},
		{opPut, opGet},
		{opYield, opYield, opPut},
		{opYield, opYield, opGet},
		{opYield, opYield, opPutNowait, opGetNowait},
		{opYield, opYield, opPutNowait, opPutNowait},
	}
	if raceEnabled {
		roles = roles[2:6] // nothing here is concurrent, and the detector is slow
	}
	runs := 0
	runFast(t, func(ctx context.Context) error {
		for maxsize := range 3 {
			for _, a := range roles {
				for _, b := range roles {
					for _, c := range roles {
						p := queueProgram{maxsize: maxsize, tasks: [][]queueOp{a, b, c}}
						for i := range p.tasks {
							for j := range 7 {
								for _, first := range []bool{false, true} {
									p.disturbances = []disturbance{{i, j, first, cancelTask}}
									if err := p.run(ctx); err != nil {
										t.Fatal(err)
									}
									runs++
								}
							}
						}
					}
				}
			}
		}
		return nil
	})
	t.Logf("%d runs", runs)
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 2, 2, 0, 3, 5, 18, 0, 4, 1, 5, 2, 6})
	f.Add([]byte{2, 2, 3, 1, 9, 2, 0, 1, 2, 3, 4, 5, 6, 7, 232, 236})
	f.Fuzz(func(t *testing.T, b []byte) {
		runFast(t, queueProgramOf(b).run)
	})
}
