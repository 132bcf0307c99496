package vm

import (
	"math/big"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

var binaryOps = []string{"+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>"}
var compareOps = []string{"==", "!=", "<", "<=", ">", ">=", "is", "is not", "in", "not in"}
var unaryOps = []string{"-", "+", "~"}

func opIndex(ops []string, s string) int {
	for i, o := range ops {
		if o == s {
			return i
		}
	}
	return -1
}

// expr emits code that leaves the value of x on the stack.
func (c *compiler) expr(x syntax.Expr) {
	defer c.at(x)()
	switch x := x.(type) {
	case *syntax.Name:
		if x.ID == "super" {
			c.u.freeVar("__class__") // super() without arguments looks there
		}
		c.load(x.ID)
	case *syntax.Const:
		c.emitConst(constant(x.Value))
	case *syntax.Joined:
		c.joined(x)
	case *syntax.Formatted:
		c.formatted(x)
	case *syntax.Binary:
		c.expr(x.L)
		c.expr(x.R)
		c.pos = x.Pos
		c.emit(opBinary, opIndex(binaryOps, x.Op))
	case *syntax.Bool:
		end := &label{}
		for i, y := range x.Xs {
			c.expr(y)
			if i < len(x.Xs)-1 {
				if x.Op == "and" {
					c.jump(opJumpIfFalseOrPop, end)
				} else {
					c.jump(opJumpIfTrueOrPop, end)
				}
			}
		}
		c.place(end)
	case *syntax.Unary:
		if k, ok := x.X.(*syntax.Const); ok && x.Op == "-" {
			switch v := k.Value.(type) {
			case int:
				if v != -v {
					c.emitConst(-v)
					return
				}
			case float64:
				c.emitConst(-v)
				return
			}
		}
		c.expr(x.X)
		if x.Op == "not" {
			c.emit(opNot, 0)
		} else {
			c.emit(opUnary, opIndex(unaryOps, x.Op))
		}
	case *syntax.Compare:
		c.comparison(x)
	case *syntax.Call:
		c.call(x)
	case *syntax.Attribute:
		c.expr(x.X)
		c.emit(opLoadAttr, c.name(x.Name))
	case *syntax.Subscript:
		c.expr(x.X)
		c.expr(x.Index)
		c.emit(opLoadIndex, 0)
	case *syntax.Slice:
		for _, y := range []syntax.Expr{x.Lo, x.Hi, x.Step} {
			if y == nil {
				c.emitConst(None)
			} else {
				c.expr(y)
			}
		}
		c.emit(opSlice, 0)
	case *syntax.Display:
		c.display(x)
	case *syntax.Dict:
		c.dict(x)
	case *syntax.Comp:
		c.comp(x)
	case *syntax.Lambda:
		flags := c.defaults(x.Params, nil)
		c.function("<lambda>", x.Params, false, int(x.Line), flags, func() {
			c.u.code.gen = contains([]syntax.Stmt{&syntax.ExprStmt{Pos: x.Pos, X: x.Body}}, isYield)
			c.declare([]syntax.Stmt{&syntax.ExprStmt{Pos: x.Pos, X: x.Body}})
			c.expr(x.Body)
			c.emit(opReturn, 0)
		})
	case *syntax.IfExp:
		other, end := &label{}, &label{}
		c.cond(x.Cond, other)
		c.expr(x.Then)
		c.jump(opJump, end)
		c.place(other)
		c.expr(x.Else)
		c.place(end)
	case *syntax.Await:
		if !c.u.async {
			if c.u.kind == inFunction && !c.u.genexp {
				c.fail(x.Pos, "'await' outside async function")
			}
			c.fail(x.Pos, "'await' outside function")
		}
		if call, ok := x.X.(*syntax.Call); ok {
			c.callAwaited(call)
		} else {
			c.expr(x.X)
		}
		c.pos = x.Pos
		c.await()
	case *syntax.Yield:
		c.yield(x)
	case *syntax.Starred:
		c.fail(x.Pos, "can't use starred expression here")
	case *syntax.Walrus:
		c.expr(x.X)
		c.emit(opDup, 0)
		layers := c.u.layers
		for _, l := range layers {
			if _, ok := l[x.Target.ID]; ok {
				c.fail(x.Pos, "assignment expression cannot rebind comprehension iteration variable '%s'", x.Target.ID)
			}
		}
		c.store(x.Target.ID)
	default:
		c.fail(x.Span(), "invalid syntax")
	}
}

func constant(v any) Value {
	switch v := v.(type) {
	case nil:
		return None
	case syntax.Ellipsis:
		return Ellipsis
	case *big.Int:
		return v
	default:
		return v
	}
}

// await takes an awaitable off the stack and leaves its result.
func (c *compiler) await() {
	c.emit(opAwaitable, 0)
	c.emit(opYieldFrom, 0)
}

func (c *compiler) yield(x *syntax.Yield) {
	if c.u.kind != inFunction || c.u.genexp {
		c.fail(x.Pos, "'yield' outside function")
	}
	if x.From && c.u.async {
		c.fail(x.Pos, "'yield from' inside async function")
	}
	if x.X == nil {
		c.emitConst(None)
	} else {
		c.expr(x.X)
	}
	c.pos = x.Pos
	if x.From {
		c.emit(opYieldFromIter, 0)
		c.emit(opYieldFrom, 0)
		return
	}
	c.emit(opYield, 0)
}

// cond jumps to other if x is false.
func (c *compiler) cond(x syntax.Expr, other *label) {
	c.expr(x)
	c.jump(opJumpIfFalse, other)
}

func (c *compiler) comparison(x *syntax.Compare) {
	c.expr(x.L)
	if len(x.Ops) == 1 {
		c.expr(x.Rs[0])
		c.pos = x.Pos
		c.emit(opCompare, opIndex(compareOps, x.Ops[0]))
		return
	}
	cleanup, end := &label{}, &label{}
	for i, r := range x.Rs {
		c.expr(r)
		c.pos = x.Pos
		if i < len(x.Rs)-1 {
			c.emit(opDup, 0)
			c.emit(opRot3, 0)
			c.emit(opCompare, opIndex(compareOps, x.Ops[i]))
			c.jump(opJumpIfFalseOrPop, cleanup)
		} else {
			c.emit(opCompare, opIndex(compareOps, x.Ops[i]))
		}
	}
	c.jump(opJump, end)
	c.place(cleanup)
	c.emit(opRot2, 0)
	c.emit(opPop, 0)
	c.place(end)
}

func (c *compiler) joined(x *syntax.Joined) {
	for _, p := range x.Parts {
		c.expr(p)
	}
	c.emit(opJoin, len(x.Parts))
}

func (c *compiler) formatted(x *syntax.Formatted) {
	if x.Text != "" {
		c.emitConst(x.Text)
	}
	c.expr(x.X)
	flags := int(x.Conv)
	if x.Spec != nil {
		c.expr(x.Spec)
		flags |= 1 << 8
	}
	c.emit(opFormat, flags)
	if x.Text != "" {
		c.emit(opJoin, 2)
	}
}

func (c *compiler) display(x *syntax.Display) {
	starred := false
	for _, y := range x.Xs {
		if _, ok := y.(*syntax.Starred); ok {
			starred = true
		}
	}
	if !starred {
		for _, y := range x.Xs {
			c.expr(y)
		}
		switch x.Kind {
		case '[':
			c.emit(opList, len(x.Xs))
		case '(':
			c.emit(opTuple, len(x.Xs))
		default:
			c.emit(opSet, len(x.Xs))
		}
		return
	}
	c.emit(opList, 0)
	c.spread(x.Xs)
	switch x.Kind {
	case '(':
		c.emit(opListToTuple, 0)
	case '{':
		c.emit(opSet, 0)
		c.emit(opRot2, 0)
		c.emit(opSetUpdate, 0)
	}
}

// spread appends values, some of them starred, to the list on the stack.
func (c *compiler) spread(xs []syntax.Expr) {
	for _, y := range xs {
		if s, ok := y.(*syntax.Starred); ok {
			c.expr(s.X)
			c.emit(opListExtend, 0)
		} else {
			c.expr(y)
			c.emit(opListAdd, 1)
		}
	}
}

func (c *compiler) dict(x *syntax.Dict) {
	c.emit(opMap, 0)
	for i, k := range x.Keys {
		if k == nil {
			c.expr(x.Values[i])
			c.emit(opDictUpdate, 0)
			continue
		}
		c.expr(k)
		c.expr(x.Values[i])
		c.emit(opMapAdd, 1)
	}
}

func (c *compiler) call(x *syntax.Call) {
	c.expr(x.Fn)
	c.arguments(x.Args)
	c.pos = x.Pos
	c.emit(opCall, len(c.u.code.calls)-1)
}

// callAwaited is a call whose result is awaited at once.
func (c *compiler) callAwaited(x *syntax.Call) {
	defer c.at(x)()
	c.expr(x.Fn)
	c.arguments(x.Args)
	c.pos = x.Pos
	c.emit(opCall, ^(len(c.u.code.calls) - 1))
}

func (c *compiler) arguments(args []syntax.Arg) {
	shape := callShape{n: len(args)}
	for _, a := range args {
		if a.Stars > 0 {
			shape.spread = true
		} else if a.Name != "" {
			shape.names = append(shape.names, a.Name)
		}
	}
	if shape.spread {
		shape.names = nil
		c.emit(opList, 0)
		for _, a := range args {
			if a.Stars == 1 {
				c.expr(a.X)
				c.emit(opListExtend, 1)
			} else if a.Stars == 0 && a.Name == "" {
				c.expr(a.X)
				c.emit(opListAdd, 1)
			}
		}
		c.emit(opMap, 0)
		for _, a := range args {
			if a.Stars == 2 {
				c.expr(a.X)
				c.emit(opKwUpdate, 0)
			} else if a.Name != "" {
				c.emit(opMap, 0)
				c.emitConst(a.Name)
				c.expr(a.X)
				c.emit(opMapAdd, 1)
				c.emit(opKwUpdate, 0)
			}
		}
	} else {
		for _, a := range args {
			c.expr(a.X)
		}
	}
	c.u.code.calls = append(c.u.code.calls, shape)
}

// comp compiles a comprehension. All but generator expressions run in the frame around them, with
// hidden locals, so they may await.
func (c *compiler) comp(x *syntax.Comp) {
	if x.Kind == '(' {
		c.expr(x.Gens[0].Iter)
		if x.Gens[0].Async {
			c.emit(opAIter, 0)
		} else {
			c.emit(opIter, 0)
		}
		inner := []syntax.Stmt{&syntax.ExprStmt{Pos: x.Pos, X: x.Elt}}
		async := x.Gens[0].Async
		for i, g := range x.Gens {
			async = async || g.Async
			if i > 0 {
				inner = append(inner, &syntax.ExprStmt{Pos: x.Pos, X: g.Iter})
			}
			for _, f := range g.Ifs {
				inner = append(inner, &syntax.ExprStmt{Pos: x.Pos, X: f})
			}
		}
		async = async || contains(inner, isAwait)
		if contains(inner, isYield) {
			c.fail(x.Pos, "'yield' inside generator expression")
		}
		params := &syntax.Params{List: []syntax.Param{{Name: ".0"}}, NPos: 1}
		c.function("<genexpr>", params, async, int(x.Line), 0, func() {
			c.u.code.gen = true
			c.u.genexp = true
			c.u.layers = append(c.u.layers, c.layer(x))
			c.emit(opLoadLocal, 0)
			c.gens(x, 0, func() {
				c.expr(x.Elt)
				c.emit(opYield, 0)
				c.emit(opPop, 0)
			}, true)
			c.emitConst(None)
			c.emit(opReturn, 0)
		})
		c.emit(opRot2, 0)
		c.u.code.calls = append(c.u.code.calls, callShape{n: 1})
		c.emit(opCall, len(c.u.code.calls)-1)
		return
	}
	for _, g := range x.Gens {
		if g.Async && !c.u.async {
			c.fail(x.Pos, "asynchronous comprehension outside of an asynchronous function")
		}
	}
	depth := 1 + len(x.Gens)
	c.expr(x.Gens[0].Iter)
	layer := c.layer(x)
	for _, at := range layer {
		c.emit(opNewCell, at)
	}
	if x.Gens[0].Async {
		c.emit(opAIter, 0)
	} else {
		c.emit(opIter, 0)
	}
	switch x.Kind {
	case '[':
		c.emit(opList, 0)
	case '{':
		c.emit(opSet, 0)
	default:
		c.emit(opMap, 0)
	}
	c.emit(opRot2, 0)
	c.u.layers = append(c.u.layers, layer)
	c.gens(x, 0, func() {
		switch x.Kind {
		case '[':
			c.expr(x.Elt)
			c.emit(opListAdd, depth)
		case '{':
			c.expr(x.Elt)
			c.emit(opSetAdd, depth)
		default:
			c.expr(x.Key)
			c.expr(x.Elt)
			c.emit(opMapAdd, depth)
		}
	}, true)
	c.u.layers = c.u.layers[:len(c.u.layers)-1]
}

// layer makes hidden locals for the targets of a comprehension.
func (c *compiler) layer(x *syntax.Comp) map[string]int {
	b := &binder{names: map[string]bool{}}
	for _, g := range x.Gens {
		b.target(g.Target)
	}
	layer := map[string]int{}
	for _, n := range b.order {
		layer[n] = c.u.hidden(n)
	}
	return layer
}

// gens emits the loops of a comprehension from the i-th on; the iterator of the first is on the
// stack.
func (c *compiler) gens(x *syntax.Comp, i int, body func(), ready bool) {
	g := x.Gens[i]
	if !ready {
		c.expr(g.Iter)
		if g.Async {
			c.emit(opAIter, 0)
		} else {
			c.emit(opIter, 0)
		}
	}
	begin, end, next := &label{}, &label{}, &label{}
	handler := &label{}
	c.place(begin)
	if g.Async {
		c.jump(opSetup, handler)
		c.emit(opANext, 0)
		c.emit(opYieldFrom, 0)
		c.emit(opPopBlock, 0)
	} else {
		c.jump(opForIter, end)
	}
	c.assign(g.Target)
	for _, f := range g.Ifs {
		c.cond(f, next)
	}
	if i+1 < len(x.Gens) {
		c.gens(x, i+1, body, false)
	} else {
		body()
	}
	c.place(next)
	c.back(begin)
	if g.Async {
		c.place(handler)
		c.jump(opEndAsyncFor, end)
	}
	c.place(end)
}

// assign stores the value on the stack in a target.
func (c *compiler) assign(t syntax.Expr) {
	defer c.at(t)()
	switch t := t.(type) {
	case *syntax.Name:
		if t.ID == "__debug__" {
			c.fail(t.Pos, "cannot assign to __debug__")
		}
		c.store(t.ID)
	case *syntax.Attribute:
		c.expr(t.X)
		c.emit(opStoreAttr, c.name(t.Name))
	case *syntax.Subscript:
		c.expr(t.X)
		c.expr(t.Index)
		c.emit(opStoreIndex, 0)
	case *syntax.Display:
		star := -1
		for i, y := range t.Xs {
			if _, ok := y.(*syntax.Starred); ok {
				if star >= 0 {
					c.fail(t.Pos, "multiple starred expressions in assignment")
				}
				star = i
			}
		}
		if star >= 0 {
			c.emit(opUnpackEx, star<<16|(len(t.Xs)-star-1))
		} else {
			c.emit(opUnpack, len(t.Xs))
		}
		for _, y := range t.Xs {
			if s, ok := y.(*syntax.Starred); ok {
				y = s.X
			}
			c.assign(y)
		}
	default:
		c.fail(t.Span(), "cannot assign to expression")
	}
}
