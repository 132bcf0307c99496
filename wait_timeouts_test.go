package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

type scope = *asyncio.TimeoutScope

// timedOut checks that err is a timeout and cannot be taken for a cancellation.
func timedOut(t *testing.T, err error) {
	t.Helper()
	var e *asyncio.TimeoutError
	if !errors.As(err, &e) || !errors.Is(err, asyncio.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() {
		t.Errorf("%v, want a TimeoutError", err)
		return
	}
	if errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, context.Canceled) {
		t.Errorf("%v is a cancellation too", err)
	}
}

func TestTimeout_Expires(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		for name, timeout := range map[string]func(body func(context.Context, scope) error) error{
			"Timeout": func(body func(context.Context, scope) error) error { return asyncio.Timeout(ctx, time.Second, body) },
			"TimeoutAt": func(body func(context.Context, scope) error) error {
				return asyncio.TimeoutAt(ctx, l.Time().Add(time.Second), body)
			},
		} {
			began := l.Time()
			var tm scope
			var inside error
			err := timeout(func(ctx context.Context, s scope) error {
				tm = s
				inside = asyncio.Sleep(ctx, 10*time.Second)
				if !s.Expired() || s.String() != "<Timeout [expiring]>" {
					t.Errorf("%s: %v", name, s)
				}
				return fmt.Errorf("sleeping: %w", inside)
			})
			timedOut(t, err)
			asCancelled(t, inside)
			if l.Time().Sub(began) != time.Second || self(ctx).Cancelling() != 0 {
				t.Errorf("%s: took %v, Cancelling() = %d", name, l.Time().Sub(began), self(ctx).Cancelling())
			}
			if when, ok := tm.When(); when != began.Add(time.Second) || !ok || !tm.Expired() || tm.String() != "<Timeout [expired]>" {
				t.Errorf("%s: %v, %v", name, tm, when)
			}
			var e *asyncio.TimeoutError
			if errors.As(err, &e); e.When != began.Add(time.Second) || !errors.Is(e.From, inside) {
				t.Errorf("%s: when %v, from %v", name, e.When, e.From)
			}
		}
		return nil
	})
}

func TestTimeout_NestedOfEqualTime(t *testing.T) {
	run(t, func(ctx context.Context) error {
		when := loop(t, ctx).Time().Add(time.Second)
		var outer, inner scope
		err := asyncio.TimeoutAt(ctx, when, func(ctx context.Context, s scope) error {
			outer = s
			err := asyncio.TimeoutAt(ctx, when, func(ctx context.Context, s scope) error {
				inner = s
				return asyncio.Sleep(ctx, time.Hour)
			})
			asCancelled(t, err) // only the outermost returns the timeout
			return err
		})
		timedOut(t, err)
		if !outer.Expired() || !inner.Expired() {
			t.Error(outer, inner)
		}
		return nil
	})
}

// The outer limit passes and the inner one does not. The inner one must not claim the expiry as its
// own.
func TestTimeout_OuterExpiresFirst(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var inner scope
		timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
			err := asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, s scope) error {
				inner = s
				return asyncio.Sleep(ctx, time.Hour)
			})
			asCancelled(t, err)
			return err
		}))
		is(t, "inner expired", inner.Expired(), false)
		is(t, "time", loop(t, ctx).Time().SinceStart(), time.Second)
		return nil
	})
}

func TestTimeout_NotNeeded(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		var tm scope
		err := asyncio.Timeout(ctx, 10*time.Second, func(ctx context.Context, s scope) error {
			tm = s
			if s.String() != "<Timeout [active] when=10s>" {
				t.Error(s)
			}
			return asyncio.Sleep(ctx, time.Second)
		})
		if when, ok := tm.When(); when.SinceStart() != 10*time.Second || !ok || tm.Expired() || tm.String() != "<Timeout [finished]>" {
			t.Error(tm)
		}
		if e := asyncio.Sleep(ctx, time.Minute); e != nil || l.Time().SinceStart() != 61*time.Second {
			t.Errorf("%v at %v", e, l.Time())
		}
		return err
	})
}

