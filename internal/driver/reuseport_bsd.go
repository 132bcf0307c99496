//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package driver

import (
	"os"
	"runtime"
	"syscall"
)

// ReusePort lets several sockets listen on one address.
func ReusePort(fd uintptr) error {
	option := syscall.SO_REUSEPORT
	if runtime.GOOS == "freebsd" {
		option = 0x10000 // SO_REUSEPORT_LB, which distributes connections as Linux does
	}
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 1))
}
