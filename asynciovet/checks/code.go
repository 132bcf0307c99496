package checks

import (
	"go/ast"
	"go/types"
	"reflect"
	"slices"
	"strings"
	"sync"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/types/typeutil"
)

// Code finds where the functions of a package run and what their calls do. It reports nothing; the
// checks use its result.
var Code = &analysis.Analyzer{
	Name:       "asynciocode",
	Doc:        "find what runs on an asyncio loop\n\nThe other checks use this. It reports nothing.",
	URL:        documentation,
	Run:        func(pass *analysis.Pass) (any, error) { return newCode(pass), nil },
	Requires:   []*analysis.Analyzer{allowances},
	FactTypes:  []analysis.Fact{new(Behaviour)},
	ResultType: reflect.TypeFor[*code](),
}

// A code describes a package:
//
//	effect 1: A function goes somewhere as a value: to the library, which runs it on a loop or on a
//	   goroutine; to a go statement; to a parameter of another function, which does one of these
//	   things with it or calls it.
//	effect 2: A literal that is called where it stands, or by a function that it is given to before
//	   that returns, runs where the function runs that it stands in.
//	effect 3: A function that suspends a task runs on a loop, wherever else it is called: without a
//	   task it would fail.
//	effect 4: A call does what the called function's own calls do. This goes up through calls and
//	   packages until a function that runs on a loop: that one can be mended, or is reported, so it
//	   is no news for its callers that it blocks.
//	effect 5: A call that is allowed by a comment does nothing for the check that is named.
type code struct {
	pass    *analysis.Pass
	allowed *allowed
	inside  bool // the library itself

	funcs    []*function
	byObj    map[*types.Func]*function
	byLit    map[*ast.FuncLit]*function
	vars     map[*types.Var]*variable
	foreigns map[*types.Func]*foreign
	order    []*foreign
	facts    map[*types.Func]*Behaviour

	asking sync.Mutex
}

// codeOf returns what the pass's package does, for a check, until that calls done. The checks of a
// package run at the same time, and a code remembers what it has found out for one of them.
func codeOf(pass *analysis.Pass) *code {
	c := pass.ResultOf[Code].(*code)
	c.asking.Lock()
	return c
}

func (c *code) done() { c.asking.Unlock() }

func newCode(pass *analysis.Pass) *code {
	c := &code{
		pass:     pass,
		allowed:  pass.ResultOf[allowances].(*allowed),
		inside:   isInside(pass.Pkg),
		byObj:    make(map[*types.Func]*function),
		byLit:    make(map[*ast.FuncLit]*function),
		vars:     make(map[*types.Var]*variable),
		foreigns: make(map[*types.Func]*foreign),
		facts:    make(map[*types.Func]*Behaviour),
	}
	if isStandard(pass.Pkg) {
		return c // the tables say what there is to know
	}
	w := &walker{c: c}
	for _, file := range pass.Files {
		w.declare(file)
	}
	for _, file := range pass.Files {
		w.walkFile(file)
	}
	c.placeValues()
	c.placeFunctions()
	c.propagate(awaits, needTask, needLoop, acts)
	c.placeSuspending()
	c.propagate(blocks, runs, draws)
	c.exportFacts()
	return c
}

// variable returns the variable for obj, if that is a parameter or local variable of a function
// type.
func (c *code) variable(obj *types.Var) *variable {
	if v, ok := c.vars[obj]; ok {
		return v
	}
	var v *variable
	_, isFunc := obj.Type().Underlying().(*types.Signature)
	if isVariadic(obj) {
		isFunc = true
	}
	if isFunc && !obj.IsField() && obj.Pkg() == c.pass.Pkg && obj.Parent() != c.pass.Pkg.Scope() {
		v = &variable{obj: obj}
	}
	c.vars[obj] = v
	return v
}

// isVariadic reports whether obj is a slice of functions, which a variadic parameter is.
func isVariadic(obj *types.Var) bool {
	s, ok := obj.Type().(*types.Slice)
	if !ok {
		return false
	}
	_, isFunc := s.Elem().Underlying().(*types.Signature)
	return isFunc
}

func (c *code) foreign(obj *types.Func) *foreign {
	f := c.foreigns[obj]
	if f == nil {
		f = &foreign{obj: obj}
		c.foreigns[obj] = f
		c.order = append(c.order, f)
	}
	return f
}

