package checks_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/goasyncio/asyncio/asynciovet/checks"
)

// TestChecks: each check reports what the package with its name expects, and nothing else. Its
// fixes do what the .golden files say. All packages are loaded at once, because that is what takes
// time.
func TestChecks(t *testing.T) {
	t.Setenv("GOFLAGS", "") // which can name another go.mod than that of testdata
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{"./durationsim"}
	for _, check := range checks.All() {
		patterns = append(patterns, "./"+check.Name)
		for _, example := range []string{"bad.go", "good.go"} {
			if _, err := os.Stat(filepath.Join(dir, check.Name, example)); err != nil {
				t.Error(err)
			}
		}
	}
	analysistest.RunWithSuggestedFixes(t, dir, each(checks.All()), patterns...)
}

// each returns an analyzer that runs all checks and reports, for each package, what the check finds
// that has its name. TestVet runs them as they are.
func each(all []*analysis.Analyzer) *analysis.Analyzer {
	required := make(map[*analysis.Analyzer]bool)
	for _, check := range all {
		for _, r := range check.Requires {
			if !slices.Contains(all, r) {
				required[r] = true
			}
		}
	}
	return &analysis.Analyzer{
		Name:     "each",
		Doc:      "run all checks",
		Requires: slices.Collect(maps.Keys(required)),
		Run: func(pass *analysis.Pass) (any, error) {
			for _, check := range all {
				own := *pass
				own.Analyzer = check
				own.Report = func(d analysis.Diagnostic) {
					if name := pass.Pkg.Name(); name == check.Name || name == "durationsim" {
						pass.Report(d)
					}
				}
				if _, err := check.Run(&own); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
	}
}
