//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// onProcesses is onSystem, and afterwards no child of this program may be left, neither running nor
// as a zombie.
func onProcesses(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		t.Cleanup(func() { noChildren(t) })
		return body(t, ctx)
	})
}

// noChildren waits a while for children that are about to end: a goroutine undoes a start that was
// cancelled.
func noChildren(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if left = children(); len(left) == 0 {
			return
		}
	}
	t.Errorf("children are left: %v", left)
}

// children lists the children of this program, with their state.
func children() []string {
	if runtime.GOOS != "linux" {
		if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
			return []string{"?"}
		}
		return nil
	}
	var left []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		pid, rest, _ := strings.Cut(string(stat), " (")
		name := rest[:strings.LastIndexByte(rest, ')')]
		f := strings.Fields(rest[len(name)+1:])
		if f[1] == strconv.Itoa(os.Getpid()) {
			left = append(left, fmt.Sprintf("%s (%s) %s", pid, name, f[0]))
		}
	}
	return left
}

// alive reports whether process pid exists and has not ended.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	if runtime.GOOS == "linux" { // where nobody may reap an orphan
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		return !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

// gone waits for the end of a process that is not our child.
func gone(t *testing.T, ctx context.Context, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); alive(t, pid); {
		if time.Now().After(end) {
			t.Errorf("process %d is still there", pid)
			return
		}
		must(t, asyncio.Sleep(ctx, time.Millisecond))
	}
}

func shell(t *testing.T, ctx context.Context, command string, opts ...asyncio.SubprocessOption) *asyncio.Process {
	t.Helper()
	p, err := asyncio.CreateSubprocessShell(ctx, command, opts...)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return p
}

func endsWith(t *testing.T, ctx context.Context, p *asyncio.Process, want int) {
	t.Helper()
	got, err := p.Wait(ctx)
	if got != want || err != nil {
		t.Errorf("Wait = %d, %v; want %d", got, err, want)
	}
	if again, ended := p.ReturnCode(); again != want || !ended {
		t.Errorf("ReturnCode = %d, %v; want %d", again, ended, want)
	}
}

// readLine reads a line, without its end.
func readLine(t *testing.T, ctx context.Context, r *asyncio.StreamReader) string {
	t.Helper()
	line, err := r.ReadLine(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(line), "\n")
}

func readPid(t *testing.T, ctx context.Context, r *asyncio.StreamReader) int {
	t.Helper()
	pid, err := strconv.Atoi(readLine(t, ctx, r))
	must(t, err)
	return pid
}

func TestSubprocess_ReturnCode(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		for command, want := range map[string]int{
			"exit 0":         0,
			"exit 7":         7,
			"kill -TERM $$":  -int(syscall.SIGTERM),
			"kill -KILL $$":  -int(syscall.SIGKILL),
			"exec /bin/true": 0,
		} {
			if command == "exec /bin/true" && runtime.GOOS != "linux" {
				command = "exec /usr/bin/true"
			}
			p := shell(t, ctx, command)
			if code, ended := p.ReturnCode(); code != 0 || ended {
				t.Errorf("%s: ReturnCode = %d, %v before the loop can have heard of the end", command, code, ended)
			}
			endsWith(t, ctx, p, want)
			if got := p.String(); got != fmt.Sprintf("<Process %d>", p.Pid) {
				t.Error(got)
			}
		}
		return nil
	})
}

func TestSubprocess_Signals(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		for _, c := range []struct {
			sig  syscall.Signal
			send func(*asyncio.Process) error
		}{
			{syscall.SIGKILL, (*asyncio.Process).Kill},
			{syscall.SIGTERM, (*asyncio.Process).Terminate},
			{syscall.SIGUSR2, func(p *asyncio.Process) error { return p.SendSignal(syscall.SIGUSR2) }},
			{syscall.SIGUSR1, func(p *asyncio.Process) error { return p.SignalGroup(syscall.SIGUSR1) }},
		} {
			p, err := asyncio.CreateSubprocessExec(ctx, "sleep", []string{"1000"})
			if err != nil {
				return err
			}
			must(t, c.send(p))
			endsWith(t, ctx, p, -int(c.sig))
			if err := c.send(p); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("%v after the end: %v", c.sig, err)
			}
			must(t, p.Close())
		}
		return nil
	})
}

