//go:build linux && !386 && !s390x

package driver

import (
	"syscall"
	"unsafe"
)

// Sockets are read and written by the system calls for sockets. These bypass the kernel's file
// layer, which saves 2% of a message of 64 bytes, and raise no SIGPIPE. (386 and s390x reach these
// calls only by way of another one, socketcall.)

const streamFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL

func receive(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), streamFlags, 0, 0)
	return int(n), errno
}

func send(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), streamFlags, 0, 0)
	return int(n), errno
}
