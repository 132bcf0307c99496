package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

type group = *asyncio.TaskGroup

var (
	errA = errors.New("A")
	errB = errors.New("B")
)

// failsWith checks that err is a GroupError of exactly these errors, in this order, and no
// cancellation.
func failsWith(t *testing.T, err error, want ...error) *asyncio.GroupError {
	t.Helper()
	var g *asyncio.GroupError
	if !errors.As(err, &g) {
		t.Errorf("%v, want a GroupError", err)
		return &asyncio.GroupError{}
	}
	if len(g.Exceptions) != len(want) {
		t.Errorf("%v, want %v", g.Exceptions, want)
		return g
	}
	for i := range want {
		if !errors.Is(g.Exceptions[i], want[i]) || !errors.Is(err, want[i]) {
			t.Errorf("%v, want %v", g.Exceptions, want)
		}
	}
	return g
}

func returns(d time.Duration, v int) asyncio.Coroutine[int] { return after(d, v, nil) }

func failsAfter(d time.Duration, err error) routine {
	return func(ctx context.Context) error {
		if e := asyncio.Sleep(ctx, d); e != nil {
			return e
		}
		return err
	}
}

// failsInCleanup sleeps for d and fails with err when that is interrupted.
func failsInCleanup(d time.Duration, err error) routine {
	return func(ctx context.Context) error {
		if asyncio.Sleep(ctx, d) != nil {
			return err
		}
		return nil
	}
}

// inTask runs fn in a task of its own, cancels it after d, and returns the task and its error.
func inTask(t *testing.T, ctx context.Context, d time.Duration, fn routine) (tasked, error) {
	t.Helper()
	task := asyncio.CreateTask(ctx, asyncio.Do(fn))
	must(t, asyncio.Sleep(ctx, d))
	if task.Done() || !task.Cancel() {
		t.Error("too late to cancel", task)
	}
	_, _, err := asyncio.Wait(ctx, []tasked{task})
	must(t, err)
	return task, task.Exception()
}

func TestTaskGroup_WaitsForItsChildren(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var a, b *asyncio.Task[int]
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			a = asyncio.GroupTask(tg, returns(time.Second, 42), asyncio.Name("yolo"))
			if tg.String() != "<TaskGroup tasks=1 entered>" || a.GetName() != "yolo" {
				t.Error(tg, a)
			}
			must(t, asyncio.Sleep(ctx, 1500*time.Millisecond))
			b = asyncio.GroupTask(tg, returns(2*time.Second, 11))
			return nil
		})
		x, _ := a.Result()
		y, _ := b.Result()
		equal(t, "results", []int{x, y}, []int{42, 11})
		if loop(t, ctx).Time() != 3500*time.Millisecond {
			t.Error(loop(t, ctx).Time())
		}
		return err
	})
}

func TestTaskGroup_AChildCancelledAloneIsNoFailure(t *testing.T) {
	run(t, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			a := asyncio.GroupTask(tg, returns(time.Hour, 42))
			must(t, asyncio.Sleep(ctx, time.Second))
			a.Cancel()
			b := asyncio.GroupTask(tg, returns(time.Second, 11))
			v, err := b.Await(ctx)
			if v != 11 || !a.Cancelled() {
				t.Error(v, a)
			}
			return err
		})
	})
}

func TestTaskGroup_AChildFails(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var sibling, bodyErr error
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for range 3 {
				tg.CreateTask(failsAfter(time.Second, errA), asyncio.Name("failing"))
			}
			tg.CreateTask(func(ctx context.Context) error {
				sibling = asyncio.Sleep(ctx, time.Hour)
				return sibling
			})
			bodyErr = asyncio.Sleep(ctx, time.Hour)
			if !strings.HasPrefix(tg.String(), "<TaskGroup tasks=") || !strings.HasSuffix(tg.String(), " cancelling>") {
				t.Error(tg)
			}
			return bodyErr
		})
		g := failsWith(t, err, errA, errA, errA)
		if g.First() != errA || errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		for _, err := range []error{sibling, bodyErr} {
			asCancelled(t, err)
			var c *asyncio.CancelledError
			if errors.As(err, &c); c.By != "failing" || c.Error() != "asyncio: cancelled: a child of the task group failed (by failing): A" || errors.Is(err, errA) {
				t.Errorf("%v by %q", err, c.By)
			}
		}
		if self(ctx).Cancelling() != 0 || loop(t, ctx).Time() != time.Second {
			t.Error(self(ctx).Cancelling(), loop(t, ctx).Time())
		}
		// A task that ends with the group's error has failed, and is not cancelled.
		task := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return err }))
		_, _ = task.Await(ctx)
		if task.Cancelled() {
			t.Error(task)
		}
		return asyncio.Sleep(ctx, time.Second)
	})
}

