package vm

import (
	"fmt"
	"strings"
)

// opCall calls what lies below its arguments on the stack.
func (th *Thread) opCall(f *Frame, arg int) error {
	awaited := arg < 0
	if awaited {
		arg = ^arg
	}
	shape := f.code.calls[arg]
	n := len(f.stack)
	var fn Value
	var args []Value
	var kw []KW
	if shape.spread {
		fn = f.stack[n-3]
		args = f.stack[n-2].(*List).items
		for _, e := range f.stack[n-1].(*Dict).all() {
			kw = append(kw, KW{e.key.(string), e.value})
		}
		n -= 3
	} else {
		n -= shape.n + 1
		fn = f.stack[n]
		args = append([]Value(nil), f.stack[n+1:len(f.stack)-len(shape.names)]...)
		for i, name := range shape.names {
			kw = append(kw, KW{name, f.stack[len(f.stack)-len(shape.names)+i]})
		}
	}
	th.awaited = awaited
	v, err := th.call(fn, args, kw)
	th.awaited = false
	if err != nil {
		return err
	}
	clear(f.stack[n:])
	f.stack = append(f.stack[:n], v)
	return nil
}

// call calls fn. It may be called by Go code that Python code has called.
func (th *Thread) call(fn Value, args []Value, kw []KW) (Value, error) {
	switch fn := fn.(type) {
	case *Function:
		th.awaited = false
		return th.callFunction(fn, args, kw)
	case *Builtin:
		if err := th.in.tick(); err != nil {
			return nil, err
		}
		if fn.method && fn.self != nil {
			args = append([]Value{fn.self}, args...)
		} else if fn.method && len(args) == 0 {
			return nil, raise("TypeError", "unbound method %s() needs an argument", fn.name)
		}
		return fn.fn(th, args, kw)
	case *Method:
		return th.call(fn.fn, append([]Value{fn.self}, args...), kw)
	case *Class:
		return th.instantiate(fn, args, kw)
	case *StaticMethod:
		return th.call(fn.fn, args, kw)
	case *Object:
		if m := fn.cls.lookup("__call__"); m != nil {
			if err := th.enter(); err != nil {
				return nil, err
			}
			defer th.leave()
			b, err := th.bind(m, fn, fn.cls)
			if err != nil {
				return nil, err
			}
			return th.call(b, args, kw)
		}
	}
	return nil, raise("TypeError", "'%s' object is not callable", classOf(fn).name)
}

func (th *Thread) callFunction(fn *Function, args []Value, kw []KW) (Value, error) {
	f := newFrame(fn.code, fn.globals)
	f.fn, f.free, f.module = fn, fn.closure, fn.module
	if err := th.bindArgs(f, fn, args, kw); err != nil {
		return nil, err
	}
	if c := fn.code; c.gen || c.async {
		return th.newGen(f, fn), nil
	}
	v, _, err := th.run(f, nil)
	return v, err
}

// bindArgs gives a function's parameters their values.
func (th *Thread) bindArgs(f *Frame, fn *Function, args []Value, kw []KW) error {
	c := fn.code
	n := len(args)
	if n > c.nPos {
		if !c.star {
			return tooMany(fn, n, kw)
		}
		n = c.nPos
	}
	for i := range n {
		f.cells[i].v = args[i]
	}
	next := len(c.params)
	if c.star {
		f.cells[next].v = &Tuple{append([]Value(nil), args[n:]...)}
		next++
	}
	var extra *Dict
	if c.kw {
		extra = newDict()
		f.cells[next].v = extra
	}
kws:
	for _, k := range kw {
		for i, p := range c.params {
			if p == k.name && i >= c.posOnly {
				if f.cells[i].v != nil {
					return raise("TypeError", "%s() got multiple values for argument '%s'", fn.qual, k.name)
				}
				f.cells[i].v = k.v
				continue kws
			}
		}
		if extra == nil {
			for i, p := range c.params[:c.posOnly] {
				if p == k.name && f.cells[i].v == nil {
					return raise("TypeError", "%s() got some positional-only arguments passed as keyword arguments: '%s'", fn.qual, k.name)
				}
			}
			return raise("TypeError", "%s() got an unexpected keyword argument '%s'", fn.qual, k.name)
		}
		extra.setStr(k.name, k.v)
	}
	var missing []string
	for i := range c.nPos {
		if f.cells[i].v != nil {
			continue
		}
		if j := i - (c.nPos - len(fn.defaults)); j >= 0 {
			f.cells[i].v = fn.defaults[j]
		} else {
			missing = append(missing, c.params[i])
		}
	}
	if missing != nil {
		return missingArgs(fn, "positional", missing)
	}
	for i := c.nPos; i < len(c.params); i++ {
		if f.cells[i].v != nil {
			continue
		}
		if v, ok := fn.kwDefaults[c.params[i]]; ok {
			f.cells[i].v = v
		} else {
			missing = append(missing, c.params[i])
		}
	}
	if missing != nil {
		return missingArgs(fn, "keyword-only", missing)
	}
	return nil
}

