package vm

import (
	"hash/fnv"
	"math"
	"math/big"
	"strings"
)

const (
	cmpEq = iota
	cmpNe
	cmpLt
	cmpLe
	cmpGt
	cmpGe
	cmpIs
	cmpIsNot
	cmpIn
	cmpNotIn
)

func (th *Thread) compare(o int, a, b Value) (Value, error) {
	switch o {
	case cmpIs:
		return identical(a, b), nil
	case cmpIsNot:
		return !identical(a, b), nil
	case cmpIn, cmpNotIn:
		in, err := th.contains(b, a)
		return in == (o == cmpIn), err
	case cmpEq, cmpNe:
		if ao, ok := a.(*Object); ok && o == cmpNe {
			if r, err := th.special(ao, "__ne__", b); err != nil || r != nil && r != NotImplemented {
				return r, err
			}
		}
		if x, ok := a.(*Object); ok && o == cmpEq && x.cls.lookup("__eq__") != objectEq {
			r, err := th.richEqual(a, b)
			return r, err
		}
		eq, err := th.equal(a, b)
		return eq == (o == cmpEq), err
	}
	return th.order(o, a, b)
}

// identical is a is b. Equal small ints and strings are one object, as a program in one file sees
// it in CPython; floats are not.
func identical(a, b Value) bool {
	switch x := a.(type) {
	case *big.Int:
		y, ok := b.(*big.Int)
		return ok && x == y
	case *Method:
		return false
	}
	return a == b
}

// richEqual is a == b, as the value that __eq__ returns.
func (th *Thread) richEqual(a, b Value) (Value, error) {
	r, err := th.reflected(a, b, "__eq__", "__eq__")
	if err != nil || r != nil {
		return r, err
	}
	return a == b, nil
}

// equal is a == b as a bool, and true for the same object.
func (th *Thread) equal(a, b Value) (bool, error) {
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b) == 0, nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return x == y, nil
		}
	case *List:
		if y, ok := b.(*List); ok {
			return th.equalItems(x.items, y.items)
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok {
			return th.equalItems(x.items, y.items)
		}
		if y, ok := b.(*Object); ok {
			if t, ok := y.native.(*Tuple); ok {
				return th.equalItems(x.items, t.items)
			}
		}
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || x.n != y.n {
			return false, nil
		}
		if err := th.enter(); err != nil {
			return false, err
		}
		defer th.leave()
		for _, e := range x.all() {
			v, found, err := y.get(th, e.key)
			if err != nil || !found {
				return false, err
			}
			if same, err := th.same(e.value, v); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case *Set, *dictView:
		xs, ok1 := th.asSet(a)
		ys, ok2 := th.asSet(b)
		if !ok1 || !ok2 || xs.d.n != ys.d.n {
			return false, nil
		}
		return th.subset(xs, ys)
	case *Range:
		if y, ok := b.(*Range); ok {
			n := x.len()
			return n == y.len() && (n == 0 || x.start == y.start && (n == 1 || x.step == y.step)), nil
		}
	case *Method:
		if y, ok := b.(*Method); ok {
			return x.self == y.self && x.fn == y.fn, nil
		}
	case *Builtin:
		if y, ok := b.(*Builtin); ok && x.method && y.method && x.self != nil {
			return x.self == y.self && x.name == y.name, nil
		}
	case *SliceObj:
		if y, ok := b.(*SliceObj); ok {
			return th.equalItems([]Value{x.lo, x.hi, x.step}, []Value{y.lo, y.hi, y.step})
		}
	}
	_, ao := a.(*Object)
	_, bo := b.(*Object)
	if ao || bo {
		if x, ok := a.(*Object); ok {
			if t, ok := x.native.(*Tuple); ok && x.cls.lookup("__eq__") == objectEq {
				if _, isTuple := b.(*Tuple); isTuple {
					return th.equal(b, a)
				}
				if y, ok := b.(*Object); ok {
					if u, ok := y.native.(*Tuple); ok {
						return th.equalItems(t.items, u.items)
					}
				}
			}
		}
		r, err := th.richEqual(a, b)
		if err != nil {
			return false, err
		}
		return th.truth(r)
	}
	return a == b, nil
}