func TestTaskGroup_Cancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, bodyWaits := range []bool{false, true} {
			n := 0
			child := func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				if isCancelled(err) {
					n++
				}
				return err
			}
			task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					for range 5 {
						tg.CreateTask(child)
					}
					if bodyWaits {
						return child(ctx)
					}
					return nil
				})
			})
			asCancelled(t, err)
			if want := map[bool]int{false: 5, true: 6}[bodyWaits]; n != want || !task.Cancelled() || task.Cancelling() != 1 {
				t.Error(n, task)
			}
		}
		return nil
	})
}

func TestTaskGroup_CancelledWithoutChildren(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, _ group) error { return asyncio.Sleep(ctx, time.Hour) })
		})
		asCancelled(t, err)
		is(t, "Cancelling", task.Cancelling(), 1)
		is(t, "cancelled", task.Cancelled(), true)
		return nil
	})
}

func TestTaskGroup_ErrorsOfTheCleanup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				for range 5 {
					tg.CreateTask(failsInCleanup(time.Hour, errA))
				}
				return asyncio.Sleep(ctx, time.Hour)
			})
		})
		failsWith(t, err, errA, errA, errA, errA, errA)
		if task.Cancelling() != 1 {
			t.Error(task.Cancelling())
		}
		_, err = inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				return failsInCleanup(time.Hour, errB)(ctx) // an error of the body is a failure too
			})
		})
		failsWith(t, err, errB)
		return nil
	})
}

func TestTaskGroup_TheBodyFails(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, wait := range []time.Duration{0, time.Second} {
			var a, b *asyncio.Task[int]
			err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				a, b = asyncio.GroupTask(tg, returns(time.Hour, 42)), asyncio.GroupTask(tg, returns(time.Hour, 11))
				if wait > 0 {
					must(t, asyncio.Sleep(ctx, wait))
				}
				return errA
			})
			failsWith(t, err, errA)
			if !a.Cancelled() || !b.Cancelled() {
				t.Error(a, b)
			}
		}
		// The body's error is last, although it made the others fail.
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsInCleanup(time.Hour, errA))
			must(t, asyncio.Sleep(ctx, 0))
			return errB
		}), errA, errB)
		return nil
	})
}

func TestTaskGroup_BothFail(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsAfter(time.Second, errA))
			return failsInCleanup(time.Hour, errB)(ctx)
		}), errA, errB)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		return nil
	})
}

func TestTaskGroup_Nested(t *testing.T) {
	run(t, func(ctx context.Context) error {
		nest := func(outer, inner []routine, body routine) routine {
			return func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					for _, c := range outer {
						tg.CreateTask(c)
					}
					return grouping(body, inner...)(ctx)
				})
			}
		}
		five := []routine{failsInCleanup(time.Hour, errA), failsInCleanup(time.Hour, errA)}
		for _, outer := range [][]routine{nil, {sleeping(time.Hour)}} {
			_, err := inTask(t, ctx, time.Second, nest(outer, five, sleeping(time.Hour)))
			g := failsWith(t, err, errA)
			failsWith(t, g.Exceptions[0], errA, errA)
			if g.First() != errA {
				t.Error(g)
			}
		}
		// The outer group's child fails: the inner group is only cancelled.
		g := failsWith(t, nest([]routine{failsAfter(time.Second, errA)}, []routine{failsAfter(time.Hour, errB)}, nil)(ctx), errA)
		if isGroup(g.Exceptions[0]) {
			t.Error(g)
		}
		// The inner group's child fails: the inner group's error becomes the outer group's.
		g = failsWith(t, nest([]routine{failsAfter(time.Hour, errA)}, []routine{failsAfter(time.Second, errB)}, nil)(ctx), errB)
		failsWith(t, g.Exceptions[0], errB)
		return nil
	})
}

// A child fails while the body is still cleaning up after a cancel.
func TestTaskGroup_FailsDuringTheCleanupOfACancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		nested := func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(func(ctx context.Context) error {
					_ = asyncio.Sleep(ctx, 3*time.Second)
					return errA
				})
				err := asyncio.Sleep(ctx, time.Hour)
				// cancelled once more, by the group
				asCancelled(t, asyncio.Sleep(ctx, 5*time.Second))
				return err
			})
		}
		_, err := inTask(t, ctx, time.Second, nested)
		failsWith(t, err, errA)
		_, err = inTask(t, ctx, time.Second, func(ctx context.Context) error {
			_, err := asyncio.CreateTask(ctx, asyncio.Do(nested)).Await(ctx)
			return err
		})
		failsWith(t, err, errA)
		return nil
	})
}