func missingArgs(fn *Function, what string, names []string) error {
	for i := range names {
		names[i] = "'" + names[i] + "'"
	}
	list := names[0]
	switch n := len(names); {
	case n == 2:
		list = names[0] + " and " + names[1]
	case n > 2:
		list = strings.Join(names[:n-1], ", ") + ", and " + names[n-1]
	}
	s := "s"
	if len(names) == 1 {
		s = ""
	}
	return raise("TypeError", "%s() missing %d required %s argument%s: %s", fn.qual, len(names), what, s, list)
}

func tooMany(fn *Function, given int, kw []KW) error {
	c := fn.code
	takes := fmt.Sprint(c.nPos)
	plural := c.nPos != 1
	if d := len(fn.defaults); d > 0 {
		takes = fmt.Sprintf("from %d to %d", c.nPos-d, c.nPos)
		plural = true
	}
	s := ""
	if plural {
		s = "s"
	}
	was := "were"
	if given == 1 {
		was = "was"
	}
	kwOnly := 0
	for _, k := range kw {
		for _, p := range c.params[c.nPos:] {
			if p == k.name {
				kwOnly++
			}
		}
	}
	if kwOnly > 0 {
		ps := "s"
		if given == 1 {
			ps = ""
		}
		ks := "s"
		if kwOnly == 1 {
			ks = ""
		}
		return raise("TypeError", "%s() takes %s positional argument%s but %d positional argument%s (and %d keyword-only argument%s) were given", fn.qual, takes, s, given, ps, kwOnly, ks)
	}
	return raise("TypeError", "%s() takes %s positional argument%s but %d %s given", fn.qual, takes, s, given, was)
}

// instantiate calls a class.
func (th *Thread) instantiate(cls *Class, args []Value, kw []KW) (Value, error) {
	if err := th.enter(); err != nil {
		return nil, err
	}
	defer th.leave()
	if len(cls.abstract) > 0 {
		var names []string
		for _, k := range cls.mro {
			for _, n := range k.ns.keys {
				if cls.abstract[n] {
					names = append(names, "'"+n+"'")
					delete(cls.abstract, n)
				}
			}
		}
		for _, n := range names {
			cls.abstract[strings.Trim(n, "'")] = true
		}
		s := ""
		if len(names) > 1 {
			s = "s"
		}
		return nil, raise("TypeError", "Can't instantiate abstract class %s without an implementation for abstract method%s %s", cls.name, s, strings.Join(names, ", "))
	}
	var v Value
	var err error
	if n := cls.lookup("__new__"); n != nil {
		if s, ok := n.(*StaticMethod); ok {
			n = s.fn
		}
		v, err = th.call(n, append([]Value{cls}, args...), kw)
	} else {
		if cls.maker() == nil {
			return nil, raise("TypeError", "cannot create '%s' instances", cls.name)
		}
		v, err = cls.maker()(th, cls, args, kw)
	}
	if err != nil {
		return nil, err
	}
	if o, ok := v.(*Object); ok && o.cls.isSub(cls) {
		if init := o.cls.lookup("__init__"); init != nil {
			b, err := th.bind(init, o, o.cls)
			if err != nil {
				return nil, err
			}
			r, err := th.call(b, args, kw)
			if err != nil {
				return nil, err
			}
			if r != None {
				return nil, raise("TypeError", "__init__() should return None, not '%s'", classOf(r).name)
			}
		}
	}
	return v, nil
}

func newObject(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
	if len(args)+len(kw) > 0 && cls.lookup("__init__") == nil && cls.lookup("__new__") == nil {
		if cls == objectClass {
			return nil, raise("TypeError", "object() takes no arguments")
		}
		return nil, raise("TypeError", "%s() takes no arguments", cls.name)
	}
	if err := th.alloc(64); err != nil {
		return nil, err
	}
	return &Object{cls: cls}, nil
}

func (th *Thread) makeFunction(f *Frame, arg int) {
	code := f.code.codes[arg>>3]
	fn := &Function{name: code.name, qual: code.qual, code: code, globals: f.globals, module: f.module, doc: None}
	if code.doc != nil {
		fn.doc = code.doc
	}
	if arg&hasKwDefaults != 0 {
		fn.kwDefaults = map[string]Value{}
		for _, e := range f.pop().(*Dict).all() {
			fn.kwDefaults[e.key.(string)] = e.value
		}
	}
	if arg&hasDefaults != 0 {
		fn.defaults = f.pop().(*Tuple).items
	}
	fn.closure = f.captured(code)
	f.push(fn)
}

func (f *Frame) captured(code *Code) []*Cell {
	cells := make([]*Cell, len(code.captures))
	for i, from := range code.captures {
		if from < 0 {
			cells[i] = f.free[^from]
		} else {
			cells[i] = f.cells[from]
		}
	}
	return cells
}

