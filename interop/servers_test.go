//go:build unix

package interop

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout limits how long a server may take to start, and to stop.
const startTimeout = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program returns the path of a program of a server. Debian keeps some out of the PATH: patterns
// say where. A missing program skips the test, and fails it where CI is true.
func program(t *testing.T, name, debianPackage string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, debianPackage)
	}
	return path
}

// missing ends the test because a program is not installed.
func missing(t *testing.T, name, debianPackage string) {
	t.Helper()
	text := fmt.Sprintf("no %s: apt-get install %s", name, debianPackage)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// directory makes a directory for a server. Its path is short enough for Unix sockets, which
// t.TempDir's may not be.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// A transcript collects what a server says, on goroutines.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(p)
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// start starts a server and returns when ready does without an error. The test's end stops the
// server by the signal; if the test has failed, it logs what the server said.
func start(t *testing.T, cmd *exec.Cmd, stop os.Signal, ready func() error) {
	t.Helper()
	if err := tryStart(t, cmd, stop, ready); err != nil {
		t.Fatal(err)
	}
}

// startAt starts a server at a free TCP port of 127.0.0.1. Somebody else may take the port before
// the server does, so another one is tried then.
func startAt(t *testing.T, stop os.Signal, command func(port int) (*exec.Cmd, func() error)) (address string) {
	t.Helper()
	for attempt := 0; ; attempt++ {
		port := freePort(t)
		cmd, ready := command(port)
		err := tryStart(t, cmd, stop, ready)
		if err == nil {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
		if attempt == 3 {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// accepts returns a function that reports whether a server accepts connections.
func accepts(network, address string) func() error {
	return func() error {
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func tryStart(t *testing.T, cmd *exec.Cmd, stop os.Signal, ready func() error) error {
	t.Helper()
	var said transcript
	if cmd.Stdout == nil {
		cmd.Stdout = &said
	}
	cmd.Stderr = &said
	cmd.WaitDelay = startTimeout
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if err = ready(); err == nil {
			break
		}
		select {
		case end := <-ended:
			return fmt.Errorf("%s has ended: %w\n%s", cmd.Path, cmp.Or(end, errors.New("without an error")), &said)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(stop))
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == stop {
				err = nil // it has no handler for the signal
			}
			if err != nil {
				t.Errorf("%s: %v", cmd.Path, err)
			}
		case <-time.After(startTimeout):
			t.Errorf("%s does not end", cmd.Path)
			must(t, cmd.Process.Kill())
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, &said)
		}
	})
	if err != nil {
		return fmt.Errorf("%s does not start: %w\n%s", cmd.Path, err, &said)
	}
	return nil
}

// A gate holds back the answers of a server that is a part of this program.
type gate struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
	open    map[string]bool // released, perhaps before the request came
}

func newGate() *gate {
	return &gate{waiting: make(map[string]chan struct{}), open: make(map[string]bool)}
}

// wait blocks until the answer may be given, or ctx is done.
func (g *gate) wait(ctx context.Context, value string) error {
	g.mu.Lock()
	if g.open[value] {
		g.mu.Unlock()
		return nil
	}
	released := make(chan struct{})
	g.waiting[value] = released
	g.mu.Unlock()
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		delete(g.waiting, value)
		g.mu.Unlock()
		return ctx.Err()
	}
}

func (g *gate) server() server {
	return server{
		held: func() (int, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.waiting), nil
		},
		release: func(values ...string) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, value := range values {
				g.open[value] = true
				if released := g.waiting[value]; released != nil {
					close(released)
					delete(g.waiting, value)
				}
			}
			return nil
		},
	}
}

// fileGate is the gate of a server that runs other programs. It makes dir/held/VALUE when it holds
// back an answer, and waits until there is dir/go/VALUE.
func fileGate(t *testing.T, dir string) server {
	t.Helper()
	held, open := filepath.Join(dir, "held"), filepath.Join(dir, "go")
	must(t, errors.Join(os.Mkdir(held, 0o777), os.Mkdir(open, 0o777)))
	return server{
		held: func() (int, error) {
			entries, err := os.ReadDir(held)
			return len(entries), err
		},
		release: func(values ...string) (err error) {
			for _, value := range values {
				err = errors.Join(err, os.WriteFile(filepath.Join(open, value), nil, 0o666))
			}
			return err
		},
	}
}
