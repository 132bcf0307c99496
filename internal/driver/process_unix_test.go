//go:build linux || darwin || freebsd

package driver

import (
	"os"
	"syscall"
	"testing"
)

// Every descriptor that is not a standard stream is marked, whether the system lists descriptors or
// each number has to be tried.
func TestInheritNothing(t *testing.T) {
	for name, mark := range map[string]func(){
		"as the system does it": inheritNothing,
		"listed":                func() { markEach("/dev/fd") },
		"not listed":            func() { markEach("/nowhere") },
	} {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		flags := func(command, arg uintptr) uintptr {
			v, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), command, arg)
			if errno != 0 {
				t.Fatal(errno)
			}
			return v
		}
		flags(syscall.F_SETFD, 0)
		mark()
		if flags(syscall.F_GETFD, 0)&syscall.FD_CLOEXEC == 0 {
			t.Errorf("%s: a child would inherit it", name)
		}
		f.Close()
	}
}
