package vm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/goasyncio/asyncio"
)

var (
	futureClass, taskClass, loopClass, handleClass, timerHandleClass *Class
	cancelledError, invalidStateError                                *Class
)

// A future is what a Future or Task object stands for: a future of the library, and its task if it
// has one.
type future struct {
	fut       *asyncio.Future[Value]
	task      *asyncio.Task[Value]
	loop      *loopObj
	name      string
	coro      Value
	vars      *varsMap
	dropped   bool // nobody holds it but the loop
	shared    bool // it has been handed out by all_tasks or current_task
	retrieved bool // somebody has seen its outcome
	callbacks []*doneCallback
	waits     *pending // what its task waits for
	err       error    // with which it has ended
}

type doneCallback struct {
	fn    Value
	token *asyncio.DoneCallback
}

func futureOf(v Value) *future {
	if o, ok := v.(*Object); ok {
		if f, ok := o.native.(*future); ok {
			return f
		}
	}
	return nil
}

// await is what await of the future waits for.
func (f *future) await(_ *Thread, o *Object) *pending {
	return &pending{name: "Future", what: "a future", fut: o, do: func(th *Thread) (Value, error) {
		if th.task == o {
			r, _ := th.repr(o)
			return nil, raise("RuntimeError", "Task cannot await on itself: %s", r)
		}
		if f.loop != th.task.native.(*future).loop {
			t, _ := th.repr(th.task)
			r, _ := th.repr(o)
			return nil, raise("RuntimeError", "Task %s got Future %s attached to a different loop", t, r)
		}
		f.retrieved = true
		return f.fut.Await(th.ctx)
	}}
}

// pyError makes a Python exception of an error of the library.
func (th *Thread) pyError(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*Raise](err); ok {
		return &Raise{r.exc}
	}
	if f, ok := errors.AsType[*Fatal](err); ok {
		return f
	}
	if c, ok := errors.AsType[*asyncio.CancelledError](err); ok {
		exc := newExc(cancelledError)
		// In CPython the cancel of a timeout has no message.
		if c.Msg != "" && (c.Msg != "timed out" || c.By != "") {
			exc.exc.args = &Tuple{[]Value{c.Msg}}
		}
		exc.exc.cancel = err
		return &Raise{exc}
	}
	named := func(c *Class, args ...Value) error { return &Raise{newExc(c, args...)} }
	switch {
	case errors.Is(err, asyncio.ErrTimeout):
		exc := newExc(excClasses["TimeoutError"])
		exc.exc.cause, exc.exc.suppress = newExc(cancelledError), true
		return &Raise{exc}
	case errors.Is(err, asyncio.ErrInvalidState):
		return named(invalidStateError, "invalid state")
	case errors.Is(err, asyncio.ErrQueueEmpty):
		return named(asyncioExc("QueueEmpty"))
	case errors.Is(err, asyncio.ErrQueueFull):
		return named(asyncioExc("QueueFull"))
	case errors.Is(err, asyncio.ErrQueueShutDown):
		return named(asyncioExc("QueueShutDown"))
	case errors.Is(err, asyncio.ErrBrokenBarrier):
		return named(asyncioExc("BrokenBarrierError"))
	case errors.Is(err, asyncio.ErrLoopClosed):
		return &closing{}
	case errors.Is(err, asyncio.ErrDifferentLoop):
		return raise("RuntimeError", "this object is bound to a different event loop")
	case errors.Is(err, asyncio.ErrAwaitSelf):
		return raise("RuntimeError", "Task cannot await on itself")
	}
	if th.in.cfg.Context.Err() != nil {
		return th.in.die(&Fatal{"interrupted", 130})
	}
	return raise("RuntimeError", "%s", err.Error())
}

// closing says that the loop of a suspended task is being closed.
type closing struct{}

func (*closing) Error() string { return "the loop is being closed" }

