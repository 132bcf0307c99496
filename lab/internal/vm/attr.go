package vm

// bind makes a method of an attribute found in a class.
func (th *Thread) bind(attr, self Value, cls *Class) (Value, error) {
	switch a := attr.(type) {
	case *Function:
		return &Method{self, a}, nil
	case *Builtin:
		if a.method {
			return &Builtin{name: a.name, fn: a.fn, method: true, self: self}, nil
		}
	case *StaticMethod:
		return a.fn, nil
	case *ClassMethod:
		return &Method{cls, a.fn}, nil
	case *Property:
		if a.get == nil || a.get == None {
			return nil, raise("AttributeError", "property of '%s' object has no getter", cls.name)
		}
		return th.call(a.get, []Value{self}, nil)
	case *getset:
		return a.get(th, self)
	case *Object:
		if g := a.cls.lookup("__get__"); g != nil {
			return th.call(g, []Value{a, self, cls}, nil)
		}
	}
	return attr, nil
}

// getAttr is v.name.
func (th *Thread) getAttr(v Value, name string) (Value, error) {
	if _, err := th.held(v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *Object:
		if ga := v.cls.lookup("__getattribute__"); ga != nil {
			return nil, th.outside("__getattribute__")
		}
		x, err := th.objectAttr(v, name)
		if x != nil || err != nil {
			if isExc(err, "AttributeError") {
				if fallback := v.cls.lookup("__getattr__"); fallback != nil {
					return th.call(fallback, []Value{v, name}, nil)
				}
			}
			return x, err
		}
		if fallback := v.cls.lookup("__getattr__"); fallback != nil {
			return th.call(fallback, []Value{v, name}, nil)
		}
		return nil, th.noAttr(v, name)
	case *Class:
		return th.classAttr(v, name)
	case *Module:
		if x := v.ns.get(name); x != nil {
			return x, nil
		}
		if name == "__name__" {
			return v.name, nil
		}
		if name == "__dict__" {
			d := newDict()
			for _, k := range v.ns.keys {
				d.setStr(k, v.ns.m[k])
			}
			return d, nil
		}
		if outsideNames[v.name+"."+name] {
			return nil, th.outside("%s.%s", v.name, name)
		}
		return nil, raise("AttributeError", "module '%s' has no attribute '%s'", v.name, name)
	case *Super:
		return th.superAttr(v, name)
	case *Function:
		return th.functionAttr(v, name)
	case *Method:
		switch name {
		case "__self__":
			return v.self, nil
		case "__func__":
			return v.fn, nil
		}
		return th.getAttr(v.fn, name)
	}
	cls := classOf(v)
	if a := cls.lookup(name); a != nil {
		return th.bind(a, v, cls)
	}
	switch name {
	case "__class__":
		return cls, nil
	case "__doc__":
		return None, nil
	}
	if b, ok := v.(*Builtin); ok {
		switch name {
		case "__name__", "__qualname__":
			return b.name, nil
		case "__module__":
			return None, nil
		}
	}
	if p, ok := v.(*Property); ok {
		switch name {
		case "fget":
			return p.get, nil
		case "setter", "getter", "deleter":
			return &Builtin{name: name, fn: func(_ *Thread, args []Value, _ []KW) (Value, error) {
				if len(args) != 1 {
					return nil, raise("TypeError", "property.%s() takes exactly one argument (%d given)", name, len(args))
				}
				q := *p
				switch name {
				case "setter":
					q.set = args[0]
				case "getter":
					q.get = args[0]
				default:
					q.del = args[0]
				}
				return &q, nil
			}}, nil
		}
	}
	switch x := v.(type) {
	case *StaticMethod:
		return th.getAttr(x.fn, name)
	case *ClassMethod:
		return th.getAttr(x.fn, name)
	case *Range:
		switch name {
		case "start":
			return x.start, nil
		case "stop":
			return x.stop, nil
		case "step":
			return x.step, nil
		}
	case *SliceObj:
		switch name {
		case "start":
			return x.lo, nil
		case "stop":
			return x.hi, nil
		case "step":
			return x.step, nil
		}
	}
	return nil, th.noAttr(v, name)
}

