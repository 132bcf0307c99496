package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A scopeProgram is one task with nested timeouts, scopes, contexts and cleanups, which is
// cancelled from outside. It runs on virtual time, beside the model below. The model has no loop:
// the next event is simply the earliest. Both record the time and the result of each step, to the
// nanosecond, and must agree. Times are random, so no two are equal, except those already passed.
type scopeProgram struct {
	steps    []*scopeStep
	cancels  []time.Duration // from outside
	children []scopeChild
}

// A scopeChild is a second task that runs until it is over or cancelled. Then it cleans up for a
// time. A stubborn child goes on as if nothing had happened and ends with a result.
type scopeChild struct {
	over, cleanup time.Duration
	stubborn      bool
}

type scopeStep struct {
	op   scopeOp
	d    time.Duration
	n    int
	body []*scopeStep
}

type scopeOp byte

const (
	opSleep scopeOp = iota
	opAwait
	opTimeout
	opTimeoutAt
	opMoveOn
	opFail
	opCleanup
	opWithTimeout
	opWithCancel
	opStandard
	opPatient // with a context that does not end
	opCatch
	opWrap
	opReschedule
	opUncancel
	opSelfCancel
	opError
	scopeOps
)

func (op scopeOp) String() string {
	return [...]string{"sleep", "await", "timeout", "timeout-at", "move-on", "fail-after", "cleanup", "with-timeout", "with-cancel",
		"standard", "patient", "catch", "wrap", "reschedule", "uncancel", "self-cancel", "error"}[op]
}

func (s *scopeStep) String() string {
	if s.body == nil {
		return fmt.Sprintf("%v(%v,%d)", s.op, s.d, s.n)
	}
	return fmt.Sprintf("%v(%v)%v", s.op, s.d, s.body)
}

func (p *scopeProgram) String() string {
	return fmt.Sprintf("%v\n\tcancelled at %v, children %+v", p.steps, p.cancels, p.children)
}

func newScopeProgram(rnd *rand.Rand) *scopeProgram {
	p := &scopeProgram{}
	left := 3 + rnd.IntN(14)
	d := func(most time.Duration) time.Duration { return time.Duration(1 + rnd.Int64N(int64(most))) }
	var block func(depth int) []*scopeStep
	block = func(depth int) []*scopeStep {
		steps := []*scopeStep{}
		for n := 1 + rnd.IntN(3); n > 0 && left > 0; n-- {
			left--
			s := &scopeStep{op: scopeOp(rnd.IntN(int(scopeOps))), d: d(4 * time.Second), n: rnd.IntN(4)}
			if depth == 0 && s.op > opAwait {
				s.op = scopeOp(rnd.IntN(2))
			}
			switch {
			case s.op == opAwait:
				s.n = len(p.children)
				p.children = append(p.children, scopeChild{d(20 * time.Second), d(4 * time.Second), rnd.IntN(4) == 0})
			case s.op >= opTimeout && s.op <= opWrap:
				s.body = block(depth - 1)
			case s.op == opError && rnd.IntN(3) > 0:
				s.op = opSleep
			}
			if (s.op == opSleep || s.op == opTimeout || s.op == opTimeoutAt || s.op == opReschedule) && rnd.IntN(5) == 0 {
				s.d = -time.Duration(rnd.IntN(2))
			}
			steps = append(steps, s)
		}
		return steps
	}
	for left > 0 {
		p.steps = append(p.steps, block(4)...)
	}
	for range rnd.IntN(4) {
		p.cancels = append(p.cancels, d(12*time.Second))
	}
	return p
}

// scopeKind describes the error that a step ended with.
func scopeKind(err error) string {
	var c *asyncio.CancelledError
	var p *asyncio.PanicError
	joined := false
	for e := err; e != nil && !joined; e = errors.Unwrap(e) {
		_, joined = e.(interface{ Unwrap() []error })
	}
	switch {
	case err == nil:
		return "ok"
	case joined:
		return "joined"
	case errors.Is(err, errA):
		return errA.Error()
	case errors.As(err, &p):
		return "panic"
	case errors.As(err, &c):
		return "cancelled " + c.Msg
	case errors.Is(err, asyncio.ErrTimeout):
		return "timeout"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	case errors.Is(err, context.Canceled):
		return "context"
	}
	return err.Error()
}

