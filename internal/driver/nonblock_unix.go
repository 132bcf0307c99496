//go:build unix

package driver

import "syscall"

const nonblock = syscall.O_NONBLOCK
