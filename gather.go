package asyncio

import (
	"context"
	"fmt"
)

// Gather runs awaitables concurrently and returns their results in the order of the
// arguments. Coroutines become tasks, started in that order; futures and tasks are awaited
// as they are, one given twice only once.
//
// The first error is returned as soon as it happens. The others go on, and what becomes of
// them is not reported; a child that was cancelled counts as an error too. A cancel of the
// calling task cancels every child that is not done, and Gather waits for the first to end so.
//
// Kinds are mixed in a slice: Gather(ctx, []asyncio.Awaitable[int]{task, future}...). Besides
// the children's errors and those of [Future.Await], Gather returns [ErrInvalidArgument] for
// a nil argument and [ErrDifferentLoop]. Python: asyncio.gather.
func Gather[T any, A Awaitable[T]](ctx context.Context, aws ...A) ([]T, error) {
	g, err := gather[T](ctx, aws, false)
	if err != nil {
		return nil, err
	}
	values := make([]T, len(g.children))
	for i, c := range g.children {
		values[i] = c.value
	}
	return values, nil
}

// A Result is what became of one awaitable.
type Result[T any] struct {
	Value T
	Err   error
}

// GatherResults is [Gather] with return_exceptions=True: it waits for all and returns what
// became of each, errors and cancellations too. Its own error says that it was misused or
// that the calling task was cancelled; then it has waited for the children to end all the same.
func GatherResults[T any, A Awaitable[T]](ctx context.Context, aws ...A) ([]Result[T], error) {
	g, err := gather[T](ctx, aws, true)
	if err != nil {
		return nil, err
	}
	results := make([]Result[T], len(g.children))
	for i, c := range g.children {
		results[i] = Result[T]{c.value, c.err}
	}
	return results, nil
}

// gathering is one call of Gather: its outer future, and the done callback of its children.
type gathering[T any] struct {
	outer     future
	children  []*Future[T]    // in the order of the arguments, duplicates too
	left      int             // children, each counted once, that are not done
	all       bool            // wait for all, whatever they return
	cancelled *CancelledError // that was passed on to a child
}

func gather[T any, A Awaitable[T]](ctx context.Context, aws []A, all bool) (*gathering[T], error) {
	t, err := enter(ctx, "Gather")
	if err != nil {
		return nil, err
	}
	l := t.loop()
	for _, a := range aws {
		switch a := any(a).(type) {
		case nil:
			err = fmt.Errorf("%w: nil awaitable (in Gather)", ErrInvalidArgument)
		case Coroutine[T]:
			if a == nil {
				err = fmt.Errorf("%w: nil coroutine (in Gather)", ErrInvalidArgument)
			}
		case AnyFuture:
			if isNil(a) {
				err = fmt.Errorf("%w: nil future (in Gather)", ErrInvalidArgument)
			} else if a.core().loop != l {
				err = fmt.Errorf("%w: %v (in Gather)", ErrDifferentLoop, a)
			}
		}
		if err != nil {
			return nil, err // nothing has been started
		}
	}

	g := &gathering[T]{children: make([]*Future[T], len(aws)), all: all}
	g.outer.loop, g.outer.super = l, g
	var tasks []Task[T] // for coroutines, in one piece of memory: they end at about the same time
	for i, a := range aws {
		switch a := any(a).(type) {
		case *Future[T]:
			g.children[i] = a
		case *Task[T]:
			g.children[i] = &a.Future
		case Coroutine[T]:
			if len(tasks) == 0 {
				tasks = make([]Task[T], min(len(aws)-i, 128))
			}
			t := &tasks[0]
			tasks = tasks[1:]
			t.coro, t.Future.quiet = a, true
			ctx, eager := t.prepare(l, ctx, nil)
			t.start(l, ctx, eager)
			g.children[i] = &t.Future
		default:
			g.children[i] = EnsureFuture(ctx, a.(Awaitable[T]))
			g.children[i].quiet = true
		}
	}
	l.mark++
	var done []*future
	for _, c := range g.children {
		if c.mark == l.mark {
			continue // given before
		}
		c.mark = l.mark
		g.left++
		if c.state != pending {
			done = append(done, &c.future)
		} else {
			c.addCallback(g)
		}
	}
	if g.left == 0 {
		return g, nil // an empty gather does not suspend
	}
	// A child that is done already counts at once, so that if all are, nothing suspends.
	for _, f := range done {
		g.fire(f)
	}

	err = g.outer.await(ctx)
	if err == nil {
		g.outer.retrieved()
		err = g.outer.err
	} else if g.outer.state == pending {
		// ctx ended the wait. What the children do from now on is theirs.
		g.outer.finishCancelled(&CancelledError{cause: err})
	}
	return g, err
}

// cancel passes a cancel on to the children, oldest first. The outer future is done when they are.
func (g *gathering[T]) cancel(c *CancelledError) cancelAnswer {
	if g.outer.state != pending {
		return refused
	}
	answer := refused
	for _, child := range g.children {
		switch child.cancel(c) {
		case accepted:
			answer = accepted
		case inCircle:
			if answer == refused {
				answer = inCircle // T7: for whoever waits for the gathering
			}
		}
	}
	if answer == accepted {
		g.cancelled = c
	}
	return answer
}

// fire notes that a child is done.
func (g *gathering[T]) fire(f *future) {
	g.left--
	f.retrieved()
	if g.outer.state != pending {
		return
	}
	if !g.all && f.err != nil {
		g.outer.finish(f.err)
		return
	}
	if g.left > 0 {
		return
	}
	if g.cancelled != nil {
		g.outer.finish(g.cancelled)
		return
	}
	g.outer.finish(nil)
}

func (g *gathering[T]) String() string { return "Gather()" }
