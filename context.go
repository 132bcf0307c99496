package asyncio

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// How a context reaches a loop, and what its end does there (design 2).
//
//	context 1: A context leads to a loop through its values. It does not name a task, because the
//	   loop knows which task is running. So a context captured elsewhere cannot suspend the wrong
//	   one.
//	context 2: Every await made with a done context fails at once, with the context's cause. An
//	   await that has begun is woken. Its future is left as it is, and other tasks that wait for it
//	   still get its result.
//	context 3: A task that was already due to resume gets what it was due to get. The context takes
//	   effect at the task's next await. Nothing that arrived is lost.
//	context 4: The end of a standard context reaches the loop through the inbox, sent by
//	   context.AfterFunc. On a polling driver (virtual time) each iteration looks at the contexts
//	   instead, because the arrival of a goroutine is not deterministic. The loop knows of the end
//	   of a context made here (see clockContext).
//	context 5: A context of another package may panic, or be done without an error. An await that
//	   has begun does not pass the panic on, which would leave its task half suspended. Instead the
//	   panic is reported, and the await fails with it.

type loopKey struct{}

// netKey leads to the loop too, from the context of a thread function as well.
type netKey struct{}

// loopContext is the root of every context of a loop.
type loopContext struct {
	context.Context // the context that the loop was made with
	loop            *EventLoop
}

func (c *loopContext) Value(key any) any {
	if key == (loopKey{}) || key == (netKey{}) {
		return c.loop
	}
	if key == labelKey && !c.loop.labelled() { // package pprof looks for labels (label 3)
		c.loop.setMode(labelledMode, true)
	}
	return c.Context.Value(key)
}

func (c *loopContext) Done() <-chan struct{} { return c.loop.rootDone }

func (c *loopContext) Err() error {
	if c.loop.rootDone == nil {
		return nil
	}
	return c.Context.Err()
}

func (c *loopContext) String() string { return fmt.Sprintf("%v.EventLoop", c.Context) }

// outsideContext hides the loop from code that runs outside it, so that a library call made there
// returns ErrNoRunningLoop instead of touching the loop.
type outsideContext struct {
	context.Context
	loop *EventLoop // the loop whose clock its goroutine holds
}

func (c outsideContext) Value(key any) any {
	switch key.(type) {
	case loopKey, clockKey:
		return nil
	case outsideKey:
		return c.loop
	}
	return c.Context.Value(key)
}

type outsideKey struct{}

// Outside returns a context with the values, the end and the deadline of ctx, but without its loop.
// It is for goroutines that a program starts itself: a library call made there by mistake returns
// [ErrNoRunningLoop] instead of touching the loop. [ToThread] calls it by itself. Any goroutine may
// call it.
func Outside(ctx context.Context) context.Context { return outsideContext{ctx, nil} }

// noLoop returns the error for a context that leads to no loop.
func noLoop(ctx context.Context, caller string) error {
	switch {
	case ctx == nil:
		return fmt.Errorf("%w: nil context (in %s)", ErrInvalidArgument, caller)
	case ctx.Value(outsideKey{}) != nil:
		return fmt.Errorf("%w (in %s; this is the ctx of a thread function, which is outside the loop: get the loop before ToThread and use RunCoroutineThreadsafe)", ErrNoRunningLoop, caller)
	}
	return fmt.Errorf("%w (in %s)", ErrNoRunningLoop, caller)
}

// loopOf returns the loop ctx leads to, nil if it leads to none (context 1).
func loopOf(ctx context.Context) *EventLoop {
	switch c := ctx.(type) {
	case nil:
		return nil
	case *loopContext:
		return c.loop
	}
	l, _ := ctx.Value(loopKey{}).(*EventLoop)
	return l
}

// inTask is the fast path of [enter], small enough to be inlined. It returns the current task if
// ctx is the loop's own, ctx cannot end, and the bit alone decides who may call (foreign 2). If it
// returns nil, call enter. It does not check the bit, so it is only for operations that change
// nothing but plain fields of their own object (foreign 1).
func inTask(ctx context.Context) *task {
	if c, ok := ctx.(*loopContext); ok && c.loop.rootDone == nil && c.loop.guard.Load() == 0 && !raceDetector {
		return c.loop.current
	}
	return nil
}

