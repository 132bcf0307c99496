package vm

import (
	"context"
	"errors"
	"fmt"
	"math"
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
		if _, err := in.newTask(t, l, wrapAwaitable(t, step), "", nil); err != nil {
			in.unraisable(t, err)
		}
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

func loopMethods() {
	c := loopClass
	self := func(v Value) *loopObj { return v.(*Object).native.(*loopObj) }
	open := func(l *loopObj) error {
		if l.closed {
			return raise("RuntimeError", "Event loop is closed")
		}
		return nil
	}
	c.def("time", "", func(th *Thread, o Value, _ []Value) (Value, error) { return th.in.loopTime(self(o)), nil })
	c.def("is_running", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).running, nil })
	c.def("is_closed", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).closed, nil })
	c.def("get_debug", "", func(*Thread, Value, []Value) (Value, error) { return false, nil })
	c.def("set_debug", "enabled", func(th *Thread, _ Value, a []Value) (Value, error) {
		if a[0] == true {
			return nil, th.outside("debug mode")
		}
		return None, nil
	})
	c.def("close", "", func(th *Thread, o Value, _ []Value) (Value, error) { return None, th.in.closeLoop(self(o)) })
	c.def("stop", "", func(_ *Thread, o Value, _ []Value) (Value, error) {
		if err := open(self(o)); err != nil {
			return nil, err
		}
		self(o).l.Stop()
		return None, nil
	})
	c.def("run_until_complete", "future", func(th *Thread, o Value, a []Value) (Value, error) {
		l := self(o)
		if l.closed {
			return nil, raise("RuntimeError", "Event loop is closed")
		}
		if l.running {
			return nil, raise("RuntimeError", "This event loop is already running")
		}
		if th.in.loop != nil && th.in.loop.running {
			return nil, raise("RuntimeError", "Cannot run the event loop while another loop is running")
		}
		f, err := th.in.ensureFuture(th, l, a[0])
		if err != nil {
			return nil, err
		}
		return th.in.runUntil(th, l, futureOf(f))
	})
	c.def("run_forever", "", func(th *Thread, o Value, _ []Value) (Value, error) {
		l := self(o)
		return th.in.running(th, l, func() (Value, error) { return None, l.l.RunForever() })
	})
	c.def("create_future", "", func(th *Thread, o Value, _ []Value) (Value, error) {
		if err := open(self(o)); err != nil {
			return nil, err
		}
		return th.in.newFuture(self(o), asyncio.CreateFuture[Value](self(o).l.Context())), th.alloc(256)
	})
	c.def("create_task", "coro * name? context?", func(th *Thread, o Value, a []Value) (Value, error) {
		return th.createTask(self(o), a[0], a[1], a[2])
	})
	handleFor := func(l *loopObj, cls *Class) (*handle, *Object) {
		h := &handle{}
		return h, &Object{cls: cls, native: h}
	}
	soon := func(name string) {
		c.method(name, func(th *Thread, args []Value, kw []KW) (Value, error) {
			l := self(args[0])
			if err := open(l); err != nil {
				return nil, err
			}
			if len(args) < 2 {
				return nil, raise("TypeError", "%s() missing 1 required positional argument: 'callback'", name)
			}
			vars, err := contextArg(th, kw)
			if err != nil {
				return nil, err
			}
			if err := notCoroutineCallback(args[1], name); err != nil {
				return nil, err
			}
			h, obj := handleFor(l, handleClass)
			fn, rest := args[1], args[2:]
			in := th.in
			g := l.l.CallSoon(func() { in.callback(l, fn, rest, vars) })
			h.cancel = g.Cancel
			return obj, th.alloc(128)
		})
	}
	soon("call_soon")
	soon("call_soon_threadsafe")
	timer := func(name string, at bool) {
		c.method(name, func(th *Thread, args []Value, kw []KW) (Value, error) {
			l := self(args[0])
			if err := open(l); err != nil {
				return nil, err
			}
			if len(args) < 3 {
				return nil, raise("TypeError", "%s() missing required positional arguments", name)
			}
			vars, err := contextArg(th, kw)
			if err != nil {
				return nil, err
			}
			if err := notCoroutineCallback(args[2], name); err != nil {
				return nil, err
			}
			d, err := seconds(args[1])
			if err != nil {
				return nil, err
			}
			when := l.l.Time().Add(d)
			if at {
				when = asyncio.Instant{}.Add(d - l.base)
			}
			h, obj := handleFor(l, timerHandleClass)
			h.when = secondsOf(l.base + when.SinceStart())
			fn, rest := args[2], args[3:]
			in := th.in
			t := l.l.CallAt(when, func() {
				h.done = true
				in.callback(l, fn, rest, vars)
			})
			h.cancel = t.Cancel
			return obj, th.alloc(128)
		})
	}
	timer("call_later", false)
	timer("call_at", true)
	c.def("set_exception_handler", "handler", func(_ *Thread, o Value, a []Value) (Value, error) {
		self(o).handler = a[0]
		if a[0] == None {
			self(o).handler = nil
		}
		return None, nil
	})
	c.def("get_exception_handler", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return orNoneV(self(o).handler), nil })
	ctxArg := func(v Value) (*Dict, error) {
		d, ok := v.(*Dict)
		if !ok {
			return nil, raise("TypeError", "context must be a dict")
		}
		return d, nil
	}
	c.def("default_exception_handler", "context", func(th *Thread, o Value, a []Value) (Value, error) {
		d, err := ctxArg(a[0])
		if err == nil {
			self(o).defaultHandler(th, d)
		}
		return None, err
	})
	c.def("call_exception_handler", "context", func(th *Thread, o Value, a []Value) (Value, error) {
		d, err := ctxArg(a[0])
		if err == nil {
			self(o).handle(th, d)
		}
		return None, err
	})
	c.method("run_in_executor", func(th *Thread, args []Value, kw []KW) (Value, error) {
		if len(args) < 3 || len(kw) > 0 {
			return nil, raise("TypeError", "run_in_executor() takes an executor, a function and its positional arguments")
		}
		return th.inThread(self(args[0]), args[2], args[3:], nil)
	})
	c.def("shutdown_asyncgens", "", func(th *Thread, o Value, _ []Value) (Value, error) {
		return th.newPending("shutdown_asyncgens", func(th *Thread) (Value, error) { return None, nil }), nil
	})
	c.def("shutdown_default_executor", "timeout?", func(th *Thread, o Value, _ []Value) (Value, error) {
		return th.newPending("shutdown_default_executor", func(th *Thread) (Value, error) { return None, nil }), nil
	})
	h := func(v Value) *handle { return v.(*Object).native.(*handle) }
	for _, c := range []*Class{handleClass, timerHandleClass} {
		c.def("cancel", "", func(_ *Thread, o Value, _ []Value) (Value, error) {
			if k := h(o); k.cancel != nil {
				k.cancel()
			}
			h(o).cancel = nil
			return None, nil
		})
		c.def("cancelled", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return h(o).cancel == nil, nil })
	}
	timerHandleClass.def("when", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return h(o).when, nil })
	for _, n := range strings.Fields("add_reader remove_reader add_writer remove_writer add_signal_handler remove_signal_handler create_connection create_server " +
		"create_datagram_endpoint sock_recv sock_sendall sock_connect sock_accept subprocess_exec subprocess_shell getaddrinfo getnameinfo set_task_factory get_task_factory " +
		"set_default_executor slow_callback_duration start_tls sendfile connect_read_pipe connect_write_pipe create_unix_connection create_unix_server") {
		outsideNames[c.name+"."+n] = true
	}
}

