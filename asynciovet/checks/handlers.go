package checks

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/types/typeutil"
)

// A handlers finds out which variables, fields and functions of a package have a handler of
// http.TimeoutHandler in them: one that is wrapped by others, registered with a multiplexer, or in
// the configuration of a server. Each has the call that made the handler.
type handlers struct {
	info  *types.Info
	made  map[types.Object]*ast.CallExpr
	again bool // something was found
}

// reportTimeoutHandlers reports the calls of http.TimeoutHandler whose handler a server of package
// asynciohttp serves.
func (c *code) reportTimeoutHandlers(pass *analysis.Pass) {
	h := &handlers{info: pass.TypesInfo, made: make(map[types.Object]*ast.CallExpr)}
	if !h.isUsed(pass.Files) {
		return
	}
	for h.again = true; h.again; {
		h.again = false
		for _, file := range pass.Files {
			ast.Inspect(file, h.follow)
		}
	}
	reported := make(map[*ast.CallExpr]bool)
	report := func(call *ast.CallExpr) {
		if call == nil || reported[call] {
			return
		}
		reported[call] = true
		c.report(pass, analysis.Diagnostic{
			Pos: call.Pos(), End: call.End(),
			Message: "http.TimeoutHandler blocks the loop of the server: use asynciohttp.TimeoutHandler",
		})
	}
	for _, file := range pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			h.served(n, report)
			return true
		})
	}
}

func (h *handlers) isUsed(files []*ast.File) (used bool) {
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			used = used || ok && h.isTimeoutHandler(call)
			return !used
		})
	}
	return used
}

func (h *handlers) isTimeoutHandler(call *ast.CallExpr) bool {
	fn := typeutil.StaticCallee(h.info, call)
	return fn != nil && keyOf(fn) == "net/http.TimeoutHandler"
}

// in returns the call whose handler is in e.
func (h *handlers) in(e ast.Expr) *ast.CallExpr {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return h.made[h.info.ObjectOf(e)]
	case *ast.SelectorExpr:
		if call := h.made[h.info.ObjectOf(e.Sel)]; call != nil {
			return call
		}
		return h.in(e.X) // a field of something, or a method
	case *ast.UnaryExpr:
		return h.in(e.X)
	case *ast.StarExpr:
		return h.in(e.X)
	case *ast.CompositeLit:
		for _, elt := range e.Elts {
			if kv, ok := elt.(*ast.KeyValueExpr); ok {
				elt = kv.Value
			}
			if call := h.in(elt); call != nil {
				return call
			}
		}
	case *ast.CallExpr:
		if h.isTimeoutHandler(e) {
			return e
		}
		if fn := typeutil.StaticCallee(h.info, e); fn != nil && h.made[fn] != nil {
			return h.made[fn]
		}
		if !isHandler(h.info.TypeOf(e)) {
			return nil
		}
		for _, arg := range e.Args { // a wrapper, or a conversion
			if call := h.in(arg); call != nil {
				return call
			}
		}
	}
	return nil
}

// isHandler reports whether t is an http.Handler, by its method.
func isHandler(t types.Type) bool {
	if t == nil {
		return false
	}
	obj, _, _ := types.LookupFieldOrMethod(t, true, nil, "ServeHTTP")
	_, ok := obj.(*types.Func)
	return ok
}

// put notes that what e names has a handler in it.
func (h *handlers) put(e ast.Expr, call *ast.CallExpr) {
	var obj types.Object
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		obj = h.info.ObjectOf(e)
	case *ast.SelectorExpr:
		if h.isPackage(e.X) {
			obj = h.info.ObjectOf(e.Sel)
			break
		}
		h.put(e.X, call) // srv.Handler = x
		return
	case *ast.StarExpr:
		h.put(e.X, call)
		return
	case *ast.UnaryExpr:
		h.put(e.X, call)
		return
	}
	if obj != nil && call != nil && h.made[obj] == nil {
		h.made[obj] = call
		h.again = true
	}
}

func (h *handlers) isPackage(e ast.Expr) bool {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return false
	}
	_, ok = h.info.ObjectOf(id).(*types.PkgName)
	return ok
}

// follow notes where a statement or a declaration puts handlers.
func (h *handlers) follow(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if len(n.Lhs) == len(n.Rhs) {
			for i, to := range n.Lhs {
				h.put(to, h.in(n.Rhs[i]))
			}
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) {
				h.put(name, h.in(n.Values[i]))
			}
		}
	case *ast.FuncDecl:
		if n.Body != nil {
			h.returned(n)
		}
	case *ast.CallExpr: // mux.Handle(path, handler)
		sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
		if !ok || h.isPackage(sel.X) || !isHandler(h.info.TypeOf(sel.X)) {
			break
		}
		for _, arg := range n.Args {
			h.put(sel.X, h.in(arg))
		}
	}
	return true
}

// returned notes that a function returns a handler.
func (h *handlers) returned(f *ast.FuncDecl) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			for _, result := range n.Results {
				h.put(f.Name, h.in(result))
			}
		}
		return true
	})
}

// served reports the handlers that n gives to package asynciohttp.
func (h *handlers) served(n ast.Node, report func(*ast.CallExpr)) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if fn := typeutil.StaticCallee(h.info, n); fn != nil && isServing(fn) {
			for _, arg := range n.Args {
				report(h.in(arg))
			}
		}
	case *ast.CompositeLit:
		if isServer(h.info.TypeOf(n)) {
			report(h.in(n))
		}
	case *ast.AssignStmt:
		if n.Tok != token.ASSIGN || len(n.Lhs) != len(n.Rhs) {
			return
		}
		for i, to := range n.Lhs {
			if sel, ok := ast.Unparen(to).(*ast.SelectorExpr); ok && isServer(h.info.TypeOf(sel.X)) {
				report(h.in(n.Rhs[i]))
			}
		}
	}
}

const httpPackage = rootPath + "/asynciohttp"

// isServing reports whether fn takes handlers, or servers, to serve them on a loop.
func isServing(fn *types.Func) bool {
	if fn.Pkg() == nil {
		return false
	}
	path := fn.Pkg().Path()
	return path == httpPackage || strings.HasPrefix(path, httpPackage+"/")
}

// isServer reports whether t is an asynciohttp.Server, or a pointer to one.
func isServer(t types.Type) bool {
	if t == nil {
		return false
	}
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Name() == "Server" && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == httpPackage
}
