package vm

import "sort"

func listMethods() {
	c := listClass
	list := func(v Value) *List { return v.(*List) }
	c.def("append", "object", func(th *Thread, self Value, a []Value) (Value, error) {
		l := list(self)
		l.items = append(l.items, a[0])
		return None, th.alloc(16)
	})
	c.def("extend", "iterable", func(th *Thread, self Value, a []Value) (Value, error) {
		items, err := th.list(a[0])
		list(self).items = append(list(self).items, items...)
		return None, err
	})
	c.def("insert", "index object", func(th *Thread, self Value, a []Value) (Value, error) {
		l := list(self)
		i, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i = max(0, i+len(l.items))
		}
		i = min(i, len(l.items))
		l.items = append(l.items[:i:i], append([]Value{a[1]}, l.items[i:]...)...)
		return None, th.alloc(16 * len(l.items) / 8)
	})
	c.def("pop", "index?", func(th *Thread, self Value, a []Value) (Value, error) {
		l := list(self)
		if len(l.items) == 0 {
			return nil, raise("IndexError", "pop from empty list")
		}
		i, err := intArg(a[0], -1)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i += len(l.items)
		}
		if i < 0 || i >= len(l.items) {
			return nil, raise("IndexError", "pop index out of range")
		}
		v := l.items[i]
		l.items = append(l.items[:i], l.items[i+1:]...)
		return v, nil
	})
	c.def("remove", "value", func(th *Thread, self Value, a []Value) (Value, error) {
		l := list(self)
		for i, v := range l.items {
			same, err := th.same(v, a[0])
			if err != nil {
				return nil, err
			}
			if same {
				l.items = append(l.items[:i:i], l.items[i+1:]...)
				return None, nil
			}
		}
		return nil, raise("ValueError", "list.remove(x): x not in list")
	})
	c.def("clear", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		list(self).items = nil
		return None, nil
	})
	c.def("copy", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		items, err := th.list(self)
		return &List{items}, err
	})
	c.def("reverse", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		items := list(self).items
		for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
			items[i], items[j] = items[j], items[i]
		}
		return None, nil
	})
	c.def("sort", "* key? reverse?", func(th *Thread, self Value, a []Value) (Value, error) {
		l := list(self)
		items, err := th.sorted(l.items, a[0], a[1])
		if err != nil {
			return nil, err
		}
		l.items = items
		return None, nil
	})
	for _, c := range []*Class{listClass, tupleClass} {
		items := func(v Value) []Value {
			switch v := v.(type) {
			case *List:
				return v.items
			case *Tuple:
				return v.items
			case *Object:
				if t, ok := v.native.(*Tuple); ok {
					return t.items
				}
			}
			return nil
		}
		c.def("index", "value start? stop?", func(th *Thread, self Value, a []Value) (Value, error) {
			all := items(self)
			lo, hi, _, err := th.bounds(&SliceObj{orNoneV(a[1]), orNoneV(a[2]), None}, len(all))
			if err != nil {
				return nil, err
			}
			for i := lo; i < hi; i++ {
				same, err := th.same(all[i], a[0])
				if err != nil {
					return nil, err
				}
				if same {
					return i, nil
				}
			}
			if c == tupleClass {
				return nil, raise("ValueError", "tuple.index(x): x not in tuple")
			}
			r, err := th.repr(a[0])
			if err != nil {
				return nil, err
			}
			return nil, raise("ValueError", "%s is not in list", r)
		})
		c.def("count", "value", func(th *Thread, self Value, a []Value) (Value, error) {
			n := 0
			for _, v := range items(self) {
				same, err := th.same(v, a[0])
				if err != nil {
					return nil, err
				}
				if same {
					n++
				}
			}
			return n, nil
		})
	}
	for _, c := range []*Class{listClass, tupleClass, dictClass, setClass, frozensetClass, strClass, rangeClass, dictViewClass} {
		c.def("__len__", "", func(th *Thread, self Value, _ []Value) (Value, error) { return th.length(self) })
		c.def("__iter__", "", func(th *Thread, self Value, _ []Value) (Value, error) { return th.iter(self) })
		c.def("__contains__", "key", func(th *Thread, self Value, a []Value) (Value, error) { return th.contains(self, a[0]) })
		c.def("__getitem__", "key", func(th *Thread, self Value, a []Value) (Value, error) { return th.getItem(self, a[0]) })
	}
	iteratorClass.def("__next__", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		v, err := th.next(self)
		if err == nil && v == nil {
			return nil, stopIteration(th.stopValue())
		}
		return v, err
	})
	iteratorClass.def("__iter__", "", func(_ *Thread, self Value, _ []Value) (Value, error) { return self, nil })
	iteratorClass.def("send", "value", func(th *Thread, self Value, a []Value) (Value, error) {
		p, ok := self.(*pending)
		if !ok {
			return nil, raise("AttributeError", "'iterator' object has no attribute 'send'")
		}
		v, more, err := p.send(th, a[0])
		if err == nil && !more {
			return nil, stopIteration(v)
		}
		v, _, err = th.byHand(p, v, more, err)
		return v, err
	})
}