// fact returns what is known about a function of another package, nil if that is nothing.
func (c *code) fact(fn *types.Func) *Behaviour {
	if fn.Pkg() == nil || isStandard(fn.Pkg()) || isLibrary(fn.Pkg()) {
		return nil
	}
	b, ok := c.facts[fn]
	if !ok {
		b = new(Behaviour)
		if !c.pass.ImportObjectFact(fn, b) {
			b = nil
		}
		c.facts[fn] = b
	}
	return b
}

// taker says where a function runs that is given to fn, of another package, for a parameter.
func (c *code) taker(fn *types.Func, index int) place {
	if fn.Pkg() == nil {
		return elsewhere
	}
	if f := faceOf(fn); f != nil {
		return f.params[fn.Signature().Params().At(min(index, fn.Signature().Params().Len()-1)).Name()]
	}
	if isStandard(fn.Pkg()) {
		return taker(fn)
	}
	if b := c.fact(fn); b != nil && index < len(b.Params) {
		return place(b.Params[index])
	}
	return elsewhere
}

func (v *value) put(at place, why string) bool {
	at &^= inCaller
	if v.place&at == at {
		return false
	}
	if v.why == nil {
		v.why = make(map[place]string)
	}
	for _, p := range []place{onLoop, onGoroutine, onTest} {
		if at&p != 0 && v.why[p] == "" {
			v.why[p] = why
		}
	}
	v.place |= at
	return true
}

