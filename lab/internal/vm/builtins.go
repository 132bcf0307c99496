package vm

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

var builtins = newNS()

// objectEq and objectHash are what object has for == and hash().
var objectEq, objectHash Value

// missingBuiltins are builtins of Python that the lab does not have.
var missingBuiltins = map[string]bool{}

// outsideNames are attributes of modules and classes, "module.name", that Python has and the lab
// does not.
var outsideNames = map[string]bool{}

func init() {
	for _, n := range strings.Fields("bytes bytearray memoryview complex eval exec compile open input locals breakpoint help __import__ dir EncodingWarning UnicodeDecodeError UnicodeEncodeError") {
		missingBuiltins[n] = true
	}
	for _, n := range strings.Fields("str.encode str.translate str.maketrans str.expandtabs str.format_map int.to_bytes int.from_bytes int.real int.imag float.hex float.fromhex") {
		outsideNames[n] = true
	}
	setupClasses()
	setupExceptions()
	setupModules()
	b := builtins
	for _, c := range []*Class{objectClass, typeClass, boolClass, intClass, floatClass, strClass, listClass, tupleClass, dictClass, setClass,
		frozensetClass, rangeClass, sliceClass, propertyClass, staticmethodClass, classmethodClass, superClass} {
		b.set(c.name, c)
	}
	for name, c := range excClasses {
		b.set(name, c)
	}
	b.set("IOError", excClasses["OSError"])
	b.set("NotImplemented", NotImplemented)
	b.set("Ellipsis", Ellipsis)
	b.set("__debug__", true)
	objectMethods()
	constructors()
	strMethods()
	listMethods()
	dictMethods()
	setMethods()
	genMethods()
	numberMethods()
	builtinFunctions(b)
	iterationFunctions(b)
}

func objectMethods() {
	c := objectClass
	c.def("__eq__", "other", func(_ *Thread, self Value, a []Value) (Value, error) {
		if self == a[0] {
			return true, nil
		}
		return NotImplemented, nil
	})
	c.def("__ne__", "other", func(th *Thread, self Value, a []Value) (Value, error) {
		r, err := th.richEqual(self, a[0])
		if err != nil || r == NotImplemented {
			return r, err
		}
		t, err := th.truth(r)
		return !t, err
	})
	c.def("__hash__", "", func(th *Thread, self Value, _ []Value) (Value, error) { return th.in.idOf(self), nil })
	c.def("__setattr__", "name value", func(th *Thread, self Value, a []Value) (Value, error) {
		name, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		return None, th.plainSetAttr(self, name, a[1])
	})
	objectEq, objectHash = c.ns.get("__eq__"), c.ns.get("__hash__")
	c.ns.del("__ne__")
}

func parseInt(s string, base int) (*big.Int, bool) {
	s = strings.TrimSpace(s)
	neg := strings.HasPrefix(s, "-")
	t := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	if len(s)-len(t) > 1 || t == "" || strings.HasPrefix(t, "_") || strings.HasSuffix(t, "_") || strings.Contains(t, "__") || len(t) > 4300 {
		return nil, false
	}
	if base == 10 || base == 0 {
		var b strings.Builder
		for _, r := range t { // digits of other scripts
			if r >= '０' && r <= '９' {
				r = r - '０' + '0'
			}
			b.WriteRune(r)
		}
		t = b.String()
	}
	lower := strings.ToLower(t)
	switch {
	case base == 16:
		t = strings.TrimPrefix(lower, "0x")
	case base == 2:
		t = strings.TrimPrefix(lower, "0b")
	case base == 8:
		t = strings.TrimPrefix(lower, "0o")
	}
	n, ok := new(big.Int).SetString(strings.ReplaceAll(t, "_", ""), base)
	if ok && neg {
		n.Neg(n)
	}
	return n, ok
}

