package checks

import (
	"fmt"
	"go/constant"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

// DroppedError reports awaits whose errors nobody sees.
var DroppedError = &analysis.Analyzer{
	Name: "droppederror",
	Doc: `report an await whose error is dropped

The error of an await is how a task hears that it was cancelled, or that its context has ended. A statement
such as asyncio.Sleep(ctx, d) swallows it, and the task goes on. Return the error, or assign it to _ where
that is meant.`,
	URL:      documentation + "#droppederror",
	Run:      runDroppedError,
	Requires: []*analysis.Analyzer{Code},
}

func runDroppedError(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	if c.inside {
		return nil, nil
	}
	for _, f := range c.funcs {
		for _, made := range f.calls {
			if !made.isStmt || made.syntax == nil || !returnsError(made) || c.isYield(made) {
				continue
			}
			by := c.effect(made, awaits)
			if by == nil {
				continue
			}
			d := analysis.Diagnostic{
				Pos: made.expr.Pos(), End: made.expr.End(),
				Message: fmt.Sprintf("the error of %s is dropped, so a cancel is lost: return it, or assign it to _%s", made.name(), by.via()),
			}
			if fix, ok := c.returnFix(f, made); ok {
				d.SuggestedFixes = []analysis.SuggestedFix{fix}
			}
			c.report(pass, d)
		}
	}
	return nil, nil
}

// returnsError reports whether the last result of a call is an error.
func returnsError(made *call) bool {
	if made.callee == nil {
		return false
	}
	results := made.callee.Signature().Results()
	return results.Len() > 0 && isError(results.At(results.Len()-1).Type())
}

func isError(t types.Type) bool { return types.Identical(t, types.Universe.Lookup("error").Type()) }

// isYield reports whether a call is Sleep(ctx, 0), which lets others run and is seldom meant to be
// where a cancel arrives.
func (c *code) isYield(made *call) bool {
	if !libraryFunc(made.callee, "Sleep") || len(made.args) != 2 {
		return false
	}
	v := c.pass.TypesInfo.Types[made.args[1]].Value
	return v != nil && constant.Sign(v) <= 0
}

// returnFix returns the error, if the call has no other result.
func (c *code) returnFix(f *function, made *call) (analysis.SuggestedFix, bool) {
	if made.callee.Signature().Results().Len() != 1 {
		return analysis.SuggestedFix{}, false
	}
	before, after, ok := c.returning(f, made)
	if !ok {
		return analysis.SuggestedFix{}, false
	}
	return analysis.SuggestedFix{
		Message: "Return the error",
		TextEdits: []analysis.TextEdit{
			{Pos: made.expr.Pos(), End: made.expr.Pos(), NewText: []byte(before)},
			{Pos: made.expr.End(), End: made.expr.End(), NewText: []byte(after)},
		},
	}, true
}
