package asyncio

import (
	"context"
	"fmt"
)

// Gather runs awaitables concurrently and returns their results in the order of the
// arguments. It suspends the calling task until all are done, or one has failed. Coroutines become tasks, started in that order; futures and tasks are awaited
// as they are, one given twice only once.
//
// The first error is returned as soon as it happens. The others go on, and what becomes of
// them is not reported; a child that was cancelled counts as an error too. A cancel of the
// calling task cancels every child that is not done, and Gather waits for the first to end so.
//
// Kinds are mixed in a slice: Gather(ctx, []asyncio.Awaitable[int]{task, future}...). Besides
// the children's errors and those of [Future.Await], Gather returns [ErrInvalidArgument] for
// a nil argument and [ErrDifferentLoop]. [Gather2] to [Gather4] take awaitables whose results differ in
// type. Python: asyncio.gather.
func Gather[T any, A Awaitable[T]](ctx context.Context, aws ...A) ([]T, error) {
	children, err := gather[T](ctx, aws, false, "Gather")
	if err != nil {
		return nil, err
	}
	values := make([]T, len(children))
	for i, c := range children {
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
	children, err := gather[T](ctx, aws, true, "GatherResults")
	if err != nil {
		return nil, err
	}
	results := make([]Result[T], len(children))
	for i, c := range children {
		results[i] = Result[T]{c.value, c.err}
	}
	return results, nil
}

// Gather2 is [Gather] of two awaitables whose results differ in type. With an error the values are
// zero. Python: asyncio.gather, whose results are of any type.
func Gather2[A, B any](ctx context.Context, a Awaitable[A], b Awaitable[B]) (A, B, error) {
	var (
		fa *Future[A]
		fb *Future[B]
	)
	if err := gatherMixed(ctx, "Gather2", argumentOf(a, &fa), argumentOf(b, &fb)); err != nil {
		return *new(A), *new(B), err
	}
	return fa.value, fb.value, nil
}

// Gather3 is [Gather2] of three.
func Gather3[A, B, C any](ctx context.Context, a Awaitable[A], b Awaitable[B], c Awaitable[C]) (A, B, C, error) {
	var (
		fa *Future[A]
		fb *Future[B]
		fc *Future[C]
	)
	if err := gatherMixed(ctx, "Gather3", argumentOf(a, &fa), argumentOf(b, &fb), argumentOf(c, &fc)); err != nil {
		return *new(A), *new(B), *new(C), err
	}
	return fa.value, fb.value, fc.value, nil
}

// Gather4 is [Gather2] of four.
func Gather4[A, B, C, D any](ctx context.Context, a Awaitable[A], b Awaitable[B], c Awaitable[C], d Awaitable[D]) (A, B, C, D, error) {
	var (
		fa *Future[A]
		fb *Future[B]
		fc *Future[C]
		fd *Future[D]
	)
	if err := gatherMixed(ctx, "Gather4", argumentOf(a, &fa), argumentOf(b, &fb), argumentOf(c, &fc), argumentOf(d, &fd)); err != nil {
		return *new(A), *new(B), *new(C), *new(D), err
	}
	return fa.value, fb.value, fc.value, fd.value, nil
}

// gathering is one call of Gather: its outer future, and the done callback of its children.
type gathering struct {
	outer     future
	children  children
	left      int             // children, each counted once, that are not done
	all       bool            // wait for all, whatever they return
	cancelled *CancelledError // that was passed on to a child
}

// children are what a gathering waits for, in the order of the arguments, duplicates too.
type children interface {
	len() int
	at(i int) *future
}

// futures are children of one type.
type futures[T any] []*Future[T]

func (c futures[T]) len() int         { return len(c) }
func (c futures[T]) at(i int) *future { return &c[i].future }

// mixed are children of several types.
type mixed []*future

func (c mixed) len() int         { return len(c) }
func (c mixed) at(i int) *future { return c[i] }

func gather[T any, A Awaitable[T]](ctx context.Context, aws []A, all bool, caller string) (futures[T], error) {
	t, err := enter(ctx, caller)
	if err != nil {
		return nil, err
	}
	if err := checkChildren[T](t.loop(), aws, caller); err != nil {
		return nil, err
	}
	fs := startChildren[T](ctx, t.loop(), aws)
	return fs, gatherAll(ctx, t.loop(), fs, all)
}

// A gatherArgument is one argument of a gathering of several types. All are checked before one is started.
type gatherArgument struct {
	check func(l *EventLoop, caller string) error
	start func(ctx context.Context, l *EventLoop) *future
}

// argumentOf makes a an argument whose start keeps the future in f.
func argumentOf[T any](a Awaitable[T], f **Future[T]) gatherArgument {
	aws := []Awaitable[T]{a}
	return gatherArgument{
		check: func(l *EventLoop, caller string) error { return checkChildren[T](l, aws, caller) },
		start: func(ctx context.Context, l *EventLoop) *future {
			*f = startChildren[T](ctx, l, aws)[0]
			return &(*f).future
		},
	}
}

func gatherMixed(ctx context.Context, caller string, args ...gatherArgument) error {
	t, err := enter(ctx, caller)
	if err != nil {
		return err
	}
	for _, arg := range args {
		if err := arg.check(t.loop(), caller); err != nil {
			return err
		}
	}
	fs := make(mixed, len(args))
	for i, arg := range args {
		fs[i] = arg.start(ctx, t.loop())
	}
	return gatherAll(ctx, t.loop(), fs, false)
}

// checkChildren refuses what cannot be gathered. Nothing has been started then.
func checkChildren[T any, A Awaitable[T]](l *EventLoop, aws []A, caller string) error {
	for _, a := range aws {
		switch a := any(a).(type) {
		case nil:
			return fmt.Errorf("%w: nil awaitable (in %s)", ErrInvalidArgument, caller)
		case Coroutine[T]:
			if a == nil {
				return fmt.Errorf("%w: nil coroutine (in %s)", ErrInvalidArgument, caller)
			}
		case AnyFuture:
			if isNil(a) {
				return fmt.Errorf("%w: nil future (in %s)", ErrInvalidArgument, caller)
			}
			if err := l.checkFuture(a, caller); err != nil {
				return err
			}
		}
	}
	return nil
}

// startChildren makes futures of awaitables.
func startChildren[T any, A Awaitable[T]](ctx context.Context, l *EventLoop, aws []A) futures[T] {
	fs := make(futures[T], len(aws))
	var tasks []Task[T] // for coroutines, in one piece of memory: they end at about the same time
	for i, a := range aws {
		switch a := any(a).(type) {
		case *Future[T]:
			fs[i] = a
		case *Task[T]:
			fs[i] = &a.Future
		case Coroutine[T]:
			if len(tasks) == 0 {
				tasks = make([]Task[T], min(len(aws)-i, 128))
			}
			t := &tasks[0]
			tasks = tasks[1:]
			t.coro, t.Future.quiet = a, true
			ctx, eager := t.prepare(l, ctx, nil)
			t.start(l, ctx, eager)
			fs[i] = &t.Future
		default:
			fs[i] = EnsureFuture(ctx, a.(Awaitable[T]))
			fs[i].quiet = true
		}
	}
	return fs
}

// gatherAll suspends the calling task until the gathering is over. A nil error means that the children are
// done, and, unless all are waited for whatever they return, without an error.
func gatherAll(ctx context.Context, l *EventLoop, cs children, all bool) error {
	g := &gathering{children: cs, all: all}
	g.outer.loop, g.outer.super = l, g
	l.mark++
	var done []*future
	for i := range cs.len() {
		c := cs.at(i)
		if c.mark == l.mark {
			continue // given before
		}
		c.mark = l.mark
		g.left++
		if c.state != pending {
			done = append(done, c)
		} else {
			c.addCallback(g)
		}
	}
	if g.left == 0 {
		return nil // an empty gather does not suspend
	}
	// A child that is done already counts at once, so that if all are, nothing suspends.
	for _, f := range done {
		g.fire(f)
	}

	err := g.outer.await(ctx)
	if err == nil {
		g.outer.retrieved()
		return g.outer.err
	}
	if g.outer.state == pending {
		// ctx ended the wait. What the children do from now on is theirs.
		g.outer.finishCancelled(&CancelledError{cause: err})
	}
	return err
}

// cancel passes a cancel on to the children, oldest first. The outer future is done when they are.
func (g *gathering) cancel(c *CancelledError) cancelAnswer {
	if g.outer.state != pending {
		return refused
	}
	answer := refused
	for i := range g.children.len() {
		switch g.children.at(i).cancel(c) {
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
func (g *gathering) fire(f *future) {
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

func (g *gathering) String() string { return "Gather()" }
