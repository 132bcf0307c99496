package asyncio_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestTaskGroup_AChildFails(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var sibling, bodyErr error
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for range 3 {
				tg.CreateTask(ctx, failsAfter(time.Second, errA), asyncio.TaskName("failing"))
			}
			tg.CreateTask(ctx, func(ctx context.Context) error {
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
		if self(ctx).Cancelling() != 0 || loop(t, ctx).Time().SinceStart() != time.Second {
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

// An eager child that fails at once cancels nothing before its creation is over (gh-128550,
// gh-128588).
func TestTaskGroup_EagerChildFailsAtOnce(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			child := tg.CreateTask(ctx, func(context.Context) error { return errA }, asyncio.EagerStart(true))
			if !child.Done() || self(ctx).Cancelling() != 0 {
				t.Error(child, self(ctx).Cancelling())
			}
			tg.CreateTask(ctx, sleeping(time.Hour), asyncio.EagerStart(true))
			err := asyncio.Sleep(ctx, time.Hour)
			asCancelled(t, err)
			return err
		}), errA)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, nothing, asyncio.EagerStart(true))
			return nil
		})
	})
}

func TestTaskGroup_ErrorsOfTheCleanup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				for range 5 {
					tg.CreateTask(ctx, failsInCleanup(time.Hour, errA))
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
				a, b = asyncio.GroupTask(ctx, tg, returns(time.Hour, 42)), asyncio.GroupTask(ctx, tg, returns(time.Hour, 11))
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
			tg.CreateTask(ctx, failsInCleanup(time.Hour, errA))
			must(t, asyncio.Sleep(ctx, 0))
			return errB
		}), errA, errB)
		return nil
	})
}

func TestTaskGroup_BothFail(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, failsAfter(time.Second, errA))
			return failsInCleanup(time.Hour, errB)(ctx)
		}), errA, errB)
		if self(ctx).Cancelling() != 0 {
			t.Error(self(ctx).Cancelling())
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
						tg.CreateTask(ctx, sibling)
						tg.CreateTask(ctx, panics, asyncio.EagerStart(true))
					} else {
						tg.CreateTask(ctx, panics)
						tg.CreateTask(ctx, sibling)
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
			child = tg.CreateTask(ctx, cleaning(time.Hour, time.Second))
			tg.CreateTask(ctx, failsInCleanup(time.Hour, errA))
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

// errorList is an error that cannot be compared, such as a validator's list of errors.
type errorList []error

func (errorList) Error() string   { return "several" }
func (l errorList) Unwrap() error { return l[0] }

// A group's body may return an error that cannot be compared: one that wraps the end of the
// context, or the cause of that end.
func TestTaskGroup_IncomparableErrors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ended, cancel := asyncio.WithCancel(ctx)
		err := asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			cancel()
			return errorList{asyncio.Sleep(ctx, time.Hour)}
		})
		if l, ok := err.(errorList); !ok || !errors.Is(l, context.Canceled) {
			t.Errorf("the end of the context: %T %v", err, err)
		}

		caused, cancelCause := context.WithCancelCause(ctx)
		err = asyncio.RunTaskGroup(caused, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, never)
			settle(t, ctx)
			cancelCause(errorList{io.EOF})
			return context.Cause(ctx)
		})
		if !errors.Is(err, io.EOF) {
			t.Errorf("the cause: %T %v", err, err)
		}
		return nil
	})
}

// A context whose cause cannot be compared ends a group like any other context (group 5).
func TestTaskGroup_IncomparableCause(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ended, cancel := context.WithCancelCause(ctx)
		err := asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, never)
			settle(t, ctx)
			cancel(errorList{io.EOF})
			return asyncio.Sleep(ctx, time.Hour)
		})
		if _, ok := err.(errorList); !ok {
			t.Errorf("%T %v, want the cause itself", err, err)
		}
		return nil
	})
}

// hostileUnwrap is an error that panics when it is unwrapped.
type hostileUnwrap struct{}

func (*hostileUnwrap) Error() string { return "hostile" }
func (*hostileUnwrap) Unwrap() error { panic("Unwrap panics") }

// A child panics with an error whose Unwrap panics, at the end of its context. The group reports it
// like any other panic.
func TestTaskGroup_PanicWithAHostileError(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		ended, cancel := asyncio.WithCancel(ctx)
		return asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				if asyncio.Sleep(ctx, time.Hour) != nil {
					panic(&hostileUnwrap{})
				}
				return nil
			})
			settle(t, ctx)
			cancel()
			return asyncio.Sleep(ctx, time.Hour)
		})
	})
	var g *asyncio.GroupError
	if !errors.As(err, &g) || len(g.Exceptions) != 1 {
		t.Errorf("%T", err)
	}
	equal(t, "reports", r.messages(), []string{"panic in task"})
}
