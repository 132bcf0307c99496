package asyncio_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var readmes = []string{"README.md", "README.zh-CN.md"}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fenced returns the contents of doc's code blocks in language lang.
func fenced(doc, lang string) []string {
	var blocks []string
	for rest := doc; ; {
		_, after, ok := strings.Cut(rest, "\n```"+lang+"\n")
		if !ok {
			return blocks
		}
		block, tail, _ := strings.Cut(after, "```\n")
		blocks, rest = append(blocks, block), tail
	}
}

func sections(doc string) []string {
	return regexp.MustCompile(`(?m)^#+ .*$`).FindAllString(doc, -1)
}

// expected returns what the test in a file says that an example prints.
func expected(t *testing.T, name string) string {
	t.Helper()
	output := regexp.MustCompile(`\t// Output:\n((?:\t// .*\n)+)`).FindStringSubmatch(readFile(t, name))
	if output == nil {
		t.Fatalf("%s does not say what the example prints", name)
	}
	return strings.ReplaceAll(output[1], "\t// ", "")
}

// The README's programs are those of examples/readme, whose tests show what they print.
func TestReadme_ExamplesAreThePrograms(t *testing.T) {
	_, payment, _ := strings.Cut(readFile(t, "examples/readme/payment_test.go"), "\nfunc payment(")
	payment, _, _ = strings.Cut("func payment("+payment, "\nfunc ")
	programs := []string{readFile(t, "examples/readme/main.go"), payment}
	prints := []string{expected(t, "examples/readme/main_test.go"), expected(t, "examples/readme/payment_test.go")}
	for _, name := range readmes {
		doc := readFile(t, name)
		if got := fenced(doc, "go"); !slices.Equal(got, programs) {
			t.Errorf("%s: the Go code is %q, want the two of examples/readme: %q", name, got, programs)
		}
		if got := fenced(doc, "text"); !slices.Equal(got, prints) {
			t.Errorf("%s: the examples' output is %q, want what their tests expect: %q", name, got, prints)
		}
		if n := strings.Count(doc, "\n"); n >= 130 {
			t.Errorf("%s has %d lines, want less than 130", name, n)
		}
	}
}

func TestReadme_SameInBothLanguages(t *testing.T) {
	want := []string{"go run ./cmd/asyncio tutorial\ngo test work\n"}
	for _, name := range readmes {
		if got := fenced(readFile(t, name), "sh"); !slices.Equal(got, want) {
			t.Errorf("%s: set-up commands %q, want %q", name, got, want)
		}
	}
	sameInBothLanguages(t, readmes[0], readmes[1])
	sameInBothLanguages(t, "docs/overview.md", "docs/overview.zh-CN.md")
}

// sameInBothLanguages: sections, tables, lists, numbers and links are the same in every language.
func sameInBothLanguages(t *testing.T, en, zh string) {
	t.Helper()
	english, chinese := readFile(t, en), readFile(t, zh)
	if e, c := sections(english), sections(chinese); len(e) != len(c) {
		t.Errorf("sections: %d in English, %d in Chinese:\n%q\n%q", len(e), len(c), e, c)
	}
	for what, re := range map[string]*regexp.Regexp{
		"table rows": regexp.MustCompile(`(?m)^\|`),
		"list items": regexp.MustCompile(`(?m)^- `),
		"ratios":     regexp.MustCompile(`\d+\.\d+`),
		"links":      regexp.MustCompile(`\]\([^)]*\)`),
	} {
		e, c := re.FindAllString(english, -1), re.FindAllString(chinese, -1)
		if what == "links" { // each leads to the other, and to documents in its own language
			for _, links := range [][]string{e, c} {
				for i, s := range links {
					links[i] = strings.Replace(s, ".zh-CN.md", ".md", 1)
				}
			}
		}
		slices.Sort(e)
		slices.Sort(c)
		if !slices.Equal(e, c) {
			t.Errorf("%s and %s: %s differ:\n%q\n%q", en, zh, what, e, c)
		}
	}
}

var (
	code    = regexp.MustCompile("`[^`]*`")
	link    = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	dropped = regexp.MustCompile("[^a-z0-9_ -]")
)

// anchor returns the name of a heading in a link, in the form used by the web pages of
// repositories.
func anchor(heading string) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	return strings.ReplaceAll(dropped.ReplaceAllString(text, ""), " ", "-")
}

func TestDocuments_LinksLeadSomewhere(t *testing.T) {
	for _, name := range files(t, "*.md") {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(readFile(t, name), ""), -1) {
			target, fragment := path.Join(path.Dir(name), m[1]), m[2]
			if m[1] == "" {
				target = name
			}
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
				continue
			}
			if fragment == "" {
				continue
			}
			if !slices.ContainsFunc(sections(readFile(t, target)), func(h string) bool { return anchor(h) == fragment }) {
				t.Errorf("%s links to %s#%s, which has no such section", name, target, fragment)
			}
		}
	}
}

func TestDocuments_ArchitectureListsEveryFile(t *testing.T) {
	doc := readFile(t, "ARCHITECTURE.md")
	for _, file := range files(t, "*.go") {
		if path.Dir(file) == "." && !strings.HasSuffix(file, "_test.go") && !strings.Contains(doc, "| ["+file+"]("+file+") |") {
			t.Errorf("ARCHITECTURE.md does not say what is in %s", file)
		}
	}
}
