package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A treeWorld runs trees of tasks, groups, scopes, shields, gathers and contexts in random orders
// and cancels them at random. The result of a whole tree cannot be predicted without running it.
// But each await, scope and group is held to its promises:
//
//   - after a cancel of its task, the first await that ends outside a Cleanup returns the cancel;
//     or, if the cancel went down to other tasks, the error of what has failed there. If there is
//     no such await, the task ends cancelled, or with an error that was there before;
//   - no await returns a cancel that is not counted, and nothing disturbs a Cleanup;
//   - a group is left when its children are done, with each of their errors and no other; its
//     options hold;
//   - Cancelling counts the requests from outside when a scope has been left;
//   - nothing is left at the end.
//
// No task keeps a cancel to itself.
type treeWorld struct {
	rnd     *rand.Rand
	l       *asyncio.EventLoop
	nodes   []*treeTask
	left    int // how many more nodes may be made
	wrong   error
	options bool // groups have limits and the like
}

// A treeTask is a task of the tree, as the world sees it.
type treeTask struct {
	w        *treeWorld
	task     tasked
	n        int
	root     bool // only the world cancels it
	asked    int  // cancels by the world that were accepted
	owed     bool // the last of them has not reached the task
	entered  bool
	ended    bool
	cleanups int
	scopes   int // timeouts and groups that it is in, which may have made requests too
}

// treeOrder is a driver that chooses the next callback at random.
type treeOrder struct {
	*driver.Virtual
	rnd *rand.Rand
}

func (o *treeOrder) Attach(driver.Loop)  {}
func (o *treeOrder) Choose(n, _ int) int { return o.rnd.IntN(n) }
func (o *treeOrder) BeginIteration()     {}
func (w *treeWorld) some() time.Duration { return time.Duration(w.rnd.IntN(5)) * time.Second }
func (w *treeWorld) chance(of int) bool  { return w.rnd.IntN(of) == 0 }
func (x *treeTask) String() string       { return fmt.Sprintf("task %d of %d", x.n, len(x.w.nodes)) }
func (x *treeTask) wrong(f string, a ...any) {
	if x.w.wrong == nil {
		x.w.wrong = fmt.Errorf("at %v, %v: %s", x.w.l.Time(), x, fmt.Sprintf(f, a...))
	}
}

// node makes a task of the tree with create, which starts a routine.
func (w *treeWorld) node(root bool, depth int, create func(routine) tasked) *treeTask {
	x := &treeTask{w: w, n: len(w.nodes), root: root}
	w.nodes = append(w.nodes, x)
	x.task = create(func(ctx context.Context) error {
		if x.entered = true; x.asked > 0 {
			x.wrong("cancelled before it started, and entered")
		}
		err := x.block(ctx, depth)
		if x.ended = true; x.cleanups > 0 {
			x.wrong("ends in a cleanup")
		}
		return err
	})
	return x
}

func (w *treeWorld) cancel(x *treeTask) {
	if x.task != nil && x.task.Cancel() {
		x.asked++
		x.owed = true
	}
}

// disturb is a callback that cancels some task.
func (w *treeWorld) disturb() {
	if len(w.nodes) > 0 {
		w.cancel(w.nodes[w.rnd.IntN(len(w.nodes))])
	}
}

// await is an await by the task itself. others says whether a cancel goes down to other tasks from
// there.
func (x *treeTask) await(ctx context.Context, others bool, fn func() error) error {
	over := ctx.Err() != nil
	err := fn()
	heard := isCancelled(err)
	switch {
	case over:
		return err
	case x.cleanups > 0 && !others && err != nil:
		x.wrong("a cleanup is disturbed: %v", err)
	case x.owed && x.cleanups == 0 && (err == nil || !others && !heard):
		x.wrong("a cancel is lost: its await returns %v", err)
	case heard && !others && x.task.Cancelling() == 0:
		x.wrong("nobody has asked for %v", err)
	}
	if x.cleanups == 0 {
		x.owed = false
	}
	return err
}

// block runs a few random steps until one fails.
func (x *treeTask) block(ctx context.Context, depth int) error {
	for range 1 + x.w.rnd.IntN(3) {
		if err := x.step(ctx, depth); err != nil {
			return err
		}
	}
	return nil
}

