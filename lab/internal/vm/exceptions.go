package vm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// excInfo is what an exception has beyond its attributes.
type excInfo struct {
	args     *Tuple
	cause    Value // None or an exception
	context  *Object
	suppress bool
	tb       []tbEntry // innermost first
	notes    *List
	group    *Tuple // the exceptions of a group
	value    Value  // StopIteration.value
	cancel   error  // the library's error of a CancelledError that came from it
}

// A tbEntry is one line of a traceback.
type tbEntry struct {
	code *Code
	pos  syntax.Pos
}

type traceback struct{ entries []tbEntry }

// A Raise carries a Python exception through Go code.
type Raise struct{ exc *Object }

func (r *Raise) Error() string { return excLine(r.exc) }

// A Fatal ends the program; Python code cannot catch it.
type Fatal struct {
	Msg    string
	Status int
}

func (f *Fatal) Error() string { return f.Msg }

// Exit statuses of a program that was ended.
const (
	StatusError    = 1
	StatusOutside  = 3
	StatusLimit    = 4
	StatusDeadlock = 5
)

func outside(line int, format string, args ...any) error {
	return &Fatal{fmt.Sprintf("outside the subset: line %d: %s", line, fmt.Sprintf(format, args...)), StatusOutside}
}

// outside is for Go code that does not know the line.
func (th *Thread) outside(format string, args ...any) error {
	return outside(th.line(), format, args...)
}

var excClasses = map[string]*Class{}

// excNames lists the exceptions of builtins, each with its bases.
const excNames = `BaseException object
Exception BaseException
BaseExceptionGroup BaseException
ExceptionGroup BaseExceptionGroup Exception
GeneratorExit BaseException
KeyboardInterrupt BaseException
SystemExit BaseException
ArithmeticError Exception
OverflowError ArithmeticError
ZeroDivisionError ArithmeticError
FloatingPointError ArithmeticError
AssertionError Exception
AttributeError Exception
EOFError Exception
ImportError Exception
ModuleNotFoundError ImportError
LookupError Exception
IndexError LookupError
KeyError LookupError
MemoryError Exception
NameError Exception
UnboundLocalError NameError
OSError Exception
ConnectionError OSError
ConnectionResetError ConnectionError
ConnectionRefusedError ConnectionError
ConnectionAbortedError ConnectionError
BrokenPipeError ConnectionError
FileNotFoundError OSError
FileExistsError OSError
PermissionError OSError
InterruptedError OSError
BlockingIOError OSError
TimeoutError OSError
RuntimeError Exception
NotImplementedError RuntimeError
RecursionError RuntimeError
StopIteration Exception
StopAsyncIteration Exception
SyntaxError Exception
TypeError Exception
ValueError Exception
UnicodeError ValueError
Warning Exception
UserWarning Warning
DeprecationWarning Warning
RuntimeWarning Warning
ResourceWarning Warning`