// run runs the program and returns its trace.
func (p *scopeProgram) run(ctx context.Context) []string {
	l, _ := asyncio.GetRunningLoop(ctx)
	began := l.Time()
	var trace []string
	note := func(what any, format string, args ...any) {
		trace = append(trace, fmt.Sprintf("%v %v: ", l.Time().Sub(began), what)+fmt.Sprintf(format, args...))
	}
	var children []tasked
	for _, c := range p.children {
		children = append(children, start(ctx, func(ctx context.Context) error {
			err := asyncio.Sleep(ctx, c.over)
			if err == nil {
				return nil
			}
			if e := asyncio.Cleanup(ctx, asyncio.Forever, sleeping(c.cleanup)); e != nil || c.stubborn {
				return e
			}
			return err
		}))
	}
	var open []*asyncio.TimeoutScope
	var perform func(ctx context.Context, steps []*scopeStep) error
	timeout := func(s *scopeStep) func(context.Context, *asyncio.TimeoutScope) error {
		return func(ctx context.Context, tm *asyncio.TimeoutScope) error {
			open = append(open, tm)
			defer func() { open = open[:len(open)-1] }()
			return perform(ctx, s.body)
		}
	}
	step := func(ctx context.Context, s *scopeStep) error {
		body := func(ctx context.Context) error { return perform(ctx, s.body) }
		me := asyncio.CurrentTask(ctx)
		switch s.op {
		case opSleep:
			return asyncio.Sleep(ctx, s.d)
		case opAwait:
			_, err := children[s.n].Await(ctx)
			return err
		case opTimeout:
			return asyncio.Timeout(ctx, s.d, timeout(s))
		case opTimeoutAt:
			return asyncio.TimeoutAt(ctx, l.Time().Add(s.d), timeout(s))
		case opMoveOn:
			expired, err := asyncio.MoveOnAfter(ctx, s.d, body)
			note(s.op, "expired %v", expired)
			return err
		case opFail:
			return asyncio.FailAfter(ctx, s.d, body)
		case opCleanup:
			return asyncio.Cleanup(ctx, s.d, body)
		case opWithTimeout:
			ctx, cancel := asyncio.WithTimeout(ctx, s.d)
			defer cancel()
			return body(ctx)
		case opWithCancel, opStandard:
			inner, cancel := asyncio.WithCancel(ctx)
			if s.op == opStandard {
				inner, cancel = context.WithCancel(ctx)
			}
			defer l.CallLater(s.d, cancel).Cancel()
			err := body(inner)
			cancel()
			return err
		case opPatient:
			return body(context.WithoutCancel(ctx))
		case opCatch:
			note("caught", "%s", scopeKind(body(ctx)))
		case opWrap:
			if err := body(ctx); err != nil {
				return fmt.Errorf("wrapped: %w", err)
			}
		case opReschedule:
			if len(open) > 0 {
				note("rescheduled", "%v", open[s.n%len(open)].Reschedule(l.Time().Add(s.d)) == nil)
			}
		case opUncancel:
			me.Uncancel()
		case opSelfCancel:
			me.Cancel("self")
		case opError:
			return errA
		}
		return nil
	}
	perform = func(ctx context.Context, steps []*scopeStep) error {
		for _, s := range steps {
			err := step(ctx, s)
			note(s.op, "%s, %d", scopeKind(err), asyncio.CurrentTask(ctx).Cancelling())
			if err != nil {
				return err
			}
		}
		return nil
	}
	task := start(ctx, func(ctx context.Context) error { return perform(ctx, p.steps) })
	for n, at := range p.cancels {
		defer l.CallLater(at, func() {
			if n%2 == 1 {
				// as the cause of a cancel it is not the end of a scope
				task.CancelCause(context.DeadlineExceeded)
			} else {
				task.Cancel("cancel " + strconv.Itoa(n))
			}
		}).Cancel()
	}
	err := settled(ctx, task)
	note("task", "%s, %v, %d", scopeKind(err), task.Cancelled(), task.Cancelling())
	for _, c := range children {
		c.Cancel()
	}
	_, _ = asyncio.GatherResults(ctx, children...)
	return trace
}

