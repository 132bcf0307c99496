package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A loopObj is what an event loop object stands for.
type loopObj struct {
	l        *asyncio.EventLoop
	obj      *Object
	base     time.Duration // the program's clock when the loop was made
	running  bool
	closed   bool
	handler  Value // set by set_exception_handler
	futures  map[asyncio.AnyFuture]*Object
	workers  []*asyncio.Task[Value] // functions in threads
	gensDone bool
}

func (in *Interp) newLoop() *loopObj {
	l := &loopObj{futures: map[asyncio.AnyFuture]*Object{}}
	if in.cfg.Virtual {
		l.l = sim.NewEventLoop(in.cfg.Context)
	} else {
		l.l = asyncio.NewEventLoop(in.cfg.Context)
	}
	l.l.SetDebug(false)
	l.base = in.now(nil)
	l.obj = &Object{cls: loopClass, native: l}
	l.l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) { in.report1(l, c) })
	in.loops = append(in.loops, l)
	return l
}

// now is the program's clock: that of its loops, one after the other.
func (in *Interp) now(_ *Thread) time.Duration {
	if !in.cfg.Virtual {
		return time.Since(in.begun)
	}
	if in.loop != nil && !in.loop.closed {
		return in.loop.base + in.loop.l.Time().SinceStart()
	}
	return in.base
}

// leave notes the time of a loop that is not the current one any more.
func (in *Interp) leave(l *loopObj) {
	if in.cfg.Virtual && l != nil {
		in.base = max(in.base, l.base+l.l.Time().SinceStart())
	}
}

func (in *Interp) setLoop(l *loopObj) {
	in.leave(in.loop)
	in.loop = l
}

// block is time.sleep: nothing else of the loop runs.
func (in *Interp) block(th *Thread, d time.Duration) error {
	switch {
	case d <= 0:
		return nil
	case th.worker:
		return th.pyError(asyncio.Sleep(th.ctx, d))
	case !in.cfg.Virtual:
		//asynciovet:allow blocking the program asked for time.sleep, which blocks the loop
		select {
		case <-time.After(d):
		case <-in.cfg.Context.Done():
			return in.die(&Fatal{"interrupted", 130})
		}
	case in.loop != nil && !in.loop.closed:
		if err := sim.Block(in.loop.l.Context(), d); err != nil {
			return err
		}
		in.event(th, "clock", 0, "")
	default:
		in.base += d
	}
	return nil
}

// runUntil runs a loop until a future is done.
func (in *Interp) runUntil(th *Thread, l *loopObj, f *future) (Value, error) {
	f.retrieved = true
	return in.running(th, l, func() (Value, error) { return asyncio.RunUntilComplete[Value](l.l, f.fut) })
}

func (in *Interp) running(th *Thread, l *loopObj, run func() (Value, error)) (Value, error) {
	if l.closed {
		return nil, raise("RuntimeError", "Event loop is closed")
	}
	if l.running {
		return nil, raise("RuntimeError", "This event loop is already running")
	}
	if in.loop != nil && in.loop.running || th.task != nil {
		return nil, raise("RuntimeError", "Cannot run the event loop while another loop is running")
	}
	in.setLoop(l)
	l.running = true
	v, err := run()
	l.running = false
	if in.fatal != nil {
		return nil, in.fatal
	}
	if exc := in.exiting; exc != nil {
		in.exiting = nil
		return nil, &Raise{exc}
	}
	switch {
	case err == nil:
		if v == nil {
			v = None
		}
		return v, nil
	case errors.Is(err, asyncio.ErrDeadlock):
		return nil, in.die(&Fatal{in.deadlock(l), StatusDeadlock})
	case errors.Is(err, asyncio.ErrLoopStopped):
		if in.cfg.Context.Err() != nil {
			return nil, in.die(&Fatal{"interrupted", 130})
		}
		return nil, raise("RuntimeError", "Event loop stopped before Future completed.")
	}
	return nil, th.pyError(err)
}

// deadlock says what every task waits for when nothing can happen any more.
func (in *Interp) deadlock(l *loopObj) string {
	var b strings.Builder
	b.WriteString("deadlock: nothing can happen any more, and CPython would wait for ever:")
	for _, o := range in.all {
		f := o.native.(*future)
		if f.loop != l || f.fut.Done() {
			continue
		}
		what := "?"
		if p := f.waits; p != nil {
			what = p.name
			if p.fut != nil {
				what = "a " + strings.ToLower(p.fut.cls.name)
				if t := futureOf(p.fut); t.task != nil {
					what = t.name
				}
			}
		}
		fmt.Fprintf(&b, "\n  %s %s, line %d, waits for %s", f.name, coroName(f.coro), placeOf(f.coro), what)
	}
	return b.String()
}

