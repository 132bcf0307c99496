//go:build !linux && !darwin && !freebsd

package driver

import (
	"os"
	"os/exec"
	"syscall"
)

// processesExist says whether a driver can start processes here.
const processesExist = false

func ownGroup(*exec.Cmd)                             {}
func inheritNothing()                                {}
func waitForExit(int)                                {}
func closePipe(int)                                  {}
func signalGroup(int, os.Signal) error               { return ErrSockets }
func newPipe(bool) (int, int, error)                 { return -1, -1, ErrSockets }
func (*poller) adoptPipe(int, bool) (*socket, error) { return nil, ErrSockets }

func (c *pipeConn) readNow([]byte) (int, error) { return 0, ErrSockets }

// NewSession is not possible here.
func NewSession(*exec.Cmd) error { return ErrSockets }

// Duplicate is not possible here.
func Duplicate(uintptr) (*os.File, error) { return nil, ErrSockets }

// ExitCode returns the exit code of a process.
func ExitCode(s *os.ProcessState) int { return s.ExitCode() }

// Catchable reports whether a program can catch s, and whether s is a valid signal at all.
func Catchable(s os.Signal) (catchable, valid bool) {
	n, ok := s.(syscall.Signal)
	valid = ok && n > 0
	return valid && s != os.Kill, valid
}