// held notes that more than an expression refers to a generator.
func (th *Thread) held(v Value) (Value, error) {
	if g, ok := v.(*Gen); ok {
		g.held = true
	}
	return v, nil
}

func (th *Thread) noAttr(v Value, name string) error {
	cls := classOf(v)
	if cls.builtin && outsideNames[cls.name+"."+name] {
		return th.outside("%s.%s", cls.name, name)
	}
	return raise("AttributeError", "'%s' object has no attribute '%s'", cls.name, name)
}

// objectAttr returns nil if there is no such attribute.
func (th *Thread) objectAttr(o *Object, name string) (Value, error) {
	a := o.cls.lookup(name)
	switch d := a.(type) {
	case *Property, *getset:
		return th.bind(d, o, o.cls)
	case *Object:
		if d.cls.lookup("__set__") != nil {
			return th.bind(d, o, o.cls)
		}
	}
	if v := o.ns.get(name); v != nil {
		return v, nil
	}
	if a != nil {
		return th.bind(a, o, o.cls)
	}
	switch name {
	case "__class__":
		return o.cls, nil
	case "__dict__":
		d := newDict()
		if o.ns != nil {
			for _, k := range o.ns.keys {
				d.setStr(k, o.ns.m[k])
			}
		}
		return d, nil
	case "__doc__":
		return None, nil
	case "__module__":
		return o.cls.module, nil
	}
	return nil, nil
}

func (th *Thread) classAttr(c *Class, name string) (Value, error) {
	switch name {
	case "__name__":
		return c.name, nil
	case "__qualname__":
		return c.qual, nil
	case "__module__":
		return c.module, nil
	case "__class__":
		return typeClass, nil
	case "__mro__":
		t := &Tuple{}
		for _, k := range c.mro {
			t.items = append(t.items, k)
		}
		return t, nil
	case "__bases__":
		t := &Tuple{}
		for _, k := range c.bases {
			t.items = append(t.items, k)
		}
		return t, nil
	case "__dict__":
		d := newDict()
		for _, k := range c.ns.keys {
			d.setStr(k, c.ns.m[k])
		}
		return d, nil
	case "__subclasses__":
		return nil, th.outside("__subclasses__")
	}
	a := c.lookup(name)
	switch a := a.(type) {
	case nil:
		switch name {
		case "__doc__":
			return None, nil
		case "mro":
			return &Builtin{name: "mro", fn: func(th *Thread, _ []Value, _ []KW) (Value, error) {
				l := &List{}
				for _, k := range c.mro {
					l.items = append(l.items, k)
				}
				return l, nil
			}}, nil
		case "__annotations__":
			return newDict(), nil
		}
		if c.builtin && outsideNames[c.name+"."+name] {
			return nil, th.outside("%s.%s", c.name, name)
		}
		return nil, raise("AttributeError", "type object '%s' has no attribute '%s'", c.name, name)
	case *StaticMethod:
		return a.fn, nil
	case *ClassMethod:
		return &Method{c, a.fn}, nil
	case *Object:
		if g := a.cls.lookup("__get__"); g != nil {
			return th.call(g, []Value{a, None, c}, nil)
		}
	}
	return a, nil
}

