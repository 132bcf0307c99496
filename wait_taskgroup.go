package asyncio

import (
	"context"
	"fmt"
	"strings"
)

// A TaskGroup is a set of tasks that end together: [RunTaskGroup] does not return before all of
// them are done. The body, other children or callbacks make children with [GroupTask],
// [TaskGroup.CreateTask] and [GroupStart]. Methods of a group are for the loop only.
//
//	group 1: A child that fails, other than by being cancelled, aborts the group: every other child
//	   is cancelled, in order of creation, and so is the task that runs the body. Errors of children
//	   are kept in the order of their completion.
//	group 2: The group is left when the body has returned and no child is left. A body that returns
//	   an error aborts the group, and so does a cancel of its task while it waits for the children.
//	group 3: On leaving, the group takes back its own cancel of the body's task (Uncancel). Any
//	   other cancel is left in force: it is returned, or, if there are errors to return, delivered
//	   again.
//	group 4: A child's end is noticed by its done callback, one iteration later. A panic aborts the
//	   group in the same step, because it may have left state that the siblings share in disorder.
//	group 5: The end of the group's context is not a failure. Children that return it are like
//	   cancelled ones, and the group returns it too. If the context that ended is only the child's,
//	   its end is an error like any other.
type TaskGroup struct {
	loop   *EventLoop
	parent *task
	ctx    context.Context
	limit  int     // of children that are started at a time, 0 for none
	ask    request // to stop the body (group 3)

	// children that are not done, or not noticed to be, in order of creation
	first, last *groupChild
	count       int
	started     int           // how many of the children are started
	turns       []*groupChild // children that wait to be started, and some that no longer do
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

// GroupLimit lets at most n children run at a time. Further children can be created at any time:
// such a child waits for its turn, in order of creation, and starts when another child is done. A
// cancel takes it out of the queue. Creating never suspends; a body that wants to keep the queue
// short awaits some of its children. A child that awaits another child in the queue keeps its own
// place.
func GroupLimit(n int) GroupOption { return GroupOption{limit: n, limited: true} }

// Supervisor keeps the failure of a child, also its panic, from affecting the others and the body:
// they go on, and all errors are returned when the group is left. An error of the body, a cancel
// and [TaskGroup.Cancel] abort the group as without it. Kotlin: supervisorScope.
func Supervisor() GroupOption { return GroupOption{supervisor: true} }

// RunTaskGroup runs body with a new task group, in the calling task. It returns when body has
// returned and all children are done. ctx is the group's, and its end ends the group.
//
// If a child fails, the others and the calling task are cancelled, so that body stops at its next
// await. Failures are returned as one [*GroupError]: the children's in the order of their
// completion, then body's own. A child that merely ends cancelled has not failed.
//
// A cancel of the calling task reaches body, or the wait for the children, and cancels the
// children; it is returned when they are done and none has failed. The end of ctx reaches the
// children and body; its cause is returned in the same way. After [TaskGroup.Cancel] the result is
// nil, if nothing else happened.
//
// If body panics, the children are cancelled and waited for, errors that can no longer be returned
// go to the exception handler, and the panic goes on.
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

// checkMade refuses a group that RunTaskGroup has not made.
func (g *TaskGroup) checkMade(caller string) error {
	if g == nil || g.loop == nil {
		return fmt.Errorf("%w: a nil or zero TaskGroup: RunTaskGroup makes one (in %s)", ErrInvalidArgument, caller)
	}
	return nil
}

// exit waits for the children (group 2), takes the group's cancel back (group 3) and returns the
// end of the group's context (group 5).
func (g *TaskGroup) exit(err error) error {
	g.exiting = true
	var cancelled, ended error // to be returned if nothing failed
	failed := false            // of the body
	var latest *CancelledError // the last cancel that reached the wait for the children
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
		cancelled = latest // the cancel came from elsewhere (gh-155433)
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

// withdraw takes back the group's cancel of the body's task, and returns how many other cancels are
// in force. If there are any, and the group's is still owed, it is delivered all the same, as in
// CPython.
func (g *TaskGroup) withdraw() int {
	owed := g.ask.owed
	n := g.parent.withdraw(&g.ask)
	if n > 0 && owed {
		g.parent.repeat(g.ask.err)
	}
	return n
}

// unwind leaves the group when its body panics or exits its goroutine.
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

// wait parks the parent until the last child is done or a cancel or the end of ctx wakes it. If it
// was a cancel, wait returns that.
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

// abortAll is abort, and stops the body too.
func (g *TaskGroup) abortAll(c *CancelledError) {
	if g.aborting || g.parentCancelled {
		return
	}
	g.abort(c)
	g.parentCancelled = true
	g.parent.ask(c, &g.ask)
}

// failed aborts the group because t has failed, unless it is a supervisor (group 1).
func (g *TaskGroup) failed(t *task, err error) {
	if !g.supervisor {
		g.abortAll(&CancelledError{Msg: "a child of the task group failed", By: t.GetName(), failure: err})
	}
}

// Cancel ends the group early and without an error. Children that are not done are cancelled, in
// order of creation, and so is the task that runs the body; [RunTaskGroup] takes that cancel back.
// Errors of children that fail on the way out are returned all the same, and so is a cancel that
// came from elsewhere. More calls, and calls after the group was left or while the loop is being
// closed, do nothing.
//
// Cancel is for the loop only: the body, children, callbacks. It does not suspend. It panics with
// [ErrForeignGoroutine], and with [ErrInvalidArgument] for a group that RunTaskGroup has not made.
// Python 3.15: TaskGroup.cancel.
func (g *TaskGroup) Cancel() {
	if err := g.checkMade("Cancel"); err != nil {
		panic(err)
	}
	g.loop.mustNotBeForeign("Cancel")
	if g.exiting && g.count == 0 || g.loop.closing.Load() {
		return // the loop unwinds its tasks: clean-up code that comes late is no mistake
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

// GroupTask creates a task in the group and returns it without waiting: the group waits for it, and
// its error aborts the group. It is [CreateTask] for children. Like any other task the child gets
// the ctx of its creator, with its values and its end.
//
// In a group that is being aborted the new task is cancelled before it starts: it ends cancelled
// and is never entered. Under a [GroupLimit] it may have to wait for its turn to start.
//
// It is for the loop only and does not suspend. It panics as CreateTask does, with
// [ErrDifferentLoop] if ctx leads to a loop other than the group's, and with [ErrInvalidState] if
// the group has been left. Python: TaskGroup.create_task.
func GroupTask[T any](ctx context.Context, tg *TaskGroup, coro Coroutine[T], opts ...TaskOption) *Task[T] {
	return groupTask(ctx, tg, coro, nil, "GroupTask", opts)
}

// CreateTask is [GroupTask] for a function that returns only an error.
func (g *TaskGroup) CreateTask(ctx context.Context, fn func(ctx context.Context) error, opts ...TaskOption) *Task[None] {
	return groupTask(ctx, g, Do(fn), nil, "TaskGroup.CreateTask", opts)
}

func groupTask[T any](ctx context.Context, g *TaskGroup, coro Coroutine[T], status anyStatus, caller string, opts []TaskOption) *Task[T] {
	if err := g.checkMade(caller); err != nil {
		panic(err)
	}
	l := mustLoop(ctx, caller)
	switch {
	case coro == nil:
		panic(fmt.Errorf("%w: nil coroutine (in %s)", ErrInvalidArgument, caller))
	case l != g.loop:
		panic(fmt.Errorf("%w: %v (in %s)", ErrDifferentLoop, g, caller))
	case g.exiting && g.count == 0:
		panic(fmt.Errorf("%w: the task group is finished (in %s)", ErrInvalidState, caller))
	}
	t := &Task[T]{coro: coro}
	ctx, eager := t.prepare(l, ctx, opts)
	t.enlist(l, ctx, t)
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
	// The callback is scheduled even for a child that is done already: a failure must not cancel
	// the task in the middle of creating it (gh-128550, gh-128588).
	t.fut.addCallback(c)
	if p, ok := t.fut.err.(*PanicError); ok && t.fut.state == finished {
		g.failed(t, p) // a panic aborts the group in the same step (group 4)
	} else if c.started && g.aborting && t.fut.state == pending {
		// the child aborted the group itself, before it had joined (gh-155418)
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
	returned := c.status != nil && c.status.childEnded(f) // to GroupStart's caller
	_, panicked := f.err.(*PanicError)
	switch {
	case f.err == nil || f.state == cancelled || returned && !panicked:
	// call has run isEndOf on the error before, but not on the value of a panic
	case !panicked && isEndOf(g.ctx, f.err):
		g.ended = true
	default:
		g.errs = append(g.errs, f.err)
		g.failed(c.t, f.err)
	}
}

func (*groupChild) quick() {}

func (c *groupChild) awaiters() []*task { return []*task{c.g.parent} }

// waits reports false while the parent is still in the body of its group.
func (c *groupChild) waits() bool { return c.g.waiting }

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

// childPanicked aborts the group in the step in which the child panics (group 4).
func (c *groupChild) childPanicked(p *PanicError) { c.g.failed(c.t, p) }
