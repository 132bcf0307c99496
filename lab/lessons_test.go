package lab_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/goasyncio/asyncio/lab"
)

// TestLessons runs the Python programs of the lessons, and compares them with what CPython 3.13
// printed. As in TestPrograms, ASYNCIO_CPYTHON has the recordings compared too, and LAB_RECORD=1
// has them made.
func TestLessons(t *testing.T) {
	python := startCPython(t)
	dirs, err := filepath.Glob("../examples/lessons/*/main.py")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%d lessons, %v", len(dirs), err)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			src, golden := readFile(t, path), filepath.Join(dir, "expected.txt")
			if python != nil {
				fresh := python.run(t, "main.py", src).String()
				if os.Getenv("LAB_RECORD") != "" {
					if err := os.WriteFile(golden, []byte(fresh), 0o666); err != nil {
						t.Fatal(err)
					}
				}
				if want := readFile(t, golden); fresh != want {
					t.Errorf("CPython now prints\n%s\nrecorded is\n%s", fresh, want)
				}
			}
			got, stderr := run(src, lab.Options{File: "main.py"})
			if want := readFile(t, golden); got.String() != want {
				t.Errorf("got\n%v\nwant\n%s\nstderr:\n%s", got, want, stderr)
			}
		})
	}
}
