package syntax

import "fmt"

// statement appends the next statement, or all simple statements of a line, to body.
func (p *parser) statement(body []Stmt) []Stmt {
	t := p.cur()
	switch t.kind {
	case tIndent:
		panic(failure{&Error{"IndentationError", "unexpected indent", t.pos}})
	case tOp:
		if t.text == "@" {
			return append(body, p.decorated())
		}
	case tName:
		p.enter()
		defer p.leave()
		switch t.text {
		case "if":
			return append(body, p.ifStmt())
		case "while":
			p.next()
			cond := p.namedExpr()
			b := p.block("'while' statement", t.pos)
			return append(body, &While{p.join(t.pos), cond, b, p.elseBlock()})
		case "for":
			return append(body, p.forStmt(t.pos, false))
		case "try":
			return append(body, p.tryStmt())
		case "with":
			return append(body, p.withStmt(t.pos, false))
		case "def":
			return append(body, p.funcDef(t.pos, nil, false))
		case "class":
			return append(body, p.classDef(nil))
		case "async":
			p.next()
			switch p.cur().text {
			case "def":
				return append(body, p.funcDef(t.pos, nil, true))
			case "for":
				return append(body, p.forStmt(t.pos, true))
			case "with":
				return append(body, p.withStmt(t.pos, true))
			}
			p.fail("invalid syntax")
		case "match":
			if m := p.matchStmt(); m != nil {
				return append(body, m)
			}
		case "type":
			if n := p.peek(1); n.kind == tName && !keywords[n.text] {
				panic(failure{&Unsupported{int(t.pos.Line), "the type statement"}})
			}
		}
	}
	for {
		body = append(body, p.simple())
		if !p.isOp(";") {
			break
		}
		p.next()
		if p.cur().kind == tNewline {
			break
		}
	}
	p.newline()
	return body
}

// block is what stands behind a colon: the rest of the line, or lines that are indented.
func (p *parser) block(what string, from Pos) []Stmt {
	p.want(":")
	if p.cur().kind != tNewline {
		var body []Stmt
		for {
			body = append(body, p.simple())
			if !p.isOp(";") {
				break
			}
			p.next()
			if p.cur().kind == tNewline {
				break
			}
		}
		p.newline()
		return body
	}
	p.next()
	if p.cur().kind != tIndent {
		panic(failure{&Error{"IndentationError", fmt.Sprintf("expected an indented block after %s on line %d", what, from.Line), p.cur().pos}})
	}
	p.next()
	var body []Stmt
	for p.cur().kind != tDedent && p.cur().kind != tEOF {
		body = p.statement(body)
	}
	if p.cur().kind == tDedent {
		p.next()
	}
	return body
}

func (p *parser) elseBlock() []Stmt {
	if !p.isName("else") {
		return nil
	}
	from := p.next().pos
	return p.block("'else' statement", from)
}

func (p *parser) ifStmt() Stmt {
	p.enter()
	defer p.leave()
	t := p.next()
	cond := p.namedExpr()
	then := p.block("'"+t.text+"' statement", t.pos)
	if p.isName("elif") {
		other := p.ifStmt()
		return &If{p.join(t.pos), cond, then, []Stmt{other}}
	}
	return &If{p.join(t.pos), cond, then, p.elseBlock()}
}

func (p *parser) forStmt(from Pos, async bool) Stmt {
	p.next()
	target := p.targets()
	p.wantName("in")
	it := p.exprList()
	body := p.block("'for' statement", from)
	return &For{p.join(from), target, it, body, p.elseBlock(), async}
}

func (p *parser) tryStmt() Stmt {
	from := p.next().pos
	s := &Try{Body: p.block("'try' statement", from)}
	for p.isName("except") {
		h := Handler{Pos: p.next().pos}
		if p.isOp("*") {
			if len(s.Handlers) > 0 && !s.Star {
				p.fail("cannot have both 'except' and 'except*' on the same 'try'")
			}
			p.next()
			s.Star = true
		} else if s.Star {
			p.fail("cannot have both 'except' and 'except*' on the same 'try'")
		}
		if !p.isOp(":") {
			h.Type = p.expr()
			if p.isOp(",") {
				p.fail("multiple exception types must be parenthesized")
			}
			if p.isName("as") {
				p.next()
				h.Name = p.name()
			}
		} else if s.Star {
			p.fail("expected one or more exception types")
		}
		if n := len(s.Handlers); n > 0 && s.Handlers[n-1].Type == nil {
			p.failAt(s.Handlers[n-1].Pos, "default 'except:' must be last")
		}
		h.Body = p.block("'except' statement", h.Pos)
		s.Handlers = append(s.Handlers, h)
	}
	if len(s.Handlers) > 0 {
		s.Else = p.elseBlock()
	}
	if p.isName("finally") {
		from := p.next().pos
		s.Finally = p.block("'finally' statement", from)
	} else if len(s.Handlers) == 0 {
		p.fail("expected 'except' or 'finally' block")
	}
	s.Pos = p.join(from)
	return s
}

