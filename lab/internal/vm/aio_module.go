package vm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

var asyncioExceptions = map[string]*Class{}

func asyncioExc(name string) *Class { return asyncioExceptions[name] }

// varsMap is a context of contextvars.
type varsMap struct{ m map[*Object]Value }

func (v *varsMap) copy() *varsMap {
	c := &varsMap{m: make(map[*Object]Value, len(v.m))}
	for k, x := range v.m {
		c.m[k] = x
	}
	return c
}

func (th *Thread) variables() *varsMap {
	if th.vars == nil {
		th.vars = &varsMap{m: map[*Object]Value{}}
	}
	return th.vars
}

func contextArg(th *Thread, kw []KW) (*varsMap, error) {
	for _, k := range kw {
		if k.name != "context" {
			return nil, raise("TypeError", "unexpected keyword argument '%s'", k.name)
		}
		if o, ok := k.v.(*Object); ok {
			if v, ok := o.native.(*varsMap); ok {
				return v, nil
			}
		}
	}
	return th.variables().copy(), nil
}

func setupAsyncio() {
	exc := func(name, module string, bases ...*Class) *Class {
		c := builtinClass(name, bases...)
		c.module = module
		asyncioExceptions[name] = c
		return c
	}
	e := excClasses
	cancelledError = exc("CancelledError", "asyncio.exceptions", e["BaseException"])
	invalidStateError = exc("InvalidStateError", "asyncio.exceptions", e["Exception"])
	exc("BrokenBarrierError", "asyncio.exceptions", e["RuntimeError"])
	exc("IncompleteReadError", "asyncio.exceptions", e["EOFError"])
	exc("LimitOverrunError", "asyncio.exceptions", e["Exception"])
	exc("QueueEmpty", "asyncio.queues", e["Exception"])
	exc("QueueFull", "asyncio.queues", e["Exception"])
	exc("QueueShutDown", "asyncio.queues", e["Exception"])
	asyncioExceptions["TimeoutError"] = e["TimeoutError"]

	class := func(name, module string, bases ...*Class) *Class {
		c := builtinClass(name, bases...)
		c.module = module
		c.newFn = nil
		return c
	}
	futureClass = class("Future", "_asyncio")
	taskClass = class("Task", "_asyncio", futureClass)
	loopClass = class("_UnixSelectorEventLoop", "asyncio.unix_events")
	handleClass = class("Handle", "asyncio.events")
	timerHandleClass = class("TimerHandle", "asyncio.events", handleClass)
	for _, c := range []*Class{futureClass, taskClass, loopClass, handleClass, timerHandleClass} {
		c.final = true
	}
	futureMethods()
	loopMethods()
	syncClasses()
}

