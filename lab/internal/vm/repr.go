package vm

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// str is str(v).
func (th *Thread) str(v Value) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case *Object:
		if x.cls.lookup("__str__") != nil {
			r, err := th.special(x, "__str__")
			if err != nil {
				return "", err
			}
			s, ok := r.(string)
			if !ok {
				return "", raise("TypeError", "__str__ returned non-string (type %s)", classOf(r).name)
			}
			return s, nil
		}
		if x.exc != nil {
			return excStr(th, x)
		}
	}
	return th.repr(v)
}

// repr is repr(v).
func (th *Thread) repr(v Value) (string, error) {
	s, err := th.reprOf(v)
	if err == nil {
		err = th.alloc(len(s))
	}
	return s, err
}

func (th *Thread) reprOf(v Value) (string, error) {
	if err := th.enter(); err != nil {
		return "", err
	}
	defer th.leave()
	switch x := v.(type) {
	case *noneType:
		return "None", nil
	case bool:
		if x {
			return "True", nil
		}
		return "False", nil
	case int:
		return strconv.Itoa(x), nil
	case *big.Int:
		if x.BitLen() > 14284 {
			return "", raise("ValueError", "Exceeds the limit (4300 digits) for integer string conversion; use sys.set_int_max_str_digits() to increase the limit")
		}
		return x.String(), nil
	case float64:
		return floatRepr(x), nil
	case string:
		return strRepr(x), nil
	case *ellipsisType:
		return "Ellipsis", nil
	case *notImplementedType:
		return "NotImplemented", nil
	case *List:
		return th.reprItems(v, "[", x.items, "]")
	case *Tuple:
		if len(x.items) == 1 {
			return th.reprItems(v, "(", x.items, ",)")
		}
		return th.reprItems(v, "(", x.items, ")")
	case *Dict:
		return th.reprDict(x)
	case *Set:
		if x.d.n == 0 {
			return classOf(x).name + "()", nil
		}
		if x.frozen {
			return th.reprItems(v, "frozenset({", x.items(), "})")
		}
		return th.reprItems(v, "{", x.items(), "}")
	case *Range:
		if x.step == 1 {
			return fmt.Sprintf("range(%d, %d)", x.start, x.stop), nil
		}
		return fmt.Sprintf("range(%d, %d, %d)", x.start, x.stop, x.step), nil
	case *SliceObj:
		return th.reprItems(v, "slice(", []Value{x.lo, x.hi, x.step}, ")")
	case *dictView:
		name := map[byte]string{'k': "dict_keys", 'v': "dict_values", 'i': "dict_items"}[x.kind]
		return th.reprItems(v, name+"([", x.items(), "])")
	case *Function:
		return fmt.Sprintf("<function %s at %s>", x.qual, th.in.address(x)), nil
	case *Method:
		name := "?"
		if f, ok := x.fn.(*Function); ok {
			name = f.qual
		}
		self, err := th.repr(x.self)
		return fmt.Sprintf("<bound method %s of %s>", name, self), err
	case *Builtin:
		if x.method && x.self != nil {
			return fmt.Sprintf("<built-in method %s of %s object at %s>", x.name, classOf(x.self).name, th.in.address(x.self)), nil
		}
		if x.method {
			return fmt.Sprintf("<method '%s' of objects>", x.name), nil
		}
		return fmt.Sprintf("<built-in function %s>", x.name), nil
	case *Class:
		return fmt.Sprintf("<class '%s'>", x.fullName()), nil
	case *Module:
		return fmt.Sprintf("<module '%s'>", x.name), nil
	case *Gen:
		return fmt.Sprintf("<%s object %s at %s>", classOf(x).name, x.qual, th.in.address(x)), nil
	case *pending:
		return fmt.Sprintf("<coroutine object %s at %s>", x.name, th.in.address(x)), nil
	case *Super:
		return fmt.Sprintf("<super: <class '%s'>, <%s object>>", x.cls.name, classOf(x.self).name), nil
	case *Object:
		return th.reprObject(x)
	case *Iter:
		name := x.name
		if name == "" {
			name = "iterator"
		}
		return fmt.Sprintf("<%s object at %s>", name, th.in.address(x)), nil
	}
	return fmt.Sprintf("<%s object at %s>", classOf(v).name, th.in.address(v)), nil
}

func (c *Class) fullName() string {
	if c.module == "builtins" {
		return c.qual
	}
	return c.module + "." + c.qual
}

func (th *Thread) reprObject(x *Object) (string, error) {
	if m := x.cls.lookup("__repr__"); m != nil {
		r, err := th.special(x, "__repr__")
		if err != nil {
			return "", err
		}
		s, ok := r.(string)
		if !ok {
			return "", raise("TypeError", "__repr__ returned non-string (type %s)", classOf(r).name)
		}
		return s, nil
	}
	if e := x.exc; e != nil {
		var items []Value
		if e.args != nil {
			items = e.args.items
		}
		if len(items) == 1 {
			return th.reprItems(x, x.cls.name+"(", items, ")")
		}
		return th.reprItems(x, x.cls.name+"(", items, ")")
	}
	return fmt.Sprintf("<%s object at %s>", x.cls.fullName(), th.in.address(x)), nil
}

func (th *Thread) reprItems(of Value, open string, items []Value, closing string) (string, error) {
	for _, v := range th.in.reprs {
		if v == of {
			return open + "..." + closing, nil
		}
	}
	th.in.reprs = append(th.in.reprs, of)
	defer func() { th.in.reprs = th.in.reprs[:len(th.in.reprs)-1] }()
	var b strings.Builder
	b.WriteString(open)
	for i, v := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		s, err := th.repr(v)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	b.WriteString(closing)
	return b.String(), nil
}

func (th *Thread) reprDict(d *Dict) (string, error) {
	for _, v := range th.in.reprs {
		if v == d {
			return "{...}", nil
		}
	}
	th.in.reprs = append(th.in.reprs, d)
	defer func() { th.in.reprs = th.in.reprs[:len(th.in.reprs)-1] }()
	entries := d.all()
	if d.kind == counterClass {
		entries = sortedCounts(entries)
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range entries {
		if i > 0 {
			b.WriteString(", ")
		}
		k, err := th.repr(e.key)
		if err != nil {
			return "", err
		}
		v, err := th.repr(e.value)
		if err != nil {
			return "", err
		}
		b.WriteString(k + ": " + v)
	}
	b.WriteByte('}')
	s := b.String()
	switch d.kind {
	case nil:
		return s, nil
	case defaultdictClass:
		f, err := th.repr(d.factory)
		return "defaultdict(" + f + ", " + s + ")", err
	case counterClass:
		if d.n == 0 {
			return "Counter()", nil
		}
		return "Counter(" + s + ")", nil
	}
	if d.n == 0 {
		return d.kind.name + "()", nil
	}
	return d.kind.name + "(" + s + ")", nil
}

// floatRepr is the shortest text that reads back as f, in Python's form.
func floatRepr(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f != f:
		return "nan"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return exponent(strconv.FormatFloat(f, 'e', -1, 64))
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// exponent gives an exponent at least two digits, as both languages have it.
func exponent(s string) string { return s }

func strRepr(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, "\"") {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString("\\n")
		case r == '\r':
			b.WriteString("\\r")
		case r == '\t':
			b.WriteString("\\t")
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\x%02x", r)
		case r < 0x7f || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, "\\x%02x", r)
		case r < 0x10000:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			fmt.Fprintf(&b, "\\U%08x", r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, "\\x%02x", r)
		case r < 0x10000:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			fmt.Fprintf(&b, "\\U%08x", r)
		}
	}
	return b.String()
}
