//go:build darwin || freebsd

package driver

import "syscall"

const lastSignal = 31

// waitForExit blocks until the child has ended, and does not reap it. It also returns if there is
// no such child. (darwin's waitid also returns when the child is stopped.) If no kqueue can be made
// it returns at once, and Reap waits.
func waitForExit(pid int) {
	syscall.ForkLock.RLock()
	kq, err := syscall.Kqueue()
	if err == nil {
		syscall.CloseOnExec(kq)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return
	}
	defer syscall.Close(kq)
	var change, event [1]syscall.Kevent_t
	syscall.SetKevent(&change[0], pid, syscall.EVFILT_PROC, syscall.EV_ADD|syscall.EV_ONESHOT)
	change[0].Fflags = syscall.NOTE_EXIT
	changes := change[:]
	for {
		n, err := syscall.Kevent(kq, changes, event[:], nil)
		switch {
		case err == syscall.EINTR:
			changes = nil
		case err != nil || n > 0: // an error, for example ESRCH, may come as an event too
			return
		}
	}
}

// inheritNothing marks every descriptor close-on-exec, so that a child gets only its own (child 5).
func inheritNothing() { markEach("/dev/fd") }
