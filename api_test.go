package asyncio_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAPI: each package's api.txt lists the names that programs can use, one line for each name. So
// a change of the API shows in the same commit. `make api` writes the files again.
func TestAPI(t *testing.T) {
	for _, dir := range []string{".", "asynciogrpc", "asynciohttp", "asynciohttp/asynciohttptest", "asynciolog", "asynciootel", "asyncioprometheus", "asynciosql", "inspect", "lab", "metrics", "sim"} {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			continue // a module of its own, which the root module does not contain
		}
		file := filepath.Join(dir, "api.txt")
		got := strings.Join(exported(t, dir), "\n") + "\n"
		if os.Getenv("ASYNCIO_API") == "write" {
			must(t, os.WriteFile(file, []byte(got), 0o644))
			continue
		}
		want := readFile(t, file)
		gone, added := lessLines(want, got), lessLines(got, want)
		if len(gone)+len(added) > 0 {
			t.Errorf("%s differs from the package; if that is meant, make api\n- %s\n+ %s",
				file, strings.Join(gone, "\n- "), strings.Join(added, "\n+ "))
		}
		if len(added) == 0 && got != want && len(gone) == 0 {
			t.Errorf("%s is not in order: make api", file)
		}
	}
}

// lessLines returns the lines of a that are not in b.
func lessLines(a, b string) []string {
	there := strings.Split(b, "\n")
	return slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(there, line) })
}

// exported lists the exported names of the package in dir on linux: functions, methods (those of
// embedded types too), types with their exported fields, variables and constants.
func exported(t *testing.T, dir string) []string {
	t.Helper()
	system := build.Default
	system.GOOS, system.GOARCH = "linux", "amd64"
	p, err := system.ImportDir(dir, 0)
	must(t, err)
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		must(t, err)
		parsed = append(parsed, f)
	}
	// Types of other packages are ignored. They add names only where they are embedded, and the
	// list shows an embedded type.
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object)}
	config := types.Config{Error: func(error) {}, Importer: noImports{}}
	checked, _ := config.Check(p.Name, fset, parsed, info)

	var all []string
	functions := make(map[types.Object]*ast.FuncDecl)
	for _, f := range parsed {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				functions[info.Defs[d.Name]] = d
				if d.Recv == nil && d.Name.IsExported() {
					all = append(all, oneLine(t, &ast.FuncDecl{Name: d.Name, Type: d.Type}))
				}
			case *ast.GenDecl:
				all = append(all, exportedSpecs(t, d)...)
			}
		}
	}
	for _, name := range checked.Scope().Names() {
		typ, ok := checked.Scope().Lookup(name).(*types.TypeName)
		if !ok || !typ.Exported() || typ.IsAlias() || types.IsInterface(typ.Type()) {
			continue
		}
		values := types.NewMethodSet(typ.Type())
		for m := range types.NewMethodSet(types.NewPointer(typ.Type())).Methods() {
			f := m.Obj().(*types.Func)
			d := functions[f.Origin()]
			if !f.Exported() || d == nil {
				continue // a method of an embedded type of another package
			}
			receiver := "*" + name
			if values.Lookup(f.Pkg(), f.Name()) != nil {
				receiver = name
			}
			signature := strings.TrimPrefix(oneLine(t, &ast.FuncDecl{Name: d.Name, Type: d.Type}), "func ")
			all = append(all, "func ("+receiver+") "+signature)
		}
	}
	slices.Sort(all)
	return all
}

// noImports returns an empty package for each import.
type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}

func exportedSpecs(t *testing.T, d *ast.GenDecl) (all []string) {
	var typ ast.Expr // of the constants before; a constant without a type goes on with it
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() {
				all = append(all, exportedType(t, spec)...)
			}
		case *ast.ValueSpec:
			if spec.Type != nil || spec.Values != nil {
				typ = spec.Type
			}
			for _, name := range spec.Names {
				if !name.IsExported() {
					continue
				}
				line := d.Tok.String() + " " + name.Name
				if typ != nil {
					line += " " + oneLine(t, typ)
				}
				all = append(all, line)
			}
		}
	}
	return all
}

func exportedType(t *testing.T, spec *ast.TypeSpec) []string {
	head := "type " + spec.Name.Name
	if spec.TypeParams != nil {
		var params []string
		for _, f := range spec.TypeParams.List {
			for _, name := range f.Names {
				params = append(params, name.Name+" "+oneLine(t, f.Type))
			}
		}
		head += "[" + strings.Join(params, ", ") + "]"
	}
	var fields *ast.FieldList
	kind := ""
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		kind, fields = "struct", typ.Fields
	case *ast.InterfaceType:
		kind, fields = "interface", typ.Methods
	default:
		if spec.Assign.IsValid() {
			head += " ="
		}
		return []string{head + " " + oneLine(t, spec.Type)}
	}
	all := []string{head + " " + kind}
	hidden := false
	for _, f := range fields.List {
		text := oneLine(t, f.Type)
		if len(f.Names) == 0 { // embedded
			base := strings.TrimPrefix(text, "*")
			base = base[strings.LastIndex(base, ".")+1:]
			if hidden = hidden || !token.IsExported(base); token.IsExported(base) {
				all = append(all, head+" "+kind+", "+text)
			}
		}
		for _, name := range f.Names {
			if hidden = hidden || !name.IsExported(); name.IsExported() {
				all = append(all, head+" "+kind+", "+name.Name+" "+strings.TrimPrefix(text, "func"))
			}
		}
	}
	if hidden && kind == "interface" {
		all = append(all, head+" "+kind+", and methods of the package's own")
	}
	return all
}

// oneLine prints a node in one line.
func oneLine(t *testing.T, node any) string {
	t.Helper()
	var b bytes.Buffer
	must(t, printer.Fprint(&b, token.NewFileSet(), node))
	return strings.Join(strings.Fields(b.String()), " ")
}
