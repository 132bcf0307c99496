//go:build linux || darwin || freebsd

package inspection_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// isChild reports whether this process is the child of a test, and lives as long as that wants.
func isChild() bool {
	switch os.Getenv("INSPECTION_CHILD") {
	case "serve":
		inspection.Enable()
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "attach":
		pid, _ := strconv.Atoi(os.Args[1])
		_, err := inspection.Attach(context.Background(), pid, inspection.Ask{})
		fmt.Println("attached:", err)
		c, err := net.Dial("unix", filepath.Join(inspection.Directory(), os.Args[1]+".sock"))
		if err != nil {
			fmt.Println("dialled:", err)
			return true
		}
		_, _ = io.WriteString(c, "{}\n")
		answer, _ := io.ReadAll(c)
		fmt.Printf("answered: %s", answer)
	default:
		return false
	}
	return true
}

// directory makes the directory of the sockets for this test and its children. Paths of sockets
// must be short.
func directory(t *testing.T) string {
	dir, err := os.MkdirTemp("", "insp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("ASYNCIOINSPECT_DIR", dir)
	return dir
}

// emulated is a command with the program that is to run it: if the kernel cannot run programs like
// this one, ASYNCIO_EMULATOR names the emulator that does.
func emulated(command ...string) []string {
	if emulator := os.Getenv("ASYNCIO_EMULATOR"); emulator != "" {
		return append([]string{emulator}, command...)
	}
	return command
}

// serving starts a process that has a socket, or has been refused one, and returns its number and
// what it says.
func serving(t *testing.T) (pid int, log *strings.Builder) {
	t.Helper()
	program := emulated(os.Args[0])
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Env = append(os.Environ(), "INSPECTION_CHILD=serve")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	log = new(strings.Builder)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, log
}

// attach asks the process until it has opened its socket.
func attach(t *testing.T, pid int) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		text, err := inspection.Attach(ctx, pid, inspection.Ask{})
		if err == nil || !errors.Is(err, inspection.ErrNotPrepared) || ctx.Err() != nil {
			return text, err
		}
		select { // the child is another process, on the clock of the machine
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestAttach(t *testing.T) {
	dir := directory(t)
	pid, _ := serving(t)
	text, err := attach(t, pid)
	if err != nil {
		t.Fatal(err)
	}
	var p inspection.Process
	if err := json.Unmarshal(text, &p); err != nil || p.PID != pid {
		t.Errorf("%s, %v", text, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, strconv.Itoa(pid)+".sock"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestAttach_NotPrepared(t *testing.T) {
	dir := directory(t)
	if _, err := inspection.Attach(t.Context(), 1, inspection.Ask{}); !errors.Is(err, inspection.ErrNotPrepared) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	t.Setenv("ASYNCIOINSPECT_DIR", filepath.Join(dir, "nowhere"))
	if _, err := inspection.Attach(t.Context(), 1, inspection.Ask{}); !errors.Is(err, inspection.ErrNotPrepared) {
		t.Error(err)
	}
}

// The socket of a process that was killed is taken for what it is, and removed by the next process.
func TestSocket_Stale(t *testing.T) {
	dir := directory(t)
	stale := filepath.Join(dir, "1.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	others := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(others, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := inspection.Attach(t.Context(), 1, inspection.Ask{}); !errors.Is(err, inspection.ErrNotPrepared) {
		t.Error(err)
	}
	pid, _ := serving(t)
	if _, err := attach(t, pid); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale socket is still there: %v", err)
	}
	if _, err := os.Stat(others); err != nil {
		t.Errorf("a file that is no socket was removed: %v", err)
	}
}

// A directory that is not safe is refused at both ends.
func TestSocket_RefusedDirectories(t *testing.T) {
	tests := []struct {
		name, says string
		make       func(dir string) (path string, err error)
	}{
		{"a symbolic link", "is a symbolic link", func(dir string) (string, error) {
			link := dir + ".link"
			return link, os.Symlink(dir, link)
		}},
		{"open to others", "is open to others", func(dir string) (string, error) { return dir, os.Chmod(dir, 0o755) }},
		{"no directory", "is not a directory", func(dir string) (string, error) {
			file := filepath.Join(dir, "file")
			return file, os.WriteFile(file, nil, 0o600)
		}},
		{"somebody else's", "belongs to another user", func(dir string) (string, error) {
			if os.Getuid() != 0 {
				return "/usr", nil // which is root's
			}
			return dir, os.Chown(dir, 65534, 65534)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, err := tt.make(directory(t))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, ".link") {
				t.Cleanup(func() { _ = os.Remove(path) })
			}
			t.Setenv("ASYNCIOINSPECT_DIR", path)
			if _, err := inspection.Attach(t.Context(), os.Getpid(), inspection.Ask{}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("attach: %v", err)
			}
			if err := inspection.Listen(); err == nil || !strings.Contains(err.Error(), tt.says) && !errors.Is(err, syscall.ENOTDIR) {
				t.Errorf("listen: %v", err)
			}
		})
	}
}

// Another user gets no answer, even where the directory and the socket let him in.
func TestSocket_AnotherUser(t *testing.T) {
	dir := directory(t)
	pid, _ := serving(t)
	if _, err := attach(t, pid); err != nil {
		t.Fatal(err)
	}
	everybodys, err := os.MkdirTemp("", "insp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(everybodys) })
	if err := os.Chmod(everybodys, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(everybodys, "attach")
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(exe, binary, 0o755), os.Chmod(exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	asNobody := func() string {
		args := append([]string{"env", "INSPECTION_CHILD=attach", "ASYNCIOINSPECT_DIR=" + dir}, emulated(exe, strconv.Itoa(pid))...)
		cmd := exec.Command(args[0], args[1:]...)
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		} else if sudo, err := exec.LookPath("sudo"); err == nil {
			cmd = exec.Command(sudo, append([]string{"-n", "-u", "nobody"}, args...)...)
		} else if os.Getenv("CI") != "" {
			t.Fatal("neither root nor sudo: nobody can become another user")
		} else {
			t.Skip("neither root nor sudo: nobody can become another user")
		}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		return string(out) + fmt.Sprint(err)
	}
	if out := asNobody(); !strings.Contains(strings.ToLower(out), "permission denied") {
		t.Errorf("the directory lets others in: %s", out)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, strconv.Itoa(pid)+".sock"), 0o666)); err != nil {
		t.Fatal(err)
	}
	out := asNobody()
	if !strings.Contains(out, "attached: "+dir+" belongs to another user") {
		t.Errorf("the peer's own check of the directory: %s", out)
	}
	if !strings.Contains(out, `answered: {"error":"the peer is of user `) {
		t.Errorf("the check of the peer: %s", out)
	}
}

// Bad requests get an answer that says so, and the process lives on.
func TestSocket_BadRequests(t *testing.T) {
	dir := directory(t)
	pid, _ := serving(t)
	if _, err := attach(t, pid); err != nil {
		t.Fatal(err)
	}
	for request, says := range map[string]string{
		"\n":                              "the request is not JSON",
		"GET / HTTP/1.1\r\n":              "the request is not JSON",
		`{"Tasks": "many"}` + "\n":        "the request is not JSON",
		strings.Repeat("x", 100_000):      "not a line of at most",
		`{"Tasks": -5, "Else": 1}` + "\n": `"pid"`,
	} {
		c, err := net.Dial("unix", filepath.Join(dir, strconv.Itoa(pid)+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request)
		line, err := bufio.NewReader(c).ReadString('\n')
		if !strings.Contains(line, says) {
			t.Errorf("%.20q: %q, %v", request, line, err)
		}
		_ = c.Close()
	}
	if _, err := attach(t, pid); err != nil {
		t.Error(err)
	}
}

// A socket that can be seen does not refuse, or another process would take it for one that was left
// behind, and remove it (socket 5).
func TestSocket_HasItsNameOnceItListens(t *testing.T) {
	for range 300 {
		path := filepath.Join(directory(t), strconv.Itoa(os.Getpid())+".sock")
		dialled := make(chan error)
		go func() {
			for {
				switch c, err := net.Dial("unix", path); {
				case err == nil:
					dialled <- c.Close()
					return
				case !errors.Is(err, os.ErrNotExist):
					dialled <- err
					return
				}
			}
		}()
		closes, err := inspection.OpenSocket()
		if err != nil {
			t.Fatal(err)
		}
		if err := <-dialled; err != nil {
			t.Error(err)
		}
		closes()
	}
}
