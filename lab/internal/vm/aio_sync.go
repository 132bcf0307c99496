package vm

import (
	"fmt"

	"github.com/goasyncio/asyncio"
)

var syncTypes []*Class

// A waitable method: a coroutine of one call of the library.
func (c *Class) async(name, names string, fn func(th *Thread, self *Object, a []Value) (Value, error)) {
	c.def(name, names, func(th *Thread, self Value, a []Value) (Value, error) {
		return th.newPending(name, func(th *Thread) (Value, error) { return fn(th, self.(*Object), a) }), nil
	})
}

func syncClass(name, module string, newFn func(th *Thread, o *Object, a []Value) error, params ...string) *Class {
	c := builtinClass(name)
	c.module = module
	c.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		o := &Object{cls: cls}
		if cls != c && cls.lookup("__init__") != nil {
			args, kw = nil, nil // the program's own __init__ takes them, and calls ours
			if len(params) > 0 && params[0] == "parties" {
				return o, nil
			}
		}
		a, err := arguments(name, args, kw, params...)
		if err != nil {
			return nil, err
		}
		return o, newFn(th, o, a)
	}
	c.method("__init__", func(th *Thread, args []Value, kw []KW) (Value, error) {
		o := args[0].(*Object)
		a, err := arguments(name, args[1:], kw, params...)
		if err != nil {
			return nil, err
		}
		if o.native == nil || o.cls != c {
			return None, newFn(th, o, a)
		}
		return None, nil
	})
	syncTypes = append(syncTypes, c)
	return c
}

// locking gives a class acquire, release and async with.
func locking(c *Class, acquire func(th *Thread, o *Object) error, release func(th *Thread, o *Object) error, locked func(o *Object) bool) {
	c.async("acquire", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return true, acquire(th, o) })
	c.def("release", "", func(th *Thread, o Value, _ []Value) (Value, error) { return None, release(th, o.(*Object)) })
	c.def("locked", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return locked(o.(*Object)), nil })
	c.async("__aenter__", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return None, acquire(th, o) })
	c.async("__aexit__", "exc_type exc tb", func(th *Thread, o *Object, _ []Value) (Value, error) { return None, release(th, o) })
}

func syncClasses() {
	lock := func(o *Object) *asyncio.Lock { return o.native.(*asyncio.Lock) }
	lockClass := syncClass("Lock", "asyncio.locks", func(_ *Thread, o *Object, _ []Value) error {
		o.native = &asyncio.Lock{}
		return nil
	})
	locking(lockClass, func(th *Thread, o *Object) error { return lock(o).Acquire(th.ctx) }, func(_ *Thread, o *Object) error {
		if !lock(o).Locked() {
			return raise("RuntimeError", "Lock is not acquired.")
		}
		lock(o).Release()
		return nil
	}, func(o *Object) bool { return lock(o).Locked() })
	status := func(c *Class, of func(o *Object) (string, int)) {
		c.def("__repr__", "", func(th *Thread, v Value, _ []Value) (Value, error) {
			s, waiters := of(v.(*Object))
			if waiters > 0 {
				s += fmt.Sprintf(", waiters:%d", waiters)
			}
			return fmt.Sprintf("<%s object at %s [%s]>", classOf(v).fullName(), th.in.address(v), s), nil
		})
	}
	lockWord := func(locked bool) string {
		if locked {
			return "locked"
		}
		return "unlocked"
	}
	status(lockClass, func(o *Object) (string, int) { return lockWord(lock(o).Locked()), len(lock(o).Statistics().Waiters) })

	event := func(v Value) *asyncio.Event { return v.(*Object).native.(*asyncio.Event) }
	e := syncClass("Event", "asyncio.locks", func(_ *Thread, o *Object, _ []Value) error {
		o.native = &asyncio.Event{}
		return nil
	})
	e.def("set", "", func(_ *Thread, o Value, _ []Value) (Value, error) { event(o).Set(); return None, nil })
	e.def("clear", "", func(_ *Thread, o Value, _ []Value) (Value, error) { event(o).Clear(); return None, nil })
	e.def("is_set", "", func(_ *Thread, o Value, _ []Value) (Value, error) { return event(o).IsSet(), nil })
	e.async("wait", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return true, event(o).Wait(th.ctx) })
	status(e, func(o *Object) (string, int) {
		return map[bool]string{true: "set", false: "unset"}[event(o).IsSet()], len(event(o).Statistics().Waiters)
	})
	conditionClass(lockClass)
	semaphoreClasses()
	barrierClass()
	queueClasses()
}

