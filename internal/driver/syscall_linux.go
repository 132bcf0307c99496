package driver

import (
	"syscall"
	"unsafe"
)

// Reads and writes that do not block. RawSyscall6 bypasses the scheduler, which is not needed here.

func read(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

func write(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

func accept(fd int) (int, syscall.Sockaddr, error) {
	return syscall.Accept4(fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
}

// optionsInherited says that accepted connections inherit the listener's TCP options.
const optionsInherited = true

// keepAliveOptions are those of package net: the first probe after 15 s, then one every 15 s, 9 of
// them.
var keepAliveOptions = []struct{ name, value int }{
	{syscall.TCP_KEEPIDLE, 15},
	{syscall.TCP_KEEPINTVL, 15},
	{syscall.TCP_KEEPCNT, 9},
}