func (p *parser) withStmt(from Pos, async bool) Stmt {
	p.next()
	item := func() WithItem {
		w := WithItem{X: p.expr()}
		if p.isName("as") {
			p.next()
			if p.isOp("*") {
				p.fail("invalid syntax")
			}
			w.Target = p.primaryTarget()
		}
		return w
	}
	var items []WithItem
	// Parentheses around the items are tried first; if they are part of an expression, they are
	// not.
	if p.isOp("(") {
		save := p.i
		func() {
			defer func() {
				if r := recover(); r != nil {
					if _, ok := r.(failure); !ok {
						panic(r)
					}
					items = nil
				}
			}()
			p.next()
			for !p.isOp(")") {
				items = append(items, item())
				if !p.isOp(",") {
					break
				}
				p.next()
			}
			p.want(")")
			if !p.isOp(":") || len(items) == 0 {
				items = nil
			}
		}()
		if items == nil {
			p.i = save
		}
	}
	if items == nil {
		items = append(items, item())
		for p.isOp(",") {
			p.next()
			items = append(items, item())
		}
	}
	body := p.block("'with' statement", from)
	return &With{p.join(from), items, body, async}
}

func (p *parser) primaryTarget() Expr {
	x := p.primary()
	p.checkTarget(x, "assign to")
	return x
}

func (p *parser) decorated() Stmt {
	var decorators []Expr
	for p.isOp("@") {
		p.next()
		decorators = append(decorators, p.namedExpr())
		p.newline()
	}
	from := p.cur().pos
	switch {
	case p.isName("def"):
		return p.funcDef(from, decorators, false)
	case p.isName("class"):
		return p.classDef(decorators)
	case p.isName("async"):
		p.next()
		if p.isName("def") {
			return p.funcDef(from, decorators, true)
		}
	}
	p.fail("invalid syntax")
	return nil
}

func (p *parser) funcDef(from Pos, decorators []Expr, async bool) Stmt {
	p.next()
	f := &FuncDef{Name: p.name(), Decorators: decorators, Async: async}
	if p.isOp("[") {
		panic(failure{&Unsupported{int(from.Line), "type parameters"}})
	}
	if !p.isOp("(") {
		p.fail("expected '('")
	}
	p.next()
	f.Params = p.params(")", true)
	p.want(")")
	if p.isOp("->") {
		p.next()
		f.Returns = p.expr()
	}
	f.Body = p.block("function definition", from)
	f.Pos = p.join(from)
	return f
}

func (p *parser) classDef(decorators []Expr) Stmt {
	from := p.next().pos
	c := &ClassDef{Name: p.name(), Decorators: decorators}
	if p.isOp("[") {
		panic(failure{&Unsupported{int(from.Line), "type parameters"}})
	}
	if p.isOp("(") {
		c.Bases = p.args()
	}
	c.Body = p.block("class definition", from)
	c.Pos = p.join(from)
	return c
}

func (p *parser) dotted() string {
	s := p.name()
	for p.isOp(".") {
		p.next()
		s += "." + p.name()
	}
	return s
}