// A signal sent at the moment at which the process ends neither fails badly nor spoils the return
// code (gh-87744).
func TestSubprocess_SignalAtTheEnd(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		for i := range 50 {
			p := shell(t, ctx, "exit 5")
			for range i % 7 {
				must(t, asyncio.Sleep(ctx, 200*time.Microsecond))
			}
			if err := p.SendSignal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			if code, err := p.Wait(ctx); code != 5 && code != -9 || err != nil {
				t.Errorf("%d, %v", code, err)
			}
		}
		return nil
	})
}

// The end of its scope kills a process that ignores SIGTERM (process 1).
func TestSubprocess_IgnoresTerminate(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		scope, end := asyncio.WithCancel(ctx)
		defer end()
		p := shell(t, scope, "trap '' TERM; echo ready; while :; do sleep 1000; done", asyncio.Stdout(asyncio.Pipe))
		if got := readLine(t, ctx, p.Stdout); got != "ready" {
			t.Error(got)
		}
		must(t, p.Terminate())
		loop(t, ctx).CallLater(50*time.Millisecond, end)
		if err := second(p.Wait(scope)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		endsWith(t, ctx, p, -int(syscall.SIGKILL))
		return nil
	})
}

const family = "sleep 1000 & echo $!; wait" // a process with a child of its own

// The end of the context kills the whole process group, and so do Close and the closing of the loop
// (process 1).
func TestSubprocess_Scopes(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, p *asyncio.Process, cancel func()) error{
		"the context ends": func(_ *testing.T, _ *asyncio.Process, cancel func()) error { cancel(); return nil },
		"Close":            func(_ *testing.T, p *asyncio.Process, _ func()) error { return p.Close() },
		"SignalGroup":      func(_ *testing.T, p *asyncio.Process, _ func()) error { return p.SignalGroup(syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			onProcesses(t, func(t *testing.T, ctx context.Context) error {
				for _, opts := range [][]asyncio.SubprocessOption{nil, {asyncio.StartNewSession()}} {
					scope, cancel := asyncio.WithCancel(ctx)
					defer cancel()
					p := shell(t, scope, family, append(opts, asyncio.Stdout(asyncio.Pipe))...)
					grandchild := readPid(t, ctx, p.Stdout)
					must(t, end(t, p, cancel))
					endsWith(t, ctx, p, -int(syscall.SIGKILL))
					gone(t, ctx, grandchild)
					if err := end(t, p, cancel); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Error(err)
					}
				}
				return nil
			})
		})
	}
	t.Run("the loop closes", func(t *testing.T) {
		var grandchild int
		onProcesses(t, func(t *testing.T, ctx context.Context) error {
			p := shell(t, ctx, family, asyncio.Stdout(asyncio.Pipe), asyncio.Stdin(asyncio.Pipe))
			grandchild = readPid(t, ctx, p.Stdout)
			return nil
		})
		onRealTime(t, func(ctx context.Context) error {
			gone(t, ctx, grandchild)
			return nil
		})
	})
	t.Run("in the group of the program", func(t *testing.T) {
		onProcesses(t, func(t *testing.T, ctx context.Context) error {
			p := shell(t, ctx, family, asyncio.Stdout(asyncio.Pipe), asyncio.SameProcessGroup())
			grandchild := readPid(t, ctx, p.Stdout)
			if pgid, err := syscall.Getpgid(p.Pid); pgid != syscall.Getpgrp() || err != nil {
				t.Errorf("group %d, %v", pgid, err)
			}
			must(t, p.Close())
			endsWith(t, ctx, p, -int(syscall.SIGKILL))
			if !alive(t, grandchild) {
				t.Error("a process beyond the one was killed")
			}
			return syscall.Kill(grandchild, syscall.SIGKILL)
		})
	})
}

// In a scope that has already ended, a start returns the end of the scope and leaves no process
// running.
func TestSubprocess_ScopeIsOver(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		scope, cancel := asyncio.WithCancel(ctx)
		cancel()
		if p, err := asyncio.CreateSubprocessShell(scope, "sleep 1000"); p != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", p, err)
		}
		return nil
	})
}

func TestSubprocess_Detach(t *testing.T) {
	var pid int
	for _, how := range []string{"the loop closes", "the context ends", "Close"} {
		onSystem(t, func(t *testing.T, ctx context.Context) error {
			scope, cancel := asyncio.WithCancel(ctx)
			defer cancel()
			p := shell(t, scope, "echo ready; exec sleep 1000", asyncio.Stdout(asyncio.Pipe))
			if got := readLine(t, ctx, p.Stdout); got != "ready" {
				t.Error(got)
			}
			must(t, p.Detach())
			pid = p.Pid
			t.Cleanup(func() {
				defer noChildren(t)
				if !alive(t, pid) {
					t.Errorf("%s: the process has ended", how)
				}
				must(t, syscall.Kill(pid, syscall.SIGKILL))
			})
			switch how {
			case "the context ends":
				cancel()
				settle(t, ctx)
			case "Close":
				must(t, p.Close())
			}
			must(t, p.SendSignal(syscall.SIGCONT))
			return nil
		})
	}
}

