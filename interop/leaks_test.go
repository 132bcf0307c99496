//go:build unix

package interop

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

// A survey is what there is at some moment: the goroutines, and the number of descriptors.
type surveyed struct {
	goroutines  map[string]string // their stacks by their numbers
	descriptors int
}

var goroutineNumber = regexp.MustCompile(`^goroutine (\d+) `)

func survey(t *testing.T) surveyed {
	t.Helper()
	s := surveyed{goroutines: make(map[string]string)}
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		number := goroutineNumber.FindStringSubmatch(stack)
		if number == nil {
			t.Fatalf("cannot read the stack %q", stack)
		}
		s.goroutines[number[1]] = stack
	}
	s.descriptors = leaktest.Descriptors()
	return s
}

// check fails the test if there are goroutines that were not there before, or more descriptors.
// What is about to end gets a while to do so.
func (before surveyed) check(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		now := survey(t)
		var left []string
		for number, stack := range now.goroutines {
			if before.goroutines[number] == "" && !strings.Contains(stack, "os/signal.") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 && now.descriptors <= before.descriptors {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("descriptors: %d before, %d after; goroutines left behind:\n%s", before.descriptors, now.descriptors, strings.Join(left, "\n\n"))
			return
		}
	}
}