func TestTimeout_Never(t *testing.T) {
	run(t, func(ctx context.Context) error {
		body := func(ctx context.Context, s scope) error {
			if when, ok := s.When(); ok || s.Expired() || s.String() != "<Timeout [active] when=None>" {
				t.Error(s, when)
			}
			return asyncio.Sleep(ctx, 1000*time.Hour)
		}
		return errors.Join(asyncio.Timeout(ctx, asyncio.Forever, body), asyncio.TimeoutAt(ctx, asyncio.Never, body))
	})
	// A timeout that never comes does not hide a deadlock.
	_, err := runReporting(t, func(ctx context.Context) error {
		return asyncio.Timeout(ctx, asyncio.Forever, func(ctx context.Context, _ scope) error { return never(ctx) })
	})
	if !errors.Is(err, asyncio.ErrDeadlock) {
		t.Error(err)
	}
}

func TestTimeout_ZeroAndPast(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, -11 * time.Second} {
			for _, sleep := range []time.Duration{time.Hour, 0} {
				now := loop(t, ctx).Time()
				timedOut(t, asyncio.Timeout(ctx, d, func(ctx context.Context, s scope) error {
					if when, _ := s.When(); when != now.Add(d) {
						t.Errorf("when = %v", when)
					}
					return asyncio.Sleep(ctx, sleep)
				}))
				if loop(t, ctx).Time() != now {
					t.Error("took time")
				}
			}
		}
		return nil
	})
}

func TestTimeout_OtherErrors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tm scope
		err := asyncio.Timeout(ctx, time.Second, func(_ context.Context, s scope) error {
			tm = s
			return errTest
		})
		if err != errTest || tm.Expired() {
			t.Errorf("%v", err)
		}
		// An error of the clean-up is kept. Its text names the timeout that came before, which it
		// does not match: in Python, except TimeoutError does not catch it either.
		err = asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			return errTest
		})
		if !errors.Is(err, errTest) || errors.Is(err, asyncio.ErrTimeout) {
			t.Error(err)
		}
		if err.Error() != "test (while being stopped: asyncio: timed out)" {
			t.Error(err)
		}
		// A body that finishes in spite of the expiry has not timed out.
		return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, s scope) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			if !s.Expired() {
				t.Error(s)
			}
			return asyncio.Sleep(ctx, time.Minute)
		})
	})
}

func TestTimeout_ForeignCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			var tm scope
			err := asyncio.Timeout(ctx, 10*time.Second, func(ctx context.Context, s scope) error {
				tm = s
				self(ctx).Cancel()
				return asyncio.Sleep(ctx, 10*time.Second)
			})
			if tm.Expired() || self(ctx).Cancelling() != 1 {
				t.Error(tm)
			}
			return err
		}))
		_, err := task.Await(ctx)
		asCancelled(t, err)
		return nil
	})
}

func TestTimeout_TaskIsNotCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(timingOut(time.Second, sleeping(time.Hour))))
		_, err := task.Await(ctx)
		timedOut(t, err)
		if task.Cancelled() {
			t.Error(task)
		}
		return nil
	})
}

// Both deadlines pass in one iteration. The outer scope is the one that times out.
func TestTimeout_NestedWhileTheLoopIsBusy(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		timedOut(t, asyncio.Timeout(ctx, 2*time.Second, func(ctx context.Context, outer scope) error {
			err := asyncio.Timeout(ctx, 100*time.Second, func(ctx context.Context, s scope) error {
				must(t, s.Reschedule(l.Time().Add(-1)))
				must(t, outer.Reschedule(l.Time().Add(-1)))
				return asyncio.Sleep(ctx, time.Hour)
			})
			asCancelled(t, err)
			return err
		}))
		// After the inner timeout was caught, the outer one still limits what follows.
		timedOut(t, asyncio.Timeout(ctx, 2*time.Second, func(ctx context.Context, _ scope) error {
			timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error { return asyncio.Sleep(ctx, time.Hour) }))
			return asyncio.Sleep(ctx, time.Hour)
		}))
		return nil
	})
}

