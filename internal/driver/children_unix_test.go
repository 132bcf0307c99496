//go:build linux || darwin || freebsd

package driver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

func init() {
	// the child says hello, and ends with code 7 when its input ends
	children["waits"] = func() int {
		fmt.Println("hello")
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println("bye")
		return 7
	}
	// the child lists its descriptors
	children["lists"] = func() int {
		for fd := range 200 {
			var st syscall.Stat_t
			if syscall.Fstat(fd, &st) == nil {
				fmt.Printf("%d:%d:%d ", fd, st.Dev, st.Ino)
			}
		}
		return 0
	}
	// the child has a child that waits, in the same group
	children["parent"] = func() int {
		cmd := again()
		cmd.Env = append(os.Environ(), asChild+"=waits")
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		_ = cmd.Run()
		return 8
	}
}

// A child is one with pipes to it and a notifier.
type child struct {
	*driver.Child
	told
	in  *os.File
	out *bufio.Reader
}

// start starts a child that plays a part, and waits for its hello.
func (w *world) start(part string, group bool, files ...*os.File) *child {
	w.Helper()
	r, in, err := os.Pipe()
	w.must(err)
	out, wr, err := os.Pipe()
	w.must(err)
	w.Cleanup(func() { in.Close(); out.Close() })
	cmd := again()
	cmd.Env = append(os.Environ(), asChild+"="+part)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = r, wr, os.Stderr, files
	c, err := w.d.StartProcess(cmd, group)
	w.must(err)
	w.must(r.Close())
	w.must(wr.Close())
	x := &child{Child: c, told: told{w: w}, in: in, out: bufio.NewReader(out)}
	if part != "lists" {
		if line, err := x.out.ReadString('\n'); line != "hello\n" {
			w.Fatalf("the child says %q, %v", line, err)
		}
	}
	return x
}

// reap reaps a child that must have this code.
func (w *world) reap(c *child, code int) {
	w.Helper()
	state, err := c.Reap()
	w.must(err)
	if got := driver.ExitCode(state); got != code {
		w.Errorf("exit code %d, want %d", got, code)
	}
}

// The end of a child is told from inside Wait, whether it comes before or after WatchExit, until it
// is reaped (child 1, child 2). Children are reaped in any order.
func TestChild_Ends(t *testing.T) {
	inEach(t, func(w *world) {
		var all []*child
		for range 3 {
			c := w.start("waits", false)
			if c.Pid() <= 0 {
				w.Errorf("pid %d", c.Pid())
			}
			all = append(all, c)
		}
		for _, c := range all[:2] {
			c.WatchExit(&c.told)
		}
		w.poll()
		for _, c := range all {
			if c.reads > 0 {
				w.Error("told of the end of a child that runs")
			}
		}
		w.must(all[1].in.Close())
		w.until("the end", func() bool { return all[1].reads > 0 })
		if all[0].reads > 0 {
			w.Error("told of another child's end")
		}
		w.must(all[2].in.Close())
		_, err := io.Copy(io.Discard, all[2].out) // it has ended, or is about to
		w.must(err)
		all[2].WatchExit(&all[2].told)
		w.until("the end", func() bool { return all[2].reads > 0 })
		w.must(all[0].in.Close())
		w.until("the end", func() bool { return all[0].reads > 0 })
		for _, c := range all {
			w.reap(c, 7)
			c.closed = true
			if _, err := c.Reap(); err == nil {
				w.Error("reaped twice")
			}
		}
		w.poll()
	})
}

// A reaped child tells nothing any more, and no signal reaches its number (child 2).
func TestChild_Reaped(t *testing.T) {
	inEach(t, func(w *world) {
		c := w.start("waits", true)
		c.WatchExit(&c.told)
		w.must(c.Signal(syscall.SIGCONT))
		w.must(c.SignalGroup(syscall.SIGCONT))
		w.must(c.in.Close())
		w.reap(c, 7) // waits for the end
		c.closed = true
		w.is("Signal", c.Signal(syscall.SIGKILL), os.ErrProcessDone)
		w.is("SignalGroup", c.SignalGroup(syscall.SIGKILL), os.ErrProcessDone)
		// the news of another one comes after that of c
		other := w.start("waits", false)
		other.WatchExit(&other.told)
		w.must(other.in.Close())
		w.until("the end", func() bool { return other.reads > 0 })
		w.reap(other, 7)
	})
}

