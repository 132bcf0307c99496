package asyncio_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// conformanceRow is a row of docs/conformance.md: a test method of CPython's, the Go tests that
// cover it, and a note.
type conformanceRow struct {
	method string // module, class, name
	tests  []string
	note   string
}

var (
	conformanceClass = regexp.MustCompile(`^### (\w+)\.(\w+)$`)
	conformanceTest  = regexp.MustCompile("`([^`]+)`")
)

// readConformance returns the rows of the document, and the lines of its summary by module.
func readConformance(t *testing.T) (rows []conformanceRow, summary map[string]string) {
	text, err := os.ReadFile("docs/conformance.md")
	must(t, err)
	summary = map[string]string{}
	class := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := conformanceClass.FindStringSubmatch(line); m != nil {
			class = m[1] + " " + m[2]
			continue
		}
		if strings.HasPrefix(line, "## ") {
			class = ""
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|") || cells[0] == "---" || cells[0] == "CPython" || cells[0] == "module":
		case class == "":
			name, _, _ := strings.Cut(strings.Trim(cells[0], "["), "]")
			summary[name] = strings.Join(cells[1:], " ")
		case len(cells) != 2 || cells[1] == "":
			t.Errorf("%s: not a row of two cells: %s", class, line)
		default:
			r := conformanceRow{method: class + " " + cells[0], note: cells[1]}
			for strings.HasPrefix(r.note, "`") { // a note begins with the tests
				m := conformanceTest.FindStringSubmatch(r.note)
				r.tests = append(r.tests, m[1])
				r.note = strings.TrimLeft(strings.TrimPrefix(r.note, m[0]), ", .")
			}
			rows = append(rows, r)
		}
	}
	return rows, summary
}

// testFunctions returns the tests of this package, each with the strings in its file, because these
// contain the names of cases.
func testFunctions(t *testing.T) map[string]map[string]bool {
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	found := map[string]map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		texts := map[string]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					texts[s] = true
				}
			}
			return true
		})
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && len(fn.Type.Params.List) == 1 {
				found[fn.Name.Name] = texts
			}
		}
	}
	return found
}

// Every test that the document names exists.
func TestConformance_NamedTestsExist(t *testing.T) {
	rows, _ := readConformance(t)
	functions := testFunctions(t)
	for _, r := range rows {
		if len(r.tests) == 0 && len(r.note) < len("Missing: x.") {
			t.Errorf("%s: neither a test nor a reason", r.method)
		}
		for _, test := range r.tests {
			name, sub, isSub := strings.Cut(test, "/")
			switch texts := functions[name]; {
			case texts == nil:
				t.Errorf("%s: there is no %s", r.method, name)
			case isSub && !texts[sub]:
				t.Errorf("%s: the file of %s has no case %q", r.method, name, sub)
			}
		}
	}
}

// No test method is missing from the document. The test compares it with the recorded list and, if
// a CPython of the same version with its tests is at hand, with that.
func TestConformance_IsComplete(t *testing.T) {
	rows, _ := readConformance(t)
	var have []string
	for _, r := range rows {
		have = append(have, r.method)
	}
	slices.Sort(have)
	if unique := slices.Compact(slices.Clone(have)); len(unique) != len(have) {
		t.Errorf("%d rows, of which %d are there twice", len(have), len(have)-len(unique))
	}
	split := func(list []byte) (version string, methods []string) {
		lines := strings.Split(strings.TrimSpace(string(list)), "\n")
		return lines[0], lines[1:]
	}
	compare := func(what string, want []string) {
		slices.Sort(want)
		for _, w := range want {
			if _, ok := slices.BinarySearch(have, w); !ok {
				t.Errorf("%s: not in docs/conformance.md: %s", what, w)
			}
		}
		for _, h := range have {
			if _, ok := slices.BinarySearch(want, h); !ok {
				t.Errorf("%s: only in docs/conformance.md: %s", what, h)
			}
		}
	}
	recorded, err := os.ReadFile("testdata/cpython/tests.list")
	must(t, err)
	version, methods := split(recorded)
	compare("testdata/cpython/tests.list", methods)
	if python := os.Getenv("ASYNCIO_CPYTHON"); python != "" {
		cmd := exec.Command(python, "testdata/cpython/tests.py")
		cmd.Stderr = os.Stderr
		list, err := cmd.Output()
		must(t, err)
		if v, methods := split(list); v == version && len(methods) > 0 {
			compare(python, methods)
		} else {
			t.Logf("%s is %s with %d test methods, the document is about %s", python, v, len(methods), version)
		}
	}
}

// The document's summary counts its rows.
func TestConformance_Summary(t *testing.T) {
	rows, summary := readConformance(t)
	type counts struct{ all, covered, missing int }
	by := map[string]*counts{"all": {}}
	for _, r := range rows {
		module, _, _ := strings.Cut(r.method, " ")
		if by[module] == nil {
			by[module] = &counts{}
		}
		for _, c := range []*counts{by[module], by["all"]} {
			c.all++
			switch {
			case len(r.tests) > 0:
				c.covered++
			case strings.HasPrefix(r.note, "Missing: "):
				c.missing++
			}
		}
	}
	for module, c := range by {
		want := fmt.Sprint(c.all, c.covered, c.all-c.covered-c.missing, c.missing)
		if summary[module] != want {
			t.Errorf("%s: the summary says %q, the rows %q", module, summary[module], want)
		}
	}
	if len(summary) != len(by) {
		t.Errorf("the summary has %d lines, want %d", len(summary), len(by))
	}
}
