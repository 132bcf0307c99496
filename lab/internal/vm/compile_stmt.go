package vm

import (
	"slices"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

func (c *compiler) stmts(ss []syntax.Stmt) {
	for _, s := range ss {
		c.stmt(s)
	}
}

func (c *compiler) stmt(s syntax.Stmt) {
	defer c.at(s)()
	if c.lines {
		c.emit(opLine, int(s.Span().Line))
	}
	switch s := s.(type) {
	case *syntax.ExprStmt:
		if k, ok := s.X.(*syntax.Const); ok && !c.echo {
			_ = k
			return
		}
		c.expr(s.X)
		c.emit(opExprStmt, map[bool]int{true: 1}[c.echo && c.u.parent == nil])
	case *syntax.Assign:
		c.expr(s.Value)
		for i, t := range s.Targets {
			if i < len(s.Targets)-1 {
				c.emit(opDup, 0)
			}
			c.assign(t)
		}
	case *syntax.AugAssign:
		c.augAssign(s)
	case *syntax.AnnAssign:
		if s.Value != nil {
			c.expr(s.Value)
			c.assign(s.Target)
		}
		if n, ok := s.Target.(*syntax.Name); ok && c.u.kind == inClass {
			c.annotate(n.ID, s.Note)
		}
	case *syntax.Return:
		c.ret(s)
	case *syntax.Raise:
		n := 0
		if s.X != nil {
			c.expr(s.X)
			n++
		}
		if s.Cause != nil {
			c.expr(s.Cause)
			n++
		}
		c.pos = s.Pos
		c.emit(opRaise, n)
	case *syntax.If:
		c.ifStmt(s)
	case *syntax.While:
		c.while(s)
	case *syntax.For:
		c.forStmt(s)
	case *syntax.Try:
		c.try(s)
	case *syntax.With:
		if s.Async && !c.u.async {
			c.fail(s.Pos, "'async with' outside async function")
		}
		c.with(s, 0)
	case *syntax.FuncDef:
		c.funcDef(s)
	case *syntax.ClassDef:
		c.classDef(s)
	case *syntax.Import:
		for _, a := range s.Names {
			c.emit(opImport, c.name(a.Name))
			if a.As != "" {
				c.store(a.As)
			} else if top := importedAs(a); top != a.Name {
				c.emit(opPop, 0)
				c.emit(opImport, c.name(top))
				c.store(top)
			} else {
				c.store(a.Name)
			}
		}
	case *syntax.ImportFrom:
		if s.Module == "__future__" {
			return
		}
		c.emit(opImport, c.name(s.Module))
		for _, a := range s.Names {
			c.emit(opDup, 0)
			c.emit(opImportFrom, c.name(a.Name))
			if a.As != "" {
				c.store(a.As)
			} else {
				c.store(a.Name)
			}
		}
		c.emit(opPop, 0)
	case *syntax.Global, *syntax.Pass:
	case *syntax.Break:
		c.leaveLoop(s.Pos, true)
	case *syntax.Continue:
		c.leaveLoop(s.Pos, false)
	case *syntax.Assert:
		ok := &label{}
		c.expr(s.X)
		c.jump(opJumpIfTrue, ok)
		n := 0
		if s.Msg != nil {
			c.expr(s.Msg)
			n = 1
		}
		c.pos = s.X.Span()
		c.emit(opAssert, n)
		c.place(ok)
	case *syntax.Del:
		for _, t := range s.Targets {
			c.del(t)
		}
	case *syntax.Match:
		c.match(s)
	}
}

// annotate notes an annotation of a class's variable, which dataclasses read.
func (c *compiler) annotate(name string, note syntax.Expr) {
	c.emit(opLoadName, c.name("__annotations__"))
	c.emitConst(name)
	if n, ok := note.(*syntax.Name); ok && n.ID == "ClassVar" {
		c.emitConst("ClassVar")
	} else if n, ok := note.(*syntax.Subscript); ok && isName(n.X, "ClassVar") {
		c.emitConst("ClassVar")
	} else {
		c.emitConst("")
	}
	c.emit(opMapAdd, 1)
	c.emit(opPop, 0)
}

func isName(x syntax.Expr, id string) bool {
	n, ok := x.(*syntax.Name)
	return ok && n.ID == id
}

func (c *compiler) augAssign(s *syntax.AugAssign) {
	o := opIndex(binaryOps, s.Op)
	switch t := s.Target.(type) {
	case *syntax.Name:
		c.load(t.ID)
		c.expr(s.Value)
		c.emit(opInplace, o)
		c.store(t.ID)
	case *syntax.Attribute:
		c.expr(t.X)
		c.emit(opDup, 0)
		c.emit(opLoadAttr, c.name(t.Name))
		c.expr(s.Value)
		c.emit(opInplace, o)
		c.emit(opRot2, 0)
		c.emit(opStoreAttr, c.name(t.Name))
	case *syntax.Subscript:
		c.expr(t.X)
		c.expr(t.Index)
		c.emit(opDup2, 0)
		c.emit(opLoadIndex, 0)
		c.expr(s.Value)
		c.emit(opInplace, o)
		c.emit(opRot3, 0)
		c.emit(opStoreIndex, 0)
	}
}

func (c *compiler) del(t syntax.Expr) {
	defer c.at(t)()
	switch t := t.(type) {
	case *syntax.Name:
		c.delName(t.ID)
	case *syntax.Attribute:
		c.expr(t.X)
		c.emit(opDelAttr, c.name(t.Name))
	case *syntax.Subscript:
		c.expr(t.X)
		c.expr(t.Index)
		c.emit(opDelIndex, 0)
	case *syntax.Display:
		for _, y := range t.Xs {
			c.del(y)
		}
	}
}

func (c *compiler) push(b block) { c.u.blocks = append(c.u.blocks, b) }

func (c *compiler) popBlock() { c.u.blocks = c.u.blocks[:len(c.u.blocks)-1] }

// unwind emits what leaving the blocks above the first n takes. If keep is set, a value on top of
// the stack is kept there: that of a return.
func (c *compiler) unwind(n int, keep bool) {
	saved := c.u.blocks
	defer func() { c.u.blocks = saved }()
	for i := len(saved) - 1; i >= n; i-- {
		b := saved[i]
		c.u.blocks = slices.Clone(saved[:i])
		switch b.kind {
		case blockFor, blockAsyncFor, blockPopValue:
			if keep {
				c.emit(opRot2, 0)
			}
			if b.kind == blockPopValue {
				c.emit(opPop, 0)
			} else {
				c.emit(opLeaveFor, 0)
			}
		case blockTry:
			c.emit(opPopBlock, 0)
		case blockFinally:
			c.emit(opPopBlock, 0)
			if keep {
				c.push(block{kind: blockPopValue})
			}
			c.stmts(b.final)
		case blockExc:
			c.emit(opPopExc, 0)
		case blockNamed:
			c.emit(opPopBlock, 0)
			c.emit(opPopExc, 0)
			if b.name != "" {
				c.emitConst(None)
				c.store(b.name)
				c.delName(b.name)
			}
		case blockWith:
			c.emit(opPopBlock, 0)
			if keep {
				c.emit(opRot2, 0)
			}
			pos := c.pos
			c.pos = b.pos
			c.withExit(b.async)
			c.pos = pos
		}
	}
}

func (c *compiler) withExit(async bool) {
	if async {
		c.emit(opAsyncExit, 0)
		c.await()
	} else {
		c.emit(opWithExit, 0)
	}
	c.emit(opPop, 0)
}

func (c *compiler) inStar(pos syntax.Pos) {
	for i := len(c.u.blocks) - 1; i >= 0; i-- {
		switch c.u.blocks[i].kind {
		case blockStar:
			c.fail(pos, "'break', 'continue' and 'return' cannot appear in an except* block")
		}
	}
}

func (c *compiler) ret(s *syntax.Return) {
	if c.u.kind != inFunction {
		c.fail(s.Pos, "'return' outside function")
	}
	c.inStar(s.Pos)
	if s.X == nil {
		c.emitConst(None)
	} else {
		if c.u.async && c.u.code.gen {
			c.fail(s.Pos, "'return' with value in async generator")
		}
		c.expr(s.X)
	}
	c.unwind(0, true)
	c.emit(opReturn, 0)
}

func (c *compiler) leaveLoop(pos syntax.Pos, isBreak bool) {
	for i := len(c.u.blocks) - 1; i >= 0; i-- {
		b := c.u.blocks[i]
		switch b.kind {
		case blockStar:
			c.fail(pos, "'break', 'continue' and 'return' cannot appear in an except* block")
		case blockLoop, blockFor, blockAsyncFor:
			c.unwind(i+1, false)
			if !isBreak {
				c.back(b.begin)
				return
			}
			if b.kind != blockLoop {
				c.emit(opLeaveFor, 0)
			}
			c.jump(opJump, b.end)
			return
		}
	}
	if isBreak {
		c.fail(pos, "'break' outside loop")
	}
	c.fail(pos, "'continue' not properly in loop")
}

func (c *compiler) ifStmt(s *syntax.If) {
	other, end := &label{}, &label{}
	c.cond(s.Cond, other)
	c.stmts(s.Then)
	if s.Else == nil {
		c.place(other)
		return
	}
	c.jump(opJump, end)
	c.place(other)
	c.stmts(s.Else)
	c.place(end)
}

func (c *compiler) while(s *syntax.While) {
	begin, other, end := &label{}, &label{}, &label{}
	c.place(begin)
	c.cond(s.Cond, other)
	c.push(block{kind: blockLoop, begin: begin, end: end})
	c.stmts(s.Body)
	c.popBlock()
	if c.lines {
		c.emit(opLine, int(s.Line))
	}
	c.back(begin)
	c.place(other)
	c.stmts(s.Else)
	c.place(end)
}

func (c *compiler) forStmt(s *syntax.For) {
	if s.Async && !c.u.async {
		c.fail(s.Pos, "'async for' outside async function")
	}
	begin, end, done := &label{}, &label{}, &label{}
	c.expr(s.Iter)
	c.pos = s.Iter.Span()
	if s.Async {
		c.emit(opAIter, 0)
	} else {
		c.emit(opIter, 0)
	}
	c.place(begin)
	kind := blockFor
	handler := &label{}
	if s.Async {
		kind = blockAsyncFor
		c.jump(opSetup, handler)
		c.emit(opANext, 0)
		c.emit(opYieldFrom, 0)
		c.emit(opPopBlock, 0)
	} else {
		c.jump(opForIter, done)
	}
	c.push(block{kind: kind, begin: begin, end: end})
	c.assign(s.Target)
	c.stmts(s.Body)
	c.popBlock()
	if c.lines {
		c.emit(opLine, int(s.Line))
	}
	c.back(begin)
	if s.Async {
		c.place(handler)
		c.jump(opEndAsyncFor, done)
	}
	c.place(done)
	c.stmts(s.Else)
	c.place(end)
}

func (c *compiler) try(s *syntax.Try) {
	if s.Finally == nil {
		c.tryExcept(s)
		return
	}
	handler, end := &label{}, &label{}
	c.jump(opSetup, handler)
	c.push(block{kind: blockFinally, final: s.Finally})
	if len(s.Handlers) > 0 {
		c.tryExcept(s)
	} else {
		c.stmts(s.Body)
	}
	c.popBlock()
	c.emit(opPopBlock, 0)
	c.stmts(s.Finally)
	c.jump(opJump, end)
	c.place(handler)
	c.push(block{kind: blockExc})
	c.stmts(s.Finally)
	c.popBlock()
	c.emit(opReraise, 0)
	c.place(end)
}

func (c *compiler) tryExcept(s *syntax.Try) {
	handler, end := &label{}, &label{}
	c.jump(opSetup, handler)
	c.push(block{kind: blockTry})
	c.stmts(s.Body)
	c.popBlock()
	c.emit(opPopBlock, 0)
	c.stmts(s.Else)
	c.jump(opJump, end)
	c.place(handler)
	if s.Star {
		c.exceptStar(s, end)
		c.place(end)
		return
	}
	for _, h := range s.Handlers {
		next := &label{}
		c.pos = h.Pos
		if h.Type != nil {
			if c.lines {
				c.emit(opLine, int(h.Line))
			}
			c.push(block{kind: blockExc})
			c.expr(h.Type)
			c.popBlock()
			c.pos = h.Type.Span()
			c.emit(opMatchExc, 0)
			c.jump(opJumpIfFalse, next)
		}
		if h.Name != "" {
			c.emit(opLoadExc, 0)
			c.store(h.Name)
			cleanup := &label{}
			c.jump(opSetup, cleanup)
			c.push(block{kind: blockNamed, name: h.Name})
			c.stmts(h.Body)
			c.popBlock()
			c.emit(opPopBlock, 0)
			c.emit(opPopExc, 0)
			c.unset(h.Name)
			c.jump(opJump, end)
			c.place(cleanup)
			c.unset(h.Name)
			c.emit(opReraise, 0)
		} else {
			c.push(block{kind: blockExc})
			c.stmts(h.Body)
			c.popBlock()
			c.emit(opPopExc, 0)
			c.jump(opJump, end)
		}
		c.place(next)
	}
	c.emit(opReraise, 0)
	c.place(end)
}

func (c *compiler) unset(name string) {
	c.emitConst(None)
	c.store(name)
	c.delName(name)
}

// exceptStar runs each clause on its part of the group. The stack holds the state meanwhile, and an
// exception is being handled.
func (c *compiler) exceptStar(s *syntax.Try, end *label) {
	c.emit(opStarBegin, 0)
	for _, h := range s.Handlers {
		next, failed := &label{}, &label{}
		c.pos = h.Pos
		c.expr(h.Type)
		c.pos = h.Type.Span()
		c.emit(opStarMatch, 0)
		c.jump(opJumpIfNone, next)
		c.emit(opStarHandled, 0)
		if h.Name != "" {
			c.emit(opLoadExc, 0)
			c.store(h.Name)
		}
		c.jump(opSetup, failed)
		c.push(block{kind: blockStar})
		c.stmts(h.Body)
		c.popBlock()
		c.emit(opPopBlock, 0)
		c.emit(opPopExc, 0)
		if h.Name != "" {
			c.unset(h.Name)
		}
		c.jump(opJump, next)
		c.place(failed)
		if h.Name != "" {
			c.unset(h.Name)
		}
		c.emit(opStarRaised, 0)
		c.place(next)
	}
	c.emit(opStarEnd, 0)
	c.jump(opJump, end)
}

func (c *compiler) with(s *syntax.With, i int) {
	if i == len(s.Items) {
		c.stmts(s.Body)
		return
	}
	item := s.Items[i]
	handler, end := &label{}, &label{}
	if s.Async {
		c.expr(item.X)
		c.pos = item.X.Span()
		c.emit(opAsyncEnter, 0)
		c.await()
	} else {
		c.expr(item.X)
		c.pos = item.X.Span()
		c.emit(opWithEnter, 0)
	}
	// The way out is below the value now; the handler begins with it on the stack.
	c.jump(opSetupWith, handler)
	c.push(block{kind: blockWith, async: s.Async, pos: c.pos})
	if item.Target != nil {
		c.assign(item.Target)
	} else {
		c.emit(opPop, 0)
	}
	c.with(s, i+1)
	c.popBlock()
	c.emit(opPopBlock, 0)
	c.pos = item.X.Span()
	c.withExit(s.Async)
	c.jump(opJump, end)
	c.place(handler)
	swallow := &label{}
	if s.Async {
		c.emit(opAsyncExitExc, 0)
		c.await()
	} else {
		c.emit(opWithExitExc, 0)
	}
	c.jump(opJumpIfTrue, swallow)
	c.emit(opReraise, 0)
	c.place(swallow)
	c.emit(opPopExc, 0)
	c.emit(opPop, 0)
	c.place(end)
}

func (c *compiler) funcDef(s *syntax.FuncDef) {
	for _, d := range s.Decorators {
		c.expr(d)
	}
	flags := c.defaults(s.Params, s.Returns)
	c.function(s.Name, s.Params, s.Async, int(s.Line), flags, func() {
		c.u.code.gen = contains(s.Body, isYield)
		c.doc(s.Body)
		c.declare(s.Body)
		c.stmts(s.Body)
		c.emitConst(None)
		c.emit(opReturn, 0)
	})
	c.decorate(s.Decorators)
	c.store(s.Name)
}

func (c *compiler) decorate(ds []syntax.Expr) {
	for i := len(ds) - 1; i >= 0; i-- {
		c.pos = ds[i].Span()
		c.u.code.calls = append(c.u.code.calls, callShape{n: 1})
		c.emit(opCall, len(c.u.code.calls)-1)
	}
}

func (c *compiler) classDef(s *syntax.ClassDef) {
	if c.nesting++; c.nesting > 50 {
		c.fail(c.pos, "too many statically nested blocks")
	}
	defer func() { c.nesting-- }()
	for _, d := range s.Decorators {
		c.expr(d)
	}
	c.emit(opList, 0)
	for _, b := range s.Bases {
		switch {
		case b.Name == "metaclass" && isName(b.X, "ABCMeta"):
		case b.Name != "" || b.Stars == 2:
			c.outside(s.Pos, "keywords of a class, such as metaclass")
		case b.Stars == 1:
			c.expr(b.X)
			c.emit(opListExtend, 0)
		default:
			c.expr(b.X)
			c.emit(opListAdd, 1)
		}
	}
	qual := s.Name
	switch c.u.kind {
	case inFunction:
		qual = c.u.code.qual + ".<locals>." + s.Name
	case inClass:
		qual = c.u.code.qual + "." + s.Name
	}
	u := &unit{parent: c.u, kind: inClass, bound: map[string]int{}, free: map[string]int{}, globals: map[string]bool{}}
	u.code = &Code{name: s.Name, qual: qual, file: c.file, line: int(s.Line)}
	pos := c.pos
	c.u = u
	c.doc(s.Body)
	c.declare(s.Body)
	c.stmts(s.Body)
	c.emitConst(None)
	c.emit(opReturn, 0)
	c.u = u.parent
	c.pos = pos
	c.u.code.codes = append(c.u.code.codes, u.code)
	cell := 0
	if u.hasClass {
		cell = u.bound["__class__"] + 1
	}
	c.emit(opClass, (len(c.u.code.codes)-1)<<16|cell)
	c.decorate(s.Decorators)
	c.store(s.Name)
}
