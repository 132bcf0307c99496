package vm

import (
	"embed"
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

//go:embed lib/*.py
var library embed.FS

var (
	defaultdictClass, counterClass, orderedDictClass *Class
	contextVarClass, contextClass, tokenClass        *Class
	streamClass                                      *Class
	genericAlias                                     *Object // every name of module typing
	moduleBuilders                                   map[string]func(ns *NS)
)

// A stream is sys.stdout or sys.stderr.
type stream struct{ err bool }

func (s *stream) write(th *Thread, text string) error {
	if s.err {
		th.in.complain(text)
		return nil
	}
	return th.in.write(th, text)
}

func setupModules() {
	sub := func(name, module string) *Class {
		c := builtinClass(name, dictClass)
		c.module = module
		c.final = true
		return c
	}
	defaultdictClass = sub("defaultdict", "collections")
	counterClass = sub("Counter", "collections")
	orderedDictClass = sub("OrderedDict", "collections")
	defaultdictClass.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		d := &Dict{kind: cls, factory: None}
		if len(args) > 0 {
			d.factory = args[0]
			args = args[1:]
		}
		return d, th.fill(d, args, kw)
	}
	counterClass.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		d := &Dict{kind: cls}
		return d, th.count(d, args, kw, 1)
	}
	counterClass.def("most_common", "n?", func(th *Thread, self Value, a []Value) (Value, error) {
		l := &List{}
		for _, e := range sortedCounts(self.(*Dict).all()) {
			l.items = append(l.items, &Tuple{[]Value{e.key, e.value}})
		}
		if a[0] != nil && a[0] != None {
			n, err := intArg(a[0], 0)
			if err != nil {
				return nil, err
			}
			l.items = l.items[:max(0, min(n, len(l.items)))]
		}
		return l, nil
	})
	counterClass.method("subtract", func(th *Thread, args []Value, kw []KW) (Value, error) {
		return None, th.count(args[0].(*Dict), args[1:], kw, -1)
	})
	counterClass.def("total", "", func(th *Thread, self Value, _ []Value) (Value, error) {
		var sum Value = 0
		var err error
		for _, e := range self.(*Dict).all() {
			if sum, err = th.binary(binAdd, sum, e.value); err != nil {
				return nil, err
			}
		}
		return sum, nil
	})
	streamClass = builtinClass("TextIOWrapper")
	streamClass.newFn, streamClass.final = nil, true
	streamClass.def("write", "s", func(th *Thread, self Value, a []Value) (Value, error) {
		s, ok := a[0].(string)
		if !ok {
			return nil, raise("TypeError", "write() argument must be str, not %s", classOf(a[0]).name)
		}
		return len([]rune(s)), self.(*Object).native.(*stream).write(th, s)
	})
	streamClass.def("flush", "", func(*Thread, Value, []Value) (Value, error) { return None, nil })
	typing := builtinClass("_SpecialForm")
	typing.final = true
	genericAlias = &Object{cls: typing}
	typing.def("__or__", "other", func(*Thread, Value, []Value) (Value, error) { return genericAlias, nil })
	typing.def("__ror__", "other", func(*Thread, Value, []Value) (Value, error) { return genericAlias, nil })
	setupAsyncio()
	setupContextVars()
	moduleBuilders = map[string]func(ns *NS){
		"asyncio": asyncioModule, "time": timeModule, "random": randomModule, "sys": sysModule, "math": mathModule,
		"collections": collectionsModule, "contextvars": contextvarsModule, "typing": typingModule, "abc": abcModule,
		"inspect": inspectModule, "traceback": tracebackModule, "collections.abc": typingModule, "types": typesModule,
	}
	for _, n := range strings.Fields("random.SystemRandom random.betavariate random.vonmisesvariate random.triangular random.gammavariate random.paretovariate " +
		"random.getstate random.setstate random.randbytes random.weibullvariate random.lognormvariate random.normalvariate random.binomialvariate " +
		"sys.stdin sys.modules sys.path sys.settrace sys._getframe sys.getsizeof sys.getrefcount sys.exc_info sys.platform sys.setrecursionlimit sys.unraisablehook sys.excepthook " +
		"collections.ChainMap collections.UserDict collections.UserList functools.singledispatch functools.total_ordering functools.partialmethod itertools.tee itertools.compress itertools.filterfalse itertools.combinations_with_replacement " +
		"contextlib.redirect_stdout contextlib.redirect_stderr contextlib.chdir traceback.TracebackException traceback.StackSummary inspect.signature inspect.getsource types.coroutine types.MethodType") {
		outsideNames[n] = true
	}
}

