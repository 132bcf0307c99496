package checks

import (
	"go/ast"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	_ "github.com/goasyncio/asyncio" // so that go.mod requires it, as each module here does
)

// An exported is an exported function or method of the library, with its comments.
type exported struct {
	fn       *types.Func
	own, typ string // the comments of the function, and of its type or of the option that it makes
}

// loadLibrary returns the exported functions and methods by the names that library has for them.
func loadLibrary(t *testing.T) map[string]exported {
	t.Helper()
	work, err := filepath.Abs("../../go.work") // which leads to the library here
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.LoadSyntax,
		Dir:  "../..",
		Env:  append(os.Environ(), "GOWORK="+work, "GOFLAGS="),
	}, rootPath, simPath, httpPath, grpcPath, sqlPath)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]exported)
	for _, p := range pkgs {
		for _, err := range p.Errors {
			t.Fatal(err)
		}
		comments := readComments(p)
		add := func(fn *types.Func) {
			if fn.Pkg() != p.Types || !fn.Exported() {
				return
			}
			e := exported{fn: fn, own: comments[fn]}
			if recv := receiverType(fn); recv != nil {
				if !recv.Exported() {
					recv = embedder(recv)
				}
				e.typ = comments[recv]
			} else if results := fn.Signature().Results(); results.Len() == 1 {
				if made := libraryType(results.At(0).Type()); made != nil && strings.Contains(comments[made], "may make one") {
					e.typ = comments[made]
				}
			}
			all[libraryName(fn)] = e
		}
		scope := p.Types.Scope()
		for _, name := range scope.Names() {
			switch obj := scope.Lookup(name).(type) {
			case *types.Func:
				add(obj)
			case *types.TypeName:
				if !obj.Exported() {
					continue
				}
				recv := obj.Type()
				if !types.IsInterface(recv) {
					recv = types.NewPointer(recv)
				}
				methods := types.NewMethodSet(recv)
				for m := range methods.Methods() {
					add(m.Obj().(*types.Func).Origin())
				}
			}
		}
	}
	return all
}

// readComments returns the comments of a package, each on one line.
func readComments(p *packages.Package) map[types.Object]string {
	all := make(map[types.Object]string)
	note := func(id *ast.Ident, comments ...*ast.CommentGroup) {
		for _, c := range comments {
			if text := strings.Join(strings.Fields(c.Text()), " "); text != "" {
				all[p.TypesInfo.Defs[id]] = text
				return
			}
		}
	}
	for _, file := range p.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				note(n.Name, n.Doc)
				return false
			case *ast.GenDecl:
				for _, spec := range n.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						note(spec.Name, spec.Doc, n.Doc)
					}
				}
			case *ast.InterfaceType:
				for _, m := range n.Methods.List {
					for _, name := range m.Names {
						note(name, m.Doc)
					}
				}
			}
			return true
		})
	}
	return all
}

// TestLibrary_IsComplete: library.txt has each function of the library, and each function that can
// be given to one.
func TestLibrary_IsComplete(t *testing.T) {
	all := loadLibrary(t)
	for name, e := range all {
		f := library[name]
		if f == nil {
			t.Errorf("library.txt lacks %s: say who may call it", name)
			continue
		}
		given := make(map[string]bool)
		for p := range e.fn.Signature().Params().Variables() {
			if takesFunction(p.Type()) {
				given[p.Name()] = true
				if _, ok := f.params[p.Name()]; !ok {
					t.Errorf("library.txt: %s: say where the function runs that is given as %s", name, p.Name())
				}
			}
		}
		for p := range f.params {
			if !given[p] {
				t.Errorf("library.txt: %s: no function is given as %s", name, p)
			}
		}
	}
	for name := range library {
		if _, ok := all[name]; !ok {
			t.Errorf("library.txt has %s, which is not in the library", name)
		}
	}
	if len(all) < 400 {
		t.Errorf("found %d functions only", len(all))
	}
}