func (th *Thread) superAttr(s *Super, name string) (Value, error) {
	cls, isClass := s.self.(*Class)
	if !isClass {
		cls = classOf(s.self)
	}
	at := -1
	for i, k := range cls.mro {
		if k == s.cls {
			at = i
		}
	}
	for _, k := range cls.mro[at+1:] {
		if a, ok := k.ns.m[name]; ok {
			if isClass {
				switch a := a.(type) {
				case *ClassMethod:
					return &Method{cls, a.fn}, nil
				case *StaticMethod:
					return a.fn, nil
				}
				return a, nil
			}
			return th.bind(a, s.self, cls)
		}
		if k == objectClass {
			switch name {
			case "__new__":
				return &Builtin{name: "__new__", fn: func(th *Thread, args []Value, kw []KW) (Value, error) {
					c, ok := first(args).(*Class)
					if !ok {
						return nil, raise("TypeError", "object.__new__(X): X is not a type object")
					}
					if c.maker() == nil {
						return nil, raise("TypeError", "cannot create '%s' instances", c.name)
					}
					if c.isSub(excClasses["BaseException"]) {
						return c.maker()(th, c, args[1:], nil)
					}
					return &Object{cls: c}, nil
				}}, nil
			case "__init__", "__init_subclass__":
				return &Builtin{name: name, fn: func(_ *Thread, args []Value, kw []KW) (Value, error) {
					if len(args)+len(kw) > 0 && !cls.isSub(excClasses["BaseException"]) {
						return nil, raise("TypeError", "object.__init__() takes exactly one argument (the instance to initialize)")
					}
					return None, nil
				}}, nil
			case "__setattr__":
				return &Builtin{name: name, fn: func(th *Thread, args []Value, _ []KW) (Value, error) {
					if len(args) != 2 {
						return nil, raise("TypeError", "expected 2 arguments, got %d", len(args))
					}
					n, _ := args[0].(string)
					return None, th.plainSetAttr(s.self, n, args[1])
				}}, nil
			}
		}
	}
	return nil, raise("AttributeError", "'super' object has no attribute '%s'", name)
}