func futureMethods() {
	self := func(v Value) *future { return v.(*Object).native.(*future) }
	futureClass.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		a, err := arguments("Future", args, kw, "*", "loop?")
		if err != nil {
			return nil, err
		}
		l := th.currentLoopOr(a[0])
		if l.closed {
			return nil, raise("RuntimeError", "Event loop is closed")
		}
		return th.in.newFuture(l, asyncio.CreateFuture[Value](l.l.Context())), nil
	}
	taskClass.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		a, err := arguments("Task", args, kw, "coro", "*", "loop?", "name?", "context?", "eager_start?")
		if err != nil {
			return nil, err
		}
		if a[4] == true {
			return nil, th.outside("eager tasks")
		}
		if a[1] == nil {
			if _, err := th.runningLoop(); err != nil {
				return nil, err
			}
		}
		return th.createTask(th.currentLoopOr(a[1]), a[0], a[2], a[3])
	}
	c := futureClass
	c.def("done", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).fut.Done(), nil })
	c.def("cancelled", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).fut.Cancelled(), nil })
	c.def("cancel", "msg?", func(th *Thread, o Value, a []Value) (Value, error) {
		var msg []string
		if a[0] != nil && a[0] != None {
			s, ok := a[0].(string)
			if !ok {
				return nil, th.outside("a cancel message that is no string")
			}
			msg = []string{s}
		}
		return self(o).fut.Cancel(msg...), nil
	})
	c.def("result", "", func(th *Thread, o Value, _ []Value) (Value, error) {
		f := self(o)
		if !f.fut.Done() {
			return nil, &Raise{newExc(invalidStateError, "Result is not set.")}
		}
		f.retrieved = true
		v, err := f.fut.Result()
		if err != nil {
			return nil, th.pyError(err)
		}
		return orNoneV(v), nil
	})
	c.def("exception", "", func(th *Thread, o Value, _ []Value) (Value, error) {
		f := self(o)
		if !f.fut.Done() {
			return nil, &Raise{newExc(invalidStateError, "Exception is not set.")}
		}
		f.retrieved = true
		err := f.fut.Exception()
		if err == nil {
			return None, nil
		}
		err = th.pyError(err)
		if e, ok := raised(err); ok && !f.fut.Cancelled() {
			return e, nil
		}
		return nil, err
	})
	set := func(name string, fn func(th *Thread, f *future, v Value) error) {
		c.def(name, "value", func(th *Thread, o Value, a []Value) (Value, error) {
			f := self(o)
			if f.task != nil {
				return nil, raise("RuntimeError", "Task does not support %s operation", name)
			}
			if f.fut.Done() {
				r, err := th.repr(o)
				if err != nil {
					return nil, err
				}
				state := "FINISHED"
				if f.fut.Cancelled() {
					state = "CANCELLED"
				}
				return nil, &Raise{newExc(invalidStateError, state+": "+r)}
			}
			return None, fn(th, f, a[0])
		})
	}
	set("set_result", func(th *Thread, f *future, v Value) error { return th.pyError(f.fut.SetResult(v)) })
	set("set_exception", func(th *Thread, f *future, v Value) error {
		exc, err := th.toException(v, "invalid exception object")
		if err != nil {
			return err
		}
		if exc.cls.isSub(excClasses["StopIteration"]) {
			return raise("TypeError", "StopIteration interacts badly with generators and cannot be raised into a Future")
		}
		f.err = &Raise{exc}
		if exc.cls.isSub(cancelledError) {
			return th.outside("set_exception(CancelledError())")
		}
		return th.pyError(f.fut.SetException(f.err))
	})
	c.def("add_done_callback", "fn * context?", func(th *Thread, o Value, a []Value) (Value, error) {
		f := self(o)
		if f.loop.closed {
			return nil, raise("RuntimeError", "Event loop is closed")
		}
		cb := &doneCallback{fn: a[0]}
		in, l := th.in, f.loop
		vars := th.variables().copy()
		cb.token = f.fut.AddDoneCallback(func(*asyncio.Future[Value]) { in.callback(l, cb.fn, []Value{o}, vars) })
		f.callbacks = append(f.callbacks, cb)
		return None, th.alloc(128)
	})
	c.def("remove_done_callback", "fn", func(th *Thread, o Value, a []Value) (Value, error) {
		f := self(o)
		n := 0
		var kept []*doneCallback
		for _, cb := range f.callbacks {
			same, err := th.same(cb.fn, a[0])
			if err != nil {
				return nil, err
			}
			if same {
				n += f.fut.RemoveDoneCallback(cb.token)
			} else {
				kept = append(kept, cb)
			}
		}
		f.callbacks = kept
		return n, nil
	})
	c.def("get_loop", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).loop.obj, nil })
	iter := func(_ *Thread, o Value, _ []Value) (Value, error) {
		p := self(o).await(nil, o.(*Object))
		p.iter = true
		return p, nil
	}
	c.def("__await__", "", iter)
	c.def("__iter__", "", iter)
	c.def("__repr__", "", func(th *Thread, o Value, _ []Value) (Value, error) { return th.futureRepr(o.(*Object)) })
	t := taskClass
	t.def("get_name", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).name, nil })
	t.def("set_name", "value", func(th *Thread, o Value, a []Value) (Value, error) {
		s, err := th.str(a[0])
		if err != nil {
			return nil, err
		}
		self(o).name = s
		self(o).task.SetName(s)
		return None, nil
	})
	t.def("get_coro", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).coro, nil })
	t.def("uncancel", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).task.Uncancel(), nil })
	t.def("cancelling", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return self(o).task.Cancelling(), nil })
	for _, n := range []string{"get_stack", "print_stack", "get_context"} {
		outsideNames["Task."+n] = true
	}
}

