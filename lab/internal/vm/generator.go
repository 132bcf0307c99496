package vm

import (
	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

type genKind uint8

const (
	isGenerator genKind = iota
	isCoroutine
	isAsyncGen
)

// A Gen is a generator, coroutine or asynchronous generator: a frame that can be suspended.
type Gen struct {
	kind     genKind
	frame    *Frame // nil once it has ended
	name     string
	qual     string
	code     *Code
	started  bool
	running  bool
	awaited  bool // a coroutine that something has begun to await, or has closed
	made     syntax.Pos
	madeIn   *Code
	held     bool // more than the expression that made it refers to it
	stepping bool // an asynchronous generator in the middle of a step
	closed   bool
	in       *Interp
	from     *Gen // what it awaits now, for its place
}

// asyncValue is what an asynchronous generator yields, as opposed to what it awaits.
type asyncValue struct{ v Value }

func (th *Thread) newGen(f *Frame, fn *Function) *Gen {
	g := &Gen{frame: f, name: fn.name, qual: fn.qual, code: fn.code, in: th.in}
	switch {
	case fn.code.async && fn.code.gen:
		g.kind = isAsyncGen
		th.in.asyncGens = append(th.in.asyncGens, g)
	case fn.code.async:
		g.kind = isCoroutine
		if th.frame != nil {
			g.made, g.madeIn = th.frame.pos(), th.frame.code
		}
		th.in.coroutines = append(th.in.coroutines, g)
	}
	return g
}

func (g *Gen) what() string {
	switch g.kind {
	case isCoroutine:
		return "coroutine"
	case isAsyncGen:
		return "async generator"
	}
	return "generator"
}

// resume runs g until it yields (more) or returns. thrown, if there is one, is raised where it is
// suspended.
func (g *Gen) resume(th *Thread, sent Value, thrown error) (v Value, more bool, err error) {
	if g.running {
		return nil, false, raise("ValueError", "%s already executing", g.what())
	}
	g.awaited = true
	f := g.frame
	if f == nil {
		if thrown != nil && g.kind != isCoroutine {
			return nil, false, thrown
		}
		if g.kind == isCoroutine {
			return nil, false, raise("RuntimeError", "cannot reuse already awaited coroutine")
		}
		return None, false, nil
	}
	if !g.started {
		if thrown == nil && sent != None {
			return nil, false, raise("TypeError", "can't send non-None value to a just-started %s", g.what())
		}
		g.started = true
		if thrown != nil {
			g.frame = nil
			exc, ok := raised(thrown)
			if ok {
				f.pc = 0
				p := f.pos()
				p.Line = int32(f.code.line)
				exc.exc.tb = append(exc.exc.tb, tbEntry{f.code, p})
			}
			return nil, false, thrown
		}
	} else if f.waiting {
		if thrown != nil {
			// The exception goes down to what g awaits, and may be caught there.
			g.running = true
			f.back, th.frame = th.frame, f
			v, more, err = th.throwTo(f.top(), thrown)
			th.frame = f.back
			g.running = false
			if err == nil && more {
				return v, true, nil
			}
			f.waiting = false
			thrown = err
			if err == nil {
				f.stack[len(f.stack)-1] = v
				f.pc++
			}
		} else {
			f.sent = sent
		}
	} else if thrown == nil {
		f.push(sent)
	} else {
		f.pc-- // the yield is where it is raised
	}
	g.running = true
	v, more, err = th.run(f, thrown)
	g.running = false
	if more {
		return v, true, nil
	}
	g.frame = nil
	if exc, ok := raised(err); ok {
		stop := ""
		switch {
		case exc.cls.isSub(excClasses["StopIteration"]):
			stop = "StopIteration"
		case g.kind == isAsyncGen && exc.cls.isSub(excClasses["StopAsyncIteration"]):
			stop = "StopAsyncIteration"
		}
		if stop != "" {
			r := newExc(excClasses["RuntimeError"], g.what()+" raised "+stop)
			r.exc.cause, r.exc.context, r.exc.suppress = exc, exc, true
			return nil, false, &Raise{r}
		}
	}
	return v, false, err
}

func stopIteration(v Value) error {
	exc := newExc(excClasses["StopIteration"])
	if v != None {
		exc.exc.args = &Tuple{[]Value{v}}
	}
	exc.exc.value = v
	return &Raise{exc}
}

// sendTo sends a value to what a frame awaits or yields from.
func (th *Thread) sendTo(to, sent Value) (v Value, more bool, err error) {
	switch to := to.(type) {
	case *Gen:
		if to.kind == isAsyncGen {
			break
		}
		return to.resume(th, sent, nil)
	case *pending:
		return to.send(th, sent)
	case *genStep:
		return to.step(th, sent, nil)
	}
	if sent == None {
		v, err := th.next(to)
		if err != nil {
			return nil, false, err
		}
		if v == nil {
			return th.stopValue(), false, nil
		}
		return v, true, nil
	}
	v, err = th.callMethod(to, "send", sent)
	return th.stepped(v, err)
}

// stepped turns a StopIteration into a return.
func (th *Thread) stepped(v Value, err error) (Value, bool, error) {
	if exc, ok := raised(err); ok && exc.cls.isSub(excClasses["StopIteration"]) {
		return stopOf(exc), false, nil
	}
	return v, err == nil, err
}

func stopOf(exc *Object) Value {
	if exc.exc.value != nil {
		return exc.exc.value
	}
	if len(exc.exc.args.items) > 0 {
		return exc.exc.args.items[0]
	}
	return None
}

// throwTo raises thrown in what a frame awaits or yields from.
func (th *Thread) throwTo(to Value, thrown error) (v Value, more bool, err error) {
	switch to := to.(type) {
	case *Gen:
		if isExc(thrown, "GeneratorExit") {
			if err := to.close(th); err != nil {
				return nil, false, err
			}
			return nil, false, thrown
		}
		return to.resume(th, nil, thrown)
	case *pending:
		to.state = pendingDone
		return nil, false, thrown
	case *genStep:
		return to.step(th, nil, thrown)
	case *Object:
		if to.cls.lookup("throw") != nil {
			exc, _ := raised(thrown)
			v, err := th.callMethod(to, "throw", exc)
			return th.stepped(v, err)
		}
	}
	return nil, false, thrown
}

// close is generator.close() and coroutine.close().
func (g *Gen) close(th *Thread) error {
	if g.frame == nil || !g.started {
		g.frame = nil
		g.awaited = true
		return nil
	}
	_, more, err := g.resume(th, nil, &Raise{newExc(excClasses["GeneratorExit"])})
	if more {
		return raise("RuntimeError", "%s ignored GeneratorExit", g.what())
	}
	if isExc(err, "GeneratorExit") || isExc(err, "StopIteration") {
		return nil
	}
	return err
}

// A genStep is what asend, athrow, aclose and __anext__ of an asynchronous generator return: an
// awaitable that runs it up to its next yield.
type genStep struct {
	g       *Gen
	sent    Value
	thrown  error
	closing bool
	state   pendingState
}

func (s *genStep) step(th *Thread, sent Value, thrown error) (v Value, more bool, err error) {
	g := s.g
	switch s.state {
	case pendingDone:
		return nil, false, raise("RuntimeError", "cannot reuse already awaited __anext__()/asend()")
	case pendingNew:
		if g.stepping {
			s.state = pendingDone
			name := "anext(): asynchronous generator is already running"
			if s.closing {
				name = "aclose(): asynchronous generator is already running"
			} else if s.thrown != nil {
				name = "athrow(): asynchronous generator is already running"
			}
			return nil, false, raise("RuntimeError", "%s", name)
		}
		if s.closing && (g.frame == nil || !g.started) {
			g.frame, s.state, g.closed = nil, pendingDone, true
			return None, false, nil
		}
		if g.closed || g.frame == nil && s.thrown == nil {
			s.state = pendingDone
			return nil, false, &Raise{newExc(excClasses["StopAsyncIteration"])}
		}
		if g.frame == nil {
			s.state = pendingDone
			return nil, false, s.thrown
		}
		s.state = pendingBegun
		sent = s.sent
		if thrown == nil {
			thrown = s.thrown
		}
	}
	if sent == nil {
		sent = None
	}
	g.stepping = true
	v, more, err = g.resume(th, sent, thrown)
	if more {
		if a, ok := v.(*asyncValue); ok {
			g.stepping, s.state = false, pendingDone
			if s.closing {
				return nil, false, raise("RuntimeError", "async generator ignored GeneratorExit")
			}
			return a.v, false, nil
		}
		return v, true, nil // it awaits something
	}
	g.stepping, s.state, g.closed = false, pendingDone, true
	if err == nil {
		if s.closing {
			return None, false, nil
		}
		return nil, false, &Raise{newExc(excClasses["StopAsyncIteration"])}
	}
	if s.closing && (isExc(err, "GeneratorExit") || isExc(err, "StopAsyncIteration")) {
		return None, false, nil
	}
	return nil, false, err
}

type pendingState uint8

const (
	pendingNew pendingState = iota
	pendingBegun
	pendingDone
)

// A pending is an awaitable of Go code: a request to the task at the bottom, which calls do on its
// own stack. With iter it is what __await__ of a future returns.
type pending struct {
	name  string
	do    func(th *Thread) (Value, error)
	what  string  // what it waits for, for those who watch
	fut   *Object // the future that it is
	iter  bool
	owned bool // a task will begin it
	state pendingState
	made  syntax.Pos
	code  *Code
}

func (p *pending) send(th *Thread, sent Value) (Value, bool, error) {
	switch p.state {
	case pendingNew:
		if p.fut != nil && futureOf(p.fut).fut.Done() {
			f := futureOf(p.fut)
			p.state = pendingDone
			f.retrieved = true
			v, err := f.fut.Result()
			return v, false, th.pyError(err)
		}
		p.state = pendingBegun
		return p, true, nil
	case pendingBegun:
		p.state = pendingDone
		return sent, false, nil
	}
	return nil, false, raise("RuntimeError", "cannot reuse already awaited coroutine")
}

// newPending makes the coroutine object that calling name returns.
func (th *Thread) newPending(name string, do func(th *Thread) (Value, error)) *pending {
	p := &pending{name: name, do: do}
	if th.frame != nil {
		p.made, p.code = th.frame.pos(), th.frame.code
	}
	if !th.awaited {
		th.in.pendings = append(th.in.pendings, p)
	}
	return p
}

// awaitable returns what await waits for when it is given v.
func (th *Thread) awaitable(v Value) (Value, error) {
	switch v := v.(type) {
	case *Gen:
		if v.kind == isCoroutine {
			if v.running || v.started && v.frame != nil && v.frame.waiting {
				return nil, raise("RuntimeError", "coroutine is being awaited already")
			}
			return v, nil
		}
	case *pending, *genStep:
		return v, nil
	case *Object:
		if f, ok := v.native.(*future); ok {
			return f.await(th, v), nil
		}
		m := v.cls.lookup("__await__")
		if m == nil {
			break
		}
		it, err := th.callMethod(v, "__await__")
		if err != nil {
			return nil, err
		}
		switch it := it.(type) {
		case *Gen:
			if it.kind == isCoroutine {
				return nil, raise("TypeError", "__await__() returned a coroutine")
			}
			return it, nil
		case *pending, *Iter, *genStep:
			return it, nil
		case *Object:
			if it.cls.lookup("__next__") != nil {
				return it, nil
			}
		}
		return nil, raise("TypeError", "__await__() returned non-iterator of type '%s'", classOf(it).name)
	}
	return nil, raise("TypeError", "object %s can't be used in 'await' expression", classOf(v).name)
}

func (th *Thread) aiter(v Value) (Value, error) {
	if g, ok := v.(*Gen); ok && g.kind == isAsyncGen {
		return g, nil
	}
	cls := classOf(v)
	if cls.lookup("__aiter__") == nil {
		return nil, raise("TypeError", "'async for' requires an object with __aiter__ method, got %s", cls.name)
	}
	it, err := th.callMethod(v, "__aiter__")
	if err != nil {
		return nil, err
	}
	if _, ok := it.(*Gen); !ok && classOf(it).lookup("__anext__") == nil {
		return nil, raise("TypeError", "'async for' received an object from __aiter__ that does not implement __anext__: %s", classOf(it).name)
	}
	return it, nil
}

func (th *Thread) anext(it Value) (Value, error) {
	if g, ok := it.(*Gen); ok && g.kind == isAsyncGen {
		return &genStep{g: g}, nil
	}
	v, err := th.callMethod(it, "__anext__")
	if err != nil {
		return nil, err
	}
	return th.awaitable(v)
}

// left is told of the iterator of a loop that ends by break or return. If nothing else holds it,
// CPython frees it here: a generator is closed at once, an asynchronous one by a task of its own.
func (th *Thread) left(f *Frame, it Value) error {
	g, ok := it.(*Gen)
	if !ok || g.held || g.frame == nil {
		return nil
	}
	th.freed(g)
	return nil
}

// freed closes a generator that nothing refers to any more.
func (th *Thread) freed(g *Gen) {
	switch {
	case g.kind == isAsyncGen && g.started && !g.stepping:
		th.in.closeSoon(th, g)
	case g.kind == isGenerator && g.started && !g.running:
		if err := g.close(th); err != nil {
			th.in.unraisable(th, err)
		}
	}
}

func genMethods() {
	self := func(v Value) *Gen { return v.(*Gen) }
	finish := func(v Value, more bool, err error) (Value, error) {
		if err != nil || more {
			return v, err
		}
		return nil, stopIteration(v)
	}
	for _, c := range []*Class{generatorClass, coroutineClass} {
		c.method("send", func(th *Thread, args []Value, _ []KW) (Value, error) {
			if len(args) != 2 {
				return nil, raise("TypeError", "send() takes exactly one argument (%d given)", len(args)-1)
			}
			if p, ok := args[0].(*pending); ok {
				v, more, err := p.send(th, args[1])
				return finish(th.byHand(p, v, more, err))
			}
			g := self(args[0])
			if g.frame == nil && g.kind == isGenerator {
				return nil, stopIteration(None)
			}
			v, more, err := g.resume(th, args[1], nil)
			return finish(th.byHand(g, v, more, err))
		})
		c.method("throw", func(th *Thread, args []Value, _ []KW) (Value, error) {
			if len(args) < 2 {
				return nil, raise("TypeError", "throw expected at least 1 argument, got 0")
			}
			exc, err := th.toException(args[1], "exceptions must be classes or instances deriving from BaseException, not "+classOf(args[1]).name)
			if err != nil {
				return nil, err
			}
			if p, ok := args[0].(*pending); ok {
				p.state = pendingDone
				return nil, &Raise{exc}
			}
			v, more, err := self(args[0]).resume(th, nil, &Raise{exc})
			return finish(th.byHand(args[0], v, more, err))
		})
		c.method("close", func(th *Thread, args []Value, _ []KW) (Value, error) {
			if p, ok := args[0].(*pending); ok {
				p.state = pendingDone
				return None, nil
			}
			return None, self(args[0]).close(th)
		})
	}
	generatorClass.method("__iter__", func(_ *Thread, args []Value, _ []KW) (Value, error) { return args[0], nil })
	generatorClass.method("__next__", func(th *Thread, args []Value, _ []KW) (Value, error) {
		v, more, err := self(args[0]).resume(th, None, nil)
		return finish(v, more, err)
	})
	coroutineClass.method("__await__", func(_ *Thread, args []Value, _ []KW) (Value, error) { return args[0], nil })
	named := func(c *Class) {
		c.ns.set("__name__", &getset{get: func(_ *Thread, v Value) (Value, error) {
			if p, ok := v.(*pending); ok {
				return p.name, nil
			}
			return self(v).name, nil
		}})
		c.ns.set("__qualname__", &getset{get: func(_ *Thread, v Value) (Value, error) {
			if p, ok := v.(*pending); ok {
				return p.name, nil
			}
			return self(v).qual, nil
		}})
	}
	named(generatorClass)
	named(coroutineClass)
	named(asyncGenClass)
	coroutineClass.ns.set("cr_running", &getset{get: func(_ *Thread, v Value) (Value, error) {
		g, ok := v.(*Gen)
		return ok && g.running, nil
	}})
	asyncGenClass.method("__aiter__", func(_ *Thread, args []Value, _ []KW) (Value, error) { return args[0], nil })
	asyncGenClass.method("__anext__", func(_ *Thread, args []Value, _ []KW) (Value, error) { return &genStep{g: self(args[0])}, nil })
	asyncGenClass.method("asend", func(_ *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) != 2 {
			return nil, raise("TypeError", "asend() takes exactly one argument (%d given)", len(args)-1)
		}
		self(args[0]).held = true
		return &genStep{g: self(args[0]), sent: args[1]}, nil
	})
	asyncGenClass.method("athrow", func(th *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) < 2 {
			return nil, raise("TypeError", "athrow expected at least 1 argument, got 0")
		}
		exc, err := th.toException(args[1], "exceptions must be classes or instances deriving from BaseException, not "+classOf(args[1]).name)
		if err != nil {
			return nil, err
		}
		return &genStep{g: self(args[0]), thrown: &Raise{exc}}, nil
	})
	asyncGenClass.method("aclose", func(_ *Thread, args []Value, _ []KW) (Value, error) {
		return &genStep{g: self(args[0]), thrown: &Raise{newExc(excClasses["GeneratorExit"])}, closing: true}, nil
	})
	asyncGenStepClass.method("__await__", func(_ *Thread, args []Value, _ []KW) (Value, error) { return args[0], nil })
	asyncGenStepClass.method("send", func(th *Thread, args []Value, _ []KW) (Value, error) {
		v, more, err := args[0].(*genStep).step(th, args[1], nil)
		return finish(th.byHand(args[0], v, more, err))
	})
}

// byHand looks at what a coroutine yields to code that resumes it without a loop. That code gets
// None for sleep(0) and the future for a future; any other request cannot be carried out by hand.
func (th *Thread) byHand(by Value, v Value, more bool, err error) (Value, bool, error) {
	if p, ok := v.(*pending); ok && more && err == nil {
		switch {
		case p.fut != nil:
			return p.fut, true, nil
		case p.what == "sleep(0)":
			return None, true, nil
		}
		return nil, false, th.outside("%s awaited by hand, without a task", p.name)
	}
	return v, more, err
}
