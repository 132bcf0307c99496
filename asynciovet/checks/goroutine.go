package checks

import (
	"fmt"
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Goroutine reports what is for the loop only and is called on another goroutine.
var Goroutine = &analysis.Analyzer{
	Name: "goroutine",
	Doc: `report what is for the loop only in a goroutine

A loop has no locks, so only its own tasks and callbacks may touch it. A go statement, a function given
to asyncio.ToThread and the like run elsewhere. There, use EventLoop.CallSoonThreadsafe,
RunCoroutineThreadsafe, Call, or a channel.`,
	URL:      documentation + "#goroutine",
	Run:      runGoroutine,
	Requires: []*analysis.Analyzer{Code},
}

func runGoroutine(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	if c.inside {
		return nil, nil // the library itself is what looks after this
	}
	for _, f := range c.funcs {
		for _, call := range f.calls {
			switch {
			case call.mode == byGo && call.callee != nil:
				c.checkGo(pass, f, call)
			case call.mode != byGo && f.where&(onGoroutine|onTest) != 0 && f.where&onLoop == 0:
				c.checkOutside(pass, f, call)
			}
		}
		for i := range f.uses {
			c.checkGiven(pass, f, f.obj, &f.uses[i])
		}
	}
	for _, f := range c.order {
		for i := range f.uses {
			c.checkGiven(pass, nil, f.obj, &f.uses[i])
		}
	}
	return nil, nil
}

// checkOutside looks at a call by f, which runs on a goroutine outside of the loop.
func (c *code) checkOutside(pass *analysis.Pass, f *function, call *call) {
	if call.lit != nil {
		return // it is looked at by itself
	}
	if by := c.effect(call, needTask); by != nil {
		c.reportOutside(pass, f.reason(), call, by, true)
		return
	}
	if f.where&onGoroutine == 0 || c.hasLoop(f) || !c.comesFromOutside(f, call) {
		return
	}
	if by := c.effect(call, needLoop); by != nil {
		c.reportOutside(pass, f.reason(), call, by, false)
	}
}

// checkGo looks at a go statement that calls a declared function.
func (c *code) checkGo(pass *analysis.Pass, f *function, made *call) {
	plainly := *made
	plainly.mode = plain
	if by := c.effect(&plainly, needTask); by != nil {
		c.reportOutside(pass, "go statement", made, by, true)
	} else if by := c.effect(&plainly, needLoop); by != nil {
		c.reportOutside(pass, "go statement", made, by, false)
	}
}

// checkGiven looks at a declared function that is given to something that runs it on a goroutine.
func (c *code) checkGiven(pass *analysis.Pass, f *function, obj *types.Func, u *use) {
	at, why := c.placeOf(u)
	if at&onGoroutine == 0 || obj == nil {
		return
	}
	made := &call{expr: u.expr, in: u.in, callee: obj}
	if by := c.effect(made, needTask); by != nil {
		c.reportOutside(pass, why, made, by, true)
	} else if by := c.effect(made, needLoop); by != nil {
		c.reportOutside(pass, why, made, by, false)
	}
}

func (c *code) reportOutside(pass *analysis.Pass, why string, made *call, by chain, isTask bool) {
	if c.expects(made.in, "ErrForeignGoroutine", "ErrNoRunningLoop", "ErrNotInTask", "ErrLoopClosed") {
		return
	}
	isFor := "is for the loop only"
	if isTask {
		isFor = "suspends a task"
	}
	d := analysis.Diagnostic{
		Pos: made.expr.Pos(), End: made.expr.End(),
		Message: fmt.Sprintf("%s %s, and this goroutine is outside of it%s: use %s%s",
			by.last(), isFor, because(why), insteadOf(by.last()), by.via()),
	}
	if fix, ok := c.threadsafe(made); ok {
		d.SuggestedFixes = []analysis.SuggestedFix{fix}
	}
	c.report(pass, d)
}

// insteadOf says how to come from outside to what the function called name does.
func insteadOf(name string) string {
	switch typ, _, _ := strings.Cut(strings.TrimPrefix(name, "asyncio."), "."); typ {
	case "Conn", "DatagramConn":
		return "Conn.Threadsafe"
	case "Listener", "PacketConn":
		return typ + ".Threadsafe"
	case "Dial", "DialContext", "DialPacket":
		return "ThreadsafeDialer"
	}
	return "EventLoop.CallSoonThreadsafe or RunCoroutineThreadsafe"
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// threadsafe is the fix for CallSoon as a statement: CallSoonThreadsafe does the same from outside.
func (c *code) threadsafe(made *call) (analysis.SuggestedFix, bool) {
	if made.syntax == nil || !made.isStmt || made.callee == nil || !libraryFunc(made.callee, "EventLoop.CallSoon") {
		return analysis.SuggestedFix{}, false
	}
	sel, ok := ast.Unparen(made.syntax.Fun).(*ast.SelectorExpr)
	if !ok {
		return analysis.SuggestedFix{}, false
	}
	return analysis.SuggestedFix{
		Message:   "Use CallSoonThreadsafe",
		TextEdits: []analysis.TextEdit{{Pos: sel.Sel.Pos(), End: sel.Sel.End(), NewText: []byte("CallSoonThreadsafe")}},
	}, true
}

// hasLoop reports whether f, which runs on a goroutine, makes or runs a loop itself. Until that
// loop runs, it belongs to the goroutine.
func (c *code) hasLoop(f *function) bool {
	for _, call := range f.calls {
		if call.callee == nil {
			continue
		}
		if face := faceOf(call.callee); face != nil && face.who == outside || libraryFunc(call.callee, "NewEventLoop") {
			return true
		}
	}
	return false
}

// comesFromOutside reports whether a call by f uses something that f has not made itself.
func (c *code) comesFromOutside(f *function, call *call) bool {
	exprs := call.args
	if call.recv != nil {
		exprs = append([]ast.Expr{call.recv}, exprs...)
	}
	for _, e := range exprs {
		root := rootOf(c.pass.TypesInfo, e)
		if root == nil {
			continue
		}
		if t := root.Type(); faceOf(call.callee) != nil && !isContext(t) && call.recv == nil && libraryType(t) == nil {
			continue
		}
		if !f.isAround(root.Pos()) || f.hasParam(root) {
			return true
		}
	}
	return false
}

func (f *function) hasParam(v *types.Var) bool {
	for p := range f.sig.Params().Variables() {
		if p == v {
			return true
		}
	}
	return false
}

// rootOf returns the variable that an expression such as v.field[i] begins with, nil if it begins
// with something else.
func rootOf(info *types.Info, e ast.Expr) *types.Var {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.SelectorExpr:
			if v, ok := info.Uses[x.Sel].(*types.Var); ok && !v.IsField() {
				return v // of another package
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.UnaryExpr:
			e = x.X
		case *ast.Ident:
			v, _ := info.Uses[x].(*types.Var)
			return v
		default:
			return nil
		}
	}
}