// importModule finds a module, and makes it if it has not been imported yet.
func (in *Interp) importModule(th *Thread, name string) (Value, error) {
	if m, ok := in.modules[name]; ok {
		return m, nil
	}
	if rest, ok := strings.CutPrefix(name, "asyncio."); ok && rest == "exceptions" {
		v, err := in.importModule(th, "asyncio")
		if err == nil {
			v.(*Module).ns.set("exceptions", v)
		}
		return v, err
	}
	src, fileErr := library.ReadFile("lib/" + name + ".py")
	build := moduleBuilders[name]
	if build == nil && fileErr != nil {
		return nil, th.outside("module %s", name)
	}
	m := &Module{name: name, ns: newNS()}
	m.ns.set("__name__", name)
	in.modules[name] = m
	if build != nil {
		build(m.ns)
	}
	if fileErr == nil {
		file := "<" + name + ">"
		body, err := syntax.Parse(string(src))
		if err != nil {
			return nil, &Fatal{"lab: " + err.Error(), 70}
		}
		code, err := compile(body, file, &compiler{})
		if err != nil {
			return nil, &Fatal{"lab: " + err.Error(), 70}
		}
		in.sources[file] = strings.Split(string(src), "\n")
		f := newFrame(code, m.ns)
		f.module = m
		if _, _, err := th.run(f, nil); err != nil {
			return nil, err
		}
	}
	switch name {
	case "asyncio":
		m.ns.set("exceptions", m)
	case "collections":
		abc, err := in.importModule(th, "collections.abc")
		if err != nil {
			return nil, err
		}
		m.ns.set("abc", abc)
	}
	return m, nil
}

func (th *Thread) importFrom(m Value, name string) (Value, error) {
	mod := m.(*Module)
	if v := mod.ns.get(name); v != nil {
		return v, nil
	}
	if outsideNames[mod.name+"."+name] {
		return nil, th.outside("%s.%s", mod.name, name)
	}
	exc := newExc(excClasses["ImportError"], fmt.Sprintf("cannot import name '%s' from '%s'", name, mod.name))
	return nil, &Raise{exc}
}

func typingModule(ns *NS) {
	for _, n := range strings.Fields("Any Optional Union List Dict Set FrozenSet Tuple Callable Awaitable Coroutine AsyncIterator AsyncGenerator AsyncIterable Iterable Iterator " +
		"Generator Sequence Mapping MutableMapping Type ClassVar Final Literal Generic Protocol NoReturn Never Self Hashable Sized Container Collection Annotated TypeAlias Deque DefaultDict MutableSequence") {
		ns.set(n, genericAlias)
	}
	ns.fn("TypeVar", func(*Thread, []Value, []KW) (Value, error) { return genericAlias, nil })
	ns.fn("ParamSpec", func(*Thread, []Value, []KW) (Value, error) { return genericAlias, nil })
	ns.def("cast", "typ val", func(_ *Thread, a []Value) (Value, error) { return a[1], nil })
	ns.set("TYPE_CHECKING", false)
	for _, n := range strings.Fields("NamedTuple TypedDict get_type_hints overload runtime_checkable") {
		outsideNames["typing."+n] = true
	}
}

func abstractInstance(Value, *Class) bool { return false }

func abcModule(ns *NS) {
	c := builtinClass("ABC")
	c.builtin = false
	c.module = "abc"
	ns.set("ABC", c)
	ns.set("ABCMeta", typeClass)
	ns.def("abstractmethod", "f", func(_ *Thread, a []Value) (Value, error) {
		if f, ok := a[0].(*Function); ok {
			f.abstract = true
		}
		return a[0], nil
	})
}

func typesModule(ns *NS) {
	ns.set("FunctionType", functionClass)
	ns.set("GeneratorType", generatorClass)
	ns.set("CoroutineType", coroutineClass)
	ns.set("AsyncGeneratorType", asyncGenClass)
	ns.set("NoneType", noneClass)
	c := builtinClass("SimpleNamespace")
	c.builtin = false
	c.newFn = func(_ *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		o := &Object{cls: cls, ns: newNS()}
		for _, k := range kw {
			o.ns.set(k.name, k.v)
		}
		return o, nil
	}
	c.method("__init__", func(*Thread, []Value, []KW) (Value, error) { return None, nil })
	ns.set("SimpleNamespace", c)
}