func conditionClass(lockClass *Class) {
	cond := func(v Value) *asyncio.Condition { return v.(*Object).native.(*asyncio.Condition) }
	c := syncClass("Condition", "asyncio.locks", func(_ *Thread, o *Object, a []Value) error {
		var l *asyncio.Lock
		if a[0] != nil && a[0] != None {
			k, ok := a[0].(*Object)
			if !ok || !k.cls.isSub(lockClass) {
				return raise("TypeError", "a Lock is required")
			}
			l = k.native.(*asyncio.Lock)
		}
		o.native = asyncio.NewCondition(l)
		return nil
	}, "lock?")
	locking(c, func(th *Thread, o *Object) error { return cond(o).Acquire(th.ctx) }, func(_ *Thread, o *Object) error {
		if !cond(o).Locked() {
			return raise("RuntimeError", "Lock is not acquired.")
		}
		cond(o).Release()
		return nil
	}, func(o *Object) bool { return cond(o).Locked() })
	must := func(o Value, what string) error {
		if !cond(o).Locked() {
			return raise("RuntimeError", "cannot %s on un-acquired lock", what)
		}
		return nil
	}
	c.async("wait", "", func(th *Thread, o *Object, _ []Value) (Value, error) {
		if err := must(o, "wait"); err != nil {
			return nil, err
		}
		return true, cond(o).Wait(th.ctx)
	})
	c.async("wait_for", "predicate", func(th *Thread, o *Object, a []Value) (Value, error) {
		for {
			r, err := th.call(a[0], nil, nil)
			if err != nil {
				return nil, err
			}
			if ok, err := th.truth(r); err != nil || ok {
				return r, err
			}
			if err := must(o, "wait"); err != nil {
				return nil, err
			}
			if err := cond(o).Wait(th.ctx); err != nil {
				return nil, err
			}
		}
	})
	c.def("notify", "n?", func(_ *Thread, o Value, a []Value) (Value, error) {
		if err := must(o, "notify"); err != nil {
			return nil, err
		}
		n, err := intArg(a[0], 1)
		if err == nil && n > 0 {
			cond(o).Notify(n)
		}
		return None, err
	})
	c.def("notify_all", "", func(_ *Thread, o Value, _ []Value) (Value, error) {
		if err := must(o, "notify"); err != nil {
			return nil, err
		}
		cond(o).NotifyAll()
		return None, nil
	})
}

type semaphore struct {
	s     *asyncio.Semaphore
	b     *asyncio.BoundedSemaphore
	bound int
}

func semaphoreClasses() {
	sem := func(v Value) *semaphore { return v.(*Object).native.(*semaphore) }
	value := func(s *semaphore) int {
		if s.b != nil {
			return s.b.Statistics().Value
		}
		return s.s.Statistics().Value
	}
	for _, name := range []string{"Semaphore", "BoundedSemaphore"} {
		c := syncClass(name, "asyncio.locks", func(_ *Thread, o *Object, a []Value) error {
			n, err := intArg(a[0], 1)
			if err != nil {
				return err
			}
			if n < 0 {
				return raise("ValueError", "Semaphore initial value must be >= 0")
			}
			if name == "Semaphore" {
				o.native = &semaphore{s: asyncio.NewSemaphore(n)}
			} else {
				o.native = &semaphore{b: asyncio.NewBoundedSemaphore(n), bound: n}
			}
			return nil
		}, "value?")
		locking(c, func(th *Thread, o *Object) error {
			if s := sem(o); s.b != nil {
				return s.b.Acquire(th.ctx)
			}
			return sem(o).s.Acquire(th.ctx)
		}, func(_ *Thread, o *Object) error {
			s := sem(o)
			if s.b == nil {
				s.s.Release()
				return nil
			}
			if value(s) >= s.bound {
				return raise("ValueError", "BoundedSemaphore released too many times")
			}
			s.b.Release()
			return nil
		}, func(o *Object) bool {
			if s := sem(o); s.b != nil {
				return s.b.Locked()
			}
			return sem(o).s.Locked()
		})
		c.ns.set("_value", &getset{get: func(_ *Thread, v Value) (Value, error) { return value(sem(v)), nil }})
	}
}

func barrierClass() {
	bar := func(v Value) *asyncio.Barrier { return v.(*Object).native.(*asyncio.Barrier) }
	c := syncClass("Barrier", "asyncio.locks", func(_ *Thread, o *Object, a []Value) error {
		n, err := intArg(a[0], 0)
		if err != nil {
			return err
		}
		if n < 1 {
			return raise("ValueError", "parties must be >= 1")
		}
		o.native = asyncio.NewBarrier(n)
		return nil
	}, "parties")
	wait := func(th *Thread, o *Object, _ []Value) (Value, error) {
		i, err := bar(o).Wait(th.ctx)
		return i, err
	}
	c.async("wait", "", wait)
	c.async("__aenter__", "", wait)
	c.async("__aexit__", "exc_type exc tb", func(*Thread, *Object, []Value) (Value, error) { return None, nil })
	c.async("reset", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return None, bar(o).Reset(th.ctx) })
	c.async("abort", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return None, bar(o).Abort(th.ctx) })
	get := func(name string, fn func(b *asyncio.Barrier) Value) {
		c.ns.set(name, &getset{get: func(_ *Thread, v Value) (Value, error) { return fn(bar(v)), nil }})
	}
	get("parties", func(b *asyncio.Barrier) Value { return b.Parties() })
	get("n_waiting", func(b *asyncio.Barrier) Value { return b.NWaiting() })
	get("broken", func(b *asyncio.Barrier) Value { return b.Broken() })
}