// simple reads one simple statement, without its end.
func (p *parser) simple() Stmt {
	t := p.cur()
	from := t.pos
	if t.kind == tName {
		switch t.text {
		case "pass":
			p.next()
			return &Pass{from}
		case "break":
			p.next()
			return &Break{from}
		case "continue":
			p.next()
			return &Continue{from}
		case "return":
			p.next()
			var x Expr
			if !p.atEnd() {
				x = p.exprList()
			}
			return &Return{p.join(from), x}
		case "raise":
			p.next()
			s := &Raise{}
			if !p.atEnd() {
				s.X = p.expr()
				if p.isName("from") {
					p.next()
					s.Cause = p.expr()
				}
			}
			s.Pos = p.join(from)
			return s
		case "global", "nonlocal":
			p.next()
			s := &Global{Nonlocal: t.text == "nonlocal", Names: []string{p.name()}}
			for p.isOp(",") {
				p.next()
				s.Names = append(s.Names, p.name())
			}
			s.Pos = p.join(from)
			return s
		case "assert":
			p.next()
			s := &Assert{X: p.expr()}
			if p.isOp(",") {
				p.next()
				s.Msg = p.expr()
			}
			s.Pos = p.join(from)
			return s
		case "del":
			p.next()
			x := p.exprList()
			p.checkTarget(x, "delete")
			targets := []Expr{x}
			if d, ok := x.(*Display); ok {
				targets = d.Xs
			}
			return &Del{p.join(from), targets}
		case "import":
			p.next()
			s := &Import{}
			for {
				a := Alias{Pos: p.cur().pos, Name: p.dotted()}
				if p.isName("as") {
					p.next()
					a.As = p.name()
				}
				s.Names = append(s.Names, a)
				if !p.isOp(",") {
					break
				}
				p.next()
			}
			s.Pos = p.join(from)
			return s
		case "from":
			return p.importFrom()
		}
	}
	return p.exprStmt()
}

func (p *parser) atEnd() bool { return p.cur().kind == tNewline || p.isOp(";") }

func (p *parser) importFrom() Stmt {
	from := p.next().pos
	if p.isOp(".") || p.isOp("...") {
		panic(failure{&Unsupported{int(from.Line), "relative imports"}})
	}
	s := &ImportFrom{Module: p.dotted()}
	p.wantName("import")
	if p.isOp("*") {
		panic(failure{&Unsupported{int(from.Line), "from ... import *"}})
	}
	paren := p.isOp("(")
	if paren {
		p.next()
	}
	for {
		a := Alias{Pos: p.cur().pos, Name: p.name()}
		if p.isName("as") {
			p.next()
			a.As = p.name()
		}
		s.Names = append(s.Names, a)
		if !p.isOp(",") {
			break
		}
		p.next()
		if paren && p.isOp(")") {
			break
		}
	}
	if paren {
		p.want(")")
	}
	s.Pos = p.join(from)
	return s
}

func (p *parser) value() Expr {
	if p.isName("yield") {
		return p.yield()
	}
	return p.exprList()
}

func (p *parser) exprStmt() Stmt {
	from := p.cur().pos
	x := p.value()
	t := p.cur()
	if t.kind == tOp {
		switch t.text {
		case "=":
			targets := []Expr{x}
			var v Expr
			for p.isOp("=") {
				p.next()
				v = p.value()
				targets = append(targets, v)
			}
			targets = targets[:len(targets)-1]
			for _, target := range targets {
				if _, ok := target.(*Starred); ok {
					p.failAt(target.Span(), "starred assignment target must be in a list or tuple")
				}
				p.checkTarget(target, "assign to")
			}
			return &Assign{p.join(from), targets, v}
		case ":":
			switch x.(type) {
			case *Name, *Attribute, *Subscript:
			default:
				p.fail("invalid syntax")
			}
			p.next()
			s := &AnnAssign{Target: x, Note: p.expr()}
			if p.isOp("=") {
				p.next()
				s.Value = p.value()
			}
			s.Pos = p.join(from)
			return s
		case "+=", "-=", "*=", "/=", "//=", "%=", "**=", "&=", "|=", "^=", ">>=", "<<=", "@=":
			switch x.(type) {
			case *Name, *Attribute, *Subscript:
			default:
				p.failAt(x.Span(), "illegal expression for augmented assignment")
			}
			p.next()
			v := p.value()
			return &AugAssign{p.join(from), x, t.text[:len(t.text)-1], v}
		}
	}
	if n, ok := x.(*Name); ok && t.kind != tNewline && !p.isOp(";") && (n.ID == "print" || n.ID == "exec") {
		p.failAt(from, "Missing parentheses in call to '"+n.ID+"'. Did you mean "+n.ID+"(...)?")
	}
	return &ExprStmt{p.join(from), x}
}
