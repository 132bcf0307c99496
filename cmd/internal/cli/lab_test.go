package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/cmd/internal/cli"
	"github.com/goasyncio/asyncio/examples/tutorial"
)

func program(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.py")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const sleeper = `import asyncio

async def main():
    await asyncio.sleep(3600)
    print("an hour later")

asyncio.run(main())
`

func TestLab(t *testing.T) {
	tests := []struct {
		name, source   string
		status         int
		stdout, stderr string // the latter is a part
	}{
		{"virtual time", sleeper, 0, "an hour later\n", ""},
		{"exception", "print(1)\nraise ValueError('x')\n", 1, "1\n", "ValueError: x\n"},
		{"syntax", "print(\n", 1, "", "SyntaxError"},
		{"own status", "import sys\nsys.exit(7)\n", 7, "", ""},
		{"outside", "import socket\n", 3, "", "p.py: outside the subset: line 1: module socket\n"},
		{"limit", "while True:\n    pass\n", 4, "", "stopped after"},
		{"deadlock", "import asyncio\nasync def main():\n    await asyncio.Event().wait()\nasyncio.run(main())\n", 5, "", "Task-1 main(), line 3, waits for wait"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := command(tutorial.Lessons(), "lab", "--virtual", program(t, test.source))
			check(t, "status", status, test.status)
			check(t, "stdout", stdout, test.stdout)
			if !strings.Contains(stderr, test.stderr) || test.stderr == "" && stderr != "" {
				t.Errorf("stderr is\n%s\nwant\n%s", stderr, test.stderr)
			}
		})
	}
}

func TestLab_Steps(t *testing.T) {
	status, stdout, _ := command(tutorial.Lessons(), "lab", "--virtual", "--steps", program(t, sleeper))
	check(t, "status", status, 0)
	want := []string{
		"0.000s 1 import asyncio", "0.000s 3 async def main():", "0.000s 7 asyncio.run(main())",
		"0.000s Task-1 is made: main()", "0.000s Task-1 takes a step", "0.000s Task-1 4 await asyncio.sleep(3600)", "0.000s Task-1 waits: sleep",
		"3600.000s Task-1 takes a step", "3600.000s Task-1 5 print(\"an hour later\")", "3600.000s Task-1 prints an hour later", "3600.000s Task-1 is done",
	}
	var got []string
	for line := range strings.Lines(stdout) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	check(t, "stdout", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

func TestLab_NoFile(t *testing.T) {
	status, _, stderr := command(tutorial.Lessons(), "lab", "no-such-file.py")
	check(t, "status", status, 1)
	if !strings.Contains(stderr, "no-such-file.py") {
		t.Error(stderr)
	}
}

func TestLab_Prompt(t *testing.T) {
	in, err := os.Open(program(t, "1 + 1\nasync def f(n):\n    await asyncio.sleep(n)\n    return n\n\nawait f(5)\nt = asyncio.create_task(f(1))\nawait t\n1 / 0\nexec('1')\n_\nimport sys\nsys.exit(9)\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	was := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = was }()
	var out, errs bytes.Buffer
	status := cli.Run([]string{"lab", "--virtual"}, tutorial.Lessons(), &out, &errs)
	check(t, "status", status, 9)
	if got := strings.ReplaceAll(strings.ReplaceAll(out.String(), ">>> ", ""), "... ", ""); !strings.HasSuffix(got, "2\n5\n1\n1\n") {
		t.Errorf("stdout is\n%s", out.String())
	}
	for _, part := range []string{"ZeroDivisionError: division by zero\n", "outside the subset: line 1: exec\n"} {
		if !strings.Contains(errs.String(), part) {
			t.Errorf("no %q in\n%s", part, errs.String())
		}
	}
}
