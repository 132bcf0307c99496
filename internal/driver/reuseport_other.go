//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package driver

// ReusePort lets several sockets listen on one address.
func ReusePort(fd uintptr) error { return ErrSockets }