func (th *Thread) currentLoopOr(v Value) *loopObj {
	if o, ok := v.(*Object); ok {
		if l, ok := o.native.(*loopObj); ok {
			return l
		}
	}
	return th.currentLoop()
}

// asyncioModule makes the part of module asyncio that is written in Go. The rest is in asyncio.py.
func asyncioModule(ns *NS) {
	for name, c := range asyncioExceptions {
		ns.set(name, c)
	}
	ns.set("Future", futureClass)
	ns.set("Task", taskClass)
	ns.set("Handle", handleClass)
	ns.set("TimerHandle", timerHandleClass)
	ns.set("AbstractEventLoop", loopClass)
	ns.set("BaseEventLoop", loopClass)
	ns.set("SelectorEventLoop", loopClass)
	for _, c := range syncTypes {
		ns.set(c.name, c)
	}
	for _, n := range []string{"FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"} {
		ns.set(n, n)
	}
	ns.def("sleep", "delay result?", func(th *Thread, a []Value) (Value, error) {
		d, err := seconds(a[0])
		p := th.newPending("sleep", func(th *Thread) (Value, error) {
			if err != nil {
				return nil, err
			}
			if e := asyncio.Sleep(th.ctx, d); e != nil {
				return nil, e
			}
			return orNoneV(a[1]), nil
		})
		if err == nil && d <= 0 {
			p.what = "sleep(0)"
		}
		return p, nil
	})
	ns.def("create_task", "coro * name? context?", func(th *Thread, a []Value) (Value, error) {
		l, err := th.runningLoop()
		if err != nil {
			return nil, err
		}
		return th.createTask(l, a[0], a[1], a[2])
	})
	ns.def("ensure_future", "coro_or_future * loop?", func(th *Thread, a []Value) (Value, error) {
		return th.in.ensureFuture(th, th.currentLoopOr(a[1]), a[0])
	})
	ns.def("get_running_loop", "", func(th *Thread, _ []Value) (Value, error) {
		l, err := th.runningLoop()
		if err != nil {
			return nil, err
		}
		return l.obj, nil
	})
	ns.def("get_event_loop", "", func(th *Thread, _ []Value) (Value, error) {
		if th.in.loop != nil && th.in.loop.gensDone && th.in.loop.closed {
			return nil, raise("RuntimeError", "There is no current event loop in thread 'MainThread'.")
		}
		return th.currentLoop().obj, nil
	})
	ns.def("new_event_loop", "", func(th *Thread, _ []Value) (Value, error) { return th.in.newLoop().obj, th.alloc(1 << 16) })
	ns.def("set_event_loop", "loop", func(th *Thread, a []Value) (Value, error) {
		if a[0] == None {
			th.in.setLoop(nil)
			return None, nil
		}
		if th.in.loop == nil || !th.in.loop.running {
			th.in.setLoop(th.currentLoopOr(a[0]))
		}
		return None, nil
	})
	ns.def("current_task", "loop?", func(th *Thread, _ []Value) (Value, error) {
		if _, err := th.runningLoop(); err != nil {
			return nil, err
		}
		if th.task == nil {
			return None, nil
		}
		th.task.native.(*future).shared = true
		return th.task, nil
	})
	ns.def("all_tasks", "loop?", func(th *Thread, a []Value) (Value, error) {
		l := th.in.loop
		if a[0] != nil && a[0] != None {
			l = th.currentLoopOr(a[0])
		} else if _, err := th.runningLoop(); err != nil {
			return nil, err
		}
		s := &Set{}
		for _, o := range th.in.all {
			if f := o.native.(*future); f.loop == l && !f.fut.Done() {
				f.shared = true
				if err := s.add(th, o); err != nil {
					return nil, err
				}
			}
		}
		return s, nil
	})
	ns.def("iscoroutine", "obj", func(_ *Thread, a []Value) (Value, error) { return isCoro(a[0]), nil })
	ns.def("isfuture", "obj", func(_ *Thread, a []Value) (Value, error) { return futureOf(a[0]) != nil, nil })
	ns.def("iscoroutinefunction", "func", func(_ *Thread, a []Value) (Value, error) { return isCoroFunction(a[0]), nil })
	ns.def("wait", "fs * timeout? return_when?", waitFn)
	ns.def("wait_for", "fut timeout", waitForFn)
	ns.def("shield", "arg", func(th *Thread, a []Value) (Value, error) {
		l := th.currentLoop()
		o, err := th.in.ensureFuture(th, l, a[0])
		if err != nil {
			return nil, err
		}
		inner := futureOf(o)
		if inner.fut.Done() {
			return o, nil
		}
		inner.retrieved = true
		return th.in.newFuture(l, asyncio.Shield[Value](l.l.Context(), inner.fut)), nil
	})
	ns.fn("gather", gatherFn)
	ns.fn("to_thread", func(th *Thread, args []Value, kw []KW) (Value, error) {
		if len(args) == 0 {
			return nil, raise("TypeError", "to_thread() missing 1 required positional argument: 'func'")
		}
		return th.newPending("to_thread", func(th *Thread) (Value, error) {
			l, err := th.runningLoop()
			if err != nil {
				return nil, err
			}
			o, err := th.inThread(l, args[0], args[1:], kw)
			if err != nil {
				return nil, err
			}
			return futureOf(o).fut.Await(th.ctx)
		}), nil
	})
	ns.def("_new_loop", "", func(th *Thread, _ []Value) (Value, error) {
		l := th.in.newLoop()
		return l.obj, th.alloc(1 << 16)
	})
	ns.def("_is_running", "", func(th *Thread, _ []Value) (Value, error) {
		return th.in.loop != nil && th.in.loop.running, nil
	})
	ns.def("_run", "loop coro name?", func(th *Thread, a []Value) (Value, error) {
		l := th.currentLoopOr(a[0])
		o, err := th.in.newTask(th, l, a[1], "", nil)
		if err != nil {
			return nil, err
		}
		return th.in.runUntil(th, l, futureOf(o))
	})
	ns.def("_shutdown", "loop", func(th *Thread, a []Value) (Value, error) {
		l := th.currentLoopOr(a[0])
		if l.closed {
			return None, nil
		}
		err := th.in.cancelAll(th, l)
		if err == nil {
			err = th.in.closeAsyncGens(th, l)
		}
		if e := th.in.closeLoop(l); err == nil {
			err = e
		}
		l.gensDone = true
		return None, err
	})
	ns.def("_is_coroutine", "obj", func(_ *Thread, a []Value) (Value, error) { return isCoro(a[0]), nil })
	for _, n := range strings.Fields("open_connection start_server open_unix_connection start_unix_server StreamReader StreamWriter create_subprocess_exec create_subprocess_shell " +
		"subprocess run_coroutine_threadsafe Protocol Transport DatagramProtocol BufferedProtocol eager_task_factory create_eager_task_factory Server get_child_watcher streams " +
		"wrap_future DefaultEventLoopPolicy get_event_loop_policy set_event_loop_policy WindowsSelectorEventLoopPolicy ThreadedChildWatcher tools capture_call_graph events tasks futures locks queues " +
		"base_events runners timeouts taskgroups log sslproto transports protocols") {
		outsideNames["asyncio."+n] = true
	}
}

