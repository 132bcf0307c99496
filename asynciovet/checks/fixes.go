package checks

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// returning returns the text to put before and behind a call, which is a statement and has an error
// as its only result, to return that error from f. It is not ok if f cannot return just an error.
func (c *code) returning(f *function, made *call) (before, after string, ok bool) {
	results := f.sig.Results()
	if !made.isStmt || !made.inList || results.Len() == 0 || !isError(results.At(results.Len()-1).Type()) {
		return "", "", false
	}
	if results.Len() > 1 && results.At(0).Name() != "" {
		// they may have been set already, and be meant to be returned with the error
		return "", "", false
	}
	var values []string
	for i := range results.Len() - 1 {
		zero, ok := c.zero(f, results.At(i).Type(), made.expr.Pos())
		if !ok {
			return "", "", false
		}
		values = append(values, zero)
	}
	for _, name := range []string{"nil", "false", "err"} {
		if name != "err" && !c.isUniversal(name, made.expr.Pos()) {
			return "", "", false
		}
	}
	values = append(values, "err")
	return "if err := ", "; err != nil {\nreturn " + strings.Join(values, ", ") + "\n}", true
}

// isUniversal reports whether a predeclared name has its usual meaning at pos.
func (c *code) isUniversal(name string, pos token.Pos) bool {
	scope := c.pass.Pkg.Scope().Innermost(pos)
	if scope == nil {
		return false
	}
	_, obj := scope.LookupParent(name, pos)
	return obj == types.Universe.Lookup(name)
}

// zero returns an expression for the zero value of t.
func (c *code) zero(f *function, t types.Type, pos token.Pos) (string, bool) {
	if _, ok := types.Unalias(t).(*types.TypeParam); ok {
		return "", false
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		switch {
		case u.Info()&types.IsString != 0:
			return `""`, true
		case u.Info()&types.IsBoolean != 0:
			return "false", true
		case u.Info()&types.IsNumeric != 0:
			return "0", true
		}
	case *types.Pointer, *types.Slice, *types.Map, *types.Chan, *types.Signature, *types.Interface:
		return "nil", true
	case *types.Struct:
		if name, ok := c.typeName(f, t); ok {
			return name + "{}", true
		}
	}
	return "", false
}

// typeName returns how the file of f calls a type without parameters.
func (c *code) typeName(f *function, t types.Type) (string, bool) {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.TypeArgs().Len() > 0 {
		return "", false
	}
	obj := named.Obj()
	switch {
	case obj.Pkg() == c.pass.Pkg && obj.Parent() == c.pass.Pkg.Scope():
		return obj.Name(), true
	case obj.Pkg() != nil && obj.Exported():
		if pkg := c.importName(f.file, obj.Pkg().Path()); pkg != "" {
			return pkg + "." + obj.Name(), true
		}
	}
	return "", false
}

// importName returns the name that a package has in a file, "" if the file does not import it.
func (c *code) importName(file *ast.File, path string) string {
	if file == nil {
		return ""
	}
	for _, spec := range file.Imports {
		name := c.pass.TypesInfo.PkgNameOf(spec)
		if name != nil && pathOf(name.Imported()) == path && name.Name() != "_" && name.Name() != "." {
			return name.Name()
		}
	}
	return ""
}

// contextAt returns the name of f's ctx if it can be used at pos, otherwise "".
func (c *code) contextAt(f *function, pos token.Pos) string {
	for f != nil && f.ownContext() == nil && f.lit != nil {
		f = f.parent
	}
	if f == nil || f.ownContext() == nil {
		return ""
	}
	v := f.ownContext()
	scope := c.pass.Pkg.Scope().Innermost(pos)
	if scope == nil || v.Name() == "" || v.Name() == "_" {
		return ""
	}
	if _, found := scope.LookupParent(v.Name(), pos); found != v {
		return ""
	}
	return v.Name()
}
