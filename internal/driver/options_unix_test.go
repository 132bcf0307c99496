//go:build linux || darwin || freebsd

package driver_test

import "syscall"

var (
	noDelay     = option{syscall.IPPROTO_TCP, syscall.TCP_NODELAY}
	keepAlive   = option{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE}
	readBuffer  = option{syscall.SOL_SOCKET, syscall.SO_RCVBUF}
	writeBuffer = option{syscall.SOL_SOCKET, syscall.SO_SNDBUF}
)

func getOption(fd uintptr, level, name int) (int, error) {
	return syscall.GetsockoptInt(int(fd), level, name)
}
