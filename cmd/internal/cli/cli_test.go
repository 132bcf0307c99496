package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/cmd/internal/cli"
	"github.com/goasyncio/asyncio/examples/tutorial"
)

// expected is the output of all lessons: the lines of the Python originals, and their times.
const expected = `== 1.1-run_until_complete: two coroutines take turns on one loop
0 1
0 2
5 3
5 4
== 2.2-asyncio_run_pass: making a coroutine object runs nothing
== 2.2-asyncio_run: Run makes a loop and runs a coroutine on it
0 jugeng
== 2.3-await_1: await a sleep
0 come
2 over
== 2.3-await_2: await a coroutine and use its result
0 执行协程内部代码
0 start
5 end
5 IO请求结束，结果为 返回值
== 2.3-await_3: two awaits come one after the other
0 执行协程内部代码
0 start
5 end
5 IO请求结束，结果为 返回值
5 start
10 end
10 IO请求结束，结果为 返回值
== 2.4-task_1: two tasks run at the same time
0 main开始
0 main结束
0 1
0 1
5 3
5 3
5 None None
== 2.4-task_2: wait for a list of named tasks
0 main开始
0 main结束
0 1
0 1
5 3
5 3
5 [<Task finished name='yan1' coro=<tutorial.task2.func1() done, defined at FILE:LINE> result='返回值'> <Task finished name='yan2' coro=<tutorial.task2.func1() done, defined at FILE:LINE> result='返回值'>]
`

// section returns the part of expected for one lesson, without its header.
func section(t *testing.T, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(expected, "== "+name+": ")
	if !ok {
		t.Fatalf("no section %q", name)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	lines, _, _ := strings.Cut("\n"+rest, "\n== ")
	lines = strings.TrimPrefix(lines, "\n")
	if lines != "" && !strings.HasSuffix(lines, "\n") {
		lines += "\n"
	}
	return lines
}

var place = regexp.MustCompile(`defined at .*?\.go:\d+`)

// command runs the command in this process.
func command(lessons []tutorial.Lesson, args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = cli.Run(args, lessons, &out, &err)
	return status, place.ReplaceAllString(out.String(), "defined at FILE:LINE"), err.String()
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got\n%v\nwant\n%v", what, got, want)
	}
}

func TestTutorial_AllLessons(t *testing.T) {
	status, stdout, stderr := command(tutorial.Lessons(), "tutorial", "--virtual")
	check(t, "status", status, 0)
	check(t, "stdout", stdout, expected)
	check(t, "stderr", stderr, "")
}

func TestTutorial_OneLessonHasNoHeader(t *testing.T) {
	for _, l := range tutorial.Lessons() {
		status, stdout, stderr := command(tutorial.Lessons(), "tutorial", l.Name, "--virtual")
		check(t, l.Name+" status", status, 0)
		check(t, l.Name+" stdout", stdout, section(t, l.Name))
		check(t, l.Name+" stderr", stderr, "")
	}
}

func TestTutorial_SeveralLessonsInTheOrderGiven(t *testing.T) {
	status, stdout, _ := command(tutorial.Lessons(), "tutorial", "--virtual", "2.3-await_1", "2.2-asyncio_run")
	check(t, "status", status, 0)
	check(t, "stdout", stdout, "== 2.3-await_1: await a sleep\n0 come\n2 over\n"+
		"== 2.2-asyncio_run: Run makes a loop and runs a coroutine on it\n0 jugeng\n")
}

func TestTutorial_RealClock(t *testing.T) {
	begin := time.Now()
	status, stdout, _ := command(tutorial.Lessons(), "tutorial", "2.3-await_1")
	check(t, "status", status, 0)
	check(t, "stdout", stdout, section(t, "2.3-await_1"))
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("a sleep of 2 seconds took %v", took)
	}
}

func TestTutorial_List(t *testing.T) {
	status, stdout, _ := command(tutorial.Lessons(), "tutorial", "--list")
	check(t, "status", status, 0)
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	lessons := tutorial.Lessons()
	if len(lines) != len(lessons) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(lessons), stdout)
	}
	for i, l := range lessons {
		name, title, _ := strings.Cut(lines[i], " ")
		check(t, "name", name, l.Name)
		check(t, "title", strings.TrimSpace(title), l.Title)
	}
}

func TestTutorial_Source(t *testing.T) {
	lessons := tutorial.Lessons()
	status, stdout, _ := command(lessons, "tutorial", "--source", lessons[0].Name)
	check(t, "status", status, 0)
	check(t, "stdout", stdout, lessons[0].Source)

	var want strings.Builder
	for _, l := range lessons {
		fmt.Fprintf(&want, "== %s: %s\n%s", l.Name, l.Title, l.Source)
	}
	status, stdout, _ = command(lessons, "tutorial", "--source")
	check(t, "status", status, 0)
	check(t, "stdout", stdout, want.String())
}

