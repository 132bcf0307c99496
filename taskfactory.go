package asyncio

import (
	"context"
	"fmt"
)

// A TaskFactory is called for every task that a loop is about to make, whoever asks for the task.
// It sees in r what was asked for, and may change that. CreateTask and its kin call it, in the task
// or callback that called them. It must not await, and must not make tasks itself. If it panics,
// CreateTask panics with the same value.
//
// In Python a factory makes the task. Here only the library can, because a task has the type of its
// result. Factories are written to start tasks eagerly, to name them, to add values to the context
// and to put something around the coroutine; [TaskRequest] has all of that.
type TaskFactory func(l *EventLoop, r *TaskRequest)

// A TaskRequest has what a [TaskFactory] may change in a task. It is valid during the call.
type TaskRequest struct {
	// Context is the context that the coroutine will get. A factory may replace it by one that is
	// derived from it.
	Context context.Context

	// Name is the task's name; empty for Task-1, Task-2 and so on.
	Name string

	// EagerStart is the value of the option of that name, and EagerStartGiven says whether the
	// caller used the option.
	EagerStart, EagerStartGiven bool

	code uintptr // of the coroutine
	wrap func(ctx context.Context, run func(ctx context.Context) error) error
}

// Coroutine returns the package-qualified name of the function that the task runs, such as
// main.fetch. It is for the factory and does not suspend. Python: coro.__qualname__.
func (r *TaskRequest) Coroutine() string { return coroutineName(r.code) }

// Wrap makes the task call around instead of its coroutine. around is to call run, which is the
// coroutine, and to return the error of run or one of its own; it may await. The value of the
// coroutine goes past around to the task. If there are several, the last is outermost. Wrap is for
// the factory, during its call, and does not suspend. It panics with [ErrInvalidArgument] if around
// is nil.
func (r *TaskRequest) Wrap(around func(ctx context.Context, run func(ctx context.Context) error) error) {
	if around == nil {
		panic(fmt.Errorf("%w: nil function (in Wrap)", ErrInvalidArgument))
	}
	inner := r.wrap
	if inner == nil {
		r.wrap = around
		return
	}
	r.wrap = func(ctx context.Context, run func(ctx context.Context) error) error {
		return around(ctx, func(ctx context.Context) error { return inner(ctx, run) })
	}
}

// EagerTaskFactory is a [TaskFactory] that starts each task eagerly unless its creator says
// otherwise; see [EagerStart]. It is for the loop only, which calls it, and does not suspend.
// Python: asyncio.eager_task_factory.
func EagerTaskFactory(_ *EventLoop, r *TaskRequest) {
	if !r.EagerStartGiven {
		r.EagerStart = true
	}
}

// SetTaskFactory has factory called for every task that the loop makes from now on. nil removes the
// factory. It is for the loop only. Python: loop.set_task_factory.
func (l *EventLoop) SetTaskFactory(factory TaskFactory) {
	l.mustBeOwner("SetTaskFactory")
	l.taskFactory = factory
}

// GetTaskFactory returns the factory in use, nil if there is none. It is for the loop only.
func (l *EventLoop) GetTaskFactory() TaskFactory { return l.taskFactory }

// prepare settles how t, which has not joined l yet, is to be made: with which context, and whether
// eagerly.
func (t *Task[T]) prepare(l *EventLoop, ctx context.Context, opts []TaskOption) (_ context.Context, eager bool) {
	given := t.configure(opts)
	if l.taskFactory == nil {
		return ctx, given > 0
	}
	r := &TaskRequest{Context: ctx, EagerStart: given > 0, EagerStartGiven: given != 0, code: t.code()}
	if name := t.name.Load(); name != nil {
		r.Name = *name
	}
	l.taskFactory(l, r)
	if r.Context == nil || loopOf(r.Context) != l {
		panic(fmt.Errorf("%w: the task factory's Context does not lead to the loop: derive it from the one it was given", ErrInvalidArgument))
	}
	if name := r.Name; name != "" {
		t.name.Store(&name)
	} else {
		t.name.Store(nil)
	}
	if r.wrap != nil {
		t.coro = wrapped(t.coro, r.wrap)
	}
	return r.Context, r.EagerStart
}
