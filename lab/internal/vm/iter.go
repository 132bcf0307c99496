package vm

import "unicode/utf8"

// An Iter is an iterator of Go code: step returns nil at the end.
type Iter struct {
	name string
	step func(th *Thread) (Value, error)
}

func (r *Range) len() int {
	switch {
	case r.step > 0 && r.start < r.stop:
		return (r.stop-r.start-1)/r.step + 1
	case r.step < 0 && r.start > r.stop:
		return (r.start-r.stop-1)/-r.step + 1
	}
	return 0
}

// overrides reports whether a class that is derived from a builtin one has a method of its own.
func overrides(c *Class, name string) bool {
	m, ok := c.lookup(name).(*Builtin)
	return !ok || m == nil
}

func iterable(v Value) bool {
	switch x := v.(type) {
	case string, *List, *Tuple, *Dict, *Set, *Range, *dictView, *Iter:
		return true
	case *Gen:
		return x.kind == isGenerator
	case *Object:
		return x.cls.lookup("__iter__") != nil || x.cls.lookup("__getitem__") != nil
	}
	return false
}

// iter is iter(v).
func (th *Thread) iter(v Value) (Value, error) {
	slice := func(name string, items []Value) Value {
		i := 0
		return &Iter{name, func(*Thread) (Value, error) {
			if i >= len(items) {
				return nil, nil
			}
			i++
			return items[i-1], nil
		}}
	}
	switch x := v.(type) {
	case *Iter:
		return x, nil
	case *Gen:
		if x.kind == isGenerator {
			return x, nil
		}
	case *pending:
		if x.iter {
			return x, nil
		}
	case *List:
		i := 0
		return &Iter{"list_iterator", func(*Thread) (Value, error) {
			if i < 0 || i >= len(x.items) {
				i = -1
				return nil, nil
			}
			i++
			return x.items[i-1], nil
		}}, nil
	case *Tuple:
		return slice("tuple_iterator", x.items), nil
	case string:
		rest := x
		return &Iter{"str_iterator", func(*Thread) (Value, error) {
			if rest == "" {
				return nil, nil
			}
			_, n := utf8.DecodeRuneInString(rest)
			c := rest[:n]
			rest = rest[n:]
			return c, nil
		}}, nil
	case *Range:
		n, at := x.len(), x.start
		return &Iter{"range_iterator", func(*Thread) (Value, error) {
			if n == 0 {
				return nil, nil
			}
			n--
			at += x.step
			return at - x.step, nil
		}}, nil
	case *Set:
		items := x.items()
		i, size, version := 0, x.d.n, x.d.version
		return &Iter{"set_iterator", func(*Thread) (Value, error) {
			if x.d.n != size || x.d.version != version {
				return nil, raise("RuntimeError", "Set changed size during iteration")
			}
			if i >= len(items) {
				return nil, nil
			}
			i++
			return items[i-1], nil
		}}, nil
	case *Dict:
		return th.iter(&dictView{x, 'k'})
	case *dictView:
		i, size, version := 0, x.d.n, x.d.version
		return &Iter{"dict_iterator", func(*Thread) (Value, error) {
			if x.d.n != size {
				return nil, raise("RuntimeError", "dictionary changed size during iteration")
			}
			if x.d.version != version {
				return nil, raise("RuntimeError", "dictionary keys changed during iteration")
			}
			for i < len(x.d.entries) {
				e := x.d.entries[i]
				i++
				if e.key == nil {
					continue
				}
				switch x.kind {
				case 'k':
					return e.key, nil
				case 'v':
					return e.value, nil
				}
				return &Tuple{[]Value{e.key, e.value}}, nil
			}
			return nil, nil
		}}, nil
	case *Object:
		if t, ok := x.native.(*Tuple); ok && !overrides(x.cls, "__iter__") {
			return slice("tuple_iterator", t.items), nil
		}
		if m := x.cls.lookup("__iter__"); m != nil && m != None {
			it, err := th.special(x, "__iter__")
			if err != nil {
				return nil, err
			}
			switch i := it.(type) {
			case *Iter, *Gen, *pending:
				return i, nil
			case *Object:
				if i.cls.lookup("__next__") != nil {
					return i, nil
				}
			}
			return nil, raise("TypeError", "iter() returned non-iterator of type '%s'", classOf(it).name)
		}
		if x.cls.lookup("__getitem__") != nil {
			i := 0
			return &Iter{"iterator", func(th *Thread) (Value, error) {
				v, err := th.getItem(x, i)
				if isExc(err, "IndexError") || isExc(err, "StopIteration") {
					return nil, nil
				}
				i++
				return v, err
			}}, nil
		}
	}
	return nil, raise("TypeError", "'%s' object is not iterable", classOf(v).name)
}