// scopeModel is a plain account of such a program.
type scopeModel struct {
	p       *scopeProgram
	now     time.Duration
	events  []*modelEvent
	trace   []string
	cancels int // requests that are counted
	// the counted requests that the task has not been told of, in the order in which they came
	owed     []*modelRequest
	cleanups int
	open     []*modelTimeout
	waiting  bool
	child    *modelChild // the child it waits for
	woken    bool        // from a sleep
	children []*modelChild
}

// A modelEvent fires at its time. If that has passed, it fires as soon as the task waits.
type modelEvent struct {
	at   time.Duration
	fire func()
}

type modelRequest struct {
	msg   string
	depth int
	by    *modelTimeout // nil if it comes from outside
}

type modelTimeout struct {
	depth, before int
	event         *modelEvent
	expired       bool
}

type modelContext struct {
	parent *modelContext
	cause  *modelError // nil until it ends
	deaf   bool        // ignores its parent
}

// A modelError is an error, which may be the cause of a context.
type modelError struct {
	kind string // in the words of scopeKind
}

func (c *modelContext) ended() *modelError {
	for c != nil {
		if c.cause != nil {
			return c.cause
		}
		if c.deaf {
			return nil
		}
		c = c.parent
	}
	return nil
}

// end ends c. The first end among nested contexts is the cause. Contexts further in that have ended
// before keep their own, because ended looks at them first.
func (m *scopeModel) end(c *modelContext, cause *modelError) {
	if c.ended() == nil {
		c.cause = cause
	}
}

type modelChild struct {
	scopeChild
	told   []string
	ending time.Duration
}

// cancel tells the child of a cancel. Two cancels at the same time count as one.
func (c *modelChild) cancel(now time.Duration, msg string) {
	if len(c.told) == 0 {
		c.ending = now + c.cleanup
	} else if now+c.cleanup == c.ending {
		return
	}
	c.told = append(c.told, msg)
}

func (c *modelChild) outcome() *modelError {
	switch {
	case len(c.told) == 0 || c.stubborn && len(c.told) == 1:
		return nil
	case c.stubborn:
		// the child ends with a cancel that came too late for it to ignore
		return &modelError{"cancelled " + c.told[len(c.told)-1]}
	}
	return &modelError{"cancelled " + c.told[0]}
}

func (m *scopeModel) at(when time.Duration, fire func()) *modelEvent {
	e := &modelEvent{when, fire}
	m.events = append(m.events, e)
	return e
}

func (m *scopeModel) drop(e *modelEvent) {
	m.events = slices.DeleteFunc(m.events, func(x *modelEvent) bool { return x == e })
}

// deliverable returns the requests that are owed and not held back (cancel 2, cancel 3).
func (m *scopeModel) deliverable() (all []*modelRequest) {
	for _, r := range m.owed {
		if r.depth >= m.cleanups {
			all = append(all, r)
		}
	}
	return all
}

func (m *scopeModel) speaks() string {
	all := m.deliverable()
	for _, r := range slices.Backward(all) {
		if r.by == nil {
			return r.msg
		}
	}
	return all[len(all)-1].msg
}

// deliver tells the task of all deliverable requests.
func (m *scopeModel) deliver() *modelError {
	err := &modelError{"cancelled " + m.speaks()}
	m.tell()
	return err
}

func (m *scopeModel) tell() {
	m.owed = slices.DeleteFunc(m.owed, func(r *modelRequest) bool { return r.depth >= m.cleanups })
}

func (m *scopeModel) ask(r *modelRequest) {
	m.cancels++
	m.owed = append(m.owed, r)
	if m.waiting && r.depth >= m.cleanups {
		if m.child != nil {
			m.child.cancel(m.now, r.msg)
		} else {
			m.woken = true
		}
	}
}

// seen returns the number of requests that a scope counts when it is inside depth cleanups (cancel
// 4).
func (m *scopeModel) seen(depth int) int {
	n := m.cancels
	for _, r := range m.owed {
		if r.depth < depth {
			n--
		}
	}
	return n
}

