// Package leaktest fails the tests of a package that leave something behind. Only tests import it.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Run runs the tests and returns the code to exit with, which is not zero if they leave a goroutine
// or a descriptor behind. It is for TestMain.
func Run(m *testing.M) int {
	before := Descriptors()
	code := m.Run()
	if code != 0 {
		return code
	}
	if left := Goroutines(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	if after := Descriptors(); after > before {
		fmt.Fprintf(os.Stderr, "descriptors left behind: %d before, %d after\n", before, after)
		code = 1
	}
	return code
}

// Goroutines returns the stacks of goroutines that do not end, besides the caller's. Goroutines
// that are about to end get a while to do so.
func Goroutines() string {
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		left = left[:0]
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && !strings.Contains(g, "os/signal.") && !strings.Contains(g, "runtime.handleEvent(") && !strings.Contains(g, "testing.(*M)") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// Descriptors counts open descriptors where the system lists them, except those that the runtime's
// own poller opens once.
func Descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(name, "anon_inode:") {
			n++
		}
	}
	return n
}
