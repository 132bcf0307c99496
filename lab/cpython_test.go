package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/lab"
)

// An outcome is what a program prints and how it ends.
type outcome struct {
	stdout string
	end    time.Duration
	status int
}

func (o outcome) String() string { return fmt.Sprintf("%s%%%% %v %d\n", o.stdout, o.end, o.status) }

// cpython runs programs under the CPython 3.13 that ASYNCIO_CPYTHON names, on a virtual clock.
type cpython struct {
	in  io.WriteCloser
	out *bufio.Scanner
	dir string
}

// startCPython returns nil if there is none to compare with.
func startCPython(t *testing.T) *cpython {
	t.Helper()
	program := os.Getenv("ASYNCIO_CPYTHON")
	if program == "" {
		return nil
	}
	cmd := exec.Command(program, "testdata/virtual.py")
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "PYTHONHASHSEED=0", "PYTHONIOENCODING=utf-8")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &cpython{in, bufio.NewScanner(out), t.TempDir()}
}

func (c *cpython) run(t *testing.T, name, src string) outcome {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c.in, path)
	if !c.out.Scan() {
		t.Fatalf("%s: CPython says nothing more: %v", name, c.out.Err())
	}
	stdout, err := os.ReadFile(path + ".out")
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	o.stdout = string(stdout)
	end, _ := os.ReadFile(path + ".end")
	if _, err := fmt.Sscan(string(end), &o.end, &o.status); err != nil {
		stderr, _ := os.ReadFile(path + ".err")
		t.Fatalf("%s: CPython did not end: %v\n%s", name, err, stderr)
	}
	return o
}

// run runs a program in the lab, on a virtual clock.
func run(src string, o lab.Options) (outcome, string) {
	var stdout, stderr bytes.Buffer
	o.Stdout, o.Stderr, o.Virtual = &stdout, &stderr, true
	r := lab.Run(context.Background(), src, o)
	return outcome{stdout.String(), r.End, r.Status}, stderr.String()
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPrograms runs the tutorial's programs, and the hand-written ones on what learners get wrong,
// and compares them with what CPython 3.13 printed. With ASYNCIO_CPYTHON the recordings are
// compared too, and with LAB_RECORD=1 they are made.
func TestPrograms(t *testing.T) {
	python := startCPython(t)
	var paths []string
	for _, dir := range []string{"tutorial", "programs"} {
		found, err := filepath.Glob(filepath.Join("testdata", dir, "*.py"))
		if err != nil || len(found) < 8 {
			t.Fatalf("%d programs in %s, %v", len(found), dir, err)
		}
		paths = append(paths, found...)
	}
	if len(paths) < 68 {
		t.Errorf("only %d programs", len(paths))
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".py")
		t.Run(name, func(t *testing.T) {
			src := readFile(t, path)
			golden := strings.TrimSuffix(path, ".py") + ".txt"
			if python != nil {
				fresh := python.run(t, name+".py", src).String()
				if os.Getenv("LAB_RECORD") != "" {
					if err := os.WriteFile(golden, []byte(fresh), 0o666); err != nil {
						t.Fatal(err)
					}
				}
				if want := readFile(t, golden); fresh != want && name != "2.4-task_2" {
					t.Errorf("CPython now prints\n%s\nrecorded is\n%s", fresh, want)
				}
			}
			got, stderr := run(src, lab.Options{File: name + ".py"})
			want := readFile(t, golden)
			if name == "2.4-task_2" { // it prints a set
				if sorted(got.String()) != sorted(want) {
					t.Errorf("got\n%v\nwant\n%s", got, want)
				}
				return
			}
			if got.String() != want {
				t.Errorf("got\n%v\nwant\n%s\nstderr:\n%s", got, want, stderr)
			}
		})
	}
}

// sorted puts the members of a set that is printed in order.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "{<Task") {
			parts := strings.Split(strings.Trim(line, "{}"), ">, <")
			if len(parts) == 2 && parts[0] > parts[1] {
				parts[0], parts[1] = strings.TrimSuffix("<"+parts[1], ">"), strings.TrimPrefix(parts[0], "<")+">"
			}
			lines[i] = strings.Join(parts, ">, <")
		}
	}
	return strings.Join(lines, "\n")
}

// TestTutorialText compares the eight programs with the text of the tutorial, where that is beside
// the clone.
func TestTutorialText(t *testing.T) {
	b, err := os.ReadFile("../../shared/lessons/tutorial.zh.md")
	if err != nil {
		t.Skip("needs the tutorial's text beside the clone: " + err.Error())
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	text := squeeze(string(b))
	paths, _ := filepath.Glob("testdata/tutorial/*.py")
	if len(paths) != 8 {
		t.Errorf("%d programs", len(paths))
	}
	for _, path := range paths {
		if !strings.Contains(text, squeeze(readFile(t, path))) {
			t.Errorf("%s is not in the tutorial's text", path)
		}
	}
}