func (x *treeTask) step(ctx context.Context, depth int) error {
	w := x.w
	sleep := func(d time.Duration) error {
		return x.await(ctx, false, func() error { return asyncio.Sleep(ctx, d) })
	}
	if depth == 0 || w.left <= 0 {
		if w.chance(12) {
			return errA
		}
		return sleep(w.some())
	}
	w.left--
	body := func(ctx context.Context) error { return x.block(ctx, depth-1) }
	create := func(fn routine) tasked { return start(ctx, fn) }
	counted := func(err error) error {
		if x.scopes == 0 && x.root && x.task.Cancelling() != x.asked {
			x.wrong("%d cancels are counted, %d were asked for", x.task.Cancelling(), x.asked)
		}
		return err
	}
	switch w.rnd.IntN(13) {
	case 0:
		return sleep(w.some())
	case 1, 2, 3:
		x.scopes++
		err := x.group(ctx, depth-1)
		x.scopes--
		return counted(err)
	case 4:
		x.scopes++
		err := asyncio.Timeout(ctx, w.some(), func(ctx context.Context, tm *asyncio.TimeoutScope) error {
			if w.chance(3) {
				w.l.CallLater(w.some(), func() { _ = tm.Reschedule(w.l.Time().Add(w.some())) })
			}
			return body(ctx)
		})
		x.scopes--
		return counted(err)
	case 5:
		due := w.l.Time().Add(w.some())
		expired, err := asyncio.MoveOnAfter(ctx, due.Sub(w.l.Time()), body)
		if expired && w.l.Time().Before(due) {
			x.wrong("a scope has expired before its time")
		}
		return counted(err)
	case 6:
		return counted(asyncio.FailAfter(ctx, w.some(), body))
	case 7:
		x.cleanups++
		err := asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error {
			for range 1 + w.rnd.IntN(2) {
				switch w.rnd.IntN(4) {
				case 0: // inner scopes still do their work
					err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return asyncio.Sleep(ctx, time.Hour) })
					if !errors.Is(err, asyncio.ErrTimeout) {
						x.wrong("a timeout in a cleanup: %v", err)
					}
				case 1:
					var g *asyncio.GroupError
					if err := grouping(sleeping(time.Hour), failsAfter(w.some(), errA))(ctx); !errors.As(err, &g) {
						x.wrong("a group in a cleanup: %v", err)
					}
				default:
					d := w.some()
					if err := x.await(ctx, false, func() error { return asyncio.Sleep(ctx, d) }); err != nil {
						return err
					}
				}
			}
			return nil
		})
		x.cleanups--
		return counted(err)
	case 8:
		inner, cancel := asyncio.WithTimeout(ctx, w.some())
		if w.chance(2) {
			inner, cancel = context.WithCancel(ctx)
			w.l.CallLater(w.some(), cancel)
		}
		defer cancel()
		return counted(body(inner))
	case 9:
		return counted(body(context.WithoutCancel(ctx)))
	case 10:
		var children []tasked
		for range 1 + w.rnd.IntN(3) {
			children = append(children, w.node(false, depth-1, create).task)
		}
		err := x.await(ctx, true, func() error { _, err := asyncio.Gather(ctx, children...); return err })
		x.abandon(children...)
		return err
	case 11:
		child := w.node(false, depth-1, create).task
		shielded := asyncio.Shield(ctx, child)
		err := x.await(ctx, true, func() error { _, err := shielded.Await(ctx); return err })
		_ = shielded.AddDoneCallback(func(f *asyncio.Future[asyncio.None]) { _ = f.Exception() })
		x.abandon(child)
		return err
	}
	child := w.node(false, depth-1, create).task
	err := x.await(ctx, true, func() error { _, err := child.Await(ctx); return err })
	x.abandon(child)
	return err
}

// abandon leaves tasks alone, and retrieves their errors.
func (x *treeTask) abandon(tasks ...tasked) {
	for _, t := range tasks {
		t.AddDoneCallback(func(t *asyncio.Task[asyncio.None]) { _ = t.Exception() })
	}
}

