// Package vm compiles Python to instructions and runs them: objects, frames, generators and
// coroutines, builtins, and the modules that lessons import. Coroutines are driven by the tasks of
// package asyncio.
//
// Frames are objects on the heap, so a generator or coroutine is suspended by leaving it where it
// is. All of it runs on the stack of the task that drives the outermost coroutine, which is why
// generators may use the loop. What a coroutine awaits at the bottom comes up to that task as a
// request, a [*pending], and the task performs it with the library's own call.
package vm

import (
	"math/big"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// A Value is a Python object: None, bool, int, *big.Int, float64, string, or a pointer to one of
// the types below. Nil is no value at all.
type Value = any

// Singletons.
type (
	noneType           struct{}
	ellipsisType       struct{}
	notImplementedType struct{}
)

var (
	None           = &noneType{}
	Ellipsis       = &ellipsisType{}
	NotImplemented = &notImplementedType{}
)

type (
	// A Cell holds a local variable. Closures share it.
	Cell struct{ v Value }

	List  struct{ items []Value }
	Tuple struct{ items []Value }

	Range struct{ start, stop, step int }

	SliceObj struct{ lo, hi, step Value }

	// A Module is what import binds.
	Module struct {
		name string
		ns   *NS
	}

	// A Function was made by def or lambda.
	Function struct {
		name, qual string
		code       *Code
		globals    *NS
		module     *Module
		defaults   []Value          // of the last positional parameters
		kwDefaults map[string]Value // of those after the star
		closure    []*Cell
		ns         *NS // its attributes; nil until there is one
		doc        Value
		notes      *Dict
		abstract   bool
	}

	// A Method is a function bound to an object.
	Method struct {
		self Value
		fn   Value
	}

	// A Builtin is written in Go. If method is set, it is found in a class and takes the object
	// first; self is that object once it is bound.
	Builtin struct {
		name   string
		fn     func(th *Thread, args []Value, kw []KW) (Value, error)
		method bool
		self   Value
	}

	// KW is one keyword argument.
	KW struct {
		name string
		v    Value
	}

	// A getset is an attribute of a builtin class that Go code computes.
	getset struct {
		get func(th *Thread, self Value) (Value, error)
		set func(th *Thread, self, v Value) error
	}

	Property struct{ get, set, del, doc Value }

	StaticMethod struct{ fn Value }
	ClassMethod  struct{ fn Value }

	Super struct {
		cls  *Class
		self Value
	}

	// An Object is an instance of a class that Python code or a module has made.
	Object struct {
		cls    *Class
		ns     *NS
		exc    *excInfo // of exceptions
		native any      // what the class's Go methods work on
		id     int
	}
)

// NS is a namespace: names and values, in the order of their first assignment.
type NS struct {
	m    map[string]Value
	keys []string
}

func newNS() *NS { return &NS{m: map[string]Value{}} }

func (n *NS) get(name string) Value {
	if n == nil {
		return nil
	}
	return n.m[name]
}

func (n *NS) set(name string, v Value) {
	if _, ok := n.m[name]; !ok {
		n.keys = append(n.keys, name)
	}
	n.m[name] = v
}

func (n *NS) del(name string) bool {
	if _, ok := n.m[name]; !ok {
		return false
	}
	delete(n.m, name)
	for i, k := range n.keys {
		if k == name {
			n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
			break
		}
	}
	return true
}

// A Class is a type. New makes an instance; the nearest class of the MRO that has one decides.
type Class struct {
	name, qual string
	module     string
	bases      []*Class
	mro        []*Class
	ns         *NS
	builtin    bool
	final      bool // cannot be subclassed here
	newFn      func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error)
	abstract   map[string]bool
}

func (c *Class) lookup(name string) Value {
	for _, k := range c.mro {
		if v, ok := k.ns.m[name]; ok {
			return v
		}
	}
	return nil
}

func (c *Class) isSub(of *Class) bool {
	for _, k := range c.mro {
		if k == of {
			return true
		}
	}
	return false
}

// maker returns what makes instances of c.
func (c *Class) maker() func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
	for _, k := range c.mro {
		if k.newFn != nil {
			return k.newFn
		}
	}
	return nil
}

// builtinClass makes a class of Go code. Bases default to object.
func builtinClass(name string, bases ...*Class) *Class {
	c := &Class{name: name, qual: name, module: "builtins", ns: newNS(), builtin: true}
	if len(bases) == 0 && objectClass != nil {
		bases = []*Class{objectClass}
	}
	c.bases = bases
	c.mro = []*Class{c}
	if len(bases) > 0 {
		c.mro = append(c.mro, bases[0].mro...)
		for _, b := range bases[1:] { // exceptions with two bases, which share their ends
			at := len(c.mro)
			for at > 0 && b.isSub(c.mro[at-1]) {
				at--
			}
			var own []*Class
			for _, k := range b.mro {
				if !c.isSub(k) {
					own = append(own, k)
				}
			}
			c.mro = append(c.mro[:at:at], append(own, c.mro[at:]...)...)
		}
	}
	return c
}

// method adds a method to a builtin class.
func (c *Class) method(name string, fn func(th *Thread, args []Value, kw []KW) (Value, error)) {
	c.ns.set(name, &Builtin{name: name, fn: fn, method: true})
}

