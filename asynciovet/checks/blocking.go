package checks

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Blocking reports calls that block a loop.
var Blocking = &analysis.Analyzer{
	Name: "blocking",
	Doc: `report calls of the standard library that block a loop

While a task blocks, nothing else of its loop runs. Use what the library has instead, which suspends the
task alone, or call the function in asyncio.ToThread.`,
	URL:      documentation + "#blocking",
	Run:      runBlocking,
	Requires: []*analysis.Analyzer{Code},
}

func runBlocking(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	if c.inside {
		return nil, nil // a loop has to block somewhere
	}
	for _, f := range c.funcs {
		if f.where&onLoop == 0 {
			continue
		}
		for _, call := range f.calls {
			if call.lit != nil {
				continue
			}
			if by := c.effect(call, blocks); by != nil {
				c.reportBlocking(pass, f, call, by)
			}
		}
		c.checkOperations(pass, f)
	}
	c.eachGiven(blocks, func(made *call, by chain) { c.reportBlocking(pass, nil, made, by) })
	c.reportTimeoutHandlers(pass)
	return nil, nil
}

// eachGiven calls visit for each function of another package that has an effect and is given to
// something that runs it on a loop.
func (c *code) eachGiven(e effect, visit func(made *call, by chain)) {
	for _, f := range c.order {
		for i := range f.uses {
			u := &f.uses[i]
			if at, _ := c.placeOf(u); at&onLoop == 0 {
				continue
			}
			made := &call{expr: u.expr, in: u.in, callee: f.obj}
			if by := c.effect(made, e); by != nil {
				visit(made, by)
			}
		}
	}
}

func (c *code) reportBlocking(pass *analysis.Pass, f *function, made *call, by chain) {
	if faceOf(made.callee) != nil && c.expects(made.in, "ErrLoopRunning", "ErrLoopClosed") {
		return
	}
	why, remedy := "", "call it in asyncio.ToThread"
	if f != nil {
		why = f.reason()
	}
	if made.callee != nil && len(by) == 1 {
		if found := blockers[keyOf(made.callee)]; found != "" {
			remedy = found
		} else if faceOf(made.callee) != nil {
			remedy = "use Await"
		}
	}
	d := analysis.Diagnostic{
		Pos: made.expr.Pos(), End: made.expr.End(),
		Message: fmt.Sprintf("%s blocks the loop%s: %s%s", by.last(), because(why), remedy, by.via()),
	}
	if f != nil && made.callee != nil && keyOf(made.callee) == "time.Sleep" {
		if fix, ok := c.sleepFix(f, made); ok {
			d.SuggestedFixes = []analysis.SuggestedFix{fix}
		}
	}
	c.report(pass, d)
}

// blocksItself reports whether a call of a function of the standard library blocks.
func (c *code) blocksItself(made *call) bool {
	key := keyOf(made.callee)
	if blockers[key] != "" {
		return !c.isDatagram(made) && (!strings.HasPrefix(key, "net/http.Client.") || c.isBlockingClient(made))
	}
	switch key {
	case "fmt.Fscan", "fmt.Fscanf", "fmt.Fscanln", "io.ReadAll", "io.ReadFull", "io.ReadAtLeast":
		return len(made.args) > 0 && isStdin(c.pass.TypesInfo, made.args[0])
	case "io.Copy", "io.CopyN", "io.CopyBuffer":
		return len(made.args) > 1 && isStdin(c.pass.TypesInfo, made.args[1])
	case "os.File.Read":
		return isStdin(c.pass.TypesInfo, made.recv)
	case "bufio.Scanner.Scan", "bufio.Reader.Read", "bufio.Reader.ReadString", "bufio.Reader.ReadLine", "bufio.Reader.ReadBytes",
		"bufio.Reader.ReadByte", "bufio.Reader.ReadRune", "bufio.Reader.ReadSlice":
		return c.readsStdin(made)
	}
	return false
}

// isDatagram reports whether a call dials a network without connections, which sends nothing.
func (c *code) isDatagram(made *call) bool {
	if made.callee.Pkg().Path() != "net" || !strings.Contains(made.callee.Name(), "Dial") {
		return false
	}
	for _, arg := range made.args {
		v := c.pass.TypesInfo.Types[arg].Value
		if v == nil || v.Kind() != constant.String {
			continue
		}
		network := constant.StringVal(v)
		return strings.HasPrefix(network, "udp") || strings.HasPrefix(network, "ip") || network == "unixgram"
	}
	return false
}

// readsStdin reports whether the scanner or reader of a call was made of os.Stdin, by the
// declaration of the variable.
func (c *code) readsStdin(made *call) bool {
	for _, value := range c.declared(made) {
		if made, ok := ast.Unparen(value).(*ast.CallExpr); ok && len(made.Args) > 0 && isStdin(c.pass.TypesInfo, made.Args[0]) {
			return true
		}
	}
	return false
}

