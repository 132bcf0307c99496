//go:build linux || darwin || freebsd

package cli_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
)

// A terminal is one in which a command runs, in a process of its own.
type terminal struct {
	t      *testing.T
	tty    *os.File
	screen *vt.SafeEmulator
	drawn  chan struct{} // gets a value after the screen has changed
	ended  chan error
}

// Write writes what the command prints to the screen.
func (c *terminal) Write(p []byte) (int, error) {
	n, err := c.screen.Write(p)
	select {
	case c.drawn <- struct{}{}:
	default:
	}
	return n, err
}

// newTerminal starts a command in a terminal of that size.
func newTerminal(t *testing.T, width, height int, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CLI_COMMAND="+strings.Join(args, "\n"), "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)})
	if err != nil {
		t.Fatal(err)
	}
	c := &terminal{t: t, tty: tty, screen: vt.NewSafeEmulator(width, height), drawn: make(chan struct{}, 1), ended: make(chan error, 1)}
	read, answered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(c, tty) // until the command has gone
	}()
	go func() { // what the terminal answers to the command's questions
		defer close(answered)
		_, _ = io.Copy(tty, c.screen)
	}()
	go func() {
		<-read
		c.ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = tty.Close()
		<-read
		_ = c.screen.Close()
		<-answered
	})
	return c
}

// shows waits until the screen has all of these texts, and returns it.
func (c *terminal) shows(texts ...string) string {
	c.t.Helper()
	late := time.After(30 * time.Second)
	for {
		screen, missing := c.screen.String(), ""
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				missing = text
			}
		}
		if missing == "" {
			return screen
		}
		select {
		case <-c.drawn:
		case <-late:
			c.t.Fatalf("no %q on the screen:\n%s", missing, screen)
		}
	}
}

func (c *terminal) press(keys string) {
	c.t.Helper()
	if _, err := io.WriteString(c.tty, keys); err != nil {
		c.t.Fatal(err)
	}
}

// quits waits until the command has ended well.
func (c *terminal) quits() {
	c.t.Helper()
	c.press("q")
	if err := <-c.ended; err != nil {
		c.t.Errorf("the command ends with %v", err)
	}
}

func TestTop(t *testing.T) {
	for _, tt := range []struct {
		program string
		has     []string
	}{
		{"leak", []string{"2000", "cli_test.leak.func1()", "attach_test.go:", "waits for <Queue", "tasks, ", " lag "}},
		{"deadlock", []string{"in a circle: ", "there", "back"}},
		{"grow", []string{"<Queue maxsize=0> has ", "task producer puts some there", "steps/s", "% busy"}},
		{"stall", []string{"loop 1 is stuck: task hash has not returned", "attach_test.go:"}},
	} {
		t.Run(tt.program, func(t *testing.T) {
			c := newTerminal(t, 140, 30, "top", "--interval", "100ms", sick(t, tt.program))
			c.shows(append(tt.has, "q quit")...)
			c.quits()
		})
	}
}

func TestTop_Keys(t *testing.T) {
	c := newTerminal(t, 140, 30, "top", "--interval", "100ms", sick(t, "leak"))
	c.shows("cli_test.leak.func1()", "s sort (count)")
	c.press("s")
	c.shows("s sort (oldest)")
	c.press("/nobody")
	c.shows("/nobody", "no task")
	c.press("\x7f\x7f\x7f\x7f\x7f\x7fleak.func\r")
	if screen := c.shows(`only "leak.func"`, "cli_test.leak.func1()"); strings.Contains(screen, "cli_test.forever") {
		t.Errorf("the filter lets another pass:\n%s", screen)
	}
	c.press("\x1b")
	c.shows("q quit   p pause")
	c.press("gs\r")
	c.shows("Queue", "made by task Task-1 at ")
	c.press("p")
	c.shows(", paused")
	c.press("p")
	c.quits()
}

// A screen that is too small for all of it shows what it can.
func TestTop_Small(t *testing.T) {
	pid := sick(t, "grow")
	for _, tt := range []struct {
		width, height int
		has           string
	}{{20, 4, "q quit"}, {40, 8, "q quit"}, {300, 3, "q quit"}, {1, 1, "…"}} {
		t.Run(fmt.Sprintf("%d by %d", tt.width, tt.height), func(t *testing.T) {
			c := newTerminal(t, tt.width, tt.height, "top", "--interval", "100ms", pid)
			c.shows(tt.has)
			c.quits()
		})
	}
}

func TestTop_Refused(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"top"}, 2, "accepts 1 arg(s), received 0"},
		{[]string{"top", "many"}, 2, `"many" is neither the number of a process nor the URL of a page`},
		{[]string{"top", "1"}, 1, "top needs a terminal; asyncio stacks prints what it shows, once"},
		{[]string{"top", "1", "--interval", "1ms"}, 2, "it is from 100ms to 1h0m0s"},
		{[]string{"top", "1", "--interval", "x"}, 2, "invalid argument"},
	} {
		if status, stdout, stderr := command(nil, tt.args...); status != tt.status || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%q: status %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// The page of a process does instead of its number.
func TestByURL(t *testing.T) {
	server := httptest.NewServer(inspect.Handler())
	defer server.Close()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(forever), asyncio.TaskName("sleeper"))
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			for _, target := range []string{server.URL, server.URL + "/", server.URL + "/debug/asyncio", server.URL + "/debug/asyncio/"} {
				for _, name := range []string{"ps", "pstree", "stacks"} {
					status, stdout, stderr := command(nil, name, target)
					if status != 0 || !strings.Contains(stdout, "sleeper") {
						t.Errorf("%s %s: status %d\n%s%s", name, target, status, stdout, stderr)
					}
				}
			}
			out := t.TempDir() + "/out.html"
			if status, _, stderr := command(nil, "record", server.URL, "-o", out); status != 1 || !strings.Contains(stderr, "404 Not Found: no loop has its flight recorder on") {
				t.Errorf("record without a recorder: status %d: %s", status, stderr)
			}
			inspect.SetRecording(1 << 17)
			if status, stdout, stderr := command(nil, "record", server.URL, "-o", out); status != 0 || stdout != out+"\n" {
				t.Errorf("record: status %d: %s", status, stderr)
			}
			return asyncio.None{}, nil
		})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"ps", "ftp://host/"}, 2, "it begins with http:// or https:// and a host"},
		{[]string{"ps", "http:///debug"}, 2, "it begins with http:// or https:// and a host"},
		{[]string{"ps", server.URL + "/elsewhere"}, 1, "answers 404 Not Found"},
		{[]string{"record", server.URL, "--seconds", "1"}, 2, "--seconds needs the number of a process"},
		{[]string{"ps", "http://127.0.0.1:1/"}, 1, "refused"},
	} {
		if status, stdout, stderr := command(nil, tt.args...); status != tt.status || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%q: status %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}
