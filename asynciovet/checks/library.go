package checks

import (
	_ "embed"
	"fmt"
	"go/types"
	"strings"
	"sync"
)

// The packages of the library.
const (
	rootPath = "github.com/goasyncio/asyncio"
	simPath  = rootPath + "/sim"
	httpPath = rootPath + "/asynciohttp"
	grpcPath = rootPath + "/asynciogrpc"
	sqlPath  = rootPath + "/asynciosql"
)

//go:embed library.txt
var libraryText string

// library describes the exported functions of the library by their names, such as
// asyncio.Lock.Acquire.
var library = readLibrary(libraryText)

// Who says which code may call a function of the library.
type who uint8

const (
	unknown who = iota
	anyone      // any goroutine
	loop        // tasks and callbacks of the loop
	task        // a task, which the call suspends
	outside     // a goroutine that is none of a loop's, which the call blocks
)

var whoNames = [...]string{"", "anyone", "loop", "task", "outside"}

func (w who) String() string { return whoNames[w] }

// A face is what is known about the calls of a function of the library.
type face struct {
	who      who
	suspends bool             // the task that calls it
	acts     bool             // tasks can tell in which order such calls came
	params   map[string]place // where functions run that it is given
}

func readLibrary(text string) map[string]*face {
	all := make(map[string]*face)
	pkg := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
			continue
		case words[0] == "package":
			pkg = words[1]
			continue
		}
		f := &face{params: make(map[string]place)}
		for i, name := range whoNames {
			if name == words[1] {
				f.who = who(i)
			}
		}
		f.suspends = f.who == task
		for _, word := range words[2:] {
			param, where, isParam := strings.Cut(word, "=")
			switch {
			case isParam:
				f.params[param] = placeNamed(where)
			case word == "suspends":
				f.suspends = true
			case word == "acts":
				f.acts = true
			default:
				panic(fmt.Sprintf("library.txt: %s: %q is no word that is known", words[0], word))
			}
		}
		if f.who == unknown {
			panic(fmt.Sprintf("library.txt: %s: nobody may call it", words[0]))
		}
		all[pkg+"."+words[0]] = f
	}
	return all
}

// pathOf returns the import path of a package. The go command adds the name of the test to the path
// of a package that it compiles for a test once more.
func pathOf(p *types.Package) string {
	path, _, _ := strings.Cut(p.Path(), " [")
	return path
}

// isLibrary reports whether p is one of the packages that library describes.
func isLibrary(p *types.Package) bool {
	if p == nil {
		return false
	}
	switch pathOf(p) {
	case rootPath, simPath, httpPath, grpcPath, sqlPath:
		return true
	}
	return false
}

// isInside reports whether p is part of the library, whose own code does what nobody else may do.
func isInside(p *types.Package) bool {
	return isLibrary(p) || strings.HasPrefix(pathOf(p), rootPath+"/internal/")
}

// faceOf describes a function of the library. It returns nil for others.
func faceOf(fn *types.Func) *face {
	if fn == nil || !isLibrary(fn.Pkg()) {
		return nil
	}
	return library[libraryName(fn)]
}

// libraryName returns the name that library has for fn. A method that is promoted from a type that
// is not exported has the name of the exported type that embeds it.
func libraryName(fn *types.Func) string {
	pkg := fn.Pkg().Name()
	recv := receiverType(fn)
	if recv == nil {
		return pkg + "." + fn.Name()
	}
	if !recv.Exported() {
		recv = embedder(recv)
	}
	return pkg + "." + recv.Name() + "." + fn.Name()
}

// receiverType returns the name of the type that fn is a method of, nil if it is a function.
func receiverType(fn *types.Func) *types.TypeName {
	recv := fn.Signature().Recv()
	if recv == nil {
		return nil
	}
	t := types.Unalias(recv.Type())
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj()
	}
	return nil
}

var embedders sync.Map // *types.TypeName to *types.TypeName

// embedder returns the exported type that embeds t, with the shortest name if there are several, or
// t if there is none.
func embedder(t *types.TypeName) *types.TypeName {
	if found, ok := embedders.Load(t); ok {
		return found.(*types.TypeName)
	}
	found := t
	scope := t.Pkg().Scope()
	for _, name := range scope.Names() {
		by, ok := scope.Lookup(name).(*types.TypeName)
		if ok && by.Exported() && embeds(by.Type(), t) && (found == t || len(name) < len(found.Name())) {
			found = by
		}
	}
	embedders.Store(t, found)
	return found
}

func embeds(outer types.Type, inner *types.TypeName) bool {
	s, ok := outer.Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for field := range s.Fields() {
		if !field.Embedded() {
			continue
		}
		if named, ok := types.Unalias(field.Type()).(*types.Named); ok && named.Obj() == inner {
			return true
		}
	}
	return false
}

// libraryType returns the type of the library that t is or points to, nil if there is none.
func libraryType(t types.Type) *types.TypeName {
	t = types.Unalias(t)
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	if named, ok := t.(*types.Named); ok && isLibrary(named.Obj().Pkg()) {
		return named.Obj()
	}
	return nil
}

// isCoroutine reports whether t is a Coroutine.
func isCoroutine(t types.Type) bool {
	name := libraryType(t)
	return name != nil && name.Name() == "Coroutine"
}

// isLoopFunc reports whether t is a type of functions that a loop runs, such as Coroutine and
// Handler.
func isLoopFunc(t types.Type) bool {
	if libraryType(t) == nil {
		return false
	}
	_, isFunc := t.Underlying().(*types.Signature)
	return isFunc
}

func isContext(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return false
	}
	return named.Obj().Pkg().Path() == "context" && named.Obj().Name() == "Context"
}