// cancelAll is what asyncio.run does with the tasks that are left.
func (in *Interp) cancelAll(th *Thread, l *loopObj) error {
	var left []*Object
	for _, o := range in.all {
		if f := o.native.(*future); f.loop == l && !f.fut.Done() {
			left = append(left, o)
		}
	}
	if len(left) == 0 {
		return nil
	}
	var futs []*asyncio.Future[Value]
	for _, o := range left {
		f := o.native.(*future)
		f.fut.Cancel()
		futs = append(futs, f.fut)
	}
	_, err := in.running(th, l, func() (Value, error) {
		return asyncio.RunUntilComplete(l.l, asyncio.Coroutine[Value](func(ctx context.Context) (Value, error) {
			_, err := asyncio.GatherResults(ctx, futs...)
			return None, err
		}))
	})
	if err != nil {
		return err
	}
	for _, o := range left {
		f := o.native.(*future)
		if f.fut.Cancelled() {
			continue
		}
		if err := f.fut.Exception(); err != nil {
			l.lost(th, "unhandled exception during asyncio.run() shutdown", err, o)
		}
	}
	return nil
}

// closeAsyncGens is loop.shutdown_asyncgens, and waits for functions in threads.
func (in *Interp) closeAsyncGens(th *Thread, l *loopObj) error {
	var futs []*asyncio.Future[Value]
	for _, g := range in.asyncGens {
		if g.frame == nil || !g.started || g.running {
			continue
		}
		step := &genStep{g: g, thrown: &Raise{newExc(excClasses["GeneratorExit"])}, closing: true}
		o, err := in.newTask(th, l, wrapAwaitable(th, step), "aclose", nil)
		if err != nil {
			return err
		}
		futs = append(futs, o.native.(*future).fut)
	}
	in.asyncGens = nil
	for _, w := range l.workers {
		futs = append(futs, asyncio.EnsureFuture[Value](l.l.Context(), w))
	}
	l.workers = nil
	if futs == nil {
		return nil
	}
	_, err := in.running(th, l, func() (Value, error) {
		return asyncio.RunUntilComplete(l.l, asyncio.Coroutine[Value](func(ctx context.Context) (Value, error) {
			_, err := asyncio.GatherResults(ctx, futs...)
			return None, err
		}))
	})
	return err
}

// closeSoon closes an asynchronous generator that nobody holds any more, in a task of its own.
func (in *Interp) closeSoon(th *Thread, g *Gen) {
	if in.loop == nil || !in.loop.running {
		return
	}
	step := &genStep{g: g, thrown: &Raise{newExc(excClasses["GeneratorExit"])}, closing: true}
	l := in.loop
	l.l.CallSoon(func() { // CPython's hook makes the task in a callback, too
		if in.fatal != nil {
			return
		}
		t := &Thread{in: in, ctx: l.l.Context()}
		o, err := in.newTask(t, l, wrapAwaitable(t, step), "", nil)
		if err != nil {
			in.unraisable(t, err)
			return
		}
		// CPython throws the cancel of a task that has not begun into its coroutine. The library
		// does not enter that coroutine, so this callback, which comes right behind the task's
		// first step, does it.
		l.l.CallSoon(func() {
			if step.state != pendingNew || futureOf(o).task.Cancelling() == 0 || in.fatal != nil {
				return
			}
			if _, _, err := step.step(t, nil, &Raise{newExc(cancelledError)}); err != nil && !isExc(err, "BaseException") {
				in.die(err)
			}
		})
	})
}

func (in *Interp) closeLoop(l *loopObj) error {
	if l.running {
		return raise("RuntimeError", "Cannot close a running event loop")
	}
	if l.closed {
		return nil
	}
	in.leave(l)
	err := l.l.Close()
	in.leave(l)
	l.closed = true
	l.futures = nil
	if err != nil && in.fatal == nil {
		return raise("RuntimeError", "%s", err.Error())
	}
	return nil
}

// end closes the loops that the program has left open.
func (in *Interp) end(th *Thread) {
	for _, l := range in.loops {
		if !l.closed {
			if err := in.closeLoop(l); err != nil && in.fatal == nil {
				in.complain("lab: " + err.Error() + "\n")
			}
		}
	}
	in.setLoop(nil)
}

// End is the time on the program's clock.
func (in *Interp) End() time.Duration { return in.now(nil) }

