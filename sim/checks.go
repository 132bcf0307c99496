package sim

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/goasyncio/asyncio"
)

// Always makes cond an invariant of the run from now on: it is called after every step, between two
// steps, and the run fails with the first error it returns. cond must be quick, and must not await
// or change anything. name identifies the invariant in the failure. Always is for the loop only and
// does not suspend. It panics if ctx does not come from a simulation.
func Always(ctx context.Context, name string, cond func() error) {
	w := worldOf(ctx, "Always")
	w.checks = append(w.checks, check{name, cond})
}

// AtEnd makes cond a condition on the end of the run: it is called when main has returned without
// an error, or because it was cancelled by [Cancels], and when all tasks have ended and the other
// hosts were killed. AtEnd is for the loop only and does not suspend. It panics if ctx does not
// come from a simulation.
func AtEnd(ctx context.Context, name string, cond func() error) {
	w := worldOf(ctx, "AtEnd")
	w.atEnd = append(w.atEnd, check{name, cond})
}

// Eventually suspends the calling task until cond is true. It checks cond now and after every step,
// and returns an error that contains name if cond is not true within d on the loop's clock. The
// task goes on in a later iteration, when cond may be false again. cond must be quick, and must not
// await or change anything. A cancel, or the end of ctx, ends the wait as it ends [asyncio.Sleep].
func Eventually(ctx context.Context, d time.Duration, name string, cond func() bool) error {
	w := worldOf(ctx, "Eventually")
	if cond() {
		return nil
	}
	h := newHope(ctx, name, cond)
	defer h.done.Cancel()
	w.hopes = append(w.hopes, h)
	done, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{h.done}, asyncio.WaitTimeout(d))
	if err == nil && len(done) == 0 {
		err = fmt.Errorf("sim: %s: not within %v", name, d)
	}
	return err
}

// WaitIdle suspends the calling task until every other task, on all hosts, is blocked or paused,
// and nothing is left to do at this time: everything that could happen has happened. If several
// tasks call it, the first goes on first, and each of the others when everything is blocked again.
// A cancel, or the end of ctx, ends the wait as it ends [asyncio.Sleep]. Trio calls it
// wait_all_tasks_blocked.
func WaitIdle(ctx context.Context) error {
	w := worldOf(ctx, "WaitIdle")
	h := newHope(ctx, "", nil)
	defer h.done.Cancel()
	w.idle = append(w.idle, h)
	_, err := h.done.Await(ctx)
	return err
}

// Advance suspends the calling task until d has passed on the loop's clock and everything due by
// then has happened. It is [asyncio.Sleep] followed by [WaitIdle].
func Advance(ctx context.Context, d time.Duration) error {
	if err := asyncio.Sleep(ctx, d); err != nil {
		return err
	}
	return WaitIdle(ctx)
}

// Note adds a line to the trace of a run, behind the current step, for people who read the trace:
// "the lease is mine until 3s". Notes are shown however old they are. Where no trace is made Note
// does nothing. It is for the loop only and does not suspend; it panics if ctx does not come from a
// simulation.
func Note(ctx context.Context, format string, args ...any) {
	if w := worldOf(ctx, "Note"); w.tracer != nil {
		w.note(HostOf(ctx).prefix + fmt.Sprintf(format, args...))
	}
}

// A check is something that must hold.
type check struct {
	name string
	fn   func() error
}

// A hope is a condition that a task waits for; the world tells the task when it holds.
type hope struct {
	name string // of cond
	life *life
	cond func() bool
	done *asyncio.Future[asyncio.None]
}

func newHope(ctx context.Context, name string, cond func() bool) *hope {
	return &hope{name: name, life: lifeOf(ctx, ""), cond: cond, done: asyncio.CreateFuture[asyncio.None](ctx)}
}

// comeTrue tells the waiting task.
func (h *hope) comeTrue() {
	if h.life.state == gone {
		return
	}
	h.life.do(func() {
		if !h.done.Done() {
			_ = h.done.SetResult(asyncio.None{})
		}
	})
}

// check checks the effects of the last step.
func (w *world) check() {
	if err := w.leaked(); err != nil {
		w.fail(err)
		return
	}
	for _, c := range w.checks {
		if err := w.run(c); err != nil {
			w.fail(err)
			return
		}
	}
	w.look()
}

// look tells those whose hope has come true.
func (w *world) look() {
	rest := w.hopes[:0]
	for _, h := range w.hopes {
		switch {
		case h.done.Done() || h.life.state == gone: // given up
		case w.comesTrue(h):
			h.comeTrue()
		default:
			rest = append(rest, h)
		}
	}
	clear(w.hopes[len(rest):])
	w.hopes = rest
}

// comesTrue calls a hope's condition. If it panics, the run has failed.
func (w *world) comesTrue(h *hope) (yes bool) {
	err := w.run(check{h.name, func() error { yes = h.cond(); return nil }})
	if err != nil {
		w.fail(err)
	}
	return yes
}

// run runs a check. One that panics has failed.
func (w *world) run(c check) (err error) {
	w.looking = true
	defer func() {
		w.looking = false
		if v := recover(); v != nil {
			err = &violation{c.name, &asyncio.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	if err := c.fn(); err != nil {
		return &violation{c.name, err}
	}
	return nil
}

// mustNotLook refuses a call that a check must not make.
func (w *world) mustNotLook(caller string) {
	if w.looking {
		panic(fmt.Errorf("%w: a check may look, and change nothing: do this in a task (in sim.%s)", asyncio.ErrInvalidArgument, caller))
	}
}
