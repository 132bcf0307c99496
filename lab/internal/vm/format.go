package vm

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A spec is a format specification: [[fill]align][sign][z][#][0][width][,][.precision][type].
type spec struct {
	fill      rune
	align     byte
	sign      byte
	alt       bool
	zero      bool
	width     int
	comma     byte
	precision int
	verb      byte
}

func parseSpec(s string) (spec, bool) {
	p := spec{fill: ' ', sign: '-', precision: -1}
	rs := []rune(s)
	i := 0
	isAlign := func(j int) bool { return j < len(rs) && strings.ContainsRune("<>=^", rs[j]) }
	if isAlign(1) {
		p.fill, p.align, i = rs[0], byte(rs[1]), 2
	} else if isAlign(0) {
		p.align, i = byte(rs[0]), 1
	}
	if i < len(rs) && strings.ContainsRune("+- ", rs[i]) {
		p.sign = byte(rs[i])
		i++
	}
	if i < len(rs) && rs[i] == 'z' {
		i++
	}
	if i < len(rs) && rs[i] == '#' {
		p.alt = true
		i++
	}
	if i < len(rs) && rs[i] == '0' {
		p.zero = true
		if p.align == 0 {
			p.fill, p.align = '0', '='
		}
		i++
	}
	number := func() (int, bool) {
		from := i
		for i < len(rs) && rs[i] >= '0' && rs[i] <= '9' {
			i++
		}
		n, err := strconv.Atoi(string(rs[from:i]))
		return n, err == nil && n < 1<<24
	}
	if i < len(rs) && rs[i] >= '0' && rs[i] <= '9' {
		n, ok := number()
		if !ok {
			return p, false
		}
		p.width = n
	}
	if i < len(rs) && (rs[i] == ',' || rs[i] == '_') {
		p.comma = byte(rs[i])
		i++
	}
	if i < len(rs) && rs[i] == '.' {
		i++
		n, ok := number()
		if !ok || n > 1000 {
			return p, false
		}
		p.precision = n
	}
	if i < len(rs) {
		if rs[i] >= 0x80 {
			return p, false
		}
		p.verb = byte(rs[i])
		i++
	}
	return p, i == len(rs)
}

// format is format(v, spec).
func (th *Thread) format(v Value, text string) (string, error) {
	if o, ok := v.(*Object); ok {
		if o.cls.lookup("__format__") != nil {
			r, err := th.special(o, "__format__", text)
			if err != nil {
				return "", err
			}
			s, ok := r.(string)
			if !ok {
				return "", raise("TypeError", "__format__ must return a str, not %s", classOf(r).name)
			}
			return s, nil
		}
		if text != "" && o.exc == nil {
			return "", raise("TypeError", "unsupported format string passed to %s.__format__", o.cls.name)
		}
	}
	if text == "" {
		return th.str(v)
	}
	p, ok := parseSpec(text)
	if !ok {
		return "", raise("ValueError", "Invalid format specifier '%s' for object of type '%s'", text, classOf(v).name)
	}
	if err := th.alloc(p.width); err != nil {
		return "", err
	}
	unknown := func() error {
		return raise("ValueError", "Unknown format code '%c' for object of type '%s'", p.verb, classOf(v).name)
	}
	switch x := v.(type) {
	case string:
		if p.verb != 0 && p.verb != 's' {
			return "", unknown()
		}
		if p.align == '=' && !p.zero {
			return "", raise("ValueError", "'=' alignment not allowed in string format specifier")
		}
		if p.sign != '-' {
			return "", raise("ValueError", "Sign not allowed in string format specifier")
		}
		if p.precision >= 0 && utf8.RuneCountInString(x) > p.precision {
			x = string([]rune(x)[:p.precision])
		}
		if p.align == '=' {
			p.align = '<'
		}
		return pad(p, "", x, '<'), nil
	case bool, int, *big.Int:
		if b, ok := x.(bool); ok && p.verb == 0 {
			s := "False"
			if b {
				s = "True"
			}
			return pad(p, "", s, '<'), nil
		}
		switch p.verb {
		case 'e', 'E', 'f', 'F', 'g', 'G', '%':
			f, err := toFloat(x)
			if err != nil {
				return "", err
			}
			return formatFloat(p, f), nil
		}
		return th.formatInt(p, toBig(x), unknown)
	case float64:
		switch p.verb {
		case 0, 'e', 'E', 'f', 'F', 'g', 'G', 'n', '%':
			return formatFloat(p, x), nil
		}
		return "", unknown()
	}
	if o, ok := v.(*Object); ok && o.exc != nil || v == None {
		return "", raise("TypeError", "unsupported format string passed to %s.__format__", classOf(v).name)
	}
	return "", raise("TypeError", "unsupported format string passed to %s.__format__", classOf(v).name)
}

func (th *Thread) formatInt(p spec, b *big.Int, unknown func() error) (string, error) {
	if p.precision >= 0 {
		return "", raise("ValueError", "Precision not allowed in integer format specifier")
	}
	base, prefix := 10, ""
	switch p.verb {
	case 0, 'd', 'n':
	case 'b':
		base, prefix = 2, "0b"
	case 'o':
		base, prefix = 8, "0o"
	case 'x', 'X':
		base, prefix = 16, "0x"
	case 'c':
		if !b.IsInt64() || b.Int64() < 0 || b.Int64() > 0x10ffff {
			return "", raise("OverflowError", "%%c arg not in range(0x110000)")
		}
		return pad(p, "", string(rune(b.Int64())), '<'), nil
	default:
		return "", unknown()
	}
	if base == 10 && b.BitLen() > 14284 {
		return "", raise("ValueError", "Exceeds the limit (4300 digits) for integer string conversion; use sys.set_int_max_str_digits() to increase the limit")
	}
	digits := new(big.Int).Abs(b).Text(base)
	if p.verb == 'X' {
		digits, prefix = strings.ToUpper(digits), "0X"
	}
	if p.comma != 0 {
		size := 3
		if base != 10 {
			size = 4
		}
		digits = group(digits, p.comma, size)
	}
	sign := signOf(p, b.Sign() < 0)
	if p.alt {
		sign += prefix
	}
	return pad(p, sign, digits, '>'), nil
}

func signOf(p spec, negative bool) string {
	switch {
	case negative:
		return "-"
	case p.sign == '+':
		return "+"
	case p.sign == ' ':
		return " "
	}
	return ""
}

func group(digits string, sep byte, size int) string {
	whole, frac, dot := strings.Cut(digits, ".")
	exp := ""
	if i := strings.IndexAny(whole, "eE"); i >= 0 {
		whole, exp = whole[:i], whole[i:]
	}
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%size == 0 {
			b.WriteByte(sep)
		}
		b.WriteRune(c)
	}
	b.WriteString(exp)
	if dot {
		b.WriteString("." + frac)
	}
	return b.String()
}

