package checks

import (
	"fmt"
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

// OuterCtx reports awaits with the context of the wrong function.
var OuterCtx = &analysis.Analyzer{
	Name: "outerctx",
	Doc: `report an await with the ctx of an enclosing function

The body that is given to asyncio.FailAfter, RunTaskGroup and the like has a ctx of its own. An await with the
ctx of the function around it does not hear of the end of the body's: a limit has no effect, a child goes on.`,
	URL:      documentation + "#outerctx",
	Run:      runOuterCtx,
	Requires: []*analysis.Analyzer{Code},
}

func runOuterCtx(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	if c.inside {
		return nil, nil
	}
	for _, f := range c.funcs {
		body := f
		for body != nil && body.ownContext() == nil {
			body = body.parent // a literal in a body, which has no ctx of its own
		}
		if body == nil || body.lit == nil || !body.given {
			continue
		}
		for _, made := range f.calls {
			if c.effect(made, awaits) == nil {
				continue
			}
			for _, arg := range made.args {
				c.checkContext(pass, body, made, arg)
			}
		}
	}
	return nil, nil
}

func (c *code) checkContext(pass *analysis.Pass, body *function, made *call, arg ast.Expr) {
	id, ok := ast.Unparen(arg).(*ast.Ident)
	if !ok {
		return
	}
	v, ok := pass.TypesInfo.Uses[id].(*types.Var)
	if !ok || !isContext(v.Type()) {
		return
	}
	outer := body.parent
	for outer != nil && !outer.hasParam(v) {
		outer = outer.parent
	}
	if outer == nil {
		return
	}
	own := body.ownContext()
	d := analysis.Diagnostic{
		Pos: id.Pos(), End: id.End(),
		Message: fmt.Sprintf("%s is the ctx of %s, and this body has one of its own: await with that", id.Name, outer.name()),
	}
	if name := c.visible(own, id); name != "" {
		d.SuggestedFixes = []analysis.SuggestedFix{{
			Message:   "Use " + name,
			TextEdits: []analysis.TextEdit{{Pos: id.Pos(), End: id.End(), NewText: []byte(name)}},
		}}
	}
	c.report(pass, d)
}

// ownContext returns f's parameter for a context, nil if it has none.
func (f *function) ownContext() *types.Var {
	if f.sig.Params().Len() == 0 || !isContext(f.sig.Params().At(0).Type()) {
		return nil
	}
	return f.sig.Params().At(0)
}

// visible returns the name of v if it can be used where id stands, otherwise "".
func (c *code) visible(v *types.Var, id ast.Node) string {
	if v.Name() == "" || v.Name() == "_" {
		return ""
	}
	scope := c.pass.Pkg.Scope().Innermost(id.Pos())
	if scope == nil {
		return ""
	}
	if _, found := scope.LookupParent(v.Name(), id.Pos()); found != v {
		return ""
	}
	return v.Name()
}