// checkedTask is inTask with a check of the bit.
func checkedTask(ctx context.Context) *task {
	if c, ok := ctx.(*loopContext); ok && c.loop.rootDone == nil && c.loop.guard.Load() == 0 {
		if debug.SetPanicOnFault(true) { // checkOwner, written out
			return c.loop.current
		}
		debug.SetPanicOnFault(false)
	}
	return nil
}

// mustLoop returns the loop of ctx. It is for functions without an error result.
func mustLoop(ctx context.Context, caller string) *EventLoop {
	l := loopOf(ctx)
	if l == nil {
		panic(noLoop(ctx, caller))
	}
	if l.guard.Load() == 0 {
		if debug.SetPanicOnFault(true) { // checkOwner, written out
			return l
		}
		debug.SetPanicOnFault(false)
	}
	l.mustBeOwner(caller)
	return l
}

type factoryKey struct{}

// WithLoopFactory returns a context under which [Run], [NewRunner] and [NewEventLoop] take their
// event loops from factory. With it, a program that starts its own loop can be put under test or
// simulation without being changed:
//
//	err := service.Main(asyncio.WithLoopFactory(ctx, sim.NewEventLoop))
//
// Any goroutine may call it. Python's nearest equivalents are the loop_factory argument and the
// event loop policy; this one is bound to a context instead of the process.
func WithLoopFactory(ctx context.Context, factory func(context.Context) *EventLoop) context.Context {
	return context.WithValue(ctx, factoryKey{}, factory)
}

func loopFactory(ctx context.Context) func(context.Context) *EventLoop {
	f, _ := ctx.Value(factoryKey{}).(func(context.Context) *EventLoop)
	return f
}

// A factoryMask hides the factory from itself while it makes a loop.
type factoryMask struct {
	context.Context
	off atomic.Bool
}

func (m *factoryMask) Value(key any) any {
	if key == (factoryKey{}) && !m.off.Load() {
		return nil
	}
	return m.Context.Value(key)
}

type clockKey struct{}

// A clocked context ends on the loop's clock. It is its own value for clockKey.
type clocked interface {
	context.Context

	// ownWatch returns the context's watch if the loop ends the context itself, and done is its
	// Done channel.
	ownWatch(done <-chan struct{}) *watch
}

// ownWatch returns the watch of the clocked context that ends when done is closed, nil if there is
// none.
func ownWatch(ctx context.Context, done <-chan struct{}) *watch {
	if c, ok := ctx.Value(clockKey{}).(clocked); ok {
		return c.ownWatch(done)
	}
	return nil
}

// A watch tells the tasks that wait with one context when that context is done.
// All contexts with the same Done channel share it.
type watch struct {
	loop  *EventLoop
	ctx   context.Context
	done  <-chan struct{}
	first *watchLink // the tasks, oldest first; unused by the root watch
	last  *watchLink
	stop  func() bool // the result of context.AfterFunc
	prev  *watch      // in the loop's list, oldest first, for polling
	next  *watch
	fired bool

	broken error // the panic of a method of the context; such a watch is in no list (context 5)
}

// A watching says which kind of context a task waits with.
type watching uint8

const (
	withNone  watching = iota // one that cannot end
	withRoot                  // the loop's own
	withOther                 // another one
)

// A watchLink is one task that waits with a watched context. When the wait is over, it no longer
// has a watch, unless that is broken.
type watchLink struct {
	w          *watch
	t          *task
	prev, next *watchLink
}

// watch adds t to the tasks to be woken when ctx is done.
func (l *EventLoop) watch(t *task, ctx context.Context, done <-chan struct{}) *watchLink {
	// many tasks wait with one context, and searching for its watch takes time, and room on the
	// stack
	w := l.recent
	if w == nil || w.done != done {
		if w = ownWatch(ctx, done); w != nil {
			// the loop ends the context itself
		} else if w = l.watches[done]; w == nil {
			var failed *PanicError
			if w, failed = l.newWatch(ctx, done); failed != nil {
				return t.contextFailed(failed)
			}
			l.keep(w)
		}
	}
	t.watching, l.recent = withOther, w
	link := l.newLink()
	link.w, link.t = w, t
	if w.last == nil {
		w.first = link
	} else {
		w.last.next, link.prev = link, w.last
	}
	w.last = link
	return link
}

// keep puts a watch into the loop's list.
func (l *EventLoop) keep(w *watch) {
	if l.watches == nil {
		l.watches = make(map[<-chan struct{}]*watch)
	}
	l.watches[w.done] = w
	if l.lastWatch == nil {
		l.firstWatch = w
	} else {
		l.lastWatch.next, w.prev = w, l.lastWatch
	}
	l.lastWatch = w
}

