package vm

import (
	"context"
	"github.com/goasyncio/asyncio"
	"strings"
)

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

// inThread runs a plain function in a thread of the executor. On a virtual clock it is a task of
// its own, in which time.sleep suspends, so that a run is the same every time.
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
		l.l.CallSoon(func() { // as call_soon_threadsafe of a real thread
			switch {
			case fut.Done():
			case err != nil:
				o.native.(*future).err = err
				_ = fut.SetException(err)
			default:
				_ = fut.SetResult(v)
			}
		})
		return None, nil
	}, asyncio.TaskName("thread"), asyncio.EagerStart(true))
	l.workers = append(l.workers, w)
	return o, nil
}