func TestTaskGroup_ChildrenMakeChildren(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error {
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.CreateTask(sleeping(time.Second))
				tg.CreateTask(sleeping(2 * time.Second))
				return nil
			})
			return nil
		}); err != nil || l.Time() != 3*time.Second {
			t.Error(err, l.Time())
		}
		heads := 0
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			var hydra routine
			hydra = func(ctx context.Context) error {
				heads++
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				tg.CreateTask(hydra)
				tg.CreateTask(hydra)
				return nil
			}
			tg.CreateTask(hydra)
			tg.CreateTask(func(ctx context.Context) error {
				for heads < 10 {
					must(t, asyncio.Sleep(ctx, 1500*time.Millisecond))
				}
				return errA
			})
			return nil
		}), errA)
		if heads < 10 {
			t.Error(heads)
		}
		// A group does not keep children that are done.
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for i := range 10 {
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.CreateTask(sleeping(3 * time.Second))
				if i == 5 && tg.String() != "<TaskGroup tasks=4 entered>" && tg.String() != "<TaskGroup tasks=3 entered>" {
					t.Error(tg)
				}
			}
			must(t, asyncio.Sleep(ctx, 10*time.Second))
			if tg.String() != "<TaskGroup entered>" {
				t.Error(tg)
			}
			return nil
		})
	})
}

// Children have the group's context.
func TestTaskGroup_Context(t *testing.T) {
	type key struct{}
	run(t, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(context.WithValue(ctx, key{}, 1), func(ctx context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error {
				if ctx.Value(key{}) != 1 {
					t.Error(ctx)
				}
				return nil
			})
			return nil
		})
	})
}

// A child made while the group is being aborted is cancelled before it starts (group 1).
func TestTaskGroup_ChildOfAnAbortedGroup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var late tasked
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsAfter(time.Second, errA))
			tg.CreateTask(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				for _, eager := range []bool{false, true} {
					late = tg.CreateTask(func(context.Context) error { t.Error("entered"); return nil }, asyncio.EagerStart(eager))
				}
				return err
			})
			return nil
		}), errA)
		if late == nil || !late.Cancelled() {
			t.Error(late)
		}
		return nil
	})
}

func TestTaskGroup_Finished(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tg group
		must(t, asyncio.RunTaskGroup(ctx, func(_ context.Context, g group) error { tg = g; return nil }))
		if err := panicOf(func() { tg.CreateTask(nothing) }); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Error(err)
		}
		if err := panicOf(func() { asyncio.GroupTask(tg, instant) }); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Error(err)
		}
		_, err := asyncio.GroupStart(ctx, tg, func(context.Context, *asyncio.TaskStatus[int]) error { return nil })
		if !errors.Is(err, asyncio.ErrInvalidState) {
			t.Error(err)
		}
		tg.Cancel()
		if self(ctx).Cancelling() != 0 {
			t.Error("cancelled by a group that is over")
		}
		return nil
	})
}

func TestTaskGroup_Misuse(t *testing.T) {
	body := func(context.Context, group) error { t.Error("entered"); return nil }
	if err := asyncio.RunTaskGroup(t.Context(), body); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Error(err)
	}
	run(t, func(ctx context.Context) error {
		for _, err := range []error{
			asyncio.RunTaskGroup(nil, body), // nil is the point
			asyncio.RunTaskGroup(ctx, nil),
			asyncio.RunTaskGroup(ctx, body, asyncio.GroupLimit(0)),
		} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Error(err)
			}
		}
		loop(t, ctx).CallSoon(func() {
			if err := asyncio.RunTaskGroup(ctx, body); !errors.Is(err, asyncio.ErrNotInTask) {
				t.Error(err)
			}
		})
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			if err := panicOf(func() { tg.CreateTask(nil) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Error(err)
			}
			return asyncio.Sleep(ctx, 0)
		})
	})
}

// The body returns an error because of the group's own cancel. The task's count of cancels is kept
// (gh-95289).
func TestTaskGroup_CancelCountIsKept(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(func(context.Context) error { return errA })
			_ = asyncio.Sleep(ctx, time.Second)
			return errA
		}), errA, errA)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsAfter(0, errA))
			return nil
		}), errA)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		return nil
	})
}

// Both groups cancel the task. The inner one must not take the outer one's cancel away (gh-116720).
func TestTaskGroup_NestedBothCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, outer group) error {
			failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, inner group) error {
				inner.CreateTask(failsAfter(0, errA))
				outer.CreateTask(failsAfter(0, errB))
				return nil
			}), errA)
			if self(ctx).Cancelling() != 1 {
				t.Error(self(ctx).Cancelling())
			}
			return nil
		}), errB)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		return nil
	})
}

