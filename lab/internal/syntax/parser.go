package syntax

import (
	"fmt"
)

var keywords = map[string]bool{}

func init() {
	for _, k := range []string{"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
		"elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass",
		"raise", "return", "try", "while", "with", "yield"} {
		keywords[k] = true
	}
}

// A failure is how the parser leaves its recursion; Parse returns the error. No other panic is
// caught.
type failure struct{ err error }

// A parser descends recursively over the tokens.
type parser struct {
	toks   []token
	i      int
	src    string
	depth  int
	fdepth int  // of f-strings
	noIn   bool // "in" ends the expression: in the targets of a for
}

// Parse parses a program. The error is an *Error or an *Unsupported.
func Parse(src string) (body []Stmt, err error) {
	toks, err := tokens(src)
	if err != nil {
		return nil, err
	}
	defer caught(&err)
	p := &parser{toks: toks, src: src}
	for p.cur().kind != tEOF {
		body = p.statement(body)
	}
	return body, nil
}

func caught(err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		*err = r.err
	default:
		panic(r)
	}
}

func (p *parser) cur() *token { return &p.toks[p.i] }

func (p *parser) peek(n int) *token { return &p.toks[min(p.i+n, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.toks[p.i]
	if p.i < len(p.toks)-1 {
		p.i++
	}
	return t
}

func (p *parser) enter() {
	if p.depth++; p.depth > 300 {
		p.fail("too many nested expressions")
	}
}

func (p *parser) leave() { p.depth-- }

func (p *parser) isOp(s string) bool {
	t := p.cur()
	return t.kind == tOp && t.text == s
}

func (p *parser) isName(s string) bool {
	t := p.cur()
	return t.kind == tName && t.text == s
}

func (p *parser) want(op string) {
	if !p.isOp(op) {
		if op == ":" {
			p.fail("expected ':'")
		}
		p.fail("invalid syntax")
	}
	p.next()
}

func (p *parser) wantName(s string) {
	if !p.isName(s) {
		p.fail("invalid syntax")
	}
	p.next()
}

func (p *parser) name() string {
	t := p.cur()
	if t.kind != tName || keywords[t.text] {
		p.fail("invalid syntax")
	}
	p.next()
	return t.text
}

func (p *parser) fail(msg string) {
	t := p.cur()
	if t.kind == tIndent && msg == "invalid syntax" {
		panic(failure{&Error{"IndentationError", "unexpected indent", t.pos}})
	}
	p.failAt(t.pos, msg)
}

func (p *parser) failAt(pos Pos, msg string) { panic(failure{&Error{"SyntaxError", msg, pos}}) }

func (p *parser) newline() {
	if p.cur().kind != tNewline {
		p.fail("invalid syntax")
	}
	p.next()
}

// exprList is one or more expressions, starred ones too; several are a tuple.
func (p *parser) exprList() Expr { return p.starList("") }

func (p *parser) starList(closing string) Expr {
	from := p.cur().pos
	x := p.starOrNamed()
	if !p.isOp(",") {
		if s, ok := x.(*Starred); ok {
			p.failAt(s.Pos, "can't use starred expression here")
		}
		return x
	}
	xs := []Expr{x}
	for p.isOp(",") {
		p.next()
		t := p.cur()
		if t.kind == tNewline || t.kind == tEOF || t.kind == tOp && (t.text == "=" || t.text == ";" || t.text == ":" || t.text == ")" || t.text == closing) {
			break
		}
		xs = append(xs, p.starOrNamed())
	}
	return &Display{p.join(from), '(', xs}
}

// checkTarget refuses what cannot be assigned to, or deleted.
func (p *parser) checkTarget(x Expr, verb string) {
	what := ""
	switch x := x.(type) {
	case *Name, *Attribute, *Subscript:
		return
	case *Starred:
		p.checkTarget(x.X, verb)
		return
	case *Display:
		if x.Kind != '{' {
			for _, e := range x.Xs {
				p.checkTarget(e, verb)
			}
			return
		}
		what = "set display"
	case *Const:
		what = "literal"
		switch v := x.Value.(type) {
		case nil:
			what = "None"
		case bool:
			what = map[bool]string{true: "True", false: "False"}[v]
		}
	case *Call:
		what = "function call"
	case *Await:
		what = "await expression"
	case *Lambda:
		what = "lambda"
	case *Compare:
		what = "comparison"
	case *Dict:
		what = "dict literal"
	case *Joined:
		what = "f-string expression"
	case *IfExp:
		what = "conditional expression"
	default:
		what = "expression"
	}
	p.failAt(x.Span(), fmt.Sprintf("cannot %s %s", verb, what))
}

// params reads parameters up to closing, which is left.
func (p *parser) params(closing string, notes bool) *Params {
	q := &Params{NPos: -1}
	seen := map[string]bool{}
	add := func(name string) string {
		if seen[name] {
			p.fail(fmt.Sprintf("duplicate argument '%s' in function definition", name))
		}
		seen[name] = true
		return name
	}
	note := func() Expr {
		if notes && p.isOp(":") {
			p.next()
			return p.expr()
		}
		return nil
	}
	defaults := false
	for !p.isOp(closing) {
		switch {
		case p.isOp("/"):
			if q.PosOnl > 0 || q.NPos >= 0 || len(q.List) == 0 {
				p.fail("invalid syntax")
			}
			p.next()
			q.PosOnl = len(q.List)
		case p.isOp("*"):
			if q.NPos >= 0 {
				p.fail("* argument may appear only once")
			}
			p.next()
			q.NPos = len(q.List)
			if p.isOp(",") {
				if t := p.peek(1); t.kind == tOp && t.text == closing {
					p.fail("named arguments must follow bare *")
				}
				break
			}
			q.Star = add(p.name())
			note()
		case p.isOp("**"):
			p.next()
			q.Kw = add(p.name())
			note()
			if p.isOp(",") {
				p.next()
			}
			if !p.isOp(closing) {
				p.fail("arguments cannot follow var-keyword argument")
			}
			continue
		default:
			par := Param{Name: add(p.name())}
			par.Note = note()
			if p.isOp("=") {
				p.next()
				par.Default = p.expr()
				defaults = true
			} else if defaults && q.NPos < 0 {
				p.fail("parameter without a default follows parameter with a default")
			}
			q.List = append(q.List, par)
		}
		if !p.isOp(",") {
			break
		}
		p.next()
	}
	if q.NPos < 0 {
		q.NPos = len(q.List)
	}
	return q
}