// forget drops owed requests until no more are owed than counted: those from outside first, then
// the youngest.
func (m *scopeModel) forget() {
	for len(m.owed) > m.cancels {
		i := slices.IndexFunc(m.owed, func(r *modelRequest) bool { return r.by == nil })
		if i < 0 {
			i = len(m.owed) - 1
		} else {
			// of those from outside the last is the one delivered, so it stays longest
			for j, r := range m.owed {
				if r.by == nil {
					i = j
					break
				}
			}
		}
		m.owed = slices.Delete(m.owed, i, i+1)
	}
}

// wait is one await: for a child, or until a time.
func (m *scopeModel) wait(ctx *modelContext, child *modelChild, until time.Duration, yields bool) *modelError {
	if cause := ctx.ended(); cause != nil {
		return cause
	}
	if child != nil {
		if until = min(child.over, child.ending); until <= m.now {
			return child.outcome()
		}
	}
	m.waiting, m.child, m.woken = true, child, false
	defer func() { m.waiting, m.child = false, nil }()
	if len(m.deliverable()) > 0 {
		m.woken = child == nil
		if child != nil {
			child.cancel(m.now, m.speaks())
		}
	}
	for {
		for i := 0; i < len(m.events); i++ {
			if e := m.events[i]; e.at <= m.now {
				m.drop(e)
				i = -1
				e.fire()
			}
		}
		if child != nil {
			until = child.over
			if len(child.told) > 0 {
				until = child.ending
			}
		}
		switch cause := ctx.ended(); {
		case (m.woken || yields || cause != nil && !yields) && len(m.deliverable()) > 0 && (child == nil || cause != nil):
			return m.deliver()
		case m.woken: // too late: the request was taken back after it had woken the task
			return &modelError{"cancelled "}
		case child != nil && until <= m.now:
			m.tell()
			return child.outcome()
		case cause != nil && !yields:
			return cause
		case until <= m.now:
			return nil
		}
		next := until
		for _, e := range m.events {
			next = min(next, e.at)
		}
		m.now = next
	}
}

func (m *scopeModel) note(what any, format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%v %v: ", m.now, what)+fmt.Sprintf(format, args...))
}

func (e *modelError) String() string {
	if e == nil {
		return "ok"
	}
	return e.kind
}

func (m *scopeModel) perform(ctx *modelContext, steps []*scopeStep) *modelError {
	for _, s := range steps {
		err := m.step(ctx, s)
		m.note(s.op, "%v, %d", err, m.cancels)
		if err != nil {
			return err
		}
	}
	return nil
}

// limit is a scope made with a context. It reports whether body returned the end of that context.
func (m *scopeModel) limit(ctx *modelContext, s *scopeStep) (*modelError, bool) {
	inner, own := &modelContext{parent: ctx}, &modelError{"timeout"}
	e := m.at(m.now+s.d, func() { m.end(inner, own) })
	err := m.perform(inner, s.body)
	m.drop(e)
	cause := inner.ended()
	return err, err != nil && cause == own && (err == own || err.kind == "deadline" || err.kind == "context")
}

func (m *scopeModel) timeout(ctx *modelContext, s *scopeStep) *modelError {
	tm := &modelTimeout{depth: m.cleanups, before: m.seen(m.cleanups)}
	m.set(tm, m.now+s.d)
	m.open = append(m.open, tm)
	err := m.perform(ctx, s.body)
	m.open = m.open[:len(m.open)-1]
	m.drop(tm.event)
	if !tm.expired {
		return err
	}
	m.owed = slices.DeleteFunc(m.owed, func(r *modelRequest) bool { return r.by == tm })
	if m.seen(tm.depth) > 0 {
		m.cancels--
	}
	m.forget()
	switch {
	case err == nil || m.seen(tm.depth) > tm.before:
		return err
	case strings.HasPrefix(err.kind, "cancelled"):
		return &modelError{"timeout"}
	}
	return err // its text names the timeout
}

func (m *scopeModel) set(tm *modelTimeout, when time.Duration) {
	m.drop(tm.event)
	tm.event = m.at(when, func() {
		tm.expired = true
		tm.before = min(tm.before, m.cancels-len(m.owed))
		m.ask(&modelRequest{"timed out", tm.depth, tm})
	})
}