// A cancel that arrives together with a failure is delivered again after the group (group 3).
func TestTaskGroup_ErrorAndCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		running := asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(func(ctx context.Context) error {
					must(t, running.SetResult(1))
					_ = asyncio.Sleep(ctx, 0)
					return errA
				})
				err := asyncio.Sleep(ctx, time.Second)
				asCancelled(t, err)
				return err
			}), errA)
			if self(ctx).Cancelling() != 1 {
				t.Error(self(ctx).Cancelling())
			}
			err := asyncio.Sleep(ctx, time.Second)
			var c *asyncio.CancelledError
			if !errors.As(err, &c) || c.Msg != "outside" {
				t.Errorf("after the group: %v", err)
			}
			return err
		}))
		if _, err := running.Await(ctx); err != nil {
			return err
		}
		task.Cancel("outside")
		_, err := task.Await(ctx)
		asCancelled(t, err)
		if !task.Cancelled() {
			t.Error(task)
		}
		return nil
	})
}

func TestTaskGroup_TimeoutAround(t *testing.T) {
	run(t, func(ctx context.Context) error {
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(failsInCleanup(2*time.Second, errA))
				return asyncio.Sleep(ctx, time.Hour)
			})
		})
		failsWith(t, err, errA)
		timedOut(t, err)
		return nil
	})
}

func TestTaskGroup_Cancel(t *testing.T) {
	for name, how := range map[string]func(ctx context.Context, tg group) error{
		"by the body, which waits": func(ctx context.Context, tg group) error {
			tg.Cancel()
			tg.Cancel()
			err := asyncio.Sleep(ctx, time.Hour)
			asCancelled(t, err)
			return err
		},
		"by the body, which returns": func(_ context.Context, tg group) error { tg.Cancel(); return nil },
		"by a child": func(ctx context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error {
				_ = asyncio.Sleep(ctx, time.Second)
				tg.Cancel()
				return nil
			})
			return asyncio.Sleep(ctx, time.Hour)
		},
		"by a child, at the end": func(_ context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error {
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.Cancel()
				return asyncio.Sleep(ctx, time.Hour)
			})
			return nil
		},
		"by a callback": func(ctx context.Context, tg group) error {
			loop(t, ctx).CallLater(time.Second, tg.Cancel)
			return asyncio.Sleep(ctx, time.Hour)
		},
		"by an eager child, before it has joined": func(ctx context.Context, tg group) error {
			child := tg.CreateTask(func(ctx context.Context) error {
				tg.Cancel()
				return asyncio.Sleep(ctx, time.Hour)
			}, asyncio.EagerStart(true))
			err := asyncio.Sleep(ctx, time.Hour)
			settle(t, context.WithoutCancel(ctx))
			if !child.Cancelled() {
				t.Error(child)
			}
			return err
		},
		"by an eager child that returns": func(ctx context.Context, tg group) error {
			child := asyncio.GroupTask(tg, func(context.Context) (int, error) { tg.Cancel(); return 7, nil }, asyncio.EagerStart(true))
			if v, err := child.Result(); v != 7 || err != nil {
				t.Error(v, err)
			}
			return asyncio.Sleep(ctx, time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				var sibling tasked
				err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					sibling = tg.CreateTask(cleaning(time.Hour, time.Second))
					must(t, asyncio.Sleep(ctx, 0))
					return how(ctx, tg)
				})
				if err != nil || self(ctx).Cancelling() != 0 || !sibling.Cancelled() {
					t.Error(err, self(ctx).Cancelling(), sibling)
				}
				return asyncio.Sleep(ctx, time.Second) // no cancel is left
			})
		})
	}
}

// cleaning sleeps for d, and if that is interrupted, for more.
func cleaning(d, more time.Duration) routine {
	return func(ctx context.Context) error {
		err := asyncio.Sleep(ctx, d)
		if err != nil {
			_ = asyncio.Sleep(ctx, more)
		}
		return err
	}
}

// A cancel that was caught before the group and is still counted does not concern the group.
func TestTaskGroup_CancelAfterACancelThatWasCaught(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(sleeping(time.Hour))
				loop(t, ctx).CallLater(time.Second, tg.Cancel)
				_ = asyncio.Sleep(ctx, time.Hour)
				return nil
			})
		})
		if err != nil || task.Cancelling() != 1 {
			t.Error(err, task)
		}
		return nil
	})
}

func TestTaskGroup_CancelAndErrors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsInCleanup(time.Hour, errA))
			must(t, asyncio.Sleep(ctx, 0))
			tg.Cancel()
			return errB
		}), errA, errB)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		return asyncio.Sleep(ctx, time.Second)
	})
}

