package vm

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// Limits bound what a program may use. A field that is zero means the default.
type Limits struct {
	Steps     int // calls, iterations and jumps back
	Bytes     int // of everything that it makes in its life
	Recursion int // nested calls
}

// Defaults are the limits of a program that runs by itself.
var Defaults = Limits{Steps: 1 << 62, Bytes: 4 << 30, Recursion: 1000}

// Config says how a program runs.
type Config struct {
	File    string // its name in tracebacks
	Stdout  io.Writer
	Stderr  io.Writer
	Stdin   io.Reader
	Virtual bool // time passes only where nothing is to be done
	Limits  Limits
	Hooks   Hooks
	Args    []string
	Seed    uint64
	Context context.Context
}

// Hooks is told what a program does; a nil one costs nothing.
type Hooks interface{ Event(Event) }

// An Event is one thing that happened.
type Event struct {
	Kind string // line, task, step, wait, done, output, clock
	Time time.Duration
	Task string // empty outside tasks
	Line int    // of the program, zero if that says nothing
	Text string
}

// An Interp is one program with its modules and its clock.
type Interp struct {
	file    string
	lines   []string
	cfg     Config
	limits  Limits
	hooks   Hooks
	steps   int
	bytes   int
	fatal   error
	exiting *Object // SystemExit or KeyboardInterrupt on its way out of the loop
	modules map[string]*Module
	main    *Module

	asyncGens  []*Gen
	coroutines []*Gen
	pendings   []*pending
	reprs      []Value
	stop       Value
	ids        map[any]int
	sources    map[string][]string // of modules that are written in Python

	loop  *loopObj // the current one
	names int      // of tasks
	base  time.Duration
	begun time.Time
	rng   *rand.Rand
	mt    *mersenne
	loops []*loopObj
	all   []*Object // tasks that are not done, in order
	col   int       // of the output, to know whether a line is open
}

// quiet renders values where there is no program.
var quiet = &Interp{limits: Limits{1 << 20, 1 << 24, 100}}

// New makes a program's interpreter.
func New(cfg Config) *Interp {
	in := &Interp{file: cfg.File, cfg: cfg, limits: cfg.Limits, hooks: cfg.Hooks, modules: map[string]*Module{}, ids: map[any]int{},
		sources: map[string][]string{}, begun: time.Now()}
	if in.limits.Steps == 0 {
		in.limits.Steps = Defaults.Steps
	}
	if in.limits.Bytes == 0 {
		in.limits.Bytes = Defaults.Bytes
	}
	if in.limits.Recursion == 0 {
		in.limits.Recursion = Defaults.Recursion
	}
	if in.cfg.Context == nil {
		in.cfg.Context = context.Background()
	}
	in.rng = rand.New(rand.NewPCG(cfg.Seed, 0))
	in.main = &Module{name: "__main__", ns: newNS()}
	in.main.ns.set("__name__", "__main__")
	in.main.ns.set("__file__", cfg.File)
	in.main.ns.set("__doc__", None)
	in.modules["__main__"] = in.main
	return in
}

// tick counts a step, and fails once the program has had its share or is ending.
func (in *Interp) tick() error {
	if in.fatal != nil {
		return in.fatal
	}
	if in.steps++; in.steps > in.limits.Steps {
		return in.die(&Fatal{fmt.Sprintf("the program was stopped after %d steps", in.limits.Steps), StatusLimit})
	}
	if in.steps&0xfff == 0 {
		if err := in.cfg.Context.Err(); err != nil {
			return in.die(&Fatal{"interrupted", 130})
		}
	}
	return nil
}

func (in *Interp) die(err error) error {
	if in.fatal == nil {
		in.fatal = err
	}
	return in.fatal
}

// alloc counts memory that the program asks for; what is freed again counts too.
func (th *Thread) alloc(n int) error {
	in := th.in
	if n < 0 || in.bytes > in.limits.Bytes-n {
		return in.die(&Fatal{fmt.Sprintf("the program was stopped: it has asked for more than %d MB of memory", in.limits.Bytes>>20), StatusLimit})
	}
	in.bytes += n
	return nil
}

func (in *Interp) idOf(v Value) int {
	switch v.(type) {
	case *List, *Dict, *Set, *Tuple:
	}
	if in.ids == nil {
		return 1
	}
	id, ok := in.ids[v]
	if !ok {
		id = 0x7f0000000000 + len(in.ids)*0x40
		in.ids[v] = id
	}
	return id
}

func (in *Interp) address(v Value) string { return fmt.Sprintf("0x%x", in.idOf(v)) }

// write prints on standard output.
func (in *Interp) write(th *Thread, s string) error {
	if s == "" {
		return nil
	}
	in.col = 0
	if !strings.HasSuffix(s, "\n") {
		in.col = 1
	}
	if _, err := io.WriteString(in.cfg.Stdout, s); err != nil {
		return in.die(&Fatal{err.Error(), StatusError})
	}
	in.event(th, "output", 0, s)
	return nil
}

