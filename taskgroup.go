package asyncio

import (
	"context"
	"fmt"
	"strings"
)

// A TaskGroup is a set of tasks that end together: [RunTaskGroup] does not return before all of
// them are done. Children are made by the body, by other children or by callbacks, with
// [CreateTask] and [InGroup]; with [GroupTask] and [TaskGroup.CreateTask], which give them the
// group's ctx; and with [GroupStart]. Methods of a group are for the loop only.
//
//	group 1: A child that fails, but for being cancelled, aborts the group: every other child is
//	   cancelled, in order of creation, and so is the task that runs the body. Errors of children
//	   are kept in the order of their completion.
//	group 2: The group is left when the body has returned and no child is left. A body that returns
//	   an error aborts the group, and so does a cancel of its task while it waits for the children.
//	group 3: Leaving, the group takes its own cancel of the body's task back (Uncancel). Any other
//	   cancel is left in force: it is returned, or, if there are errors to return, delivered again.
//	group 4: A child's end is noticed by its done callback, one iteration later. A panic aborts
//	   the group in the same step: it may have left what the siblings share in disorder.
//	group 5: The end of the group's context is not a failure. Children that return it are like
//	   cancelled ones, and the group returns it too. The end of a context that only the child has is
//	   its error like any other.
type TaskGroup struct {
	loop   *EventLoop
	parent *task
	ctx    context.Context
	limit  int     // of children started at a time, 0 for none
	ask    request // to stop the body (group 3)

	first, last *groupChild // not done, or not noticed, in order of creation
	count       int
	started     int           // of these
	turns       []*groupChild // those that wait to be started, and some that no longer do
	errs        []error
	watchers    []*groupWatcher

	supervisor      bool
	exiting         bool // the body has returned
	waiting         bool // the parent is parked until the last child is done
	aborting        bool
	parentCancelled bool // by the group (group 3)
	ended           bool // a child ended because the context did (group 5)
}

// A GroupOption is an option of [RunTaskGroup]. Any goroutine may make one.
type GroupOption struct {
	limit      int
	limited    bool
	supervisor bool
}

// GroupLimit lets at most n children run at a time. One more can be created at any time: it is a
// task that waits for its turn, in order of creation, and starts when another child is done. A
// cancel takes it out of the queue. Creating never suspends; a body that wants to keep the queue
// short awaits some of its children. A child that waits for another one's turn holds its own.
func GroupLimit(n int) GroupOption { return GroupOption{limit: n, limited: true} }

// Supervisor makes the failure of a child, also its panic, the child's own: the others and the body
// go on, and all errors are returned when the group is left. An error of the body, a cancel
// and [TaskGroup.Cancel] abort the group as ever. Kotlin: supervisorScope.
func Supervisor() GroupOption { return GroupOption{supervisor: true} }

// RunTaskGroup runs body with a new task group, in the calling task, and returns when body has
// returned and all children are done. ctx is the group's, and its end ends the group.
//
// If a child fails, the others and the calling task are cancelled, so that body stops at its next
// await. Failures are returned as one [*GroupError]: the children's in the order of their
// completion, then body's own. A child that ends cancelled, alone, is no failure.
//
// A cancel of the calling task reaches body, or the wait for the children, and cancels the
// children; it is returned when they are done and none has failed. If ctx ends, the children and
// body hear it; its cause is returned in the same way. After [TaskGroup.Cancel] the result is nil,
// if nothing else happened.
//
// If body panics, the children are cancelled and waited for, errors that cannot be returned any
// more go to the exception handler, and the panic goes on.
//
// It must be called in a task, and suspends where body does and while there are children. Its own
// errors are [ErrInvalidArgument], [ErrNotInTask], [ErrNoRunningLoop].
// Python: async with asyncio.TaskGroup() as tg.
func RunTaskGroup(ctx context.Context, body func(ctx context.Context, tg *TaskGroup) error, opts ...GroupOption) error {
	if body == nil {
		return fmt.Errorf("%w: nil function (in RunTaskGroup)", ErrInvalidArgument)
	}
	t, err := taskOf(ctx, "RunTaskGroup")
	if err != nil {
		return err
	}
	g := &TaskGroup{loop: t.loop(), parent: t, ctx: ctx}
	g.ask = request{depth: int(t.cleanups), scope: true}
	for _, o := range opts {
		if o.limited {
			if o.limit <= 0 {
				return fmt.Errorf("%w: limit %d (in GroupLimit)", ErrInvalidArgument, o.limit)
			}
			g.limit = o.limit
		}
		g.supervisor = g.supervisor || o.supervisor
	}
	returned := false
	defer func() {
		if !returned {
			g.unwind()
		}
	}()
	err = body(ctx, g)
	err = g.exit(err)
	returned = true
	return err
}