// takesFunction reports whether a parameter of type t is a function, or several, or a handler of
// net/http.
func takesFunction(t types.Type) bool {
	if s, ok := t.(*types.Slice); ok {
		t = s.Elem()
	}
	if _, ok := t.Underlying().(*types.Signature); ok {
		return true
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "net/http" && named.Obj().Name() == "Handler"
}

var (
	saysAnyone  = regexp.MustCompile(`(?i)any goroutine may (?:call|make|use) (it|one|a|its|their|\w+)\b|(?:is|are) for any goroutine|called on any goroutine|or a goroutine outside of every loop|that any goroutine may use|blocks the calling goroutine, or suspends the calling task`)
	saysExcept  = regexp.MustCompile(`except (?:that any goroutine may call )?([A-Z]\w+(?:, \w+)*(?: and \w+)?)`)
	saysOutside = regexp.MustCompile(`(?i)blocks (?:the calling|its) goroutine`)
	saysNot     = regexp.MustCompile(`(?i)(?:does not|neither|and not|none of which|must not|do not) suspends?\b`)
	saysTask    = regexp.MustCompile(`(?i)\bsuspends?\b|is suspended|in a task\b|for tasks only|for the loop's tasks only`)
	likeAnother = regexp.MustCompile(`^\w+ (?:is|are) \[?[A-Z]\w*|as \[[A-Z]`)
)

// TestLibrary_SaysWhatTheCommentsSay: where a comment says that any goroutine may call a function,
// that it blocks a goroutine or that it suspends a task, so does library.txt, and the other way
// round.
func TestLibrary_SaysWhatTheCommentsSay(t *testing.T) {
	// What the comments say in other words, or say about something else.
	exceptions := map[string]string{
		"asyncio.EventLoop.Close":                "a goroutine closes its loop, and one that runs refuses",
		"asyncio.EventLoop.CallExceptionHandler": "a call from elsewhere goes to the default handler",
		"asyncio.Runner.GetLoop":                 "for the goroutine that has the runner, which is the comment of the type",
		"asyncio.Runner.Close":                   "it ends what is left, which is a run",
		"asyncio.ConcurrentFuture.Finished":      "the comment of the type says it",
		"asyncio.GroupLimit":                     "it suspends the one that creates children",
		"asyncio.StreamReader.Reader":            "what it returns suspends",
		"asyncio.StreamWriter.Writer":            "what it returns suspends",
		"asyncio.StreamWriter.CloseSoon":         "a task that does not suspend",
		"asyncio.StreamWriter.WriteSoon":         "a task that does not suspend",
		"asyncio.DeliverAgain":                   "a task that does not suspend",
		"asyncio.ThreadsafeConn.CloseWrite":      "it blocks for a moment, and not in a task",
		"asyncio.ThreadsafeDialer":               "what it returns blocks or suspends",
		"asyncio.Condition.WaitFor":              "it says what Wait does",
		"asynciogrpc.StreamClientInterceptor":    "the streams that it makes suspend",
	}
	implementations := map[string]string{"AnyFuture": "Future", "AnyTask": "Task", "AnyLock": "Lock", "AnyQueue": "Queue", "StreamConn": "Conn"}
	all := loadLibrary(t)
	for name := range exceptions {
		if library[name] == nil {
			t.Errorf("an exception for %s, which is not in library.txt", name)
		}
	}
	for name, e := range all {
		f := library[name]
		if f == nil || exceptions[name] != "" {
			continue
		}
		if recv := receiverType(e.fn); recv != nil && e.own == "" {
			if by := implementations[recv.Name()]; by != "" {
				by = "asyncio." + by + "." + e.fn.Name()
				if other := library[by]; other == nil || other.who != f.who || other.acts != f.acts {
					t.Errorf("library.txt says something else about %s than about %s", name, by)
				}
				continue
			}
		}
		method := e.fn.Name()
		if e.fn.Signature().Recv() != nil && slices.Contains([]string{"Error", "Is", "Unwrap", "String", "Timeout", "Failed", "Fatalf", "Helper", "Logf", "Name"}, method) {
			continue
		}
		said := saidWho(e, method)
		if said != unknown && f.who != said {
			t.Errorf("%s: library.txt says %v, the comment says %v: %s", name, f.who, said, e.own)
		}
		both := e.own + " " + e.typ
		switch {
		case likeAnother.MatchString(e.own):
		case f.who == anyone && !saysAnyone.MatchString(both) && !saysExcept.MatchString(e.typ):
			t.Errorf("%s: library.txt says that anyone may call it, the comment does not: %s", name, e.own)
		case f.who == outside && !saysOutside.MatchString(both):
			t.Errorf("%s: library.txt says that it blocks a goroutine, the comment does not: %s", name, e.own)
		case f.who == task && !saysTask.MatchString(both):
			t.Errorf("%s: library.txt says that it suspends, the comment does not: %s", name, e.own)
		}
	}
}

// saidWho returns what the comment of a function itself says, unknown if that is nothing that is
// certain.
func saidWho(e exported, method string) who {
	for _, m := range saysAnyone.FindAllStringSubmatch(e.own, -1) {
		switch {
		case strings.HasPrefix(m[0], "that"): // said of the result
		case m[1] == "", m[1] == "it", m[1] == "one", m[1] == "a", m[1] == method:
			return anyone
		}
	}
	if saysOutside.MatchString(e.own) {
		return outside
	}
	own := saysNot.ReplaceAllString(e.own, "")
	if regexp.MustCompile(`(?i)suspends the calling task|calling task is suspended|must be called in a task[ ,.](?:and|which|of)`).MatchString(own) && !strings.Contains(own, "or a callback") {
		return task
	}
	return unknown
}

// TestLibrary_ReadsItsTable: a table with a mistake is refused, as a mistake of this package.
func TestLibrary_ReadsItsTable(t *testing.T) {
	for _, text := range []string{"package p\n\tF nobody\n", "package p\n\tF anyone sings\n", "package p\n\tF anyone f=nowhere\n"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was accepted", text)
				}
			}()
			readLibrary(text)
		}()
	}
	if names := slices.Collect(maps.Keys(readLibrary("# comment\n\npackage p\n\tF anyone acts f=loop\n"))); !slices.Equal(names, []string{"p.F"}) {
		t.Error(names)
	}
}