// goError makes the error with which a task of the library ends.
func (th *Thread) goError(err error) error {
	exc, ok := raised(err)
	if !ok {
		return err
	}
	if exc.cls.isSub(cancelledError) {
		if exc.exc.cancel != nil {
			return exc.exc.cancel
		}
		c := &asyncio.CancelledError{}
		if len(exc.exc.args.items) > 0 {
			c.Msg, _ = exc.exc.args.items[0].(string)
		}
		return c
	}
	return &Raise{exc}
}

// drive runs a coroutine on the stack of the task that th belongs to. What it awaits at the bottom
// is a call of the library here.
func (th *Thread) drive(coro Value) (Value, error) {
	var sent Value = None
	var thrown error
	in := th.in
	var self *future
	if th.task != nil {
		self = th.task.native.(*future)
	}
	for {
		if in.hooks != nil {
			in.event(th, "step", placeOf(coro), "")
		}
		var v Value
		var more bool
		var err error
		if thrown != nil {
			v, more, err = th.throwTo(coro, thrown)
		} else {
			v, more, err = th.sendTo(coro, sent)
		}
		th.frame = nil
		if err != nil {
			return nil, th.ended(err)
		}
		if !more {
			return v, nil
		}
		sent, thrown = None, nil
		p, ok := v.(*pending)
		if !ok {
			if v == None {
				p = sleepPending(0)
			} else {
				r, err := th.repr(v)
				if err != nil {
					return nil, err
				}
				thrown = raise("RuntimeError", "Task got bad yield: %s", r)
				continue
			}
		}
		if self != nil {
			self.waits = p
		}
		if in.hooks != nil {
			in.event(th, "wait", placeOf(coro), p.name)
		}
		sent, err = p.do(th)
		if self != nil {
			self.waits = nil
		}
		if in.fatal != nil {
			return nil, in.fatal
		}
		if err != nil {
			thrown = th.pyError(err)
			switch thrown.(type) {
			case *Raise:
			case *closing:
				return nil, th.unwind(coro)
			default:
				return nil, th.ended(thrown)
			}
		}
		if sent == nil {
			sent = None
		}
	}
}

// unwind closes the coroutine of a task whose loop is closed under it.
func (th *Thread) unwind(coro Value) error {
	if g, ok := coro.(*Gen); ok {
		if err := g.close(th); err != nil {
			th.in.unraisable(th, err)
		}
	}
	return asyncio.ErrCancelled
}

// ended turns the error that a coroutine ended with into that of its task. Some errors end more
// than the task.
func (th *Thread) ended(err error) error {
	exc, ok := raised(err)
	switch {
	case !ok:
		th.in.die(err)
		th.stopLoop()
	case exc.cls.isSub(excClasses["SystemExit"]), exc.cls.isSub(excClasses["KeyboardInterrupt"]):
		if th.task != nil {
			th.in.exiting = exc
			th.task.native.(*future).retrieved = true
			th.stopLoop()
		}
	}
	return th.goError(err)
}

func (th *Thread) stopLoop() {
	if l := th.in.loop; l != nil && l.running {
		l.l.Stop()
	}
}