// sorted is sorted(): stable, by < alone.
func (th *Thread) sorted(items []Value, key, reverse Value) ([]Value, error) {
	down := false
	if reverse != nil {
		var err error
		if down, err = th.truth(reverse); err != nil {
			return nil, err
		}
	}
	type keyed struct{ v, k Value }
	all := make([]keyed, len(items))
	for i, v := range items {
		k := v
		if key != nil && key != None {
			var err error
			if k, err = th.call(key, []Value{v}, nil); err != nil {
				return nil, err
			}
		}
		all[i] = keyed{v, k}
	}
	var failed error
	sort.SliceStable(all, func(i, j int) bool {
		if failed != nil {
			return false
		}
		if failed = th.in.tick(); failed != nil {
			return false
		}
		a, b := all[i].k, all[j].k
		if down {
			a, b = b, a
		}
		less, err := th.less(a, b)
		if err != nil {
			failed = err
		}
		return less
	})
	if failed != nil {
		return nil, failed
	}
	out := make([]Value, len(all))
	for i, k := range all {
		out[i] = k.v
	}
	return out, th.alloc(16 * len(out))
}

func dictMethods() {
	c := dictClass
	dict := func(v Value) *Dict { return v.(*Dict) }
	c.def("get", "key default?", func(th *Thread, self Value, a []Value) (Value, error) {
		v, ok, err := dict(self).get(th, a[0])
		if err == nil && !ok {
			return orNoneV(a[1]), nil
		}
		return v, err
	})
	for name, kind := range map[string]byte{"keys": 'k', "values": 'v', "items": 'i'} {
		c.def(name, "", func(_ *Thread, self Value, _ []Value) (Value, error) { return &dictView{dict(self), kind}, nil })
	}
	c.def("pop", "key default?", func(th *Thread, self Value, a []Value) (Value, error) {
		v, ok, err := dict(self).del(th, a[0])
		if err != nil || ok {
			return v, err
		}
		if a[1] != nil {
			return a[1], nil
		}
		return nil, &Raise{newExc(excClasses["KeyError"], a[0])}
	})
	c.def("popitem", "last?", func(th *Thread, self Value, a []Value) (Value, error) {
		all := dict(self).all()
		if len(all) == 0 {
			return nil, &Raise{newExc(excClasses["KeyError"], "popitem(): dictionary is empty")}
		}
		e := all[len(all)-1]
		if a[0] == false {
			e = all[0]
		}
		_, _, err := dict(self).del(th, e.key)
		return &Tuple{[]Value{e.key, e.value}}, err
	})
	c.def("setdefault", "key default?", func(th *Thread, self Value, a []Value) (Value, error) {
		v, ok, err := dict(self).get(th, a[0])
		if err != nil || ok {
			return v, err
		}
		return orNoneV(a[1]), dict(self).set(th, a[0], orNoneV(a[1]))
	})
	c.method("update", func(th *Thread, args []Value, kw []KW) (Value, error) {
		d := dict(args[0])
		if len(args) > 2 {
			return nil, raise("TypeError", "update expected at most 1 argument, got %d", len(args)-1)
		}
		if d.kind == counterClass {
			return None, th.count(d, args[1:], kw, 1)
		}
		return None, th.fill(d, args[1:], kw)
	})
	c.def("clear", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		dict(self).clear()
		return None, nil
	})
	c.def("copy", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		return dict(self).copy(), th.alloc(64 * dict(self).n)
	})
	c.ns.set("fromkeys", &Builtin{name: "fromkeys", fn: withArgs("fromkeys", []string{"iterable", "value?"}, func(th *Thread, a []Value) (Value, error) {
		keys, err := th.list(a[0])
		if err != nil {
			return nil, err
		}
		d := newDict()
		for _, k := range keys {
			if err := d.set(th, k, orNoneV(a[1])); err != nil {
				return nil, err
			}
		}
		return d, nil
	})})
	c.def("__setitem__", "key value", func(th *Thread, self Value, a []Value) (Value, error) {
		return None, dict(self).set(th, a[0], a[1])
	})
	c.def("move_to_end", "key last?", func(th *Thread, self Value, a []Value) (Value, error) {
		d := dict(self)
		v, ok, err := d.del(th, a[0])
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, &Raise{newExc(excClasses["KeyError"], a[0])}
		}
		if a[1] == false {
			return nil, th.outside("move_to_end(last=False)")
		}
		return None, d.set(th, a[0], v)
	})
	c.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		d := newDict()
		if cls != dictClass {
			d.kind = cls
		}
		if len(args) > 1 {
			return nil, raise("TypeError", "dict expected at most 1 argument, got %d", len(args))
		}
		return d, th.fill(d, args, kw)
	}
}

