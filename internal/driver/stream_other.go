//go:build darwin || freebsd || (linux && (386 || s390x))

package driver

import "syscall"

func receive(fd int, p []byte) (int, syscall.Errno) { return read(fd, p) }
func send(fd int, p []byte) (int, syscall.Errno)    { return write(fd, p) }