// next returns the next value of an iterator, nil at its end. Then the value of the StopIteration,
// if it had one, is th.in.stop.
func (th *Thread) next(it Value) (Value, error) {
	if err := th.in.tick(); err != nil {
		return nil, err
	}
	th.in.stop = nil
	switch x := it.(type) {
	case *Iter:
		return x.step(th)
	case *Gen:
		if x.kind != isGenerator {
			break
		}
		v, more, err := x.resume(th, None, nil)
		if err != nil {
			return nil, err
		}
		if more {
			if p, ok := v.(*pending); ok {
				v, _, err = th.byHand(x, p, true, nil)
				return v, err
			}
			return v, nil
		}
		th.in.stop = v
		return nil, nil
	case *pending:
		v, more, err := x.send(th, None)
		if err != nil {
			return nil, err
		}
		if more {
			v, _, err = th.byHand(x, v, true, nil)
			return v, err
		}
		th.in.stop = v
		return nil, nil
	case *Object:
		if x.cls.lookup("__next__") == nil {
			break
		}
		v, err := th.special(x, "__next__")
		if exc, ok := raised(err); ok && exc.cls.isSub(excClasses["StopIteration"]) {
			th.in.stop = stopOf(exc)
			return nil, nil
		}
		return v, err
	}
	return nil, raise("TypeError", "'%s' object is not an iterator", classOf(it).name)
}

// stopValue is the value with which the last iterator ended.
func (th *Thread) stopValue() Value {
	v := th.in.stop
	th.in.stop = nil
	if v == nil {
		return None
	}
	return v
}

// list is list(v).
func (th *Thread) list(v Value) ([]Value, error) {
	switch x := v.(type) {
	case *List:
		return append([]Value(nil), x.items...), th.alloc(16 * len(x.items))
	case *Tuple:
		return append([]Value(nil), x.items...), th.alloc(16 * len(x.items))
	}
	it, err := th.iter(v)
	if err != nil {
		return nil, err
	}
	var items []Value
	for {
		x, err := th.next(it)
		if err != nil {
			return nil, err
		}
		if x == nil {
			return items, nil
		}
		if err := th.alloc(16); err != nil {
			return nil, err
		}
		items = append(items, x)
	}
}

