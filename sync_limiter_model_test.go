package asyncio_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A limiterModel is a plain account of a CapacityLimiter: the borrowers that have a token, and
// those that wait for one, both in order. A token may be given to a borrower whose cancel is on its
// way; it is passed on when that borrower resumes.
type limiterModel struct {
	total     int
	borrowers []any
	queue     []*limiterRequest
}

type limiterRequest struct {
	borrower any
	t        *modelTask
	granted  bool
	dead     bool // the task was cancelled or its context ended before a token came
}

func (l *limiterModel) free() bool { return len(l.borrowers) < l.total }

func (l *limiterModel) ask(b any) error {
	if slices.Contains(l.borrowers, b) || slices.ContainsFunc(l.queue, func(q *limiterRequest) bool { return q.borrower == b && !q.granted }) {
		return asyncio.ErrInvalidState
	}
	if l.free() {
		l.borrowers = append(l.borrowers, b)
		return nil
	}
	return asyncio.ErrWouldBlock
}

func (l *limiterModel) wake() {
	for _, q := range l.queue {
		if l.free() && !q.dead && !q.granted {
			q.granted = true
			l.borrowers = append(l.borrowers, q.borrower)
		}
	}
}

func (l *limiterModel) release(b any) error {
	i := slices.Index(l.borrowers, b)
	if i < 0 {
		return asyncio.ErrNotAcquired
	}
	l.borrowers = slices.Delete(l.borrowers, i, i+1)
	l.wake()
	return nil
}

// leave ends a wait. If the wait failed, the token goes to the next.
func (l *limiterModel) leave(q *limiterRequest, failed bool) {
	l.queue = slices.DeleteFunc(l.queue, func(o *limiterRequest) bool { return o == q })
	if failed && q.granted {
		_ = l.release(q.borrower)
	}
}

// interrupted is called when something ends the waits of t.
func (l *limiterModel) interrupted(t *modelTask) {
	for _, q := range l.queue {
		if q.t == t && !q.granted {
			q.dead = true
		}
	}
}

func TestCapacityLimiter_Model(t *testing.T) {
	checkModel(t, 11, func(m *modelRun) {
		model := &limiterModel{total: m.r.IntN(3)}
		c := asyncio.NewCapacityLimiter(model.total)
		names := []any{"a", "b", 3}
		agree := func(what string) {
			s := c.Statistics()
			if s.TotalTokens != model.total || !slices.Equal(s.Borrowers, model.borrowers) || s.BorrowedTokens != len(model.borrowers) {
				m.complain("after %s: %+v, want %d tokens, borrowed by %v", what, s, model.total, model.borrowers)
			}
		}
		// The model learns of a task's interruption when it is made.
		m.interrupted = model.interrupted
		acquire := func(t *modelTask, b any, do func() error) error {
			want := model.ask(b)
			q := &limiterRequest{borrower: b, t: t}
			waits := want == asyncio.ErrWouldBlock
			if waits {
				model.queue = append(model.queue, q)
				q.dead = t.pending || t.ctx.Err() != nil
			}
			err := m.while(t, fmt.Sprintf("acquire for %v", b), func() string {
				if model.free() && !q.dead {
					return "a token is free"
				}
				return ""
			}, do)
			switch {
			// the limiter was not asked at all
			case t.ctx.Err() != nil && !waits && err != nil && errors.Is(err, t.ctx.Err()):
				if want == nil {
					model.borrowers = slices.DeleteFunc(model.borrowers, func(o any) bool { return o == b })
					model.wake()
				}
				return err
			case !waits && !errors.Is(err, want) || waits && err == nil && !q.granted:
				m.complain("task %d: acquire for %v: %v, want %v; granted %v", t.n, b, err, want, q.granted)
			}
			if waits {
				model.leave(q, err != nil)
			}
			agree("acquire")
			if waits || err == nil {
				return err
			}
			return errRefused
		}
		step := func(t *modelTask) error {
			b, own := names[m.r.IntN(len(names))], any(asyncio.AnyTask(t.Task))
			if t.Task == nil { // the task is being started eagerly
				own = asyncio.CurrentTask(t.ctx)
			}
			switch m.r.IntN(9) {
			case 0, 1, 2:
				err := acquire(t, own, func() error { return c.Acquire(t.ctx) })
				if err != nil {
					return unlessIs(err, errRefused)
				}
				err = m.pause(t)
				c.Release(t.ctx)
				must2(m, model.release(own))
				agree("release")
				return err
			case 3, 4:
				err := acquire(t, b, func() error { return c.AcquireOnBehalfOf(t.ctx, b) })
				return unlessIs(err, errRefused)
			case 5:
				want := model.ask(b)
				if err := c.AcquireOnBehalfOfNowait(b); !errors.Is(err, want) {
					m.complain("nowait for %v: %v, want %v", b, err, want)
				}
				agree("nowait")
			case 6:
				want := model.release(b)
				if err := panicOf(func() { c.ReleaseOnBehalfOf(b) }); !errors.Is(err, want) {
					m.complain("release of %v: %v, want %v", b, err, want)
				}
				agree("release")
			case 7:
				n := m.r.IntN(4)
				m.note("%d tokens", n)
				model.total = n
				model.wake()
				c.SetTotalTokens(n)
				agree("SetTotalTokens")
			case 8:
				if m.chance(2) {
					m.disturb()
				}
			}
			return m.pause(t)
		}
		for range 2 + m.r.IntN(4) {
			m.start(1+m.r.IntN(8), step)
		}
		m.idle = func() { agree("a long time") }
		m.over = func() {
			if len(model.queue) > 0 || len(c.Statistics().Waiters) > 0 {
				m.complain("at the end: %v, %d wait", c, len(model.queue))
			}
			agree("the end")
		}
	}, nil)
}

var errRefused = errors.New("refused")

// unlessIs returns err, or nil if err is what.
func unlessIs(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

func must2(m *modelRun, err error) {
	if err != nil {
		m.complain("%v", err)
	}
}
