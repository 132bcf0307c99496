package vm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

func strMethods() {
	c := strClass
	str := func(v Value) string { return v.(string) }
	simple := func(name string, fn func(s string) Value) {
		c.def(name, "", func(_ *Thread, self Value, _ []Value) (Value, error) { return fn(str(self)), nil })
	}
	simple("upper", func(s string) Value { return strings.ToUpper(s) })
	simple("lower", func(s string) Value { return strings.ToLower(s) })
	simple("casefold", func(s string) Value { return strings.ToLower(s) })
	simple("title", func(s string) Value { return title(s) })
	simple("capitalize", func(s string) Value {
		r, n := utf8.DecodeRuneInString(s)
		if n == 0 {
			return s
		}
		return string(unicode.ToTitle(r)) + strings.ToLower(s[n:])
	})
	simple("swapcase", func(s string) Value {
		return strings.Map(func(r rune) rune {
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, s)
	})
	all := func(name string, is func(rune) bool) {
		simple(name, func(s string) Value {
			for _, r := range s {
				if !is(r) {
					return false
				}
			}
			return s != ""
		})
	}
	all("isdigit", unicode.IsDigit)
	all("isdecimal", unicode.IsDigit)
	all("isnumeric", unicode.IsNumber)
	all("isalpha", unicode.IsLetter)
	all("isalnum", func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
	all("isspace", unicode.IsSpace)
	cased := func(name string, is, isNot func(rune) bool) {
		simple(name, func(s string) Value {
			found := false
			for _, r := range s {
				if isNot(r) {
					return false
				}
				found = found || is(r)
			}
			return found
		})
	}
	cased("isupper", unicode.IsUpper, unicode.IsLower)
	cased("islower", unicode.IsLower, unicode.IsUpper)
	simple("isascii", func(s string) Value {
		for i := range len(s) {
			if s[i] >= 0x80 {
				return false
			}
		}
		return true
	})
	simple("isidentifier", func(s string) Value {
		for i, r := range s {
			if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
				return false
			}
		}
		return s != ""
	})
	strip := func(name string, cut func(s, set string) string, space func(s string) string) {
		c.def(name, "chars?", func(_ *Thread, self Value, a []Value) (Value, error) {
			if a[0] == nil || a[0] == None {
				return space(str(self)), nil
			}
			set, err := strArg(a[0], "")
			return cut(str(self), set), err
		})
	}
	strip("strip", strings.Trim, strings.TrimSpace)
	strip("lstrip", strings.TrimLeft, func(s string) string { return strings.TrimLeftFunc(s, unicode.IsSpace) })
	strip("rstrip", strings.TrimRight, func(s string) string { return strings.TrimRightFunc(s, unicode.IsSpace) })
	c.def("split", "sep? maxsplit?", func(th *Thread, self Value, a []Value) (Value, error) { return th.split1(str(self), a, false) })
	c.def("rsplit", "sep? maxsplit?", func(th *Thread, self Value, a []Value) (Value, error) { return th.split1(str(self), a, true) })
	c.def("splitlines", "keepends?", func(th *Thread, self Value, a []Value) (Value, error) {
		l := &List{}
		keep := a[0] == true
		for line := range strings.Lines(str(self)) {
			if !keep {
				line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
			}
			l.items = append(l.items, line)
		}
		return l, nil
	})
	c.def("join", "iterable", func(th *Thread, self Value, a []Value) (Value, error) {
		items, err := th.list(a[0])
		if err != nil {
			if isExc(err, "TypeError") && !iterable(a[0]) {
				return nil, raise("TypeError", "can only join an iterable")
			}
			return nil, err
		}
		parts := make([]string, len(items))
		n := 0
		for i, v := range items {
			s, ok := v.(string)
			if !ok {
				return nil, raise("TypeError", "sequence item %d: expected str instance, %s found", i, classOf(v).name)
			}
			parts[i] = s
			n += len(s) + len(str(self))
		}
		if err := th.alloc(n); err != nil {
			return nil, err
		}
		return strings.Join(parts, str(self)), nil
	})
	c.def("replace", "old new count?", func(th *Thread, self Value, a []Value) (Value, error) {
		old, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		with, err := strArg(a[1], "")
		if err != nil {
			return nil, err
		}
		n, err := intArg(a[2], -1)
		if err != nil {
			return nil, err
		}
		if err := th.alloc(len(str(self)) + (strings.Count(str(self), old)+1)*len(with)); err != nil {
			return nil, err
		}
		return strings.Replace(str(self), old, with, n), nil
	})
	c.def("format", "", nil)
	c.method("format", func(th *Thread, args []Value, kw []KW) (Value, error) {
		return th.strFormat(str(args[0]), args[1:], kw)
	})
	affix := func(name string, has func(s, t string) bool) {
		c.def(name, "prefix start? end?", func(th *Thread, self Value, a []Value) (Value, error) {
			s, err := th.part(str(self), a[1], a[2])
			if err != nil {
				return nil, err
			}
			if t, ok := a[0].(*Tuple); ok {
				for _, v := range t.items {
					if x, ok := v.(string); ok && has(s, x) {
						return true, nil
					}
				}
				return false, nil
			}
			x, ok := a[0].(string)
			if !ok {
				return nil, raise("TypeError", "%s first arg must be str or a tuple of str, not %s", name, classOf(a[0]).name)
			}
			return has(s, x), nil
		})
	}
	affix("startswith", strings.HasPrefix)
	affix("endswith", strings.HasSuffix)
	find := func(name string, index func(s, t string) int, must bool) {
		c.def(name, "sub start? end?", func(th *Thread, self Value, a []Value) (Value, error) {
			sub, err := strArg(a[0], "")
			if err != nil {
				return nil, err
			}
			lo, _, _, err := th.bounds(&SliceObj{orNoneV(a[1]), orNoneV(a[2]), None}, utf8.RuneCountInString(str(self)))
			if err != nil {
				return nil, err
			}
			s, err := th.part(str(self), a[1], a[2])
			if err != nil {
				return nil, err
			}
			i := index(s, sub)
			if i < 0 {
				if must {
					return nil, raise("ValueError", "substring not found")
				}
				return -1, nil
			}
			return lo + utf8.RuneCountInString(s[:i]), nil
		})
	}
	find("find", strings.Index, false)
	find("rfind", strings.LastIndex, false)
	find("index", strings.Index, true)
	find("rindex", strings.LastIndex, true)
	c.def("count", "sub start? end?", func(th *Thread, self Value, a []Value) (Value, error) {
		sub, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		s, err := th.part(str(self), a[1], a[2])
		return strings.Count(s, sub), err
	})
	just := func(name string, align byte) {
		c.def(name, "width fillchar?", func(th *Thread, self Value, a []Value) (Value, error) {
			w, err := intArg(a[0], 0)
			if err != nil {
				return nil, err
			}
			fill, err := strArg(a[1], " ")
			if err != nil {
				return nil, err
			}
			if utf8.RuneCountInString(fill) != 1 {
				return nil, raise("TypeError", "The fill character must be exactly one character long")
			}
			if err := th.alloc(max(w, 0) * 4); err != nil {
				return nil, err
			}
			r, _ := utf8.DecodeRuneInString(fill)
			s := str(self)
			n := w - utf8.RuneCountInString(s)
			if align == '^' && n > 0 { // CPython puts the odd one on the left if the width is odd
				left := n/2 + (n & w & 1)
				return strings.Repeat(fill, left) + s + strings.Repeat(fill, n-left), nil
			}
			return pad(spec{fill: r, width: w}, "", s, align), nil
		})
	}
	just("ljust", '<')
	just("rjust", '>')
	just("center", '^')
	c.def("zfill", "width", func(th *Thread, self Value, a []Value) (Value, error) {
		w, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		if err := th.alloc(max(w, 0)); err != nil {
			return nil, err
		}
		s, sign := str(self), ""
		if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
			sign, s = s[:1], s[1:]
		}
		return pad(spec{fill: '0', width: w, align: '='}, sign, s, '='), nil
	})
	partition := func(name string, cut func(s, sep string) int, last bool) {
		c.def(name, "sep", func(_ *Thread, self Value, a []Value) (Value, error) {
			sep, err := strArg(a[0], "")
			if err != nil {
				return nil, err
			}
			if sep == "" {
				return nil, raise("ValueError", "empty separator")
			}
			s := str(self)
			i := cut(s, sep)
			switch {
			case i >= 0:
				return &Tuple{[]Value{s[:i], sep, s[i+len(sep):]}}, nil
			case last:
				return &Tuple{[]Value{"", "", s}}, nil
			}
			return &Tuple{[]Value{s, "", ""}}, nil
		})
	}
	partition("partition", strings.Index, false)
	partition("rpartition", strings.LastIndex, true)
	c.def("removeprefix", "prefix", func(_ *Thread, self Value, a []Value) (Value, error) {
		p, err := strArg(a[0], "")
		return strings.TrimPrefix(str(self), p), err
	})
	c.def("removesuffix", "suffix", func(_ *Thread, self Value, a []Value) (Value, error) {
		p, err := strArg(a[0], "")
		return strings.TrimSuffix(str(self), p), err
	})
}

