package asyncio_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const pythonPage = "docs/python.md"

// A nameRow is a row of a table in docs/python.md.
type nameRow struct {
	line     int
	section  string
	recorded bool // the table is about the names in testdata/cpython/names.txt
	python   []string
	goCell   string
	remark   string
}

func (r nameRow) absent() bool { return r.goCell == "absent" }

var codeSpan = regexp.MustCompile("`+([^`]+)`+")

// spans returns the code in a cell.
func spans(cell string) (all []string) {
	for _, m := range codeSpan.FindAllStringSubmatch(cell, -1) {
		all = append(all, strings.ReplaceAll(m[1], `\|`, "|"))
	}
	return all
}

// readPythonPage returns the rows of the page, and the lines of its summary by section.
func readPythonPage(t *testing.T) (rows []nameRow, summary map[string]string) {
	t.Helper()
	summary = make(map[string]string)
	section, head, inCode := "", "", false
	for i, line := range strings.Split(readFile(t, pythonPage), "\n") {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		if heading, ok := strings.CutPrefix(line, "## "); ok && !inCode {
			section = heading
		}
		if !strings.HasPrefix(line, "|") || inCode {
			head = ""
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "\x00", `\|`)
		}
		switch {
		case head == "":
			head = cells[0]
		case cells[0] == "---":
		case head == "section":
			name, _, _ := strings.Cut(strings.Trim(cells[0], "["), "]")
			summary[name] = strings.Join(cells[1:], " ")
		case len(cells) != 3:
			t.Errorf("%s:%d: not a row of three cells", pythonPage, i+1)
		default:
			r := nameRow{i + 1, section, head == "asyncio", spans(cells[0]), cells[1], cells[2]}
			if r.absent() && r.remark == "" {
				t.Errorf("%s:%d: absent, without a reason", pythonPage, r.line)
			}
			rows = append(rows, r)
		}
	}
	return rows, summary
}

// Each name of CPython's has one row. The names are the recorded ones and, if a CPython of the same
// version is at hand, also those that it has.
func TestPythonNames_EachHasOneRow(t *testing.T) {
	rows, _ := readPythonPage(t)
	var have []string
	for _, r := range rows {
		if r.recorded {
			have = append(have, r.python...)
		}
	}
	slices.Sort(have)
	for i, name := range have {
		if i > 0 && have[i-1] == name {
			t.Errorf("%s has two rows in %s", name, pythonPage)
		}
	}
	compare := func(what string, want []string) {
		for _, name := range want {
			if _, ok := slices.BinarySearch(have, name); !ok {
				t.Errorf("%s has %s, which has no row in %s", what, name, pythonPage)
			}
		}
		for _, name := range have {
			if !slices.Contains(want, name) {
				t.Errorf("%s has no %s, which has a row in %s", what, name, pythonPage)
			}
		}
	}
	recorded := strings.Split(strings.TrimSpace(readFile(t, "testdata/cpython/names.txt")), "\n")
	compare("testdata/cpython/names.txt", recorded[1:])
	if python := os.Getenv("ASYNCIO_CPYTHON"); python != "" {
		cmd := exec.Command(python, "testdata/cpython/names.py")
		cmd.Stderr = os.Stderr
		list, err := cmd.Output()
		must(t, err)
		names := strings.Split(strings.TrimSpace(string(list)), "\n")
		if names[0] == recorded[0] {
			compare(python, names[1:])
		} else {
			t.Logf("%s is %s, the page is about %s", python, names[0], recorded[0])
		}
	}
}

// pageVariables declares what the Go code in the page's tables uses, as the page's first section
// explains it.
const pageVariables = `
	var (
		ctx          context.Context
		f            func(ctx context.Context) (int, error)
		g            func(ctx context.Context) error
		main         = f
		fn           func()
		call         func() (int, error)
		work         func(ctx context.Context) (int, error)
		handler      Handler
		d            time.Duration
		loop         *EventLoop
		when         = loop.Time()
		runner       *Runner
		x            Awaitable[int]
		a, b, fut    *Future[int]
		task         *Task[int]
		anyFuture    AnyFuture
		ts           []*Task[int]
		cf           *ConcurrentFuture[int]
		cb           func(*Future[int])
		token        *DoneCallback
		tg           *TaskGroup
		tm           *TimeoutScope
		h            *Handle
		timer        *TimerHandle
		q            *Queue[int]
		v            int
		lock         *Lock
		event        *Event
		cond         *Condition
		sem          *Semaphore
		bounded      *BoundedSemaphore
		barrier      *Barrier
		r            *StreamReader
		w            *StreamWriter
		conn         *Conn
		tlsConn      *TLSConn
		packets      *PacketConn
		datagrams    *DatagramConn
		listener     *Listener
		listeners    []*Listener
		server       *Server
		p            *Process
		e            Executor
		err          error
		group        *GroupError
		incomplete   *IncompleteReadError
		overrun      *LimitOverrunError
		request      *TaskRequest
		ch           chan int
		key          struct{}
	)
`

