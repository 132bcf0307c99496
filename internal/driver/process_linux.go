package driver

import (
	"syscall"
	"unsafe"
)

const lastSignal = 64

// waitForExit blocks until the child has ended, and does not reap it. It also returns if there is no such child.
func waitForExit(pid int) {
	const byPid = 1
	var info [16]uint64 // siginfo_t: 128 bytes, aligned
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPid, uintptr(pid), uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}
