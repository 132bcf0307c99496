package driver

import (
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

const lastSignal = 64

// waitForExit blocks until the child has ended, and does not reap it. It also returns if there is
// no such child.
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

// inheritNothing marks every descriptor close-on-exec, so that a child gets only its own (child 5).
// Since Linux 5.11 it is one system call.
func inheritNothing() {
	const closeRange, setCloseOnExec = 436, 4
	if !strings.HasPrefix(runtime.GOARCH, "mips") { // where system calls have other numbers
		if _, _, errno := syscall.RawSyscall(closeRange, firstUnnamed, uintptr(^uint32(0)), setCloseOnExec); errno == 0 {
			return
		}
	}
	markEach("/proc/self/fd")
}
