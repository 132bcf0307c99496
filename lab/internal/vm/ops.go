package vm

import (
	"math"
	"math/big"
	"strings"
)

// truth is bool(v).
func (th *Thread) truth(v Value) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case *noneType:
		return false, nil
	case int:
		return v != 0, nil
	case float64:
		return v != 0, nil
	case string:
		return v != "", nil
	case *List:
		return len(v.items) > 0, nil
	case *Tuple:
		return len(v.items) > 0, nil
	case *Dict:
		return v.n > 0, nil
	case *Set:
		return v.d.n > 0, nil
	case *Range:
		return v.len() > 0, nil
	case *dictView:
		return v.d.n > 0, nil
	case *Object:
		r, err := th.special(v, "__bool__")
		if err != nil {
			return false, err
		}
		if r != nil {
			b, ok := r.(bool)
			if !ok {
				return false, raise("TypeError", "__bool__ should return bool, returned %s", classOf(r).name)
			}
			return b, nil
		}
		if v.cls.lookup("__len__") != nil {
			n, err := th.length(v)
			return n != 0, err
		}
	}
	return true, nil
}

func norm(b *big.Int) Value {
	if b.IsInt64() {
		return int(b.Int64())
	}
	return b
}

// integer returns v as an integer, if it is one.
func integer(v Value) (small int, large *big.Int, ok bool) {
	switch v := v.(type) {
	case int:
		return v, nil, true
	case bool:
		if v {
			return 1, nil, true
		}
		return 0, nil, true
	case *big.Int:
		return 0, v, true
	}
	return 0, nil, false
}

func toBig(v Value) *big.Int {
	small, large, _ := integer(v)
	if large != nil {
		return large
	}
	return big.NewInt(int64(small))
}

func isNumber(v Value) bool {
	switch v.(type) {
	case int, bool, *big.Int, float64:
		return true
	}
	return false
}

func toFloat(v Value) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		if math.IsInf(f, 0) {
			return 0, raise("OverflowError", "int too large to convert to float")
		}
		return f, nil
	}
	small, _, _ := integer(v)
	return float64(small), nil
}

var specialNames = []string{"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"}

const (
	binAdd = iota
	binSub
	binMul
	binDiv
	binFloor
	binMod
	binPow
	binMatmul
	binAnd
	binOr
	binXor
	binLsh
	binRsh
)

func (th *Thread) binary(o int, a, b Value) (Value, error) {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			switch o {
			case binAdd:
				if s := x + y; (s > x) == (y > 0) {
					return s, nil
				}
			case binSub:
				if s := x - y; (s < x) == (y > 0) {
					return s, nil
				}
			}
		}
	}
	if isNumber(a) && isNumber(b) {
		_, af := a.(float64)
		_, bf := b.(float64)
		if af || bf {
			return th.floatOp(o, a, b)
		}
		if ab, ok := a.(bool); ok {
			if bb, ok := b.(bool); ok {
				switch o {
				case binAnd:
					return ab && bb, nil
				case binOr:
					return ab || bb, nil
				case binXor:
					return ab != bb, nil
				}
			}
		}
		return th.intOp(o, a, b)
	}
	if v, err := th.containerOp(o, a, b); v != nil || err != nil {
		return v, err
	}
	if v, err := th.reflected(a, b, "__"+specialNames[o]+"__", "__r"+specialNames[o]+"__"); v != nil || err != nil {
		return v, err
	}
	if o == binAdd {
		switch a.(type) {
		case string:
			return nil, raise("TypeError", "can only concatenate str (not \"%s\") to str", classOf(b).name)
		case *List:
			return nil, raise("TypeError", "can only concatenate list (not \"%s\") to list", classOf(b).name)
		case *Tuple:
			return nil, raise("TypeError", "can only concatenate tuple (not \"%s\") to tuple", classOf(b).name)
		}
	}
	if o == binMul {
		for _, p := range [][2]Value{{a, b}, {b, a}} {
			switch p[0].(type) {
			case string, *List, *Tuple:
				return nil, raise("TypeError", "can't multiply sequence by non-int of type '%s'", classOf(p[1]).name)
			}
		}
	}
	op := binaryOps[o]
	if o == binPow {
		op = "** or pow()"
	}
	return nil, raise("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", op, classOf(a).name, classOf(b).name)
}

