package vm

import "github.com/goasyncio/asyncio/lab/internal/syntax"

// children calls fn for the parts of n that are in the same scope.
func children(n syntax.Node, fn func(syntax.Node)) {
	each := func(xs []syntax.Expr) {
		for _, x := range xs {
			if x != nil {
				fn(x)
			}
		}
	}
	one := func(x syntax.Node) {
		if x != nil {
			fn(x)
		}
	}
	body := func(ss []syntax.Stmt) {
		for _, s := range ss {
			fn(s)
		}
	}
	args := func(as []syntax.Arg) {
		for _, a := range as {
			fn(a.X)
		}
	}
	defaults := func(p *syntax.Params) {
		for _, q := range p.List {
			one(q.Default)
		}
	}
	switch n := n.(type) {
	case *syntax.Joined:
		each(n.Parts)
	case *syntax.Formatted:
		fn(n.X)
		one(n.Spec)
	case *syntax.Binary:
		fn(n.L)
		fn(n.R)
	case *syntax.Bool:
		each(n.Xs)
	case *syntax.Unary:
		fn(n.X)
	case *syntax.Compare:
		fn(n.L)
		each(n.Rs)
	case *syntax.Call:
		fn(n.Fn)
		args(n.Args)
	case *syntax.Attribute:
		fn(n.X)
	case *syntax.Subscript:
		fn(n.X)
		fn(n.Index)
	case *syntax.Slice:
		one(n.Lo)
		one(n.Hi)
		one(n.Step)
	case *syntax.Display:
		each(n.Xs)
	case *syntax.Dict:
		each(n.Keys)
		each(n.Values)
	case *syntax.Comp:
		if n.Kind == '(' {
			fn(n.Gens[0].Iter)
			return
		}
		one(n.Key)
		fn(n.Elt)
		for _, g := range n.Gens {
			fn(g.Iter)
			each(g.Ifs)
		}
	case *syntax.Lambda:
		defaults(n.Params)
	case *syntax.IfExp:
		fn(n.Cond)
		fn(n.Then)
		fn(n.Else)
	case *syntax.Await:
		fn(n.X)
	case *syntax.Yield:
		one(n.X)
	case *syntax.Starred:
		fn(n.X)
	case *syntax.Walrus:
		fn(n.X)
	case *syntax.ExprStmt:
		fn(n.X)
	case *syntax.Assign:
		fn(n.Value)
		each(n.Targets)
	case *syntax.AugAssign:
		fn(n.Target)
		fn(n.Value)
	case *syntax.AnnAssign:
		fn(n.Target)
		one(n.Value)
	case *syntax.Return:
		one(n.X)
	case *syntax.Raise:
		one(n.X)
		one(n.Cause)
	case *syntax.If:
		fn(n.Cond)
		body(n.Then)
		body(n.Else)
	case *syntax.While:
		fn(n.Cond)
		body(n.Body)
		body(n.Else)
	case *syntax.For:
		fn(n.Target)
		fn(n.Iter)
		body(n.Body)
		body(n.Else)
	case *syntax.Try:
		body(n.Body)
		for _, h := range n.Handlers {
			one(h.Type)
			body(h.Body)
		}
		body(n.Else)
		body(n.Finally)
	case *syntax.With:
		for _, w := range n.Items {
			fn(w.X)
			one(w.Target)
		}
		body(n.Body)
	case *syntax.FuncDef:
		each(n.Decorators)
		defaults(n.Params)
	case *syntax.ClassDef:
		each(n.Decorators)
		args(n.Bases)
	case *syntax.Assert:
		fn(n.X)
		one(n.Msg)
	case *syntax.Del:
		each(n.Targets)
	case *syntax.Match:
		fn(n.X)
		for _, k := range n.Cases {
			one(k.Guard)
			body(k.Body)
		}
	}
}