// placeValues finds where functions run that go somewhere as values (effect 1). A use adds a call
// to the function in which it stands if the taker calls the value before it returns.
func (c *code) placeValues() {
	for _, f := range c.funcs {
		for _, call := range f.calls {
			if call.lit != nil && call.mode == byGo {
				call.lit.put(onGoroutine, "go statement")
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for _, f := range slices.Clone(c.funcs) {
			changed = c.follow(&f.value, f, nil) || changed
		}
		for _, f := range c.order {
			changed = c.follow(&f.value, nil, f.obj) || changed
		}
		for _, v := range c.vars {
			if v == nil {
				continue
			}
			changed = c.follow(&v.value, nil, nil) || changed
			changed = c.summarize(v) || changed
		}
	}
}

// follow looks at the uses of a value. f and obj say which function it is, if it is one.
func (c *code) follow(v *value, f *function, obj *types.Func) bool {
	changed := false
	for i := range v.uses {
		u := &v.uses[i]
		at, why := c.placeOf(u)
		if u.held != nil && u.held.owner == nil {
			for _, p := range []place{onLoop, onGoroutine, onTest} {
				changed = v.put(at&p, u.held.why[p]) || changed
			}
		}
		changed = v.put(at, why) || changed
		if at&inCaller != 0 && u.caller == nil && (f != nil || obj != nil) {
			u.caller = &call{expr: u.expr, in: u.in, callee: obj}
			if f != nil && f.obj != nil {
				u.caller.callee = f.obj
			} else if f != nil {
				u.caller.lit = f
			}
			u.in.calls = append(u.in.calls, u.caller)
			changed = true
		}
	}
	return changed
}

// placeOf says where a value runs because of a use, and why.
func (c *code) placeOf(u *use) (place, string) {
	switch {
	case u.held != nil && u.held.owner != nil && u.held.owner.obj != nil: // given for a parameter
		return u.held.summed, "it is given to " + u.held.owner.name()
	case u.held != nil && u.held.owner != nil:
		return u.held.summed, "it is given to a function literal"
	case u.held != nil:
		return u.held.place, ""
	case u.taker != nil:
		return c.taker(u.taker, u.index), "it is given to " + nameOf(u.taker)
	}
	return u.at, u.why
}

// summarize finds out what becomes of functions that are given for a parameter, or assigned to a
// variable, and called.
func (c *code) summarize(v *variable) bool {
	sum := v.place
	for _, alias := range v.aliases(nil) {
		sum |= alias.place
		for _, call := range alias.calls {
			switch {
			case call.mode == byGo:
				sum |= onGoroutine
			case v.owner != nil:
				sum |= c.reaches(call.in, v.owner, make(map[*function]bool))
			}
		}
		for _, u := range alias.uses { // given on
			if at, _ := c.placeOf(&u); at&inCaller != 0 && v.owner != nil {
				sum |= c.reaches(u.in, v.owner, make(map[*function]bool))
			}
		}
	}
	if v.owner == nil {
		return v.put(sum, "go statement")
	}
	changed := sum&^v.summed != 0
	v.summed |= sum
	v.put(sum, "go statement")
	return changed
}

// aliases returns v and the variables that it is assigned to.
func (v *variable) aliases(all []*variable) []*variable {
	if slices.Contains(all, v) {
		return all
	}
	all = append(all, v)
	for _, u := range v.uses {
		if u.held != nil && u.held.owner == nil {
			all = u.held.aliases(all)
		}
	}
	return all
}

// reaches says where f runs, seen from owner, which it is or in which it is a literal.
func (c *code) reaches(f, owner *function, seen map[*function]bool) place {
	if f == owner {
		return inCaller
	}
	if f == nil || seen[f] {
		return elsewhere
	}
	seen[f] = true
	at := f.place
	for _, other := range c.funcs {
		for _, call := range other.calls {
			if call.mode != byGo && slices.Contains(c.targets(call), f) {
				at |= c.reaches(other, owner, seen)
			}
		}
	}
	return at
}

// targets returns the functions of this package that a call may call.
func (c *code) targets(call *call) []*function {
	switch {
	case call.lit != nil:
		return []*function{call.lit}
	case call.callee != nil:
		if f := c.byObj[call.callee]; f != nil {
			return []*function{f}
		}
	case call.holder != nil && call.holder.owner == nil:
		return call.holder.values
	}
	return nil
}

// placeFunctions says where functions run (effect 2).
func (c *code) placeFunctions() {
	for _, f := range c.funcs {
		f.where, f.given = f.place, f.place&onLoop != 0
		if f.obj != nil {
			// The goroutine that calls a declared function is reported, not the function.
			f.where &= onLoop
		}
	}
	c.inherit()
}

func (c *code) inherit() {
	for changed := true; changed; {
		changed = false
		for _, f := range c.funcs {
			for _, call := range f.calls {
				if call.mode == byGo {
					continue
				}
				for _, to := range c.targets(call) {
					if to.lit != nil && f.where&^to.where != 0 {
						to.where |= f.where
						to.put(f.where, f.reason())
						changed = true
					}
				}
			}
		}
	}
}

// placeSuspending finds further functions that run on a loop (effect 3).
func (c *code) placeSuspending() {
	for _, f := range c.funcs {
		if by := f.effects[needTask]; by != nil && f.where == elsewhere && !c.isEntry(f) {
			f.where |= onLoop
			f.put(onLoop, "it calls "+by[0])
		}
	}
	c.inherit()
}

// isEntry reports whether f is called by no task: the program's main and init, and tests. If they
// await, they want to see what happens without a loop.
func (c *code) isEntry(f *function) bool {
	if f.decl == nil || f.decl.Recv != nil {
		return false
	}
	name := f.obj.Name()
	if name == "main" || name == "init" {
		return true
	}
	if !c.isTest(f) {
		return false
	}
	for _, prefix := range []string{"Test", "Benchmark", "Fuzz", "Example"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// isTest reports whether f is in a file of a test.
func (c *code) isTest(f *function) bool {
	return f.file != nil && strings.HasSuffix(c.pass.Fset.File(f.file.Pos()).Name(), "_test.go")
}

// expects reports whether the declaration with f is part of a test and names one of these errors of
// the library. It then makes the mistake on purpose, to see it refused.
func (c *code) expects(f *function, errs ...string) bool {
	for f != nil && f.parent != nil {
		f = f.parent
	}
	if f == nil || f.root == nil || !c.isTest(f) {
		return false
	}
	if f.named == nil {
		f.named = make(map[string]bool)
		ast.Inspect(f.root, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if v, ok := c.pass.TypesInfo.Uses[id].(*types.Var); ok && isLibrary(v.Pkg()) {
					f.named[v.Name()] = true
				}
			}
			return true
		})
	}
	return slices.ContainsFunc(errs, func(name string) bool { return f.named[name] })
}

// reason says why f is taken to run where it does.
func (f *function) reason() string {
	for _, p := range []place{onLoop, onGoroutine, onTest} {
		if why := f.why[p]; f.where&p != 0 && why != "" {
			return why
		}
	}
	return ""
}

// propagate finds the given effects of all functions (effect 4).
func (c *code) propagate(which ...effect) {
	for changed := true; changed; {
		changed = false
		for _, f := range c.funcs {
			for _, e := range which {
				if f.effects[e] != nil || f.asks && (e == needTask || e == needLoop || e == blocks) {
					continue
				}
				for _, call := range f.calls {
					if found := c.effect(call, e); found != nil {
						f.effects[e] = found
						changed = true
						break
					}
				}
			}
		}
	}
}

// effect returns by which chain of calls a call has an effect, nil if it has none.
func (c *code) effect(call *call, e effect) chain {
	if call.mode == byGo {
		return nil
	}
	found := c.ownEffect(call, e)
	if found == nil {
		return nil
	}
	if check := checkOf[e]; check != "" && c.allowed.allow(check, call.expr.Pos()) {
		return nil
	}
	return found
}

// checkOf has the checks by which a call can be allowed to have an effect.
var checkOf = [effects]string{needTask: "goroutine", needLoop: "goroutine", blocks: "blocking", runs: "nestedrun", draws: "mathrand"}

func (c *code) ownEffect(call *call, e effect) chain {
	if f := faceOf(call.callee); f != nil {
		name := nameOf(call.callee)
		if f.has(e, name) && !(e == needTask && c.hasNoLoop(call)) {
			return chain{name}
		}
		return nil
	}
	if targets := c.targets(call); targets != nil {
		for _, f := range targets {
			by := c.upward(f, e)
			switch {
			case by == nil:
			case f.obj == nil:
				return by
			default:
				return by.by(f.name())
			}
		}
		return nil
	}
	if call.coro && (e == awaits || e == needTask || e == needLoop) {
		return chain{"a Coroutine"}
	}
	if call.callee == nil || call.callee.Pkg() == nil {
		return nil
	}
	name := nameOf(call.callee)
	switch {
	case e == blocks && c.blocksItself(call), e == draws && drawsRandom(call.callee):
		return chain{c.nameAt(call)}
	case isStandard(call.callee.Pkg()):
		return nil
	}
	if b := c.fact(call.callee); b != nil && b.Effects[e] != nil {
		if b.Module != c.module() && (e == draws || e == blocks && isBrief(b.Effects[e])) {
			return nil
		}
		return chain(b.Effects[e]).by(name)
	}
	return nil
}

// isBrief reports whether a function of another module that blocks so seldom does so for long. A
// method such as Close waits for its own goroutines, which it has told to end.
func isBrief(c chain) bool {
	switch c.last() {
	case "sync.WaitGroup.Wait", "sync.Cond.Wait":
		return true
	}
	return false
}

// nameAt returns the name of the function that is called, with the type of the receiver as the
// program knows it if the method is promoted from one that is not exported.
func (c *code) nameAt(call *call) string {
	if recv := receiverType(call.callee); recv != nil && !recv.Exported() && call.recv != nil {
		t := c.pass.TypesInfo.TypeOf(call.recv)
		if p, ok := types.Unalias(t).(*types.Pointer); ok {
			t = p.Elem()
		}
		if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() != nil {
			return named.Obj().Pkg().Name() + "." + named.Obj().Name() + "." + call.callee.Name()
		}
	}
	return nameOf(call.callee)
}

// hasNoLoop reports whether a call is given a context that leads to no loop.
func (c *code) hasNoLoop(call *call) bool {
	if len(call.args) == 0 {
		return false
	}
	made, ok := ast.Unparen(call.args[0]).(*ast.CallExpr)
	if !ok {
		return false
	}
	fn := typeutil.StaticCallee(c.pass.TypesInfo, made)
	if fn == nil || fn.Pkg() == nil {
		return false
	}
	switch keyOf(fn) {
	case "context.Background", "context.TODO", "testing.common.Context":
		return true
	}
	return false
}

// upward returns the effect of f as its callers see it (effect 4).
func (c *code) upward(f *function, e effect) chain {
	switch e {
	case blocks, runs, draws:
		if f.where&onLoop != 0 {
			return nil
		}
	}
	return f.effects[e]
}

// has reports whether a call of a function of the library has an effect.
func (f *face) has(e effect, name string) bool {
	switch e {
	case awaits:
		return f.suspends
	case needTask:
		return f.who == task
	case needLoop:
		return f.who == task || f.who == loop
	case acts:
		return f.acts
	case blocks:
		return f.who == outside && strings.HasSuffix(name, "ConcurrentFuture.Result")
	case runs:
		return f.who == outside && !strings.HasSuffix(name, "ConcurrentFuture.Result")
	}
	return false
}

func (c *code) module() string {
	if c.pass.Module == nil {
		return ""
	}
	return c.pass.Module.Path
}

func (c *code) exportFacts() {
	if isLibrary(c.pass.Pkg) {
		return // library.txt says it
	}
	for _, f := range c.funcs {
		if f.obj == nil || !f.obj.Exported() {
			continue
		}
		b := &Behaviour{Module: c.module()}
		for e := range effects {
			b.Effects[e] = c.upward(f, e)
		}
		for p := range f.sig.Params().Variables() {
			var sum place
			if v := c.variable(p); v != nil {
				sum = v.summed
			}
			b.Params = append(b.Params, uint8(sum))
		}
		if !b.isEmpty() {
			c.pass.ExportObjectFact(f.obj, b)
		}
	}
}
