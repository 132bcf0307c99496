package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A heldExecutor runs its jobs one at a time when told to, so the program decides when a thread
// function runs.
type heldExecutor struct {
	jobs    []func()
	some    *asyncio.Event
	refuses bool
}

func (e *heldExecutor) Submit(job func()) error {
	if e.refuses {
		return errRefused
	}
	e.jobs = append(e.jobs, job)
	e.some.Set()
	return nil
}

func (e *heldExecutor) Shutdown(bool) {}

// run runs a job to its end, on a goroutine.
func (e *heldExecutor) run(i int) {
	job := e.jobs[i]
	e.jobs = slices.Delete(e.jobs, i, i+1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		job()
	}()
	<-over
}

// A modelJob is a function in an executor. It runs once, or not at all if nobody waits for it any
// more when its turn comes.
type modelJob struct {
	outcome int // 0: a value; 1: an error; 2: a panic; 3: it exits its goroutine
	value   int
	ran     bool
	given   bool            // given up before it ran
	ctx     context.Context // of ToThread, if it ran
	caller  context.Context
}

func (j *modelJob) run(m *modelRun, ctx context.Context) (int, error) {
	if j.ran || j.given {
		m.complain("job %d: ran already: %v; nobody waits for it: %v", j.value, j.ran, j.given)
	}
	j.ran = true
	if j.ctx = ctx; ctx != nil && ctx.Err() != nil && j.caller.Err() == nil {
		m.complain("job %d: its context has ended before it: %v", j.value, context.Cause(ctx))
	}
	m.note("job %d runs", j.value)
	switch j.outcome {
	case 1:
		return 0, errTest
	case 2:
		panic(j.value)
	case 3:
		runtime.Goexit()
	}
	return j.value, nil
}

// check checks what a waiter for j received.
func (j *modelJob) check(m *modelRun, t *modelTask, v int, err error) error {
	m.note("task %d: job %d gives %d, %v", t.n, j.value, v, err)
	var p *asyncio.PanicError
	switch {
	case err == nil:
		if !j.ran || j.outcome != 0 || v != j.value {
			m.complain("task %d: job %d gives %d", t.n, j.value, v)
		}
	case j.ran && (j.outcome == 1 && err == errTest || j.outcome == 2 && errors.As(err, &p) && p.Value == j.value || j.outcome == 3 && err == asyncio.ErrGoexit):
		err = nil
	case errors.Is(err, errRefused) && !j.ran:
		err = nil
	default: // a disturbance; the caller checks it as such
		j.given = !j.ran
		if j.ctx != nil && j.ctx.Err() == nil {
			m.complain("task %d: job %d: disturbed, and the job's context goes on", t.n, j.value)
		}
		return err
	}
	if j.ctx != nil && (j.ctx.Err() == nil) != (j.outcome == 0) && t.ctx.Err() == nil {
		m.complain("task %d: job %d, of outcome %d: its context: %v", t.n, j.value, j.outcome, j.ctx.Err())
	}
	return err
}

// forgo notes that nobody waits for j any more. A callback tells the executor; it comes first where
// the order is kept.
func forgo(m *modelRun, j *modelJob) {
	if m.order.kind == 0 {
		m.l.CallSoon(func() { j.given = j.given || !j.ran })
	}
}

func TestToThread_Model(t *testing.T) {
	var panics int
	checkModel(t, 23, func(m *modelRun) {
		e := &heldExecutor{some: new(asyncio.Event)}
		m.l.SetDefaultExecutor(e)
		panics = 0
		next := 0
		var jobs []*modelJob
		job := func(t *modelTask) *modelJob {
			next++
			j := &modelJob{outcome: m.r.IntN(4), value: next, caller: t.ctx}
			jobs = append(jobs, j)
			return j
		}
		// This task acts as the pool: sooner or later it runs every job, one after another.
		pool := asyncio.CreateTask(m.l.Context(), asyncio.Do(func(ctx context.Context) error {
			for {
				if len(e.jobs) == 0 {
					e.some.Clear()
					if err := e.some.Wait(ctx); err != nil {
						return err
					}
				}
				for range m.r.IntN(6) {
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				if len(e.jobs) > 0 {
					m.moves++
					e.run(m.r.IntN(len(e.jobs)))
				}
			}
		}))
		step := func(t *modelTask) error {
			e.refuses = m.chance(10)
			defer func() { e.refuses = false }()
			switch m.r.IntN(6) {
			case 0, 1, 2:
				j := job(t)
				var v int
				err := m.while(t, fmt.Sprint("ToThread ", j.value), func() string { return "jobs do not wait" }, func() (err error) {
					v, err = asyncio.ToThread(t.ctx, func(ctx context.Context) (int, error) { return j.run(m, ctx) })
					return err
				})
				return j.check(m, t, v, err)
			case 3, 4:
				j := job(t)
				var f *asyncio.Future[int]
				f = asyncio.RunInExecutor(t.ctx, nil, func() (int, error) { return j.run(m, nil) })
				if j.outcome == 2 && !e.refuses && m.chance(3) {
					return nil // a panic is reported, whether or not anybody retrieves it
				}
				if m.chance(2) {
					if err := m.pause(t); err != nil {
						_ = f.Exception() // retrieved, so that it is not reported
						f.AddDoneCallback(func(f *asyncio.Future[int]) { _ = f.Exception() })
						return err
					}
				}
				if m.chance(4) {
					before := f.Done()
					if f.Cancel() == before {
						m.complain("job %d: Cancel reports %v", j.value, !before)
					}
					if !before {
						forgo(m, j)
					}
					if !before {
						return nil
					}
				}
				v, err := 0, m.while(t, fmt.Sprint("future of ", j.value), func() string { return "jobs do not wait" }, func() (err error) {
					_, err = f.Await(t.ctx)
					return err
				})
				if f.Done() && !f.Cancelled() {
					v, _ = f.Result()
				}
				if err != nil && t.ctx.Err() != nil && !f.Done() {
					f.AddDoneCallback(func(f *asyncio.Future[int]) { _ = f.Exception() })
					return err // the wait is over, but the job is not
				}
				if f.Cancelled() && !j.ran {
					forgo(m, j)
				}
				if errors.Is(err, asyncio.ErrCancelled) {
					return err
				}
				return j.check(m, t, v, err)
			}
			m.disturb()
			return m.pause(t)
		}
		for range 1 + m.r.IntN(3) {
			m.start(1+m.r.IntN(5), step)
		}
		m.over = func() {
			pool.Cancel()
			for len(e.jobs) > 0 {
				e.run(0)
			}
			for _, j := range jobs {
				if j.ran && j.outcome == 2 {
					panics++
				}
			}
		}
	}, func(*modelRun) []string {
		return slices.Repeat([]string{"panic in thread function"}, panics)
	})
}
