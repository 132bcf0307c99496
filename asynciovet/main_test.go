package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestVet: with go vet, where facts go from package to package through files, each check reports
// the same lines of its examples.
func TestVet(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "asynciovet.exe")
	build := exec.Command("go", "build", "-trimpath", "-race="+strconv.FormatBool(race), "-o", tool, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir, err := filepath.Abs("checks/testdata")
	if err != nil {
		t.Fatal(err)
	}
	packages := "./..."
	if race {
		packages = "./mutex" // the others' dependencies would take minutes
	}
	vet := exec.Command("go", "vet", "-vettool="+tool, packages)
	vet.Dir = dir
	vet.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := vet.CombinedOutput()
	if err == nil {
		t.Fatal("go vet finds nothing")
	}
	if bytes.Contains(out, []byte("DATA RACE")) {
		t.Fatalf("%s", out)
	}
	if race {
		return // the lines are compared without it
	}
	want := expectations(t, dir)
	got := make(map[string]bool)
	report := regexp.MustCompile(`(?m)^(?:\./|vet: )?(\w+)/(\w+\.go):(\d+):\d+: (.*?)(?: \((\w+)\))?$`)
	for _, m := range report.FindAllStringSubmatch(string(out), -1) {
		if check := m[1]; m[5] == check || check == "allow" && m[5] == "" {
			got[fmt.Sprintf("%s/%s:%s", m[1], m[2], m[3])] = true
		}
	}
	for _, line := range slices.Sorted(maps.Keys(want)) {
		if !got[line] {
			t.Errorf("%s: not reported", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(got)) {
		if !want[line] {
			t.Errorf("%s: reported", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// expectations returns the lines with a comment that says that something is reported there.
func expectations(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		name, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			if strings.Contains(lines.Text(), "// want ") {
				all[fmt.Sprintf("%s:%d", filepath.ToSlash(name), n)] = true
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d lines expect a report", len(all))
	}
	return all
}
