package syntax

import (
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	tEOF kind = iota
	tNewline
	tIndent
	tDedent
	tName
	tNumber
	tString  // val is its value
	tFString // text is its inside, raw says whether backslashes are plain
	tOp
)

type token struct {
	kind kind
	text string
	val  any
	raw  bool
	pos  Pos
	at   int // offset of an f-string's inside in the source
}

// A lexer makes tokens of a text. Inside brackets, line ends count for nothing.
type lexer struct {
	src     string
	off     int
	line    int32
	lineOff int // where the line begins
	depth   int // of brackets
	indents []int
	out     []token
}

func (l *lexer) fail(at int, kind, msg string) error {
	col := int32(max(0, at-l.lineOff))
	return &Error{kind, msg, Pos{l.line, col, l.line, col + 1}}
}

func (l *lexer) emit(k kind, text string, from int, line int32, lineOff int) {
	l.out = append(l.out, token{kind: k, text: text, pos: Pos{line, int32(from - lineOff), l.line, int32(l.off - l.lineOff)}})
}

var operators = []string{
	"**=", "//=", ">>=", "<<=", "...", "!=", "->", "**", "//", ">>", "<<", "<=", ">=", "==", "+=", "-=", "*=", "/=", "%=", "&=", "|=",
	"^=", "@=", ":=", "+", "-", "*", "/", "%", "@", "&", "|", "^", "~", "<", ">", "(", ")", "[", "]", "{", "}", ",", ":", ".", ";", "=", "!",
}

// tokens reads the whole text.
func tokens(src string) ([]token, error) {
	l := &lexer{src: src, line: 1, indents: []int{0}}
	if strings.HasPrefix(src, "\ufeff") {
		l.off = 3
	}
	if !utf8.ValidString(src) {
		return nil, l.fail(0, "SyntaxError", "the text is not valid UTF-8")
	}
	if i := strings.IndexByte(src, 0); i >= 0 {
		return nil, l.fail(0, "SyntaxError", "source code string cannot contain null bytes")
	}
	begin := true
	for {
		if begin && l.depth == 0 {
			if err := l.indent(); err != nil {
				return nil, err
			}
			begin = false
		}
		if err := l.space(); err != nil {
			return nil, err
		}
		if l.off >= len(l.src) {
			break
		}
		if c := l.src[l.off]; c == '\n' {
			if l.depth == 0 {
				if n := len(l.out); n > 0 && l.out[n-1].kind != tNewline {
					from := l.off
					l.emit(tNewline, "", from, l.line, l.lineOff)
				}
				begin = true
			}
			l.off++
			l.line++
			l.lineOff = l.off
			continue
		}
		if err := l.token(); err != nil {
			return nil, err
		}
	}
	if l.depth > 0 {
		return nil, l.fail(l.off, "SyntaxError", "'(' was never closed")
	}
	if n := len(l.out); n > 0 && l.out[n-1].kind != tNewline {
		l.emit(tNewline, "", l.off, l.line, l.lineOff)
	}
	for len(l.indents) > 1 {
		l.indents = l.indents[:len(l.indents)-1]
		l.emit(tDedent, "", l.off, l.line, l.lineOff)
	}
	l.emit(tEOF, "", l.off, l.line, l.lineOff)
	return l.out, nil
}

// indent compares the indentation of a line that has something on it with that of the lines before.
func (l *lexer) indent() error {
	col, i := 0, l.off
loop:
	for ; i < len(l.src); i++ {
		switch l.src[i] {
		case ' ':
			col++
		case '\t':
			col = (col/8 + 1) * 8
		case '\f':
			col = 0
		default:
			break loop
		}
	}
	if i >= len(l.src) || l.src[i] == '\n' || l.src[i] == '#' || l.src[i] == '\r' {
		return nil // nothing on the line
	}
	l.off = i
	top := l.indents[len(l.indents)-1]
	switch {
	case col > top:
		if len(l.indents) > 100 {
			return l.fail(i, "IndentationError", "too many levels of indentation")
		}
		l.indents = append(l.indents, col)
		l.emit(tIndent, "", i, l.line, l.lineOff)
	case col < top:
		for col < l.indents[len(l.indents)-1] {
			l.indents = l.indents[:len(l.indents)-1]
			l.emit(tDedent, "", i, l.line, l.lineOff)
		}
		if col != l.indents[len(l.indents)-1] {
			return l.fail(i, "IndentationError", "unindent does not match any outer indentation level")
		}
	}
	return nil
}

// space skips blanks, comments, joined lines and, inside brackets, line ends.
func (l *lexer) space() error {
	for l.off < len(l.src) {
		switch c := l.src[l.off]; {
		case c == ' ' || c == '\t' || c == '\f' || c == '\r':
			l.off++
		case c == '#':
			for l.off < len(l.src) && l.src[l.off] != '\n' {
				l.off++
			}
		case c == '\n' && l.depth > 0, c == '\\' && strings.HasPrefix(l.src[l.off:], "\\\n"), c == '\\' && strings.HasPrefix(l.src[l.off:], "\\\r\n"):
			l.off += strings.IndexByte(l.src[l.off:], '\n') + 1
			l.line++
			l.lineOff = l.off
		case c == '\\':
			return l.fail(l.off, "SyntaxError", "unexpected character after line continuation character")
		default:
			return nil
		}
	}
	return nil
}

