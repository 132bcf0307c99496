package asyncio_test

import (
	"cmp"
	"go/doc"
	"go/scanner"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A rule is a numbered sentence in the comment of the file that keeps it. It is called by the name
// of its subject, which no other file uses, and a number. So a search finds every citation.
var (
	definedRule = regexp.MustCompile(`(?m)^//\t([A-Za-z]+) (\d+): \S`)
	documented  = regexp.MustCompile(`(?m)^- \*\*([A-Za-z]+) (\d+)\*\* \S`) // in docs/design.md
	// does not match CPython 3.13
	citedRule = regexp.MustCompile(`\b([A-Za-z]+) (\d+)(?:-(\d+))?(?:[^\w.]|\.(?:\D|$)|$)`)
)

// filesWith returns the paths of all files with this ending, in this module and in the ones beside
// it.
func filesWith(t *testing.T, ending string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && name != "." && (name == "testdata" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ending) {
			all = append(all, path)
		}
		return nil
	}))
	return all
}

// rules returns the number of rules for each name.
func rules(t *testing.T) map[string]int {
	t.Helper()
	last, where := make(map[string]int), make(map[string]string)
	add := func(file string, found [][]string) {
		for _, m := range found {
			name, n := m[1], m[2]
			if where[name] != "" && where[name] != file {
				t.Errorf("%s %s is in %s, and others of that name in %s", name, n, file, where[name])
			}
			where[name] = file
			if last[name]++; n != strconv.Itoa(last[name]) {
				t.Errorf("%s: %s %s comes where %d was expected", file, name, n, last[name])
			}
		}
	}
	for _, file := range filesWith(t, ".go") {
		add(file, definedRule.FindAllStringSubmatch(readFile(t, file), -1))
	}
	add("docs/design.md", documented.FindAllStringSubmatch(readFile(t, "docs/design.md"), -1))
	if len(last) < 40 {
		t.Fatalf("found rules of %d names only", len(last))
	}
	return last
}

// TestDocs_RulesHaveOneMeaning: all rules of one name are in one file and are numbered from one on,
// so a citation need not give the file. Every cited rule exists. No text uses the old names, a
// letter and a number.
func TestDocs_RulesHaveOneMeaning(t *testing.T) {
	last := rules(t)
	comment := regexp.MustCompile(`(?m)//.*$`)
	letter := regexp.MustCompile(`(?:^|[\s(])(?:FS|OG|KI|LB|[A-Z])\d{1,2}(?:\)|, |: |;|\.\s|$)`)
	check := func(file, text string) {
		for _, m := range citedRule.FindAllStringSubmatch(text, -1) {
			if n := cmp.Or(m[3], m[2]); last[m[1]] > 0 && number(t, n) > last[m[1]] && number(t, m[2]) > 0 {
				t.Errorf("%s: cites %s, the last is %s %d", file, m[0], m[1], last[m[1]])
			}
		}
		if m := letter.FindString(text); m != "" {
			t.Errorf("%s: %q reads like a rule, which are called like %q", file, m, "stack 5")
		}
	}
	for _, file := range filesWith(t, ".go") {
		for _, text := range comment.FindAllString(readFile(t, file), -1) {
			check(file, text)
		}
	}
	for _, file := range filesWith(t, ".md") {
		check(file, readFile(t, file))
	}
}

// TestDocs_CiteWhatCanBeFound: if a comment for users cites a rule by number, the rule stands in
// such a comment too.
func TestDocs_CiteWhatCanBeFound(t *testing.T) {
	definition := regexp.MustCompile(`(?m)^\s+([A-Za-z]+ \d+): \S`)
	last := rules(t)
	all := apiDocs(packageDoc(t))
	defined := make(map[string]bool)
	for _, d := range all {
		for _, m := range definition.FindAllStringSubmatch(d.own, -1) {
			defined[m[1]] = true
		}
	}
	for _, d := range all {
		for _, m := range citedRule.FindAllStringSubmatch(d.own, -1) {
			if rule := m[1] + " " + m[2]; last[m[1]] > 0 && !defined[rule] {
				t.Errorf("%s: the comment cites %s, which its reader cannot look up", d.name, rule)
			}
		}
	}
}

