package asyncio

import (
	"context"
	"fmt"
)

// Gather runs awaitables concurrently and returns their results in the order of the arguments. It
// suspends the calling task until all are done, or one has failed. Coroutines become tasks, started
// in that order; futures and tasks are awaited as they are, a repeated one only once.
//
// The first error is returned as soon as it happens. The other children go on, and their results
// and errors are not reported; a child that was cancelled counts as an error too. A cancel of the
// calling task cancels every child that is not done, and Gather waits for the first to end so.
//
// To mix kinds, put them in a slice: Gather(ctx, []asyncio.Awaitable[int]{task, future}...).
// Besides the children's errors and those of [Future.Await], Gather returns [ErrInvalidArgument]
// for a nil argument and [ErrDifferentLoop]. [Gather2] to [Gather4] take awaitables whose results
// differ in type. Python: asyncio.gather.
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

// A Result is the outcome of one awaitable.
type Result[T any] struct {
	Value T
	Err   error
}

// GatherResults is [Gather] with return_exceptions=True: it waits for all and returns the outcome
// of each, errors and cancellations too. Its own error says that it was misused or that the calling
// task was cancelled; in the latter case it has waited for the children to end all the same.
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
	all       bool            // wait for all children, also after an error
	cancelled *CancelledError // the last cancel that was passed on to a child
}

// children are the awaited futures of a gathering, in the order of the arguments, duplicates too.
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
	l := t.loop()
	if err := checkChildren[T](l, aws, caller); err != nil {
		return nil, err
	}
	fs := make(futures[T], len(aws))
	in := newIntake(l, fs, all)
	for i, a := range aws {
		if f, ok := any(a).(AnyFuture); ok {
			in.mark(i, f.core())
		}
	}
	s := starter[T]{l: l, ctx: ctx, left: len(aws)}
	defer in.abandon()
	for i, a := range aws {
		fs[i] = s.start(a)
		in.take()
	}
	return fs, in.wait(ctx)
}

// A gatherArgument is one argument of a gathering of several types. All arguments are checked
// before one is started.
type gatherArgument struct {
	given *future // set if it is a future or task
	check func(l *EventLoop, caller string) error
	start func(ctx context.Context, l *EventLoop) *future
}

// argumentOf makes an argument of a; its start stores the future in f.
func argumentOf[T any](a Awaitable[T], f **Future[T]) gatherArgument {
	arg := gatherArgument{
		check: func(l *EventLoop, caller string) error { return checkChildren[T](l, []Awaitable[T]{a}, caller) },
		start: func(ctx context.Context, l *EventLoop) *future {
			s := starter[T]{l: l, ctx: ctx, left: 1}
			*f = s.start(a)
			return &(*f).future
		},
	}
	if f, ok := a.(AnyFuture); ok && !isNil(f) {
		arg.given = f.core()
	}
	return arg
}

func gatherMixed(ctx context.Context, caller string, args ...gatherArgument) error {
	t, err := enter(ctx, caller)
	if err != nil {
		return err
	}
	l := t.loop()
	for _, arg := range args {
		if err := arg.check(l, caller); err != nil {
			return err
		}
	}
	fs := make(mixed, len(args))
	in := newIntake(l, fs, false)
	for i, arg := range args {
		if arg.given != nil {
			in.mark(i, arg.given)
		}
	}
	defer in.abandon()
	for i, arg := range args {
		fs[i] = arg.start(ctx, l)
		in.take()
	}
	return in.wait(ctx)
}

// checkChildren refuses arguments that cannot be gathered. It is called before any is started.
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

// A starter makes futures of the awaitables of one gathering.
type starter[T any] struct {
	l     *EventLoop
	ctx   context.Context
	left  int       // the number of awaitables still to come
	tasks []Task[T] // for coroutines, allocated together: they end at about the same time
}

func (s *starter[T]) start(a any) *Future[T] {
	s.left--
	switch a := a.(type) {
	case *Future[T]:
		return a
	case *Task[T]:
		return &a.Future
	case Coroutine[T]:
		if len(s.tasks) == 0 {
			s.tasks = make([]Task[T], min(s.left+1, 128))
		}
		t := &s.tasks[0]
		s.tasks = s.tasks[1:]
		t.coro, t.Future.quiet = a, true
		ctx, eager := t.prepare(s.l, s.ctx, nil)
		t.start(s.l, ctx, eager)
		return &t.Future
	}
	f := EnsureFuture(s.ctx, a.(Awaitable[T]))
	f.quiet = true
	return f
}

// intake takes the children of a gathering, one after the other. Each is looked at when it is
// taken, before the next coroutine is started. So a future that a later eager child completes was
// pending then, and is called back like any other.
type intake struct {
	g     *gathering
	n     int       // the number of children taken
	again []int     // the arguments that were given before, in ascending order
	done  []*future // children that were done when they were taken
}

func newIntake(l *EventLoop, cs children, all bool) intake {
	g := &gathering{children: cs, all: all}
	g.outer.loop, g.outer.super = l, g
	l.mark++
	return intake{g: g}
}

// mark notes whether f, the i-th argument, was given before. No code of the program runs between
// newIntake and the last mark.
func (in *intake) mark(i int, f *future) {
	if l := in.g.outer.loop; f.mark == l.mark {
		in.again = append(in.again, i)
	} else {
		f.mark = l.mark
	}
}

// take waits for the next child, which the caller has stored in its place.
func (in *intake) take() {
	i := in.n
	in.n++
	if len(in.again) > 0 && in.again[0] == i {
		in.again = in.again[1:]
		return
	}
	c := in.g.children.at(i)
	in.g.left++
	if c.state != pending {
		in.done = append(in.done, c)
	} else {
		c.addCallback(in.g)
	}
}

// abandon is deferred. If not all children could be taken, because a task factory has panicked, the
// gathering gives up those that were.
func (in *intake) abandon() {
	if in.n < in.g.children.len() {
		for i := range in.n {
			in.g.children.at(i).removeCallback(in.g)
		}
	}
}

// wait suspends the calling task until the gathering is over. A nil error means that the children
// are done and, unless all is set, that none has failed.
func (in *intake) wait(ctx context.Context) error {
	g := in.g
	if g.left == 0 {
		return nil // an empty gather does not suspend
	}
	// A child that was done already counts at once, so nothing suspends if all are.
	for _, f := range in.done {
		g.fire(f)
	}

	err := g.outer.await(ctx)
	// also if something else has ended the wait in the same iteration: nobody else has this error
	g.outer.retrieved()
	if err == nil {
		return g.outer.err
	}
	// ctx ended the wait: from now on the children's results and errors are their own
	if asCancelled(err) == nil {
		g.left = 0
	}
	if g.outer.state == pending {
		g.outer.finishCancelled(&CancelledError{cause: err})
	}
	return err
}

// cancel passes a cancel on to the children, oldest first. The outer future is done when they are.
// A child that the same cancel has reached before, by another way, is not asked again (future 4).
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
				answer = inCircle // tasks wait in a circle (task 7)
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
	if g.left--; g.left < 0 { // the wait is over
		return
	}
	if !g.all && f.err != nil && g.outer.state == pending {
		// f's error stays unretrieved: if ctx ends this wait first, others who look at f still get
		// it
		g.outer.mirror(f)
		return
	}
	f.retrieved()
	if g.outer.state != pending {
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

func (*gathering) quick() {}

func (g *gathering) awaiters() []*task { return g.outer.awaitedBy() }

func (g *gathering) String() string { return "Gather()" }