// A cancel from elsewhere that arrives while the group is being cancelled is passed on (group 3,
// gh-155433).
func TestTaskGroup_ForeignCancelDuringCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		timedOut(t, asyncio.Timeout(ctx, 5*time.Second, func(ctx context.Context, _ scope) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(cleaning(time.Hour, 10*time.Second))
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.Cancel()
				return nil
			})
		}))
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(cleaning(time.Hour, 10*time.Second))
				must(t, asyncio.Sleep(ctx, 0))
				tg.Cancel()
				return nil
			})
		}))
		must(t, asyncio.Sleep(ctx, time.Second))
		task.Cancel("outside")
		_, err := task.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "outside" || !task.Cancelled() {
			t.Error(err)
		}
		return nil
	})
}

// An eager child that fails at once cancels nothing before its creation is over (gh-128550,
// gh-128588).
func TestTaskGroup_EagerChildFailsAtOnce(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			child := tg.CreateTask(func(context.Context) error { return errA }, asyncio.EagerStart(true))
			if !child.Done() || self(ctx).Cancelling() != 0 {
				t.Error(child, self(ctx).Cancelling())
			}
			tg.CreateTask(sleeping(time.Hour), asyncio.EagerStart(true))
			err := asyncio.Sleep(ctx, time.Hour)
			asCancelled(t, err)
			return err
		}), errA)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(nothing, asyncio.EagerStart(true))
			return nil
		})
	})
}

func TestTaskGroup_AbortsInOrderOfCreation(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var order []int
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for i := range 5 {
				tg.CreateTask(func(ctx context.Context) error {
					err := asyncio.Sleep(ctx, time.Hour)
					order = append(order, i)
					return err
				})
			}
			must(t, asyncio.Sleep(ctx, 0))
			return errA
		}), errA)
		equal(t, "order", order, []int{0, 1, 2, 3, 4})
		return nil
	})
}

// The end of the group's context ends the group, and is nobody's failure (group 5).
func TestTaskGroup_ContextEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		children := func(tg group) {
			tg.CreateTask(sleeping(time.Hour))
			tg.CreateTask(func(ctx context.Context) error { return fmt.Errorf("wrapped: %w", asyncio.Sleep(ctx, time.Hour)) })
			tg.CreateTask(func(ctx context.Context) error { _, _ = ctx.Deadline(); _ = never(ctx); return ctx.Err() })
		}
		for name, body := range map[string]func(ctx context.Context, tg group) error{
			"the body waits":        func(ctx context.Context, tg group) error { children(tg); return asyncio.Sleep(ctx, time.Hour) },
			"the body has returned": func(_ context.Context, tg group) error { children(tg); return nil },
			"the body ignores it": func(ctx context.Context, tg group) error {
				children(tg)
				return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour)
			},
			"a child does not hear it": func(ctx context.Context, tg group) error {
				tg.CreateTask(func(ctx context.Context) error { return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour) })
				return nil
			},
		} {
			hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
			if err := asyncio.RunTaskGroup(hurried, body); err != context.DeadlineExceeded {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if self(ctx).Cancelling() != 0 {
				t.Error(name, self(ctx).Cancelling())
			}
		}
		// It does not hide real failures.
		hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		failsWith(t, asyncio.RunTaskGroup(hurried, func(_ context.Context, tg group) error {
			children(tg)
			tg.CreateTask(failsInCleanup(time.Hour, errA))
			return nil
		}), errA)
		// A cancel that arrives meanwhile is not lost.
		hurried, cancel = asyncio.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		task, err := inTask(t, ctx, 3*time.Second, func(context.Context) error {
			return asyncio.RunTaskGroup(hurried, func(_ context.Context, tg group) error {
				tg.CreateTask(func(ctx context.Context) error {
					ctx = context.WithoutCancel(ctx)
					err := asyncio.Sleep(ctx, time.Hour)
					_ = asyncio.Sleep(ctx, time.Minute)
					return err
				})
				return nil
			})
		})
		asCancelled(t, err)
		if task.Cancelling() != 1 {
			t.Error(task)
		}
		return nil
	})
}

func TestTaskGroup_PanicOfAChild(t *testing.T) {
	for _, eager := range []bool{false, true} {
		for _, ready := range []bool{false, true} {
			ran := false
			r, err := runReporting(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					if ready { // due in the same iteration, after the panic
						loop(t, ctx).CallSoon(func() { must(t, f.SetResult(1)) })
					}
					panics := func(ctx context.Context) error {
						if !eager {
							_, _ = f.Await(ctx)
						}
						panic("x")
					}
					sibling := func(ctx context.Context) error {
						_, err := f.Await(ctx)
						ran = err == nil
						return err
					}
					if !ready && !eager {
						loop(t, ctx).CallSoon(func() { f.Cancel() })
					}
					if eager {
						tg.CreateTask(sibling)
						tg.CreateTask(panics, asyncio.EagerStart(true))
					} else {
						tg.CreateTask(panics)
						tg.CreateTask(sibling)
					}
					return nil
				})
			})
			var p *asyncio.PanicError
			if !errors.As(err, &p) || p.Value != "x" {
				t.Error(err)
			}
			failsWith(t, err, p)
			equal(t, "reports", r.messages(), []string{"panic in task"})
			if ran {
				t.Errorf("eager %v, ready %v: the sibling went on after the panic", eager, ready)
			}
		}
	}
}

