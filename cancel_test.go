package asyncio_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestTask_CancelMessage(t *testing.T) {
	for name, start := range map[string]int{"before it starts": 0, "while it waits": 1} {
		for _, msg := range [][]string{nil, {"my message"}} {
			t.Run(name, func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					task := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
					must(t, yields(ctx, start))
					task.Cancel(msg...)
					_, _, err := asyncio.Wait(ctx, []tasked{task})
					must(t, err)
					_, result := task.Result()
					_, awaited := task.Await(ctx)
					for what, err := range map[string]error{"Result": result, "Exception": task.Exception(), "Await": awaited} {
						var c *asyncio.CancelledError
						if !errors.As(err, &c) || c.Msg != strings.Join(msg, "") {
							t.Errorf("%s: %v, want %q", what, err, msg)
						}
					}
					is(t, "Cancel once more", task.Cancel(), false)
					return nil
				})
			})
		}
	}
}

func TestTask_CancelAgainAfterUncancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			self(ctx).Uncancel()
			return asyncio.Sleep(ctx, time.Hour)
		}))
		cancelling := func(n int) {
			t.Helper()
			is(t, "Cancelling", task.Cancelling(), n)
			is(t, "shown as cancelling", strings.Contains(task.String(), "<Task cancelling "), n > 0)
			is(t, "cancelled", task.Cancelled(), false)
		}
		must(t, yields(ctx, 1))
		cancelling(0)
		is(t, "Cancel", task.Cancel(), true)
		cancelling(1)
		must(t, yields(ctx, 1))
		cancelling(0)
		is(t, "Cancel", task.Cancel(), true)
		is(t, "Cancel", task.Cancel(), true)
		cancelling(2)
		endsCancelled(t, ctx, task)
		task.Uncancel() // too late: the task is done
		is(t, "cancelled", task.Cancelled(), true)
		return nil
	})
}

// A cancel that is taken back before the task has resumed has no effect.
func TestTask_UncancelBeforeItResumes(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, f.Await)
		must(t, yields(ctx, 1))
		must(t, f.SetResult(42))
		task.Cancel()
		is(t, "Cancelling", task.Cancelling(), 1)
		is(t, "Uncancel", task.Uncancel(), 0)
		v, err := task.Await(ctx)
		is(t, "value", v, 42)
		return err
	})
}

// The table shows how a cancel affects the task, the thing it waits for, and its next wait.
func TestTask_CancelByWhatItDoes(t *testing.T) {
	type scene struct {
		ctx     context.Context
		a, b, c *asyncio.Future[int]
		task    *asyncio.Task[int]
	}
	for name, row := range map[string]struct {
		body    func(s *scene, ctx context.Context) (int, error)
		act     func(s *scene)
		value   int // checked if the task does not end cancelled
		a, b, c string
	}{
		"it yields": {
			body: func(s *scene, ctx context.Context) (int, error) { return 12, yields(ctx, 2) },
			act:  func(s *scene) { s.task.Cancel() },
			a:    "pending", b: "pending", c: "pending",
		},
		"the future is cancelled, not the task": {
			body: func(s *scene, ctx context.Context) (int, error) { return s.a.Await(ctx) },
			act:  func(s *scene) { s.a.Cancel() },
			a:    "cancelled", b: "pending", c: "pending",
		},
		"both are": {
			body: func(s *scene, ctx context.Context) (int, error) { return s.a.Await(ctx) },
			act:  func(s *scene) { s.a.Cancel(); s.task.Cancel() },
			a:    "cancelled", b: "pending", c: "pending",
		},
		"it catches the cancel and returns": {
			body: func(s *scene, ctx context.Context) (int, error) {
				_, err := s.b.Await(ctx)
				asCancelled(t, err)
				return 42, nil
			},
			act:   func(s *scene) { s.task.Cancel() },
			value: 42, a: "pending", b: "cancelled", c: "pending",
		},
		"it ignores the cancel and waits for another": {
			body: func(s *scene, ctx context.Context) (int, error) {
				_, err := s.b.Await(ctx)
				asCancelled(t, err)
				return s.c.Await(ctx)
			},
			act: func(s *scene) {
				s.task.Cancel()
				must(t, yields(s.ctx, 1))
				must(t, s.c.SetResult(7))
			},
			value: 7, a: "pending", b: "cancelled", c: "finished",
		},
		"it cancels itself and then awaits a task": {
			body: func(s *scene, ctx context.Context) (int, error) {
				nested := asyncio.CreateTask(ctx, s.a.Await)
				must(t, yields(ctx, 1))
				s.task.Cancel()
				v, err := nested.Await(ctx)
				is(t, "nested cancelled", nested.Cancelled(), true)
				return v, err
			},
			act: func(s *scene) { must(t, yields(s.ctx, 5)) },
			a:   "cancelled", b: "pending", c: "pending",
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				s := &scene{ctx: ctx, a: asyncio.CreateFuture[int](ctx), b: asyncio.CreateFuture[int](ctx), c: asyncio.CreateFuture[int](ctx)}
				s.task = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return row.body(s, ctx) })
				must(t, yields(ctx, 1))
				row.act(s)
				v, err := s.task.Await(ctx)
				if row.value == 0 {
					asCancelled(t, err)
				} else if v != row.value || err != nil {
					t.Errorf("%v, %v", v, err)
				}
				is(t, "cancelled", s.task.Cancelled(), row.value == 0)
				is(t, "Cancel once more", s.task.Cancel(), false)
				for want, f := range map[*asyncio.Future[int]]string{s.a: row.a, s.b: row.b, s.c: row.c} {
					if !strings.Contains(want.String(), " "+f) {
						t.Errorf("%v, want it %s", want, f)
					}
				}
				return nil
			})
		})
	}
}