func constructors() {
	one := func(name string, args []Value, kw []KW, absent Value) (Value, error) {
		a, err := arguments(name, args, kw, "object?")
		if err != nil {
			return nil, err
		}
		if a[0] == nil {
			return absent, nil
		}
		return a[0], nil
	}
	strClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		v, err := one("str", args, kw, "")
		if err != nil {
			return nil, err
		}
		return th.str(v)
	}
	boolClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		v, err := one("bool", args, kw, false)
		if err != nil {
			return nil, err
		}
		return th.truth(v)
	}
	listClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		v, err := one("list", args, kw, &Tuple{})
		if err != nil {
			return nil, err
		}
		items, err := th.list(v)
		return &List{items}, err
	}
	tupleClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		v, err := one("tuple", args, kw, &Tuple{})
		if t, ok := v.(*Tuple); ok || err != nil {
			return t, err
		}
		items, err := th.list(v)
		return &Tuple{items}, err
	}
	intClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		a, err := arguments("int", args, kw, "x?", "base?")
		if err != nil {
			return nil, err
		}
		switch x := a[0].(type) {
		case nil:
			return 0, nil
		case bool, int, *big.Int:
			return norm(toBig(x)), nil
		case float64:
			if math.IsInf(x, 0) {
				return nil, raise("OverflowError", "cannot convert float infinity to integer")
			}
			if x != x {
				return nil, raise("ValueError", "cannot convert float NaN to integer")
			}
			n, _ := big.NewFloat(x).Int(nil)
			return norm(n), nil
		case string:
			base, err := intArg(a[1], 10)
			if err != nil {
				return nil, err
			}
			if base != 0 && (base < 2 || base > 36) {
				return nil, raise("ValueError", "int() base must be >= 2 and <= 36, or 0")
			}
			n, ok := parseInt(x, base)
			if !ok {
				return nil, raise("ValueError", "invalid literal for int() with base %d: %s", base, strRepr(x))
			}
			return norm(n), nil
		case *Object:
			for _, m := range []string{"__int__", "__index__"} {
				if r, err := th.special(x, m); r != nil || err != nil {
					return r, err
				}
			}
		}
		return nil, raise("TypeError", "int() argument must be a string, a bytes-like object or a real number, not '%s'", classOf(a[0]).name)
	}
	floatClass.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		v, err := one("float", args, kw, 0.0)
		if err != nil {
			return nil, err
		}
		switch x := v.(type) {
		case bool, int, *big.Int, float64:
			return toFloat(x)
		case string:
			t := strings.ToLower(strings.TrimSpace(x))
			f, err := strconv.ParseFloat(strings.ReplaceAll(t, "_", ""), 64)
			if err != nil && f == 0 || strings.HasPrefix(t, "0x") || t == "" {
				return nil, raise("ValueError", "could not convert string to float: %s", strRepr(x))
			}
			return f, nil
		case *Object:
			if r, err := th.special(x, "__float__"); r != nil || err != nil {
				return r, err
			}
		}
		return nil, raise("TypeError", "float() argument must be a string or a real number, not '%s'", classOf(v).name)
	}
	rangeClass.newFn = func(_ *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		if len(args) < 1 || len(args) > 3 {
			return nil, raise("TypeError", "range expected at least 1 argument, got %d", len(args))
		}
		n := [3]int{0, 0, 1}
		for i, v := range args {
			x, err := intArg(v, 0)
			if err != nil {
				return nil, err
			}
			n[i] = x
		}
		if len(args) == 1 {
			n[0], n[1] = 0, n[0]
		}
		if n[2] == 0 {
			return nil, raise("ValueError", "range() arg 3 must not be zero")
		}
		return &Range{n[0], n[1], n[2]}, nil
	}
	sliceClass.newFn = func(_ *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		switch len(args) {
		case 1:
			return &SliceObj{None, args[0], None}, nil
		case 2:
			return &SliceObj{args[0], args[1], None}, nil
		case 3:
			return &SliceObj{args[0], args[1], args[2]}, nil
		}
		return nil, raise("TypeError", "slice expected 1 to 3 arguments, got %d", len(args))
	}
	propertyClass.newFn = func(_ *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
		a, err := arguments("property", args, kw, "fget?", "fset?", "fdel?", "doc?")
		if err != nil {
			return nil, err
		}
		return &Property{a[0], a[1], a[2], a[3]}, nil
	}
	staticmethodClass.newFn = func(_ *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		if len(args) != 1 {
			return nil, raise("TypeError", "staticmethod expected 1 argument, got %d", len(args))
		}
		return &StaticMethod{args[0]}, nil
	}
	classmethodClass.newFn = func(_ *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		if len(args) != 1 {
			return nil, raise("TypeError", "classmethod expected 1 argument, got %d", len(args))
		}
		return &ClassMethod{args[0]}, nil
	}
	typeClass.newFn = func(th *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		if len(args) == 3 {
			return nil, th.outside("type() with three arguments")
		}
		if len(args) != 1 {
			return nil, raise("TypeError", "type() takes 1 or 3 arguments")
		}
		return classOf(args[0]), nil
	}
	superClass.newFn = func(th *Thread, _ *Class, args []Value, _ []KW) (Value, error) {
		if len(args) == 2 {
			c, ok := args[0].(*Class)
			if !ok {
				return nil, raise("TypeError", "super() argument 1 must be a type, not %s", classOf(args[0]).name)
			}
			return &Super{c, args[1]}, nil
		}
		f := th.frame
		if f == nil || len(f.code.params) == 0 {
			return nil, raise("RuntimeError", "super(): no arguments")
		}
		for i, n := range f.code.frees {
			if n == "__class__" {
				c, ok := f.free[i].v.(*Class)
				if !ok {
					return nil, raise("RuntimeError", "super(): empty __class__ cell")
				}
				return &Super{c, f.cells[0].v}, nil
			}
		}
		return nil, raise("RuntimeError", "super(): __class__ cell not found")
	}
}

