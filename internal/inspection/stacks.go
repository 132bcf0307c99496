package inspection

import "strings"

// ProgramsPlace returns the innermost place of a goroutine's stack, as runtime.Stack prints it,
// that is neither in the standard library nor in this one: "/src/app/main.go:12".
func ProgramsPlace(stack string) string {
	_, frames, _ := strings.Cut(stack, "\n")
	function := ""
	for line := range strings.Lines(frames) {
		line = strings.TrimSuffix(line, "\n")
		at, isPlace := strings.CutPrefix(line, "\t")
		if !isPlace {
			function = line
			continue
		}
		at, _, _ = strings.Cut(at, " +0x")
		if pkg := packageOf(function); pkg != library && !strings.HasPrefix(pkg, library+"/internal/") && !isStandard(pkg) {
			return at
		}
	}
	return ""
}

const library = "github.com/goasyncio/asyncio"

// packageOf returns the import path of a function: of "example.com/a/b.(*T).f(0x1)" it is
// "example.com/a/b".
func packageOf(function string) string {
	function, _, _ = strings.Cut(function, "[") // type arguments have paths of their own
	function = strings.TrimPrefix(function, "created by ")
	slash := strings.LastIndexByte(function[:len(function)-len(afterParenthesis(function))], '/')
	name, _, _ := strings.Cut(function[slash+1:], ".")
	return function[:slash+1] + name
}

// afterParenthesis returns what follows, and includes, the first parenthesis.
func afterParenthesis(s string) string {
	if i := strings.IndexByte(s, '('); i >= 0 {
		return s[i:]
	}
	return ""
}

// isStandard reports whether a package is of the standard library, whose top directories these are.
// The files do not tell: with -trimpath they look like those of a module without a dot in its name.
func isStandard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return standard[first]
}

var standard = func() map[string]bool {
	set := make(map[string]bool)
	for dir := range strings.FieldsSeq(`archive bufio bytes cmp compress container context crypto database debug embed encoding errors expvar flag
		fmt go hash html image index internal io iter log maps math mime net os path plugin reflect regexp runtime slices sort strconv
		strings structs sync syscall testing text time unicode unique unsafe vendor weak`) {
		set[dir] = true
	}
	return set
}()
