package sim

import (
	"context"
	"fmt"
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