func (in *Interp) complain(s string) { _, _ = io.WriteString(in.cfg.Stderr, s) }

func (in *Interp) event(th *Thread, kind string, line int, text string) {
	if in.hooks == nil {
		return
	}
	e := Event{Kind: kind, Time: in.now(th), Line: line, Text: text}
	if th != nil && th.task != nil {
		e.Task = th.task.native.(*future).name
		if line == 0 {
			e.Line = th.line()
		}
	}
	in.hooks.Event(e)
}

func (in *Interp) lineEvent(th *Thread, line int) { in.event(th, "line", line, "") }

// sourceLine returns the text of a traceback's line, with marks under the part that failed.
func (in *Interp) sourceLine(t tbEntry) (line, carets string) {
	lines := in.lines
	if t.code.file != in.file {
		lines = in.sources[t.code.file]
	}
	n := int(t.pos.Line)
	if n < 1 || n > len(lines) {
		return "", ""
	}
	raw := strings.TrimRight(lines[n-1], "\r\n")
	line = strings.TrimSpace(raw)
	from, to := int(t.pos.Col), int(t.pos.EndCol)
	if t.pos.EndLine != t.pos.Line {
		to = len(raw)
	}
	if from < 0 || to > len(raw) || from >= to {
		return line, ""
	}
	indent := len(raw) - len(strings.TrimLeft(raw, " \t\f"))
	if from <= indent && strings.TrimSpace(raw[to:]) == "" || from < indent {
		return line, "" // all of it
	}
	blank := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if r >= 0x1100 {
				b.WriteByte(' ')
			}
			b.WriteByte(' ')
		}
		return b.String()
	}
	segment := raw[from:to]
	marks := []byte(strings.Repeat("^", len(blank(segment))))
	if t.pos.EndLine == t.pos.Line {
		if lo, hi, ok := anchors(segment); ok {
			a, b := len(blank(segment[:lo])), len(blank(segment[:hi]))
			for i := range marks {
				if i < a || i >= b {
					marks[i] = '~'
				}
			}
		}
	}
	return line, blank(raw[indent:from]) + string(marks)
}

// anchors finds the part of an expression that fails: the operator of a binary operation, the
// parentheses of a call, the brackets of a subscript.
func anchors(s string) (lo, hi int, ok bool) {
	body, err := syntax.Parse(s + "\n")
	if err != nil || len(body) != 1 {
		return 0, 0, false
	}
	e, isExpr := body[0].(*syntax.ExprStmt)
	if !isExpr {
		return 0, 0, false
	}
	switch x := e.X.(type) {
	case *syntax.Binary:
		from := int(x.L.Span().EndCol)
		for from < len(s) && (s[from] == ' ' || s[from] == ')') {
			from++
		}
		if i := strings.Index(s[from:], x.Op); i >= 0 {
			return from + i, from + i + len(x.Op), true
		}
	case *syntax.Call:
		return int(x.Fn.Span().EndCol), len(s), true
	case *syntax.Subscript:
		return int(x.X.Span().EndCol), len(s), true
	}
	return 0, 0, false
}

// unraisable reports an error that nobody can be given.
func (in *Interp) unraisable(th *Thread, err error) {
	if exc, ok := raised(err); ok {
		in.complain("Exception ignored in:\n" + in.formatTraceback(exc))
		return
	}
	in.die(err)
}

// dropped is told of the value of an expression that is a statement.
func (th *Thread) dropped(v Value) {
	switch v := v.(type) {
	case *Gen:
		if v.kind == isCoroutine && !v.awaited {
			v.awaited = true
			th.in.neverAwaited(v.qual, v.made.Line, v.madeIn)
		}
	case *pending:
		if v.state == pendingNew && !v.iter && !v.owned {
			v.state = pendingDone
			th.in.neverAwaited(v.name, v.made.Line, v.code)
		}
	case *Object:
		if f, ok := v.native.(*future); ok {
			f.dropped = true
		}
	}
}

// neverAwaited warns of a coroutine that nobody has awaited.
func (in *Interp) neverAwaited(name string, line int32, code *Code) {
	file := in.file
	text := ""
	if code != nil {
		file = code.file
		if code.file == in.file && line >= 1 && int(line) <= len(in.lines) {
			text = "  " + strings.TrimSpace(in.lines[line-1]) + "\n"
		}
	}
	in.complain(fmt.Sprintf("%s:%d: RuntimeWarning: coroutine '%s' was never awaited\n%sRuntimeWarning: Enable tracemalloc to get the object allocation traceback\n", file, line, name, text))
}