// same is how containers compare: the same object, or equal.
func (th *Thread) same(a, b Value) (bool, error) {
	if identical(a, b) {
		return true, nil
	}
	return th.equal(a, b)
}

func (th *Thread) equalItems(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	if err := th.enter(); err != nil {
		return false, err
	}
	defer th.leave()
	for i := range a {
		if same, err := th.same(a[i], b[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// compareNumbers returns 2 if one of them is not a number.
func compareNumbers(a, b Value) int {
	x, af := a.(float64)
	y, bf := b.(float64)
	if af && x != x || bf && y != y {
		return 2
	}
	if !af && !bf {
		if i, ok := a.(int); ok {
			if j, ok := b.(int); ok {
				switch {
				case i < j:
					return -1
				case i > j:
					return 1
				}
				return 0
			}
		}
		return toBig(a).Cmp(toBig(b))
	}
	exact := func(v Value) *big.Float {
		if f, ok := v.(float64); ok {
			return new(big.Float).SetFloat64(f)
		}
		b := toBig(v)
		return new(big.Float).SetPrec(uint(max(64, b.BitLen()))).SetInt(b)
	}
	return exact(a).Cmp(exact(b))
}

var orderNames = map[int]string{cmpLt: "__lt__", cmpLe: "__le__", cmpGt: "__gt__", cmpGe: "__ge__"}
var orderSwapped = map[int]string{cmpLt: "__gt__", cmpLe: "__ge__", cmpGt: "__lt__", cmpGe: "__le__"}

func ordered(o, c int) bool {
	switch o {
	case cmpLt:
		return c < 0
	case cmpLe:
		return c <= 0
	case cmpGt:
		return c == 1
	}
	return c == 0 || c == 1
}

func (th *Thread) order(o int, a, b Value) (Value, error) {
	if isNumber(a) && isNumber(b) {
		c := compareNumbers(a, b)
		return c != 2 && ordered(o, c), nil
	}
	items := func(v Value) []Value {
		switch v := v.(type) {
		case *Tuple:
			return v.items
		case *Object:
			if t, ok := v.native.(*Tuple); ok {
				return t.items
			}
		}
		return nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return ordered(o, strings.Compare(x, y)), nil
		}
	case *List:
		if y, ok := b.(*List); ok {
			return th.orderItems(o, x.items, y.items)
		}
	case *Set:
		if y, ok := b.(*Set); ok {
			sub, err := th.subset(x, y)
			if o == cmpGt || o == cmpGe {
				sub, err = th.subset(y, x)
			}
			if err != nil {
				return nil, err
			}
			return sub && (o == cmpLe || o == cmpGe || x.d.n != y.d.n), nil
		}
	}
	if xs, ys := items(a), items(b); xs != nil && ys != nil || classOf(a) == tupleClass && classOf(b) == tupleClass {
		if x, ok := a.(*Object); !ok || x.cls.lookup("__lt__") == nil {
			return th.orderItems(o, xs, ys)
		}
	}
	r, err := th.reflected(a, b, orderNames[o], orderSwapped[o])
	if err != nil || r != nil {
		return r, err
	}
	return nil, raise("TypeError", "'%s' not supported between instances of '%s' and '%s'", compareOps[o], classOf(a).name, classOf(b).name)
}

func (th *Thread) orderItems(o int, a, b []Value) (Value, error) {
	if err := th.enter(); err != nil {
		return nil, err
	}
	defer th.leave()
	for i := range min(len(a), len(b)) {
		same, err := th.same(a[i], b[i])
		if err != nil {
			return nil, err
		}
		if !same {
			return th.order(o, a[i], b[i])
		}
	}
	return ordered(o, compareNumbers(len(a), len(b))), nil
}

// less is a < b as a bool.
func (th *Thread) less(a, b Value) (bool, error) {
	v, err := th.order(cmpLt, a, b)
	if err != nil {
		return false, err
	}
	return th.truth(v)
}

func (th *Thread) contains(in, v Value) (bool, error) {
	switch c := in.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, raise("TypeError", "'in <string>' requires string as left operand, not %s", classOf(v).name)
		}
		return strings.Contains(c, s), nil
	case *Dict:
		_, ok, err := c.get(th, v)
		return ok, err
	case *Set:
		return c.has(th, v)
	case *Range:
		if n, ok := v.(int); ok {
			if c.step > 0 {
				return n >= c.start && n < c.stop && (n-c.start)%c.step == 0, nil
			}
			return n <= c.start && n > c.stop && (c.start-n)%-c.step == 0, nil
		}
	case *dictView:
		if c.kind == 'k' {
			_, ok, err := c.d.get(th, v)
			return ok, err
		}
	case *Object:
		if t, ok := c.native.(*Tuple); ok && !overrides(c.cls, "__contains__") {
			return th.contains(t, v)
		}
		r, err := th.special(c, "__contains__", v)
		if err != nil {
			return false, err
		}
		if r != nil {
			return th.truth(r)
		}
	}
	it, err := th.iter(in)
	if err != nil {
		if isExc(err, "TypeError") && !iterable(in) {
			return false, raise("TypeError", "argument of type '%s' is not iterable", classOf(in).name)
		}
		return false, err
	}
	for {
		x, err := th.next(it)
		if err != nil || x == nil {
			return false, err
		}
		if same, err := th.same(x, v); err != nil || same {
			return same, err
		}
	}
}

// hash is hash(v). Its value is CPython's for small ints only.
func (th *Thread) hash(v Value) (int, error) {
	text := func(s string) int {
		h := fnv.New64a()
		h.Write([]byte(s))
		return int(h.Sum64() >> 1)
	}
	many := func(kind string, vs []Value, ordered bool) (int, error) {
		if err := th.enter(); err != nil {
			return 0, err
		}
		defer th.leave()
		sum := text(kind)
		for _, x := range vs {
			h, err := th.hash(x)
			if err != nil {
				return 0, err
			}
			if ordered {
				sum = sum*1000003 ^ h
			} else {
				sum += h ^ h<<7
			}
		}
		return sum, nil
	}
	switch x := v.(type) {
	case int:
		if x == -1 {
			return -2, nil
		}
		return x % (1<<61 - 1), nil
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<62 {
			return th.hash(int(x))
		}
		return int(math.Float64bits(x) >> 1), nil
	case *big.Int:
		m := new(big.Int).Rem(x, big.NewInt(1<<61-1))
		return int(m.Int64()), nil
	case string:
		return text(x), nil
	case *Tuple:
		return many("tuple", x.items, true)
	case *Set:
		if x.frozen {
			return many("set", x.items(), false)
		}
	case *Range:
		return many("range", []Value{x.start, x.stop, x.step}, true)
	case *Method:
		return many("method", []Value{x.self, x.fn}, true)
	case *Object:
		if m := x.cls.lookup("__hash__"); m == None {
			return 0, raise("TypeError", "unhashable type: '%s'", x.cls.name)
		} else if m != objectHash {
			r, err := th.special(x, "__hash__")
			if err != nil {
				return 0, err
			}
			n, large, ok := integer(r)
			if !ok {
				return 0, raise("TypeError", "__hash__ method should return an integer")
			}
			if large != nil {
				return th.hash(large)
			}
			return n, nil
		}
		if t, ok := x.native.(*Tuple); ok {
			return th.hash(t)
		}
		return th.in.idOf(x), nil
	case *List, *Dict, *SliceObj, *dictView:
		return 0, raise("TypeError", "unhashable type: '%s'", classOf(v).name)
	}
	if s, ok := v.(*Set); ok && !s.frozen {
		return 0, raise("TypeError", "unhashable type: 'set'")
	}
	return th.in.idOf(v), nil
}