func isCoro(v Value) bool {
	switch v := v.(type) {
	case *Gen:
		return v.kind == isCoroutine
	case *pending:
		return !v.iter && v.fut == nil
	}
	return false
}

func isCoroFunction(v Value) bool {
	switch v := v.(type) {
	case *Function:
		return v.code.async && !v.code.gen
	case *Method:
		return isCoroFunction(v.fn)
	case *Builtin:
		return v.name == "sleep" || v.name == "wait" || v.name == "wait_for"
	}
	return false
}

func waitFn(th *Thread, a []Value) (Value, error) {
	return th.newPending("wait", func(th *Thread) (Value, error) {
		if futureOf(a[0]) != nil || isCoro(a[0]) {
			return nil, raise("TypeError", "expect a list of futures, not %s", classOf(a[0]).name)
		}
		items, err := th.list(a[0])
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return nil, raise("ValueError", "Set of Tasks/Futures is empty.")
		}
		opts := []asyncio.WaitOption{}
		switch when := a[2]; when {
		case nil, "ALL_COMPLETED":
		case "FIRST_COMPLETED":
			opts = append(opts, asyncio.ReturnWhen(asyncio.FirstCompleted))
		case "FIRST_EXCEPTION":
			opts = append(opts, asyncio.ReturnWhen(asyncio.FirstException))
		default:
			r, _ := th.str(when)
			return nil, raise("ValueError", "Invalid return_when value: %s", r)
		}
		var futs []*asyncio.Future[Value]
		byFut := map[*asyncio.Future[Value]]*Object{}
		for _, v := range items {
			if isCoro(v) {
				return nil, raise("TypeError", "Passing coroutines is forbidden, use tasks explicitly.")
			}
			f := futureOf(v)
			if f == nil {
				return nil, raise("TypeError", "An asyncio.Future, a coroutine or an awaitable is required")
			}
			f.shared = true
			futs = append(futs, f.fut)
			byFut[f.fut] = v.(*Object)
		}
		if a[1] != nil && a[1] != None {
			d, err := seconds(a[1])
			if err != nil {
				return nil, err
			}
			opts = append(opts, asyncio.WaitTimeout(max(d, 0)))
		}
		done, left, err := asyncio.Wait(th.ctx, futs, opts...)
		if err != nil {
			return nil, err
		}
		toSet := func(fs []*asyncio.Future[Value]) *Set {
			s := &Set{}
			for _, f := range fs {
				_ = s.add(th, byFut[f])
			}
			return s
		}
		return &Tuple{[]Value{toSet(done), toSet(left)}}, nil
	}), nil
}