func contains(body []syntax.Stmt, is func(syntax.Node) bool) bool {
	found := false
	var visit func(syntax.Node)
	visit = func(n syntax.Node) {
		if found || is(n) {
			found = true
			return
		}
		children(n, visit)
	}
	for _, s := range body {
		visit(s)
	}
	return found
}

func isYield(n syntax.Node) bool {
	_, ok := n.(*syntax.Yield)
	return ok
}

func isAwait(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.Await:
		return true
	case *syntax.For:
		return n.Async
	case *syntax.With:
		return n.Async
	case *syntax.Comp:
		if n.Kind != '(' {
			for _, g := range n.Gens {
				if g.Async {
					return true
				}
			}
		}
	}
	return false
}

// A binder collects the names that statements bind, in order.
type binder struct {
	names   map[string]bool
	order   []string
	globals []*syntax.Global
}

func (b *binder) bind(name string) {
	if name != "" && !b.names[name] {
		b.names[name] = true
		b.order = append(b.order, name)
	}
}

func (b *binder) stmts(body []syntax.Stmt) {
	for _, s := range body {
		b.node(s)
	}
}

func (b *binder) target(x syntax.Expr) {
	switch x := x.(type) {
	case *syntax.Name:
		b.bind(x.ID)
	case *syntax.Starred:
		b.target(x.X)
	case *syntax.Display:
		for _, e := range x.Xs {
			b.target(e)
		}
	}
}

func (b *binder) pattern(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.PatCapture:
		if n.Sub != nil {
			b.pattern(n.Sub)
		}
		b.bind(n.Name)
	case *syntax.PatStar:
		b.bind(n.Name)
	case *syntax.PatOr:
		for _, s := range n.Subs {
			b.pattern(s)
		}
	case *syntax.PatSequence:
		for _, s := range n.Subs {
			b.pattern(s)
		}
	case *syntax.PatMapping:
		for _, s := range n.Subs {
			b.pattern(s)
		}
		b.bind(n.Rest)
	case *syntax.PatClass:
		for _, s := range n.Subs {
			b.pattern(s)
		}
	}
}

func (b *binder) node(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.Assign:
		for _, t := range n.Targets {
			b.target(t)
		}
	case *syntax.AugAssign:
		b.target(n.Target)
	case *syntax.AnnAssign:
		b.target(n.Target)
	case *syntax.For:
		b.target(n.Target)
	case *syntax.With:
		for _, w := range n.Items {
			if w.Target != nil {
				b.target(w.Target)
			}
		}
	case *syntax.Try:
		for _, h := range n.Handlers {
			b.bind(h.Name)
		}
	case *syntax.FuncDef:
		b.bind(n.Name)
	case *syntax.ClassDef:
		b.bind(n.Name)
	case *syntax.Import:
		for _, a := range n.Names {
			b.bind(importedAs(a))
		}
	case *syntax.ImportFrom:
		for _, a := range n.Names {
			if a.As != "" {
				b.bind(a.As)
			} else {
				b.bind(a.Name)
			}
		}
	case *syntax.Del:
		for _, t := range n.Targets {
			b.target(t)
		}
	case *syntax.Walrus:
		b.bind(n.Target.ID)
	case *syntax.Comp:
		if n.Kind == '(' { // its walruses bind names here
			var visit func(syntax.Node)
			visit = func(n syntax.Node) {
				if w, ok := n.(*syntax.Walrus); ok {
					b.bind(w.Target.ID)
				}
				children(n, visit)
			}
			visit(n.Elt)
			for _, g := range n.Gens {
				for _, x := range g.Ifs {
					visit(x)
				}
			}
		}
	case *syntax.Global:
		b.globals = append(b.globals, n)
	case *syntax.Match:
		for _, k := range n.Cases {
			b.pattern(k.Pat)
		}
	}
	children(n, b.node)
}

func importedAs(a syntax.Alias) string {
	if a.As != "" {
		return a.As
	}
	for i := range a.Name {
		if a.Name[i] == '.' {
			return a.Name[:i]
		}
	}
	return a.Name
}
