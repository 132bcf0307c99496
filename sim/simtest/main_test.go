package simtest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	if os.Getenv("SIMTEST_ALONE") != "" {
		os.Exit(m.Run())
	}
	os.Exit(leaktest.Run(m))
}

// alone runs the calling test in a process of its own: its runs leave goroutines behind. In that
// process it returns false, and the test goes on.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv("SIMTEST_ALONE") != "" {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "SIMTEST_ALONE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return true
}

// everything reports whether the long tests are to be run.
func everything() bool { return os.Getenv("ASYNCIO_EXPLORE") == "all" }