// Links are reused, and made linksAtOnce at a time. So few tasks allocate after they have begun to
// wait, where allocating would cost them a larger stack.
const (
	linksAtOnce = 32
	spareLinks  = 1024 // links kept at most
)

func (l *EventLoop) newLink() *watchLink {
	link := l.links
	if link == nil {
		some := make([]watchLink, linksAtOnce)
		for i := range some[1:] {
			some[i].next = &some[i+1]
		}
		link = &some[0]
		l.spare = linksAtOnce
	}
	l.links, link.next = link.next, nil
	l.spare--
	return link
}

func (l *EventLoop) freeLink(link *watchLink) {
	*link = watchLink{}
	if l.spare < spareLinks {
		l.links, link.next = link, l.links
		l.spare++
	}
}

// standardContexts are the types of package context that can end. Their Done does not panic. Done
// of a context with values may, because it is that of the context it was made from.
var standardContexts = func() (types [2]reflect.Type) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	types[0] = reflect.TypeOf(ctx)
	ctx, cancel = context.WithTimeout(context.Background(), time.Hour)
	cancel()
	types[1] = reflect.TypeOf(ctx)
	return types
}()

// isTrusted reports whether Done of ctx is known not to panic.
func isTrusted(ctx context.Context) bool {
	t := reflect.TypeOf(ctx)
	if t == standardContexts[0] || t == standardContexts[1] {
		return true
	}
	_, ok := ctx.(clocked)
	return ok
}

// doneOf returns ctx.Done(), or the panic of that call (context 5).
func doneOf(ctx context.Context) (done <-chan struct{}, failed *PanicError) {
	defer catch(&failed)
	return ctx.Done(), nil
}

// newWatch makes a watch that listens, or returns the panic of a method of ctx (context 5).
func (l *EventLoop) newWatch(ctx context.Context, done <-chan struct{}) (_ *watch, failed *PanicError) {
	defer catch(&failed)
	w := &watch{loop: l, ctx: ctx, done: done}
	if done != l.rootDone && l.drv.Polls() {
		l.warnOfDeadline(ctx)
	}
	w.listen()
	return w, nil
}