// A queue is one of the three kinds.
type queue struct {
	asyncio.AnyQueue[Value]
	fifo *asyncio.Queue[Value]
	th   *Thread // that calls it now, for comparisons
	err  error   // of a comparison
}

// failed returns the error of a comparison in the call that has just ended.
func (q *queue) failed(err error) error {
	if q.err != nil {
		err, q.err = q.err, nil
	}
	return err
}

func queueClasses() {
	self := func(th *Thread, v Value) *queue {
		q := v.(*Object).native.(*queue)
		q.th = th
		return q
	}
	for _, name := range []string{"Queue", "PriorityQueue", "LifoQueue"} {
		c := syncClass(name, "asyncio.queues", func(_ *Thread, o *Object, a []Value) error {
			n, err := intArg(a[0], 0)
			if err != nil {
				return err
			}
			q := &queue{}
			switch name {
			case "Queue":
				q.fifo = asyncio.NewQueue[Value](n)
			case "LifoQueue":
				q.fifo = &asyncio.NewLifoQueue[Value](n).Queue
			default:
				q.fifo = &asyncio.NewPriorityQueue(n, func(x, y Value) int {
					if q.err != nil {
						return 0
					}
					less, err := q.th.less(x, y)
					if err == nil && less {
						return -1
					}
					if err == nil {
						less, err = q.th.less(y, x)
					}
					if err != nil {
						q.err = err
						return 0
					}
					if less {
						return 1
					}
					return 0
				}).Queue
			}
			o.native = q
			return nil
		}, "maxsize?")
		c.async("put", "item", func(th *Thread, o *Object, a []Value) (Value, error) {
			q := self(th, o)
			err := q.fifo.Put(th.ctx, a[0])
			return None, q.failed(err)
		})
		c.async("get", "", func(th *Thread, o *Object, _ []Value) (Value, error) {
			q := self(th, o)
			v, err := q.fifo.Get(th.ctx)
			return v, q.failed(err)
		})
		c.async("join", "", func(th *Thread, o *Object, _ []Value) (Value, error) { return None, self(th, o).fifo.Join(th.ctx) })
		c.def("put_nowait", "item", func(th *Thread, o Value, a []Value) (Value, error) {
			q := self(th, o)
			return None, th.pyError(q.failed(q.fifo.PutNowait(a[0])))
		})
		c.def("get_nowait", "", func(th *Thread, o Value, _ []Value) (Value, error) {
			q := self(th, o)
			v, err := q.fifo.GetNowait()
			return v, th.pyError(q.failed(err))
		})
		c.def("task_done", "", func(th *Thread, o Value, _ []Value) (Value, error) {
			q := self(th, o)
			if q.fifo.Statistics().Unfinished == 0 {
				return nil, raise("ValueError", "task_done() called too many times")
			}
			q.fifo.TaskDone()
			return None, nil
		})
		c.def("qsize", "", func(th *Thread, o Value, _ []Value) (Value, error) { return self(th, o).fifo.Qsize(), nil })
		c.def("empty", "", func(th *Thread, o Value, _ []Value) (Value, error) { return self(th, o).fifo.Empty(), nil })
		c.def("full", "", func(th *Thread, o Value, _ []Value) (Value, error) { return self(th, o).fifo.Full(), nil })
		c.def("shutdown", "immediate?", func(th *Thread, o Value, a []Value) (Value, error) {
			now := false
			if a[0] != nil {
				var err error
				if now, err = th.truth(a[0]); err != nil {
					return nil, err
				}
			}
			self(th, o).fifo.Shutdown(now)
			return None, nil
		})
		c.ns.set("maxsize", &getset{get: func(th *Thread, v Value) (Value, error) { return self(th, v).fifo.Maxsize(), nil }})
		c.ns.set("_unfinished_tasks", &getset{get: func(th *Thread, v Value) (Value, error) { return self(th, v).fifo.Statistics().Unfinished, nil }})
	}
	syncTypes[len(syncTypes)-2].bases = []*Class{syncTypes[len(syncTypes)-3]}
}