// checkMade refuses a group that is not RunTaskGroup's.
func (g *TaskGroup) checkMade(caller string) error {
	if g == nil || g.loop == nil {
		return fmt.Errorf("%w: a nil or zero TaskGroup: RunTaskGroup makes one (in %s)", ErrInvalidArgument, caller)
	}
	return nil
}

// exit is group 2, group 3 and group 5.
func (g *TaskGroup) exit(err error) error {
	g.exiting = true
	var cancelled, ended error // to be returned if nothing failed
	failed := false            // the body
	var latest *CancelledError // that reached the wait for the children
	switch {
	case err == nil:
	case asCancelled(err) != nil:
		cancelled = err
		g.abort(asCancelled(err))
	case isEndOf(g.ctx, err):
		ended = err
		g.abort(&CancelledError{cause: err})
	default:
		failed = true
		g.abort(&CancelledError{Msg: "the body of the task group failed", By: g.parent.GetName(), failure: err})
	}
	ctx := g.ctx
	for g.count > 0 {
		if ctx.Err() != nil {
			if ended == nil {
				ended = context.Cause(ctx)
				g.abort(&CancelledError{cause: ended})
			}
			ctx = context.WithoutCancel(ctx)
		}
		if c := g.wait(ctx); c != nil {
			latest = c
			if !g.aborting {
				cancelled = c
				g.abort(c)
			}
		}
	}

	if g.parentCancelled && g.withdraw() == 0 {
		cancelled = nil
	} else if latest != nil && (cancelled == nil || asCancelled(cancelled) == g.ask.err) {
		cancelled = latest // it is somebody else's (gh-155433)
	}
	if failed {
		g.errs = append(g.errs, err)
	}
	switch {
	case len(g.errs) > 0:
		if p := g.parent; p.seen(g.ask.depth) > 0 && p.state != mustCancel {
			c := latest
			if cancelled != nil {
				c = asCancelled(cancelled)
			} else if c == nil {
				c = &CancelledError{Msg: "cancelled while a task group failed"}
			}
			p.repeat(c)
		}
		return &GroupError{Message: "unhandled errors in a TaskGroup", Exceptions: g.errs}
	case cancelled != nil:
		return cancelled
	case ended != nil:
		return ended
	case g.ended:
		return context.Cause(g.ctx)
	}
	return nil
}

// withdraw takes the group's cancel of the body's task back, and returns how many of others there
// are in force. If there are, and it is still owed, the task hears of it, as in CPython.
func (g *TaskGroup) withdraw() int {
	owed := g.ask.owed
	n := g.parent.withdraw(&g.ask)
	if n > 0 && owed {
		g.parent.repeat(g.ask.err)
	}
	return n
}

// unwind leaves the group of a body that panics or exits its goroutine.
func (g *TaskGroup) unwind() {
	g.exiting = true
	if !g.loop.closing.Load() {
		g.abort(&CancelledError{Msg: "the body of the task group panicked", By: g.parent.GetName()})
		for g.count > 0 {
			g.wait(context.WithoutCancel(g.ctx))
		}
		if g.parentCancelled {
			g.withdraw()
		}
	}
	for _, err := range g.errs {
		g.loop.CallExceptionHandler(ExceptionContext{
			Message:   "error in a task group was not returned because its body panicked",
			Exception: err,
			Task:      g.parent.self,
		})
	}
}

