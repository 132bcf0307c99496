package vm

import (
	"fmt"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

type op uint8

const (
	opNop op = iota
	opLine
	opConst
	opPop
	opDup
	opDup2
	opRot2 // a b -> b a
	opRot3 // a b c -> c a b
	opRot4
	opLoadLocal
	opStoreLocal
	opDelLocal
	opNewCell
	opLoadFree
	opStoreFree
	opDelFree
	opLoadGlobal
	opStoreGlobal
	opDelGlobal
	opLoadName
	opStoreName
	opDelName
	opLoadClassFree // the class's namespace, then a free variable
	opLoadAttr
	opStoreAttr // value object ->
	opDelAttr
	opLoadIndex
	opStoreIndex // value object index ->
	opDelIndex
	opSlice
	opBinary
	opInplace
	opUnary
	opNot
	opCompare
	opList
	opTuple
	opSet
	opMap
	opListAdd
	opSetAdd
	opMapAdd
	opListExtend
	opSetUpdate
	opDictUpdate
	opKwUpdate
	opListToTuple
	opUnpack
	opUnpackEx
	opJump
	opLoop // a jump back
	opJumpIfFalse
	opJumpIfTrue
	opJumpIfFalseOrPop
	opJumpIfTrueOrPop
	opJumpIfNone
	opIter
	opForIter
	opAIter
	opANext
	opEndAsyncFor
	opLeaveFor // drop the iterator of a loop that is left early
	opCall
	opReturn
	opYield
	opYieldFrom
	opAwaitable
	opYieldFromIter
	opSetup
	opSetupWith // the handler's stack has one value less
	opPopBlock
	opPopExc
	opLoadExc
	opReraise
	opRaise
	opMatchExc
	opWithEnter
	opWithExit
	opWithExitExc
	opAsyncEnter
	opAsyncExit
	opAsyncExitExc
	opFunc
	opClass
	opImport
	opImportFrom
	opFormat
	opJoin
	opAssert
	opMatch
	opExprStmt
	opStarBegin
	opStarMatch
	opStarHandled
	opStarRaised
	opStarEnd
)

type unitKind uint8

const (
	inModule unitKind = iota
	inClass
	inFunction
)

// A unit is a code object that is being compiled.
type unit struct {
	parent   *unit
	kind     unitKind
	code     *Code
	bound    map[string]int
	globals  map[string]bool
	nonlocal map[string]bool
	layers   []map[string]int // names of comprehensions, which have locals of their own
	free     map[string]int
	blocks   []block
	async    bool
	genexp   bool
	hasClass bool // a class body whose __class__ a method uses
}

type blockKind uint8

const (
	blockLoop blockKind = iota
	blockFor
	blockAsyncFor
	blockTry      // a handler is set up
	blockFinally  // a handler is set up, and a body runs on every way out
	blockExc      // an exception is being handled
	blockNamed    // the same, with a name to delete and a handler set up for that
	blockWith     // a context manager has been entered
	blockStar     // in an except* clause
	blockPopValue // a value on the stack
)

type block struct {
	kind       blockKind
	begin, end *label
	final      []syntax.Stmt
	name       string
	async      bool
	pos        syntax.Pos
}

type label struct {
	at   int
	uses []int
}

type compiler struct {
	file string
	u    *unit
	pos  syntax.Pos
	line int32 // of the last opLine
	// lines makes the compiler mark where statements begin
	lines   bool
	echo    bool // a prompt: values of expressions are shown
	toplev  bool // await is allowed in the module
	nesting int
}

// stop leaves the compiler's recursion; compile returns the error.
type stop struct{ err error }

// compile compiles a module.
func compile(body []syntax.Stmt, file string, c *compiler) (code *Code, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case stop:
			code, err = nil, r.err
		default:
			panic(r)
		}
	}()
	c.file = file
	c.u = &unit{kind: inModule, code: &Code{name: "<module>", qual: "<module>", file: file, line: 1}, bound: map[string]int{}, free: map[string]int{}, globals: map[string]bool{}}
	if c.toplev && contains(body, isAwait) {
		c.u.async = true
		c.u.code.async = true
	}
	c.doc(body)
	c.declare(body)
	c.stmts(body)
	c.emitConst(None)
	c.emit(opReturn, 0)
	return c.u.code, nil
}

