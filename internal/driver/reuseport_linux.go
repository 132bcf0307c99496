package driver

import (
	"os"
	"runtime"
	"strings"
	"syscall"
)

// ReusePort lets several sockets listen on one address.
func ReusePort(fd uintptr) error {
	option := 0xf // SO_REUSEPORT, which package syscall does not have everywhere
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		option = 0x200
	}
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 1))
}