// reflected tries a's method and then b's, b's first if its class is derived from a's.
func (th *Thread) reflected(a, b Value, left, right string) (Value, error) {
	ca, cb := classOf(a), classOf(b)
	try := func(v Value, name string, arg Value) (Value, error) {
		r, err := th.special(v, name, arg)
		if r == NotImplemented {
			r = nil
		}
		return r, err
	}
	if ca != cb && cb.isSub(ca) {
		if r, err := try(b, right, a); r != nil || err != nil {
			return r, err
		}
		return try(a, left, b)
	}
	if r, err := try(a, left, b); r != nil || err != nil {
		return r, err
	}
	if ca == cb && left != right && !strings.HasPrefix(right, "__r") {
		return try(b, right, a)
	}
	if ca == cb && strings.HasPrefix(right, "__r") {
		return nil, nil
	}
	return try(b, right, a)
}

func (th *Thread) floatOp(o int, a, b Value) (Value, error) {
	x, err := toFloat(a)
	if err != nil {
		return nil, err
	}
	y, err := toFloat(b)
	if err != nil {
		return nil, err
	}
	switch o {
	case binAdd:
		return x + y, nil
	case binSub:
		return x - y, nil
	case binMul:
		return x * y, nil
	case binDiv:
		if y == 0 {
			return nil, raise("ZeroDivisionError", "float division by zero")
		}
		return x / y, nil
	case binFloor, binMod:
		if y == 0 {
			if o == binMod {
				return nil, raise("ZeroDivisionError", "float modulo")
			}
			return nil, raise("ZeroDivisionError", "float floor division by zero")
		}
		m := math.Mod(x, y)
		div := (x - m) / y
		if m != 0 {
			if (y < 0) != (m < 0) {
				m += y
				div--
			}
		} else {
			m = math.Copysign(0, y)
		}
		if o == binMod {
			return m, nil
		}
		if div == 0 {
			return math.Copysign(0, x/y), nil
		}
		f := math.Floor(div)
		if div-f > 0.5 {
			f++
		}
		return f, nil
	case binPow:
		if x == 0 && y < 0 {
			return nil, raise("ZeroDivisionError", "0.0 cannot be raised to a negative power")
		}
		if x < 0 && y != math.Trunc(y) && !math.IsInf(y, 0) {
			return nil, th.outside("complex numbers")
		}
		r := math.Pow(x, y)
		if math.IsInf(r, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
			return nil, raise("OverflowError", "(34, 'Numerical result out of range')")
		}
		return r, nil
	}
	return nil, raise("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", binaryOps[o], classOf(a).name, classOf(b).name)
}

// maxBits limits integers: more is more memory and time than a lesson has.
const maxBits = 1 << 20

