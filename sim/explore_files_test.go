package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// fakeT is a test whose failure is inspected instead of reported. Fatalf exits the goroutine, as in
// a real test.
type fakeT struct {
	name, log, fatal string
	failed           bool
}

func (t *fakeT) Helper()                 {}
func (t *fakeT) Name() string            { return t.name }
func (t *fakeT) Failed() bool            { return t.failed }
func (t *fakeT) Logf(f string, a ...any) { t.log += fmt.Sprintf(f, a...) + "\n" }
func (t *fakeT) Fatalf(f string, a ...any) {
	t.fatal, t.failed = fmt.Sprintf(f, a...), true
	runtime.Goexit()
}

// try calls fn as a test would.
func try(name string, fn func(t *fakeT)) *fakeT {
	t := &fakeT{name: name}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(t)
	}()
	<-done
	return t
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// A failure is written to a file, and the failure's command line replays it. The file is tried
// first in later runs, as long as it exists. Once the program has changed, the test says so and
// runs the seed.
func TestExplore_RecordsAndTriesAgain(t *testing.T) {
	t.Chdir(t.TempDir())
	first := try("TestBank/transfer", func(t *fakeT) { sim.Explore(t, lostUpdate, sim.WithStrategy(sim.Random())) })
	if !strings.Contains(first.fatal, "balance 1, want 2") || !strings.Contains(first.fatal, "run 2") {
		t.Fatalf("%s", first.fatal)
	}
	files, _ := filepath.Glob("testdata/sim/TestBank-transfer/*.sim")
	if len(files) != 1 {
		t.Fatalf("files: %q", files)
	}
	line := fmt.Sprintf("once more: ASYNCIOSIM=%s go test -run '^TestBank$/^transfer$' github.com/goasyncio/asyncio/sim", filepath.ToSlash(files[0]))
	if !strings.Contains(first.fatal, line) {
		t.Errorf("%s\nlacks %s", first.fatal, line)
	}

	for _, how := range []struct {
		name string
		run  func(t *fakeT)
	}{
		{"corpus", func(t *fakeT) { sim.Explore(t, lostUpdate, sim.Runs(1)) }},
		{"option", func(t *fakeT) { sim.Run(t, lostUpdate, sim.Replay(files[0])) }},
	} {
		again := try("TestBank/transfer", how.run)
		if !strings.Contains(again.fatal, "balance 1, want 2") || !strings.Contains(again.fatal, "replayed") ||
			!strings.Contains(again.fatal, "from step 4 to 5 'a' was kept back, and 'main' and 'b' ran") {
			t.Errorf("%s: %s", how.name, again.fatal)
		}
	}
	t.Setenv("ASYNCIOSIM", files[0]+"@4")
	stops := 0
	defer sim.OnBreakpoint(func() { stops++ })()
	if again := try("TestX", func(t *fakeT) { sim.Run(t, lostUpdate) }); !strings.Contains(again.fatal, "balance 1") || stops != 1 {
		t.Errorf("stopped %d times: %s", stops, again.fatal)
	}
	t.Setenv("ASYNCIOSIM", "1")
	if again := try("TestY", func(t *fakeT) { sim.Explore(t, lostUpdate, sim.WithStrategy(sim.Random())) }); !strings.Contains(again.fatal, "balance 1") || !strings.Contains(again.fatal, "seed 1") {
		t.Errorf("seed 1: %s", again.fatal)
	}
	t.Setenv("ASYNCIOSIM", "2")
	if other := try("TestY", func(t *fakeT) { sim.Explore(t, func(context.Context) error { return nil }) }); other.failed {
		t.Errorf("seed 2: %s", other.fatal)
	}
	t.Setenv("ASYNCIOSIM", "")

	fixed := func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }
	later := try("TestBank/transfer", func(t *fakeT) { sim.Explore(t, fixed, sim.Runs(3)) })
	if later.failed || !strings.Contains(later.log, "the schedule does not fit the program, which has changed since it was recorded") ||
		!strings.Contains(later.log, "its seed is run instead") {
		t.Errorf("failed %v: %s %s", later.failed, later.fatal, later.log)
	}
}

// A failure in order needs no file: every run of the test begins with that order.
func TestExplore_InOrderIsNotRecorded(t *testing.T) {
	t.Chdir(t.TempDir())
	wrong := func(context.Context) error { return errors.New("wrong") }
	for name, test := range map[string]func(t *fakeT){
		"Run":     func(t *fakeT) { sim.Run(t, wrong, sim.Seed(7)) },
		"Explore": func(t *fakeT) { sim.Explore(t, wrong) },
	} {
		got := try("TestX", test)
		if !strings.HasPrefix(got.fatal, "It takes: first in, first out everywhere\nIt goes wrong in step 1, 'main' to its end:\nmain returned") ||
			!strings.Contains(got.fatal, "once more: go test -run '^TestX$' github.com/goasyncio/asyncio/sim\n") {
			t.Errorf("%s: %s", name, got.fatal)
		}
	}
	if files, err := os.ReadDir("."); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
}

// An ASYNCIOSIM that is neither a seed nor a file is reported by name.
func TestExplore_WrongEnvironment(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "s.sim", "hello\n")
	for env, want := range map[string]string{
		"bogus":   "ASYNCIOSIM=bogus is neither a seed nor the file of a schedule: open bogus: ",
		"s.sim":   "ASYNCIOSIM=s.sim is neither a seed nor the file of a schedule: s.sim: sim: line 1 ",
		"s.sim@x": "ASYNCIOSIM=s.sim@x: behind the @ is no step",
		"-1":      "ASYNCIOSIM=-1 is neither a seed nor the file of a schedule: open -1: ",
	} {
		t.Setenv("ASYNCIOSIM", env)
		if got := try("TestX", func(t *fakeT) { sim.Run(t, lostUpdate) }); !strings.Contains(got.fatal, want) || strings.Contains(got.fatal, "It takes") {
			t.Errorf("%s: %s", env, got.fatal)
		}
	}
}
