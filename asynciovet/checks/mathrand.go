package checks

import (
	"fmt"
	"go/ast"

	"golang.org/x/tools/go/analysis"
)

// MathRand reports random numbers that a simulation cannot repeat.
var MathRand = &analysis.Analyzer{
	Name: "mathrand",
	Doc: `report package-level math/rand in loop code

The numbers of the package-level functions of math/rand differ from run to run, so a simulation cannot
repeat them. asyncio.Rand returns the numbers of the running task, which it can.`,
	URL:      documentation + "#mathrand",
	Run:      runMathRand,
	Requires: []*analysis.Analyzer{Code},
}

func runMathRand(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	for _, f := range c.funcs {
		if f.where&onLoop == 0 {
			continue
		}
		for _, made := range f.calls {
			by := c.effect(made, draws)
			if by == nil || made.lit != nil {
				continue
			}
			d := analysis.Diagnostic{
				Pos: made.expr.Pos(), End: made.expr.End(),
				Message: fmt.Sprintf("a simulation cannot repeat the numbers of %s%s: use asyncio.Rand%s", by.last(), because(f.reason()), by.via()),
			}
			if fix, ok := c.randFix(f, made); ok && len(by) == 1 {
				d.SuggestedFixes = []analysis.SuggestedFix{fix}
			}
			c.report(pass, d)
		}
	}
	return nil, nil
}

// randFix replaces a function of math/rand/v2 by the method of the same name of asyncio.Rand.
func (c *code) randFix(f *function, made *call) (analysis.SuggestedFix, bool) {
	none := analysis.SuggestedFix{}
	if made.syntax == nil || made.callee.Pkg().Path() != "math/rand/v2" || made.callee.Signature().TypeParams().Len() > 0 {
		return none, false // N has no method
	}
	sel, ok := ast.Unparen(made.syntax.Fun).(*ast.SelectorExpr)
	ctx, pkg := c.contextAt(f, made.expr.Pos()), c.importName(f.file, rootPath)
	if !ok || ctx == "" || pkg == "" {
		return none, false
	}
	return analysis.SuggestedFix{
		Message:   "Use asyncio.Rand",
		TextEdits: []analysis.TextEdit{{Pos: sel.X.Pos(), End: sel.X.End(), NewText: []byte(pkg + ".Rand(" + ctx + ")")}},
	}, true
}