// stubs returns an empty package for each import, except for the names in nearly every signature:
// without these the compiler does not look at the other arguments of a call.
type stubs struct{}

func (stubs) Import(path string) (*types.Package, error) {
	source, ok := map[string]string{
		"context": "type Context interface { Done() <-chan struct{}; Err() error; Value(key any) any }; type CancelFunc func()",
		"time":    "type Duration int64; type Time struct { wall, ext int64 }",
	}[path]
	if !ok {
		return noImports{}.Import(path)
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, "package "+path+";"+source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return new(types.Config).Check(path, fset, []*ast.File{file}, nil)
}

// A packageCheck is the result of type-checking the root package together with the Go code of the
// page's tables.
type packageCheck struct {
	scope *types.Scope
	used  map[string]map[string]bool // for each code span: the exported names in it, by key
	wrong map[string]string          // why a span does not compile
}

// checkSpans compiles code spans inside the package: expressions, statements and types. What they
// use of other packages is not known to the compiler and is not checked.
func checkSpans(t *testing.T, all []string) packageCheck {
	t.Helper()
	system := build.Default
	system.GOOS, system.GOARCH = "linux", "amd64"
	p, err := system.ImportDir(".", 0)
	must(t, err)
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		must(t, err)
		parsed = append(parsed, file)
	}
	c := packageCheck{used: make(map[string]map[string]bool), wrong: make(map[string]string)}
	bySpan := make(map[string]string) // the file name of each span
	for i, span := range all {
		name := fmt.Sprintf("span%d", i)
		bySpan[name] = span
		c.used[span] = make(map[string]bool)
		body := strings.NewReplacer("{ … }", "{ panic(0) }", ", …)", ")").Replace(span)
		source := "package asyncio; import (`cmp`; `context`; `errors`; `net`; `os`; `syscall`; `time`)\n" +
			"func _() {" + pageVariables + body + "\n}\n"
		file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
		if err != nil {
			c.wrong[span] = err.Error()
			continue
		}
		parsed = append(parsed, file)
	}
	// What has no consequence here, and what comes from the missing packages.
	harmless := regexp.MustCompile(`declared and not used|imported and not used|is not used|is not an expression|without instantiation|^undefined: [a-z]+\.[A-Z]`)
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: stubs{}, Error: func(err error) {
		var e types.Error
		if errors.As(err, &e) && !harmless.MatchString(e.Msg) {
			if span := bySpan[fset.Position(e.Pos).Filename]; span != "" {
				c.wrong[span] = e.Msg
			}
		}
	}}
	checked, _ := config.Check(p.Name, fset, parsed, info)
	c.scope = checked.Scope()
	for span := range c.wrong {
		if c.members()[span] {
			delete(c.wrong, span) // a method or field without its variable, in a sentence
		}
	}
	for id, obj := range info.Uses {
		span := bySpan[fset.Position(id.Pos()).Filename]
		if span != "" && obj.Exported() && obj.Pkg() == checked {
			c.used[span][nameKey(obj.Name())] = true
			c.used[span][nameKey(marked.ReplaceAllString(obj.Name(), "$1"))] = true
		}
	}
	return c
}

// marked matches names that are Python's with a mark of Go's: those of constructors and errors.
var marked = regexp.MustCompile(`^(?:New|Err)([A-Z])`)

