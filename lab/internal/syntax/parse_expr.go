package syntax

// Precedences of binary operators, from | to the factors; ** is apart.
var precedence = map[string]int{"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "@": 6}

func (p *parser) join(from Pos) Pos {
	last := p.toks[p.i-1].pos
	from.EndLine, from.EndCol = last.EndLine, last.EndCol
	return from
}

// namedExpr is an expression or name := expression.
func (p *parser) namedExpr() Expr {
	if p.cur().kind == tName && p.peek(1).kind == tOp && p.peek(1).text == ":=" && !keywords[p.cur().text] {
		t := p.next()
		p.next()
		target := &Name{t.pos, t.text}
		x := p.expr()
		return &Walrus{p.join(t.pos), target, x}
	}
	return p.expr()
}

// expr is a conditional expression or a lambda.
func (p *parser) expr() Expr {
	p.enter()
	defer p.leave()
	if p.isName("lambda") {
		from := p.next().pos
		params := p.params(":", false)
		p.want(":")
		body := p.expr()
		return &Lambda{p.join(from), params, body}
	}
	x := p.or()
	if p.isName("if") {
		p.next()
		cond := p.or()
		if !p.isName("else") {
			p.fail("expected 'else' after 'if' expression")
		}
		p.next()
		other := p.expr()
		return &IfExp{p.join(x.Span()), cond, x, other}
	}
	return x
}

func (p *parser) or() Expr  { return p.boolean("or", p.and) }
func (p *parser) and() Expr { return p.boolean("and", p.not) }

func (p *parser) boolean(op string, operand func() Expr) Expr {
	x := operand()
	if !p.isName(op) {
		return x
	}
	xs := []Expr{x}
	for p.isName(op) {
		p.next()
		xs = append(xs, operand())
	}
	return &Bool{p.join(x.Span()), op, xs}
}

func (p *parser) not() Expr {
	if p.isName("not") {
		p.enter()
		defer p.leave()
		from := p.next().pos
		x := p.not()
		return &Unary{p.join(from), "not", x}
	}
	return p.comparison()
}

func (p *parser) comparison() Expr {
	x := p.binary(1)
	var ops []string
	var rs []Expr
	for {
		op := ""
		switch t := p.cur(); {
		case t.kind == tOp && (t.text == "<" || t.text == ">" || t.text == "==" || t.text == "<=" || t.text == ">=" || t.text == "!="):
			op = t.text
			p.next()
		case p.isName("in"):
			if p.noIn {
				break
			}
			op = "in"
			p.next()
		case p.isName("not") && p.peek(1).kind == tName && p.peek(1).text == "in":
			op = "not in"
			p.next()
			p.next()
		case p.isName("is"):
			op = "is"
			p.next()
			if p.isName("not") {
				p.next()
				op = "is not"
			}
		}
		if op == "" {
			break
		}
		ops = append(ops, op)
		rs = append(rs, p.binary(1))
	}
	if ops == nil {
		return x
	}
	return &Compare{p.join(x.Span()), x, ops, rs}
}

func (p *parser) binary(least int) Expr {
	x := p.unary()
	for {
		t := p.cur()
		prec := precedence[t.text]
		if t.kind != tOp || prec < least {
			return x
		}
		p.next()
		p.enter()
		y := p.binary(prec + 1)
		p.leave()
		x = &Binary{p.join(x.Span()), t.text, x, y}
	}
}

func (p *parser) unary() Expr {
	if t := p.cur(); t.kind == tOp && (t.text == "-" || t.text == "+" || t.text == "~") {
		p.enter()
		defer p.leave()
		p.next()
		x := p.unary()
		return &Unary{p.join(t.pos), t.text, x}
	}
	return p.power()
}

func (p *parser) power() Expr {
	var x Expr
	if p.isName("await") {
		from := p.next().pos
		y := p.primary()
		x = &Await{p.join(from), y}
	} else {
		x = p.primary()
	}
	if p.isOp("**") {
		p.next()
		p.enter()
		defer p.leave()
		y := p.unary()
		x = &Binary{p.join(x.Span()), "**", x, y}
	}
	return x
}

func (p *parser) primary() Expr {
	x := p.atom()
	for links := 0; ; links++ {
		if links > 2000 {
			p.fail("too many nested expressions")
		}
		switch {
		case p.isOp("."):
			p.next()
			name := p.name()
			x = &Attribute{p.join(x.Span()), x, name}
		case p.isOp("("):
			args := p.args()
			x = &Call{p.join(x.Span()), x, args}
		case p.isOp("["):
			p.next()
			index := p.subscript()
			p.want("]")
			x = &Subscript{p.join(x.Span()), x, index}
		default:
			return x
		}
	}
}

func (p *parser) subscript() Expr {
	defer p.anyIn()()
	from := p.cur().pos
	one := func() Expr {
		if p.isOp("*") {
			return p.starred()
		}
		var lo, hi, step Expr
		at := p.cur().pos
		if !p.isOp(":") {
			lo = p.namedExpr()
			if !p.isOp(":") {
				return lo
			}
		}
		p.want(":")
		if !p.isOp(":") && !p.isOp("]") && !p.isOp(",") {
			hi = p.expr()
		}
		if p.isOp(":") {
			p.next()
			if !p.isOp("]") && !p.isOp(",") {
				step = p.expr()
			}
		}
		return &Slice{p.join(at), lo, hi, step}
	}
	x := one()
	if !p.isOp(",") {
		return x
	}
	xs := []Expr{x}
	for p.isOp(",") {
		p.next()
		if p.isOp("]") {
			break
		}
		xs = append(xs, one())
	}
	return &Display{p.join(from), '(', xs}
}

// anyIn allows "in" as an operator until the function that it returns is called.
func (p *parser) anyIn() func() {
	was := p.noIn
	p.noIn = false
	return func() { p.noIn = was }
}

func (p *parser) args() []Arg {
	defer p.anyIn()()
	p.want("(")
	var args []Arg
	keyword := false
	for !p.isOp(")") {
		t := p.cur()
		switch {
		case p.isOp("*"):
			p.next()
			args = append(args, Arg{Stars: 1, X: p.expr()})
		case p.isOp("**"):
			p.next()
			keyword = true
			args = append(args, Arg{Stars: 2, X: p.expr()})
		case t.kind == tName && p.peek(1).kind == tOp && p.peek(1).text == "=":
			if keywords[t.text] {
				p.fail("expression cannot contain assignment, perhaps you meant \"==\"?")
			}
			p.next()
			p.next()
			for _, a := range args {
				if a.Name == t.text {
					p.fail("keyword argument repeated: " + t.text)
				}
			}
			keyword = true
			args = append(args, Arg{Name: t.text, X: p.expr()})
		default:
			x := p.namedExpr()
			if p.isName("for") || p.isName("async") {
				gens := p.compFors()
				x = &Comp{Pos: p.join(x.Span()), Kind: '(', Elt: x, Gens: gens}
				if len(args) > 0 || !p.isOp(")") {
					p.failAt(x.Span(), "Generator expression must be parenthesized")
				}
			} else if keyword {
				p.failAt(x.Span(), "positional argument follows keyword argument")
			}
			args = append(args, Arg{X: x})
		}
		if !p.isOp(",") {
			break
		}
		p.next()
	}
	p.want(")")
	return args
}

func (p *parser) compFors() []CompFor {
	var gens []CompFor
	for p.isName("for") || p.isName("async") {
		var g CompFor
		if p.isName("async") {
			p.next()
			g.Async = true
		}
		if !p.isName("for") {
			p.fail("invalid syntax")
		}
		p.next()
		g.Target = p.targets()
		if !p.isName("in") {
			p.fail("invalid syntax")
		}
		p.next()
		g.Iter = p.or()
		for p.isName("if") {
			p.next()
			if t := p.cur(); t.kind == tName && p.peek(1).text == ":=" {
				g.Ifs = append(g.Ifs, p.namedExpr())
			} else {
				g.Ifs = append(g.Ifs, p.or())
			}
		}
		gens = append(gens, g)
	}
	return gens
}

// targets are those of a for, in which "in" ends the list.
func (p *parser) targets() Expr {
	was := p.noIn
	p.noIn = true
	defer func() { p.noIn = was }()
	from := p.cur().pos
	one := func() Expr {
		if p.isOp("*") {
			from := p.next().pos
			x := p.binary(1)
			return &Starred{p.join(from), x}
		}
		return p.binary(1)
	}
	x := one()
	if p.isOp(",") {
		xs := []Expr{x}
		for p.isOp(",") {
			p.next()
			if p.isName("in") {
				break
			}
			xs = append(xs, one())
		}
		x = &Display{p.join(from), '(', xs}
	}
	p.checkTarget(x, "assign to")
	return x
}

func (p *parser) starred() Expr {
	from := p.next().pos
	x := p.binary(1)
	return &Starred{p.join(from), x}
}

func (p *parser) atom() Expr {
	t := p.cur()
	switch t.kind {
	case tName:
		switch t.text {
		case "None":
			p.next()
			return &Const{t.pos, nil}
		case "True", "False":
			p.next()
			return &Const{t.pos, t.text == "True"}
		case "yield":
			p.fail("invalid syntax")
		}
		if keywords[t.text] {
			p.fail("invalid syntax")
		}
		p.next()
		return &Name{t.pos, t.text}
	case tNumber:
		p.next()
		return &Const{t.pos, t.val}
	case tString, tFString:
		return p.strings()
	case tOp:
		switch t.text {
		case "...":
			p.next()
			return &Const{t.pos, Ellipsis{}}
		case "(":
			return p.paren()
		case "[":
			defer p.anyIn()()
			p.next()
			if p.isOp("]") {
				p.next()
				return &Display{Pos: p.join(t.pos), Kind: '['}
			}
			x := p.starOrNamed()
			if p.isName("for") || p.isName("async") {
				gens := p.compFors()
				p.want("]")
				return &Comp{Pos: p.join(t.pos), Kind: '[', Elt: x, Gens: gens}
			}
			xs := p.more(x, "]")
			p.want("]")
			return &Display{p.join(t.pos), '[', xs}
		case "{":
			return p.brace()
		}
	}
	p.fail("invalid syntax")
	return nil
}

func (p *parser) starOrNamed() Expr {
	if p.isOp("*") {
		return p.starred()
	}
	return p.namedExpr()
}

func (p *parser) more(x Expr, closing string) []Expr {
	xs := []Expr{x}
	for p.isOp(",") {
		p.next()
		if p.isOp(closing) {
			break
		}
		xs = append(xs, p.starOrNamed())
	}
	return xs
}

func (p *parser) paren() Expr {
	defer p.anyIn()()
	from := p.next().pos
	if p.isOp(")") {
		p.next()
		return &Display{Pos: p.join(from), Kind: '('}
	}
	if p.isName("yield") {
		x := p.yield()
		p.want(")")
		return x
	}
	x := p.starOrNamed()
	switch {
	case p.isName("for") || p.isName("async"):
		gens := p.compFors()
		p.want(")")
		return &Comp{Pos: p.join(from), Kind: '(', Elt: x, Gens: gens}
	case p.isOp(","):
		xs := p.more(x, ")")
		p.want(")")
		return &Display{p.join(from), '(', xs}
	}
	p.want(")")
	if _, ok := x.(*Starred); ok {
		p.failAt(x.Span(), "cannot use starred expression here")
	}
	if d, ok := x.(*Display); ok && d.Kind == '(' {
		return d
	}
	return x
}

func (p *parser) brace() Expr {
	defer p.anyIn()()
	from := p.next().pos
	if p.isOp("}") {
		p.next()
		return &Dict{Pos: p.join(from)}
	}
	if !p.isOp("**") {
		x := p.starOrNamed()
		if !p.isOp(":") {
			if p.isName("for") || p.isName("async") {
				gens := p.compFors()
				p.want("}")
				return &Comp{Pos: p.join(from), Kind: '{', Elt: x, Gens: gens}
			}
			xs := p.more(x, "}")
			p.want("}")
			return &Display{p.join(from), '{', xs}
		}
		p.next()
		v := p.expr()
		if p.isName("for") || p.isName("async") {
			gens := p.compFors()
			p.want("}")
			return &Comp{Pos: p.join(from), Kind: ':', Key: x, Elt: v, Gens: gens}
		}
		return p.dict(from, []Expr{x}, []Expr{v})
	}
	p.next()
	return p.dict(from, []Expr{nil}, []Expr{p.binary(1)})
}

func (p *parser) dict(from Pos, keys, values []Expr) Expr {
	for p.isOp(",") {
		p.next()
		if p.isOp("}") {
			break
		}
		if p.isOp("**") {
			p.next()
			keys = append(keys, nil)
			values = append(values, p.binary(1))
			continue
		}
		keys = append(keys, p.expr())
		p.want(":")
		values = append(values, p.expr())
	}
	p.want("}")
	return &Dict{p.join(from), keys, values}
}

func (p *parser) yield() Expr {
	from := p.next().pos
	if p.isName("from") {
		p.next()
		x := p.expr()
		return &Yield{p.join(from), x, true}
	}
	if t := p.cur(); t.kind == tNewline || t.kind == tOp && (t.text == ")" || t.text == "=" || t.text == ";") {
		return &Yield{Pos: p.join(from)}
	}
	x := p.exprList()
	return &Yield{p.join(from), x, false}
}

// strings joins adjacent strings, plain ones and f-strings.
func (p *parser) strings() Expr {
	from := p.cur().pos
	var parts []Expr
	isF := false
	text := func(pos Pos, s string) {
		if n := len(parts); n > 0 {
			if c, ok := parts[n-1].(*Const); ok {
				c.Value = c.Value.(string) + s
				return
			}
		}
		parts = append(parts, &Const{pos, s})
	}
	for p.cur().kind == tString || p.cur().kind == tFString {
		t := p.next()
		if t.kind == tString {
			text(t.pos, t.val.(string))
			continue
		}
		isF = true
		f := &fstring{p: p, tok: t, src: t.text}
		for _, x := range f.parts(false, 0) {
			if c, ok := x.(*Const); ok {
				text(c.Pos, c.Value.(string))
			} else {
				parts = append(parts, x)
			}
		}
	}
	if !isF {
		if parts == nil {
			return &Const{p.join(from), ""}
		}
		return &Const{p.join(from), parts[0].(*Const).Value}
	}
	return &Joined{p.join(from), parts}
}