func TestTimeout_Reschedule(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		scopes := asyncio.CreateFuture[scope](ctx)
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.TimeoutAt(ctx, l.Time().Add(10*time.Second), func(ctx context.Context, s scope) error {
				must(t, scopes.SetResult(s))
				return asyncio.Sleep(ctx, time.Hour)
			})
		}))
		tm, err := scopes.Await(ctx)
		must(t, err)
		must(t, tm.Reschedule(l.Time().Add(30*time.Second)))
		if when, ok := tm.When(); when != l.Time().Add(30*time.Second) || !ok {
			t.Error(when)
		}
		must(t, asyncio.Sleep(ctx, 20*time.Second))
		if tm.Expired() {
			t.Error("the old deadline counted")
		}
		must(t, tm.Reschedule(asyncio.Never))
		if _, ok := tm.When(); ok {
			t.Error(tm)
		}
		must(t, asyncio.Sleep(ctx, 20*time.Second))
		task.Cancel()
		_, err = task.Await(ctx)
		asCancelled(t, err)
		if err := tm.Reschedule(asyncio.Instant{}); !errors.Is(err, asyncio.ErrInvalidState) || tm.Expired() {
			t.Errorf("%v %v", tm, err)
		}
		return nil
	})
}

func TestTimeout_RescheduleTooLate(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tm scope
		_ = asyncio.Timeout(ctx, time.Second, func(ctx context.Context, s scope) error {
			tm = s
			_ = asyncio.Sleep(ctx, time.Hour)
			if err := s.Reschedule(asyncio.Never); !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("expiring: %v", err)
			}
			return nil
		})
		if err := tm.Reschedule(asyncio.Never); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("expired: %v", err)
		}
		return nil
	})
}

func TestTimeout_InCleanup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
			err := asyncio.Sleep(ctx, time.Hour)
			timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error { return asyncio.Sleep(ctx, time.Hour) }))
			return err
		}))
		return nil
	})
}

// A cancel that was caught before does not count (timeout 2).
func TestTimeout_AfterACancelThatWasCaught(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, time.Second} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				self(ctx).Cancel()
				asCancelled(t, asyncio.Sleep(ctx, time.Second))
				timedOut(t, asyncio.Timeout(ctx, d, func(ctx context.Context, _ scope) error { return asyncio.Sleep(ctx, time.Hour) }))
				asCancelled(t, asyncio.Timeout(ctx, time.Hour, func(ctx context.Context, _ scope) error {
					self(ctx).Cancel()
					return asyncio.Sleep(ctx, 2*time.Second)
				}))
				return nil
			}))
			if _, err := task.Await(ctx); err != nil || task.Cancelling() != 2 {
				t.Errorf("%v, Cancelling() = %d", err, task.Cancelling())
			}
		}
		return nil
	})
}

// An expiry in the first iteration must not swallow a cancel that is on its way (timeout 3).
// CPython 3.13 has this bug, gh-134471.
func TestTimeout_KeepsACancelOnItsWay(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, -1, time.Second} {
			for n := 1; n <= 2; n++ {
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					for range n {
						self(ctx).Cancel("prior")
					}
					return asyncio.Timeout(ctx, d, func(ctx context.Context, _ scope) error { return asyncio.Sleep(ctx, 2*time.Second) })
				}))
				_, err := task.Await(ctx)
				asCancelled(t, err)
				var c *asyncio.CancelledError
				if errors.As(err, &c); !task.Cancelled() || task.Cancelling() != n || c.Msg != "prior" {
					t.Errorf("%v: %v, Cancelling() = %d, %v", d, task, task.Cancelling(), err)
				}
			}
		}
		return nil
	})
}

// A request that came after the expiry stays in force, even if by the count it is one from before
// (timeout 4).
func TestTimeout_LeavesAnotherCancelPending(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour)) // it is still counted
			must(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				self(ctx).Uncancel()
				asCancelled(t, asyncio.Sleep(ctx, time.Hour))
				self(ctx).Cancel()
				return nil
			}))
			if n := self(ctx).Cancelling(); n != 1 {
				t.Error(n)
			}
			return asyncio.Sleep(ctx, time.Second)
		})
		asCancelled(t, err)
		if !task.Cancelled() {
			t.Error(task)
		}
		// So does a request that a group delivers again, which belongs to nobody in particular.
		task, err = inTask(t, ctx, time.Second, func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					tg.CreateTask(ctx, func(ctx context.Context) error {
						asCancelled(t, asyncio.Sleep(ctx, time.Hour))
						return errA
					})
					return asyncio.Sleep(ctx, time.Hour)
				})
			})
			failsWith(t, err, errA)
			return asyncio.Sleep(ctx, time.Second)
		})
		asCancelled(t, err)
		if !task.Cancelled() || task.Cancelling() != 1 {
			t.Error(task)
		}
		return nil
	})
}

