//go:build linux || darwin || freebsd

package driver

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

const processesExist = true

// ownGroup makes cmd the leader of a new process group. The leader of a new session is one already.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	if !cmd.SysProcAttr.Setsid {
		cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pgid = true, 0
	}
}

// NewSession makes cmd the leader of a new session.
func NewSession(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return nil
}

func signalGroup(pid int, s os.Signal) error {
	n, ok := s.(syscall.Signal)
	if !ok {
		return ErrSockets
	}
	err := syscall.Kill(-pid, n)
	if err == syscall.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("kill", err)
}

// Catchable reports whether a program can catch s, and whether s is a valid signal at all.
func Catchable(s os.Signal) (catchable, valid bool) {
	n, ok := s.(syscall.Signal)
	if !ok || n < 1 || n > lastSignal {
		return false, false
	}
	return n != syscall.SIGKILL && n != syscall.SIGSTOP, true
}

// ExitCode returns the exit code of a process, or the negative number of the signal that killed it.
func ExitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return -int(w.Signal())
	}
	return s.ExitCode()
}

// Duplicate returns a duplicate of a descriptor, for a child that is started while the descriptor's
// owner may close it.
func Duplicate(fd uintptr) (*os.File, error) {
	syscall.ForkLock.RLock()
	dup, err := syscall.Dup(int(fd))
	if err == nil {
		syscall.CloseOnExec(dup)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(dup), "duplicate"), nil
}

// newPipe makes a pipe. Our end does not block.
func newPipe(read bool) (ours, theirs int, err error) {
	var p [2]int
	syscall.ForkLock.RLock()
	if err = syscall.Pipe(p[:]); err == nil {
		syscall.CloseOnExec(p[0])
		syscall.CloseOnExec(p[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	ours, theirs = p[1], p[0]
	if read {
		ours, theirs = theirs, ours
	}
	if err = syscall.SetNonblock(ours, true); err != nil {
		closePipe(ours)
		closePipe(theirs)
		return -1, -1, os.NewSyscallError("fcntl", err)
	}
	return ours, theirs, nil
}

func closePipe(fd int) { syscall.Close(fd) }

// pipeEnd is one end of a pipe. It gives its descriptor back by itself at the end of the stream, or
// when the pipe has no reader left: a program that waits for its children and forgets their pipes
// must not run out of descriptors.
type pipeEnd struct {
	socket
	reads bool
	over  bool   // at the end of the stream, or broken
	kept  []byte // bytes that Shed has taken out
}

func (p *poller) adoptPipe(fd int, reads bool) (*pipeEnd, error) {
	e := &pipeEnd{reads: reads}
	e.remote, e.stream, e.pipe = pipeAddr{}, true, true
	e.close = e.release
	if err := e.open(p, fd, "pipe", pipeAddr{}); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *pipeEnd) Read(p []byte) (int, error) {
	if !e.reads {
		return 0, ErrSockets
	}
	if len(e.kept) > 0 {
		n := copy(p, e.kept)
		e.kept = e.kept[n:]
		return n, nil
	}
	if e.over {
		return 0, io.EOF
	}
	n, err := e.socket.Read(p)
	if err == io.EOF {
		e.giveBack()
	}
	return n, err
}

func (e *pipeEnd) Write(p []byte) (int, error) {
	if e.reads {
		return 0, ErrSockets
	}
	if e.over {
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	}
	n, err := e.socket.Write(p)
	if se, ok := err.(*os.SyscallError); ok && se.Err == syscall.EPIPE {
		e.giveBack()
	}
	return n, err
}

// giveBack gives the descriptor back.
func (e *pipeEnd) giveBack() {
	e.over = true
	e.release()
}

// Shed implements [Shedder].
func (e *pipeEnd) Shed() bool {
	if e.fd >= 0 && e.reads {
		e.over = shed(&e.kept, e.socket.Read)
	}
	if e.over || !e.reads {
		e.giveBack()
	}
	return e.fd < 0
}

func (e *pipeEnd) CloseWrite() error { return e.closeSide(!e.reads) }
func (e *pipeEnd) CloseRead() error  { return e.closeSide(e.reads) }

func (e *pipeEnd) closeSide(mine bool) error {
	if !mine {
		return ErrSockets
	}
	e.release()
	return nil
}

func (e *pipeEnd) Abort() error { return e.Close() }

// Detach fails: a pipe is not a [net.Conn].
func (e *pipeEnd) Detach() (net.Conn, error) { return nil, ErrSockets }

func (e *pipeEnd) SetOption(Option, int) error { return ErrSockets }

// firstUnnamed is the first descriptor that is not a standard stream.
const firstUnnamed = 3

// maxUnlisted is how many descriptors are tried where the system does not list them.
const maxUnlisted = 1 << 16

// markEach marks every descriptor in the directory list close-on-exec (child 5).
func markEach(list string) {
	names, _ := os.ReadDir(list)
	listed := false // the list has at least the descriptor that it is read through
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd >= firstUnnamed {
			listed = true
			syscall.CloseOnExec(fd)
		}
	}
	if listed {
		return
	}
	limit := syscall.Rlimit{}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	for fd := firstUnnamed; fd < int(min(limit.Cur, maxUnlisted)); fd++ {
		syscall.CloseOnExec(fd)
	}
}

// readNow reads the available bytes, without waiting.
func (c *pipeConn) readNow(p []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	if err := raw.Read(func(fd uintptr) bool { n, errno = read(int(fd), p); return true }); err != nil {
		return 0, err
	}
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return 0, ErrAgain
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
