package asyncio_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// packageDoc reads the documentation of the root package, with its examples.
func packageDoc(t *testing.T) *doc.Package {
	t.Helper()
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, file := range files(t, "*.go") {
		if strings.Contains(file, "/") || file == "export_test.go" {
			continue
		}
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	p, err := doc.NewFromFiles(fset, parsed, module)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDocs_EveryTypeHasAnExample: the documentation of every type has a program that uses it, with
// its output.
func TestDocs_EveryTypeHasAnExample(t *testing.T) {
	for _, typ := range packageDoc(t).Types {
		shown := false
		for _, e := range typ.Examples {
			shown = shown || e.Suffix == "" && e.Output != ""
		}
		if !shown {
			t.Errorf("type %s has no Example%[1]s with an output", typ.Name)
		}
	}
}
