package vm

import "strings"

// count adds to, or subtracts from, a Counter.
func (th *Thread) count(d *Dict, args []Value, kw []KW, sign int) error {
	add := func(k, n Value) error {
		was, ok, err := d.get(th, k)
		if err != nil {
			return err
		}
		if !ok {
			was = 0
		}
		o := binAdd
		if sign < 0 {
			o = binSub
		}
		v, err := th.binary(o, was, n)
		if err != nil {
			return err
		}
		return d.set(th, k, v)
	}
	for _, a := range args {
		if from, ok := a.(*Dict); ok {
			for _, e := range from.all() {
				if err := add(e.key, e.value); err != nil {
					return err
				}
			}
			continue
		}
		items, err := th.list(a)
		if err != nil {
			return err
		}
		for _, v := range items {
			if err := add(v, 1); err != nil {
				return err
			}
		}
	}
	for _, k := range kw {
		if err := add(k.name, k.v); err != nil {
			return err
		}
	}
	return nil
}

func (th *Thread) counterOp(o int, x, y *Dict) (Value, error) {
	d := x.copy()
	sign := 1
	if o == binSub {
		sign = -1
	}
	if err := th.count(d, []Value{y}, nil, sign); err != nil {
		return nil, err
	}
	out := &Dict{kind: counterClass}
	for _, e := range d.all() {
		if isNumber(e.value) && compareNumbers(e.value, 0) == 1 {
			if err := out.set(th, e.key, e.value); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func sortedCounts(entries []entry) []entry {
	out := append([]entry(nil), entries...)
	for i := 1; i < len(out); i++ {
		for j := i; j > 0 && isNumber(out[j].value) && isNumber(out[j-1].value) && compareNumbers(out[j].value, out[j-1].value) == 1; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

func collectionsModule(ns *NS) {
	ns.set("defaultdict", defaultdictClass)
	ns.set("Counter", counterClass)
	ns.set("OrderedDict", orderedDictClass)
	ns.def("namedtuple", "typename field_names * defaults? rename? module?", func(th *Thread, a []Value) (Value, error) {
		name, err := strArg(a[0], "")
		if err != nil {
			return nil, err
		}
		var fields []string
		if s, ok := a[1].(string); ok {
			fields = strings.Fields(strings.ReplaceAll(s, ",", " "))
		} else {
			items, err := th.list(a[1])
			if err != nil {
				return nil, err
			}
			for _, v := range items {
				s, err := strArg(v, "")
				if err != nil {
					return nil, err
				}
				fields = append(fields, s)
			}
		}
		var defaults []Value
		if a[2] != nil {
			if defaults, err = th.list(a[2]); err != nil {
				return nil, err
			}
		}
		return namedTuple(name, fields, defaults), nil
	})
}

func namedTuple(name string, fields []string, defaults []Value) *Class {
	c := builtinClass(name, tupleClass)
	c.module, c.builtin = "__main__", false
	names := append([]string(nil), fields...)
	for i := range defaults {
		names[len(fields)-len(defaults)+i] += "?"
	}
	c.newFn = func(_ *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		if len(args)+len(kw) < len(fields)-len(defaults) {
			return nil, missingArgs(&Function{qual: name + ".__new__"}, "positional", append([]string(nil), fields[len(args):]...))
		}
		vs, err := arguments(name+".__new__", args, kw, names...)
		if err != nil {
			return nil, err
		}
		for i, v := range vs {
			if v == nil {
				vs[i] = defaults[i-(len(fields)-len(defaults))]
			}
		}
		return &Object{cls: cls, native: &Tuple{vs}}, nil
	}
	match := &Tuple{}
	for i, f := range fields {
		match.items = append(match.items, f)
		c.ns.set(f, &getset{get: func(_ *Thread, self Value) (Value, error) { return self.(*Object).native.(*Tuple).items[i], nil }})
	}
	c.ns.set("_fields", match)
	c.ns.set("__match_args__", match)
	c.method("__init__", func(*Thread, []Value, []KW) (Value, error) { return None, nil })
	c.def("__repr__", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		var parts []string
		for i, v := range self.(*Object).native.(*Tuple).items {
			r, err := th.repr(v)
			if err != nil {
				return nil, err
			}
			parts = append(parts, fields[i]+"="+r)
		}
		return classOf(self).name + "(" + strings.Join(parts, ", ") + ")", nil
	})
	c.def("_asdict", "", func(_ *Thread, self Value, _ []Value) (Value, error) {
		d := newDict()
		for i, v := range self.(*Object).native.(*Tuple).items {
			d.setStr(fields[i], v)
		}
		return d, nil
	})
	c.method("_replace", func(th *Thread, args []Value, kw []KW) (Value, error) {
		t := &Tuple{append([]Value(nil), args[0].(*Object).native.(*Tuple).items...)}
	kws:
		for _, k := range kw {
			for i, f := range fields {
				if f == k.name {
					t.items[i] = k.v
					continue kws
				}
			}
			return nil, raise("ValueError", "Got unexpected field names: ['%s']", k.name)
		}
		return &Object{cls: classOf(args[0]), native: t}, nil
	})
	return c
}

func setupContextVars() {
	contextVarClass = builtinClass("ContextVar")
	contextVarClass.final = true
	contextClass = builtinClass("Context")
	contextClass.final = true
	tokenClass = builtinClass("Token")
	tokenClass.newFn = nil
	type variable struct {
		name   string
		absent Value
	}
	type token struct{ v, old Value }
	contextVarClass.newFn = func(_ *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		a, err := arguments("ContextVar", args, kw, "name", "*", "default?")
		if err != nil {
			return nil, err
		}
		name, err := strArg(a[0], "")
		return &Object{cls: cls, native: &variable{name, a[1]}}, err
	}
	c := contextVarClass
	c.def("get", "default?", func(th *Thread, self Value, a []Value) (Value, error) {
		o := self.(*Object)
		if v, ok := th.variables().m[o]; ok {
			return v, nil
		}
		if a[0] != nil {
			return a[0], nil
		}
		if d := o.native.(*variable).absent; d != nil {
			return d, nil
		}
		return nil, &Raise{newExc(excClasses["LookupError"], o)}
	})
	c.def("set", "value", func(th *Thread, self Value, a []Value) (Value, error) {
		o := self.(*Object)
		old := th.variables().m[o]
		th.vars.m[o] = a[0]
		return &Object{cls: tokenClass, native: &token{o, old}}, nil
	})
	c.def("reset", "token", func(th *Thread, self Value, a []Value) (Value, error) {
		t, ok := a[0].(*Object)
		if !ok || t.cls != tokenClass {
			return nil, raise("TypeError", "expected an instance of Token")
		}
		k := t.native.(*token)
		if k.v != self {
			return nil, raise("ValueError", "token was created by a different ContextVar")
		}
		if k.old == nil {
			delete(th.variables().m, self.(*Object))
		} else {
			th.variables().m[self.(*Object)] = k.old
		}
		return None, nil
	})
	c.ns.set("name", &getset{get: func(_ *Thread, v Value) (Value, error) { return v.(*Object).native.(*variable).name, nil }})
	contextClass.newFn = func(_ *Thread, cls *Class, _ []Value, _ []KW) (Value, error) {
		return &Object{cls: cls, native: &varsMap{m: map[*Object]Value{}}}, nil
	}
	contextClass.method("run", func(th *Thread, args []Value, kw []KW) (Value, error) {
		if len(args) < 2 {
			return nil, raise("TypeError", "run() missing 1 required positional argument")
		}
		was := th.vars
		th.vars = args[0].(*Object).native.(*varsMap)
		defer func() { th.vars = was }()
		return th.call(args[1], args[2:], kw)
	})
	contextClass.def("get", "var default?", func(_ *Thread, self Value, a []Value) (Value, error) {
		o, _ := a[0].(*Object)
		if v, ok := self.(*Object).native.(*varsMap).m[o]; ok {
			return v, nil
		}
		return orNoneV(a[1]), nil
	})
}

func contextvarsModule(ns *NS) {
	ns.set("ContextVar", contextVarClass)
	ns.set("Context", contextClass)
	ns.set("Token", tokenClass)
	ns.def("copy_context", "", func(th *Thread, _ []Value) (Value, error) {
		return &Object{cls: contextClass, native: th.variables().copy()}, nil
	})
}
