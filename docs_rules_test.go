package asyncio_test

import (
	"go/doc"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs_CiteWhatCanBeFound: a rule that a comment for users cites by number stands in one.
func TestDocs_CiteWhatCanBeFound(t *testing.T) {
	rule := regexp.MustCompile(`\b[A-Z]{1,2}\d+\b`)
	definition := regexp.MustCompile(`(?m)^\s+([A-Z]{1,2}\d+) \S`)
	all := apiDocs(packageDoc(t))
	defined := make(map[string]bool)
	for _, d := range all {
		for _, m := range definition.FindAllStringSubmatch(d.own, -1) {
			defined[m[1]] = true
		}
	}
	for _, d := range all {
		for _, cited := range rule.FindAllString(d.own, -1) {
			if !defined[cited] {
				t.Errorf("%s: the comment cites %s, which its reader cannot look up", d.name, cited)
			}
		}
	}
}

// TestDocs_RulesHaveOneMeaning: a letter, or two, stands for the rules of one file, so that a citation needs no file.
func TestDocs_RulesHaveOneMeaning(t *testing.T) {
	first := regexp.MustCompile(`(?m)^//\s+([A-Z]{1,2})1 \S`)
	files, err := filepath.Glob("*.go")
	must(t, err)
	stands := map[string]string{"R": "docs/design.md", "S": "CPython's loop"}
	for _, file := range files {
		for _, m := range first.FindAllStringSubmatch(readFile(t, file), -1) {
			if other := stands[m[1]]; other != "" {
				t.Errorf("%s1 is in %s and in %s", m[1], other, file)
			}
			stands[m[1]] = file
		}
	}
	if len(stands) < 20 {
		t.Errorf("found rules of %d letters only", len(stands))
	}
}

// TestDocs_RulesOfEachFile: ARCHITECTURE.md names, beside the link to a file, all rules that stand in it.
func TestDocs_RulesOfEachFile(t *testing.T) {
	table := regexp.MustCompile(`(?m)^\| \[[^]]*\]\(([^)]*\.go)\) \|.*$`)
	named := regexp.MustCompile(`\(([A-Z]{1,2})1(?:-[A-Z]{1,2}|, [A-Z]{1,2})(\d+)\)`)
	rows := 0
	for _, row := range table.FindAllStringSubmatch(readFile(t, "ARCHITECTURE.md"), -1) {
		for _, m := range named.FindAllStringSubmatch(row[0], -1) {
			rows++
			rule := regexp.MustCompile(`(?m)^//\s+` + m[1] + `(\d+) \S`)
			last := ""
			for _, r := range rule.FindAllStringSubmatch(readFile(t, row[1]), -1) {
				last = r[1]
			}
			if last != m[2] {
				t.Errorf("ARCHITECTURE.md: the last rule of %s is %s%s, it says %s%s", row[1], m[1], last, m[1], m[2])
			}
		}
	}
	if rows < 20 {
		t.Errorf("found the rules of %d files only", rows)
	}
}

// An apiDoc is what is said about one exported function or method, and about its type.
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

// optionDoc is what is said once for all functions that make an option.
func optionDoc(typ *doc.Type) string {
	if strings.HasSuffix(typ.Name, "Option") {
		return typ.Doc
	}
	return ""
}

var (
	whoMayCall = regexp.MustCompile(`(?i)any\s+goroutine|loop\s+only|loop's\s+tasks|in\s+a\s+task|calling\s+task|the\s+calling\s+goroutine|tasks?\s+or\s+callbacks?|is\s+\[`)
	suspends   = regexp.MustCompile(`(?i)suspend|block|any\s+goroutine\s+may|is\s+\[`) // see the package comment for any goroutine
)

// TestDocs_SayWhoMayCallWhat: the comment of a function or method, or of its type for all methods, says who may
// call it and whether it suspends. Methods that other interfaces ask for (Error, String, …) are what they are.
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
