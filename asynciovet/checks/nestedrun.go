package checks

import (
	"fmt"

	"golang.org/x/tools/go/analysis"
)

// NestedRun reports a run of a loop inside a run.
var NestedRun = &analysis.Analyzer{
	Name: "nestedrun",
	Doc: `report a Run inside a run

asyncio.Run and its kin block their goroutine until the run is over. On a loop they would block that loop,
and are refused with ErrLoopRunning. Await the coroutine, or start a task.`,
	URL:      documentation + "#nestedrun",
	Run:      runNestedRun,
	Requires: []*analysis.Analyzer{Code},
}

func runNestedRun(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	if c.inside {
		return nil, nil
	}
	report := func(f *function, made *call, by chain) {
		if c.expects(made.in, "ErrLoopRunning", "ErrLoopClosed", "ErrDifferentLoop") {
			return
		}
		why := ""
		if f != nil {
			why = f.reason()
		}
		c.report(pass, analysis.Diagnostic{
			Pos: made.expr.Pos(), End: made.expr.End(),
			Message: fmt.Sprintf("%s on a loop that is running%s: await the coroutine, or make it a task%s", by.last(), because(why), by.via()),
		})
	}
	for _, f := range c.funcs {
		if f.where&onLoop == 0 {
			continue
		}
		for _, made := range f.calls {
			if made.lit != nil {
				continue
			}
			if by := c.effect(made, runs); by != nil {
				report(f, made, by)
			}
		}
	}
	c.eachGiven(runs, func(made *call, by chain) { report(nil, made, by) })
	return nil, nil
}
