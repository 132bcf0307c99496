package checks

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strings"
	"time"

	"golang.org/x/tools/go/analysis"
)

// Duration reports durations that are plain numbers.
var Duration = &analysis.Analyzer{
	Name: "duration",
	Doc: `report durations without a unit

asyncio.Sleep(ctx, 1) sleeps for a nanosecond, not for a second as in Python. Numbers of less than a
millisecond are reported, except in tests and in packages that use package sim, where a nanosecond can be
meant.`,
	URL:      documentation + "#duration",
	Run:      runDuration,
	Requires: []*analysis.Analyzer{Code},
}

func runDuration(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	for _, p := range pass.Pkg.Imports() {
		if pathOf(p) == simPath {
			return nil, nil
		}
	}
	if c.inside {
		return nil, nil
	}
	for _, f := range c.funcs {
		if f.file != nil && strings.HasSuffix(pass.Fset.File(f.file.Pos()).Name(), "_test.go") {
			continue
		}
		for _, made := range f.calls {
			if made.syntax == nil || faceOf(made.callee) == nil {
				continue
			}
			for _, arg := range made.args {
				if n, ok := c.bareDuration(arg); ok {
					c.report(pass, analysis.Diagnostic{
						Pos: arg.Pos(), End: arg.End(),
						Message: fmt.Sprintf("%v is %v: give it a unit, such as %v*time.Second", types.ExprString(arg), n, types.ExprString(arg)),
					})
				}
			}
		}
	}
	return nil, nil
}

// bareDuration reports whether e is a duration of some nanoseconds, written as a number.
func (c *code) bareDuration(e ast.Expr) (time.Duration, bool) {
	info := c.pass.TypesInfo
	tv := info.Types[e]
	named, ok := types.Unalias(tv.Type).(*types.Named)
	if !ok || tv.Value == nil || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != "time" || named.Obj().Name() != "Duration" {
		return 0, false
	}
	n, exact := constant.Int64Val(constant.ToInt(tv.Value))
	if !exact || n <= 0 || n >= int64(time.Millisecond) {
		return 0, false
	}
	hasUnit := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if obj, ok := info.Uses[n].(*types.Const); ok && types.Identical(obj.Type(), named) {
				hasUnit = true
			}
		case *ast.BasicLit:
			hasUnit = hasUnit || n.Kind == token.CHAR
		}
		return true
	})
	return time.Duration(n), !hasUnit
}