func waitForFn(th *Thread, a []Value) (Value, error) {
	if g, ok := a[0].(*Gen); ok {
		g.held = true
	}
	return th.newPending("wait_for", func(th *Thread) (Value, error) {
		d := asyncio.Forever
		if a[1] != None {
			var err error
			if d, err = seconds(a[1]); err != nil {
				return nil, err
			}
		}
		aw, err := th.goAwaitable(a[0])
		if err != nil {
			if isExc(err, "TypeError") {
				err = raise("TypeError", "An asyncio.Future, a coroutine or an awaitable is required")
			}
			return nil, err
		}
		return asyncio.WaitFor(th.ctx, aw, d)
	}), nil
}

// gatherFn is asyncio.gather. Awaited at once, it is the library's Gather in the calling task.
// Otherwise it is a task that runs Gather, begun at once.
func gatherFn(th *Thread, args []Value, kw []KW) (Value, error) {
	awaited := th.awaited
	keep := false
	for _, k := range kw {
		if k.name != "return_exceptions" {
			return nil, raise("TypeError", "gather() got an unexpected keyword argument '%s'", k.name)
		}
		var err error
		if keep, err = th.truth(k.v); err != nil {
			return nil, err
		}
	}
	l := th.currentLoop()
	var futs []*asyncio.Future[Value]
	made := map[Value]*asyncio.Future[Value]{}
	for _, v := range args {
		if f, ok := made[v]; ok {
			futs = append(futs, f)
			continue
		}
		o, err := th.in.ensureFuture(th, l, v)
		if err != nil {
			return nil, err
		}
		f := futureOf(o)
		f.retrieved = true
		made[v] = f.fut
		futs = append(futs, f.fut)
	}
	run := func(ctx context.Context, th *Thread) (Value, error) {
		out := &List{}
		if len(futs) == 0 {
			return out, nil
		}
		if !keep {
			vs, err := asyncio.Gather(ctx, futs...)
			if err != nil {
				return nil, err
			}
			for _, v := range vs {
				out.items = append(out.items, orNoneV(v))
			}
			return out, nil
		}
		rs, err := asyncio.GatherResults(ctx, futs...)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if r.Err == nil {
				out.items = append(out.items, orNoneV(r.Value))
				continue
			}
			e, ok := raised(th.pyError(r.Err))
			if !ok {
				return nil, r.Err
			}
			if e.cls == cancelledError && len(e.exc.args.items) == 0 { // as in CPython's gather
				e.exc.args = &Tuple{[]Value{""}}
			}
			out.items = append(out.items, e)
		}
		return out, nil
	}
	if len(futs) == 0 {
		f := asyncio.CreateFuture[Value](l.l.Context())
		_ = f.SetResult(&List{})
		return th.in.newFuture(l, f), nil
	}
	if awaited {
		return &pending{name: "gather", what: "gather", do: func(th *Thread) (Value, error) { return run(th.ctx, th) }}, nil
	}
	in := th.in
	task := asyncio.CreateTask(l.l.Context(), func(ctx context.Context) (Value, error) {
		return run(ctx, &Thread{in: in, ctx: ctx})
	}, asyncio.TaskName("gather"), asyncio.EagerStart(true))
	o := in.newFuture(l, asyncio.EnsureFuture[Value](l.l.Context(), task))
	return o, nil
}

