//go:build linux || darwin || freebsd

package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// Bytes written to the process's Stdin come out of its Stdout, with the streams' own methods.
func TestSubprocess_Streams(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p, err := asyncio.CreateSubprocessExec(ctx, "cat", nil, asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		if err != nil {
			return err
		}
		if p.Stderr != nil {
			t.Error("there is a Stderr that nobody asked for")
		}
		for _, line := range []string{"one\n", "two\n"} {
			if _, err := p.Stdin.Write(ctx, []byte(line)); err != nil {
				return err
			}
			if got := readLine(t, ctx, p.Stdout) + "\n"; got != line {
				t.Errorf("%q came back as %q", line, got)
			}
		}
		must(t, p.Stdin.Close(ctx))
		if _, err := p.Stdin.Write(ctx, []byte("x")); err == nil {
			t.Error("Write after Close succeeded")
		}
		if rest, err := p.Stdout.Read(ctx, -1); len(rest) != 0 || err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		if _, err := p.Stdout.Read(ctx, 1); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		endsWith(t, ctx, p, 0)
		return nil
	})
}

func TestSubprocess_Stdio(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		dir := t.TempDir()
		file, err := os.Create(filepath.Join(dir, "out"))
		if err != nil {
			return err
		}
		defer file.Close()
		const both = "cat; echo out; echo err >&2"
		all := []asyncio.SubprocessOption{asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.Pipe)}
		null := asyncio.DevNull
		for name, c := range map[string]struct {
			command     string
			opts        []asyncio.SubprocessOption
			input       []byte
			out, errOut string
		}{
			"all are pipes":           {both, nil, []byte("in "), "in out\n", "err\n"},
			"no input":                {both, nil, nil, "out\n", "err\n"},
			"empty input":             {"wc -c | tr -d ' '", nil, []byte{}, "0\n", ""},
			"input of three bytes":    {"wc -c | tr -d ' '", nil, []byte("abc"), "3\n", ""},
			"stdin by its name":       {"cat /dev/stdin", nil, []byte("abc"), "abc", ""},
			"no stdin":                {"wc -c | tr -d ' '", []asyncio.SubprocessOption{asyncio.Stdin(null)}, nil, "0\n", ""},
			"no stdout":               {both, []asyncio.SubprocessOption{asyncio.Stdout(null)}, []byte("x"), "", "err\n"},
			"no stderr":               {both, []asyncio.SubprocessOption{asyncio.Stderr(null)}, []byte("x"), "xout\n", ""},
			"stderr to stdout":        {both, []asyncio.SubprocessOption{asyncio.Stderr(asyncio.ToStdout)}, nil, "out\nerr\n", ""},
			"stderr to no stdout":     {both, []asyncio.SubprocessOption{asyncio.Stdout(null), asyncio.Stderr(asyncio.ToStdout)}, nil, "", ""},
			"stdout to a descriptor":  {"echo file", []asyncio.SubprocessOption{asyncio.Stdout(asyncio.Stdio(file.Fd()))}, nil, "", ""},
			"the environment":         {`echo "$A-$HOME"`, []asyncio.SubprocessOption{asyncio.SubprocessEnv("A=b")}, nil, "b-\n", ""},
			"no environment":          {`echo "-$HOME"`, []asyncio.SubprocessOption{asyncio.SubprocessEnv()}, nil, "-\n", ""},
			"the directory":           {"ls", []asyncio.SubprocessOption{asyncio.SubprocessDir(dir)}, nil, "out\n", ""},
			"another file":            {"echo extra >&3", []asyncio.SubprocessOption{asyncio.ExtraFiles(file)}, nil, "", ""},
			"output without an end":   {"printf '%100000s' x | tr -d '\\n'", nil, nil, strings.Repeat(" ", 99_999) + "x", ""},
			"beyond the pipe's limit": {"echo 12345678901", []asyncio.SubprocessOption{asyncio.PipeLimit(10)}, nil, "12345678901\n", ""},
		} {
			p := shell(t, ctx, c.command, append(slices.Clone(all), c.opts...)...)
			out, errOut, err := p.Communicate(ctx, c.input)
			if string(out) != c.out || string(errOut) != c.errOut || err != nil {
				t.Errorf("%s: %.100q, %q, %v", name, out, errOut, err)
			}
			if (p.Stdin == nil) != (name == "no stdin") || (p.Stdout == nil) != (name == "no stdout" || name == "stdout to a descriptor" || name == "stderr to no stdout") {
				t.Errorf("%s: Stdin %v, Stdout %v", name, p.Stdin, p.Stdout)
			}
			endsWith(t, ctx, p, 0)
		}
		if got, err := os.ReadFile(file.Name()); string(got) != "file\nextra\n" && string(got) != "extra\nfile\n" || err != nil {
			t.Errorf("the file has %q, %v", got, err)
		}
		return nil
	})
}

