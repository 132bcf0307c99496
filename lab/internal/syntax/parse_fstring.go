package syntax

import "strings"

// An fstring reads the inside of one f-string.
type fstring struct {
	p   *parser
	tok token
	src string
	i   int
}

func (f *fstring) fail(msg string) { f.p.failAt(f.tok.pos, "f-string: "+msg) }

// parts reads up to the end, or up to the brace that ends a format specification.
func (f *fstring) parts(spec bool, depth int) []Expr {
	if depth > 3 {
		f.fail("expressions nested too deeply")
	}
	var parts []Expr
	var b strings.Builder
	flush := func() {
		if b.Len() == 0 {
			return
		}
		s := b.String()
		if !f.tok.raw {
			var err error
			if s, err = unescape(s); err != nil {
				f.p.failAt(f.tok.pos, err.Error())
			}
		}
		parts = append(parts, &Const{f.tok.pos, s})
		b.Reset()
	}
	for f.i < len(f.src) {
		c := f.src[f.i]
		switch {
		case c == '\\' && !f.tok.raw && f.i+1 < len(f.src) && f.src[f.i+1] != '{' && f.src[f.i+1] != '}':
			b.WriteString(f.src[f.i : f.i+2])
			f.i += 2
		case c == '{' && !spec && strings.HasPrefix(f.src[f.i:], "{{"), c == '}' && !spec && strings.HasPrefix(f.src[f.i:], "}}"):
			b.WriteByte(c)
			f.i += 2
		case c == '}':
			if !spec {
				f.fail("single '}' is not allowed")
			}
			flush()
			return parts
		case c == '{':
			flush()
			f.i++
			parts = append(parts, f.field(depth))
		default:
			b.WriteByte(c)
			f.i++
		}
	}
	flush()
	return parts
}

// field reads one replacement field, behind its opening brace.
func (f *fstring) field(depth int) Expr {
	from := f.i
	nest := 0
	for ; f.i < len(f.src); f.i++ {
		c := f.src[f.i]
		if c == '\'' || c == '"' {
			q := f.src[f.i : f.i+1]
			if t := strings.Repeat(q, 3); strings.HasPrefix(f.src[f.i:], t) {
				q = t
			}
			j := f.i + len(q)
			for j < len(f.src) && !strings.HasPrefix(f.src[j:], q) {
				if f.src[j] == '\\' {
					j++
				}
				j++
			}
			f.i = min(j+len(q), len(f.src)) - 1
			continue
		}
		if c == '(' || c == '[' || c == '{' {
			nest++
		} else if nest > 0 && (c == ')' || c == ']' || c == '}') {
			nest--
		} else if nest == 0 {
			if c == '!' && f.i+1 < len(f.src) && f.src[f.i+1] == '=' || (c == '=' || c == '<' || c == '>') && f.i+1 < len(f.src) && f.src[f.i+1] == '=' {
				f.i++
				continue
			}
			if c == '!' || c == ':' || c == '}' {
				break
			}
			if c == '=' && strings.ContainsAny(strings.TrimLeft(f.src[f.i+1:], " ")[:min(1, len(strings.TrimLeft(f.src[f.i+1:], " ")))], "!:}") {
				break
			}
		}
	}
	if f.i >= len(f.src) {
		f.fail("expecting '}'")
	}
	text := f.src[from:f.i]
	if strings.TrimSpace(text) == "" {
		f.fail("valid expression required before '" + f.src[f.i:f.i+1] + "'")
	}
	x := f.inner(text, from)
	field := &Formatted{Pos: f.tok.pos, X: x}
	if f.src[f.i] == '=' {
		f.i++
		for f.i < len(f.src) && f.src[f.i] == ' ' {
			f.i++
		}
		field.Text = f.src[from:f.i]
	}
	if f.i < len(f.src) && f.src[f.i] == '!' {
		if f.i+1 >= len(f.src) || !strings.ContainsRune("rsa", rune(f.src[f.i+1])) {
			f.fail("invalid conversion character: expected 's', 'r', or 'a'")
		}
		field.Conv = f.src[f.i+1]
		f.i += 2
	}
	if f.i < len(f.src) && f.src[f.i] == ':' {
		f.i++
		field.Spec = &Joined{f.tok.pos, f.parts(true, depth+1)}
	}
	if f.i >= len(f.src) || f.src[f.i] != '}' {
		f.fail("expecting '}'")
	}
	f.i++
	if field.Text != "" && field.Conv == 0 && field.Spec == nil {
		field.Conv = 'r'
	}
	return field
}

// inner parses the expression of a field; its lines and columns are those of the whole text.
func (f *fstring) inner(text string, at int) Expr {
	if f.p.fdepth >= 10 {
		f.fail("too many nested expressions")
	}
	toks, err := tokens("(" + text + ")")
	if err != nil {
		if e, ok := err.(*Error); ok {
			f.fail(e.Msg)
		}
		panic(failure{err})
	}
	before := f.src[:at]
	line := f.tok.pos.Line + int32(strings.Count(before, "\n"))
	col := int32(f.tok.at+at) - int32(strings.LastIndexByte(f.p.src[:min(len(f.p.src), f.tok.at+at)], '\n')) - 2
	for i := range toks {
		t := &toks[i]
		if t.pos.Line == 1 {
			t.pos.Col += col
		}
		if t.pos.EndLine == 1 {
			t.pos.EndCol += col
		}
		t.pos.Line += line - 1
		t.pos.EndLine += line - 1
		t.at += f.tok.at + at - 1
	}
	q := &parser{toks: toks, src: f.p.src, depth: f.p.depth, fdepth: f.p.fdepth + 1}
	q.want("(")
	var x Expr
	if q.isName("yield") {
		x = q.yield()
	} else {
		x = q.starList(")")
	}
	q.want(")")
	if q.cur().kind != tNewline {
		f.fail("invalid syntax")
	}
	return x
}