func setupExceptions() {
	for line := range strings.Lines(excNames) {
		f := strings.Fields(line)
		var bases []*Class
		for _, b := range f[1:] {
			if b == "object" {
				bases = append(bases, objectClass)
			} else {
				bases = append(bases, excClasses[b])
			}
		}
		c := builtinClass(f[0], bases...)
		excClasses[f[0]] = c
	}
	base := excClasses["BaseException"]
	base.newFn = newException
	base.ns.set("__init__", &Builtin{name: "__init__", method: true, fn: func(_ *Thread, args []Value, kw []KW) (Value, error) {
		if o, ok := args[0].(*Object); ok && o.exc != nil {
			if len(kw) > 0 {
				return nil, raise("TypeError", "%s() takes no keyword arguments", o.cls.name)
			}
			o.exc.args = &Tuple{append([]Value(nil), args[1:]...)}
		}
		return None, nil
	}})
	exc := func(v Value) *excInfo { return v.(*Object).exc }
	attr := func(name string, get func(e *excInfo) Value, set func(e *excInfo, v Value) error) {
		g := &getset{get: func(_ *Thread, self Value) (Value, error) {
			if v := get(exc(self)); v != nil {
				return v, nil
			}
			return None, nil
		}}
		if set != nil {
			g.set = func(_ *Thread, self, v Value) error { return set(exc(self), v) }
		}
		base.ns.set(name, g)
	}
	attr("args", func(e *excInfo) Value { return e.args }, func(e *excInfo, v Value) error {
		t, ok := v.(*Tuple)
		if !ok {
			return raise("TypeError", "args must be a tuple")
		}
		e.args = t
		return nil
	})
	attr("__cause__", func(e *excInfo) Value { return e.cause }, func(e *excInfo, v Value) error {
		e.cause, e.suppress = v, true
		return nil
	})
	attr("__context__", func(e *excInfo) Value {
		if e.context == nil {
			return None
		}
		return e.context
	}, func(e *excInfo, v Value) error {
		e.context, _ = v.(*Object)
		return nil
	})
	attr("__suppress_context__", func(e *excInfo) Value { return e.suppress }, func(e *excInfo, v Value) error {
		e.suppress = v == true
		return nil
	})
	attr("__traceback__", func(e *excInfo) Value {
		if e.tb == nil {
			return None
		}
		return &traceback{e.tb}
	}, func(e *excInfo, v Value) error {
		e.tb = nil
		if t, ok := v.(*traceback); ok {
			e.tb = t.entries
		}
		return nil
	})
	base.ns.set("__notes__", &getset{get: func(_ *Thread, self Value) (Value, error) {
		if n := exc(self).notes; n != nil {
			return n, nil
		}
		return nil, raise("AttributeError", "'%s' object has no attribute '__notes__'", classOf(self).name)
	}})
	base.method("add_note", func(_ *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) != 2 {
			return nil, raise("TypeError", "add_note() takes exactly one argument (%d given)", len(args)-1)
		}
		if _, ok := args[1].(string); !ok {
			return nil, raise("TypeError", "add_note() argument must be str, not %s", classOf(args[1]).name)
		}
		e := exc(args[0])
		if e.notes == nil {
			e.notes = &List{}
		}
		e.notes.items = append(e.notes.items, args[1])
		return None, nil
	})
	base.method("with_traceback", func(_ *Thread, args []Value, _ []KW) (Value, error) {
		exc(args[0]).tb = nil
		if t, ok := args[1].(*traceback); ok {
			exc(args[0]).tb = t.entries
		}
		return args[0], nil
	})
	excClasses["StopIteration"].ns.set("value", &getset{get: func(_ *Thread, self Value) (Value, error) {
		e := exc(self)
		if e.value != nil {
			return e.value, nil
		}
		if len(e.args.items) > 0 {
			return e.args.items[0], nil
		}
		return None, nil
	}})
	excClasses["SystemExit"].ns.set("code", &getset{get: func(_ *Thread, self Value) (Value, error) {
		switch a := exc(self).args; len(a.items) {
		case 0:
			return None, nil
		case 1:
			return a.items[0], nil
		default:
			return a, nil
		}
	}})
	errno := func(i int) *getset {
		return &getset{get: func(_ *Thread, self Value) (Value, error) {
			if a := exc(self).args.items; len(a) >= 2 {
				return a[i], nil
			}
			return None, nil
		}}
	}
	excClasses["OSError"].ns.set("errno", errno(0))
	excClasses["OSError"].ns.set("strerror", errno(1))
	groupMethods()
}

func newException(_ *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
	o := &Object{cls: cls, exc: &excInfo{args: &Tuple{append([]Value(nil), args...)}}}
	if cls.isSub(excClasses["BaseExceptionGroup"]) {
		return o, initGroup(o)
	}
	return o, nil
}

// newExc makes an exception of a builtin class.
func newExc(cls *Class, args ...Value) *Object {
	o := &Object{cls: cls, exc: &excInfo{args: &Tuple{args}}}
	if cls.isSub(excClasses["BaseExceptionGroup"]) {
		_ = initGroup(o)
	}
	return o
}