// group runs a group with some children.
func (x *treeTask) group(ctx context.Context, depth int) error {
	w := x.w
	limit, supervised, failed, heard := 0, w.options && w.chance(3), false, false
	var opts []asyncio.GroupOption
	if w.options && w.chance(2) {
		limit = 1 + w.rnd.IntN(3)
		opts = append(opts, asyncio.GroupLimit(limit))
	}
	if supervised {
		opts = append(opts, asyncio.Supervisor())
	}
	var children []*treeTask
	running := 0
	err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
		for range 1 + w.rnd.IntN(3) {
			eager := asyncio.EagerStart(w.chance(4))
			children = append(children, w.node(false, depth, func(fn routine) tasked {
				return tg.CreateTask(ctx, func(ctx context.Context) error {
					if running++; limit > 0 && running > limit {
						x.wrong("%d children run, the limit is %d", running, limit)
					}
					defer func() { running-- }()
					return fn(ctx)
				}, eager)
			}))
		}
		if w.options && w.chance(4) {
			w.l.CallLater(w.some(), tg.Cancel)
		}
		if w.options && w.chance(3) {
			return x.completed(ctx, tg, children)
		}
		err := x.block(ctx, depth)
		heard = isCancelled(err)
		failed = err != nil && !isCancelled(err) && (ctx.Err() == nil || errors.Is(err, errA))
		return err
	}, opts...)
	failures := 0
	for _, c := range children {
		if !c.task.Done() {
			x.wrong("a group is left with %v", c.task)
		} else if e := c.task.Exception(); e != nil && !c.task.Cancelled() && (ctx.Err() == nil || errors.Is(e, errA)) {
			failures++
		}
	}
	if failed {
		failures++
	}
	var ge *asyncio.GroupError
	switch {
	case failures > 0 && (!errors.As(err, &ge) || len(ge.Exceptions) < failures):
		x.wrong("%d children and body have failed: %v", failures, err)
	case failures == 0 && ctx.Err() == nil && errors.As(err, &ge) && !failed:
		x.wrong("nothing has failed: %v", err)
	case isCancelled(err) && !errors.As(err, &ge) && x.task.Cancelling() == 0 && !heard:
		x.wrong("nobody has asked for %v of a group", err)
	}
	if isCancelled(err) {
		x.owed = false
	}
	return err
}

// completed is the body of a group that sees its children as they finish.
func (x *treeTask) completed(ctx context.Context, tg group, children []*treeTask) error {
	var seen []tasked
	for task, err := range asyncio.GroupCompleted[asyncio.None](ctx, tg) {
		if err != nil {
			if isCancelled(err) {
				x.owed = false
			}
			return err
		}
		if !task.Done() || slices.Contains(seen, task) {
			x.wrong("%v is not done, or was seen before", task)
		}
		seen = append(seen, task)
	}
	if len(seen) != len(children) {
		x.wrong("%d of %d children were seen", len(seen), len(children))
	}
	return nil
}

// runTree runs one tree and returns what went wrong.
func runTree(ctx context.Context, order *treeOrder, seed uint64, options bool) error {
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	order.rnd = rand.New(rand.NewPCG(seed, 7))
	w := &treeWorld{rnd: rand.New(rand.NewPCG(seed, 11)), l: l, left: 12, options: options}
	for range 1 + w.rnd.IntN(2) {
		w.node(true, 4, func(fn routine) tasked { return start(ctx, fn) })
	}
	for range w.rnd.IntN(5) {
		l.CallLater(w.some(), w.disturb)
	}
	if err := asyncio.Sleep(ctx, 10*time.Hour); err != nil {
		return err
	}
	for _, x := range w.nodes {
		switch err := x.task.Exception(); {
		case !x.task.Done():
			x.wrong("it has not ended: %v", x.task)
		case x.owed && err == nil && !x.task.Cancelled():
			x.wrong("a cancel is lost: it ends with a result")
		case x.task.Cancelling() < x.asked:
			x.wrong("%d cancels are counted, %d were asked for", x.task.Cancelling(), x.asked)
		}
	}
	if all := asyncio.AllTasks(ctx); len(all) != 1 {
		return fmt.Errorf("tasks are left: %v (%w)", all, w.wrong)
	}
	return w.wrong
}

// TestTrees_Random runs trees without and with the options of groups: 2,000 of each, or as many as
// ASYNCIO_MODELS says.
func TestTrees_Random(t *testing.T) {
	for name, options := range map[string]bool{"plain": false, "with options": true} {
		t.Run(name, func(t *testing.T) {
			n := modelRuns(t, 2000)
			order := &treeOrder{driver.NewVirtual(), rand.New(rand.NewPCG(0, 0))}
			l := asyncio.NewEventLoop(driver.With(context.Background(), order))
			l.SetDebug(false)
			var r reports
			l.SetExceptionHandler(r.handle)
			bad := 0
			_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
				for seed := range n {
					if err := runTree(ctx, order, uint64(seed), options); err != nil {
						if bad++; bad <= 3 {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				}
				return nil
			}))
			must(t, errors.Join(err, l.Close()))
			if bad > 0 {
				t.Errorf("%d of %d trees went wrong", bad, n)
			}
			if m := r.messages(); len(m) > 0 {
				t.Errorf("%d reports, the first is %s", len(m), m[0])
			}
		})
	}
}
