//go:build unix

package asynciohttp_test

import (
	"syscall"
	"testing"
	"time"
)

// processorTime returns how long this process has run, in the program and in the system.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