func numberMethods() {
	intClass.def("bit_length", "", func(_ *Thread, self Value, _ []Value) (Value, error) { return toBig(self).BitLen(), nil })
	floatClass.def("is_integer", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		f := self.(float64)
		return f == math.Trunc(f) && !math.IsInf(f, 0), nil
	})
}

func printFn(th *Thread, args []Value, kw []KW) (Value, error) {
	sep, end := " ", "\n"
	var file Value
	for _, k := range kw {
		switch k.name {
		case "sep", "end":
			s, ok := k.v.(string)
			if k.v == None {
				continue
			}
			if !ok {
				return nil, raise("TypeError", "%s must be None or a string, not %s", k.name, classOf(k.v).name)
			}
			if k.name == "sep" {
				sep = s
			} else {
				end = s
			}
		case "file":
			file = k.v
		case "flush":
		default:
			return nil, raise("TypeError", "print() got an unexpected keyword argument '%s'", k.name)
		}
	}
	var b strings.Builder
	for i, v := range args {
		if i > 0 {
			b.WriteString(sep)
		}
		s, err := th.str(v)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	b.WriteString(end)
	if err := th.alloc(b.Len()); err != nil {
		return nil, err
	}
	if o, ok := file.(*Object); ok {
		if s, ok := o.native.(*stream); ok {
			return None, s.write(th, b.String())
		}
		_, err := th.callMethod(o, "write", b.String())
		return None, err
	}
	return None, th.in.write(th, b.String())
}

func builtinFunctions(b *NS) {
	b.fn("print", printFn)
	b.def("len", "obj", func(th *Thread, a []Value) (Value, error) { return th.length(a[0]) })
	b.def("repr", "obj", func(th *Thread, a []Value) (Value, error) { return th.repr(a[0]) })
	b.def("ascii", "obj", func(th *Thread, a []Value) (Value, error) {
		s, err := th.repr(a[0])
		return ascii(s), err
	})
	b.def("format", "value spec?", func(th *Thread, a []Value) (Value, error) {
		s, err := strArg(a[1], "")
		if err != nil {
			return nil, err
		}
		return th.format(a[0], s)
	})
	b.def("hash", "obj", func(th *Thread, a []Value) (Value, error) { return th.hash(a[0]) })
	b.def("id", "obj", func(th *Thread, a []Value) (Value, error) { return th.in.idOf(a[0]), nil })
	b.def("callable", "obj", func(_ *Thread, a []Value) (Value, error) {
		switch x := a[0].(type) {
		case *Function, *Builtin, *Method, *Class:
			return true, nil
		case *Object:
			return x.cls.lookup("__call__") != nil, nil
		}
		return false, nil
	})
	b.def("isinstance", "obj cls", func(th *Thread, a []Value) (Value, error) { return th.isInstance(a[0], a[1]) })
	b.def("issubclass", "cls of", func(th *Thread, a []Value) (Value, error) {
		c, ok := a[0].(*Class)
		if !ok {
			return nil, raise("TypeError", "issubclass() arg 1 must be a class")
		}
		of := []Value{a[1]}
		if t, ok := a[1].(*Tuple); ok {
			of = t.items
		}
		for _, v := range of {
			k, ok := v.(*Class)
			if !ok {
				return nil, raise("TypeError", "issubclass() arg 2 must be a class, a tuple of classes, or a union")
			}
			if c.isSub(k) {
				return true, nil
			}
		}
		return false, nil
	})
	b.def("getattr", "obj name default?", func(th *Thread, a []Value) (Value, error) {
		name, ok := a[1].(string)
		if !ok {
			return nil, raise("TypeError", "attribute name must be string, not '%s'", classOf(a[1]).name)
		}
		v, err := th.getAttr(a[0], name)
		if a[2] != nil && isExc(err, "AttributeError") {
			return a[2], nil
		}
		return v, err
	})
	b.def("hasattr", "obj name", func(th *Thread, a []Value) (Value, error) {
		name, ok := a[1].(string)
		if !ok {
			return nil, raise("TypeError", "attribute name must be string, not '%s'", classOf(a[1]).name)
		}
		_, err := th.getAttr(a[0], name)
		if isExc(err, "AttributeError") {
			return false, nil
		}
		return err == nil, err
	})
	b.def("setattr", "obj name value", func(th *Thread, a []Value) (Value, error) {
		name, err := strArg(a[1], "")
		if err != nil {
			return nil, err
		}
		return None, th.setAttr(a[0], name, a[2])
	})
	b.def("delattr", "obj name", func(th *Thread, a []Value) (Value, error) {
		name, err := strArg(a[1], "")
		if err != nil {
			return nil, err
		}
		return None, th.delAttr(a[0], name)
	})
	b.def("vars", "obj?", func(th *Thread, a []Value) (Value, error) {
		if a[0] == nil {
			return nil, th.outside("vars() without an argument")
		}
		return th.getAttr(a[0], "__dict__")
	})
	b.def("globals", "", func(th *Thread, _ []Value) (Value, error) {
		d := newDict()
		for _, k := range th.frame.globals.keys {
			d.setStr(k, th.frame.globals.m[k])
		}
		return d, nil
	})
	b.def("chr", "i", func(_ *Thread, a []Value) (Value, error) {
		n, err := intArg(a[0], 0)
		if err == nil && (n < 0 || n > 0x10ffff) {
			return nil, raise("ValueError", "chr() arg not in range(0x110000)")
		}
		return string(rune(n)), err
	})
	b.def("ord", "c", func(_ *Thread, a []Value) (Value, error) {
		s, ok := a[0].(string)
		if !ok {
			return nil, raise("TypeError", "ord() expected string of length 1, but %s found", classOf(a[0]).name)
		}
		if n := utf8.RuneCountInString(s); n != 1 {
			return nil, raise("TypeError", "ord() expected a character, but string of length %d found", n)
		}
		r, _ := utf8.DecodeRuneInString(s)
		return int(r), nil
	})
	for name, p := range map[string]struct {
		base   int
		prefix string
	}{"hex": {16, "0x"}, "oct": {8, "0o"}, "bin": {2, "0b"}} {
		b.def(name, "x", func(_ *Thread, a []Value) (Value, error) {
			if _, _, ok := integer(a[0]); !ok {
				return nil, raise("TypeError", "'%s' object cannot be interpreted as an integer", classOf(a[0]).name)
			}
			n := toBig(a[0])
			sign := ""
			if n.Sign() < 0 {
				sign = "-"
			}
			return sign + p.prefix + new(big.Int).Abs(n).Text(p.base), nil
		})
	}
	b.def("abs", "x", func(th *Thread, a []Value) (Value, error) {
		switch x := a[0].(type) {
		case float64:
			return math.Abs(x), nil
		case int, bool, *big.Int:
			return norm(new(big.Int).Abs(toBig(x))), nil
		}
		r, err := th.special(a[0], "__abs__")
		if r == nil && err == nil {
			return nil, raise("TypeError", "bad operand type for abs(): '%s'", classOf(a[0]).name)
		}
		return r, err
	})
	b.def("divmod", "a b", func(th *Thread, a []Value) (Value, error) {
		q, err := th.binary(binFloor, a[0], a[1])
		if err != nil {
			return nil, err
		}
		m, err := th.binary(binMod, a[0], a[1])
		return &Tuple{[]Value{q, m}}, err
	})
	b.def("pow", "base exp mod?", func(th *Thread, a []Value) (Value, error) {
		if a[2] == nil || a[2] == None {
			return th.binary(binPow, a[0], a[1])
		}
		for _, v := range a {
			if _, _, ok := integer(v); !ok {
				return nil, raise("TypeError", "pow() 3rd argument not allowed unless all arguments are integers")
			}
		}
		if toBig(a[2]).Sign() == 0 {
			return nil, raise("ValueError", "pow() 3rd argument cannot be 0")
		}
		if toBig(a[1]).Sign() < 0 || toBig(a[1]).BitLen() > 4096 {
			return nil, th.outside("pow() with such an exponent")
		}
		m := new(big.Int).Exp(toBig(a[0]), toBig(a[1]), new(big.Int).Abs(toBig(a[2])))
		return th.binary(binMod, norm(m), a[2])
	})
	b.def("round", "number ndigits?", func(th *Thread, a []Value) (Value, error) { return th.round(a[0], a[1]) })
	b.def("iter", "obj sentinel?", func(th *Thread, a []Value) (Value, error) {
		if a[1] == nil {
			return th.iter(a[0])
		}
		return &Iter{"callable_iterator", func(th *Thread) (Value, error) {
			v, err := th.call(a[0], nil, nil)
			if err != nil {
				return nil, err
			}
			if same, err := th.same(v, a[1]); err != nil || same {
				return nil, err
			}
			return v, nil
		}}, nil
	})
	b.def("next", "iterator default?", func(th *Thread, a []Value) (Value, error) {
		if g, ok := a[0].(*Gen); ok {
			g.held = true
		}
		v, err := th.next(a[0])
		if err != nil || v != nil {
			return v, err
		}
		if a[1] != nil {
			return a[1], nil
		}
		return nil, stopIteration(th.stopValue())
	})
	b.def("aiter", "obj", func(th *Thread, a []Value) (Value, error) { return th.aiter(a[0]) })
	b.def("anext", "iterator default?", func(th *Thread, a []Value) (Value, error) {
		if g, ok := a[0].(*Gen); ok {
			g.held = true
		}
		if a[1] != nil {
			return nil, th.outside("anext() with a default")
		}
		return th.anext(a[0])
	})
}

// round is round(): to even.
func (th *Thread) round(v, digits Value) (Value, error) {
	if digits == nil || digits == None {
		switch x := v.(type) {
		case int, bool, *big.Int:
			return norm(toBig(x)), nil
		case float64:
			if math.IsInf(x, 0) {
				return nil, raise("OverflowError", "cannot convert float infinity to integer")
			}
			if x != x {
				return nil, raise("ValueError", "cannot convert float NaN to integer")
			}
			n, _ := big.NewFloat(math.RoundToEven(x)).Int(nil)
			return norm(n), nil
		}
	}
	n, err := intArg(digits, 0)
	if err != nil && digits != None {
		return nil, err
	}
	switch x := v.(type) {
	case int, bool, *big.Int:
		if n >= 0 {
			return norm(toBig(x)), nil
		}
		if n < -400 {
			return 0, nil
		}
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-n)), nil)
		q, r := new(big.Int).DivMod(toBig(x), unit, new(big.Int))
		switch c := new(big.Int).Lsh(r, 1).Cmp(unit); {
		case c > 0 || c == 0 && q.Bit(0) == 1:
			q.Add(q, big.NewInt(1))
		}
		return norm(q.Mul(q, unit)), nil
	case float64:
		if n > 300 || math.IsInf(x, 0) || x != x {
			return x, nil
		}
		if n >= 0 {
			f, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', n, 64), 64)
			return f, nil
		}
		unit := math.Pow(10, float64(-n))
		return math.RoundToEven(x/unit) * unit, nil
	}
	if r, err := th.special(v, "__round__", orNoneV(digits)); r != nil || err != nil {
		return r, err
	}
	return nil, raise("TypeError", "type %s doesn't define __round__ method", classOf(v).name)
}