// A cancelled sleep leaves no timer; otherwise the clock would advance to it.
func TestSleep_CancelledLeavesNoTimer(t *testing.T) {
	l := newLoop(t)
	l.SetExceptionHandler(new(reports).handle)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		must(t, yields(ctx, 1))
		task.Cancel()
		endsCancelled(t, ctx, task)
		return never(ctx)
	}))
	wantErr(t, "the run", err, asyncio.ErrDeadlock)
	is(t, "time", l.Time(), 0*time.Second)
}

func TestPanic_WhileBeingCancelled(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			panic("x")
		}))
		must(t, yields(ctx, 1))
		task.Cancel()
		is(t, "done", task.Done(), false)
		must(t, yields(ctx, 1))
		var p *asyncio.PanicError
		if !task.Done() || task.Cancelled() || !errors.As(task.Exception(), &p) {
			t.Error(task)
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestGather_CancelKeepsItsMessage(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for name, gather := range map[string]func(ctx context.Context) error{
			"Gather": func(ctx context.Context) error { _, err := asyncio.Gather(ctx, sleeper(time.Second)); return err },
			"GatherResults": func(ctx context.Context) error {
				_, err := asyncio.GatherResults(ctx, sleeper(time.Second))
				return err
			},
		} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for {
					if err := gather(ctx); err != nil {
						return err
					}
				}
			}))
			must(t, asyncio.Sleep(ctx, 5*time.Second/2))
			task.Cancel("my message")
			_, err := task.Await(ctx)
			var c *asyncio.CancelledError
			if !errors.As(err, &c) || c.Msg != "my message" {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// A cancel of Gather cancels every child, and no child does what comes after its wait.
func TestGather_CancelReachesEveryChild(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f, proof := asyncio.CreateFuture[int](ctx), 0
		child := func() *asyncio.Task[int] {
			return asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				v, err := f.Await(ctx)
				if err == nil {
					proof++
				}
				return v, err
			})
		}
		a, b := child(), child()
		c := asyncio.CreateTask(ctx, after(time.Hour, 1, nil))
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.Gather(ctx, a, b, c)
			if err == nil {
				proof += 100
			}
			return err
		}))
		must(t, yields(ctx, 1))
		is(t, "Cancel", task.Cancel(), true)
		endsCancelled(t, ctx, task)
		if !f.Cancelled() || !a.Cancelled() || !b.Cancelled() || !c.Cancelled() || proof != 0 {
			t.Error(f, a, b, c, proof)
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
		is(t, "time", loop(t, ctx).Time(), time.Second)
		return nil
	})
}

// A task that gives up waiting for a notification still has the lock.
func TestCondition_TimeoutInsideTheLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		must(t, c.Acquire(ctx))
		timedOut(t, waitFor(ctx, c.Wait, time.Second))
		is(t, "locked", c.Locked(), true)
		is(t, "owner", c.Statistics().Lock.Owner, self(ctx))
		c.Release()
		return nil
	})
}