// report1 is told of errors that the library can give to nobody.
func (in *Interp) report1(l *loopObj, c asyncio.ExceptionContext) {
	if in.fatal != nil {
		return
	}
	if p, ok := errors.AsType[*asyncio.PanicError](c.Exception); ok {
		in.die(&Fatal{"lab: internal error: " + p.Error(), 70})
		if l.running {
			l.l.Stop()
		}
		return
	}
	th := &Thread{in: in, ctx: l.l.Context()}
	var o *Object
	msg := c.Message
	if c.Task != nil {
		for f, obj := range l.futures {
			if t := obj.native.(*future).task; t != nil && asyncio.AnyTask(t) == c.Task {
				o = obj
				_ = f
			}
		}
	}
	if o == nil && (strings.Contains(msg, "never retrieved") || strings.Contains(msg, "pending")) {
		for _, obj := range l.futures {
			f := obj.native.(*future)
			if e, ok := errors.AsType[*Raise](c.Exception); ok && f.err != nil {
				if r, ok := errors.AsType[*Raise](f.err); ok && r.exc == e.exc {
					o = obj
					break
				}
			}
		}
	}
	if o == nil && !strings.Contains(msg, "never retrieved") && c.Exception == nil {
		return // about a task of the lab's own
	}
	if o != nil && strings.Contains(msg, "never retrieved") && o.native.(*future).retrieved {
		return
	}
	l.lost(th, msg, c.Exception, o)
}

// lost gives an error that nobody has retrieved to the loop's exception handler.
func (l *loopObj) lost(th *Thread, msg string, err error, o *Object) {
	in := th.in
	d := newDict()
	d.setStr("message", msg)
	var exc *Object
	if err != nil {
		if e, ok := raised(th.pyError(err)); ok {
			exc = e
			d.setStr("exception", exc)
		}
	}
	if o != nil {
		if strings.Contains(msg, "pending") || strings.Contains(msg, "shutdown") {
			d.setStr("task", o)
		} else {
			d.setStr("future", o)
		}
	}
	l.handle(&Thread{in: in, ctx: l.l.Context()}, d)
}

// handle is loop.call_exception_handler.
func (l *loopObj) handle(th *Thread, d *Dict) {
	if l.handler != nil {
		_, err := th.call(l.handler, []Value{l.obj, d}, nil)
		if err == nil {
			return
		}
		if _, ok := raised(err); !ok {
			th.in.die(err)
			return
		}
		e := newDict()
		e.setStr("message", "Unhandled error in exception handler")
		exc, _ := raised(err)
		e.setStr("exception", exc)
		d = e
	}
	l.defaultHandler(th, d)
}

func (l *loopObj) defaultHandler(th *Thread, d *Dict) {
	var b strings.Builder
	msg, _ := d.getStr("message").(string)
	if msg == "" {
		msg = "Unhandled exception in event loop"
	}
	b.WriteString(msg + "\n")
	for _, e := range d.all() {
		key, _ := e.key.(string)
		if key == "message" || key == "exception" {
			continue
		}
		r, err := th.repr(e.value)
		if err != nil {
			r = "?"
		}
		fmt.Fprintf(&b, "%s: %s\n", key, r)
	}
	if exc, ok := d.getStr("exception").(*Object); ok && exc.exc != nil {
		b.WriteString(th.in.formatTraceback(exc))
	}
	th.in.complain(b.String())
}

// callback runs a callback of the loop.
func (in *Interp) callback(l *loopObj, fn Value, args []Value, vars *varsMap) {
	if in.fatal != nil {
		return
	}
	th := &Thread{in: in, ctx: l.l.Context(), vars: vars}
	_, err := th.call(fn, args, nil)
	if err == nil {
		return
	}
	exc, ok := raised(err)
	switch {
	case !ok:
		in.die(err)
		th.stopLoop()
	case exc.cls.isSub(excClasses["SystemExit"]), exc.cls.isSub(excClasses["KeyboardInterrupt"]):
		in.exiting = exc
		th.stopLoop()
	default:
		r, _ := th.repr(fn)
		d := newDict()
		d.setStr("message", "Exception in callback "+r)
		d.setStr("exception", exc)
		l.handle(th, d)
	}
}

type handle struct {
	cancel func()
	done   bool
	when   float64
}

func (in *Interp) loopTime(l *loopObj) float64 {
	if l.closed {
		return in.base.Seconds()
	}
	return secondsOf(l.base + l.l.Time().SinceStart())
}

// secondsOf is the float nearest to d in seconds.
func secondsOf(d time.Duration) float64 { return float64(d) / 1e9 }

// loopOf finds the loop that a function of asyncio means.
func (th *Thread) runningLoop() (*loopObj, error) {
	if l := th.in.loop; l != nil && l.running && !th.worker {
		return l, nil
	}
	return nil, raise("RuntimeError", "no running event loop")
}

// currentLoop is asyncio.get_event_loop: the running loop, else the one that has been set, else a
// new one with a warning.
func (th *Thread) currentLoop() *loopObj {
	in := th.in
	if in.loop == nil || in.loop.closed && in.loop.gensDone {
		in.complain(fmt.Sprintf("%s:%d: DeprecationWarning: There is no current event loop\n", in.file, th.line()))
		in.setLoop(in.newLoop())
	}
	return in.loop
}