// wait parks the parent until the last child is done or a cancel or the end of ctx wakes it. It
// returns the cancel, if that is what it was.
func (g *TaskGroup) wait(ctx context.Context) *CancelledError {
	g.waiting = true
	err := g.parent.park(ctx, g)
	g.waiting = false
	if c, ok := err.(*CancelledError); ok && err != context.Cause(ctx) {
		return c
	}
	return nil
}

// abort cancels the children, once.
func (g *TaskGroup) abort(c *CancelledError) {
	if g.aborting {
		return
	}
	g.aborting = true
	for child := g.first; child != nil; child = child.next {
		if child.t.fut.state == pending {
			child.t.cancel(c)
		}
	}
}

// abortAll is abort that stops the body too.
func (g *TaskGroup) abortAll(c *CancelledError) {
	if g.aborting || g.parentCancelled {
		return
	}
	g.abort(c)
	g.parentCancelled = true
	g.parent.ask(c, &g.ask)
}

// failed is group 1.
func (g *TaskGroup) failed(t *task, err error) {
	if !g.supervisor {
		g.abortAll(&CancelledError{Msg: "a child of the task group failed", By: t.GetName(), failure: err})
	}
}

// Cancel ends the group early and without an error: children that are not done are cancelled, in
// order of creation, and so is the task that runs the body; [RunTaskGroup] takes that one back.
// Errors of children that fail on the way out are returned all the same, and so is a cancel that
// came from elsewhere. More calls, and calls after the group was left, do nothing.
//
// It is for the loop only: the body, children, callbacks. It does not suspend. Python 3.15:
// TaskGroup.cancel.
func (g *TaskGroup) Cancel() {
	if err := g.checkMade("Cancel"); err != nil {
		panic(err)
	}
	g.loop.mustBeOwner("Cancel")
	if g.exiting && g.count == 0 {
		return
	}
	c := &CancelledError{Msg: "the task group was cancelled"}
	if t := g.loop.current; t != nil {
		c.By = t.GetName()
	}
	g.abortAll(c)
}

// String returns Python's repr: <TaskGroup tasks=2 errors=1 cancelling>.
func (g *TaskGroup) String() string {
	var b strings.Builder
	b.WriteString("<TaskGroup")
	if g.count > 0 {
		fmt.Fprintf(&b, " tasks=%d", g.count)
	}
	if len(g.errs) > 0 {
		fmt.Fprintf(&b, " errors=%d", len(g.errs))
	}
	if g.aborting {
		b.WriteString(" cancelling>")
	} else {
		b.WriteString(" entered>")
	}
	return b.String()
}

// GroupTask creates a task in the group and returns it without waiting. It is [CreateTask] with
// [InGroup] for the group's ctx, which is the one that [RunTaskGroup] was given: values and
// deadlines that the body or a child has added to its own since then are not in it. Whoever creates
// a child in such a place uses InGroup.
//
// In a group that is being aborted the new task is cancelled before it starts: it ends
// cancelled and is never entered. Under a [GroupLimit] it may have to wait for its turn to start.
//
// It is for the loop only and does not suspend. It panics as CreateTask does, and with
// [ErrInvalidState] if the group has been left. Python: TaskGroup.create_task.
func GroupTask[T any](tg *TaskGroup, coro Coroutine[T], opts ...TaskOption) *Task[T] {
	return inGroup(tg, coro, "GroupTask", opts)
}

// CreateTask is [GroupTask] for a function that returns only an error. Like that it gives the child
// the group's ctx.
func (g *TaskGroup) CreateTask(fn func(ctx context.Context) error, opts ...TaskOption) *Task[None] {
	return inGroup(g, Do(fn), "TaskGroup.CreateTask", opts)
}

// inGroup is groupTask with the group's context.
func inGroup[T any](g *TaskGroup, coro Coroutine[T], caller string, opts []TaskOption) *Task[T] {
	if err := g.checkMade(caller); err != nil {
		panic(err)
	}
	if err := refuseInGroup(opts, caller); err != nil {
		panic(err)
	}
	return groupTask(g.ctx, g, coro, nil, caller, opts)
}

