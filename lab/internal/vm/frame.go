package vm

import (
	"context"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// A Thread runs Python code one call inside the other. Each task has one, and so has each callback.
type Thread struct {
	in      *Interp
	ctx     context.Context
	frame   *Frame
	depth   int
	task    *Object // the task that the thread drives
	vars    *varsMap
	awaited bool // the call under way is awaited at once
	worker  bool // it stands for a thread of an executor
	pos     syntax.Pos
}

// A Frame is one call of a function, or the body of a class or module.
type Frame struct {
	code    *Code
	fn      *Function
	globals *NS
	ns      *NS // of a class body
	cells   []*Cell
	free    []*Cell
	stack   []Value
	pc      int
	handler []handler
	excs    []*Object // being handled, innermost last
	back    *Frame
	sent    Value // what a suspended frame resumes with
	waiting bool  // it is suspended in opYieldFrom
	module  *Module
	direct  int // iterators of loops that nobody else holds: see opIter
}

// A handler is a block that has been set up.
type handler struct{ pc, stack, excs int }

func newFrame(code *Code, globals *NS) *Frame {
	n := len(code.locals)
	f := &Frame{code: code, globals: globals, stack: make([]Value, 0, 8)}
	cells := make([]Cell, n)
	f.cells = make([]*Cell, n)
	for i := range cells {
		f.cells[i] = &cells[i]
	}
	return f
}

func (f *Frame) push(v Value) { f.stack = append(f.stack, v) }

func (f *Frame) pop() Value {
	n := len(f.stack) - 1
	v := f.stack[n]
	f.stack[n] = nil
	f.stack = f.stack[:n]
	return v
}

func (f *Frame) top() Value { return f.stack[len(f.stack)-1] }

func (f *Frame) drop(n int) { f.stack = f.stack[:len(f.stack)-n] }

func (f *Frame) pos() syntax.Pos {
	if f.pc < len(f.code.pos) {
		return f.code.pos[f.pc]
	}
	return syntax.Pos{Line: int32(f.code.line)}
}

// line is where the innermost frame is.
func (th *Thread) line() int {
	if th != nil && th.frame != nil {
		for f := th.frame; f != nil; f = f.back {
			if f.code.file == th.in.file {
				return int(f.pos().Line)
			}
		}
	}
	return 0
}

// handled is the exception that is being handled, in this frame or a caller's.
func (th *Thread) handled() *Object {
	for f := th.frame; f != nil; f = f.back {
		if n := len(f.excs); n > 0 {
			return f.excs[n-1]
		}
	}
	return nil
}

// enter counts a nested call.
func (th *Thread) enter() error {
	if th.depth++; th.depth > th.in.limits.Recursion {
		th.depth--
		return raise("RecursionError", "maximum recursion depth exceeded")
	}
	return nil
}

func (th *Thread) leave() { th.depth-- }

// run runs f until it returns, yields or fails. thrown is an exception to begin with, or nil.
func (th *Thread) run(f *Frame, thrown error) (v Value, yielded bool, err error) {
	if err := th.enter(); err != nil {
		if thrown == nil {
			return nil, false, err
		}
		thrown = err
	} else {
		defer th.leave()
	}
	f.back = th.frame
	th.frame = f
	if err := th.in.tick(); err != nil {
		th.frame = f.back
		return nil, false, err
	}
	err = thrown
	fresh := false // err has been raised by an instruction of this frame just now
	for {
		if err == nil {
			v, yielded, err = th.exec(f)
			if err == nil {
				th.frame = f.back
				f.back = nil
				return v, yielded, nil
			}
			fresh = true
		}
		exc, ok := raised(err)
		if !ok {
			th.frame = f.back
			f.back = nil
			return nil, false, err
		}
		if fresh || thrown != nil {
			if _, again := err.(*reraise); !again {
				if len(exc.exc.tb) < 4000 {
					exc.exc.tb = append(exc.exc.tb[:len(exc.exc.tb):len(exc.exc.tb)], tbEntry{f.code, f.pos()})
				}
				th.context(exc)
			}
		}
		thrown, fresh = nil, false
		n := len(f.handler)
		if n == 0 {
			f.excs = nil
			th.frame = f.back
			f.back = nil
			return nil, false, &Raise{exc}
		}
		h := f.handler[n-1]
		f.handler = f.handler[:n-1]
		for _, v := range f.stack[h.stack:] {
			if g, ok := v.(*Gen); ok && !g.held && g.frame != nil && g.kind != isCoroutine {
				th.freed(g) // the iterator of a loop that the exception leaves
			}
		}
		clear(f.stack[h.stack:])
		f.stack = f.stack[:h.stack]
		f.excs = append(f.excs[:h.excs], exc)
		f.pc = h.pc
		err = nil
	}
}

// reraise is an exception that goes on as it was: the traceback gets no new line.
type reraise struct{ Raise }

func (r *reraise) Unwrap() error { return &r.Raise }

// context links exc to the exception that was being handled when it was raised.
func (th *Thread) context(exc *Object) {
	was := th.handled()
	if was == nil || was == exc || exc.exc.context != nil {
		return
	}
	// A chain that leads back to exc would be a circle.
	for o, n := was, 0; o != nil && n < 1000; o, n = o.exc.context, n+1 {
		if o.exc.context == exc {
			o.exc.context = nil
			break
		}
	}
	exc.exc.context = was
}
