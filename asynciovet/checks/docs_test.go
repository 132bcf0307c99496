package checks_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/asynciovet/checks"
)

const document = "../../docs/asynciovet.md"

// TestDocs_ExamplesAreTheTests: the section of each check shows its two examples, without their
// imports, and nothing else.
func TestDocs_ExamplesAreTheTests(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Skipf("%s is missing: this is the module by itself", document)
	}
	sections := strings.Split(string(text), "\n### ")[1:]
	var names []string
	for _, section := range sections {
		name, body, _ := strings.Cut(section, "\n")
		names = append(names, name)
		body, _, _ = strings.Cut(body, "\n## ")
		var want []string
		for _, example := range []string{"bad.go", "good.go"} {
			want = append(want, belowImports(t, filepath.Join("testdata", name, example)))
		}
		got := regexp.MustCompile("(?s)```go\n(.*?)```\n").FindAllStringSubmatch(body, -1)
		var shown []string
		for _, m := range got {
			shown = append(shown, m[1])
		}
		slices.Sort(want)
		slices.Sort(shown)
		if !slices.Equal(shown, want) {
			t.Errorf("%s: the document shows\n%s\nwant\n%s", name, strings.Join(shown, "\n"), strings.Join(want, "\n"))
		}
	}
	var all []string
	for _, check := range checks.All() {
		all = append(all, check.Name)
		if !strings.HasSuffix(check.URL, "docs/asynciovet.md#"+check.Name) {
			t.Errorf("%s: the URL is %q", check.Name, check.URL)
		}
	}
	if !slices.Equal(names, all) {
		t.Errorf("the document has sections for %q, want %q", names, all)
	}
}

func belowImports(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	imports := regexp.MustCompile(`(?m)^import (?:\((?s:.*?)^\)|"[^"]*")\n`).FindIndex(text)
	if imports == nil {
		t.Fatalf("%s imports nothing", file)
	}
	return strings.TrimLeft(string(text[imports[1]:]), "\n")
}