func TestTaskGroup_PanicOfTheBody(t *testing.T) {
	var child tasked
	r, err := runReporting(t, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			child = tg.CreateTask(cleaning(time.Hour, time.Second))
			tg.CreateTask(failsInCleanup(time.Hour, errA))
			must(t, asyncio.Sleep(ctx, 0))
			panic("x")
		})
	})
	var p *asyncio.PanicError
	if !errors.As(err, &p) || p.Value != "x" || !strings.Contains(string(p.Stack), "TestTaskGroup_PanicOfTheBody") || !child.Cancelled() {
		t.Error(err, child)
	}
	equal(t, "reports", r.messages(), []string{"error in a task group was not returned because its body panicked", "panic in task"})
}

func TestGroupLimit(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		running, most := 0, 0
		var order []int
		var waiting tasked
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for i := range 10 {
				task := tg.CreateTask(func(ctx context.Context) error {
					defer func() { running-- }()
					running++
					most = max(most, running)
					order = append(order, i)
					return asyncio.Sleep(ctx, time.Second)
				}, asyncio.EagerStart(i%2 == 0))
				if i == 7 {
					waiting = task
				}
			}
			must(t, asyncio.Sleep(ctx, 0))
			waiting.Cancel() // the child leaves the queue
			return nil
		}, asyncio.GroupLimit(3))
		equal(t, "order", order, []int{0, 2, 1, 3, 4, 5, 6, 8, 9}) // the eager one is first
		if most != 3 || l.Time() != 3*time.Second || !waiting.Cancelled() {
			t.Error(most, l.Time(), waiting)
		}
		return err
	})
}

// A child that waits for its turn is aborted like the others, and never entered.
func TestGroupLimit_Aborted(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var second tasked
		failsWith(t, asyncio.RunTaskGroup(ctx, func(_ context.Context, tg group) error {
			tg.CreateTask(failsAfter(time.Second, errA))
			second = tg.CreateTask(func(context.Context) error { t.Error("entered"); return nil })
			return nil
		}, asyncio.GroupLimit(1)), errA)
		if !second.Cancelled() {
			t.Error(second)
		}
		return nil
	})
}

func TestSupervisor(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(failsAfter(2*time.Second, errB))
			tg.CreateTask(failsAfter(time.Second, errA))
			tg.CreateTask(func(context.Context) error { panic(errTest) })
			ok := asyncio.GroupTask(tg, returns(3*time.Second, 42))
			v, err := ok.Await(ctx)
			if v != 42 {
				t.Error(v)
			}
			return err
		}, asyncio.Supervisor())
		failsWith(t, err, errTest, errA, errB)
		var child tasked
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			child = tg.CreateTask(sleeping(time.Hour))
			return errA
		}, asyncio.Supervisor()), errA)
		if !child.Cancelled() {
			t.Error("the body's failure leaves children alone")
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestGroupStart(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for _, eager := range []bool{false, true} {
				began := l.Time()
				served := false
				addr, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[string]) error {
					must(t, asyncio.Sleep(ctx, time.Second))
					must(t, s.Started("localhost:80"))
					if err := s.Started("again"); !errors.Is(err, asyncio.ErrInvalidState) {
						t.Error(err)
					}
					must(t, asyncio.Sleep(ctx, time.Second))
					served = true
					return nil
				}, asyncio.EagerStart(eager))
				if addr != "localhost:80" || err != nil || l.Time()-began != time.Second || served {
					t.Error(addr, err, l.Time()-began, served)
				}
				must(t, asyncio.Sleep(ctx, 2*time.Second))
				if !served {
					t.Error("it did not go on")
				}
			}
			return nil
		})
	})
}

