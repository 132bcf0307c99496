package checks

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ast/astutil"
	"golang.org/x/tools/go/types/typeutil"
)

// A function is one that the package declares or writes as a literal.
type function struct {
	value
	decl   *ast.FuncDecl
	lit    *ast.FuncLit
	obj    *types.Func // nil for a literal
	sig    *types.Signature
	body   *ast.BlockStmt
	file   *ast.File
	parent *function       // that a literal is written in
	root   ast.Node        // the declaration, of one that is not a literal
	named  map[string]bool // the variables of the library that root names, if somebody has asked

	calls   []*call
	ranges  []*ast.RangeStmt
	selects []*ast.SelectStmt
	recvs   []*ast.UnaryExpr // receive operations that are not in a select
	asks    bool             // whether there is a running loop

	where   place
	given   bool // to something that runs it on a loop
	effects [effects]chain
}

// name returns the name of the function, for people.
func (f *function) name() string {
	if f.obj != nil {
		return nameOf(f.obj)
	}
	return "a function literal"
}

// node returns the syntax of f.
func (f *function) node() ast.Node {
	if f.decl != nil {
		return f.decl
	}
	return f.lit
}

// isAround reports whether pos is in f, or in a literal in f.
func (f *function) isAround(pos token.Pos) bool {
	if f.decl == nil && f.lit == nil {
		return false // the initialization of variables
	}
	return f.node().Pos() <= pos && pos < f.node().End()
}

// A mode is the statement that a call is made by.
type mode uint8

const (
	plain mode = iota
	byGo
	byDefer
)

// A call is a call, or a place where a function is given to another, which calls it before it
// returns.
type call struct {
	expr   ast.Expr
	mode   mode
	in     *function
	isStmt bool          // the call is a statement, so its results are dropped
	inList bool          // the statement stands in a list of statements
	callee *types.Func   // nil if it is not known
	lit    *function     // the literal that is called
	holder *variable     // the variable that is called
	coro   bool          // a value of type Coroutine is called
	args   []ast.Expr    // without the receiver
	recv   ast.Expr      // the receiver, or nil
	syntax *ast.CallExpr // nil if the function is only given to another
}

// name returns the name of what is called, for people.
func (c *call) name() string {
	if c.callee != nil {
		return nameOf(c.callee)
	}
	return types.ExprString(c.expr)
}

// A variable holds functions: a parameter or a local variable of a function type.
type variable struct {
	value
	obj    *types.Var
	owner  *function // whose parameter it is, nil for other variables
	calls  []*call   // of the variable
	values []*function
	summed place // of a parameter: where the functions run that are given for it
}

// A value is a function or variable, together with the places that it goes to.
type value struct {
	uses  []use
	place place
	why   map[place]string
}

// A use is one of the places a value goes to.
type use struct {
	in     *function // that does it
	expr   ast.Expr  // the value there
	at     place     // where it will run, if the use itself says so
	why    string
	held   *variable   // the variable that it is assigned to or given for
	taker  *types.Func // the function of another package that it is given to
	index  int         // of the parameter
	caller *call       // stands for the call that the taker makes
}

// A foreign is a function of another package that is used as a value.
type foreign struct {
	value
	obj *types.Func
}

// A walker finds the functions of a package, what they call, and where function values go.
type walker struct {
	c    *code
	file *ast.File
}

func (w *walker) walkFile(file *ast.File) {
	w.file = file
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			obj, _ := w.c.pass.TypesInfo.Defs[decl.Name].(*types.Func)
			if obj == nil || decl.Body == nil {
				continue
			}
			f := w.c.byObj[obj]
			f.file, f.root = file, decl
			w.walk(f, decl.Body)
		case *ast.GenDecl:
			if decl.Tok != token.VAR {
				continue
			}
			f := &function{file: file, root: decl, sig: types.NewSignatureType(nil, nil, nil, nil, nil, false)}
			w.c.funcs = append(w.c.funcs, f)
			w.walk(f, decl)
		}
	}
}

// declare makes a function of each declaration, so that calls find it wherever they stand.
func (w *walker) declare(file *ast.File) {
	for _, decl := range file.Decls {
		decl, ok := decl.(*ast.FuncDecl)
		if !ok || decl.Body == nil {
			continue
		}
		obj, _ := w.c.pass.TypesInfo.Defs[decl.Name].(*types.Func)
		if obj == nil {
			continue
		}
		f := &function{decl: decl, obj: obj, sig: obj.Signature(), body: decl.Body}
		w.c.funcs = append(w.c.funcs, f)
		w.c.byObj[obj] = f
		w.parameters(f)
	}
}

// parameters makes a variable of each parameter of a function type.
func (w *walker) parameters(f *function) {
	for p := range f.sig.Params().Variables() {
		if v := w.c.variable(p); v != nil {
			v.owner = f
		}
	}
}

