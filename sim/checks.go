package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

// Always makes cond an invariant of the run from now on: it is called after every step, between two
// steps, and the run fails with the first error it returns. It must be quick, and must not await or
// change anything. Name says in the failure what does not hold. It is for the loop only and does
// not suspend. It panics if ctx does not come from a simulation.
func Always(ctx context.Context, name string, cond func() error) {
	w := worldOf(ctx, "Always")
	w.checks = append(w.checks, check{name, cond})
}

// AtEnd makes cond a condition on the end of the run: it is called when main has returned without
// an error, or because it was cancelled by [Cancels], all tasks have ended, and the other hosts
// were killed. It is for the loop only and does not suspend. It panics if ctx does not come from a
// simulation.
func AtEnd(ctx context.Context, name string, cond func() error) {
	w := worldOf(ctx, "AtEnd")
	w.atEnd = append(w.atEnd, check{name, cond})
}

// Eventually suspends the calling task until cond is true, which is looked at now and after every
// step, and returns an error that says name if it is not within d on the loop's clock. The task
// goes on in an iteration after that, when cond may be false again. cond must be quick, and must
// not await or change anything. A cancel, or the end of ctx, ends the wait as it ends
// [asyncio.Sleep].
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

// WaitIdle suspends the calling task until every other, on all hosts, is blocked or pauses, and
// nothing is left to do at this time: what could happen has happened. Of several tasks in it the
// first goes on first, and the others when all is blocked again. A cancel, or the end of ctx, ends
// the wait as it ends [asyncio.Sleep]. Trio calls it wait_all_tasks_blocked.
func WaitIdle(ctx context.Context) error {
	w := worldOf(ctx, "WaitIdle")
	h := newHope(ctx, "", nil)
	defer h.done.Cancel()
	w.idle = append(w.idle, h)
	_, err := h.done.Await(ctx)
	return err
}

// Advance suspends the calling task until d has passed on the loop's clock and everything that was
// due by then has happened. It is [asyncio.Sleep] and [WaitIdle].
func Advance(ctx context.Context, d time.Duration) error {
	if err := asyncio.Sleep(ctx, d); err != nil {
		return err
	}
	return WaitIdle(ctx)
}

// Note adds a line to the trace of a run, behind the step that is under way, for who reads it: "the
// lease is mine until 3s". Lines are shown however long ago they were noted. Where no trace is made
// it does nothing. It is for the loop only and does not suspend; it panics if ctx does not come
// from a simulation.
func Note(ctx context.Context, format string, args ...any) {
	if w := worldOf(ctx, "Note"); w.tracer != nil {
		w.note(HostOf(ctx).prefix + fmt.Sprintf(format, args...))
	}
}