func (c *compiler) fail(pos syntax.Pos, format string, args ...any) {
	panic(stop{&syntax.Error{Kind: "SyntaxError", Msg: fmt.Sprintf(format, args...), Pos: pos}})
}

func (c *compiler) outside(pos syntax.Pos, format string, args ...any) {
	panic(stop{outside(int(pos.Line), format, args...)})
}

func (c *compiler) emit(o op, arg int) int {
	code := c.u.code
	code.ins = append(code.ins, ins{o, arg})
	code.pos = append(code.pos, c.pos)
	return len(code.ins) - 1
}

func (c *compiler) emitConst(v Value) {
	code := c.u.code
	code.consts = append(code.consts, v)
	c.emit(opConst, len(code.consts)-1)
}

func (c *compiler) name(s string) int {
	code := c.u.code
	for i, n := range code.names {
		if n == s {
			return i
		}
	}
	code.names = append(code.names, s)
	return len(code.names) - 1
}

func (c *compiler) jump(o op, l *label) { l.uses = append(l.uses, c.emit(o, 0)) }

func (c *compiler) place(l *label) {
	l.at = len(c.u.code.ins)
	for _, i := range l.uses {
		c.u.code.ins[i].arg = l.at
	}
	l.uses = nil
}

// back jumps to a label that has been placed.
func (c *compiler) back(l *label) { c.emit(opLoop, l.at) }

// at sets the place of what is emitted next, and returns what sets it back.
func (c *compiler) at(n syntax.Node) func() {
	was := c.pos
	c.pos = n.Span()
	return func() { c.pos = was }
}

// local returns the index of a local variable, a new one if needed.
func (u *unit) local(name string) int {
	if i, ok := u.bound[name]; ok {
		return i
	}
	i := u.hidden(name)
	u.bound[name] = i
	return i
}

func (u *unit) hidden(name string) int {
	u.code.locals = append(u.code.locals, name)
	return len(u.code.locals) - 1
}

// capture returns where a function inside u finds name: a local of u, or ^i for a free variable.
func (u *unit) capture(name string) (int, bool) {
	for i := len(u.layers) - 1; i >= 0; i-- {
		if at, ok := u.layers[i][name]; ok {
			return at, true
		}
	}
	switch u.kind {
	case inFunction:
		if u.globals[name] {
			return 0, false
		}
		if at, ok := u.bound[name]; ok {
			return at, true
		}
	case inClass:
		if name == "__class__" {
			u.hasClass = true
			return u.local(name), true
		}
	case inModule:
		return 0, false
	}
	if at, ok := u.freeVar(name); ok {
		return ^at, true
	}
	return 0, false
}

func (u *unit) freeVar(name string) (int, bool) {
	if i, ok := u.free[name]; ok {
		return i, true
	}
	if u.parent == nil {
		return 0, false
	}
	from, ok := u.parent.capture(name)
	if !ok {
		return 0, false
	}
	u.free[name] = len(u.code.frees)
	u.code.frees = append(u.code.frees, name)
	u.code.captures = append(u.code.captures, from)
	return u.free[name], true
}

// access emits a load, store or delete of a name: the four operations for a local, a free variable,
// a global and a name of a class.
func (c *compiler) access(name string, local, free, global, class op) {
	u := c.u
	for i := len(u.layers) - 1; i >= 0; i-- {
		if at, ok := u.layers[i][name]; ok {
			c.emit(local, at)
			return
		}
	}
	if u.globals[name] {
		c.emit(global, c.name(name))
		return
	}
	switch u.kind {
	case inFunction:
		if at, ok := u.bound[name]; ok {
			c.emit(local, at)
			return
		}
		if at, ok := u.freeVar(name); ok {
			c.emit(free, at)
			return
		}
	case inClass:
		if u.nonlocal[name] {
			if at, ok := u.freeVar(name); ok {
				c.emit(free, at)
				return
			}
		}
		if class == opLoadName && name != "__class__" {
			if at, ok := u.freeVar(name); ok {
				c.emit(opConst, len(u.code.consts))
				u.code.consts = append(u.code.consts, name)
				c.emit(opLoadClassFree, at)
				return
			}
		}
		c.emit(class, c.name(name))
		return
	}
	c.emit(global, c.name(name))
}

func (c *compiler) load(name string) {
	c.access(name, opLoadLocal, opLoadFree, opLoadGlobal, opLoadName)
}

func (c *compiler) store(name string) {
	c.access(name, opStoreLocal, opStoreFree, opStoreGlobal, opStoreName)
}