// groupTask creates a task in a group. ctx leads to the group's loop.
func groupTask[T any](ctx context.Context, g *TaskGroup, coro Coroutine[T], status anyStatus, caller string, opts []TaskOption) *Task[T] {
	g.loop.mustBeOwner(caller)
	if coro == nil {
		panic(fmt.Errorf("%w: nil coroutine (in %s)", ErrInvalidArgument, caller))
	}
	if g.exiting && g.count == 0 {
		panic(fmt.Errorf("%w: the task group is finished (in %s)", ErrInvalidState, caller))
	}
	t := &Task[T]{coro: coro}
	ctx, eager := t.prepare(g.loop, ctx, opts)
	t.enlist(g.loop, ctx, t)
	c := &groupChild{g: g, t: &t.task, status: status}
	if status != nil {
		status.setChild(&t.task)
	}
	c.begin(eager)
	return t
}

// groupChild is a child of a group, as the done callback of its task.
type groupChild struct {
	g          *TaskGroup
	t          *task
	prev, next *groupChild
	started    bool      // and counted in g.started
	status     anyStatus // of a child made by GroupStart
}

// begin starts the child, or queues it, and makes it the group's.
func (c *groupChild) begin(eager bool) {
	g, t := c.g, c.t
	switch {
	case g.aborting:
		t.cancel(&CancelledError{Msg: "the task group is shutting down"})
		g.loop.schedule(t, nil)
	case g.limit > 0 && g.started >= g.limit:
		t.parked = true // unpark starts it, and a cancel evicts it
		g.turns = append(g.turns, c)
	default:
		c.started = true
		g.started++
		if eager && g.loop.running.Load() {
			g.loop.startEagerly(t)
		} else {
			g.loop.schedule(t, nil)
		}
	}
	if g.last == nil {
		g.first = c
	} else {
		g.last.next, c.prev = c, g.last
	}
	g.last = c
	g.count++
	// The callback is scheduled also for a child that is done already: a failure must not cancel
	// the task in the middle of creating it (gh-128550, gh-128588).
	t.fut.addCallback(c)
	if p, ok := t.fut.err.(*PanicError); ok && t.fut.state == finished {
		g.failed(t, p) // group 4
	} else if c.started && g.aborting && t.fut.state == pending {
		// by itself, before it had joined (gh-155418)
		t.cancel(&CancelledError{Msg: "the task group is shutting down"})
	}
}

// fire notes that the child is done.
func (c *groupChild) fire(f *future) {
	g := c.g
	if c.prev == nil {
		g.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		g.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	g.count--
	if c.started {
		g.started--
		g.startNext()
	}
	for _, w := range g.watchers {
		w.done = append(w.done, c.t)
		w.waiters.wakeNext()
	}
	if g.count == 0 && g.waiting {
		g.parent.unpark()
	}
	f.retrieved()
	returned := c.status != nil && c.status.childEnded(f) // to the caller of GroupStart
	_, panicked := f.err.(*PanicError)
	switch {
	case f.err == nil || f.state == cancelled || returned && !panicked:
	// call has asked the error before, but not the value of a panic
	case !panicked && isEndOf(g.ctx, f.err):
		g.ended = true
	default:
		g.errs = append(g.errs, f.err)
		g.failed(c.t, f.err)
	}
}

func (c *groupChild) String() string { return "TaskGroup()" }

// startNext starts the child whose turn it is.
func (g *TaskGroup) startNext() {
	for len(g.turns) > 0 && g.started < g.limit {
		c := g.turns[0]
		g.turns[0] = nil
		g.turns = g.turns[1:]
		if c.t.unpark() { // else it was cancelled meanwhile
			c.started = true
			g.started++
		}
	}
}

// panicked is group 4.
func (t *task) panicked(p *PanicError) {
	for cb := range t.fut.callbacks {
		if c, ok := cb.(*groupChild); ok {
			c.g.failed(t, p)
			return
		}
	}
}