func inspectModule(ns *NS) {
	ns.def("iscoroutine", "object", func(_ *Thread, a []Value) (Value, error) { return isCoro(a[0]), nil })
	ns.def("iscoroutinefunction", "obj", func(_ *Thread, a []Value) (Value, error) { return isCoroFunction(a[0]), nil })
	ns.def("isawaitable", "object", func(_ *Thread, a []Value) (Value, error) {
		o, ok := a[0].(*Object)
		return isCoro(a[0]) || ok && (o.cls.lookup("__await__") != nil), nil
	})
	kind := func(name string, is func(v Value) bool) {
		ns.def(name, "object", func(_ *Thread, a []Value) (Value, error) { return is(a[0]), nil })
	}
	gen := func(k genKind) func(Value) bool {
		return func(v Value) bool {
			g, ok := v.(*Gen)
			return ok && g.kind == k
		}
	}
	kind("isgenerator", gen(isGenerator))
	kind("isasyncgen", gen(isAsyncGen))
	kind("isfunction", func(v Value) bool { _, ok := v.(*Function); return ok })
	kind("isclass", func(v Value) bool { _, ok := v.(*Class); return ok })
	kind("isgeneratorfunction", func(v Value) bool { f, ok := v.(*Function); return ok && f.code.gen && !f.code.async })
	kind("isasyncgenfunction", func(v Value) bool { f, ok := v.(*Function); return ok && f.code.gen && f.code.async })
	state := func(names [4]string) func(th *Thread, a []Value) (Value, error) {
		return func(_ *Thread, a []Value) (Value, error) {
			g, ok := a[0].(*Gen)
			switch {
			case !ok:
				return nil, raise("TypeError", "a coroutine or generator is required")
			case g.running:
				return names[1], nil
			case g.frame == nil:
				return names[3], nil
			case g.started:
				return names[2], nil
			}
			return names[0], nil
		}
	}
	ns.def("getcoroutinestate", "coroutine", state([4]string{"CORO_CREATED", "CORO_RUNNING", "CORO_SUSPENDED", "CORO_CLOSED"}))
	ns.def("getgeneratorstate", "generator", state([4]string{"GEN_CREATED", "GEN_RUNNING", "GEN_SUSPENDED", "GEN_CLOSED"}))
	for name, s := range map[string]string{"CORO_CREATED": "", "CORO_RUNNING": "", "CORO_SUSPENDED": "", "CORO_CLOSED": "", "GEN_CREATED": "", "GEN_SUSPENDED": "", "GEN_CLOSED": ""} {
		_ = s
		ns.set(name, name)
	}
}

func tracebackModule(ns *NS) {
	current := func(th *Thread) string {
		exc := th.handled()
		if exc == nil {
			return "NoneType: None\n"
		}
		return th.in.formatTraceback(exc)
	}
	ns.fn("print_exc", func(th *Thread, args []Value, kw []KW) (Value, error) {
		for _, k := range kw {
			if o, ok := k.v.(*Object); ok && k.name == "file" {
				if s, ok := o.native.(*stream); ok {
					return None, s.write(th, current(th))
				}
			}
		}
		th.in.complain(current(th))
		return None, nil
	})
	ns.def("format_exc", "", func(th *Thread, _ []Value) (Value, error) { return current(th), nil })
	ns.fn("print_exception", func(th *Thread, args []Value, kw []KW) (Value, error) {
		if o, ok := first(args).(*Object); ok && o.exc != nil {
			th.in.complain(th.in.formatTraceback(o))
		}
		return None, nil
	})
	for _, n := range strings.Fields("format_exception print_stack format_stack extract_tb format_tb walk_tb") {
		outsideNames["traceback."+n] = true
	}
}

func sysModule(ns *NS) {
	ns.set("stdout", &Object{cls: streamClass, native: &stream{}})
	ns.set("stderr", &Object{cls: streamClass, native: &stream{err: true}})
	ns.set("version_info", &Tuple{[]Value{3, 13, 0, "final", 0}})
	ns.set("version", "3.13.0 (asyncio lab)")
	ns.set("argv", &List{[]Value{""}})
	ns.set("maxsize", math.MaxInt64)
	ns.def("exit", "status?", func(_ *Thread, a []Value) (Value, error) {
		exc := newExc(excClasses["SystemExit"])
		if a[0] != nil {
			exc.exc.args = &Tuple{[]Value{a[0]}}
		}
		return nil, &Raise{exc}
	})
	ns.def("getrecursionlimit", "", func(th *Thread, _ []Value) (Value, error) { return th.in.limits.Recursion, nil })
	ns.def("exception", "", func(th *Thread, _ []Value) (Value, error) { return orNone(th.handled()), nil })
}