func (th *Thread) intOp(o int, a, b Value) (Value, error) {
	x, y := toBig(a), toBig(b)
	r := new(big.Int)
	if err := th.alloc((x.BitLen() + y.BitLen()) / 8); err != nil {
		return nil, err
	}
	switch o {
	case binAdd:
		return norm(r.Add(x, y)), nil
	case binSub:
		return norm(r.Sub(x, y)), nil
	case binMul:
		if x.BitLen()+y.BitLen() > maxBits {
			return nil, &Fatal{"an integer has become too large", StatusLimit}
		}
		return norm(r.Mul(x, y)), nil
	case binDiv:
		if y.Sign() == 0 {
			return nil, raise("ZeroDivisionError", "division by zero")
		}
		f, _ := new(big.Rat).SetFrac(x, y).Float64()
		if math.IsInf(f, 0) {
			return nil, raise("OverflowError", "integer division result too large for a float")
		}
		return f, nil
	case binFloor, binMod:
		if y.Sign() == 0 {
			if o == binFloor {
				return nil, raise("ZeroDivisionError", "integer division or modulo by zero")
			}
			return nil, raise("ZeroDivisionError", "integer modulo by zero")
		}
		q, m := new(big.Int).QuoRem(x, y, r)
		if m.Sign() != 0 && (m.Sign() < 0) != (y.Sign() < 0) {
			q.Sub(q, big.NewInt(1))
			m.Add(m, y)
		}
		if o == binFloor {
			return norm(q), nil
		}
		return norm(m), nil
	case binPow:
		if y.Sign() < 0 {
			if x.Sign() == 0 {
				return nil, raise("ZeroDivisionError", "0.0 cannot be raised to a negative power")
			}
			return th.floatOp(o, a, b)
		}
		if x.BitLen() > 1 && (!y.IsInt64() || y.Int64() > maxBits || int64(x.BitLen())*y.Int64() > maxBits) {
			return nil, &Fatal{"an integer has become too large", StatusLimit}
		}
		return norm(r.Exp(x, y, nil)), nil
	case binAnd:
		return norm(r.And(x, y)), nil
	case binOr:
		return norm(r.Or(x, y)), nil
	case binXor:
		return norm(r.Xor(x, y)), nil
	case binLsh, binRsh:
		if y.Sign() < 0 {
			return nil, raise("ValueError", "negative shift count")
		}
		if o == binRsh {
			if !y.IsInt64() || y.Int64() > maxBits {
				if x.Sign() < 0 {
					return -1, nil
				}
				return 0, nil
			}
			return norm(r.Rsh(x, uint(y.Int64()))), nil
		}
		if x.Sign() != 0 && (!y.IsInt64() || y.Int64()+int64(x.BitLen()) > maxBits) {
			return nil, &Fatal{"an integer has become too large", StatusLimit}
		}
		if x.Sign() == 0 {
			return 0, nil
		}
		return norm(r.Lsh(x, uint(y.Int64()))), nil
	}
	return nil, raise("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", binaryOps[o], classOf(a).name, classOf(b).name)
}

// containerOp returns nil if the operation is not one of containers and strings.
func (th *Thread) containerOp(o int, a, b Value) (Value, error) {
	if o == binMul {
		seq, n := a, b
		if _, _, ok := integer(a); ok {
			seq, n = b, a
		}
		if small, large, ok := integer(n); ok {
			if large != nil {
				small = maxBits * 64
				if large.Sign() < 0 {
					small = 0
				}
			}
			return th.repeat(seq, max(small, 0))
		}
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok && o == binAdd {
			if err := th.alloc(len(x) + len(y)); err != nil {
				return nil, err
			}
			return x + y, nil
		}
		if o == binMod {
			return th.percent(x, b)
		}
	case *List:
		if y, ok := b.(*List); ok && o == binAdd {
			if err := th.alloc(16 * (len(x.items) + len(y.items))); err != nil {
				return nil, err
			}
			return &List{append(append([]Value(nil), x.items...), y.items...)}, nil
		}
	case *Tuple:
		if y, ok := b.(*Tuple); ok && o == binAdd {
			if err := th.alloc(16 * (len(x.items) + len(y.items))); err != nil {
				return nil, err
			}
			return &Tuple{append(append([]Value(nil), x.items...), y.items...)}, nil
		}
	case *Dict:
		if y, ok := b.(*Dict); ok && o == binOr {
			d := x.copy()
			for _, e := range y.all() {
				if err := d.set(th, e.key, e.value); err != nil {
					return nil, err
				}
			}
			return d, nil
		}
		if y, ok := b.(*Dict); ok && x.kind == counterClass && y.kind == counterClass && (o == binAdd || o == binSub) {
			return th.counterOp(o, x, y)
		}
	case *Set, *dictView:
		xs, ok1 := th.asSet(a)
		ys, ok2 := th.asSet(b)
		if !ok1 || !ok2 {
			return nil, nil
		}
		switch o {
		case binAnd, binOr, binXor, binSub:
			return th.setOp(o, xs, ys)
		}
	}
	return nil, nil
}