// catch is deferred. It puts a panic into failed.
func catch(failed **PanicError) {
	if v := recover(); v != nil {
		mustEnd(v)
		*failed = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// warnOfDeadline reports a deadline that the standard library keeps, which counts real time while
// the loop's time is virtual.
func (l *EventLoop) warnOfDeadline(ctx context.Context) {
	d, ok := ctx.Deadline()
	if !ok || l.gate != nil { // behind a gate the standard library's time is the loop's
		return
	}
	ours := context.Context(l.ctx)
	if c, ok := ctx.Value(clockKey{}).(clocked); ok {
		ours = c
	}
	if known, ok := ours.Deadline(); !ok || !known.Equal(d) {
		l.reportSoon(ExceptionContext{
			Message: "a deadline of the context package does not come on virtual time: use asyncio.WithTimeout or WithDeadline",
			Task:    l.current.self,
		})
	}
}

// unwatch ends a task's wait. The last task out closes the watch.
func (link *watchLink) unwatch() {
	w := link.w
	if link.prev == nil {
		w.first = link.next
	} else {
		link.prev.next = link.next
	}
	if link.next == nil {
		w.last = link.prev
	} else {
		link.next.prev = link.prev
	}
	if w.first == nil {
		w.close()
		if w.loop.recent == w {
			w.loop.recent = nil
		}
	}
	if w.broken == nil {
		w.loop.freeLink(link)
	}
}

// watchContext makes the end of ctx wake t from the wait that it has begun. Methods of ctx that
// panic end the wait (context 5). Calling them under a recover takes room on the stack, which every
// waiting task would need; so methods that cannot panic are called without one.
func (t *task) watchContext(ctx context.Context) *watchLink {
	var done <-chan struct{}
	var failed *PanicError
	if c, ok := ctx.(*loopContext); ok {
		done = c.loop.rootDone
	} else if isTrusted(ctx) {
		done = ctx.Done()
	} else {
		done, failed = doneOf(ctx)
	}
	if done == nil && failed == nil {
		return nil
	}
	l := t.loop()
	if failed == nil && done == l.rootDone {
		failed = l.watchRoot()
		if failed == nil {
			t.watching = withRoot
			return nil
		}
	}
	if failed != nil {
		return t.contextFailed(failed)
	}
	return l.watch(t, ctx, done)
}

// contextFailed ends the wait that t has begun, because a method of its context panicked (context
// 5).
func (t *task) contextFailed(failed *PanicError) *watchLink {
	t.reportContext(failed)
	t.watching = withOther
	t.interrupt()
	return &watchLink{w: &watch{loop: t.loop(), broken: failed}, t: t}
}

// unwatchContext undoes watchContext, whose result is link. It reports whether the context has
// ended the wait.
func (t *task) unwatchContext(link *watchLink) (interrupted bool) {
	if link != nil {
		link.unwatch()
	}
	interrupted = t.interrupted
	t.watching, t.interrupted = withNone, false
	return interrupted
}

// watchRoot watches the context that the loop was made with. Nearly every await uses that context,
// so once used it is watched for good, and a flag is enough to say that a task waits with it.
func (l *EventLoop) watchRoot() (failed *PanicError) {
	if l.rootWatch == nil {
		l.rootWatch, failed = l.newWatch(l.ctx, l.rootDone)
	}
	return failed
}

// listen makes the loop learn of the end of the context (context 4).
func (w *watch) listen() {
	l := w.loop
	tell := func() { _ = l.post(w) }
	if l.drv.Polls() {
		tell = l.drv.Wake // the loop may wait for real work; when it wakes up, it looks
	}
	w.stop = context.AfterFunc(w.ctx, tell)
}

// causeOf returns the reason why ctx, which has ended t's wait, is done. link is the result of
// watchContext. The error is never nil (context 5).
func (t *task) causeOf(ctx context.Context, link *watchLink) error {
	if link != nil && link.w != nil {
		return link.w.broken
	}
	err, failed := cause(ctx)
	if failed != nil {
		t.reportContext(failed)
		return failed
	}
	if err == nil {
		return context.Canceled
	}
	return err
}

func cause(ctx context.Context) (err error, failed *PanicError) {
	defer catch(&failed)
	return context.Cause(ctx), nil
}

// reportContext reports a panic of a method of a context.
func (t *task) reportContext(failed *PanicError) {
	t.loop().reportSoon(ExceptionContext{Message: "panic in a method of a context", Exception: failed, Task: t.self})
}

func (w *watch) close() {
	l := w.loop
	if l.watches[w.done] != w {
		return
	}
	delete(l.watches, w.done)
	if w.stop != nil {
		w.stop()
	}
	if w.prev == nil {
		l.firstWatch = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.lastWatch = w.prev
	} else {
		w.next.prev = w.prev
	}
}

// arrive runs on the loop when the context is known to be done.
func (w *watch) arrive() {
	if l := w.loop; w == l.rootWatch {
		for t := range l.tasks.all {
			if t.watching == withRoot {
				t.interrupt()
			}
		}
		if l.rootClocks != nil {
			l.rootClocks.endChildren()
		}
	}
	for link := w.first; link != nil; link = link.next {
		link.t.interrupt()
	}
}

func (w *watch) fire(*future) { w.arrive() }

// pollWatches looks at every context that a task waits with (context 4).
func (l *EventLoop) pollWatches() {
	if w := l.rootWatch; w != nil && !w.fired && w.ctx.Err() != nil {
		w.fired = true // every later await fails before it waits
		w.arrive()
	}
	for w := l.firstWatch; w != nil; w = w.next {
		if !w.fired && w.ctx.Err() != nil {
			w.fired = true
			w.arrive()
		}
	}
}

// isEndOf reports whether err is, or wraps, an error returned because ctx is done: the cause, or
// one of the two errors that a context's Err can return. It looks for these very errors, not for
// errors that match them. A cancel caused by one of them is still a cancel (design 2), and a panic
// stays a panic (design 4). Several joined errors are not searched, so that such an error does not
// hide real failures beside it.
func isEndOf(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	cause := context.Cause(ctx)
	for err != nil {
		if same(err, context.Canceled) || same(err, context.DeadlineExceeded) || same(err, cause) {
			return true
		}
		err = unwrap(err)
	}
	return false
}

// same is a == b for errors whose types may not be comparable.
func same(a, b error) bool {
	if va, vb := reflect.ValueOf(a), reflect.ValueOf(b); va.Type() != vb.Type() {
		return false
	} else if !va.Comparable() || !vb.Comparable() {
		return reflect.DeepEqual(a, b)
	}
	return a == b
}