func timeModule(ns *NS) {
	ns.def("sleep", "seconds", func(th *Thread, a []Value) (Value, error) {
		d, err := seconds(a[0])
		if err != nil {
			return nil, err
		}
		if d < 0 {
			return nil, raise("ValueError", "sleep length must be non-negative")
		}
		return None, th.in.block(th, d)
	})
	clock := func(name string, offset float64, ns_ bool) {
		ns.def(name, "", func(th *Thread, _ []Value) (Value, error) {
			d := th.in.now(th)
			if ns_ {
				return int(d) + int(offset*1e9), nil
			}
			return offset + secondsOf(d), nil
		})
	}
	// On a virtual clock the program begins when all virtual clocks do.
	begin := float64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	clock("time", begin, false)
	clock("time_ns", begin, true)
	clock("monotonic", 0, false)
	clock("monotonic_ns", 0, true)
	clock("perf_counter", 0, false)
	clock("perf_counter_ns", 0, true)
	ns.def("strftime", "format t?", func(th *Thread, a []Value) (Value, error) {
		f, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		if a[1] != nil {
			return nil, th.outside("strftime() with a time")
		}
		now := time.Unix(int64(begin), 0).UTC().Add(th.in.now(th))
		if !th.in.cfg.Virtual {
			now = time.Now()
		}
		out := f
		for verb, layout := range map[string]string{"%H": "15", "%M": "04", "%S": "05", "%Y": "2006", "%m": "01", "%d": "02"} {
			out = strings.ReplaceAll(out, verb, now.Format(layout))
		}
		out = strings.ReplaceAll(strings.ReplaceAll(out, "%X", now.Format("15:04:05")), "%T", now.Format("15:04:05"))
		if strings.Contains(out, "%") {
			return nil, th.outside("strftime(%s)", strRepr(f))
		}
		return out, nil
	})
	for _, n := range strings.Fields("process_time thread_time localtime gmtime ctime asctime mktime strptime get_clock_info timezone") {
		outsideNames["time."+n] = true
	}
	_ = fmt.Sprint
}
