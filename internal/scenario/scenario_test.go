package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../testdata/"

// TestRecorded replays the recorded scenarios and compares with CPython's traces.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob(root + "scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded scenarios: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records, err := ParseRecords(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for n, r := range records {
			if len(r.Trace) == 0 {
				t.Errorf("%s: record %d has no trace; run make record", file, n+1)
			}
			if d := Compare(r.Scenario, r.Trace); d != nil {
				t.Errorf("%s: record %d:\n%s", filepath.Base(file), n+1, d)
			}
		}
	}
}

// TestAgainstCPython compares fresh scenarios where there is a CPython 3.13.
func TestAgainstCPython(t *testing.T) {
	python, err := FindCPython()
	if err != nil {
		t.Skip(err)
	}
	n := 1000
	if testing.Short() {
		n = 100
	}
	o, err := NewOracle(python, root+"cpython/scenario.py")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}()
	const seed = 1
	differences, _, err := CompareGenerated(o, seed, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences[:min(3, len(differences))] {
		small, err := d.Shrink(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("seed %d, shrunk:\n%s", d.Seed, small)
	}
}

// TestSettingsAgree needs no CPython: whether a context could end must make no difference.
func TestSettingsAgree(t *testing.T) {
	for seed := range uint64(1000) {
		s := Generate(seed)
		want, err := Trace(s, Endless)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d := Compare(s, want); d != nil {
			t.Fatalf("seed %d:\n%s", seed, d)
		}
	}
}

func TestGenerateIsDeterministicAndReadable(t *testing.T) {
	verbs := map[string]bool{} // including those of declarations
	for seed := range uint64(1000) {
		text := Generate(seed).String()
		if again := Generate(seed).String(); again != text {
			t.Fatalf("seed %d: two scenarios", seed)
		}
		s, err := Parse(text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if s.String() != text {
			t.Fatalf("seed %d: reads back differently:\n%s\n%s", seed, text, s)
		}
		for line := range strings.Lines(text) {
			verbs[strings.Fields(line)[0]] = true
		}
	}
	for verb := range grammar {
		// left to scenarios written by hand: a name can be a handle or a done callback
		if verb == "drop" {
			continue
		}
		if !verbs[verb] {
			t.Errorf("no scenario has %s", verb)
		}
	}
	for verb := range declarations {
		if !verbs[verb] {
			t.Errorf("no scenario declares a %s", verb)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "first task must be main",
		"task p\n":                        "first task must be main",
		"future\n task main\n":            "badly indented",
		"task main\n    yield\n":          "badly indented",
		"task main\n  yield\n    yield\n": "no block",
		"task main\n  finally\n":          "without try",
		"task main\n  spawn t main\n":     "no task main below",
		"task main\n  await p()\n":        "no task p below",
		"task main\n  sleep soon\n":       "arguments of sleep",
		"task main\n  soon c try\n":       "arguments of soon",
		"task main\n  soon c set f\n":     "arguments of set",
		"task main\n  cancel t m x\n":     "arguments of cancel",
		"task main\n  fly\n":              "no such instruction",
		"lake l\ntask main\n":             "no such declaration",
		"barrier b 0\ntask main\n":        "barrier for none",
		"task main\ntask p\ntask p\n":     "twice",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %q", text, err, want)
		}
	}
}

// TestEdits tries every change that Shrink could make to some scenarios.
func TestEdits(t *testing.T) {
	for seed := range uint64(50) {
		text := Generate(seed).String()
		for n := 0; ; n++ {
			s, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			e := &edit{n: n}
			e.scenario(s)
			if e.n >= 0 {
				if n < 3 {
					t.Errorf("seed %d: only %d changes", seed, n)
				}
				break
			}
			if s.String() == text {
				t.Errorf("seed %d: change %d is none", seed, n)
			}
		}
	}
}

func TestDifferenceShowsWhere(t *testing.T) {
	s, err := Parse("task main\n  yield\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Trace(s, Endless)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(got)
	want[1] = "something else"
	d := Compare(s, want)
	if d == nil || !strings.Contains(d.String(), "- something else\n") || !strings.Contains(d.String(), "+ "+got[1]+"\n") {
		t.Errorf("difference: %v", d)
	}
}