// leftovers warns, at the end, of all coroutines that were never awaited.
func (in *Interp) leftovers() {
	for _, g := range in.coroutines {
		if !g.awaited {
			g.awaited = true
			in.neverAwaited(g.qual, g.made.Line, g.madeIn)
		}
	}
	for _, p := range in.pendings {
		if p.state == pendingNew && !p.owned {
			p.state = pendingDone
			in.neverAwaited(p.name, p.made.Line, p.code)
		}
	}
	in.coroutines, in.pendings = nil, nil
}

// prune forgets coroutines that have been awaited. It is called now and then.
func (in *Interp) prune() {
	if len(in.coroutines) > 4096 {
		kept := in.coroutines[:0]
		for _, g := range in.coroutines {
			if !g.awaited {
				kept = append(kept, g)
			}
		}
		clear(in.coroutines[len(kept):])
		in.coroutines = kept
	}
	if len(in.pendings) > 4096 {
		kept := in.pendings[:0]
		for _, p := range in.pendings {
			if p.state == pendingNew && !p.owned {
				kept = append(kept, p)
			}
		}
		clear(in.pendings[len(kept):])
		in.pendings = kept
	}
	if len(in.asyncGens) > 4096 {
		kept := in.asyncGens[:0]
		for _, g := range in.asyncGens {
			if g.frame != nil {
				kept = append(kept, g)
			}
		}
		clear(in.asyncGens[len(kept):])
		in.asyncGens = kept
	}
}

// Run runs a program and returns its exit status.
func (in *Interp) Run(src string) int {
	in.lines = strings.Split(src, "\n")
	body, err := syntax.Parse(src)
	if err != nil {
		return in.report(nil, err)
	}
	code, err := compile(body, in.file, &compiler{lines: in.hooks != nil})
	if err != nil {
		return in.report(nil, err)
	}
	th := &Thread{in: in, ctx: in.cfg.Context}
	f := newFrame(code, in.main.ns)
	f.module = in.main
	if code.doc != nil {
		in.main.ns.set("__doc__", code.doc)
	}
	_, _, err = th.run(f, nil)
	return in.finish(th, err)
}

// finish ends a program that err, if any, has stopped.
func (in *Interp) finish(th *Thread, err error) int {
	if in.fatal != nil {
		err = in.fatal
	}
	status := 0
	if err != nil {
		status = in.report(th, err)
	}
	in.end(th)
	if in.fatal != nil && err != in.fatal && status == 0 {
		status = in.report(th, in.fatal)
	}
	if in.fatal == nil {
		in.leftovers()
	}
	return status
}

// report prints what ended the program, and returns the exit status.
func (in *Interp) report(th *Thread, err error) int {
	switch e := err.(type) {
	case *syntax.Error:
		in.complain(in.syntaxError(e))
		return StatusError
	case *syntax.Unsupported:
		in.complain(e.Error() + "\n")
		return StatusOutside
	case *Fatal:
		in.complain(in.located(e) + "\n")
		return e.Status
	}
	exc, ok := raised(err)
	if !ok {
		in.complain("lab: " + err.Error() + "\n")
		return StatusError
	}
	if exc.cls.isSub(excClasses["SystemExit"]) {
		switch a := exc.exc.args.items; {
		case len(a) == 0 || a[0] == None:
			return 0
		default:
			if n, _, ok := integer(a[0]); ok {
				return n & 0xff
			}
			t := &Thread{in: in}
			s, _ := t.str(a[0])
			in.complain(s + "\n")
			return 1
		}
	}
	in.complain(in.formatTraceback(exc))
	if exc.cls.isSub(excClasses["KeyboardInterrupt"]) {
		return 130
	}
	return StatusError
}

func (in *Interp) located(f *Fatal) string {
	if rest, ok := strings.CutPrefix(f.Msg, "outside the subset: line "); ok {
		return fmt.Sprintf("%s: outside the subset: line %s", in.file, rest)
	}
	return f.Msg
}

func (in *Interp) syntaxError(e *syntax.Error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  File \"%s\", line %d\n", in.file, e.Pos.Line)
	if n := int(e.Pos.Line); n >= 1 && n <= len(in.lines) {
		raw := strings.TrimRight(in.lines[n-1], "\r\n")
		line := strings.TrimLeft(raw, " \t\f")
		fmt.Fprintf(&b, "    %s\n", line)
		cut := len(raw) - len(line)
		if col := int(e.Pos.Col) - cut; col >= 0 && col <= len(line) {
			n := 1
			if e.Pos.EndLine == e.Pos.Line {
				n = max(1, int(e.Pos.EndCol-e.Pos.Col))
			}
			fmt.Fprintf(&b, "    %s%s\n", strings.Repeat(" ", len([]rune(line[:col]))), strings.Repeat("^", n))
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", e.Kind, e.Msg)
	return b.String()
}