func orNoneV(v Value) Value {
	if v == nil {
		return None
	}
	return v
}

func title(s string) string {
	in := false
	return strings.Map(func(r rune) rune {
		was := in
		in = unicode.IsLetter(r)
		if in && !was {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func (th *Thread) part(s string, start, end Value) (string, error) {
	if start == nil && end == nil {
		return s, nil
	}
	v, err := th.getItem(s, &SliceObj{orNoneV(start), orNoneV(end), None})
	if err != nil {
		return "", err
	}
	return v.(string), nil
}

func (th *Thread) split1(s string, a []Value, right bool) (Value, error) {
	limit, err := intArg(a[1], -1)
	if err != nil {
		return nil, err
	}
	if err := th.alloc(16 * len(s)); err != nil {
		return nil, err
	}
	var parts []string
	if a[0] == nil || a[0] == None {
		switch {
		case limit < 0:
			parts = strings.Fields(s)
		case right:
			s = strings.TrimRightFunc(s, unicode.IsSpace)
			for s != "" && len(parts) < limit {
				i := strings.LastIndexFunc(s, unicode.IsSpace)
				if i < 0 {
					break
				}
				_, n := utf8.DecodeRuneInString(s[i:])
				parts = append([]string{s[i+n:]}, parts...)
				s = strings.TrimRightFunc(s[:i], unicode.IsSpace)
			}
			if s != "" {
				parts = append([]string{s}, parts...)
			}
		default:
			s = strings.TrimLeftFunc(s, unicode.IsSpace)
			for s != "" && len(parts) < limit {
				i := strings.IndexFunc(s, unicode.IsSpace)
				if i < 0 {
					break
				}
				parts = append(parts, s[:i])
				s = strings.TrimLeftFunc(s[i:], unicode.IsSpace)
			}
			if s != "" {
				parts = append(parts, s)
			}
		}
	} else {
		sep, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, raise("ValueError", "empty separator")
		}
		switch {
		case limit < 0:
			parts = strings.Split(s, sep)
		case right:
			for len(parts) < limit {
				i := strings.LastIndex(s, sep)
				if i < 0 {
					break
				}
				parts = append([]string{s[i+len(sep):]}, parts...)
				s = s[:i]
			}
			parts = append([]string{s}, parts...)
		default:
			parts = strings.SplitN(s, sep, limit+1)
		}
	}
	l := &List{}
	for _, p := range parts {
		l.items = append(l.items, p)
	}
	return l, nil
}

// strFormat is str.format.
func (th *Thread) strFormat(s string, args []Value, kw []KW) (Value, error) {
	auto := 0
	var expand func(s string, depth int) (string, error)
	field := func(name string) (Value, error) {
		end := strings.IndexAny(name, ".[")
		head, rest := name, ""
		if end >= 0 {
			head, rest = name[:end], name[end:]
		}
		var v Value
		switch {
		case head == "" || head[0] >= '0' && head[0] <= '9':
			i := auto
			if head == "" {
				auto++
			} else {
				i = 0
				for _, c := range head {
					if c < '0' || c > '9' || i > 1000 {
						return nil, raise("ValueError", "invalid format field")
					}
					i = i*10 + int(c-'0')
				}
			}
			if i >= len(args) {
				return nil, raise("IndexError", "Replacement index %d out of range for positional args tuple", i)
			}
			v = args[i]
		default:
			for _, k := range kw {
				if k.name == head {
					v = k.v
				}
			}
			if v == nil {
				return nil, &Raise{newExc(excClasses["KeyError"], head)}
			}
		}
		for rest != "" {
			var err error
			if rest[0] == '.' {
				n := strings.IndexAny(rest[1:], ".[")
				if n < 0 {
					n = len(rest) - 1
				}
				v, err = th.getAttr(v, rest[1:n+1])
				rest = rest[n+1:]
			} else {
				n := strings.IndexByte(rest, ']')
				if n < 0 {
					return nil, raise("ValueError", "Missing ']' in format string")
				}
				var key Value = rest[1:n]
				if i, ok := parseInt(rest[1:n], 10); ok {
					key = norm(i)
				}
				v, err = th.getItem(v, key)
				rest = rest[n+1:]
			}
			if err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	expand = func(s string, depth int) (string, error) {
		if depth > 2 {
			return "", raise("ValueError", "Max string recursion exceeded")
		}
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			c := s[i]
			if (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c {
				b.WriteByte(c)
				i++
				continue
			}
			if c == '}' {
				return "", raise("ValueError", "Single '}' encountered in format string")
			}
			if c != '{' {
				b.WriteByte(c)
				continue
			}
			nest, j := 1, i+1
			for ; j < len(s) && nest > 0; j++ {
				if s[j] == '{' {
					nest++
				} else if s[j] == '}' {
					nest--
				}
			}
			if nest > 0 {
				return "", raise("ValueError", "expected '}' before end of string")
			}
			inside := s[i+1 : j-1]
			i = j - 1
			head, spec, _ := strings.Cut(inside, ":")
			name, conv, hasConv := strings.Cut(head, "!")
			v, err := field(name)
			if err != nil {
				return "", err
			}
			spec, err = expand(spec, depth+1)
			if err != nil {
				return "", err
			}
			if hasConv {
				switch conv {
				case "r":
					v, err = th.repr(v)
				case "s":
					v, err = th.str(v)
				case "a":
					var r string
					r, err = th.repr(v)
					v = ascii(r)
				default:
					return "", raise("ValueError", "Unknown conversion specifier '%s'", conv)
				}
				if err != nil {
					return "", err
				}
			}
			out, err := th.format(v, spec)
			if err != nil {
				return "", err
			}
			b.WriteString(out)
		}
		return b.String(), nil
	}
	out, err := expand(s, 0)
	if err != nil {
		return nil, err
	}
	return out, th.alloc(len(out))
}