func (m *scopeModel) step(ctx *modelContext, s *scopeStep) *modelError {
	switch s.op {
	case opSleep:
		return m.wait(ctx, nil, m.now+max(s.d, 0), s.d <= 0)
	case opAwait:
		return m.wait(ctx, m.children[s.n], 0, false)
	case opTimeout, opTimeoutAt:
		return m.timeout(ctx, s)
	case opMoveOn:
		err, expired := m.limit(ctx, s)
		m.note(s.op, "expired %v", expired)
		if expired {
			return nil
		}
		return err
	case opFail, opCleanup:
		if s.op == opCleanup {
			m.cleanups++
			ctx = &modelContext{parent: ctx, deaf: true}
			defer func() { m.cleanups-- }()
		}
		err, expired := m.limit(ctx, s)
		if expired {
			return &modelError{"timeout"}
		}
		return err
	case opWithTimeout, opWithCancel, opStandard:
		inner, cause := &modelContext{parent: ctx}, &modelError{"context"}
		if s.op == opWithTimeout {
			cause = &modelError{"deadline"}
		}
		defer m.drop(m.at(m.now+s.d, func() { m.end(inner, cause) }))
		return m.perform(inner, s.body)
	case opPatient:
		return m.perform(&modelContext{parent: ctx, deaf: true}, s.body)
	case opCatch:
		m.note("caught", "%v", m.perform(ctx, s.body))
	case opWrap:
		return m.perform(ctx, s.body)
	case opReschedule:
		if len(m.open) > 0 {
			tm := m.open[s.n%len(m.open)]
			if m.note("rescheduled", "%v", !tm.expired); !tm.expired {
				m.set(tm, m.now+s.d)
			}
		}
	case opUncancel:
		if m.cancels > 0 {
			m.cancels--
			m.forget()
		}
	case opSelfCancel:
		m.ask(&modelRequest{msg: "self"})
	case opError:
		return &modelError{errA.Error()}
	}
	return nil
}

func (p *scopeProgram) model() []string {
	m := &scopeModel{p: p}
	for _, c := range p.children {
		m.children = append(m.children, &modelChild{scopeChild: c, ending: asyncio.Forever})
	}
	for n, at := range p.cancels {
		msg := ""
		if n%2 == 0 {
			msg = "cancel " + strconv.Itoa(n)
		}
		m.at(at, func() { m.ask(&modelRequest{msg: msg}) })
	}
	err := m.perform(nil, p.steps)
	if err == nil && len(m.owed) > 0 {
		err = m.deliver()
	}
	m.note("task", "%v, %v, %d", err, err != nil && strings.HasPrefix(err.kind, "cancelled"), m.cancels)
	return m.trace
}

// modelRuns returns how many random programs to run against a model: n, or ASYNCIO_MODELS.
func modelRuns(t *testing.T, n int) int {
	t.Helper()
	if text := os.Getenv("ASYNCIO_MODELS"); text != "" {
		n, err := strconv.Atoi(text)
		must(t, err)
		return n
	}
	if testing.Short() || raceEnabled {
		return n / 4
	}
	return n
}

// TestScopes_Model runs 4,000 programs, or as many as ASYNCIO_MODELS says.
func TestScopes_Model(t *testing.T) {
	n := modelRuns(t, 4000)
	var r reports
	differ := 0
	_, err := asyncio.Run(onVirtualTime(context.Background(), &r), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetDebug(false)
		for seed := range n {
			p := newScopeProgram(rand.New(rand.NewPCG(uint64(seed), 5)))
			got, want := p.run(ctx), p.model()
			if slices.Equal(got, want) {
				continue
			}
			if differ++; differ <= 3 {
				i := 0
				for i < len(got) && i < len(want) && got[i] == want[i] {
					i++
				}
				t.Errorf("program %d: %v\n\tthe same up to %q\n\tgot  %q\n\twant %q", seed, p, got[:i], got[i:], want[i:])
			}
		}
		return nil
	}))
	must(t, err)
	if differ > 0 {
		t.Errorf("%d of %d programs differ", differ, n)
	}
}