func first(args []Value) Value {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

func (th *Thread) functionAttr(fn *Function, name string) (Value, error) {
	if v := fn.ns.get(name); v != nil {
		return v, nil
	}
	switch name {
	case "__name__":
		return fn.name, nil
	case "__qualname__":
		return fn.qual, nil
	case "__doc__":
		return fn.doc, nil
	case "__module__":
		if fn.module == nil {
			return None, nil
		}
		return fn.module.name, nil
	case "__dict__":
		d := newDict()
		if fn.ns != nil {
			for _, k := range fn.ns.keys {
				d.setStr(k, fn.ns.m[k])
			}
		}
		return d, nil
	case "__defaults__":
		if fn.defaults == nil {
			return None, nil
		}
		return &Tuple{fn.defaults}, nil
	case "__code__":
		return fn.code, nil
	case "__class__":
		return functionClass, nil
	case "__annotations__":
		return nil, th.outside("annotations of functions")
	case "__get__":
		return &Builtin{name: "__get__", fn: func(_ *Thread, args []Value, _ []KW) (Value, error) {
			if len(args) == 0 || args[0] == None {
				return fn, nil
			}
			return &Method{args[0], fn}, nil
		}}, nil
	}
	return nil, th.noAttr(fn, name)
}

// setAttr is v.name = x.
func (th *Thread) setAttr(v Value, name string, x Value) error {
	if o, ok := v.(*Object); ok {
		if m, ok := o.cls.lookup("__setattr__").(*Function); ok {
			_, err := th.call(m, []Value{o, name, x}, nil)
			return err
		}
	}
	return th.plainSetAttr(v, name, x)
}

func (th *Thread) plainSetAttr(v Value, name string, x Value) error {
	switch v := v.(type) {
	case *Object:
		switch d := v.cls.lookup(name).(type) {
		case *Property:
			if d.set == nil || d.set == None {
				return raise("AttributeError", "property '%s' of '%s' object has no setter", name, v.cls.name)
			}
			_, err := th.call(d.set, []Value{v, x}, nil)
			return err
		case *getset:
			if d.set == nil {
				return raise("AttributeError", "attribute '%s' of '%s' objects is not writable", name, v.cls.name)
			}
			return d.set(th, v, x)
		case *Object:
			if s := d.cls.lookup("__set__"); s != nil {
				_, err := th.call(s, []Value{d, v, x}, nil)
				return err
			}
		}
		if name == "__class__" {
			return th.outside("assignment to __class__")
		}
		if v.cls.builtin && v.exc == nil || v.cls == objectClass {
			return raise("AttributeError", "'%s' object has no attribute '%s' and no __dict__ for setting new attributes", v.cls.name, name)
		}
		if slots := v.cls.ns.get("__slots__"); slots != nil && len(v.cls.mro) == 2 {
			items, err := th.list(slots)
			if s, ok := slots.(string); ok {
				items, err = []Value{s}, nil
			}
			if err != nil {
				return err
			}
			found := false
			for _, s := range items {
				found = found || s == name
			}
			if !found {
				return raise("AttributeError", "'%s' object has no attribute '%s' and no __dict__ for setting new attributes", v.cls.name, name)
			}
		}
		if v.ns == nil {
			v.ns = newNS()
		}
		if err := th.alloc(32); err != nil {
			return err
		}
		v.ns.set(name, x)
		return nil
	case *Class:
		if v.builtin {
			return raise("TypeError", "cannot set '%s' attribute of immutable type '%s'", name, v.name)
		}
		switch s, _ := x.(string); name {
		case "__name__":
			v.name = s
		case "__qualname__":
			v.qual = s
		default:
			v.ns.set(name, x)
		}
		return nil
	case *Module:
		v.ns.set(name, x)
		return nil
	case *Function:
		s, isStr := x.(string)
		switch name {
		case "__name__", "__qualname__":
			if !isStr {
				return raise("TypeError", "%s must be set to a string object", name)
			}
			if name == "__name__" {
				v.name = s
			} else {
				v.qual = s
			}
			return nil
		case "__doc__":
			v.doc = x
			return nil
		case "__module__", "__dict__", "__annotations__":
			return nil
		}
		if v.ns == nil {
			v.ns = newNS()
		}
		v.ns.set(name, x)
		return nil
	}
	return raise("AttributeError", "'%s' object has no attribute '%s'", classOf(v).name, name)
}

func (th *Thread) delAttr(v Value, name string) error {
	switch v := v.(type) {
	case *Object:
		if p, ok := v.cls.lookup(name).(*Property); ok {
			if p.del == nil || p.del == None {
				return raise("AttributeError", "property '%s' of '%s' object has no deleter", name, v.cls.name)
			}
			_, err := th.call(p.del, []Value{v}, nil)
			return err
		}
		if v.ns != nil && v.ns.del(name) {
			return nil
		}
		return th.noAttr(v, name)
	case *Class:
		if !v.builtin && v.ns.del(name) {
			return nil
		}
	case *Function:
		if v.ns != nil && v.ns.del(name) {
			return nil
		}
	case *Module:
		if v.ns.del(name) {
			return nil
		}
	}
	return raise("AttributeError", "'%s' object has no attribute '%s'", classOf(v).name, name)
}

// callMethod calls a method by name.
func (th *Thread) callMethod(v Value, name string, args ...Value) (Value, error) {
	m, err := th.getAttr(v, name)
	if err != nil {
		return nil, err
	}
	return th.call(m, args, nil)
}

// special calls a method that is looked up in the class alone. It returns nil if there is none.
func (th *Thread) special(v Value, name string, args ...Value) (Value, error) {
	o, ok := v.(*Object)
	if !ok {
		return nil, nil
	}
	m := o.cls.lookup(name)
	if m == nil || m == None {
		return nil, nil
	}
	if err := th.enter(); err != nil {
		return nil, err
	}
	defer th.leave()
	b, err := th.bind(m, o, o.cls)
	if err != nil {
		return nil, err
	}
	return th.call(b, args, nil)
}

// isInstance is isinstance(v, types).
func (th *Thread) isInstance(v, types Value) (bool, error) {
	switch t := types.(type) {
	case *Class:
		return classOf(v).isSub(t) || abstractInstance(v, t), nil
	case *Tuple:
		for _, k := range t.items {
			if ok, err := th.isInstance(v, k); err != nil || ok {
				return ok, err
			}
		}
		return false, nil
	}
	if types == genericAlias {
		return false, th.outside("isinstance with a name of typing")
	}
	return false, raise("TypeError", "isinstance() arg 2 must be a type, a tuple of types, or a union")
}