// mapping returns v as a dict.
func (th *Thread) mapping(v Value) (*Dict, error) {
	if d, ok := v.(*Dict); ok {
		return d, nil
	}
	if o, ok := v.(*Object); ok && o.cls.lookup("keys") != nil {
		keys, err := th.callMethod(o, "keys")
		if err != nil {
			return nil, err
		}
		ks, err := th.list(keys)
		if err != nil {
			return nil, err
		}
		d := newDict()
		for _, k := range ks {
			x, err := th.getItem(o, k)
			if err != nil {
				return nil, err
			}
			if err := d.set(th, k, x); err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	return nil, raise("TypeError", "'%s' object is not a mapping", classOf(v).name)
}

// length is len(v).
func (th *Thread) length(v Value) (int, error) {
	switch x := v.(type) {
	case string:
		return utf8.RuneCountInString(x), nil
	case *List:
		return len(x.items), nil
	case *Tuple:
		return len(x.items), nil
	case *Dict:
		return x.n, nil
	case *Set:
		return x.d.n, nil
	case *Range:
		return x.len(), nil
	case *dictView:
		return x.d.n, nil
	case *Object:
		if t, ok := x.native.(*Tuple); ok && !overrides(x.cls, "__len__") {
			return len(t.items), nil
		}
		r, err := th.special(x, "__len__")
		if err != nil {
			return 0, err
		}
		if r != nil {
			n, _, ok := integer(r)
			if !ok {
				return 0, raise("TypeError", "'%s' object cannot be interpreted as an integer", classOf(r).name)
			}
			if n < 0 {
				return 0, raise("ValueError", "__len__() should return >= 0")
			}
			return n, nil
		}
	}
	return 0, raise("TypeError", "object of type '%s' has no len()", classOf(v).name)
}

// bounds resolves a slice of n items.
func (th *Thread) bounds(s *SliceObj, n int) (lo, hi, step int, err error) {
	index := func(v Value, absent int) (int, error) {
		if v == None {
			return absent, nil
		}
		small, large, ok := integer(v)
		if !ok {
			return 0, raise("TypeError", "slice indices must be integers or None or have an __index__ method")
		}
		if large != nil {
			return large.Sign() * (1 << 60), nil
		}
		return small, nil
	}
	if step, err = index(s.step, 1); err != nil {
		return
	}
	if step == 0 {
		return 0, 0, 0, raise("ValueError", "slice step cannot be zero")
	}
	first, last := 0, n
	if step < 0 {
		first, last = n-1, -1
	}
	clamp := func(v Value, absent int) (int, error) {
		if v == None {
			return absent, nil
		}
		i, err := index(v, 0)
		if i < 0 {
			i += n
		}
		if step < 0 {
			return min(max(i, -1), n-1), err
		}
		return min(max(i, 0), n), err
	}
	if lo, err = clamp(s.lo, first); err != nil {
		return
	}
	hi, err = clamp(s.hi, last)
	return
}

func sliced[T any](items []T, lo, hi, step int) []T {
	var out []T
	for i := lo; step > 0 && i < hi || step < 0 && i > hi; i += step {
		out = append(out, items[i])
	}
	return out
}

func (th *Thread) index(v Value, n int, what string) (int, error) {
	i, large, ok := integer(v)
	if !ok {
		if what == "string" {
			return 0, raise("TypeError", "string indices must be integers, not '%s'", classOf(v).name)
		}
		return 0, raise("TypeError", "%s indices must be integers or slices, not %s", what, classOf(v).name)
	}
	if i < 0 {
		i += n
	}
	if large != nil || i < 0 || i >= n {
		if what == "range" {
			return 0, raise("IndexError", "range object index out of range")
		}
		return 0, raise("IndexError", "%s index out of range", what)
	}
	return i, nil
}

// getItem is v[key].
func (th *Thread) getItem(v, key Value) (Value, error) {
	s, isSlice := key.(*SliceObj)
	switch x := v.(type) {
	case *List:
		if isSlice {
			lo, hi, step, err := th.bounds(s, len(x.items))
			return &List{sliced(x.items, lo, hi, step)}, err
		}
		i, err := th.index(key, len(x.items), "list")
		if err != nil {
			return nil, err
		}
		return x.items[i], nil
	case *Tuple:
		if isSlice {
			lo, hi, step, err := th.bounds(s, len(x.items))
			return &Tuple{sliced(x.items, lo, hi, step)}, err
		}
		i, err := th.index(key, len(x.items), "tuple")
		if err != nil {
			return nil, err
		}
		return x.items[i], nil
	case string:
		n := utf8.RuneCountInString(x)
		if n == len(x) {
			if isSlice {
				lo, hi, step, err := th.bounds(s, n)
				if err == nil && step == 1 {
					return x[lo:max(lo, hi)], nil
				}
				return string(sliced([]byte(x), lo, hi, step)), err
			}
			i, err := th.index(key, n, "string")
			if err != nil {
				return nil, err
			}
			return x[i : i+1], nil
		}
		rs := []rune(x)
		if isSlice {
			lo, hi, step, err := th.bounds(s, n)
			return string(sliced(rs, lo, hi, step)), err
		}
		i, err := th.index(key, n, "string")
		if err != nil {
			return nil, err
		}
		return string(rs[i]), nil
	case *Dict:
		r, ok, err := x.get(th, key)
		if err != nil || ok {
			return r, err
		}
		switch {
		case x.kind == defaultdictClass && x.factory != None:
			d, err := th.call(x.factory, nil, nil)
			if err != nil {
				return nil, err
			}
			return d, x.set(th, key, d)
		case x.kind == counterClass:
			return 0, nil
		}
		return nil, &Raise{newExc(excClasses["KeyError"], key)}
	case *Range:
		if isSlice {
			lo, hi, step, err := th.bounds(s, x.len())
			return &Range{x.start + lo*x.step, x.start + hi*x.step, x.step * step}, err
		}
		i, err := th.index(key, x.len(), "range")
		return x.start + i*x.step, err
	case *Class:
		if m, ok := x.lookup("__class_getitem__").(*ClassMethod); ok {
			return th.call(m.fn, []Value{x, key}, nil)
		}
		if x.builtin {
			return x, nil // list[int] in an annotation
		}
		for _, b := range x.mro {
			if b.ns.get("__class_getitem__") != nil {
				return x, nil
			}
		}
		return nil, raise("TypeError", "type '%s' is not subscriptable", x.name)
	case *Object:
		if t, ok := x.native.(*Tuple); ok && !overrides(x.cls, "__getitem__") {
			return th.getItem(t, key)
		}
		if r, err := th.special(x, "__getitem__", key); err != nil || r != nil {
			return r, err
		}
		if x == genericAlias {
			return x, nil
		}
	}
	return nil, raise("TypeError", "'%s' object is not subscriptable", classOf(v).name)
}

func (th *Thread) setItem(v, key, x Value) error {
	switch c := v.(type) {
	case *List:
		if s, ok := key.(*SliceObj); ok {
			items, err := th.list(x)
			if err != nil {
				return err
			}
			lo, hi, step, err := th.bounds(s, len(c.items))
			if err != nil {
				return err
			}
			if step == 1 {
				hi = max(lo, hi)
				c.items = append(c.items[:lo:lo], append(items, c.items[hi:]...)...)
				return nil
			}
			var at []int
			for i := lo; step > 0 && i < hi || step < 0 && i > hi; i += step {
				at = append(at, i)
			}
			if len(at) != len(items) {
				return raise("ValueError", "attempt to assign sequence of size %d to extended slice of size %d", len(items), len(at))
			}
			for j, i := range at {
				c.items[i] = items[j]
			}
			return nil
		}
		i, err := th.index(key, len(c.items), "list")
		if isExc(err, "IndexError") {
			return raise("IndexError", "list assignment index out of range")
		}
		if err != nil {
			return err
		}
		c.items[i] = x
		return nil
	case *Dict:
		return c.set(th, key, x)
	case *Object:
		if c.cls.lookup("__setitem__") != nil {
			_, err := th.special(c, "__setitem__", key, x)
			return err
		}
	}
	return raise("TypeError", "'%s' object does not support item assignment", classOf(v).name)
}

func (th *Thread) delItem(v, key Value) error {
	switch c := v.(type) {
	case *List:
		if s, ok := key.(*SliceObj); ok {
			lo, hi, step, err := th.bounds(s, len(c.items))
			if err != nil {
				return err
			}
			gone := map[int]bool{}
			for i := lo; step > 0 && i < hi || step < 0 && i > hi; i += step {
				gone[i] = true
			}
			var kept []Value
			for i, x := range c.items {
				if !gone[i] {
					kept = append(kept, x)
				}
			}
			c.items = kept
			return nil
		}
		i, err := th.index(key, len(c.items), "list")
		if isExc(err, "IndexError") {
			return raise("IndexError", "list assignment index out of range")
		}
		if err != nil {
			return err
		}
		c.items = append(c.items[:i:i], c.items[i+1:]...)
		return nil
	case *Dict:
		_, ok, err := c.del(th, key)
		if err == nil && !ok {
			return &Raise{newExc(excClasses["KeyError"], key)}
		}
		return err
	case *Object:
		if c.cls.lookup("__delitem__") != nil {
			_, err := th.special(c, "__delitem__", key)
			return err
		}
	}
	return raise("TypeError", "'%s' object doesn't support item deletion", classOf(v).name)
}
