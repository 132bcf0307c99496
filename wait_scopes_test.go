package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestMoveOnAfter(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		for name, body := range map[string]routine{
			"an await": sleeping(time.Hour),
			"wrapped":  func(ctx context.Context) error { return fmt.Errorf("x: %w", asyncio.Sleep(ctx, time.Hour)) },
			"ctx.Err":  func(ctx context.Context) error { _ = asyncio.Sleep(ctx, time.Hour); return ctx.Err() },
			"level": func(ctx context.Context) error {
				_ = asyncio.Sleep(ctx, time.Hour)
				return asyncio.Sleep(ctx, time.Hour)
			},
			"a group":       grouping(nil, sleeping(time.Hour), sleeping(time.Hour)),
			"a group, body": grouping(sleeping(time.Hour), sleeping(time.Hour)),
			"a child of a standard context": func(ctx context.Context) error {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				_ = asyncio.Sleep(ctx, time.Hour)
				return ctx.Err()
			},
		} {
			began := l.Time()
			expired, err := asyncio.MoveOnAfter(ctx, time.Second, body)
			if !expired || err != nil || l.Time().Sub(began) != time.Second {
				t.Errorf("%s: %v, %v after %v", name, expired, err, l.Time().Sub(began))
			}
			began = l.Time()
			err = asyncio.FailAfter(ctx, time.Second, body)
			timedOut(t, err)
			var e *asyncio.TimeoutError
			if errors.As(err, &e); e.When != began.Add(time.Second) || e.When != l.Time() {
				t.Errorf("%s: %v at %v", name, e.When, l.Time())
			}
		}
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		return asyncio.Sleep(ctx, time.Second)
	})
}

func TestMoveOnAfter_NotCut(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for name, row := range map[string]struct {
			d    time.Duration
			body routine
			want error
		}{
			"in time":       {2 * time.Second, sleeping(time.Second), nil},
			"fails":         {2 * time.Second, failsAfter(time.Second, errA), errA},
			"fails, late":   {time.Second, func(ctx context.Context) error { _ = asyncio.Sleep(ctx, time.Hour); return errA }, errA},
			"ends, late":    {time.Second, func(ctx context.Context) error { _ = asyncio.Sleep(ctx, time.Hour); return nil }, nil},
			"does not hear": {time.Second, func(ctx context.Context) error { return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour) }, nil},
			"never":         {asyncio.Forever, sleeping(time.Hour), nil},
		} {
			expired, err := asyncio.MoveOnAfter(ctx, row.d, row.body)
			if expired || err != row.want {
				t.Errorf("%s: %v, %v", name, expired, err)
			}
			if err := asyncio.FailAfter(ctx, row.d, row.body); err != row.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		// An end joined with another error is a failure, and the error matches both.
		expired, err := asyncio.MoveOnAfter(ctx, time.Second, func(ctx context.Context) error {
			return errors.Join(asyncio.Sleep(ctx, time.Hour), errA)
		})
		if expired || !errors.Is(err, errA) || !errors.Is(err, asyncio.ErrTimeout) {
			t.Error(expired, err)
		}
		return nil
	})
}

// Nested scopes each tell their own end from the other's.
func TestMoveOnAfter_Nested(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, row := range []struct{ outer, inner time.Duration }{{1, 2}, {2, 1}, {1, 1}} {
			var inner bool
			outer, err := asyncio.MoveOnAfter(ctx, row.outer*time.Second, func(ctx context.Context) error {
				var err error
				inner, err = asyncio.MoveOnAfter(ctx, row.inner*time.Second, sleeping(time.Hour))
				if err != nil {
					return err
				}
				return asyncio.Sleep(ctx, time.Second/2)
			})
			wantInner := row.inner < row.outer
			if err != nil || inner != wantInner || outer == inner {
				t.Errorf("%v: outer %v, inner %v, %v", row, outer, inner, err)
			}
		}
		return nil
	})
}

// The end of a deadline outside the scope passes through unchanged, and so does a cancel.
func TestMoveOnAfter_ForeignEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		expired, err := asyncio.MoveOnAfter(hurried, time.Minute, sleeping(time.Hour))
		if expired || err != context.DeadlineExceeded {
			t.Error(expired, err)
		}
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			expired, err := asyncio.MoveOnAfter(ctx, time.Minute, sleeping(time.Hour))
			if expired {
				t.Error("a cancel taken for the end of the time")
			}
			return err
		})
		asCancelled(t, err)
		if !task.Cancelled() || task.Cancelling() != 1 {
			t.Error(task)
		}
		return nil
	})
}

