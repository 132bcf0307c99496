package checks

import (
	"fmt"

	"golang.org/x/tools/go/analysis"
)

// NotAwaited reports coroutines that were made for nothing.
var NotAwaited = &analysis.Analyzer{
	Name: "notawaited",
	Doc: `report a coroutine that is made and never awaited

A call that returns a Coroutine has run nothing yet. Call the coroutine with ctx, or make it a task with
asyncio.CreateTask.`,
	URL:      documentation + "#notawaited",
	Run:      runNotAwaited,
	Requires: []*analysis.Analyzer{Code},
}

func runNotAwaited(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	for _, f := range c.funcs {
		for _, made := range f.calls {
			if made.syntax == nil || !made.isStmt && made.mode == plain {
				continue
			}
			if t := pass.TypesInfo.TypeOf(made.expr); t != nil && isCoroutine(t) {
				c.report(pass, analysis.Diagnostic{
					Pos: made.expr.Pos(), End: made.expr.End(),
					Message: fmt.Sprintf("the coroutine that %s returns is never awaited: call it with ctx, or give it to asyncio.CreateTask", made.name()),
				})
			}
		}
	}
	return nil, nil
}