// A pipe of the poller is no net.Conn. Asking for one does the pipe no harm.
func TestSubprocess_DetachPipe(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "cat", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		nc, err := p.Stdin.Conn().(*asyncio.Conn).Detach()
		if err == nil { // a goroutine serves this pipe
			return errors.Join(nc.Close(), p.Close())
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Detach: %v", err)
		}
		if out, _, err := p.Communicate(ctx, []byte("x")); string(out) != "x" || err != nil {
			t.Errorf("after Detach: %q, %v", out, err)
		}
		return nil
	})
}

func TestSubprocess_Limit(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "echo 12345678901", asyncio.Stdout(asyncio.Pipe), asyncio.PipeLimit(10))
		var overrun *asyncio.LimitOverrunError
		if _, err := p.Stdout.ReadLine(ctx); !errors.As(err, &overrun) {
			t.Errorf("ReadLine: %v", err)
		}
		endsWith(t, ctx, p, 0)
		return nil
	})
}

// Megabytes go both ways at the same time, and stderr carries more than a pipe holds.
func TestSubprocess_CommunicateMuch(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		want := pattern(4 << 20)
		p := shell(t, ctx, "tee /dev/stderr", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.Pipe))
		out, errOut, err := p.Communicate(ctx, want)
		if err != nil || !bytes.Equal(out, want) || !bytes.Equal(errOut, want) {
			t.Errorf("%d and %d bytes, %v; want %d", len(out), len(errOut), err, len(want))
		}
		endsWith(t, ctx, p, 0)
		return nil
	})
}

// A Communicate that is cancelled at any moment loses nothing: the next one goes on.
func TestSubprocess_CancelledCommunicate(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		want := pattern(1 << 20)
		p := shell(t, ctx, "tee /dev/stderr", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.Pipe))
		input := want
		cancels := 0
		for i := 0; ; i++ {
			talking := asyncio.CreateTask(ctx, func(ctx context.Context) ([2][]byte, error) {
				out, errOut, err := p.Communicate(ctx, input)
				return [2][]byte{out, errOut}, err
			})
			for range i % 40 {
				must(t, asyncio.Sleep(ctx, 0))
			}
			talking.Cancel()
			got, err := talking.Await(ctx)
			if err == nil {
				if !bytes.Equal(got[0], want) || !bytes.Equal(got[1], want) {
					t.Errorf("%d and %d bytes after %d cancels, want %d", len(got[0]), len(got[1]), cancels, len(want))
				}
				break
			}
			if !errors.Is(err, asyncio.ErrCancelled) {
				return err
			}
			cancels++
			if i%40 > 0 { // it has begun
				input = nil
			}
		}
		if cancels == 0 {
			t.Error("no cancel came in time")
		}
		if _, _, err := p.Communicate(ctx, want); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("input for the second time: %v", err)
		}
		endsWith(t, ctx, p, 0)
		return nil
	})
}

// Communicate does not disturb a task that reads.
func TestSubprocess_CommunicateBusy(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "read line; echo $line", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		reading := asyncio.CreateTask(ctx, p.Stdout.ReadLine)
		settle(t, ctx)
		if _, _, err := p.Communicate(ctx, nil); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("Communicate: %v", err)
		}
		if !p.Stdin.IsClosing() { // the input may have been closed before the error
			if _, err := p.Stdin.Write(ctx, []byte("hello\n")); err != nil {
				return err
			}
			if line, err := reading.Await(ctx); string(line) != "hello\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
		} else if line, err := reading.Await(ctx); string(line) != "\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		_, err := p.Wait(ctx)
		return err
	})
}

// If a process does not read its input, Communicate does not fail, and a direct write fails with
// EPIPE.
func TestSubprocess_BrokenPipe(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		much := make([]byte, 1<<20)
		p := shell(t, ctx, "exit 0", asyncio.Stdin(asyncio.Pipe))
		if _, _, err := p.Communicate(ctx, much); err != nil {
			t.Error(err)
		}
		endsWith(t, ctx, p, 0)

		p = shell(t, ctx, "echo ready; read line", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		if got := readLine(t, ctx, p.Stdout); got != "ready" {
			t.Error(got)
		}
		much[len(much)-1] = '\n'
		much[100] = '\n'
		_, err := p.Stdin.Write(ctx, much)
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write: %v", err)
		}
		endsWith(t, ctx, p, 0)
		if err := p.Stdin.Drain(ctx); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Drain: %v", err)
		}
		return nil
	})
}

