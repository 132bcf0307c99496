package asyncio

import (
	"context"
	"fmt"
	"iter"
	"slices"
)

// GroupCompleted returns an iterator over the children whose result is a T, in the order in which
// they finish. It includes cancelled children and those created later. It ends when the group has
// no child left.
//
//	for task, err := range asyncio.GroupCompleted[int](ctx, tg) {
//
// The loop sees the children that finish while it is running. Breaking out of it leaves the
// children alone. If the wait fails, because the group was aborted or ctx is done, the error comes
// last, with a nil task. The error of a child is in the task's Result, and aborts the group unless
// that is a [Supervisor].
//
// GroupCompleted is for the body of the group, and suspends between children; elsewhere its error
// is [ErrInvalidState]. Python has no counterpart; tokio: JoinSet.join_next.
func GroupCompleted[T any](ctx context.Context, tg *TaskGroup) iter.Seq2[*Task[T], error] {
	return func(yield func(*Task[T], error) bool) {
		if t, err := taskOf(ctx, "GroupCompleted"); err != nil {
			yield(nil, err)
			return
		} else if err := tg.checkMade("GroupCompleted"); err != nil {
			yield(nil, err)
			return
		} else if t != tg.parent || tg.exiting {
			yield(nil, fmt.Errorf("%w: GroupCompleted is for the body of the task group", ErrInvalidState))
			return
		}
		w := &groupWatcher{}
		tg.watchers = append(tg.watchers, w)
		defer func() {
			tg.watchers = slices.DeleteFunc(tg.watchers, func(x *groupWatcher) bool { return x == w })
		}()
		for tg.count > 0 || len(w.done) > 0 {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			if len(w.done) == 0 {
				if _, err := w.waiters.wait(ctx, tg.parent, tg); err != nil {
					yield(nil, err)
					return
				}
				continue
			}
			t, ok := w.done[0].self.(*Task[T])
			w.done = w.done[1:]
			if ok && !yield(t, nil) {
				return
			}
		}
	}
}

// groupWatcher is one GroupCompleted loop that is running.
type groupWatcher struct {
	waiters waitQueue
	done    []*task // finished children that it has not yielded yet
}