// newTask makes a task of a coroutine.
func (in *Interp) newTask(th *Thread, l *loopObj, coro Value, name string, vars *varsMap) (*Object, error) {
	if l.closed {
		return nil, raise("RuntimeError", "Event loop is closed")
	}
	switch c := coro.(type) {
	case *Gen:
		if c.kind != isCoroutine {
			return nil, notCoroutine(th, coro)
		}
		c.awaited = true
		if c.started && c.frame != nil {
			break
		}
	case *pending:
		if c.fut != nil || c.iter {
			return nil, notCoroutine(th, coro)
		}
		c.owned = true
	default:
		return nil, notCoroutine(th, coro)
	}
	if name == "" {
		in.names++
		name = fmt.Sprintf("Task-%d", in.names)
	}
	if vars == nil {
		vars = th.variables().copy()
	}
	o := &Object{cls: taskClass}
	f := &future{loop: l, name: name, coro: coro, vars: vars}
	o.native = f
	if err := th.alloc(512); err != nil {
		return nil, err
	}
	in.prune()
	in.all = append(in.all, o)
	f.task = asyncio.CreateTask(l.l.Context(), func(ctx context.Context) (Value, error) {
		t := &Thread{in: in, ctx: ctx, task: o, vars: vars}
		v, err := t.drive(coro)
		f.ended(in, t, o, v, err)
		return v, err
	}, asyncio.TaskName(name))
	f.fut = asyncio.EnsureFuture[Value](l.l.Context(), f.task)
	l.futures[f.fut] = o
	if in.hooks != nil {
		in.hooks.Event(Event{Kind: "task", Time: in.now(th), Task: name, Line: placeOf(coro), Text: coroName(coro)})
	}
	return o, nil
}

func (f *future) ended(in *Interp, th *Thread, o *Object, v Value, err error) {
	f.err = err
	for i, t := range in.all {
		if t == o {
			in.all = append(in.all[:i:i], in.all[i+1:]...)
			break
		}
	}
	if in.hooks != nil {
		text := ""
		if err != nil {
			text = err.Error()
		} else if v != None {
			text, _ = th.repr(v)
		}
		in.hooks.Event(Event{Kind: "done", Time: in.now(th), Task: f.name, Text: text})
	}
	if f.dropped && !f.shared && err != nil && len(f.callbacks) == 0 && !errors.Is(err, asyncio.ErrCancelled) && in.fatal == nil && in.exiting == nil {
		// CPython frees the task at the end of this step, and reports its error.
		f.fut.AddDoneCallback(func(fut *asyncio.Future[Value]) {
			if f.retrieved {
				return
			}
			f.retrieved = true
			if err := fut.Exception(); err != nil {
				f.loop.lost(th, "Task exception was never retrieved", err, o)
			}
		})
	}
}

func notCoroutine(th *Thread, v Value) error {
	r, err := th.repr(v)
	if err != nil {
		return err
	}
	return raise("TypeError", "a coroutine was expected, got %s", r)
}

// newFuture makes a Future object of a future of the library.
func (in *Interp) newFuture(l *loopObj, fut *asyncio.Future[Value]) *Object {
	o := &Object{cls: futureClass, native: &future{fut: fut, loop: l}}
	l.futures[fut] = o
	return o
}

// ensureFuture is asyncio.ensure_future.
func (in *Interp) ensureFuture(th *Thread, l *loopObj, v Value) (*Object, error) {
	switch x := v.(type) {
	case *Gen, *pending:
		return in.newTask(th, l, x, "", nil)
	case *genStep:
		return in.newTask(th, l, wrapAwaitable(th, v), "", nil)
	case *Object:
		if futureOf(x) != nil {
			return x, nil
		}
		if x.cls.lookup("__await__") != nil {
			return in.newTask(th, l, wrapAwaitable(th, v), "", nil)
		}
	}
	return nil, raise("TypeError", "An asyncio.Future, a coroutine or an awaitable is required")
}

// wrapAwaitable makes a coroutine of something that can be awaited.
func wrapAwaitable(th *Thread, v Value) *pending {
	return &pending{name: "_wrap_awaitable", do: func(th *Thread) (Value, error) {
		a, err := th.awaitable(v)
		if err != nil {
			return nil, err
		}
		return th.inline(th.ctx, a)
	}}
}

// inline runs an awaitable inside a call of the library that was given ctx, on the same task.
func (th *Thread) inline(ctx context.Context, v Value) (Value, error) {
	was := th.ctx
	th.ctx = ctx
	defer func() { th.ctx = was }()
	return th.drive(v)
}