func TestGroupStart_DoesNotGetReady(t *testing.T) {
	run(t, func(ctx context.Context) error {
		start := func(ctx context.Context, tg group, fn routine) error {
			_, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, _ *asyncio.TaskStatus[int]) error { return fn(ctx) })
			return err
		}
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			if err := start(ctx, tg, failsAfter(time.Second, errA)); err != errA {
				t.Error(err)
			}
			if err := start(ctx, tg, nothing); !errors.Is(err, asyncio.ErrInvalidState) {
				t.Error(err)
			}
			return asyncio.Sleep(ctx, time.Second) // the group goes on
		}); err != nil {
			t.Error(err)
		}
		// A cancel of the waiting caller reaches the child, and GroupStart waits for its clean-up.
		cleaned := false
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				err := start(ctx, tg, func(ctx context.Context) error {
					err := cleaning(time.Hour, time.Second)(ctx)
					cleaned = true
					return err
				})
				if !cleaned {
					t.Error("did not wait for the clean-up")
				}
				return err
			})
		})
		asCancelled(t, err)
		if task.Cancelling() != 1 {
			t.Error(task)
		}
		// The end of the caller's context does the same.
		cleaned = false
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
			defer cancel()
			err := start(hurried, tg, func(ctx context.Context) error {
				err := cleaning(time.Hour, time.Second)(ctx)
				cleaned = true
				return err
			})
			if err != context.DeadlineExceeded || !cleaned {
				t.Error(err, cleaned)
			}
			// A cancel that arrives during that clean-up is not lost.
			task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
				hurried, cancel := asyncio.WithTimeout(ctx, time.Second/2)
				defer cancel()
				return start(hurried, tg, cleaning(time.Hour, time.Minute))
			})
			asCancelled(t, err)
			if errors.Is(err, context.DeadlineExceeded) && !task.Cancelled() {
				t.Error(task, err)
			}
			// A child that gets ready all the same has started.
			hurried, cancel2 := asyncio.WithTimeout(ctx, time.Second)
			defer cancel2()
			v, err := asyncio.GroupStart(hurried, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				_ = asyncio.Sleep(ctx, time.Hour)
				return s.Started(7)
			})
			if v != 7 || err != nil {
				t.Error(v, err)
			}
			return nil
		})
	})
}

func TestGroupStart_FailsLater(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			v, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				must(t, s.Started(1))
				return failsAfter(time.Second, errA)(ctx)
			})
			if v != 1 || err != nil {
				t.Error(v, err)
			}
			return asyncio.Sleep(ctx, time.Hour)
		}), errA)
		return nil
	})
}

func TestGroupCompleted(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []int
		var errs []error
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for _, d := range []time.Duration{3, 1, 2} {
				asyncio.GroupTask(tg, returns(d*time.Second, int(d)))
			}
			asyncio.GroupTask(tg, after(time.Second/2, 0, errA))
			tg.CreateTask(sleeping(time.Hour)) // not a Task[int]
			for task, err := range asyncio.GroupCompleted[int](ctx, tg) {
				must(t, err)
				v, err := task.Result()
				if err != nil {
					errs = append(errs, err)
					continue
				}
				got = append(got, v)
				if v == 2 {
					asyncio.GroupTask(tg, returns(2*time.Second, 4)) // ends later than 3
				}
			}
			return nil
		}, asyncio.Supervisor())
		failsWith(t, err, errA)
		equal(t, "results", got, []int{1, 2, 3, 4})
		equal(t, "errors", errs, []error{errA})
		if loop(t, ctx).Time() != time.Hour {
			t.Error(loop(t, ctx).Time())
		}
		// Breaking out of the loop leaves the children alone.
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			asyncio.GroupTask(tg, returns(time.Second, 1))
			slow := asyncio.GroupTask(tg, returns(time.Minute, 2))
			for range asyncio.GroupCompleted[int](ctx, tg) {
				break
			}
			v, err := slow.Await(ctx)
			if v != 2 {
				t.Error(v)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		// An abort ends the loop with an error.
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			asyncio.GroupTask(tg, after(time.Second, 0, errA))
			asyncio.GroupTask(tg, returns(time.Minute, 2))
			var last error
			for _, err := range asyncio.GroupCompleted[int](ctx, tg) {
				last = err
			}
			asCancelled(t, last)
			return last
		}), errA)
		// Only the body may use it.
		return asyncio.RunTaskGroup(ctx, func(_ context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error {
				for _, err := range asyncio.GroupCompleted[int](ctx, tg) {
					if !errors.Is(err, asyncio.ErrInvalidState) {
						t.Error(err)
					}
				}
				return nil
			})
			return nil
		})
	})
}