// A signal may come when the child has ended and is not reaped.
func TestChild_SignalAfterTheEnd(t *testing.T) {
	inEach(t, func(w *world) {
		c := w.start("waits", true)
		c.WatchExit(&c.told)
		w.must(c.in.Close())
		w.until("the end", func() bool { return c.reads > 0 })
		for _, err := range []error{c.Signal(syscall.SIGKILL), c.SignalGroup(syscall.SIGKILL)} {
			// darwin refuses to signal a child that has ended
			if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.EPERM) {
				w.Error(err)
			}
		}
		w.reap(c, 7)
	})
}

// A signal kills, and the exit code says so.
func TestChild_Signal(t *testing.T) {
	inEach(t, func(w *world) {
		for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			c := w.start("waits", false)
			c.WatchExit(&c.told)
			if s == syscall.SIGKILL {
				w.must(c.SignalGroup(s)) // has no group: the child alone
			} else {
				w.must(c.Signal(s))
			}
			w.until("the end", func() bool { return c.reads > 0 })
			w.reap(c, -int(s))
		}
	})
}

// A signal to a group reaches the children of the child.
func TestChild_Group(t *testing.T) {
	inEach(t, func(w *world) {
		c := w.start("parent", true)
		c.WatchExit(&c.told)
		if id, err := syscall.Getpgid(c.Pid()); id != c.Pid() || err != nil {
			w.Errorf("its group is %d, %v, want %d", id, err, c.Pid())
		}
		w.must(c.SignalGroup(syscall.SIGKILL))
		if _, err := c.out.ReadByte(); err != io.EOF { // all who can write have ended
			w.Error(err)
		}
		w.until("the end", func() bool { return c.reads > 0 })
		w.reap(c, -int(syscall.SIGKILL))
	})
}

// Once the child is reaped, no signal reaches its group, although others live in it (child 2).
func TestChild_GroupAfterReap(t *testing.T) {
	inEach(t, func(w *world) {
		c := w.start("parent", true)
		c.WatchExit(&c.told)
		w.must(c.Signal(syscall.SIGKILL))
		w.until("the end", func() bool { return c.reads > 0 })
		w.reap(c, -int(syscall.SIGKILL))
		w.is("SignalGroup", c.SignalGroup(syscall.SIGKILL), os.ErrProcessDone)
		w.must(c.in.Close())
		if line, err := c.out.ReadString('\n'); line != "bye\n" || err != nil {
			w.Errorf("the child's child says %q, %v", line, err)
		}
	})
}

// An abandoned child is reaped when it ends, also after its driver was closed (child 3).
func TestChild_Abandoned(t *testing.T) {
	for _, when := range []string{"before WatchExit", "running", "ended", "driver closed"} {
		t.Run(when, func(t *testing.T) {
			inEach(t, func(w *world) {
				c := w.start("waits", false)
				if when != "before WatchExit" {
					c.WatchExit(&c.told)
				}
				if when == "ended" {
					w.must(c.in.Close())
					w.until("the end", func() bool { return c.reads > 0 })
				}
				c.Abandon()
				c.closed = true
				if when == "driver closed" {
					w.must(w.d.Close())
				}
				_ = c.in.Close()
				for syscall.Kill(c.Pid(), 0) == nil { // a zombie has its number
					w.wait0()
				}
				w.is("Signal", c.Signal(syscall.SIGKILL), os.ErrProcessDone)
			})
		})
	}
}

// wait0 lets others work.
func (w *world) wait0() {
	w.waiting = true
	w.must(w.d.Wait(0))
	w.waiting = false
}

// If somebody else has reaped the child, its end is told and Reap fails.
func TestChild_ReapedByOthers(t *testing.T) {
	inEach(t, func(w *world) {
		c := w.start("waits", false)
		c.WatchExit(&c.told)
		w.must(c.in.Close())
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(c.Pid(), &status, 0, nil)
		if pid != c.Pid() || err != nil {
			w.Fatal(pid, err)
		}
		w.until("the end", func() bool { return c.reads > 0 })
		if _, err := c.Reap(); !errors.Is(err, syscall.ECHILD) {
			w.Errorf("Reap: %v", err)
		}
	})
}