func (th *Thread) repeat(seq Value, n int) (Value, error) {
	size := func(each int) error {
		if each > 0 && n > (1<<40)/each {
			return th.alloc(1 << 50)
		}
		return th.alloc(each * n)
	}
	times := func(items []Value) []Value {
		out := make([]Value, 0, len(items)*n)
		for range n {
			out = append(out, items...)
		}
		return out
	}
	switch s := seq.(type) {
	case string:
		if err := size(len(s)); err != nil {
			return nil, err
		}
		if s == "" {
			return s, nil
		}
		return strings.Repeat(s, n), nil
	case *List:
		if err := size(16 * len(s.items)); err != nil {
			return nil, err
		}
		if len(s.items) == 0 {
			return &List{}, nil
		}
		return &List{times(s.items)}, nil
	case *Tuple:
		if err := size(16 * len(s.items)); err != nil {
			return nil, err
		}
		if len(s.items) == 0 {
			return s, nil
		}
		return &Tuple{times(s.items)}, nil
	}
	return nil, nil
}

func (th *Thread) inplace(o int, a, b Value) (Value, error) {
	switch x := a.(type) {
	case *List:
		if o == binAdd {
			items, err := th.list(b)
			if err != nil {
				return nil, err
			}
			if err := th.alloc(16 * len(items)); err != nil {
				return nil, err
			}
			x.items = append(x.items, items...)
			return x, nil
		}
		if small, _, ok := integer(b); ok && o == binMul {
			v, err := th.repeat(x, max(small, 0))
			if err != nil {
				return nil, err
			}
			x.items = v.(*List).items
			return x, nil
		}
	case *Set:
		if y, ok := b.(*Set); ok && !x.frozen {
			r, err := th.containerOp(o, x, y)
			if err != nil || r == nil {
				break
			}
			x.d = r.(*Set).d
			return x, nil
		}
	case *Dict:
		if y, ok := b.(*Dict); ok && o == binOr {
			for _, e := range y.all() {
				if err := x.set(th, e.key, e.value); err != nil {
					return nil, err
				}
			}
			return x, nil
		}
	case *Object:
		r, err := th.special(x, "__i"+specialNames[o]+"__", b)
		if err != nil {
			return nil, err
		}
		if r != nil && r != NotImplemented {
			return r, nil
		}
	}
	v, err := th.binary(o, a, b)
	if exc, ok := raised(err); ok && exc.cls == excClasses["TypeError"] && len(exc.exc.args.items) == 1 {
		if s, ok := exc.exc.args.items[0].(string); ok && strings.HasPrefix(s, "unsupported operand type(s) for "+binaryOps[o]) {
			op := binaryOps[o] + "="
			if o == binPow {
				op = "**="
			}
			return nil, raise("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", op, classOf(a).name, classOf(b).name)
		}
	}
	return v, err
}

func (th *Thread) unary(o int, v Value) (Value, error) {
	switch x := v.(type) {
	case float64:
		switch o {
		case 0:
			return -x, nil
		case 1:
			return x, nil
		}
	case int, bool, *big.Int:
		b := toBig(x)
		switch o {
		case 0:
			return norm(new(big.Int).Neg(b)), nil
		case 1:
			return norm(b), nil
		}
		return norm(new(big.Int).Not(b)), nil
	}
	r, err := th.special(v, []string{"__neg__", "__pos__", "__invert__"}[o])
	if r != nil || err != nil {
		return r, err
	}
	return nil, raise("TypeError", "bad operand type for unary %s: '%s'", unaryOps[o], classOf(v).name)
}
