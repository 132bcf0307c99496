package checks

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/tools/go/analysis"
)

// directive begins a comment that allows what a check would report:
//
//	//asynciovet:allow check reason
//
// It stands behind the line, or on the line before, and allows it for that line only.
const directive = "//asynciovet:allow"

// An allowance is one such comment.
type allowance struct {
	pos           token.Pos
	check, reason string
	file          string
	line          int // for which it holds, and the next one
	behind        bool
	used          atomic.Bool
}

// allowed has the allowances of a package.
type allowed struct {
	fset *token.FileSet
	all  []*allowance
}

var allowances = &analysis.Analyzer{
	Name:       "asyncioallowances",
	Doc:        "find comments that allow what the checks report",
	URL:        documentation,
	Run:        func(pass *analysis.Pass) (any, error) { return findAllowances(pass) },
	ResultType: reflect.TypeFor[*allowed](),
}

func findAllowances(pass *analysis.Pass) (*allowed, error) {
	a := &allowed{fset: pass.Fset}
	for _, file := range pass.Files {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				rest, ok := strings.CutPrefix(comment.Text, directive)
				if !ok || rest != "" && rest[0] != ' ' && rest[0] != '\t' {
					continue
				}
				source, err := pass.ReadFile(pass.Fset.File(comment.Pos()).Name())
				if err != nil {
					return nil, err
				}
				a.add(source, comment, rest)
			}
		}
	}
	return a, nil
}

func (a *allowed) add(source []byte, comment *ast.Comment, text string) {
	text, _, _ = strings.Cut(text, "// want") // what a test of the checks expects
	check, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
	at := a.fset.PositionFor(comment.Pos(), false)
	before := source[at.Offset-at.Column+1 : at.Offset]
	a.all = append(a.all, &allowance{
		pos: comment.Pos(), check: check, reason: strings.TrimSpace(reason), file: at.Filename, line: at.Line,
		behind: len(bytes.TrimSpace(before)) > 0,
	})
}

// allow reports whether a comment allows what a check has found at pos, and notes that the comment
// is of use.
func (a *allowed) allow(check string, pos token.Pos) bool {
	if len(a.all) == 0 {
		return false
	}
	at := a.fset.PositionFor(pos, false)
	for _, c := range a.all {
		if c.check != check || c.file != at.Filename || c.reason == "" {
			continue
		}
		if c.line == at.Line || !c.behind && c.line == at.Line-1 {
			c.used.Store(true)
			return true
		}
	}
	return false
}

// Allow reports comments that allow nothing.
var Allow = &analysis.Analyzer{
	Name: "allow",
	Doc: `report comments that allow nothing

A comment //asynciovet:allow with the name of a check and a reason, behind a line or on the one before,
allows what the check would report there. This check reports comments that lack a reason, name no
check, or are not needed any more.`,
	URL:      documentation + "#allow",
	Run:      runAllow,
	Requires: append([]*analysis.Analyzer{allowances}, reporting()...),
}

func runAllow(pass *analysis.Pass) (any, error) {
	for _, c := range pass.ResultOf[allowances].(*allowed).all {
		isCheck := slices.ContainsFunc(reporting(), func(a *analysis.Analyzer) bool { return a.Name == c.check })
		switch {
		case c.check == "":
			pass.Reportf(c.pos, "say what is allowed, and why: %s check reason", directive)
		case !isCheck:
			pass.Reportf(c.pos, "there is no check named %q", c.check)
		case c.reason == "":
			pass.Reportf(c.pos, "say why: %s %s reason", directive, c.check)
		case !c.used.Load():
			pass.Reportf(c.pos, "%s reports nothing here: remove the comment", c.check)
		}
	}
	return nil, nil
}

// report reports what a check has found, unless a comment allows it. The name of the check stands
// behind the message, because vet does not show it.
func (c *code) report(pass *analysis.Pass, d analysis.Diagnostic) {
	if c.allowed.allow(pass.Analyzer.Name, d.Pos) {
		return
	}
	d.Category = pass.Analyzer.Name
	d.URL = documentation + "#" + pass.Analyzer.Name
	d.Message = fmt.Sprintf("%s (%s)", d.Message, pass.Analyzer.Name)
	pass.Report(d)
}