func nameStart(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r) }
func namePart(r rune) bool {
	return nameStart(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Mc, r) || unicode.Is(unicode.Pc, r)
}

func (l *lexer) token() error {
	from, line, lineOff := l.off, l.line, l.lineOff
	c := l.src[from]
	if c >= '0' && c <= '9' || c == '.' && from+1 < len(l.src) && l.src[from+1] >= '0' && l.src[from+1] <= '9' {
		return l.number()
	}
	if r, _ := utf8.DecodeRuneInString(l.src[from:]); nameStart(r) {
		for l.off < len(l.src) {
			r, n := utf8.DecodeRuneInString(l.src[l.off:])
			if !namePart(r) {
				break
			}
			l.off += n
		}
		text := l.src[from:l.off]
		if l.off < len(l.src) && (l.src[l.off] == '"' || l.src[l.off] == '\'') && len(text) <= 2 && strings.Trim(strings.ToLower(text), "rbfu") == "" {
			return l.str(strings.ToLower(text), from)
		}
		l.emit(tName, text, from, line, lineOff)
		return nil
	}
	if c == '"' || c == '\'' {
		return l.str("", from)
	}
	for _, op := range operators {
		if !strings.HasPrefix(l.src[from:], op) {
			continue
		}
		switch op {
		case "(", "[", "{":
			if l.depth++; l.depth > 200 {
				return l.fail(from, "SyntaxError", "too many nested parentheses")
			}
		case ")", "]", "}":
			if l.depth == 0 {
				return l.fail(from, "SyntaxError", "unmatched '"+op+"'")
			}
			l.depth--
		}
		l.off += len(op)
		l.emit(tOp, op, from, line, lineOff)
		return nil
	}
	r, _ := utf8.DecodeRuneInString(l.src[from:])
	return l.fail(from, "SyntaxError", "invalid character '"+string(r)+"' (U+"+strings.ToUpper(strconv.FormatInt(int64(r)+0x10000, 16))[1:]+")")
}

func (l *lexer) number() error {
	from := l.off
	isFloat := false
	s := l.src
	if s[from] == '0' && from+1 < len(s) && strings.ContainsRune("xXoObB", rune(s[from+1])) {
		l.off += 2
		for l.off < len(s) && (s[l.off] == '_' || unicode.Is(unicode.ASCII_Hex_Digit, rune(s[l.off]))) {
			l.off++
		}
	} else {
		digits := func() {
			for l.off < len(s) && (s[l.off] >= '0' && s[l.off] <= '9' || s[l.off] == '_') {
				l.off++
			}
		}
		digits()
		if l.off < len(s) && s[l.off] == '.' {
			isFloat = true
			l.off++
			digits()
		}
		if l.off < len(s) && (s[l.off] == 'e' || s[l.off] == 'E') {
			j := l.off + 1
			if j < len(s) && (s[j] == '+' || s[j] == '-') {
				j++
			}
			if j < len(s) && s[j] >= '0' && s[j] <= '9' {
				isFloat = true
				l.off = j
				digits()
			}
		}
	}
	text := s[from:l.off]
	if l.off < len(s) {
		if s[l.off] == 'j' || s[l.off] == 'J' {
			return &Unsupported{int(l.line), "complex numbers"}
		}
		if r, _ := utf8.DecodeRuneInString(s[l.off:]); nameStart(r) && !startsKeyword(s[l.off:]) {
			return l.fail(from, "SyntaxError", "invalid decimal literal")
		}
	}
	l.emit(tNumber, text, from, l.line, l.lineOff)
	t := &l.out[len(l.out)-1]
	if strings.HasSuffix(text, "_") || strings.Contains(text, "__") {
		return l.fail(from, "SyntaxError", "invalid decimal literal")
	}
	if isFloat {
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil && f == 0 {
			return l.fail(from, "SyntaxError", "invalid decimal literal")
		}
		t.val = f
		return nil
	}
	if len(text) > 4300 {
		return l.fail(from, "SyntaxError", "Exceeds the limit (4300 digits) for integer string conversion")
	}
	plain := strings.ReplaceAll(text, "_", "")
	base := 0
	if len(plain) > 1 && plain[0] == '0' && plain[1] >= '0' && plain[1] <= '9' {
		if strings.Trim(plain, "0") != "" {
			return l.fail(from, "SyntaxError", "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers")
		}
		base = 10
	}
	b, ok := new(big.Int).SetString(plain, base)
	if !ok {
		return l.fail(from, "SyntaxError", "invalid decimal literal")
	}
	t.val = Int(b)
	return nil
}