func (c *compiler) delName(name string) {
	c.access(name, opDelLocal, opDelFree, opDelGlobal, opDelName)
}

// doc takes the string at the beginning of a body.
func (c *compiler) doc(body []syntax.Stmt) {
	if len(body) > 0 {
		if e, ok := body[0].(*syntax.ExprStmt); ok {
			if k, ok := e.X.(*syntax.Const); ok {
				if s, ok := k.Value.(string); ok {
					c.u.code.doc = s
				}
			}
		}
	}
}

// function compiles a function, lambda or generator expression and emits what makes it. Defaults
// and annotations have been put on the stack: flags say which.
func (c *compiler) function(name string, params *syntax.Params, async bool, line int, flags int, build func()) {
	if c.nesting++; c.nesting > 50 {
		c.fail(c.pos, "too many statically nested blocks")
	}
	defer func() { c.nesting-- }()
	qual := name
	for p := c.u; p != nil; p = p.parent {
		if p.kind == inFunction {
			qual = p.code.qual + ".<locals>." + name
			break
		}
		if p.kind == inClass {
			qual = p.code.qual + "." + name
			break
		}
	}
	u := &unit{parent: c.u, kind: inFunction, async: async, bound: map[string]int{}, free: map[string]int{}, globals: map[string]bool{}, nonlocal: map[string]bool{}}
	u.code = &Code{name: name, qual: qual, file: c.file, line: line, async: async}
	if params != nil {
		for _, p := range params.List {
			u.local(p.Name)
			u.code.params = append(u.code.params, p.Name)
		}
		u.code.nPos, u.code.posOnly = params.NPos, params.PosOnl
		if params.Star != "" {
			u.code.star = true
			u.local(params.Star)
		}
		if params.Kw != "" {
			u.code.kw = true
			u.local(params.Kw)
		}
	}
	pos := c.pos
	c.u = u
	build()
	c.u = u.parent
	c.pos = pos
	c.u.code.codes = append(c.u.code.codes, u.code)
	c.emit(opFunc, (len(c.u.code.codes)-1)<<3|flags)
}

const (
	hasDefaults = 1 << iota
	hasKwDefaults
	hasNotes
)

// defaults puts the defaults of parameters, and their annotations, on the stack.
func (c *compiler) defaults(p *syntax.Params, returns syntax.Expr) (flags int) {
	n := 0
	for _, q := range p.List[:p.NPos] {
		if q.Default != nil {
			c.expr(q.Default)
			n++
		}
	}
	if n > 0 {
		c.emit(opTuple, n)
		flags |= hasDefaults
	}
	n = 0
	for _, q := range p.List[p.NPos:] {
		if q.Default != nil {
			c.emitConst(q.Name)
			c.expr(q.Default)
			n++
		}
	}
	if n > 0 {
		c.emit(opMap, n)
		flags |= hasKwDefaults
	}
	return flags
}

// declare notes the names that a function's body binds.
func (c *compiler) declare(body []syntax.Stmt) {
	u := c.u
	b := &binder{names: map[string]bool{}}
	b.stmts(body)
	for _, g := range b.globals {
		for _, n := range g.Names {
			if u.isParam(n) {
				c.fail(g.Pos, "name '%s' is parameter and %s", n, map[bool]string{true: "nonlocal", false: "global"}[g.Nonlocal])
			}
			if !g.Nonlocal {
				u.globals[n] = true
				continue
			}
			if u.kind == inModule {
				c.fail(g.Pos, "nonlocal declaration not allowed at module level")
			}
			if _, ok := u.freeVar(n); !ok {
				c.fail(g.Pos, "no binding for nonlocal '%s' found", n)
			}
			if u.nonlocal == nil {
				u.nonlocal = map[string]bool{}
			}
			u.nonlocal[n] = true
		}
	}
	if u.kind == inFunction {
		for _, n := range b.order {
			if !u.globals[n] && !u.nonlocal[n] {
				u.local(n)
			}
		}
	}
}

func (u *unit) isParam(name string) bool {
	n := len(u.code.params)
	if u.code.star {
		n++
	}
	if u.code.kw {
		n++
	}
	if u.kind != inFunction || n > len(u.code.locals) {
		return false
	}
	for _, p := range u.code.locals[:n] {
		if p == name {
			return true
		}
	}
	return false
}