// TestDocs_RulesOfEachFile: ARCHITECTURE.md names, beside the link to a file, all rules in that
// file.
func TestDocs_RulesOfEachFile(t *testing.T) {
	table := regexp.MustCompile(`(?m)^\| \[[^]]*\]\(([^)]*\.go)\) \|.*$`)
	named := regexp.MustCompile(`\(([A-Za-z]+) 1(?:-(\d+))?\)`)
	last := rules(t)
	rows := 0
	for _, row := range table.FindAllStringSubmatch(readFile(t, "ARCHITECTURE.md"), -1) {
		var want string
		if m := definedRule.FindStringSubmatch(readFile(t, row[1])); m != nil {
			rows++
			want = m[1]
		}
		m := named.FindStringSubmatch(row[0])
		if m == nil {
			m = []string{"", "", "1"}
		}
		if n := number(t, cmp.Or(m[2], "1")); m[1] != want || want != "" && n != last[want] {
			t.Errorf("ARCHITECTURE.md: %s has %d rules called %q, the table says %q", row[1], last[want], want, m[0])
		}
	}
	if rows < 20 {
		t.Errorf("found the rules of %d files only", rows)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// width returns the number of columns of a line; a tab goes to the next multiple of four.
func width(line string) int {
	n := 0
	for _, r := range line {
		if n++; r == '\t' {
			n = (n + 3) &^ 3
		}
	}
	return n
}

// A numberedLine is a line of a file.
type numberedLine struct {
	number int
	line   string
}

// trailingComments returns the lines of a file in which a comment follows code.
func trailingComments(t *testing.T, file string) (all []numberedLine) {
	t.Helper()
	source := readFile(t, file)
	lines := strings.Split(source, "\n")
	files := token.NewFileSet()
	var s scanner.Scanner
	s.Init(files.AddFile(file, files.Base(), len(source)), []byte(source), nil, scanner.ScanComments)
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return all
		}
		n := files.Position(pos).Line
		isTrailing := tok == token.COMMENT && !strings.HasPrefix(strings.TrimSpace(lines[n-1]), "//")
		if isTrailing && strings.HasPrefix(text, "//") {
			all = append(all, numberedLine{n, lines[n-1]})
		}
	}
}

// TestDocs_Wrapped: comments and documents are wrapped at a hundred columns, with a tab as four.
// Text laid out by hand, such as tables and code, may be wider.
func TestDocs_Wrapped(t *testing.T) {
	const columns = 100
	for _, file := range filesWith(t, ".go") {
		isOutput := false // of an Example
		inRule := false
		for i, line := range strings.Split(readFile(t, file), "\n") {
			text, isComment := strings.CutPrefix(strings.TrimLeft(line, "\t"), "//")
			isOutput = isComment && (isOutput || strings.HasPrefix(text, " Output:"))
			inRule = isComment && (definedRule.MatchString(line) || inRule && strings.HasPrefix(text, "\t   "))
			laidOut := isOutput || strings.HasPrefix(text, "\t") && !inRule
			if n := width(line); isComment && !laidOut && n > columns {
				t.Errorf("%s:%d: a comment of %d columns", file, i+1, n)
			}
		}
		for _, p := range trailingComments(t, file) {
			if n := width(p.line); n > columns && !strings.Contains(p.line, "//nolint:") {
				t.Errorf("%s:%d: a line of %d columns with its comment", file, p.number, n)
			}
		}
	}
	for _, file := range filesWith(t, ".md") {
		if strings.Contains(file, "zh") {
			continue // Chinese has no spaces to wrap at
		}
		inCode := false
		for i, line := range strings.Split(readFile(t, file), "\n") {
			if strings.HasPrefix(line, "```") {
				inCode = !inCode
			}
			isTable := strings.HasPrefix(line, "|") || strings.HasPrefix(line, "![")
			if n := width(line); !inCode && !isTable && n > columns {
				t.Errorf("%s:%d: a line of %d columns", file, i+1, n)
			}
		}
	}
}

// An apiDoc holds the comment of one exported function or method, and that of its type.
type apiDoc struct{ name, own, typ string }

func apiDocs(p *doc.Package) []apiDoc {
	var all []apiDoc
	for _, f := range p.Funcs {
		all = append(all, apiDoc{f.Name, f.Doc, ""})
	}
	for _, typ := range p.Types {
		all = append(all, apiDoc{typ.Name, typ.Doc, ""})
		for _, f := range typ.Funcs {
			all = append(all, apiDoc{f.Name, f.Doc, optionDoc(typ)})
		}
		for _, m := range typ.Methods {
			all = append(all, apiDoc{typ.Name + "." + m.Name, m.Doc, typ.Doc})
		}
	}
	return all
}

// optionDoc returns the comment of a type of options. It is said once for all functions that make
// such an option.
func optionDoc(typ *doc.Type) string {
	if strings.HasSuffix(typ.Name, "Option") {
		return typ.Doc
	}
	return ""
}

var (
	whoMayCall = regexp.MustCompile(`(?i)any\s+goroutine|loop\s+only|loop's\s+tasks|in\s+a\s+task|calling\s+task|the\s+calling\s+goroutine|tasks?\s+or\s+callbacks?|is\s+\[`)
	// the package comment says more about any goroutine
	suspends = regexp.MustCompile(`(?i)suspend|block|any\s+goroutine\s+may|is\s+\[`)
)

// TestDocs_SayWhoMayCallWhat: the comment of a function or method says who may call it and whether
// it suspends. The comment of a type can say so for all its methods. Methods required by other
// interfaces (Error, String, …) are exempt.
func TestDocs_SayWhoMayCallWhat(t *testing.T) {
	known := regexp.MustCompile(`\.(Error|Is|Unwrap|String|Timeout)$`)
	p := packageDoc(t)
	types := make(map[string]bool)
	for _, typ := range p.Types {
		types[typ.Name] = true
	}
	for _, d := range apiDocs(p) {
		if types[d.name] || known.MatchString(d.name) {
			continue
		}
		both := d.own + "\n" + d.typ
		if !whoMayCall.MatchString(both) {
			t.Errorf("%s: the comment does not say who may call it", d.name)
		}
		if !suspends.MatchString(both) {
			t.Errorf("%s: the comment does not say whether it suspends", d.name)
		}
	}
}