func TestScopes_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, scope := range []func(context.Context, routine) error{
			func(ctx context.Context, fn routine) error { _, err := asyncio.MoveOnAfter(ctx, 1, fn); return err },
			func(ctx context.Context, fn routine) error { return asyncio.FailAfter(ctx, 1, fn) },
			func(ctx context.Context, fn routine) error { return asyncio.Cleanup(ctx, 1, fn) },
		} {
			// a nil context is the case under test
			if err := scope(nil, nothing); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Error(err)
			}
			if err := scope(ctx, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Error(err)
			}
			if err := scope(t.Context(), nothing); !errors.Is(err, asyncio.ErrNoRunningLoop) {
				t.Error(err)
			}
			loop(t, ctx).CallSoon(func() {
				if err := scope(ctx, nothing); !errors.Is(err, asyncio.ErrNotInTask) {
					t.Error(err)
				}
			})
			settle(t, ctx)
		}
		return nil
	})
}

func TestCleanup_HoldsACancelBack(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		for _, nested := range []bool{false, true} {
			began, end := l.Time(), asyncio.Instant{}
			task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
				body := sleeping(10 * time.Second)
				if nested {
					body = func(ctx context.Context) error {
						if err := asyncio.Cleanup(ctx, time.Minute, sleeping(5*time.Second)); err != nil {
							return err
						}
						return asyncio.Sleep(ctx, 5*time.Second)
					}
				}
				if err := asyncio.Cleanup(ctx, time.Minute, body); err != nil {
					t.Error(err)
				}
				end = l.Time()
				if self(ctx).Cancelling() != 1 {
					t.Error(self(ctx).Cancelling())
				}
				return asyncio.Sleep(ctx, time.Hour)
			})
			asCancelled(t, err)
			if end.Sub(began) != 10*time.Second || l.Time() != end || !task.Cancelled() {
				t.Error(end.Sub(began), l.Time(), task)
			}
		}
		return nil
	})
}

// A cancel that a Cleanup held back is delivered at the next await. If there is none, the task ends
// cancelled (cancel 2).
func TestCleanup_CancelOfATaskThatEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second))
		})
		asCancelled(t, err)
		if !task.Cancelled() {
			t.Error(task)
		}
		return nil
	})
}

// A Cleanup also holds back a cancel that had not been delivered when it began (cancel 3).
func TestCleanup_CancelFromBefore(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			self(ctx).Cancel("before")
			must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(time.Second)))
			err := asyncio.Sleep(ctx, time.Hour)
			var c *asyncio.CancelledError
			if !errors.As(err, &c) || c.Msg != "before" {
				t.Error(err)
			}
			// The cancel is delivered only once.
			self(ctx).Uncancel()
			must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(time.Second)))
			return asyncio.Sleep(ctx, time.Second)
		}))
		if _, err := task.Await(ctx); err != nil || task.Cancelling() != 0 {
			t.Error(err, task)
		}
		return nil
	})
}

// Uncancel inside a Cleanup takes the cancel back, if it was the only one (cancel 5).
func TestCleanup_Uncancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			must(t, asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
				must(t, asyncio.Sleep(ctx, 2*time.Second))
				if n := self(ctx).Uncancel(); n != 0 {
					t.Error(n)
				}
				return nil
			}))
			return asyncio.Sleep(ctx, time.Second)
		})
		if err != nil || task.Cancelled() {
			t.Error(err, task)
		}
		return nil
	})
}

func TestCleanup_Budget(t *testing.T) {
	run(t, func(ctx context.Context) error {
		timedOut(t, asyncio.Cleanup(ctx, time.Second, sleeping(time.Hour)))
		if loop(t, ctx).Time().SinceStart() != time.Second {
			t.Error(loop(t, ctx).Time())
		}
		if err := asyncio.Cleanup(ctx, time.Second, func(context.Context) error { return errA }); err != errA {
			t.Error(err)
		}
		// A context that has ended is the usual reason for a Cleanup, and does not stop it.
		over, cancel := asyncio.WithCancel(ctx)
		cancel()
		return asyncio.Cleanup(over, time.Minute, sleeping(time.Second))
	})
}