// raise makes the error for a builtin exception with a message.
func raise(class, format string, args ...any) error {
	return &Raise{newExc(excClasses[class], fmt.Sprintf(format, args...))}
}

// raised returns the Python exception of an error that code may catch.
func raised(err error) (*Object, bool) {
	if r, ok := errors.AsType[*Raise](err); ok {
		return r.exc, true
	}
	return nil, false
}

func isExc(err error, class string) bool {
	exc, ok := raised(err)
	return ok && exc.cls.isSub(excClasses[class])
}

// excStr is str(exc).
func excStr(th *Thread, exc *Object) (string, error) {
	if exc.exc.group != nil {
		n := len(exc.exc.group.items)
		s := ""
		if n != 1 {
			s = "s"
		}
		msg, _ := exc.exc.args.items[0].(string)
		return fmt.Sprintf("%s (%d sub-exception%s)", msg, n, s), nil
	}
	switch a := exc.exc.args.items; len(a) {
	case 0:
		return "", nil
	case 1:
		if exc.cls.isSub(excClasses["KeyError"]) {
			return th.repr(a[0])
		}
		return th.str(a[0])
	case 2:
		if exc.cls.isSub(excClasses["OSError"]) {
			x, err := th.str(a[0])
			if err != nil {
				return "", err
			}
			y, err := th.str(a[1])
			return fmt.Sprintf("[Errno %s] %s", x, y), err
		}
	}
	return th.repr(exc.exc.args)
}

func initGroup(o *Object) error {
	a := o.exc.args.items
	if len(a) != 2 {
		return raise("TypeError", "BaseExceptionGroup.__new__() takes exactly 2 arguments (%d given)", len(a))
	}
	if _, ok := a[0].(string); !ok {
		return raise("TypeError", "argument 1 must be str, not %s", classOf(a[0]).name)
	}
	var items []Value
	switch v := a[1].(type) {
	case *List:
		items = v.items
	case *Tuple:
		items = v.items
	default:
		return raise("TypeError", "second argument (exceptions) must be a sequence")
	}
	if len(items) == 0 {
		return raise("ValueError", "second argument (exceptions) must be a non-empty sequence")
	}
	plain := true
	for i, e := range items {
		x, ok := e.(*Object)
		if !ok || x.exc == nil {
			return raise("ValueError", "Item %d of second argument (exceptions) is not an exception", i)
		}
		plain = plain && x.cls.isSub(excClasses["Exception"])
	}
	if plain && o.cls == excClasses["BaseExceptionGroup"] {
		o.cls = excClasses["ExceptionGroup"]
	}
	if !plain && o.cls.isSub(excClasses["Exception"]) {
		return raise("TypeError", "Cannot nest BaseExceptions in an %s", o.cls.name)
	}
	o.exc.group = &Tuple{append([]Value(nil), items...)}
	return nil
}

// split divides a group into the leaves that match and the others; either may be nil.
func (th *Thread) split(g *Object, match func(*Object) (bool, error)) (yes, no *Object, err error) {
	if err := th.enter(); err != nil {
		return nil, nil, err
	}
	defer th.leave()
	ok, err := match(g)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		return g, nil, nil
	}
	if g.exc.group == nil {
		return nil, g, nil
	}
	var yeses, nos []Value
	for _, e := range g.exc.group.items {
		y, n, err := th.split(e.(*Object), match)
		if err != nil {
			return nil, nil, err
		}
		if y != nil {
			yeses = append(yeses, y)
		}
		if n != nil {
			nos = append(nos, n)
		}
	}
	if yes, err = th.derive(g, yeses); err != nil {
		return nil, nil, err
	}
	no, err = th.derive(g, nos)
	return yes, no, err
}

