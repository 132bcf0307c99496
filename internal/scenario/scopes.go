package scenario

import (
	"context"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// Blocks inside a lock, a timeout or a task group.

// scope runs the block of i and returns how it ended, with an outcome if it did not end with an
// error.
func (r *run) scope(ctx context.Context, label string, i *Instruction, caught error) (res result, outcome string, err error) {
	body := func(ctx context.Context) (err error) {
		res, err = r.block(ctx, label, i.Body, caught)
		return err
	}
	switch i.Verb {
	case "with":
		l, ok := r.things[i.Args[0]].(locker)
		if !ok {
			return result{}, "unset", nil
		}
		err = r.with(ctx, label, i, l, body)
	case "timeout":
		err = asyncio.Timeout(r.derive(ctx), limit(i.Args[0]), func(ctx context.Context, tm *asyncio.TimeoutScope) error {
			if len(i.Args) > 1 {
				r.things[i.Args[1]] = tm
			}
			return body(ctx)
		})
	case "group":
		err = asyncio.RunTaskGroup(r.derive(ctx), func(ctx context.Context, g *asyncio.TaskGroup) error {
			r.things[i.Args[0]] = group{g, ctx}
			return body(ctx)
		})
	}
	return res, "left", err
}

func (r *run) with(ctx context.Context, label string, i *Instruction, l locker, body func(context.Context) error) error {
	if err := l.Acquire(ctx); err != nil {
		return err
	}
	r.emit(label, fmt.Sprintf("%d with entered", i.Line))
	err := body(ctx)
	misuse := "misuse"
	if _, ok := l.(permits); ok {
		misuse = "value"
	}
	if e := refused(misuse, l.Release); e != nil {
		return e
	}
	return err
}

// A group is a task group with the context of its body.
type group struct {
	*asyncio.TaskGroup
	ctx context.Context
}

// group is effect for task groups.
func (r *run) group(i *Instruction) (string, error) {
	g, ok := r.things[i.Args[0]].(group)
	if !ok {
		return "unset", nil
	}
	if i.Verb == "group.cancel" {
		g.Cancel()
		return "ok", nil
	}
	return "ok", refused("misuse", func() {
		name, program := i.Args[1], i.Args[2]
		r.declared(name, asyncio.GroupTask(g.ctx, g.TaskGroup, r.coroutine(name, program), options(name, i.Verb == "group.eager")...))
	})
}

// reschedule is effect for timeouts.
func (r *run) reschedule(i *Instruction) (string, error) {
	tm, ok := r.things[i.Args[0]].(*asyncio.TimeoutScope)
	if !ok {
		return "unset", nil
	}
	if tm.Reschedule(r.loop.Time().Add(limit(i.Args[1]))) != nil {
		return "", userError("misuse")
	}
	return "ok", nil
}
