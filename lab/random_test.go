package lab_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/lab"
)

const recorded = 300 // random programs whose outcome is recorded

// TestRandomPrograms compares random programs with CPython: those that are recorded, and with
// ASYNCIO_CPYTHON fresh ones, LAB_PROGRAMS of them. Outcomes are recorded as hashes.
func TestRandomPrograms(t *testing.T) {
	const golden = "testdata/random.txt"
	hash := func(o outcome) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(o.String())))[:16] }
	python := startCPython(t)
	n := recorded
	if s := os.Getenv("LAB_PROGRAMS"); s != "" && python != nil {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Fields(readFile(t, golden))
	record := os.Getenv("LAB_RECORD") != "" && python != nil
	if len(want) != recorded && !record {
		t.Fatalf("%d recorded outcomes", len(want))
	}
	var fresh []string
	outside, different := 0, 0
	for i := range n {
		src := program(uint64(i))
		got, stderr := run(src, lab.Options{File: "random.py", Limits: lab.Limits{Steps: 1_000_000}})
		if got.status == lab.StatusOutside {
			outside++
			t.Logf("program %d: %s", i, stderr)
			continue
		}
		if python != nil {
			o := python.run(t, "random.py", src)
			if i < recorded {
				fresh = append(fresh, hash(o))
			}
			if o.String() != got.String() {
				if different++; different <= 20 {
					t.Errorf("program %d: %s\n%s\nit is\n%s", i, firstDifference(got.String(), o.String()), stderr, src)
				}
			}
		}
		if i < recorded && !record && hash(got) != want[i] {
			if different++; different <= 3 {
				t.Errorf("program %d has another outcome than recorded:\n%s\nhere:\n%v\n%s", i, src, got, stderr)
			}
		}
	}
	if outside*100 > n {
		t.Errorf("%d of %d programs are outside the subset", outside, n)
	}
	if different > 0 {
		t.Errorf("%d of %d programs differ", different, n)
	}
	t.Logf("%d programs, %d outside the subset", n, outside)
	if record && outside == 0 {
		if err := os.WriteFile(golden, []byte(strings.Join(fresh, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// firstDifference says where two outputs part.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is\n  %s\nCPython prints\n  %s\nafter\n  %s", i+1, g[i], w[i], strings.Join(g[max(0, i-3):i], "\n  "))
		}
	}
	return fmt.Sprintf("%d lines, CPython prints %d", len(g), len(w))
}