// derive makes a group like g with other members, nil without any.
func (th *Thread) derive(g *Object, members []Value) (*Object, error) {
	if len(members) == 0 {
		return nil, nil
	}
	cls := excClasses["BaseExceptionGroup"]
	var d *Object
	if fn, ok := g.cls.lookup("derive").(*Function); ok {
		v, err := th.call(fn, []Value{g, &List{members}}, nil)
		if err != nil {
			return nil, err
		}
		if d, ok = v.(*Object); !ok || d.exc == nil {
			return nil, raise("TypeError", "derive must return an instance of BaseExceptionGroup")
		}
	} else {
		d = newExc(cls, g.exc.args.items[0], &List{members})
	}
	d.exc.cause, d.exc.context, d.exc.suppress, d.exc.tb, d.exc.notes = g.exc.cause, g.exc.context, g.exc.suppress, g.exc.tb, g.exc.notes
	return d, nil
}

func orNone(o *Object) Value {
	if o == nil {
		return None
	}
	return o
}

func groupMethods() {
	c := excClasses["BaseExceptionGroup"]
	c.ns.set("exceptions", &getset{get: func(_ *Thread, self Value) (Value, error) { return self.(*Object).exc.group, nil }})
	c.ns.set("message", &getset{get: func(_ *Thread, self Value) (Value, error) { return self.(*Object).exc.args.items[0], nil }})
	matcher := func(th *Thread, v Value) func(*Object) (bool, error) {
		switch v.(type) {
		case *Class, *Tuple:
			return func(e *Object) (bool, error) { return th.isInstance(e, v) }
		}
		return func(e *Object) (bool, error) {
			r, err := th.call(v, []Value{e}, nil)
			if err != nil {
				return false, err
			}
			return th.truth(r)
		}
	}
	c.method("split", func(th *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) != 2 {
			return nil, raise("TypeError", "split() takes exactly one argument")
		}
		y, n, err := th.split(args[0].(*Object), matcher(th, args[1]))
		return &Tuple{[]Value{orNone(y), orNone(n)}}, err
	})
	c.method("subgroup", func(th *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) != 2 {
			return nil, raise("TypeError", "subgroup() takes exactly one argument")
		}
		y, _, err := th.split(args[0].(*Object), matcher(th, args[1]))
		return orNone(y), err
	})
	c.method("derive", func(th *Thread, args []Value, _ []KW) (Value, error) {
		if len(args) != 2 {
			return nil, raise("TypeError", "derive() takes exactly one argument")
		}
		return newException(th, excClasses["BaseExceptionGroup"], []Value{args[0].(*Object).exc.args.items[0], args[1]}, nil)
	})
}

// excName is how a traceback names the class.
func excName(c *Class) string {
	if c.module == "builtins" || c.module == "__main__" {
		return c.qual
	}
	return c.module + "." + c.qual
}

// excLine is the last line of a traceback.
func excLine(exc *Object) string {
	th := &Thread{in: quiet}
	s, err := th.str(exc)
	if err != nil {
		s = "<exception str() failed>"
	}
	if s == "" {
		return excName(exc.cls)
	}
	return excName(exc.cls) + ": " + s
}

// formatTraceback is what Python prints for an exception that nobody caught.
func (in *Interp) formatTraceback(exc *Object) string {
	var b strings.Builder
	f := &tbFormatter{in: in, seen: map[*Object]bool{}}
	f.chain(&b, exc, "", false)
	return b.String()
}

type tbFormatter struct {
	in    *Interp
	seen  map[*Object]bool
	depth int
}