// fill is dict.update.
func (th *Thread) fill(d *Dict, args []Value, kw []KW) error {
	if len(args) > 0 {
		from, err := th.mapping(args[0])
		if err == nil {
			for _, e := range from.all() {
				if err := d.set(th, e.key, e.value); err != nil {
					return err
				}
			}
		} else {
			items, err := th.list(args[0])
			if err != nil {
				return err
			}
			for i, it := range items {
				pair, err := th.list(it)
				if err != nil {
					return raise("TypeError", "cannot convert dictionary update sequence element #%d to a sequence", i)
				}
				if len(pair) != 2 {
					return raise("ValueError", "dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
				}
				if err := d.set(th, pair[0], pair[1]); err != nil {
					return err
				}
			}
		}
	}
	for _, k := range kw {
		d.setStr(k.name, k.v)
	}
	return nil
}

func (th *Thread) asSet(v Value) (*Set, bool) {
	switch v := v.(type) {
	case *Set:
		return v, true
	case *dictView:
		if v.kind == 'v' {
			return nil, false
		}
		s := &Set{}
		for _, x := range v.items() {
			if s.add(th, x) != nil {
				return nil, false
			}
		}
		return s, true
	}
	return nil, false
}

func (th *Thread) subset(a, b *Set) (bool, error) {
	for _, k := range a.d.keys() {
		in, err := b.has(th, k)
		if err != nil || !in {
			return false, err
		}
	}
	return true, nil
}

func (th *Thread) setOp(o int, a, b *Set) (Value, error) {
	out := &Set{frozen: a.frozen}
	pick := func(from, other *Set, want bool) error {
		for _, k := range from.d.keys() {
			in, err := other.has(th, k)
			if err != nil {
				return err
			}
			if in == want {
				if err := out.add(th, k); err != nil {
					return err
				}
			}
		}
		return nil
	}
	empty := &Set{}
	var err error
	switch o {
	case binAnd:
		err = pick(a, b, true)
	case binSub:
		err = pick(a, b, false)
	case binOr:
		if err = pick(a, empty, false); err == nil {
			err = pick(b, empty, false)
		}
	default:
		if err = pick(a, b, false); err == nil {
			err = pick(b, a, false)
		}
	}
	return out, err
}

func setMethods() {
	set := func(v Value) *Set { return v.(*Set) }
	toSet := func(th *Thread, v Value) (*Set, error) {
		if s, ok := v.(*Set); ok {
			return s, nil
		}
		items, err := th.list(v)
		if err != nil {
			return nil, err
		}
		s := &Set{}
		for _, x := range items {
			if err := s.add(th, x); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	for _, c := range []*Class{setClass, frozensetClass} {
		frozen := c == frozensetClass
		c.newFn = func(th *Thread, _ *Class, args []Value, kw []KW) (Value, error) {
			a, err := arguments(c.name, args, kw, "iterable?")
			if err != nil {
				return nil, err
			}
			out := &Set{frozen: frozen}
			if a[0] == nil {
				return out, nil
			}
			s, err := toSet(th, a[0])
			if err != nil {
				return nil, err
			}
			out.d = *s.d.copy()
			return out, nil
		}
		for name, o := range map[string]int{"union": binOr, "intersection": binAnd, "difference": binSub, "symmetric_difference": binXor} {
			c.method(name, func(th *Thread, args []Value, _ []KW) (Value, error) {
				out := set(args[0])
				if len(args) == 1 {
					out = &Set{frozen: frozen, d: *out.d.copy()}
				}
				for _, x := range args[1:] {
					s, err := toSet(th, x)
					if err != nil {
						return nil, err
					}
					v, err := th.setOp(o, out, s)
					if err != nil {
						return nil, err
					}
					out = v.(*Set)
				}
				return out, nil
			})
		}
		c.def("copy", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
			return &Set{frozen: frozen, d: *set(self).d.copy()}, nil
		})
		c.def("issubset", "other", func(th *Thread, self Value, a []Value) (Value, error) {
			s, err := toSet(th, a[0])
			if err != nil {
				return nil, err
			}
			return th.subset(set(self), s)
		})
		c.def("issuperset", "other", func(th *Thread, self Value, a []Value) (Value, error) {
			s, err := toSet(th, a[0])
			if err != nil {
				return nil, err
			}
			return th.subset(s, set(self))
		})
		c.def("isdisjoint", "other", func(th *Thread, self Value, a []Value) (Value, error) {
			s, err := toSet(th, a[0])
			if err != nil {
				return nil, err
			}
			v, err := th.setOp(binAnd, set(self), s)
			return err == nil && v.(*Set).d.n == 0, err
		})
	}
	c := setClass
	c.def("add", "elem", func(th *Thread, self Value, a []Value) (Value, error) { return None, set(self).add(th, a[0]) })
	c.def("discard", "elem", func(th *Thread, self Value, a []Value) (Value, error) {
		_, _, err := set(self).d.del(th, a[0])
		return None, err
	})
	c.def("remove", "elem", func(th *Thread, self Value, a []Value) (Value, error) {
		_, ok, err := set(self).d.del(th, a[0])
		if err == nil && !ok {
			return nil, &Raise{newExc(excClasses["KeyError"], a[0])}
		}
		return None, err
	})
	c.def("pop", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		items := set(self).items()
		if len(items) == 0 {
			return nil, &Raise{newExc(excClasses["KeyError"], "pop from an empty set")}
		}
		_, _, err := set(self).d.del(th, items[0])
		return items[0], err
	})
	c.def("clear", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		set(self).d.clear()
		return None, nil
	})
	for name, o := range map[string]int{"update": binOr, "difference_update": binSub, "intersection_update": binAnd} {
		c.method(name, func(th *Thread, args []Value, _ []KW) (Value, error) {
			s := set(args[0])
			for _, x := range args[1:] {
				other, err := toSet(th, x)
				if err != nil {
					return nil, err
				}
				v, err := th.setOp(o, s, other)
				if err != nil {
					return nil, err
				}
				s.d = v.(*Set).d
			}
			return None, nil
		})
	}
}