// A process is reaped although nobody waits for it, so no zombie remains (process 2).
func TestSubprocess_NobodyWaits(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "exit 0")
		for ended := false; !ended; _, ended = p.ReturnCode() {
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		if left := children(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		_ = shell(t, ctx, "exit 0") // has ended or will, and nobody asks
		return nil
	})
}

// Two tasks wait, and one is cancelled. The other gets the return code, and the process is not
// affected.
func TestSubprocess_CancelledWait(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "exec sleep 1000")
		one := asyncio.CreateTask(ctx, p.Wait)
		other := asyncio.CreateTask(ctx, p.Wait)
		settle(t, ctx)
		one.Cancel()
		if _, err := one.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		one.Cancel()
		must(t, p.Kill())
		if code, err := other.Await(ctx); code != -9 || err != nil {
			t.Errorf("the other: %d, %v", code, err)
		}
		endsWith(t, ctx, p, -9)
		return nil
	})
}

// A start that is cancelled at any moment leaves no process and no descriptor behind.
func TestSubprocess_CancelledStart(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		var running []*asyncio.Process
		for i := range 60 {
			starting := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.Process, error) {
				return asyncio.CreateSubprocessShell(ctx, "exec sleep 1000", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.DevNull))
			})
			for range i % 4 {
				must(t, asyncio.Sleep(ctx, 0))
			}
			for range i / 6 {
				must(t, asyncio.Sleep(ctx, 100*time.Microsecond))
			}
			starting.Cancel()
			switch p, err := starting.Await(ctx); {
			case err == nil:
				running = append(running, p)
			case !errors.Is(err, asyncio.ErrCancelled):
				t.Error(err)
			}
		}
		for _, p := range running {
			must(t, p.Close())
			endsWith(t, ctx, p, -9)
		}
		noChildren(t)
		return nil
	})
}

// A child gets the descriptors it is given, and none that this program inherited itself.
func TestSubprocess_InheritsNothing(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer f.Close()
		// clears close-on-exec, as for a descriptor that was inherited
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETFD, 0); errno != 0 {
			return errno
		}
		endsWith(t, ctx, shell(t, ctx, fmt.Sprintf("test ! -e /dev/fd/%d", f.Fd())), 0)
		given := asyncio.Stdio(f.Fd())
		endsWith(t, ctx, shell(t, ctx, "test -c /dev/fd/0 && test -c /dev/fd/3", asyncio.Stdin(given), asyncio.ExtraFiles(f)), 0)
		return nil
	})
}

func TestSubprocess_Many(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		const n = 200
		before := leaktest.Descriptors()
		var all []*asyncio.Task[string]
		for i := range n {
			all = append(all, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
				p, err := asyncio.CreateSubprocessExec(ctx, "cat", nil, asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
				if err != nil {
					return "", err
				}
				out, _, err := p.Communicate(ctx, fmt.Appendf(nil, "foo%d", i))
				return string(out), err
			}))
		}
		results, err := asyncio.Gather(ctx, all...)
		if err != nil {
			return err
		}
		for i, got := range results {
			if want := fmt.Sprintf("foo%d", i); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if after := leaktest.Descriptors(); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		noChildren(t)
		return nil
	})
}

// A start runs out of descriptors at any point. It returns an error and leaves nothing behind.
func TestSubprocess_OutOfDescriptors(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		// so that the poller is there
		_, _, err := shell(t, ctx, "exit 0", asyncio.Stdout(asyncio.Pipe)).Communicate(ctx, nil)
		if err != nil {
			return err
		}
		before := leaktest.Descriptors()
		for free := 0; ; free++ {
			p, err := func() (*asyncio.Process, error) {
				release := useUpDescriptorsBut(t, free)
				defer release()
				return asyncio.CreateSubprocessShell(ctx, "exec sleep 1000", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.DevNull))
			}()
			if err == nil {
				if free < 5 {
					t.Errorf("it started with %d descriptors", free)
				}
				must(t, p.Close())
				endsWith(t, ctx, p, -9)
				break
			}
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("with %d descriptors: %v", free, err)
			}
			if after := leaktest.Descriptors(); after != before {
				t.Errorf("with %d descriptors: %d before, %d after", free, before, after)
			}
		}
		return nil
	})
}