// isBlockingClient reports whether the http.Client of a call is certain to use goroutines of
// net/http: it is the default one, or it is made without a transport or with net/http's. Another
// may have an asynciohttp.Transport, with which its calls suspend the task.
func (c *code) isBlockingClient(made *call) bool {
	info := c.pass.TypesInfo
	if sel, ok := ast.Unparen(made.recv).(*ast.SelectorExpr); ok {
		v, ok := info.Uses[sel.Sel].(*types.Var)
		return ok && v.Pkg() != nil && v.Pkg().Path() == "net/http" && v.Name() == "DefaultClient"
	}
	values := c.declared(made)
	if values == nil {
		values = []ast.Expr{made.recv}
	}
	for _, value := range values {
		if and, ok := ast.Unparen(value).(*ast.UnaryExpr); ok && and.Op == token.AND {
			value = and.X
		}
		switch value := ast.Unparen(value).(type) {
		case *ast.CompositeLit:
			if t := info.TypeOf(value); t == nil || t.String() != "net/http.Client" || !usesNetHTTP(info, value) {
				return false
			}
		case *ast.CallExpr:
			if b, ok := ast.Unparen(value.Fun).(*ast.Ident); !ok || info.Uses[b] != types.Universe.Lookup("new") {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// usesNetHTTP reports whether the literal of an http.Client has a transport of net/http's, or none.
func usesNetHTTP(info *types.Info, client *ast.CompositeLit) bool {
	for _, e := range client.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Transport" {
			t := info.TypeOf(kv.Value)
			return t != nil && t.String() == "*net/http.Transport"
		}
	}
	return true
}

// declared returns the values that the variable of a call's receiver is declared with, nil if it is
// no variable that the code declares with some.
func (c *code) declared(made *call) []ast.Expr {
	id, ok := ast.Unparen(made.recv).(*ast.Ident)
	if !ok || made.in.file == nil {
		return nil
	}
	v := c.pass.TypesInfo.ObjectOf(id)
	if v == nil {
		return nil
	}
	for _, n := range made.in.enclosing(v.Pos()) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			return n.Rhs
		case *ast.ValueSpec:
			return n.Values
		}
	}
	return nil
}

// checkOperations reports operations on channels that are certain to wait. Of others nobody can
// tell whether there is room or a value.
func (c *code) checkOperations(pass *analysis.Pass, f *function) {
	report := func(n ast.Node, what, remedy string) {
		c.report(pass, analysis.Diagnostic{
			Pos: n.Pos(), End: n.End(),
			Message: fmt.Sprintf("%s blocks the loop%s: %s", what, because(f.reason()), remedy),
		})
	}
	for _, recv := range f.recvs {
		if what, remedy := c.waitsFor(recv.X); what != "" {
			report(recv, "waiting for "+what, remedy)
		}
	}
	for _, s := range f.selects {
		if len(s.Body.List) == 0 {
			report(s, "an empty select", "await something")
			continue
		}
		for _, clause := range s.Body.List {
			if clause := clause.(*ast.CommClause); clause.Comm == nil {
				goto hasDefault
			}
		}
		report(s, "a select without a default", "use asyncio.Select")
	hasDefault:
	}
}

// waitsFor describes a channel that has no value yet, and what to do instead of receiving from it.
func (c *code) waitsFor(ch ast.Expr) (what, remedy string) {
	info := c.pass.TypesInfo
	switch ch := ast.Unparen(ch).(type) {
	case *ast.CallExpr:
		var fn *types.Func
		if sel, ok := ast.Unparen(ch.Fun).(*ast.SelectorExpr); ok {
			fn, _ = info.Uses[sel.Sel].(*types.Func)
		}
		if fn == nil || fn.Pkg() == nil {
			return "", ""
		}
		switch {
		case fn.Pkg().Path() == "time" && fn.Name() == "After":
			return "time.After", "use asyncio.Sleep"
		case fn.Pkg().Path() == "context" && fn.Name() == "Done":
			return "the end of a context", "use asyncio.Recv, or asyncio.Sleep(ctx, asyncio.Forever) if it is the task's"
		case libraryFunc(fn, "ConcurrentFuture.Finished"):
			return "a ConcurrentFuture", "use its Await"
		}
	case *ast.SelectorExpr:
		v, ok := info.Uses[ch.Sel].(*types.Var)
		if ok && v.IsField() && v.Pkg() != nil && v.Pkg().Path() == "time" && v.Name() == "C" {
			return "a timer", "use asyncio.Sleep"
		}
	}
	return "", ""
}

// sleepFix replaces time.Sleep by asyncio.Sleep, where f can return the error.
func (c *code) sleepFix(f *function, made *call) (analysis.SuggestedFix, bool) {
	ctx := c.contextAt(f, made.expr.Pos())
	pkg := c.importName(f.file, rootPath)
	if ctx == "" || pkg == "" || made.syntax == nil || len(made.syntax.Args) != 1 {
		return analysis.SuggestedFix{}, false
	}
	before, after, ok := c.returning(f, made)
	if !ok {
		return analysis.SuggestedFix{}, false
	}
	arg := made.syntax.Args[0]
	return analysis.SuggestedFix{
		Message: "Use asyncio.Sleep",
		TextEdits: []analysis.TextEdit{
			{Pos: made.expr.Pos(), End: arg.Pos(), NewText: []byte(before + pkg + ".Sleep(" + ctx + ", ")},
			{Pos: made.expr.End(), End: made.expr.End(), NewText: []byte(after)},
		},
	}, true
}