// nameKey is the same for a name of Python's and for the same name in Go.
func nameKey(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

// members returns the exported methods and fields of all types, and those of interfaces.
func (c packageCheck) members() map[string]bool {
	all := make(map[string]bool)
	for _, name := range c.scope.Names() {
		typ, ok := c.scope.Lookup(name).(*types.TypeName)
		if !ok || !typ.Exported() {
			continue
		}
		for m := range types.NewMethodSet(types.NewPointer(typ.Type())).Methods() {
			all[m.Obj().Name()] = m.Obj().Exported()
		}
		if s, ok := typ.Type().Underlying().(*types.Struct); ok {
			for f := range s.Fields() {
				all[f.Name()] = f.Exported()
			}
		}
	}
	return all
}

// isGo reports whether a code span in a remark is Go, so that it can be checked.
func isGo(span string) bool {
	first := regexp.MustCompile(`^[*&]?(?:for \S+, err := range |\w+, err := )?(\w+)`).FindStringSubmatch(span)
	if first == nil || strings.Contains(span, "=1") {
		return false
	}
	return token.IsExported(first[1]) || regexp.MustCompile(`(?m)^\t\t(?:\w+, )*`+first[1]+`[ ,]`).MatchString(pageVariables)
}

// checkPage compiles all Go code in the page's tables.
func checkPage(t *testing.T) ([]nameRow, packageCheck) {
	t.Helper()
	rows, _ := readPythonPage(t)
	var all []string
	for _, r := range rows {
		all = append(all, spans(r.goCell)...)
		for _, s := range spans(r.remark) {
			if isGo(s) {
				all = append(all, s)
			}
		}
	}
	slices.Sort(all)
	return rows, checkSpans(t, slices.Compact(all))
}

// The Go code in the tables compiles: its names exist, with the arguments shown.
func TestPythonNames_GoNamesExist(t *testing.T) {
	rows, c := checkPage(t)
	for _, r := range rows {
		if !r.absent() && len(spans(r.goCell)) == 0 {
			t.Errorf("%s:%d: neither Go code nor %q", pythonPage, r.line, "absent")
		}
		for _, s := range append(spans(r.goCell), spans(r.remark)...) {
			if why := c.wrong[s]; why != "" {
				t.Errorf("%s:%d: `%s`: %s", pythonPage, r.line, s, why)
			}
		}
	}
}

// goTypes says which type of the package stands for a class that is called otherwise in Python.
var goTypes = map[string]string{
	"loop": "EventLoop", "subprocess.Process": "Process", "Timeout": "TimeoutScope",
	"BaseTransport": "Conn", "ReadTransport": "Conn", "WriteTransport": "Conn", "Transport": "Conn",
	"DatagramTransport": "PacketConn", "SubprocessTransport": "Process",
}

// namesake returns the exported name of the package that is Python's name in Go's spelling, if
// there is one: of a method or field of the class's type, or of the package.
func (c packageCheck) namesake(python string) string {
	class, name := "", python
	if i := strings.LastIndex(python, "."); i >= 0 {
		class, name = python[:i], python[i+1:]
	}
	if strings.HasPrefix(name, "_") {
		return ""
	}
	key := nameKey(name)
	goType := class
	if other := goTypes[class]; other != "" {
		goType = other
	}
	if typ, ok := c.scope.Lookup(goType).(*types.TypeName); ok {
		for m := range types.NewMethodSet(types.NewPointer(typ.Type())).Methods() {
			if m.Obj().Exported() && nameKey(m.Obj().Name()) == key {
				return typ.Name() + "." + m.Obj().Name()
			}
		}
		if s, ok := typ.Type().Underlying().(*types.Struct); ok {
			for f := range s.Fields() {
				if f.Exported() && nameKey(f.Name()) == key {
					return typ.Name() + "." + f.Name()
				}
			}
		}
	}
	if class == "" || class == "loop" || class == "subprocess" || class == "staggered" {
		for _, n := range c.scope.Names() {
			if token.IsExported(n) && nameKey(n) == key {
				return n
			}
		}
	}
	return ""
}

// A name that is said to be absent does not exist, and one that exists is in its row. The summary
// counts the rows.
func TestPythonNames_AbsentAreAbsent(t *testing.T) {
	rows, c := checkPage(t)
	_, summary := readPythonPage(t)
	type counts struct{ all, same, other, absent int }
	by := map[string]*counts{"all": {}}
	for _, r := range rows {
		inCell, inRow := make(map[string]bool), make(map[string]bool)
		for i, cell := range []string{r.goCell, r.remark} {
			for _, s := range spans(cell) {
				for key := range c.used[s] {
					inCell[key] = inCell[key] || i == 0
					inRow[key] = true
				}
			}
		}
		if !r.recorded {
			continue
		}
		if by[r.section] == nil {
			by[r.section] = &counts{}
		}
		for _, python := range r.python {
			key := nameKey(python[strings.LastIndex(python, ".")+1:])
			goName := c.namesake(python)
			switch {
			case r.absent() && goName != "":
				t.Errorf("%s:%d: %s is not absent: there is %s", pythonPage, r.line, python, goName)
			case goName != "" && !inRow[key]:
				t.Errorf("%s:%d: %s: the row does not name %s", pythonPage, r.line, python, goName)
			}
			for _, n := range []*counts{by[r.section], by["all"]} {
				n.all++
				switch {
				case r.absent():
					n.absent++
				case inCell[key]:
					n.same++
				default:
					n.other++
				}
			}
		}
	}
	for section, n := range by {
		want := fmt.Sprint(n.all, n.same, n.other, n.absent)
		if summary[section] != want {
			t.Errorf("%s: the summary says %q, the rows %q", section, summary[section], want)
		}
	}
	if len(summary) != len(by) {
		t.Errorf("the summary has %d lines, want %d", len(summary), len(by))
	}
}

// unindented returns the lines of text without the tabs before them.
func unindented(text string) string {
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(text, "")
}

// The page's Go examples are parts of python_snippets_test.go, which compiles and runs them. If a
// CPython is at hand, it parses the Python beside them.
func TestPythonNames_ExamplesCompile(t *testing.T) {
	page := readFile(t, pythonPage)
	compiled := unindented(readFile(t, "python_snippets_test.go"))
	blocks := fenced(page, "go")
	if len(blocks) < 5 {
		t.Fatalf("found %d examples only", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(compiled, unindented(block)) {
			t.Errorf("not in python_snippets_test.go:\n%s", block)
		}
	}
	if python := os.Getenv("ASYNCIO_CPYTHON"); python != "" {
		for _, block := range fenced(page, "python") {
			cmd := exec.Command(python, "-c", "import ast, sys; ast.parse(sys.stdin.read())")
			cmd.Stdin = strings.NewReader(block)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s%s", err, block, out)
			}
		}
	}
}
