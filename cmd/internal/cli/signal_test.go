package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/cmd/internal/cli"
	"github.com/goasyncio/asyncio/examples/tutorial"
)

// asCommand is the environment variable that makes the test binary the command itself. The tests
// below need the command as a process of its own.
const asCommand = "ASYNCIO_TEST_AS_COMMAND"

func beCommand(kind string) int {
	lessons := tutorial.Lessons()
	if kind == "stubborn" {
		lessons = []tutorial.Lesson{{Name: "stubborn", Run: func(ctx context.Context, stdout io.Writer) error {
			fmt.Fprintln(stdout, "begun")
			<-ctx.Done()
			fmt.Fprintln(stdout, "told to stop")
			<-time.After(time.Minute)
			return nil
		}}}
	}
	return cli.Run(os.Args[1:], lessons, os.Stdout, os.Stderr)
}

// process is a running command.
type process struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
}

func start(t *testing.T, kind string, args ...string) *process {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs signals: Windows cannot send one to a process")
	}
	// If this process ignored SIGINT when it started, its children would too; Notify prevents that.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The limit only ends a failing test.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, exe, args...)}
	p.Env = append(os.Environ(), asCommand+"="+kind)
	p.Stderr = &p.stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(stdout)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// line waits for the next line of output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.lines.Scan() {
		_ = p.Wait()
		t.Fatalf("no more output (%v); stderr:\n%s", p.lines.Err(), p.stderr.String())
	}
	return p.lines.Text()
}

// end waits for the process to end and returns the rest of its output.
func (p *process) end(t *testing.T) (rest []string) {
	t.Helper()
	for p.lines.Scan() {
		rest = append(rest, p.lines.Text())
	}
	if err := p.Wait(); p.ProcessState == nil {
		t.Fatal(err)
	}
	return rest
}

func TestTutorial_SignalEndsLesson(t *testing.T) {
	tests := []struct {
		name   string
		sig    syscall.Signal
		status int
		stderr string
	}{
		{"SIGINT", syscall.SIGINT, 130, "asyncio: interrupted\n"},
		{"SIGTERM", syscall.SIGTERM, 143, "asyncio: terminated\n"},
	}
	for _, test := range tests {
		for _, l := range tutorial.Lessons() {
			printed := strings.Split(section(t, l.Name), "\n")
			sleeping := 0 // lines before it sleeps for the first time
			for _, line := range printed {
				if strings.HasPrefix(line, "0 ") {
					sleeping++
				}
			}
			if sleeping == len(printed)-1 || len(printed) < 2 {
				continue // it does not sleep
			}
			t.Run(l.Name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				// The second lesson must not be started.
				p := start(t, "tutorial", "tutorial", l.Name, "2.2-asyncio_run")
				p.line(t) // the header
				for i := range sleeping {
					check(t, "line", p.line(t), printed[i])
				}
				if err := p.Process.Signal(test.sig); err != nil {
					t.Fatal(err)
				}
				rest := p.end(t)
				check(t, "status", p.ProcessState.ExitCode(), test.status)
				check(t, "output after the signal", fmt.Sprint(rest), "[]")
				check(t, "stderr", p.stderr.String(), test.stderr)
			})
		}
	}
}

func TestTutorial_SecondSignalKills(t *testing.T) {
	p := start(t, "stubborn", "tutorial")
	check(t, "line", p.line(t), "0 begun")
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	check(t, "line", p.line(t), "0 told to stop")
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended by %v, want killed by SIGINT; stderr:\n%s", p.ProcessState, p.stderr.String())
	}
}