func TestRun_UsageErrors(t *testing.T) {
	tests := []struct {
		args   string
		stderr []string // parts of it
	}{
		{"tutorial 2.2-asyncio_run 2.5-nothing", []string{`there is no lesson "2.5-nothing"`, "\n  1.1-run_until_complete\n", "\n  2.4-task_2\n", "asyncio tutorial --help"}},
		{"tutorial --list 2.5-nothing", []string{"2.5-nothing"}},
		{"tutorial --wrong", []string{"--wrong", "asyncio tutorial --help"}},
		{"tutorial --list --source", []string{"list source", "asyncio tutorial --help"}},
		{"tutorail", []string{`"tutorail"`, "Did you mean", "tutorial", "asyncio --help"}},
		{"--wrong", []string{"--wrong", "asyncio --help"}},
		{"completion", []string{`"completion"`, "asyncio --help"}},
		{"help tutorail", []string{`"tutorail"`, "help"}},
	}
	for _, test := range tests {
		status, stdout, stderr := command(tutorial.Lessons(), strings.Fields(test.args)...)
		check(t, test.args+": status", status, 2)
		check(t, test.args+": stdout", stdout, "")
		for _, part := range test.stderr {
			if !strings.Contains(stderr, part) {
				t.Errorf("%s: no %q in\n%s", test.args, part, stderr)
			}
		}
	}
}

func TestRun_Help(t *testing.T) {
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		status, stdout, stderr := command(tutorial.Lessons(), args...)
		check(t, "status", status, 0)
		check(t, "stderr", stderr, "")
		if !strings.Contains(stdout, "Usage:") || !strings.Contains(stdout, "tutorial") {
			t.Errorf("%q: no help in\n%s", args, stdout)
		}
	}
}

func TestTutorial_FailingLessonEndsTheCommand(t *testing.T) {
	lessons := []tutorial.Lesson{
		{Name: "first", Run: func(context.Context, io.Writer) error { return errors.New("it broke") }},
		{Name: "second", Run: func(context.Context, io.Writer) error {
			t.Error("the second lesson was run")
			return nil
		}},
	}
	status, stdout, stderr := command(lessons, "tutorial")
	check(t, "status", status, 1)
	check(t, "stdout", stdout, "== first: \n")
	check(t, "stderr", stderr, "asyncio: lesson first: it broke\n")
}

// A limitedWriter accepts n writes and fails the others.
type limitedWriter struct{ n int }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.n == 0 {
		return 0, errors.New("no space left")
	}
	w.n--
	return len(p), nil
}

func TestTutorial_WriteErrorEndsTheCommand(t *testing.T) {
	writes := strings.Count(expected, "\n")
	for _, flag := range []string{"--virtual", "--list", "--source"} {
		n := writes
		if flag != "--virtual" {
			n = len(tutorial.Lessons())
		}
		for n := range n {
			var stderr bytes.Buffer
			status := cli.Run([]string{"tutorial", flag}, tutorial.Lessons(), &limitedWriter{n}, &stderr)
			check(t, fmt.Sprintf("%s, %d writes: status", flag, n), status, 1)
			if s := stderr.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "no space left") {
				t.Errorf("%s, %d writes: stderr is\n%s", flag, n, s)
			}
		}
	}
}

func TestTutorial_StampsLinesNotWrites(t *testing.T) {
	lesson := tutorial.Lesson{Name: "pieces", Run: func(ctx context.Context, stdout io.Writer) error {
		_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, 100*time.Second); err != nil {
				return err // the first output, not the start, is second 0
			}
			for _, piece := range []string{"a", "b\nc", "\n", "d\n\ne"} {
				if _, err := io.WriteString(stdout, piece); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, 1400*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		}))
		return err
	}}
	status, stdout, stderr := command([]tutorial.Lesson{lesson}, "tutorial", "--virtual")
	check(t, "status", status, 0)
	check(t, "stdout", stdout, "0 ab\n1 c\n4 d\n4 \n4 e")
	check(t, "stderr", stderr, "")
}

func TestMain(m *testing.M) {
	if kind := os.Getenv(asCommand); kind != "" {
		os.Exit(beCommand(kind))
	}
	if line := os.Getenv("CLI_COMMAND"); line != "" { // its words are on lines
		os.Exit(cli.Run(strings.Split(line, "\n"), nil, os.Stdout, os.Stderr))
	}
	sickProgram()
	os.Exit(m.Run())
}