// The builtin classes.
var (
	objectClass         *Class
	typeClass           *Class
	noneClass           *Class
	boolClass           *Class
	intClass            *Class
	floatClass          *Class
	strClass            *Class
	listClass           *Class
	tupleClass          *Class
	dictClass           *Class
	setClass            *Class
	frozensetClass      *Class
	rangeClass          *Class
	sliceClass          *Class
	functionClass       *Class
	methodClass         *Class
	builtinFuncClass    *Class
	moduleClass         *Class
	propertyClass       *Class
	staticmethodClass   *Class
	classmethodClass    *Class
	superClass          *Class
	generatorClass      *Class
	coroutineClass      *Class
	asyncGenClass       *Class
	asyncGenStepClass   *Class
	iteratorClass       *Class
	ellipsisClass       *Class
	notImplementedClass *Class
	tracebackClass      *Class
	cellClass           *Class
	codeClass           *Class
	dictViewClass       *Class
)

func setupClasses() {
	objectClass = builtinClass("object")
	objectClass.newFn = newObject
	typeClass = builtinClass("type")
	noneClass = builtinClass("NoneType")
	intClass = builtinClass("int")
	boolClass = builtinClass("bool", intClass)
	floatClass = builtinClass("float")
	strClass = builtinClass("str")
	listClass = builtinClass("list")
	tupleClass = builtinClass("tuple")
	dictClass = builtinClass("dict")
	setClass = builtinClass("set")
	frozensetClass = builtinClass("frozenset")
	rangeClass = builtinClass("range")
	sliceClass = builtinClass("slice")
	functionClass = builtinClass("function")
	methodClass = builtinClass("method")
	builtinFuncClass = builtinClass("builtin_function_or_method")
	moduleClass = builtinClass("module")
	propertyClass = builtinClass("property")
	staticmethodClass = builtinClass("staticmethod")
	classmethodClass = builtinClass("classmethod")
	superClass = builtinClass("super")
	generatorClass = builtinClass("generator")
	coroutineClass = builtinClass("coroutine")
	asyncGenClass = builtinClass("async_generator")
	asyncGenStepClass = builtinClass("async_generator_asend")
	iteratorClass = builtinClass("iterator")
	ellipsisClass = builtinClass("ellipsis")
	notImplementedClass = builtinClass("NotImplementedType")
	tracebackClass = builtinClass("traceback")
	cellClass = builtinClass("cell")
	codeClass = builtinClass("code")
	dictViewClass = builtinClass("dict_view")
	for _, c := range []*Class{noneClass, boolClass, intClass, floatClass, strClass, listClass, tupleClass, dictClass, setClass, frozensetClass,
		rangeClass, sliceClass, functionClass, methodClass, builtinFuncClass, moduleClass, propertyClass, staticmethodClass, classmethodClass,
		superClass, generatorClass, coroutineClass, asyncGenClass, asyncGenStepClass, iteratorClass, ellipsisClass, notImplementedClass,
		typeClass, tracebackClass, cellClass, codeClass, dictViewClass} {
		c.final = true
	}
}

// classOf is type(v).
func classOf(v Value) *Class {
	switch v := v.(type) {
	case *Object:
		return v.cls
	case *noneType:
		return noneClass
	case bool:
		return boolClass
	case int, *big.Int:
		return intClass
	case float64:
		return floatClass
	case string:
		return strClass
	case *List:
		return listClass
	case *Tuple:
		return tupleClass
	case *Dict:
		if v.kind != nil {
			return v.kind
		}
		return dictClass
	case *Set:
		if v.frozen {
			return frozensetClass
		}
		return setClass
	case *Range:
		return rangeClass
	case *SliceObj:
		return sliceClass
	case *Function:
		return functionClass
	case *Method:
		return methodClass
	case *Builtin:
		return builtinFuncClass
	case *Module:
		return moduleClass
	case *Class:
		return typeClass
	case *Property:
		return propertyClass
	case *StaticMethod:
		return staticmethodClass
	case *ClassMethod:
		return classmethodClass
	case *Super:
		return superClass
	case *Gen:
		switch v.kind {
		case isCoroutine:
			return coroutineClass
		case isAsyncGen:
			return asyncGenClass
		}
		return generatorClass
	case *genStep:
		return asyncGenStepClass
	case *pending:
		if v.iter {
			return iteratorClass
		}
		return coroutineClass
	case *Iter:
		return iteratorClass
	case *ellipsisType:
		return ellipsisClass
	case *notImplementedType:
		return notImplementedClass
	case *traceback:
		return tracebackClass
	case *dictView:
		return dictViewClass
	case *Code:
		return codeClass
	}
	return objectClass
}

// Code is a compiled function, class body or module.
type Code struct {
	name, qual string
	file       string
	line       int
	ins        []ins
	pos        []syntax.Pos
	consts     []Value
	names      []string
	codes      []*Code
	calls      []callShape
	pats       []*pattern
	locals     []string
	frees      []string
	// captures has, for each of frees, the index of a local of the enclosing frame, or ^index of a
	// free variable of it.
	captures []int
	params   []string
	nPos     int
	posOnly  int
	star, kw bool // the locals after params
	gen      bool // has yield
	async    bool
	doc      Value
}

type ins struct {
	op  op
	arg int
}

// callShape says how the arguments of a call lie on the stack.
type callShape struct {
	n      int      // values on the stack
	names  []string // of the last ones
	spread bool     // a list of positional ones and a dict of named ones
}
