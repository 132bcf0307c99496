package asyncio

import (
	"context"
	"time"
)

// Sleep suspends the calling task for d on the loop's clock, never less. If d is not positive it
// lets the others run for one iteration, as Python's sleep(0) does; the longest duration means for
// ever. A cancel of the task, or the end of ctx, ends the sleep with the error that [Future.Await]
// would return. It is for tasks only. Python: asyncio.sleep.
func Sleep(ctx context.Context, d time.Duration) error {
	t, err := enter(ctx, "Sleep")
	if err != nil {
		return err
	}
	if d <= 0 {
		return t.yield()
	}
	err = t.park(ctx, t.setAlarm(d))
	if err != nil {
		t.dropAlarm()
	} else {
		t.stack.alarm.t = nil // a stack must not keep a task alive that has ended
	}
	return err
}