// walk finds what f does itself, and makes functions of the literals in it.
func (w *walker) walk(f *function, root ast.Node) {
	info := w.c.pass.TypesInfo
	modes := make(map[*ast.CallExpr]mode)
	stmts := make(map[*ast.CallExpr]bool)
	listed := make(map[ast.Stmt]bool)
	inSelect := make(map[ast.Node]bool)
	list := func(stmts []ast.Stmt) {
		for _, s := range stmts {
			listed[s] = true
		}
	}
	ast.Inspect(root, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			lit := w.literal(f, n)
			w.walk(lit, n.Body)
			return false
		case *ast.BlockStmt:
			list(n.List)
		case *ast.CaseClause:
			list(n.Body)
		case *ast.CommClause:
			list(n.Body)
			if n.Comm != nil {
				ast.Inspect(n.Comm, func(n ast.Node) bool { inSelect[n] = true; return true })
			}
		case *ast.GoStmt:
			modes[n.Call] = byGo
		case *ast.DeferStmt:
			modes[n.Call] = byDefer
		case *ast.ExprStmt:
			if c, ok := ast.Unparen(n.X).(*ast.CallExpr); ok {
				stmts[c] = listed[n]
			}
		case *ast.RangeStmt:
			f.ranges = append(f.ranges, n)
			if n.Value != nil {
				w.assign(f, n.X, n.Value) // which matters for a slice of functions
			}
		case *ast.SelectStmt:
			f.selects = append(f.selects, n)
		case *ast.UnaryExpr:
			if n.Op == token.ARROW && !inSelect[n] {
				f.recvs = append(f.recvs, n)
			}
		case *ast.CallExpr:
			c := w.call(f, n, modes[n])
			if c != nil {
				c.inList, c.isStmt = stmts[n]
			}
		case *ast.AssignStmt:
			if len(n.Lhs) == len(n.Rhs) {
				for i, value := range n.Rhs {
					w.assign(f, value, n.Lhs[i])
				}
			}
		case *ast.ValueSpec:
			if len(n.Names) == len(n.Values) {
				for i, value := range n.Values {
					w.assign(f, value, n.Names[i])
				}
			}
		case *ast.ReturnStmt:
			if results := f.sig.Results(); results.Len() == len(n.Results) {
				for i, value := range n.Results {
					w.typed(f, value, results.At(i).Type())
				}
			}
		case *ast.SendStmt:
			if ch, ok := info.TypeOf(n.Chan).Underlying().(*types.Chan); ok {
				w.typed(f, n.Value, ch.Elem())
			}
		case *ast.CompositeLit:
			w.composite(f, n)
		}
		return true
	})
}

func (w *walker) literal(parent *function, lit *ast.FuncLit) *function {
	if f := w.c.byLit[lit]; f != nil {
		return f
	}
	sig, _ := w.c.pass.TypesInfo.TypeOf(lit).(*types.Signature)
	f := &function{lit: lit, sig: sig, body: lit.Body, file: w.file, parent: parent}
	w.c.funcs = append(w.c.funcs, f)
	w.c.byLit[lit] = f
	w.parameters(f)
	return f
}

// call notes a call of f, and where the functions go that it is given.
func (w *walker) call(f *function, n *ast.CallExpr, m mode) *call {
	info := w.c.pass.TypesInfo
	fun := ast.Unparen(n.Fun)
	if tv, ok := info.Types[fun]; ok && tv.IsType() { // a conversion
		if len(n.Args) == 1 {
			w.typed(f, n.Args[0], tv.Type)
		}
		return nil
	}
	c := &call{expr: n, syntax: n, mode: m, in: f, args: n.Args}
	switch fun := fun.(type) {
	case *ast.FuncLit:
		c.lit = w.literal(f, fun)
	default:
		switch obj := typeutil.Callee(info, n).(type) {
		case *types.Func:
			c.callee = obj.Origin()
		case *types.Builtin:
			return nil
		case *types.Var:
			c.holder = w.c.variable(obj)
		}
		if sel, ok := fun.(*ast.SelectorExpr); ok && c.callee != nil && c.callee.Signature().Recv() != nil {
			c.recv = sel.X
		}
		if t := info.TypeOf(fun); t != nil && c.callee == nil {
			c.coro = isCoroutine(t)
		}
	}
	f.calls = append(f.calls, c)
	if c.holder != nil {
		c.holder.calls = append(c.holder.calls, c)
	}
	if c.callee != nil && libraryFunc(c.callee, "GetRunningLoop") {
		f.asks = true
	}
	w.arguments(f, c, n)
	return c
}

func libraryFunc(fn *types.Func, name string) bool {
	return faceOf(fn) != nil && libraryName(fn) == "asyncio."+name
}