func TestTimeout_PanicOfTheBody(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			defer func() {
				if recover() != "x" {
					t.Error("the panic did not come through")
				}
				if self(ctx).Cancelling() != 0 || asyncio.Sleep(ctx, time.Hour) != nil {
					t.Error("the timeout is still at work")
				}
			}()
			return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				_ = asyncio.Sleep(ctx, time.Minute)
				panic("x")
			})
		}))
		_, err := task.Await(ctx)
		return err
	})
	if err != nil || len(r.all) > 0 {
		t.Error(err, r.messages())
	}
}

func TestTimeout_Misuse(t *testing.T) {
	body := func(context.Context, scope) error { t.Error("entered"); return nil }
	if err := asyncio.Timeout(t.Context(), 1, body); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Error(err)
	}
	run(t, func(ctx context.Context) error {
		if err := asyncio.Timeout(ctx, 1, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Error(err)
		}
		// a nil context is the case under test
		if err := asyncio.TimeoutAt(nil, asyncio.Never, body); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Error(err)
		}
		loop(t, ctx).CallSoon(func() {
			if err := asyncio.Timeout(ctx, 1, body); !errors.Is(err, asyncio.ErrNotInTask) {
				t.Error(err)
			}
		})
		return asyncio.Sleep(ctx, 0)
	})
}

// stubborn returns a routine that ignores cancels until d has passed.
func stubborn(ended *bool, d time.Duration) routine {
	return func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		for until := l.Time().Add(d); l.Time().Before(until); {
			_ = asyncio.Sleep(ctx, until.Sub(l.Time()))
		}
		*ended = true
		return nil
	}
}

func waitFor(ctx context.Context, fn routine, d time.Duration) error {
	_, err := asyncio.WaitFor(ctx, asyncio.Do(fn), d)
	return err
}

func TestWaitFor_CancelIgnored(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ended := false
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return waitFor(ctx, stubborn(&ended, time.Second), 2*time.Second) }))
		settle(t, ctx)
		task.Cancel()
		if _, err := task.Await(ctx); err != nil || !ended {
			t.Error(err, ended)
		}
		ended = false
		if err := waitFor(ctx, stubborn(&ended, time.Second), time.Second/2); err != nil || !ended {
			t.Error(err, ended)
		}
		v, err := asyncio.WaitFor(ctx, asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
			asCancelled(t, asyncio.Sleep(ctx, time.Minute))
			return 42, nil
		}), time.Second)
		if v != 42 {
			t.Error(v)
		}
		return err
	})
}

func TestWaitFor_NoTime(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, -1} {
			done := asyncio.CreateFuture[string](ctx)
			must(t, done.SetResult("done"))
			if v, err := asyncio.WaitFor(ctx, done, d); v != "done" || err != nil {
				t.Error(v, err)
			}
			timedOut(t, waitFor(ctx, func(context.Context) error { t.Error("started"); return nil }, d))
			running := true
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer func() { running = false }()
				err := asyncio.Sleep(ctx, time.Hour)
				_ = asyncio.Sleep(ctx, time.Second) // WaitFor waits for the clean-up
				return err
			}))
			settle(t, ctx)
			_, err := asyncio.WaitFor(ctx, task, d)
			timedOut(t, err)
			if !task.Cancelled() || running {
				t.Error(task, running)
			}
			var e *asyncio.TimeoutError
			if errors.As(err, &e); !errors.Is(e.From, asyncio.ErrCancelled) {
				t.Error(e.From)
			}
		}
		return nil
	})
}

