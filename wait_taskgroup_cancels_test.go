package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

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
						tg.CreateTask(ctx, child)
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

// A child fails while the body is still cleaning up after a cancel.
func TestTaskGroup_FailsDuringTheCleanupOfACancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		nested := func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, func(ctx context.Context) error {
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

// The body returns an error because of the group's own cancel. The task's count of cancels is kept
// (gh-95289).
func TestTaskGroup_CancelCountIsKept(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, func(context.Context) error { return errA })
			_ = asyncio.Sleep(ctx, time.Second)
			return errA
		}), errA, errA)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
		}
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, failsAfter(0, errA))
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
				inner.CreateTask(ctx, failsAfter(0, errA))
				outer.CreateTask(ctx, failsAfter(0, errB))
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
				tg.CreateTask(ctx, func(ctx context.Context) error {
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
			tg.CreateTask(ctx, func(ctx context.Context) error {
				_ = asyncio.Sleep(ctx, time.Second)
				tg.Cancel()
				return nil
			})
			return asyncio.Sleep(ctx, time.Hour)
		},
		"by a child, at the end": func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, func(ctx context.Context) error {
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
			child := tg.CreateTask(ctx, func(ctx context.Context) error {
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
			child := asyncio.GroupTask(ctx, tg, func(context.Context) (int, error) { tg.Cancel(); return 7, nil }, asyncio.EagerStart(true))
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
					sibling = tg.CreateTask(ctx, cleaning(time.Hour, time.Second))
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
				tg.CreateTask(ctx, sleeping(time.Hour))
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
			tg.CreateTask(ctx, failsInCleanup(time.Hour, errA))
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
				tg.CreateTask(ctx, cleaning(time.Hour, 10*time.Second))
				must(t, asyncio.Sleep(ctx, time.Second))
				tg.Cancel()
				return nil
			})
		}))
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, cleaning(time.Hour, 10*time.Second))
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

func TestTaskGroup_AbortsInOrderOfCreation(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var order []int
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for i := range 5 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
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
			tg.CreateTask(ctx, sleeping(time.Hour))
			tg.CreateTask(ctx, func(ctx context.Context) error { return fmt.Errorf("wrapped: %w", asyncio.Sleep(ctx, time.Hour)) })
			tg.CreateTask(ctx, func(ctx context.Context) error { _, _ = ctx.Deadline(); _ = never(ctx); return ctx.Err() })
		}
		for name, body := range map[string]func(ctx context.Context, tg group) error{
			"the body waits":        func(ctx context.Context, tg group) error { children(tg); return asyncio.Sleep(ctx, time.Hour) },
			"the body has returned": func(_ context.Context, tg group) error { children(tg); return nil },
			"the body ignores it": func(ctx context.Context, tg group) error {
				children(tg)
				return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour)
			},
			"a child does not hear it": func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, func(ctx context.Context) error { return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour) })
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
			tg.CreateTask(ctx, failsInCleanup(time.Hour, errA))
			return nil
		}), errA)
		// A cancel that arrives meanwhile is not lost.
		hurried, cancel = asyncio.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		task, err := inTask(t, ctx, 3*time.Second, func(context.Context) error {
			return asyncio.RunTaskGroup(hurried, func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, func(ctx context.Context) error {
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

// CPython has no such constructs. A cancel, or two, comes in every iteration. Nothing hangs, no
// child is left, every cancel is counted, and none that was accepted is lost.
func TestTaskGroup_CancelAnywhere(t *testing.T) {
	slowly := func(ctx context.Context) error { return cleaningUp(3, 2)(ctx) }
	for name, body := range map[string]func(ctx context.Context, tg group) error{
		"Cancel": func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, slowly)
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
				tg.CreateTask(ctx, cleaningUp(i, 1))
			}
			for _, err := range asyncio.GroupCompleted[asyncio.None](ctx, tg) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"GroupLimit": func(ctx context.Context, tg group) error {
			for range 5 {
				tg.CreateTask(ctx, slowly)
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
			tg.CreateTask(ctx, func(ctx context.Context) error { return asyncio.Cleanup(ctx, time.Minute, slowly) })
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