// goAwaitable is v for calls of the library that await it themselves.
func (th *Thread) goAwaitable(v Value) (asyncio.Awaitable[Value], error) {
	if f := futureOf(v); f != nil {
		f.retrieved = true
		return f.fut, nil
	}
	a, err := th.awaitable(v)
	if err != nil {
		return nil, err
	}
	if g, ok := a.(*Gen); ok {
		g.awaited = true
	}
	return asyncio.Coroutine[Value](func(ctx context.Context) (Value, error) { return th.inline(ctx, a) }), nil
}

// seconds reads a delay.
func seconds(v Value) (time.Duration, error) {
	if !isNumber(v) {
		return 0, raise("TypeError", "'%s' object cannot be interpreted as a number of seconds", classOf(v).name)
	}
	f, err := toFloat(v)
	if err != nil {
		return 0, err
	}
	if f != f {
		return 0, raise("ValueError", "Invalid delay: NaN (not a number)")
	}
	if f > 9e9 {
		return asyncio.Forever, nil
	}
	return time.Duration(math.Round(max(f, -9e9) * 1e9)), nil
}

func sleepPending(d time.Duration) *pending {
	p := &pending{name: "sleep", do: func(th *Thread) (Value, error) { return None, asyncio.Sleep(th.ctx, d) }}
	if d <= 0 {
		p.what = "sleep(0)"
	}
	return p
}

func placeOf(coro Value) int {
	for {
		switch c := coro.(type) {
		case *Gen:
			if c.frame == nil || !c.started {
				return c.code.line
			}
			if c.frame.waiting && len(c.frame.stack) > 0 {
				if g, ok := c.frame.top().(*Gen); ok && g.code.file == c.code.file {
					coro = g
					continue
				}
			}
			return int(c.frame.pos().Line)
		case *pending:
			return int(c.made.Line)
		}
		return 0
	}
}

func coroName(coro Value) string {
	switch c := coro.(type) {
	case *Gen:
		return c.qual + "()"
	case *pending:
		return c.name + "()"
	}
	return ""
}

// futureRepr is repr of a future or task.
func (th *Thread) futureRepr(o *Object) (string, error) {
	f := o.native.(*future)
	state := "pending"
	cancelled := f.fut.Done() && f.fut.Cancelled()
	switch {
	case cancelled:
		state = "cancelled"
	case f.fut.Done():
		state = "finished"
	}
	s := "<" + o.cls.name + " "
	if f.task != nil && state == "pending" && f.task.Cancelling() > 0 {
		s += "cancelling"
	} else {
		s += state
	}
	if f.task != nil {
		s += " name=" + strRepr(f.name)
		switch c := f.coro.(type) {
		case *Gen:
			if c.frame == nil {
				s += fmt.Sprintf(" coro=<%s() done, defined at %s:%d>", c.qual, c.code.file, c.code.line)
			} else {
				line := c.code.line
				if c.started {
					line = int(c.frame.pos().Line)
				}
				s += fmt.Sprintf(" coro=<%s() running at %s:%d>", c.qual, c.code.file, line)
			}
		case *pending:
			s += fmt.Sprintf(" coro=<%s()>", c.name)
		}
		if state == "pending" && f.waits != nil && f.waits.fut != nil {
			s += " wait_for=<" + f.waits.fut.cls.name + " pending>"
		} else if state == "pending" && f.waits != nil && f.waits.what != "sleep(0)" {
			s += " wait_for=<Future pending cb=[Task.task_wakeup()]>"
		}
	}
	if state == "finished" {
		if f.err != nil {
			exc, _ := raised(f.err)
			r := "?"
			if exc != nil {
				var e error
				if r, e = th.repr(exc); e != nil {
					return "", e
				}
			}
			s += " exception=" + r
		} else {
			v, _ := f.fut.Result()
			r, err := th.repr(v)
			if err != nil {
				return "", err
			}
			s += " result=" + r
		}
	}
	return s + ">", nil
}