func TestWaitFor_Timeout(t *testing.T) {
	run(t, func(ctx context.Context) error {
		running := true
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			defer func() { running = false }()
			err := asyncio.Sleep(ctx, time.Hour)
			if e := asyncio.Sleep(ctx, time.Second); e != nil {
				return e
			}
			return err
		}))
		_, err := asyncio.WaitFor(ctx, task, time.Second)
		timedOut(t, err)
		if running || !task.Cancelled() || loop(t, ctx).Time().SinceStart() != 2*time.Second {
			t.Error(task, running, loop(t, ctx).Time())
		}
		return nil
	})
}

func TestWaitFor_InTime(t *testing.T) {
	run(t, func(ctx context.Context) error {
		v, err := asyncio.WaitFor(ctx, fetch("page", time.Hour), asyncio.Forever)
		if v != "page" || err != nil {
			t.Error(v, err)
		}
		f := asyncio.CreateFuture[string](ctx)
		loop(t, ctx).CallSoon(func() { must(t, f.SetResult("ok")) })
		v, err = asyncio.WaitFor(ctx, f, time.Second)
		if v != "ok" {
			t.Error(v)
		}
		return err
	})
}

// WaitFor runs the coroutine in the calling task and makes no other.
func TestWaitFor_NoTaskInBetween(t *testing.T) {
	run(t, func(ctx context.Context) error {
		me := self(ctx)
		return waitFor(ctx, func(ctx context.Context) error {
			if self(ctx) != me || len(asyncio.AllTasks(ctx)) != 1 {
				t.Error(asyncio.AllTasks(ctx))
			}
			return nil
		}, time.Second)
	})
}

func TestWaitFor_ErrorOfTheCleanup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Minute)
			return errTest
		}))
		_, err := asyncio.WaitFor(ctx, task, time.Second)
		if !errors.Is(err, errTest) {
			t.Error(err)
		}
		task = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Minute)
			return errTest
		}))
		settle(t, ctx)
		if _, err = asyncio.WaitFor(ctx, task, 0); err != errTest {
			t.Error(err)
		}
		return nil
	})
}

func TestWaitFor_CancelReachesWhatItWaitsFor(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{asyncio.Forever, time.Minute} {
			inner := asyncio.CreateTask(ctx, asyncio.Do(never))
			outer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				_, err := asyncio.WaitFor(ctx, inner, d)
				return err
			}))
			loop(t, ctx).CallSoon(func() { outer.Cancel() })
			_, err := outer.Await(ctx)
			asCancelled(t, err)
			if !inner.Cancelled() {
				t.Error(inner)
			}
		}
		return nil
	})
}

// The inner task is done in the iteration in which the outer one is cancelled (gh-86296).
func TestWaitFor_CancelIsNotLostToAResult(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner := asyncio.CreateTask(ctx, fetch("done", 0))
		outer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			if _, err := asyncio.WaitFor(ctx, inner, 100*time.Second); err != nil {
				return err
			}
			err := asyncio.Sleep(ctx, time.Second)
			if err == nil {
				t.Error("the cancel was lost")
			}
			return err
		}))
		must(t, yields(ctx, 1))
		outer.Cancel()
		_, err := outer.Await(ctx)
		asCancelled(t, err)
		return nil
	})
}

func TestWaitFor_Shielded(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, fetch("done", 10*time.Second))
		for _, d := range []time.Duration{0, time.Second} {
			shielded := asyncio.Shield(ctx, task)
			_, err := asyncio.WaitFor(ctx, shielded, d)
			timedOut(t, err)
			if task.Done() || !shielded.Cancelled() {
				t.Error(task, shielded)
			}
		}
		v, err := asyncio.WaitFor(ctx, asyncio.Shield(ctx, task), asyncio.Forever)
		if v != "done" {
			t.Error(v)
		}
		return err
	})
}

func TestWaitFor_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{0, 1} {
			for _, aw := range []asyncio.Awaitable[int]{nil, (*asyncio.Future[int])(nil)} {
				if _, err := asyncio.WaitFor(ctx, aw, d); !errors.Is(err, asyncio.ErrInvalidArgument) {
					t.Error(err)
				}
			}
		}
		return nil
	})
}