// arguments notes where the functions go that are arguments of a call.
func (w *walker) arguments(f *function, c *call, n *ast.CallExpr) {
	sig, ok := w.c.pass.TypesInfo.TypeOf(n.Fun).Underlying().(*types.Signature)
	if !ok || n.Ellipsis.IsValid() && len(n.Args) == 0 {
		return
	}
	var to *function // that is called, in this package
	switch {
	case c.lit != nil:
		to = c.lit
	case c.callee != nil:
		to = w.c.byObj[c.callee]
	}
	params := sig.Params()
	for i, arg := range n.Args {
		index := min(i, params.Len()-1)
		if index < 0 {
			return // f(g()) with several results
		}
		t := params.At(index).Type()
		if s, ok := t.(*types.Slice); ok && sig.Variadic() && index == params.Len()-1 && !n.Ellipsis.IsValid() {
			t = s.Elem()
		}
		switch {
		case isLoopFunc(t) && faceOf(c.callee) == nil:
			w.typed(f, arg, t)
		case to != nil:
			own := to.sig.Params()
			if index < own.Len() {
				if v := w.c.variable(own.At(index)); v != nil {
					w.flow(f, arg, use{held: v})
				}
			}
		case c.callee != nil:
			w.flow(f, arg, use{taker: c.callee, index: index})
		default:
			w.typed(f, arg, t)
		}
	}
}

// assign notes that a value goes to a variable, a field or the like.
func (w *walker) assign(f *function, value, to ast.Expr) {
	info := w.c.pass.TypesInfo
	if t := info.TypeOf(to); t != nil && isLoopFunc(t) {
		w.typed(f, value, t)
		return
	}
	id, ok := ast.Unparen(to).(*ast.Ident)
	if !ok {
		return
	}
	obj, _ := info.ObjectOf(id).(*types.Var)
	if obj == nil {
		return
	}
	if v := w.c.variable(obj); v != nil {
		w.flow(f, value, use{held: v})
	}
}

// typed notes that a value becomes one of type t.
func (w *walker) typed(f *function, value ast.Expr, t types.Type) {
	if isLoopFunc(t) {
		w.flow(f, value, use{at: onLoop, why: "it is an asyncio." + libraryType(t).Name()})
	}
}

// composite notes the types that the elements of a composite literal have.
func (w *walker) composite(f *function, n *ast.CompositeLit) {
	t := w.c.pass.TypesInfo.TypeOf(n)
	if t == nil {
		return
	}
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem()
	}
	elem := func(e ast.Expr, t types.Type) {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Value
		}
		w.typed(f, e, t)
	}
	switch t := t.Underlying().(type) {
	case *types.Slice:
		for _, e := range n.Elts {
			elem(e, t.Elem())
		}
	case *types.Array:
		for _, e := range n.Elts {
			elem(e, t.Elem())
		}
	case *types.Map:
		for _, e := range n.Elts {
			elem(e, t.Elem())
		}
	case *types.Struct:
		for i, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if id, ok := kv.Key.(*ast.Ident); ok {
					if field, ok := w.c.pass.TypesInfo.Uses[id].(*types.Var); ok {
						w.typed(f, kv.Value, field.Type())
					}
				}
			} else if i < t.NumFields() {
				w.typed(f, e, t.Field(i).Type())
			}
		}
	}
}

// flow notes that the function or variable e goes somewhere.
func (w *walker) flow(f *function, e ast.Expr, u use) {
	info := w.c.pass.TypesInfo
	e = ast.Unparen(e)
	u.in, u.expr = f, e
	switch x := e.(type) {
	case *ast.FuncLit:
		lit := w.literal(f, x)
		w.add(&lit.value, lit, u)
		return
	case *ast.IndexExpr:
		e = x.X
	case *ast.IndexListExpr:
		e = x.X
	case *ast.CallExpr:
		// A conversion is the same function, of another type.
		if tv, ok := info.Types[x.Fun]; ok && tv.IsType() && len(x.Args) == 1 {
			w.flow(f, x.Args[0], u)
		}
		return
	}
	var id *ast.Ident
	switch x := ast.Unparen(e).(type) {
	case *ast.Ident:
		id = x
	case *ast.SelectorExpr:
		id = x.Sel
	default:
		return
	}
	switch obj := info.Uses[id].(type) {
	case *types.Func:
		obj = obj.Origin()
		if own := w.c.byObj[obj]; own != nil {
			w.add(&own.value, own, u)
		} else if obj.Pkg() != nil && obj.Pkg() != w.c.pass.Pkg {
			w.add(&w.c.foreign(obj).value, nil, u)
		}
	case *types.Var:
		if v := w.c.variable(obj); v != nil {
			w.add(&v.value, nil, u)
		}
	}
}

func (w *walker) add(v *value, f *function, u use) {
	v.uses = append(v.uses, u)
	if f != nil && u.held != nil {
		u.held.values = append(u.held.values, f)
	}
}

// enclosing returns the nodes around pos in f's file, innermost first.
func (f *function) enclosing(pos token.Pos) []ast.Node {
	path, _ := astutil.PathEnclosingInterval(f.file, pos, pos)
	return path
}
