package vm

import (
	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// A pattern is compiled from a case. Its expressions are evaluated before it is tried; values are
// numbered in that order, and so are the names that it binds.
type pattern struct {
	kind  patKind
	value int
	bind  int // -1 if it binds nothing
	subs  []*pattern
	star  int // index of the star among subs, or -1
	names []string
	keys  []int
	rest  int

	nValues, nNames int // of the whole pattern, in its root
}

type patKind uint8

const (
	patValue patKind = iota
	patIs
	patAny
	patOr
	patSequence
	patStar
	patMapping
	patClass
)

type patternCompiler struct {
	c     *compiler
	n     int
	names []string
}

func (p *patternCompiler) name(s string) int {
	if s == "" {
		return -1
	}
	for i, n := range p.names {
		if n == s {
			return i
		}
	}
	p.names = append(p.names, s)
	return len(p.names) - 1
}

func (p *patternCompiler) expr(x syntax.Expr) int {
	p.c.expr(x)
	p.n++
	return p.n - 1
}

func (p *patternCompiler) compile(n syntax.Node) *pattern {
	out := &pattern{bind: -1, star: -1, rest: -1}
	subs := func(ns []syntax.Node) {
		for i, s := range ns {
			if _, ok := s.(*syntax.PatStar); ok {
				out.star = i
			}
			out.subs = append(out.subs, p.compile(s))
		}
	}
	switch n := n.(type) {
	case *syntax.PatValue:
		if k, ok := n.X.(*syntax.Const); ok {
			switch k.Value.(type) {
			case nil, bool:
				out.kind = patIs
			}
		}
		out.value = p.expr(n.X)
	case *syntax.PatCapture:
		out.kind = patAny
		if n.Sub != nil {
			out.subs = []*pattern{p.compile(n.Sub)}
		}
		out.bind = p.name(n.Name)
	case *syntax.PatOr:
		out.kind = patOr
		subs(n.Subs)
	case *syntax.PatSequence:
		out.kind = patSequence
		subs(n.Subs)
	case *syntax.PatStar:
		out.kind = patStar
		out.bind = p.name(n.Name)
	case *syntax.PatMapping:
		out.kind = patMapping
		for _, k := range n.Keys {
			out.keys = append(out.keys, p.expr(k))
		}
		subs(n.Subs)
		out.rest = p.name(n.Rest)
	case *syntax.PatClass:
		out.kind = patClass
		out.value = p.expr(n.Class)
		out.names = n.Names
		subs(n.Subs)
	}
	return out
}

func (c *compiler) match(s *syntax.Match) {
	end := &label{}
	c.expr(s.X)
	for _, k := range s.Cases {
		next := &label{}
		c.pos = k.Pat.Span()
		if c.lines {
			c.emit(opLine, int(c.pos.Line))
		}
		c.emit(opDup, 0)
		p := &patternCompiler{c: c}
		root := p.compile(k.Pat)
		root.nValues, root.nNames = p.n, len(p.names)
		c.u.code.pats = append(c.u.code.pats, root)
		// It takes the subject and the values, and leaves what is bound and whether it matches.
		c.emit(opMatch, len(c.u.code.pats)-1)
		fail := &label{}
		c.jump(opJumpIfFalse, fail)
		for i := len(p.names) - 1; i >= 0; i-- {
			c.store(p.names[i])
		}
		if k.Guard != nil {
			c.cond(k.Guard, next)
		}
		c.emit(opPop, 0)
		c.stmts(k.Body)
		c.jump(opJump, end)
		c.place(fail)
		for range p.names {
			c.emit(opPop, 0)
		}
		c.place(next)
	}
	c.emit(opPop, 0)
	c.place(end)
}

// match tries p on v.
func (th *Thread) match(p *pattern, v Value, values, bound []Value) (bool, error) {
	if err := th.enter(); err != nil {
		return false, err
	}
	defer th.leave()
	ok := true
	switch p.kind {
	case patValue:
		same, err := th.equal(v, values[p.value])
		if err != nil || !same {
			return false, err
		}
	case patIs:
		return v == values[p.value], nil
	case patAny:
		if len(p.subs) > 0 {
			m, err := th.match(p.subs[0], v, values, bound)
			if err != nil || !m {
				return false, err
			}
		}
	case patOr:
		ok = false
		for _, s := range p.subs {
			m, err := th.match(s, v, values, bound)
			if err != nil {
				return false, err
			}
			if m {
				return true, nil
			}
		}
	case patSequence:
		var items []Value
		switch v := v.(type) {
		case *List:
			items = v.items
		case *Tuple:
			items = v.items
		case *Range:
			it, err := th.list(v)
			if err != nil {
				return false, err
			}
			items = it
		case *Object:
			t, is := v.native.(*Tuple)
			if !is {
				return false, nil
			}
			items = t.items
		default:
			return false, nil
		}
		if len(items) != len(p.subs) && (p.star < 0 || len(items) < len(p.subs)-1) {
			return false, nil
		}
		extra := len(items) - len(p.subs)
		for i, s := range p.subs {
			var sub Value
			switch {
			case p.star < 0 || i < p.star:
				sub = items[i]
			case i == p.star:
				sub = &List{append([]Value(nil), items[i:i+extra+1]...)}
			default:
				sub = items[i+extra]
			}
			m, err := th.match(s, sub, values, bound)
			if err != nil || !m {
				return false, err
			}
		}
	case patMapping:
		d, is := v.(*Dict)
		if !is {
			return false, nil
		}
		rest := d.copy()
		for i, k := range p.keys {
			x, found, err := d.get(th, values[k])
			if err != nil || !found {
				return false, err
			}
			m, err := th.match(p.subs[i], x, values, bound)
			if err != nil || !m {
				return false, err
			}
			if _, _, err := rest.del(th, values[k]); err != nil {
				return false, err
			}
		}
		if p.rest >= 0 {
			bound[p.rest] = rest
		}
	case patClass:
		return th.matchClass(p, v, values, bound)
	}
	if ok && p.bind >= 0 {
		bound[p.bind] = v
	}
	return ok, nil
}

func (th *Thread) matchClass(p *pattern, v Value, values, bound []Value) (bool, error) {
	cls, ok := values[p.value].(*Class)
	if !ok {
		return false, raise("TypeError", "called match pattern must be a class")
	}
	if m, err := th.isInstance(v, cls); err != nil || !m {
		return false, err
	}
	positional := len(p.subs) - len(p.names)
	names := p.names
	if positional > 0 {
		switch cls {
		case intClass, strClass, floatClass, boolClass, listClass, tupleClass, dictClass, setClass, frozensetClass:
			if positional > 1 {
				return false, raise("TypeError", "%s() accepts 1 positional sub-pattern (%d given)", cls.name, positional)
			}
			if m, err := th.match(p.subs[0], v, values, bound); err != nil || !m {
				return false, err
			}
		default:
			args, _ := cls.lookup("__match_args__").(*Tuple)
			if args == nil || len(args.items) < positional {
				n := 0
				if args != nil {
					n = len(args.items)
				}
				return false, raise("TypeError", "%s() accepts %d positional sub-patterns (%d given)", cls.name, n, positional)
			}
			for i := range positional {
				name, _ := args.items[i].(string)
				if m, err := th.matchAttr(p.subs[i], v, name, values, bound); err != nil || !m {
					return false, err
				}
			}
		}
	}
	for i, n := range names {
		if m, err := th.matchAttr(p.subs[positional+i], v, n, values, bound); err != nil || !m {
			return false, err
		}
	}
	return true, nil
}

func (th *Thread) matchAttr(p *pattern, v Value, name string, values, bound []Value) (bool, error) {
	x, err := th.getAttr(v, name)
	if isExc(err, "AttributeError") {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return th.match(p, x, values, bound)
}
