package checks

import (
	"fmt"
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

// MapRange reports loops over maps in which the order matters.
var MapRange = &analysis.Analyzer{
	Name: "maprange",
	Doc: `report a range over a map that awaits or schedules

The order of a map differs from run to run, so tasks would run in another order each time: a simulation
cannot repeat such a run, and a bug in it comes and goes. Range over the sorted keys.`,
	URL:      documentation + "#maprange",
	Run:      runMapRange,
	Requires: []*analysis.Analyzer{Code},
}

func runMapRange(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	for _, f := range c.funcs {
		if f.where&onGoroutine != 0 {
			continue
		}
		for _, r := range f.ranges {
			if isBlank(r.Key) && isBlank(r.Value) || !isUnordered(c.pass.TypesInfo, r.X) || c.isTable(f, r.X) {
				continue
			}
			if by, what := c.orderMatters(f, r.Body); by != nil {
				c.report(pass, analysis.Diagnostic{
					Pos: r.Pos(), End: r.Body.Pos(),
					Message: fmt.Sprintf("the order of a map is random, and the body %s by %s: range over sorted keys%s", what, by.last(), by.via()),
				})
			}
		}
	}
	return nil, nil
}

// orderMatters returns the first call in the body of a loop that awaits or schedules.
func (c *code) orderMatters(f *function, body *ast.BlockStmt) (by chain, what string) {
	for _, made := range f.calls {
		if made.expr.Pos() < body.Pos() || made.expr.Pos() >= body.End() || made.mode == byGo {
			continue
		}
		if by := c.effect(made, awaits); by != nil {
			return by, "awaits"
		}
		if by := c.effect(made, acts); by != nil {
			return by, "schedules"
		}
	}
	return nil, ""
}

// isBlank reports whether a variable of a range is not there or not used, so that each round is the
// same.
func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return e == nil || ok && id.Name == "_"
}

// isTable reports whether e is the table of a test, whose cases may come in any order.
func (c *code) isTable(f *function, e ast.Expr) bool {
	if !c.isTest(f) {
		return false
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.CompositeLit:
		return true
	case *ast.Ident:
		v := c.pass.TypesInfo.ObjectOf(e)
		for _, n := range f.enclosing(v.Pos()) {
			switch n := n.(type) {
			case *ast.AssignStmt:
				return len(n.Rhs) == 1 && isComposite(n.Rhs[0])
			case *ast.ValueSpec:
				return len(n.Values) == 1 && isComposite(n.Values[0])
			}
		}
	}
	return false
}

// isComposite reports whether e is a literal with elements.
func isComposite(e ast.Expr) bool {
	lit, ok := ast.Unparen(e).(*ast.CompositeLit)
	return ok && len(lit.Elts) > 0
}

// isUnordered reports whether e is a map, or an iterator over one.
func isUnordered(info *types.Info, e ast.Expr) bool {
	t := info.TypeOf(e)
	if t == nil {
		return false
	}
	if _, ok := t.Underlying().(*types.Map); ok {
		return true
	}
	made, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := ast.Unparen(made.Fun).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	fn, ok := info.Uses[sel.Sel].(*types.Func)
	return ok && fn.Pkg() != nil && fn.Pkg().Path() == "maps"
}
