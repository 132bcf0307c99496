package asyncio_test

import (
	"context"
	"errors"
	"testing"

	"github.com/goasyncio/asyncio"
)

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