func startsKeyword(s string) bool {
	for _, k := range []string{"and", "else", "for", "if", "in", "is", "or", "not"} {
		if strings.HasPrefix(s, k) {
			return true
		}
	}
	return false
}

// str reads a string that begins at l.off, behind its prefix.
func (l *lexer) str(prefix string, from int) error {
	line, lineOff := l.line, l.lineOff
	if strings.Contains(prefix, "b") {
		return &Unsupported{int(l.line), "bytes"}
	}
	raw, isF := strings.Contains(prefix, "r"), strings.Contains(prefix, "f")
	if prefix != "" && prefix != "r" && prefix != "f" && prefix != "u" && prefix != "rf" && prefix != "fr" {
		return l.fail(from, "SyntaxError", "invalid syntax")
	}
	quote := l.src[l.off : l.off+1]
	if q := strings.Repeat(quote, 3); strings.HasPrefix(l.src[l.off:], q) {
		quote = q
	}
	l.off += len(quote)
	inside := l.off
	end, err := l.closing(quote, isF, 0)
	if err != nil {
		return err
	}
	text := l.src[inside:end]
	l.off = end + len(quote)
	if isF {
		l.emit(tFString, text, from, line, lineOff)
		t := &l.out[len(l.out)-1]
		t.raw, t.at = raw, inside
		return nil
	}
	l.emit(tString, text, from, line, lineOff)
	val := text
	if !raw {
		if val, err = unescape(text); err != nil {
			return l.fail(from, "SyntaxError", err.Error())
		}
	}
	l.out[len(l.out)-1].val = strings.ReplaceAll(val, "\r\n", "\n")
	return nil
}

// closing returns where the closing quote stands, and counts lines up to it. The fields of an
// f-string may have strings with the same quotes inside.
func (l *lexer) closing(quote string, isF bool, depth int) (int, error) {
	if depth > 20 {
		return 0, l.fail(l.off, "SyntaxError", "f-string: too many nested expressions")
	}
	fields := 0
	i := l.off
	for i < len(l.src) {
		switch c := l.src[i]; {
		case fields == 0 && strings.HasPrefix(l.src[i:], quote):
			return i, nil
		case c == '\\' && fields == 0:
			i++
			if i < len(l.src) && l.src[i] == '\n' {
				l.line++
				l.lineOff = i + 1
			}
			i++
			continue
		case c == '\n':
			if len(quote) == 1 && fields == 0 {
				return 0, l.fail(l.off, "SyntaxError", "unterminated string literal (detected at line "+strconv.Itoa(int(l.line))+")")
			}
			l.line++
			l.lineOff = i + 1
		case isF && c == '{':
			if fields == 0 && i+1 < len(l.src) && l.src[i+1] == '{' {
				i += 2
				continue
			}
			fields++
		case isF && c == '}' && fields > 0:
			fields--
		case fields > 0 && (c == '"' || c == '\''):
			if strings.HasPrefix(l.src[i:], quote) && !nestedString(l.src[i:], quote) {
				return i, nil // the field is broken; the parser says so
			}
			q := l.src[i : i+1]
			if t := strings.Repeat(q, 3); strings.HasPrefix(l.src[i:], t) {
				q = t
			}
			inner := i > 0 && (l.src[i-1] == 'f' || l.src[i-1] == 'F')
			save := l.off
			l.off = i + len(q)
			end, err := l.closing(q, inner, depth+1)
			l.off = save
			if err != nil {
				return 0, err
			}
			i = end + len(q)
			continue
		}
		i++
	}
	return 0, l.fail(l.off, "SyntaxError", "unterminated string literal (detected at line "+strconv.Itoa(int(l.line))+")")
}

// nestedString reports whether a quote inside a field, like the one around it, opens a string:
// there is another one, and then the field's end, on the same line.
func nestedString(s, quote string) bool {
	s = s[len(quote):]
	if i := strings.IndexByte(s, '\n'); i >= 0 && len(quote) == 1 {
		s = s[:i]
	}
	i := strings.Index(s, quote)
	return i >= 0 && strings.Contains(s[i:], "}")
}

type escapeError string

func (e escapeError) Error() string { return string(e) }

// unescape replaces the escapes of a string that is not raw.
func unescape(s string) (string, error) {
	if !strings.Contains(s, "\\") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := 0
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a':
			b.WriteByte('\a')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'v':
			b.WriteByte('\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n := 0
			j := i
			for ; j < len(s) && j < i+3 && s[j] >= '0' && s[j] <= '7'; j++ {
				n = n*8 + int(s[j]-'0')
			}
			b.WriteRune(rune(n))
			i = j - 1
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case 'N':
			return "", escapeError("(outside the subset) names of characters")
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
		if digits > 0 {
			if i+digits >= len(s) {
				return "", escapeError("(unicode error) truncated escape")
			}
			n, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil || n > unicode.MaxRune || n >= 0xd800 && n < 0xe000 {
				return "", escapeError("(unicode error) illegal Unicode character")
			}
			b.WriteRune(rune(n))
			i += digits
		}
	}
	return b.String(), nil
}