func (f *tbFormatter) chain(b *strings.Builder, exc *Object, indent string, inGroup bool) {
	f.seen[exc] = true
	if f.depth++; f.depth > 50 {
		return
	}
	defer func() { f.depth-- }()
	e := exc.exc
	if cause, ok := e.cause.(*Object); ok && !f.seen[cause] {
		f.chain(b, cause, indent, inGroup)
		fmt.Fprintf(b, "%s\n%sThe above exception was the direct cause of the following exception:\n%s\n", indentOf(indent, inGroup), indentOf(indent, inGroup), indentOf(indent, inGroup))
	} else if e.context != nil && !e.suppress && !f.seen[e.context] {
		f.chain(b, e.context, indent, inGroup)
		fmt.Fprintf(b, "%s\n%sDuring handling of the above exception, another exception occurred:\n%s\n", indentOf(indent, inGroup), indentOf(indent, inGroup), indentOf(indent, inGroup))
	}
	pre := indentOf(indent, inGroup)
	if e.group != nil {
		first := indent
		if !inGroup {
			pre = indent + "  | "
			first = indent + "  + "
		} else {
			first = pre
		}
		if len(e.tb) > 0 {
			fmt.Fprintf(b, "%sException Group Traceback (most recent call last):\n", first)
			f.lines(b, e.tb, pre)
		}
		f.last(b, exc, pre)
		bar := strings.TrimSuffix(pre, "| ")
		for i, x := range e.group.items {
			if i == 15 {
				break
			}
			plus := ""
			if i == 0 {
				plus = "+"
			} else {
				plus = " "
			}
			_ = plus
			if i == 0 {
				fmt.Fprintf(b, "%s+-+---------------- %d ----------------\n", bar, i+1)
			} else {
				fmt.Fprintf(b, "%s  +---------------- %d ----------------\n", bar, i+1)
			}
			f.chain(b, x.(*Object), bar+"  ", true)
		}
		last := e.group.items[min(len(e.group.items), 15)-1].(*Object)
		if last.exc.group == nil {
			fmt.Fprintf(b, "%s  +------------------------------------\n", bar)
		}
		return
	}
	if len(e.tb) > 0 {
		fmt.Fprintf(b, "%sTraceback (most recent call last):\n", pre)
		f.lines(b, e.tb, pre)
	}
	f.last(b, exc, pre)
}

func indentOf(indent string, inGroup bool) string {
	if inGroup {
		return indent + "| "
	}
	return indent
}

func (f *tbFormatter) last(b *strings.Builder, exc *Object, pre string) {
	for line := range strings.SplitSeq(excLine(exc), "\n") {
		fmt.Fprintf(b, "%s%s\n", pre, line)
	}
	if exc.exc.notes != nil {
		for _, n := range exc.exc.notes.items {
			s, _ := n.(string)
			for line := range strings.SplitSeq(s, "\n") {
				fmt.Fprintf(b, "%s%s\n", pre, line)
			}
		}
	}
}

// lines prints the entries of a traceback, outermost first. A line that comes more than three times
// is counted.
func (f *tbFormatter) lines(b *strings.Builder, tb []tbEntry, pre string) {
	same := 0
	// Frames of modules say nothing: CPython's have other lines.
	tb = slices.DeleteFunc(slices.Clone(tb), func(t tbEntry) bool { return strings.HasPrefix(t.code.file, "<") && t.code.file != f.in.file })
	for i := len(tb) - 1; i >= 0; i-- {
		t := tb[i]
		if i < len(tb)-1 && tb[i+1].code == t.code && tb[i+1].pos.Line == t.pos.Line {
			same++
		} else {
			f.repeated(b, same, pre)
			same = 0
		}
		if same >= 3 {
			continue
		}
		fmt.Fprintf(b, "%s  File \"%s\", line %d, in %s\n", pre, t.code.file, t.pos.Line, t.code.name)
		line, carets := f.in.sourceLine(t)
		if line != "" {
			fmt.Fprintf(b, "%s    %s\n", pre, line)
			if carets != "" {
				fmt.Fprintf(b, "%s    %s\n", pre, carets)
			}
		}
	}
	f.repeated(b, same, pre)
}

func (f *tbFormatter) repeated(b *strings.Builder, same int, pre string) {
	if more := same - 2; more > 0 {
		s := "s"
		if more == 1 {
			s = ""
		}
		fmt.Fprintf(b, "%s  [Previous line repeated %d more time%s]\n", pre, more, s)
	}
}
