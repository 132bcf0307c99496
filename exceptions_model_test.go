package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A modelFailure is a future or task that fails. If nobody retrieves its error, the error is
// reported once; otherwise it is not reported.
type modelFailure struct {
	err    error
	fut    *asyncio.Future[int]
	task   *asyncio.Task[int] // nil for a plain future
	failed bool
	got    bool // somebody retrieved the error
	// The error may count as retrieved though nobody got it, as in CPython: a gathering that was
	// over had it, or a cancel took its place.
	waived bool
}

type reportModel struct {
	*modelRun
	all []*modelFailure
}

// seen notes the failures whose errors are in err.
func (m *reportModel) seen(err error) error {
	rest := err
	for _, f := range m.all {
		if err != nil && errors.Is(err, f.err) {
			f.got = true
			rest = nil
		}
	}
	return rest
}

// look retrieves a failure's error directly.
func (m *reportModel) look(f *modelFailure) {
	if f.fut.Done() {
		_ = m.seen(f.fut.Exception())
	}
}

// waive notes that a waiter of f was disturbed, so the error may have been on its way to that
// waiter.
func (m *reportModel) waive(t *modelTask, f *modelFailure, err error) {
	if (errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asyncio.ErrTimeout)) && f.failed {
		f.waived = true
	}
}

// wait waits for one failure, or for several, in one of the possible ways.
func (m *reportModel) wait(t *modelTask) error {
	i := m.r.IntN(len(m.all))
	f, other := m.all[i], m.all[m.r.IntN(len(m.all))]
	d := time.Duration(m.r.IntN(4)) * time.Millisecond
	ways := []struct {
		name string
		do   func() error
	}{
		{"Await", func() error { _, err := asyncio.Shield(t.ctx, f.fut).Await(t.ctx); return err }},
		{"WaitFor", func() error { _, err := asyncio.WaitFor(t.ctx, asyncio.Shield(t.ctx, f.fut), d); return err }},
		// not for a task that may be cancelled, because the cancel would go to the future
		{"await without a shield", func() error {
			if t.pending {
				return nil
			}
			done := asyncio.OnDone(f.fut)
			if _, err := asyncio.Select(t.ctx, done, asyncio.OnTimeout(d)); err != nil {
				return err
			}
			if m.chance(2) {
				if _, err := done.Result(); !errors.Is(err, asyncio.ErrInvalidState) {
					return err
				}
			}
			return nil
		}},
		{"Gather", func() error {
			_, err := asyncio.Gather(t.ctx, asyncio.Shield(t.ctx, f.fut), asyncio.Shield(t.ctx, other.fut))
			return err
		}},
		{"GatherResults", func() error {
			all, err := asyncio.GatherResults(t.ctx, asyncio.Shield(t.ctx, f.fut), asyncio.Shield(t.ctx, other.fut))
			for _, r := range all {
				_ = m.seen(r.Err)
			}
			return err
		}},
		{"Wait", func() error {
			done, _, err := asyncio.Wait(t.ctx, []*asyncio.Future[int]{f.fut}, asyncio.WaitTimeout(d))
			for _, g := range done {
				if m.chance(2) {
					_ = m.seen(g.Exception())
				}
			}
			return err
		}},
		{"AsCompleted", func() error {
			var err error
			for g, e := range asyncio.AsCompleted(t.ctx, []*asyncio.Future[int]{f.fut}, asyncio.AsCompletedTimeout(d)) {
				if e != nil {
					err = e
				} else if m.chance(2) {
					_ = m.seen(g.Exception())
				}
			}
			if errors.Is(err, asyncio.ErrTimeout) {
				err = nil
			}
			return err
		}},
		{"a done callback", func() error {
			f.fut.AddDoneCallback(func(g *asyncio.Future[int]) { _ = m.seen(g.Exception()) })
			return nil
		}},
		{"a look", func() error { m.look(f); return nil }},
		{"a child of a group", func() error {
			return asyncio.RunTaskGroup(t.ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					_, err := asyncio.Shield(ctx, f.fut).Await(ctx)
					return err
				})
				return nil
			})
		}},
		{"a task that fails with it", func() error {
			child := start(t.ctx, func(ctx context.Context) error {
				_, err := asyncio.Shield(ctx, f.fut).Await(ctx)
				return err
			})
			_, err := child.Await(t.ctx)
			child.AddDoneCallback(func(c *asyncio.Task[asyncio.None]) { _ = m.seen(c.Exception()) })
			return err
		}},
	}
	way := ways[m.r.IntN(len(ways))]
	failedBefore, before := f.failed, m.moves
	err := m.while(t, fmt.Sprintf("%s of %d", way.name, i), func() string { return "" }, way.do)
	m.note("task %d: %s of %d gives %v", t.n, way.name, i, err)
	rest := m.seen(err)
	suspended := m.moves != before+2
	if suspended && !errors.Is(err, asyncio.ErrCancelled) && (way.name == "Gather" || way.name == "GatherResults") {
		// An argument that had failed comes before the cancel that another argument accepted, as in
		// CPython.
		t.pending = false
	}
	switch way.name {
	case "Gather":
		for _, g := range []*modelFailure{f, other} {
			if err == nil || !errors.Is(err, context.Canceled) || errors.Is(err, asyncio.ErrCancelled) || g.failed {
				// after the first error, all others count as retrieved, whenever they come
				g.waived = true
			}
		}
	case "a child of a group", "a task that fails with it":
		// a cancel may have replaced the child's error
		f.waived = f.waived || err != nil && f.failed
	default:
		if !failedBefore {
			m.waive(t, f, err)
		}
		if way.name == "GatherResults" {
			m.waive(t, other, err)
		}
	}
	if err != nil && errors.Is(err, context.Canceled) || f.fut.Cancelled() || other.fut.Cancelled() {
		// The shields that were left behind end with the task.
		f.waived = f.waived || way.name == "GatherResults"
		other.waived = other.waived || way.name == "GatherResults"
	}
	if errors.Is(rest, asyncio.ErrTimeout) {
		return nil
	}
	return rest
}