func TestGroupError(t *testing.T) {
	inner := &asyncio.GroupError{Message: "inner", Exceptions: []error{errB, valueError{3}}}
	g := &asyncio.GroupError{Message: "outer", Exceptions: []error{valueError{1}, inner, &asyncio.CancelledError{}}}
	if g.Error() != "asyncio: outer (3 sub-exceptions): ValueError; asyncio: inner (2 sub-exceptions): B; ValueError; asyncio: cancelled" {
		t.Error(g)
	}
	if one := (&asyncio.GroupError{Message: "m", Exceptions: []error{errA}}); one.Error() != "asyncio: m (1 sub-exception): A" {
		t.Error(one)
	}
	if !errors.Is(g, errB) || !errors.As(g, new(valueError)) || errors.Is(g, errA) {
		t.Error("errors.Is does not see the leaves")
	}
	if g.First() != (valueError{1}) || (&asyncio.GroupError{Exceptions: []error{inner}}).First() != errB || (&asyncio.GroupError{}).First() != nil {
		t.Error("First")
	}
	isValue := func(err error) bool { return errors.As(err, new(valueError)) }
	match, rest := g.Split(isValue)
	if match.Error() != "asyncio: outer (2 sub-exceptions): ValueError; asyncio: inner (1 sub-exception): ValueError" {
		t.Error(match)
	}
	if rest.Error() != "asyncio: outer (2 sub-exceptions): asyncio: inner (1 sub-exception): B; asyncio: cancelled" {
		t.Error(rest)
	}
	if match, rest := g.Split(func(error) bool { return true }); rest != nil || match.Error() != g.Error() {
		t.Error(match, rest)
	}
	if match, rest := g.Split(func(error) bool { return false }); match != nil || rest.Error() != g.Error() {
		t.Error(match, rest)
	}
	if sub := g.Subgroup(func(err error) bool { return err == errB }); sub == nil || sub.First() != errB {
		t.Error(sub)
	}
	if sub := g.Subgroup(func(err error) bool { return err == errA }); sub != nil {
		t.Error(sub)
	}
	// A GroupError is not a cancellation, even if one is in it.
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return g }))
		if _, err := task.Await(ctx); err != g || task.Cancelled() {
			t.Error(task)
		}
		return nil
	})
}

// CPython has no such constructs. A cancel, or two, comes in every iteration. Nothing hangs, no
// child is left, every cancel is counted, and none that was accepted is lost.
func TestTaskGroup_CancelAnywhere(t *testing.T) {
	slowly := func(ctx context.Context) error { return cleaningUp(3, 2)(ctx) }
	for name, body := range map[string]func(ctx context.Context, tg group) error{
		"Cancel": func(ctx context.Context, tg group) error {
			tg.CreateTask(slowly)
			err := yields(ctx, 2)
			tg.Cancel()
			return err
		},
		"GroupStart": func(ctx context.Context, tg group) error {
			_, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				if err := slowly(ctx); err != nil {
					return err
				}
				must(t, s.Started(1))
				return slowly(ctx)
			})
			return err
		},
		"GroupCompleted": func(ctx context.Context, tg group) error {
			for i := range 3 {
				tg.CreateTask(cleaningUp(i, 1))
			}
			for _, err := range asyncio.GroupCompleted[asyncio.None](ctx, tg) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"GroupLimit": func(_ context.Context, tg group) error {
			for range 5 {
				tg.CreateTask(slowly)
			}
			return nil
		},
		"MoveOnAfter": func(ctx context.Context, tg group) error {
			_, err := asyncio.MoveOnAfter(ctx, 0, grouping(nil, func(ctx context.Context) error {
				_ = yields(context.WithoutCancel(ctx), 2)
				return slowly(ctx)
			}))
			if err != nil {
				return err
			}
			return yields(ctx, 3)
		},
		"Cleanup": func(ctx context.Context, tg group) error {
			tg.CreateTask(func(ctx context.Context) error { return asyncio.Cleanup(ctx, time.Minute, slowly) })
			if err := asyncio.Cleanup(ctx, time.Minute, yielding(3)); err != nil {
				return err
			}
			return yields(ctx, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				for j := range 16 {
					for _, k := range []int{0, 1, 2, 3, 5} {
						task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
							return asyncio.RunTaskGroup(ctx, body, asyncio.GroupLimit(2))
						}))
						must(t, yields(ctx, j))
						accepted := 0
						if task.Cancel("one") {
							accepted++
						}
						if k > 0 {
							must(t, yields(ctx, k))
							if task.Cancel("two") {
								accepted++
							}
						}
						_, _, err := asyncio.Wait(ctx, []tasked{task})
						must(t, err)
						if left := asyncio.AllTasks(ctx); len(left) != 1 {
							t.Errorf("cancelled at %d and %d: left are %v", j, k, left)
						}
						if task.Cancelling() != accepted || accepted > 0 != task.Cancelled() {
							t.Errorf("cancelled at %d and %d: %v, %d accepted, Cancelling() = %d", j, k, task, accepted, task.Cancelling())
						}
					}
				}
				return nil
			})
		})
	}
}