func formatFloat(p spec, f float64) string {
	sign := signOf(p, math.Signbit(f) && f == f)
	a := math.Abs(f)
	var s string
	switch {
	case math.IsInf(a, 0):
		s = "inf"
	case a != a:
		s = "nan"
	default:
		prec := p.precision
		switch p.verb {
		case 'f', 'F', '%':
			if prec < 0 {
				prec = 6
			}
			if p.verb == '%' {
				s = strconv.FormatFloat(a*100, 'f', prec, 64)
			} else {
				s = strconv.FormatFloat(a, 'f', prec, 64)
			}
		case 'e', 'E':
			if prec < 0 {
				prec = 6
			}
			s = strconv.FormatFloat(a, 'e', prec, 64)
		case 'g', 'G', 'n':
			if prec < 0 {
				prec = 6
			}
			s = general(a, max(prec, 1), p.alt, false)
		default:
			if prec < 0 {
				s = floatRepr(a)
			} else {
				s = general(a, max(prec, 1), p.alt, true)
			}
		}
	}
	if p.verb == 'E' || p.verb == 'G' || p.verb == 'F' {
		s = strings.ToUpper(s)
	}
	if p.comma != 0 {
		s = group(s, p.comma, 3)
	}
	if p.verb == '%' {
		s += "%"
	}
	return pad(p, sign, s, '>')
}

