package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
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
			a = asyncio.GroupTask(ctx, tg, returns(time.Second, 42), asyncio.TaskName("yolo"))
			if tg.String() != "<TaskGroup tasks=1 entered>" || a.GetName() != "yolo" {
				t.Error(tg, a)
			}
			must(t, asyncio.Sleep(ctx, 1500*time.Millisecond))
			b = asyncio.GroupTask(ctx, tg, returns(2*time.Second, 11))
			return nil
		})
		x, _ := a.Result()
		y, _ := b.Result()
		equal(t, "results", []int{x, y}, []int{42, 11})
		if loop(t, ctx).Time().SinceStart() != 3500*time.Millisecond {
			t.Error(loop(t, ctx).Time())
		}
		return err
	})
}

func TestTaskGroup_AChildCancelledAloneIsNoFailure(t *testing.T) {
	run(t, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			a := asyncio.GroupTask(ctx, tg, returns(time.Hour, 42))
			must(t, asyncio.Sleep(ctx, time.Second))
			a.Cancel()
			b := asyncio.GroupTask(ctx, tg, returns(time.Second, 11))
			v, err := b.Await(ctx)
			if v != 11 || !a.Cancelled() {
				t.Error(v, a)
			}
			return err
		})
	})
}

func TestTaskGroup_Nested(t *testing.T) {
	run(t, func(ctx context.Context) error {
		nest := func(outer, inner []routine, body routine) routine {
			return func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					for _, c := range outer {
						tg.CreateTask(ctx, c)
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

func TestTaskGroup_ChildrenMakeChildren(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.CreateTask(ctx, sleeping(time.Second))
				tg.CreateTask(ctx, sleeping(2*time.Second))
				return nil
			})
			return nil
		}); err != nil || l.Time().SinceStart() != 3*time.Second {
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
				tg.CreateTask(ctx, hydra)
				tg.CreateTask(ctx, hydra)
				return nil
			}
			tg.CreateTask(ctx, hydra)
			tg.CreateTask(ctx, func(ctx context.Context) error {
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
				tg.CreateTask(ctx, sleeping(3*time.Second))
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
			tg.CreateTask(ctx, func(ctx context.Context) error {
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
			tg.CreateTask(ctx, failsAfter(time.Second, errA))
			tg.CreateTask(ctx, func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				for _, eager := range []bool{false, true} {
					late = tg.CreateTask(ctx, func(context.Context) error { t.Error("entered"); return nil }, asyncio.EagerStart(eager))
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
		if err := panicOf(func() { tg.CreateTask(ctx, nothing) }); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Error(err)
		}
		if err := panicOf(func() { asyncio.GroupTask(ctx, tg, instant) }); !errors.Is(err, asyncio.ErrInvalidState) {
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
			if err := panicOf(func() { tg.CreateTask(ctx, nil) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Error(err)
			}
			return asyncio.Sleep(ctx, 0)
		})
	})
}

func TestTaskGroup_TimeoutAround(t *testing.T) {
	run(t, func(ctx context.Context) error {
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ scope) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, failsInCleanup(2*time.Second, errA))
				return asyncio.Sleep(ctx, time.Hour)
			})
		})
		failsWith(t, err, errA)
		if errors.Is(err, asyncio.ErrTimeout) {
			t.Error(err)
		}
		return nil
	})
}

func TestGroupLimit(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		running, most := 0, 0
		var order []int
		var waiting tasked
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for i := range 10 {
				task := tg.CreateTask(ctx, func(ctx context.Context) error {
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
		if most != 3 || l.Time().SinceStart() != 3*time.Second || !waiting.Cancelled() {
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
			tg.CreateTask(ctx, failsAfter(time.Second, errA))
			second = tg.CreateTask(ctx, func(context.Context) error { t.Error("entered"); return nil })
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
			tg.CreateTask(ctx, failsAfter(2*time.Second, errB))
			tg.CreateTask(ctx, failsAfter(time.Second, errA))
			tg.CreateTask(ctx, func(context.Context) error { panic(errTest) })
			ok := asyncio.GroupTask(ctx, tg, returns(3*time.Second, 42))
			v, err := ok.Await(ctx)
			if v != 42 {
				t.Error(v)
			}
			return err
		}, asyncio.Supervisor())
		failsWith(t, err, errTest, errA, errB)
		var child tasked
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			child = tg.CreateTask(ctx, sleeping(time.Hour))
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

// A child has its creator's context, as Python's copies its creator's contextvars.
func TestTaskGroup_ContextIsTheCreators(t *testing.T) {
	type key struct{}
	run(t, func(ctx context.Context) error {
		ctx = context.WithValue(ctx, key{}, "group")
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			var saw []string
			see := func(who string) func(ctx context.Context) error {
				return func(ctx context.Context) error { saw = append(saw, who+": "+ctx.Value(key{}).(string)); return nil }
			}
			ctx = context.WithValue(ctx, key{}, "body")
			tg.CreateTask(ctx, see("TaskGroup.CreateTask"))
			asyncio.GroupTask(ctx, tg, asyncio.Do(see("GroupTask")))
			tg.CreateTask(ctx, func(ctx context.Context) error {
				ctx = context.WithValue(ctx, key{}, "child")
				tg.CreateTask(ctx, see("of a child"))
				return nil
			})
			settle(t, ctx)
			equal(t, "values", saw, []string{"TaskGroup.CreateTask: body", "GroupTask: body", "of a child: child"})
			return nil
		})
	})
}

// A child whose own context ends before the group's has failed (group 5).
func TestTaskGroup_ContextOfTheCreator(t *testing.T) {
	run(t, func(ctx context.Context) error {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			short, cancel := asyncio.WithTimeout(ctx, time.Second)
			tg.CreateTask(short, func(ctx context.Context) error {
				defer cancel()
				return asyncio.Sleep(ctx, time.Hour)
			})
			return nil
		})
		var group *asyncio.GroupError
		if !errors.As(err, &group) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		return nil
	})
}

func TestTaskGroup_MisuseByCreators(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ok := asyncio.Coroutine[int](instant)
		refused := func(what string, want error, fn func()) {
			t.Helper()
			if err := panicOf(fn); !errors.Is(err, want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		var left *asyncio.TaskGroup
		must(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			left = tg
			other := sim.NewEventLoop(context.Background())
			defer func() { must(t, other.Close()) }()
			refused("another loop", asyncio.ErrDifferentLoop, func() { asyncio.GroupTask(other.Context(), tg, ok) })
			refused("no loop", asyncio.ErrNoRunningLoop, func() { asyncio.GroupTask(context.Background(), tg, ok) })
			refused("nil coroutine", asyncio.ErrInvalidArgument, func() { asyncio.GroupTask[int](ctx, tg, nil) })
			refused("nil function", asyncio.ErrInvalidArgument, func() { tg.CreateTask(ctx, nil) })
			return nil
		}))
		refused("nil group", asyncio.ErrInvalidArgument, func() { asyncio.GroupTask(ctx, nil, ok) })
		refused("a group that was left", asyncio.ErrInvalidState, func() { asyncio.GroupTask(ctx, left, ok) })
		return nil
	})
}