func (th *Thread) makeClass(f *Frame, arg int) error {
	code := f.code.codes[arg>>16]
	bases := f.pop().(*List).items
	c := &Class{name: code.name, qual: code.qual, module: f.module.name, ns: newNS()}
	for _, b := range bases {
		k, ok := b.(*Class)
		if !ok {
			if b == genericAlias {
				continue
			}
			return raise("TypeError", "bases must be types")
		}
		if k.final {
			return th.outside("a subclass of %s", k.name)
		}
		c.bases = append(c.bases, k)
	}
	if len(c.bases) == 0 {
		c.bases = []*Class{objectClass}
	}
	mro, ok := linearize(c)
	if !ok {
		return raise("TypeError", "Cannot create a consistent method resolution order (MRO) for bases %s", baseNames(c.bases))
	}
	c.mro = mro
	body := newFrame(code, f.globals)
	body.ns, body.free, body.module = c.ns, f.captured(code), f.module
	c.ns.set("__module__", f.module.name)
	c.ns.set("__qualname__", code.qual)
	if code.doc != nil {
		c.ns.set("__doc__", code.doc)
	}
	if cell := arg & 0xffff; cell > 0 {
		body.cells[cell-1].v = c
	}
	if _, _, err := th.run(body, nil); err != nil {
		return err
	}
	if c.ns.get("__eq__") != nil && c.ns.get("__hash__") == nil {
		c.ns.set("__hash__", None)
	}
	for _, name := range c.ns.keys {
		if d, ok := c.ns.m[name].(*Object); ok {
			if m := d.cls.lookup("__set_name__"); m != nil {
				if _, err := th.call(m, []Value{d, c, name}, nil); err != nil {
					return err
				}
			}
		}
	}
	c.abstract = map[string]bool{}
	for _, k := range c.mro {
		for name, v := range k.ns.m {
			if isAbstract(v) && isAbstract(c.lookup(name)) {
				c.abstract[name] = true
			}
		}
	}
	f.push(c)
	for _, k := range c.mro[1:] {
		if hook := k.ns.get("__init_subclass__"); hook != nil {
			if m, ok := hook.(*ClassMethod); ok {
				hook = m.fn
			}
			_, err := th.call(hook, []Value{c}, nil)
			return err
		}
	}
	return nil
}

func isAbstract(v Value) bool {
	switch v := v.(type) {
	case *Function:
		return v.abstract
	case *Property:
		return isAbstract(v.get)
	case *ClassMethod:
		return isAbstract(v.fn)
	case *StaticMethod:
		return isAbstract(v.fn)
	}
	return false
}

func baseNames(bases []*Class) string {
	var names []string
	for _, b := range bases {
		names = append(names, b.name)
	}
	return strings.Join(names, ", ")
}

// linearize is C3.
func linearize(c *Class) ([]*Class, bool) {
	var lists [][]*Class
	for _, b := range c.bases {
		lists = append(lists, append([]*Class(nil), b.mro...))
	}
	lists = append(lists, append([]*Class(nil), c.bases...))
	out := []*Class{c}
	for {
		var pick *Class
		left := false
		for _, l := range lists {
			if len(l) == 0 {
				continue
			}
			left = true
			ok := true
			for _, o := range lists {
				for i := 1; i < len(o); i++ {
					ok = ok && o[i] != l[0]
				}
			}
			if ok {
				pick = l[0]
				break
			}
		}
		if !left {
			return out, true
		}
		if pick == nil {
			return nil, false
		}
		out = append(out, pick)
		for i, l := range lists {
			if len(l) > 0 && l[0] == pick {
				lists[i] = l[1:]
			}
		}
	}
}

// raiseStmt is raise, with n of exception and cause on the stack.
func (th *Thread) raiseStmt(f *Frame, n int) error {
	if n == 0 {
		exc := th.handled()
		if exc == nil {
			return raise("RuntimeError", "No active exception to reraise")
		}
		return &reraise{Raise{exc}}
	}
	var cause Value
	if n == 2 {
		cause = f.pop()
	}
	exc, err := th.toException(f.pop(), "exceptions must derive from BaseException")
	if err != nil {
		return err
	}
	if cause != nil {
		if cause != None {
			o, err := th.toException(cause, "exception causes must derive from BaseException")
			if err != nil {
				return err
			}
			cause = o
		}
		exc.exc.cause, exc.exc.suppress = cause, true
	}
	return &Raise{exc}
}

// toException makes an instance of a class, and refuses what is no exception.
func (th *Thread) toException(v Value, complaint string) (*Object, error) {
	if c, ok := v.(*Class); ok && c.isSub(excClasses["BaseException"]) {
		o, err := th.instantiate(c, nil, nil)
		if err != nil {
			return nil, err
		}
		v = o
	}
	if o, ok := v.(*Object); ok && o.exc != nil {
		return o, nil
	}
	return nil, raise("TypeError", "%s", complaint)
}

func (th *Thread) matchExc(exc *Object, types Value) (bool, error) {
	switch t := types.(type) {
	case *Class:
		if !t.isSub(excClasses["BaseException"]) {
			return false, raise("TypeError", "catching classes that do not inherit from BaseException is not allowed")
		}
		return exc.cls.isSub(t), nil
	case *Tuple:
		for _, k := range t.items {
			m, err := th.matchExc(exc, k)
			if err != nil || m {
				return m, err
			}
		}
		return false, nil
	}
	return false, raise("TypeError", "catching classes that do not inherit from BaseException is not allowed")
}