func notCoroutineCallback(fn Value, name string) error {
	if f, ok := fn.(*Function); ok && f.code.async && !f.code.gen {
		return raise("TypeError", "coroutines cannot be used with %s()", name)
	}
	if g, ok := fn.(*Gen); ok && g.kind == isCoroutine {
		return raise("TypeError", "coroutines cannot be used with %s()", name)
	}
	return nil
}

func (th *Thread) createTask(l *loopObj, coro, name, ctx Value) (Value, error) {
	n := ""
	if name != nil && name != None {
		var err error
		if n, err = th.str(name); err != nil {
			return nil, err
		}
	}
	var vars *varsMap
	if ctx != nil && ctx != None {
		o, ok := ctx.(*Object)
		if ok {
			vars, ok = o.native.(*varsMap)
		}
		if !ok {
			return nil, raise("TypeError", "a Context is required")
		}
	}
	return th.in.newTask(th, l, coro, n, vars)
}

// inThread runs a plain function in a thread of the executor. On a virtual clock it is a task of its
// own, in which time.sleep suspends, so that a run is the same every time.
func (th *Thread) inThread(l *loopObj, fn Value, args []Value, kw []KW) (Value, error) {
	if f, ok := fn.(*Function); ok && f.code.async {
		return nil, th.outside("a coroutine function in a thread")
	}
	in := th.in
	vars := th.variables().copy()
	fut := asyncio.CreateFuture[Value](l.l.Context())
	o := in.newFuture(l, fut)
	w := asyncio.CreateTask(l.l.Context(), func(ctx context.Context) (Value, error) {
		t := &Thread{in: in, ctx: ctx, worker: true, vars: vars}
		v, err := t.call(fn, args, kw)
		if err != nil {
			if _, ok := raised(err); !ok {
				in.die(err)
				t.stopLoop()
				return nil, err
			}
		}
		if fut.Done() {
			return None, nil
		}
		if err != nil {
			o.native.(*future).err = err
			return None, fut.SetException(err)
		}
		return None, fut.SetResult(v)
	}, asyncio.TaskName("thread"), asyncio.EagerStart(true))
	l.workers = append(l.workers, w)
	return o, nil
}

func instantSeconds(f float64) time.Duration { return time.Duration(math.Round(f * 1e9)) }
