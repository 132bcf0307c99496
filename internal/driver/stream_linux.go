//go:build linux && !386 && !s390x

package driver

import (
	"syscall"
	"unsafe"
)

// Reads and writes of sockets by the calls that are made for them. They do not go through the kernel's files, which takes 2% off a
// message of 64 bytes, and raise no SIGPIPE. (On 386 and s390x these calls go through another one.)

const streamFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

func receive(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), streamFlags, 0, 0)
	return int(n), errno
}

func send(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), streamFlags, 0, 0)
	return int(n), errno
}
