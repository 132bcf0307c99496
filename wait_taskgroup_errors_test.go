package asyncio_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

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
			tg.CreateTask(never)
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
			tg.CreateTask(never)
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
			tg.CreateTask(func(ctx context.Context) error {
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
