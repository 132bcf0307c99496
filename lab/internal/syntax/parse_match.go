package syntax

// matchStmt reads a match statement, or nothing if "match" is a name here.
func (p *parser) matchStmt() Stmt {
	save := p.i
	from := p.next().pos
	var x Expr
	ok := func() (ok bool) {
		defer func() {
			if r := recover(); r != nil {
				if _, is := r.(failure); !is {
					panic(r)
				}
				ok = false
			}
		}()
		x = p.exprList()
		return p.isOp(":") && p.peek(1).kind == tNewline && p.peek(2).kind == tIndent && p.peek(3).text == "case"
	}()
	if !ok {
		p.i = save
		return nil
	}
	p.next()
	p.next()
	p.next()
	m := &Match{X: x}
	for p.isName("case") {
		at := p.next().pos
		c := MatchCase{Pat: p.openPattern()}
		if p.isName("if") {
			p.next()
			c.Guard = p.namedExpr()
		}
		c.Body = p.block("'case' statement", at)
		m.Cases = append(m.Cases, c)
	}
	if p.cur().kind != tDedent {
		p.fail("invalid syntax")
	}
	p.next()
	m.Pos = p.join(from)
	return m
}

func (p *parser) openPattern() Node {
	from := p.cur().pos
	first := p.starPattern()
	if !p.isOp(",") {
		if _, ok := first.(*PatStar); ok {
			p.fail("invalid syntax")
		}
		return first
	}
	subs := []Node{first}
	for p.isOp(",") {
		p.next()
		if p.isOp(":") || p.isName("if") {
			break
		}
		subs = append(subs, p.starPattern())
	}
	return &PatSequence{p.join(from), subs}
}

func (p *parser) starPattern() Node {
	if !p.isOp("*") {
		return p.asPattern()
	}
	from := p.next().pos
	name := p.name()
	if name == "_" {
		name = ""
	}
	return &PatStar{p.join(from), name}
}

func (p *parser) asPattern() Node {
	p.enter()
	defer p.leave()
	from := p.cur().pos
	x := p.closedPattern()
	if p.isOp("|") {
		subs := []Node{x}
		for p.isOp("|") {
			p.next()
			subs = append(subs, p.closedPattern())
		}
		x = &PatOr{p.join(from), subs}
	}
	if p.isName("as") {
		p.next()
		name := p.name()
		x = &PatCapture{p.join(from), x, name}
	}
	return x
}

func (p *parser) closedPattern() Node {
	t := p.cur()
	switch {
	case p.isOp("("), p.isOp("["):
		closing := map[string]string{"(": ")", "[": "]"}[t.text]
		p.next()
		var subs []Node
		comma := false
		for !p.isOp(closing) {
			subs = append(subs, p.starPattern())
			if !p.isOp(",") {
				break
			}
			comma = true
			p.next()
		}
		p.want(closing)
		if t.text == "(" && len(subs) == 1 && !comma {
			if _, ok := subs[0].(*PatStar); !ok {
				return subs[0]
			}
		}
		return &PatSequence{p.join(t.pos), subs}
	case p.isOp("{"):
		p.next()
		m := &PatMapping{}
		for !p.isOp("}") {
			if p.isOp("**") {
				p.next()
				m.Rest = p.name()
			} else {
				m.Keys = append(m.Keys, p.literalOrDotted())
				p.want(":")
				m.Subs = append(m.Subs, p.asPattern())
			}
			if !p.isOp(",") {
				break
			}
			p.next()
		}
		p.want("}")
		m.Pos = p.join(t.pos)
		return m
	}
	if t.kind == tName && !keywords[t.text] {
		if n := p.peek(1); !(n.kind == tOp && (n.text == "." || n.text == "(")) {
			p.next()
			if t.text == "_" {
				return &PatCapture{Pos: t.pos}
			}
			return &PatCapture{Pos: t.pos, Name: t.text}
		}
	}
	x := p.literalOrDotted()
	if !p.isOp("(") {
		return &PatValue{x.Span(), x}
	}
	p.next()
	c := &PatClass{Class: x}
	for !p.isOp(")") {
		if n := p.peek(1); p.cur().kind == tName && n.kind == tOp && n.text == "=" {
			c.Names = append(c.Names, p.name())
			p.next()
		} else if c.Names != nil {
			p.fail("positional patterns follow keyword patterns")
		}
		c.Subs = append(c.Subs, p.asPattern())
		if !p.isOp(",") {
			break
		}
		p.next()
	}
	p.want(")")
	c.Pos = p.join(t.pos)
	return c
}

func (p *parser) literalOrDotted() Expr {
	t := p.cur()
	if t.kind == tName && !keywords[t.text] {
		p.next()
		var x Expr = &Name{t.pos, t.text}
		for p.isOp(".") {
			p.next()
			name := p.name()
			x = &Attribute{p.join(t.pos), x, name}
		}
		return x
	}
	if t.kind == tOp && t.text != "-" {
		p.fail("invalid syntax")
	}
	x := p.unary()
	switch y := x.(type) {
	case *Const:
	case *Unary:
		if _, ok := y.X.(*Const); !ok {
			p.fail("invalid syntax")
		}
	default:
		p.failAt(x.Span(), "patterns may only match literals and attribute lookups")
	}
	return x
}
