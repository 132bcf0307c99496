package peer

import (
	"syscall"
	"time"
	"unsafe"
)

// ProcessorTime returns how long all threads of a process have run, in user and system mode, as
// clock_gettime reports it for a process; zero if it cannot be known.
func ProcessorTime(pid int) time.Duration {
	const scheduled = 2
	clock := ^pid<<3 | scheduled
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(int32(clock)), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(t.Nano())
}