func TestReports_Model(t *testing.T) {
	checkModel(t, 29, func(run *modelRun) {
		m := &reportModel{modelRun: run}
		for i := range 1 + m.r.IntN(4) {
			f := &modelFailure{err: fmt.Errorf("failure %d", i)}
			when := time.Duration(m.r.IntN(6)-1) * time.Millisecond
			if m.chance(2) {
				f.task = asyncio.CreateTask(m.l.Context(), func(ctx context.Context) (int, error) {
					err := asyncio.Sleep(ctx, when)
					f.failed = true
					return 0, errors.Join(f.err, err)
				})
				f.fut = &f.task.Future
			} else {
				f.fut = asyncio.CreateFuture[int](m.l.Context())
				m.l.CallLater(when, func() { f.failed = true; must2(m.modelRun, f.fut.SetException(f.err)) })
			}
			m.all = append(m.all, f)
		}
		for range m.r.IntN(4) {
			m.start(1+m.r.IntN(3), func(t *modelTask) error {
				switch m.r.IntN(4) {
				case 0:
					return m.pause(t)
				case 1:
					m.disturb()
					return m.pause(t)
				}
				return m.wait(t)
			})
		}
		if len(m.tasks) == 0 {
			m.start(1, m.pause)
		}
		run.closed = func() {
			for i, f := range m.all {
				reported := 0
				for _, c := range m.reports.all {
					if errors.Is(c.Exception, f.err) {
						reported++
					}
				}
				switch {
				case f.got && reported > 0:
					m.complain("failure %d was given to somebody, and reported", i)
				case !f.got && !f.waived && reported != 1:
					m.complain("failure %d was given to nobody, and reported %d times", i, reported)
				case reported > 1:
					m.complain("failure %d was reported %d times", i, reported)
				}
			}
		}
	}, func(m *modelRun) []string { return m.reports.messages() })
}