// A child gets the descriptors that it is given and no other, even if this program has some that
// are not marked (child 5).
func TestChild_Inherits(t *testing.T) {
	inEach(t, func(w *world) {
		var files []*os.File
		var names []string
		for range 2 {
			f, err := os.CreateTemp(w.TempDir(), "f")
			w.must(err)
			defer f.Close()
			_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETFD, 0)
			if errno != 0 {
				w.Fatal(errno)
			}
			var st syscall.Stat_t
			w.must(syscall.Fstat(int(f.Fd()), &st))
			files = append(files, f)
			names = append(names, fmt.Sprintf(":%d:%d", st.Dev, st.Ino))
		}
		c := w.start("lists", false, files[0])
		list, err := io.ReadAll(c.out)
		w.must(err)
		w.reap(c, 0)
		all := strings.Fields(string(list))
		if !slices.Contains(all, "3"+names[0]) {
			w.Errorf("descriptor 3 is not the one that was given: %s", list)
		}
		for _, one := range all {
			if strings.HasSuffix(one, names[1]) {
				w.Errorf("inherited: %s", one)
			}
		}
	})
}

// What cannot be started leaves nothing behind.
func TestChild_CannotStart(t *testing.T) {
	inEach(t, func(w *world) {
		_, err := w.d.StartProcess(exec.Command("/nowhere/program"), true)
		w.is("StartProcess", err, os.ErrNotExist)
	})
}

// A new session has a group of its own, which group cannot take away.
func TestChild_NewSession(t *testing.T) {
	inEach(t, func(w *world) {
		cmd := again()
		cmd.Env = append(os.Environ(), asChild+"=waits")
		r, in, err := os.Pipe()
		w.must(err)
		defer in.Close()
		cmd.Stdin = r
		w.must(driver.NewSession(cmd))
		c, err := w.d.StartProcess(cmd, true)
		w.must(err)
		r.Close()
		if id, err := syscall.Getpgid(c.Pid()); id != c.Pid() || err != nil {
			w.Errorf("its group is %d, %v, want %d", id, err, c.Pid())
		}
		w.must(c.SignalGroup(syscall.SIGKILL))
		state, err := c.Reap()
		w.must(err)
		if got := driver.ExitCode(state); got != -int(syscall.SIGKILL) {
			w.Errorf("exit code %d", got)
		}
	})
}

// Which signals there are, and which a program can catch.
func TestCatchable(t *testing.T) {
	for s, want := range map[os.Signal][2]bool{
		syscall.SIGINT:      {true, true},
		syscall.SIGTERM:     {true, true},
		syscall.SIGKILL:     {false, true},
		syscall.SIGSTOP:     {false, true},
		syscall.Signal(0):   {false, false},
		syscall.Signal(-1):  {false, false},
		syscall.Signal(999): {false, false},
	} {
		if catchable, valid := driver.Catchable(s); [2]bool{catchable, valid} != want {
			t.Errorf("Catchable(%v) = %v, %v, want %v", s, catchable, valid, want)
		}
	}
}

// A duplicate outlives the descriptor, and no child inherits it.
func TestDuplicate(t *testing.T) {
	inEach(t, func(w *world) {
		r, wr := w.pipe()
		dup, err := driver.Duplicate(wr.Fd())
		w.must(err)
		w.must(wr.Close())
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, dup.Fd(), syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
			w.Errorf("flags %d, %v", flags, errno)
		}
		_, err = dup.Write([]byte("x"))
		w.must(err)
		w.must(dup.Close())
		if got, err := io.ReadAll(r); string(got) != "x" || err != nil {
			w.Errorf("read %q, %v", got, err)
		}
		_, err = driver.Duplicate(1 << 20)
		w.is("Duplicate", err, syscall.EBADF)
	})
}

// again returns a command that runs the test program again. Where the system cannot run it by
// itself, ASYNCIO_EMULATOR names the emulator that does.
func again(args ...string) *exec.Cmd {
	if emulator := os.Getenv("ASYNCIO_EMULATOR"); emulator != "" {
		return exec.Command(emulator, append([]string{os.Args[0]}, args...)...)
	}
	return exec.Command(os.Args[0], args...)
}