// A timeout inside a Cleanup works as usual; one around it waits for its end (cancel 3).
func TestCleanup_AndTimeouts(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		must(t, asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
			timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error { return asyncio.Sleep(ctx, time.Hour) }))
			failsWith(t, grouping(sleeping(time.Hour), failsAfter(time.Second, errA))(ctx), errA)
			return nil
		}))
		if l.Time().SinceStart() != 2*time.Second || self(ctx).Cancelling() != 0 {
			t.Error(l.Time(), self(ctx).Cancelling())
		}
		timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, tm scope) error {
			must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second)))
			if !tm.Expired() {
				t.Error(tm)
			}
			return asyncio.Sleep(ctx, time.Hour)
		}))
		if l.Time().SinceStart() != 12*time.Second {
			t.Error(l.Time())
		}
		// If nothing awaits after the Cleanup, the timeout takes its cancel back undelivered.
		for range 2 {
			must(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				return asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second))
			}))
			must(t, asyncio.Sleep(ctx, time.Second))
		}
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		// The same holds where a cancel that was caught is still counted.
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			must(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				return asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second))
			}))
			return asyncio.Sleep(ctx, time.Second)
		})
		if err != nil || task.Cancelling() != 1 {
			t.Error(err, task)
		}
		// Both a surrounding timeout and somebody else cancel the task: the error is the cancel of
		// the latter.
		task, err = inTask(t, ctx, 2*time.Second, func(ctx context.Context) error {
			return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
				must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second)))
				return asyncio.Sleep(ctx, time.Hour)
			})
		})
		asCancelled(t, err)
		if task.Cancelling() != 1 {
			t.Error(task.Cancelling())
		}
		// A surrounding group is aborted meanwhile, and its body learns of it afterwards.
		began := l.Time()
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, failsAfter(time.Second, errA))
			must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second)))
			return asyncio.Sleep(ctx, time.Hour)
		}), errA)
		if l.Time().Sub(began) != 10*time.Second || self(ctx).Cancelling() != 0 {
			t.Error(l.Time().Sub(began), self(ctx).Cancelling())
		}
		// A child in a Cleanup learns of the group's abort afterwards too.
		began = l.Time()
		failsWith(t, grouping(nil, failsAfter(time.Second, errA), func(ctx context.Context) error {
			return asyncio.Cleanup(ctx, time.Minute, sleeping(10*time.Second))
		})(ctx), errA)
		if l.Time().Sub(began) != 10*time.Second {
			t.Error(l.Time().Sub(began))
		}
		return nil
	})
}

// A cancel comes in every iteration. None is lost, and none interrupts the Cleanup.
func TestCleanup_CancelAnywhere(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for j := range 12 {
			cleaned, after := false, error(nil)
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) (err error) {
				defer func() {
					must(t, asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
						err := yields(ctx, 3)
						cleaned = err == nil
						return err
					}))
					after = yields(ctx, 2)
				}()
				return yields(ctx, 3)
			}))
			must(t, yields(ctx, j))
			accepted := task.Cancel()
			_, _, err := asyncio.Wait(ctx, []tasked{task})
			must(t, err)
			if j == 0 {
				cleaned = true // it never began
			}
			if !cleaned || accepted != (task.Cancelling() == 1) || accepted && !task.Cancelled() && !isCancelled(after) {
				t.Errorf("cancelled at %d: %v, accepted %v, cleaned up %v, then %v", j, task, accepted, cleaned, after)
			}
		}
		return nil
	})
}

func TestCleanup_WhenTheLoopCloses(t *testing.T) {
	ran := false
	l := asyncio.NewEventLoop(onVirtualTime(t.Context(), &reports{}))
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer func() {
			_ = asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
				ran = true
				if err := asyncio.Sleep(ctx, 1); !errors.Is(err, asyncio.ErrLoopClosed) {
					t.Error(err)
				}
				return nil
			})
		}()
		return asyncio.Sleep(ctx, time.Hour)
	}))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	must(t, l.Close())
	if !ran {
		t.Error("the cleanup was skipped")
	}
}

// errors.Join(err, f.Close()) after a Close that worked is about err alone.
func TestScopes_JoinedToNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		sleeps := func(ctx context.Context) error { return errors.Join(asyncio.Sleep(ctx, time.Hour), nil) }
		expired, err := asyncio.MoveOnAfter(ctx, time.Second, sleeps)
		if !expired || err != nil {
			t.Error(expired, err)
		}
		timedOut(t, asyncio.FailAfter(ctx, time.Second, sleeps))
		timedOut(t, asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error { return sleeps(ctx) }))
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, sleeps)
			settle(t, ctx)
			tg.Cancel()
			return nil
		})
	})
}