// general is the format g: prec significant digits, without trailing zeros. With point, a number
// without a fraction gets one, as format() without a type has it.
func general(a float64, prec int, alt, point bool) string {
	if a == 0 {
		if point {
			return "0.0"
		}
		return "0"
	}
	e := strconv.FormatFloat(a, 'e', prec-1, 64)
	_, exp, _ := strings.Cut(e, "e")
	x, _ := strconv.Atoi(exp)
	trim := func(s string) string {
		if alt || !strings.Contains(s, ".") {
			return s
		}
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	limit := prec
	if point {
		limit = prec - 1
	}
	if x < -4 || x >= max(limit, 1) && !(point && prec == 1 && x == 0) {
		mant, _, _ := strings.Cut(e, "e")
		return trim(mant) + "e" + exp
	}
	s := trim(strconv.FormatFloat(a, 'f', max(prec-1-x, 0), 64))
	if point && !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func pad(p spec, sign, s string, align byte) string {
	n := p.width - utf8.RuneCountInString(sign) - utf8.RuneCountInString(s)
	if p.align != 0 {
		align = p.align
	}
	if n <= 0 {
		return sign + s
	}
	fill := func(n int) string { return strings.Repeat(string(p.fill), n) }
	switch align {
	case '<':
		return sign + s + fill(n)
	case '^':
		return fill(n/2) + sign + s + fill(n-n/2)
	case '=':
		return sign + fill(n) + s
	}
	return fill(n) + sign + s
}

// percent is the operator % of strings.
func (th *Thread) percent(format string, arg Value) (Value, error) {
	var args []Value
	mapping, _ := arg.(*Dict)
	single := true
	if t, ok := arg.(*Tuple); ok {
		args, single = t.items, false
	} else {
		args = []Value{arg}
	}
	used := 0
	next := func() (Value, error) {
		if used >= len(args) {
			return nil, raise("TypeError", "not enough arguments for format string")
		}
		used++
		return args[used-1], nil
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		var v Value
		var err error
		if i < len(format) && format[i] == '(' {
			end := strings.IndexByte(format[i:], ')')
			if end < 0 {
				return nil, raise("ValueError", "incomplete format key")
			}
			if mapping == nil {
				return nil, raise("TypeError", "format requires a mapping")
			}
			key := format[i+1 : i+end]
			if v = mapping.getStr(key); v == nil {
				return nil, &Raise{newExc(excClasses["KeyError"], key)}
			}
			i += end + 1
			used = len(args)
		}
		p := spec{fill: ' ', sign: '-', precision: -1, align: '>'}
	flags:
		for ; i < len(format); i++ {
			switch format[i] {
			case '-':
				p.align = '<'
			case '+', ' ':
				p.sign = format[i]
			case '0':
				p.fill, p.align = '0', '='
			case '#':
				p.alt = true
			default:
				break flags
			}
		}
		digits := func() (int, error) {
			if i < len(format) && format[i] == '*' {
				i++
				w, err := next()
				n, _ := w.(int)
				return n, err
			}
			from := i
			for i < len(format) && format[i] >= '0' && format[i] <= '9' {
				i++
			}
			n, _ := strconv.Atoi("0" + format[from:i])
			return n, nil
		}
		if p.width, err = digits(); err != nil {
			return nil, err
		}
		if i < len(format) && format[i] == '.' {
			i++
			if p.precision, err = digits(); err != nil {
				return nil, err
			}
		}
		if p.width > 1<<20 || p.precision > 1000 {
			return nil, raise("OverflowError", "width or precision too big")
		}
		if i >= len(format) {
			return nil, raise("ValueError", "incomplete format")
		}
		verb := format[i]
		if verb == '%' {
			b.WriteByte('%')
			continue
		}
		if v == nil {
			if v, err = next(); err != nil {
				return nil, err
			}
		}
		s, err := th.percentOne(p, verb, v)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	if used < len(args) && (mapping == nil || !single) {
		return nil, raise("TypeError", "not all arguments converted during string formatting")
	}
	return b.String(), th.alloc(b.Len())
}

func (th *Thread) percentOne(p spec, verb byte, v Value) (string, error) {
	text := func(s string, err error) (string, error) {
		if p.precision >= 0 && utf8.RuneCountInString(s) > p.precision {
			s = string([]rune(s)[:p.precision])
		}
		if p.align == '=' {
			p.fill, p.align = ' ', '>'
		}
		return pad(p, "", s, '>'), err
	}
	switch verb {
	case 's':
		return text(th.str(v))
	case 'r':
		return text(th.repr(v))
	case 'd', 'i', 'u', 'x', 'X', 'o':
		if f, ok := v.(float64); ok && (verb == 'd' || verb == 'i') {
			b, _ := big.NewFloat(f).Int(nil)
			v = norm(b)
		}
		if _, _, ok := integer(v); !ok {
			if verb == 'd' || verb == 'i' || verb == 'u' {
				return "", raise("TypeError", "%%%c format: a real number is required, not %s", verb, classOf(v).name)
			}
			return "", raise("TypeError", "%%%c format: an integer is required, not %s", verb, classOf(v).name)
		}
		p.verb, p.precision = verb, -1
		if verb == 'i' || verb == 'u' {
			p.verb = 'd'
		}
		return th.formatInt(p, toBig(v), nil)
	case 'f', 'F', 'e', 'E', 'g', 'G':
		if !isNumber(v) {
			return "", raise("TypeError", "must be real number, not %s", classOf(v).name)
		}
		f, err := toFloat(v)
		if err != nil {
			return "", err
		}
		p.verb = verb
		return formatFloat(p, f), nil
	case 'c':
		if s, ok := v.(string); ok && utf8.RuneCountInString(s) == 1 {
			return text(s, nil)
		}
		if n, ok := v.(int); ok && n >= 0 && n <= 0x10ffff {
			return text(string(rune(n)), nil)
		}
		return "", raise("TypeError", "%%c requires int or char")
	}
	return "", raise("ValueError", "unsupported format character '%c'", verb)
}
