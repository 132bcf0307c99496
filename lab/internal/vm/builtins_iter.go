package vm

func iterationFunctions(b *NS) {
	b.def("sum", "iterable start?", func(th *Thread, a []Value) (Value, error) {
		it, err := th.iter(a[0])
		if err != nil {
			return nil, err
		}
		total := a[1]
		if total == nil {
			total = 0
		}
		if _, ok := total.(string); ok {
			return nil, raise("TypeError", "sum() can't sum strings [use ''.join(seq) instead]")
		}
		// CPython 3.12 and later compensate the errors of adding floats.
		carry, compensated := 0.0, false
		for {
			v, err := th.next(it)
			if err != nil {
				return nil, err
			}
			if v == nil {
				break
			}
			if f, ok := total.(float64); ok && isNumber(v) {
				x, err := toFloat(v)
				if err != nil {
					return nil, err
				}
				if _, isFloat := v.(float64); isFloat {
					t := f + x
					if abs(f) >= abs(x) {
						carry += (f - t) + x
					} else {
						carry += (x - t) + f
					}
					total, compensated = t, true
				} else {
					total = f + x
				}
				continue
			}
			if total, err = th.binary(binAdd, total, v); err != nil {
				return nil, err
			}
		}
		if f, ok := total.(float64); ok && compensated && carry != 0 && carry == carry {
			return f + carry, nil
		}
		return total, nil
	})
	extreme := func(name string, o int) {
		b.fn(name, func(th *Thread, args []Value, kw []KW) (Value, error) {
			var key, absent Value
			for _, k := range kw {
				switch k.name {
				case "key":
					key = k.v
				case "default":
					absent = k.v
				default:
					return nil, raise("TypeError", "%s() got an unexpected keyword argument '%s'", name, k.name)
				}
			}
			items := args
			switch len(args) {
			case 0:
				return nil, raise("TypeError", "%s expected at least 1 argument, got 0", name)
			case 1:
				var err error
				if items, err = th.list(args[0]); err != nil {
					return nil, err
				}
			}
			var best, bestKey Value
			for _, v := range items {
				k := v
				if key != nil && key != None {
					var err error
					if k, err = th.call(key, []Value{v}, nil); err != nil {
						return nil, err
					}
				}
				if best == nil {
					best, bestKey = v, k
					continue
				}
				r, err := th.order(o, k, bestKey)
				if err != nil {
					return nil, err
				}
				if t, err := th.truth(r); err != nil {
					return nil, err
				} else if t {
					best, bestKey = v, k
				}
			}
			if best == nil {
				if absent != nil {
					return absent, nil
				}
				return nil, raise("ValueError", "%s() iterable argument is empty", name)
			}
			return best, nil
		})
	}
	extreme("min", cmpLt)
	extreme("max", cmpGt)
	b.fn("sorted", func(th *Thread, args []Value, kw []KW) (Value, error) {
		a, err := arguments("sorted", args, kw, "iterable", "*", "key?", "reverse?")
		if err != nil {
			return nil, err
		}
		items, err := th.list(a[0])
		if err != nil {
			return nil, err
		}
		items, err = th.sorted(items, a[1], a[2])
		return &List{items}, err
	})
	b.def("reversed", "seq", func(th *Thread, a []Value) (Value, error) {
		if r, err := th.special(a[0], "__reversed__"); r != nil || err != nil {
			return r, err
		}
		var items []Value
		switch x := a[0].(type) {
		case *List, *Tuple, string, *Range, *Dict, *dictView:
			var err error
			if items, err = th.list(x); err != nil {
				return nil, err
			}
		case *Object:
			n, err := th.length(x)
			if err != nil || x.cls.lookup("__getitem__") == nil {
				return nil, raise("TypeError", "'%s' object is not reversible", classOf(a[0]).name)
			}
			for i := range n {
				v, err := th.getItem(x, i)
				if err != nil {
					return nil, err
				}
				items = append(items, v)
			}
		default:
			return nil, raise("TypeError", "'%s' object is not reversible", classOf(a[0]).name)
		}
		i := len(items)
		return &Iter{"reversed", func(*Thread) (Value, error) {
			if i == 0 {
				return nil, nil
			}
			i--
			return items[i], nil
		}}, nil
	})
	b.def("enumerate", "iterable start?", func(th *Thread, a []Value) (Value, error) {
		it, err := th.iter(a[0])
		if err != nil {
			return nil, err
		}
		n, err := intArg(a[1], 0)
		return &Iter{"enumerate", func(th *Thread) (Value, error) {
			v, err := th.next(it)
			if v == nil || err != nil {
				return nil, err
			}
			n++
			return &Tuple{[]Value{n - 1, v}}, nil
		}}, err
	})
	b.fn("zip", func(th *Thread, args []Value, kw []KW) (Value, error) {
		strict := false
		for _, k := range kw {
			if k.name != "strict" {
				return nil, raise("TypeError", "zip() got an unexpected keyword argument '%s'", k.name)
			}
			strict = k.v == true
		}
		its, err := th.iters(args)
		if err != nil {
			return nil, err
		}
		return &Iter{"zip", func(th *Thread) (Value, error) {
			if len(its) == 0 {
				return nil, nil
			}
			t := &Tuple{}
			for i, it := range its {
				v, err := th.next(it)
				if err != nil {
					return nil, err
				}
				if v == nil {
					if strict {
						if i > 0 {
							return nil, raise("ValueError", "zip() argument %d is shorter than argument %d", i+1, i)
						}
						for j, other := range its[1:] {
							if v, err := th.next(other); err != nil {
								return nil, err
							} else if v != nil {
								return nil, raise("ValueError", "zip() argument %d is longer than argument %d", j+2, j+1)
							}
						}
					}
					return nil, nil
				}
				t.items = append(t.items, v)
			}
			return t, nil
		}}, nil
	})
	b.fn("map", func(th *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) < 2 {
			return nil, raise("TypeError", "map() must have at least two arguments.")
		}
		its, err := th.iters(args[1:])
		if err != nil {
			return nil, err
		}
		return &Iter{"map", func(th *Thread) (Value, error) {
			var vs []Value
			for _, it := range its {
				v, err := th.next(it)
				if v == nil || err != nil {
					return nil, err
				}
				vs = append(vs, v)
			}
			return th.call(args[0], vs, nil)
		}}, nil
	})
	b.def("filter", "function iterable", func(th *Thread, a []Value) (Value, error) {
		it, err := th.iter(a[1])
		if err != nil {
			return nil, err
		}
		return &Iter{"filter", func(th *Thread) (Value, error) {
			for {
				v, err := th.next(it)
				if v == nil || err != nil {
					return nil, err
				}
				r := v
				if a[0] != None {
					if r, err = th.call(a[0], []Value{v}, nil); err != nil {
						return nil, err
					}
				}
				if t, err := th.truth(r); err != nil || t {
					return v, err
				}
			}
		}}, nil
	})
	quantifier := func(name string, stop bool) {
		b.def(name, "iterable", func(th *Thread, a []Value) (Value, error) {
			it, err := th.iter(a[0])
			if err != nil {
				return nil, err
			}
			for {
				v, err := th.next(it)
				if err != nil {
					return nil, err
				}
				if v == nil {
					return !stop, nil
				}
				if t, err := th.truth(v); err != nil || t == stop {
					return stop, err
				}
			}
		})
	}
	quantifier("any", true)
	quantifier("all", false)
}

func abs(f float64) float64 {
	if f < 0 {
		return -f
	}
	return f
}

func (th *Thread) iters(vs []Value) ([]Value, error) {
	var its []Value
	for _, v := range vs {
		it, err := th.iter(v)
		if err != nil {
			return nil, err
		}
		its = append(its, it)
	}
	return its, nil
}