func mathModule(ns *NS) {
	ns.set("pi", math.Pi)
	ns.set("e", math.E)
	ns.set("tau", 2*math.Pi)
	ns.set("inf", math.Inf(1))
	ns.set("nan", math.NaN())
	float := func(v Value) (float64, error) {
		if !isNumber(v) {
			return 0, raise("TypeError", "must be real number, not %s", classOf(v).name)
		}
		return toFloat(v)
	}
	for name, fn := range map[string]func(float64) float64{"sin": math.Sin, "cos": math.Cos, "tan": math.Tan, "exp": math.Exp, "fabs": math.Abs, "atan": math.Atan} {
		ns.def(name, "x", func(_ *Thread, a []Value) (Value, error) {
			f, err := float(a[0])
			return fn(f), err
		})
	}
	for name, fn := range map[string]func(float64) float64{"sqrt": math.Sqrt, "log2": math.Log2, "log10": math.Log10} {
		ns.def(name, "x", func(_ *Thread, a []Value) (Value, error) {
			f, err := float(a[0])
			if err == nil && (f < 0 || f == 0 && name != "sqrt") {
				return nil, raise("ValueError", "math domain error")
			}
			return fn(f), err
		})
	}
	ns.def("log", "x base?", func(_ *Thread, a []Value) (Value, error) {
		f, err := float(a[0])
		if err != nil {
			return nil, err
		}
		if f <= 0 {
			return nil, raise("ValueError", "math domain error")
		}
		if a[1] == nil {
			return math.Log(f), nil
		}
		b, err := float(a[1])
		return math.Log(f) / math.Log(b), err
	})
	ns.def("pow", "x y", func(_ *Thread, a []Value) (Value, error) {
		x, err := float(a[0])
		if err != nil {
			return nil, err
		}
		y, err := float(a[1])
		return math.Pow(x, y), err
	})
	for name, fn := range map[string]func(float64) float64{"floor": math.Floor, "ceil": math.Ceil, "trunc": math.Trunc} {
		ns.def(name, "x", func(th *Thread, a []Value) (Value, error) {
			f, err := float(a[0])
			if err != nil {
				return nil, err
			}
			if _, _, ok := integer(a[0]); ok {
				return a[0], nil
			}
			return th.call(intClass, []Value{fn(f)}, nil)
		})
	}
	ns.def("isclose", "a b * rel_tol? abs_tol?", func(_ *Thread, a []Value) (Value, error) {
		x, err := float(a[0])
		if err != nil {
			return nil, err
		}
		y, err := float(a[1])
		if err != nil {
			return nil, err
		}
		rel, absolute := 1e-9, 0.0
		if a[2] != nil {
			rel, _ = float(a[2])
		}
		if a[3] != nil {
			absolute, _ = float(a[3])
		}
		return x == y || math.Abs(x-y) <= math.Max(rel*math.Max(math.Abs(x), math.Abs(y)), absolute), nil
	})
	ns.def("isnan", "x", func(_ *Thread, a []Value) (Value, error) { f, err := float(a[0]); return f != f, err })
	ns.def("isinf", "x", func(_ *Thread, a []Value) (Value, error) { f, err := float(a[0]); return math.IsInf(f, 0), err })
	ns.def("isqrt", "n", func(_ *Thread, a []Value) (Value, error) {
		if _, _, ok := integer(a[0]); !ok || toBig(a[0]).Sign() < 0 {
			return nil, raise("ValueError", "isqrt() argument must be nonnegative")
		}
		return norm(new(big.Int).Sqrt(toBig(a[0]))), nil
	})
	ns.def("factorial", "n", func(th *Thread, a []Value) (Value, error) {
		n, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, raise("ValueError", "factorial() not defined for negative values")
		}
		if n > 5000 {
			return nil, &Fatal{"an integer has become too large", StatusLimit}
		}
		return norm(new(big.Int).MulRange(1, int64(n))), nil
	})
	ns.fn("gcd", func(_ *Thread, args []Value, _ []KW) (Value, error) {
		g := new(big.Int)
		for _, v := range args {
			if _, _, ok := integer(v); !ok {
				return nil, raise("TypeError", "'%s' object cannot be interpreted as an integer", classOf(v).name)
			}
			g.GCD(nil, nil, g, new(big.Int).Abs(toBig(v)))
		}
		return norm(g), nil
	})
	ns.def("prod", "iterable * start?", func(th *Thread, a []Value) (Value, error) {
		items, err := th.list(a[0])
		if err != nil {
			return nil, err
		}
		p := a[1]
		if p == nil {
			p = 1
		}
		for _, v := range items {
			if p, err = th.binary(binMul, p, v); err != nil {
				return nil, err
			}
		}
		return p, nil
	})
	for _, n := range strings.Fields("hypot dist comb perm lcm fsum copysign fmod modf frexp ldexp asin acos atan2 sinh cosh tanh degrees radians gamma erf cbrt exp2 expm1 log1p nextafter ulp remainder isfinite sumprod") {
		outsideNames["math."+n] = true
	}
}