// useUpDescriptorsBut is useUpDescriptors, but leaves free of them.
func useUpDescriptorsBut(t *testing.T, free int) (release func()) {
	t.Helper()
	var kept []int
	for range free {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		must(t, err)
		kept = append(kept, fd)
	}
	release = useUpDescriptors(t)
	for _, fd := range kept {
		must(t, syscall.Close(fd))
	}
	return release
}

func TestSubprocess_Errors(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		plain := filepath.Join(t.TempDir(), "plain")
		must(t, os.WriteFile(plain, []byte("no program"), 0o644))
		before := leaktest.Descriptors()
		pipes := []asyncio.SubprocessOption{asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe)}
		for _, c := range []struct {
			name string
			opts []asyncio.SubprocessOption
			want error
		}{
			{"", nil, asyncio.ErrInvalidArgument},
			{"there-is-no-such-program", nil, exec.ErrNotFound},
			{"./there-is-no-such-program", nil, fs.ErrNotExist},
			{plain, nil, fs.ErrPermission},
			{"cat", []asyncio.SubprocessOption{asyncio.SubprocessDir("/there/is/none")}, fs.ErrNotExist},
			{"cat\x00", nil, exec.ErrNotFound},
			{"cat", []asyncio.SubprocessOption{asyncio.Stdin(asyncio.ToStdout)}, asyncio.ErrInvalidArgument},
			{"cat", []asyncio.SubprocessOption{asyncio.Stdout(asyncio.ToStdout)}, asyncio.ErrInvalidArgument},
			{"cat", []asyncio.SubprocessOption{asyncio.Stderr(-10)}, asyncio.ErrInvalidArgument},
			{"cat", []asyncio.SubprocessOption{asyncio.Stderr(1 << 20)}, syscall.EBADF},
		} {
			p, err := asyncio.CreateSubprocessExec(ctx, c.name, nil, append(slices.Clone(pipes), c.opts...)...)
			if p != nil || !errors.Is(err, c.want) {
				t.Errorf("%q: %v, %v; want %v", c.name, p, err, c.want)
			}
		}
		if after := leaktest.Descriptors(); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}

		p := shell(t, ctx, "exec sleep 1000")
		if _, _, err := p.Communicate(ctx, []byte("x")); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("input without a pipe: %v", err)
		}
		if err := p.SendSignal(nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a nil signal: %v", err)
		}
		if err := p.SendSignal(syscall.Signal(1000)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("no signal: %v", err)
		}
		return nil
	})
	run(t, func(ctx context.Context) error {
		if _, err := asyncio.CreateSubprocessShell(ctx, "exit 0"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("on virtual time: %v", err)
		}
		return nil
	})
}

// The deferred functions of a task that a closing loop unwinds can use a Process, and so can code
// after the loop has closed.
func TestSubprocess_LoopIsClosed(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(new(reports).handle)
	var p *asyncio.Process
	var waited error
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		p = shell(t, ctx, "exec sleep 1000", asyncio.Stdin(asyncio.Pipe))
		defer func() {
			_, waited = p.Wait(ctx)
			must(t, p.Kill())
		}()
		l.Stop()
		return second(p.Wait(ctx))
	}))
	must(t, l.RunForever())
	if task.Done() {
		t.Error("the task did not wait")
	}
	must(t, l.Close())
	if !errors.Is(waited, asyncio.ErrLoopClosed) {
		t.Errorf("Wait of a closing loop: %v", waited)
	}
	if code, ended := p.ReturnCode(); code != -9 || !ended {
		t.Errorf("ReturnCode = %d, %v", code, ended)
	}
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Kill: %v", err)
	}
	must(t, p.Close())
	must(t, p.Detach())
	noChildren(t)
}

// Something else in the program waits for all its children. The return code is then unknown, so it
// is 255, and the loop reports that.
func TestSubprocess_ReapedBySomebodyElse(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		var r reports
		l.SetExceptionHandler(r.handle)
		p := shell(t, ctx, "exit 0")
		if _, err := syscall.Wait4(p.Pid, nil, 0, nil); err != nil {
			return err
		}
		endsWith(t, ctx, p, 255)
		if all := r.messages(); len(all) != 1 || !strings.Contains(all[0], "was taken by somebody else") {
			t.Errorf("reports: %q", all)
		}
		return nil
	})
}