// A pipe that nobody reads any more gives its descriptor back and reports EPIPE.
func TestSubprocess_ForgottenStdin(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		p := shell(t, ctx, "exec sleep 1000", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		raw, err := p.Stdin.Conn().(*asyncio.Conn).SyscallConn()
		if err != nil {
			return err
		}
		must(t, p.Kill())
		endsWith(t, ctx, p, -9)
		for raw.Control(func(uintptr) {}) == nil {
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		if _, err := p.Stdin.Write(ctx, []byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write: %v", err)
		}
		if _, _, err := p.Communicate(ctx, []byte("x")); err != nil {
			t.Errorf("Communicate: %v", err)
		}
		return nil
	})
	noChildren(t)
}

// Wait is about the process: it does not matter that another process has the pipe (process 3).
func TestSubprocess_GrandchildHoldsThePipe(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "sleep 1000 & echo $!; exit 3", asyncio.Stdout(asyncio.Pipe))
		grandchild := readPid(t, ctx, p.Stdout)
		endsWith(t, ctx, p, 3)
		if !alive(t, grandchild) {
			t.Error("what the process left behind has gone with it")
		}
		talking := start(ctx, func(ctx context.Context) error { _, _, err := p.Communicate(ctx, nil); return err })
		settle(t, ctx)
		if talking.Done() {
			t.Error("Communicate did not wait for the end of the pipe")
		}
		must(t, syscall.Kill(grandchild, syscall.SIGKILL))
		return ended(ctx, talking)
	})
}

// A process that the child started may keep its pipe and write to it after the child has ended.
// When that process ends too, nothing is left.
func TestSubprocess_GrandchildEndsLater(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		p := shell(t, ctx, "(read line <&3; printf later) & exit 0", asyncio.Stdout(asyncio.Pipe), asyncio.ExtraFiles(r))
		endsWith(t, ctx, p, 0)
		open := leaktest.Descriptors()
		w.Close()
		for leaktest.Descriptors() > open-2 { // the one just closed, and the pipe's
			must(t, asyncio.Sleep(ctx, time.Millisecond))
		}
		if out, err := p.Stdout.Read(ctx, -1); string(out) != "later" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
		return nil
	})
}

// Output written before the process ended can be read afterwards.
func TestSubprocess_ReadAfterTheEnd(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		p := shell(t, ctx, "printf '%10000s' x; exit 1", asyncio.Stdout(asyncio.Pipe))
		endsWith(t, ctx, p, 1)
		out, err := p.Stdout.Read(ctx, -1)
		if len(out) != 10_000 || err != nil {
			t.Errorf("%d bytes, %v", len(out), err)
		}
		return nil
	})
}

// When the child ends, a task that waits for more output gets what came before the end, and the
// end.
func TestSubprocess_ReadsUpToTheEnd(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		for range 20 {
			p := shell(t, ctx, "printf ready; read line; printf '%50000s' x", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
			if _, err := p.Stdout.ReadExactly(ctx, len("ready")); err != nil {
				return err
			}
			reader := asyncio.CreateTask(ctx, func(ctx context.Context) ([]byte, error) { return p.Stdout.Read(ctx, -1) })
			settle(t, ctx)
			if _, err := p.Stdin.Write(ctx, []byte("go\n")); err != nil {
				return err
			}
			endsWith(t, ctx, p, 0)
			if out, err := reader.Await(ctx); len(out) != 50_000 || err != nil {
				t.Errorf("%d bytes, %v", len(out), err)
			}
			p.Close()
		}
		return nil
	})
}

// A child that has ended and been waited for leaves no descriptor, whether its pipes were read or
// not, empty or not. The bytes left in them can still be read.
func TestSubprocess_UnreadPipes(t *testing.T) {
	onProcesses(t, func(t *testing.T, ctx context.Context) error {
		before := leaktest.Descriptors()
		const text = "never read"
		var all []*asyncio.Process
		for range 20 {
			p := shell(t, ctx, "printf '"+text+"'", asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.Pipe))
			endsWith(t, ctx, p, 0)
			all = append(all, p)
		}
		if after := leaktest.Descriptors(); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		for _, p := range all {
			out, errOut, err := p.Communicate(ctx, nil)
			if string(out) != text || len(errOut) != 0 || err != nil {
				t.Errorf("read afterwards: %q, %q, %v", out, errOut, err)
			}
		}
		return nil
	})
	noChildren(t)
}
