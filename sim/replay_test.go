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
	first := try("TestBank/transfer", func(t *fakeT) { sim.Explore(t, lostUpdate) })
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
			!strings.Contains(again.fatal, "at step 4 'main' ran before 'a'") {
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
	if again := try("TestY", func(t *fakeT) { sim.Explore(t, lostUpdate) }); !strings.Contains(again.fatal, "balance 1") || !strings.Contains(again.fatal, "seed 1") {
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
		if !strings.Contains(got.fatal, "once more: go test -run '^TestX$' github.com/goasyncio/asyncio/sim\n\nIt takes: first in, first out everywhere\n") {
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

// A schedule of another program is refused, and the error says what differs.
func TestReplay_Incompatible(t *testing.T) {
	f := sim.Check(lostUpdate).Failure
	for _, c := range []struct {
		what string
		main func(ctx context.Context) error
		text string
		want string
	}{
		{"another task is ready", func(ctx context.Context) error {
			for range 3 {
				start(ctx, "x", func(ctx context.Context) error { return yield(ctx, 9) })
			}
			return yield(ctx, 9)
		}, f.Schedule, "at step 4 it has 2 ready, 'a' the oldest and 'main' number 1; now there are 'x', 'main'"},
		{"one is ready", func(ctx context.Context) error { return yield(ctx, 9) }, f.Schedule, "at step 4 it has 2 ready, and there was one"},
		{"it ends before", func(context.Context) error { return nil }, f.Schedule, "it ends after 2 steps, and the schedule has something at step 4"},
		{"other steps", lostUpdate, strings.Replace(f.Schedule, "trace ", "trace 1", 1), "value out of range"},
		{"other steps", func(ctx context.Context) error { return yield(ctx, 3) }, "asyncio schedule 1\nseed 0\nsteps 3\ntrace 0000000000000001\nend\n", "the first 3 steps are not those that were recorded"},
		{"no such task", func(ctx context.Context) error { return yield(ctx, 3) }, "asyncio schedule 1\nseed 0\ncancel 2 \"z\" 0\nend\n", "before step 2 task 'z' is to be cancelled, and it is not there"},
		{"another version", lostUpdate, "asyncio schedule 2\nend\n", "it was written by another version"},
		{"cut off", lostUpdate, strings.TrimSuffix(f.Schedule, "end\n"), "it was cut off"},
		{"out of order", lostUpdate, "asyncio schedule 1\nstep 3 1/2 \"a\" not \"b\"\nstep 2 1/2 \"a\" not \"b\"\nend\n", "step 2 is out of order"},
		{"no number", lostUpdate, "asyncio schedule 1\nstep 3 2/2 \"a\" not \"b\"\nend\n", "there is no 2 of 2"},
		{"words", lostUpdate, "asyncio schedule 1\nhello\nend\n", `"hello" is not known`},
	} {
		file := filepath.Join(t.TempDir(), "s.sim")
		write(t, file, c.text)
		got := sim.Check(c.main, sim.Replay(file)).Failure
		if got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, got, c.want)
		} else if strings.HasPrefix(c.want, "at step") && !errors.Is(got, sim.ErrIncompatible) {
			t.Errorf("%s: %v is not ErrIncompatible", c.what, got)
		}
	}
	if got := sim.Check(lostUpdate, sim.Replay("missing.sim")).Failure; got == nil || !errors.Is(got, os.ErrNotExist) {
		t.Errorf("missing file: %v", got)
	}
}

func TestSchedule_ReadsWhatItWrites(t *testing.T) {
	program := func(ctx context.Context) error {
		name := "odd \"name\"\n# é"
		task := start(ctx, name, func(ctx context.Context) error { return yield(ctx, 3) })
		sim.AtEnd(ctx, "not cancelled", func() error {
			if task.Cancelled() {
				return errors.New("it is")
			}
			return nil
		})
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{task})
		return err
	}
	f := sim.Check(program, sim.Cancels()).Failure
	if f == nil || len(f.Deviations) != 1 {
		t.Fatalf("%v", f)
	}
	again, err := sim.Reformat(f.Schedule)
	if err != nil || again != f.Schedule {
		t.Errorf("%v:\n%s\n%s", err, f.Schedule, again)
	}
	file := filepath.Join(t.TempDir(), "s.sim")
	write(t, file, f.Schedule)
	if got := sim.Check(program, sim.Replay(file)).Failure; got == nil || !strings.Contains(got.Error(), `"not cancelled" does not hold`) {
		t.Errorf("%v", got)
	}
}

// starved fails if main overtakes each of n tasks: that takes a deviation for each of the steps
// that those tasks would have made before main.
func starved(tasks, yields int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		done := 0
		for i := range tasks {
			start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				err := yield(ctx, 1)
				done++
				return err
			})
		}
		if err := yield(ctx, yields); err != nil {
			return err
		}
		if done == 0 {
			return errors.New("starved")
		}
		return nil
	}
}

// The result of minimising is 1-minimal: without any one of its deviations the run does not fail.
func TestMinimise_OneMinimal(t *testing.T) {
	for _, c := range []struct {
		tasks, yields int
		seeds         uint64
	}{{1, 3, 3}, {2, 4, 3}, {4, 4, 3}, {6, 6, 2}} {
		main := starved(c.tasks, c.yields)
		for seed := range c.seeds {
			f := sim.Check(main, sim.With(sim.PCT(3)), sim.Seed(1+100*seed), sim.Runs(1000)).Failure
			if f == nil {
				t.Fatalf("%+v: not found", c)
			}
			for i := range f.Deviations {
				if err := sim.Without(main, f.Schedule, i); err != nil {
					t.Errorf("%+v: without %s it fails, too: %v\n%v", c, f.Deviations[i], err, f)
				}
			}
			t.Logf("%+v: %d deviations, %s", c, len(f.Deviations), f.Minimal)
		}
	}
}

// The same seed gives the same trace, whatever the number of processors, and another seed another.
func TestTrace_DependsOnTheSeedAlone(t *testing.T) {
	program := func(ctx context.Context) error {
		q := asyncio.NewQueue[int](2)
		for i := range 3 {
			start(ctx, fmt.Sprint("put", i), func(ctx context.Context) error {
				for range 4 {
					if err := asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(50))*time.Millisecond); err != nil {
						return err
					}
					if err := q.Put(ctx, i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for range 12 {
			if _, err := asyncio.WaitFor(ctx, asyncio.Coroutine[int](q.Get), 40*time.Millisecond); err != nil && !errors.Is(err, asyncio.ErrTimeout) {
				return err
			}
			if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 0, nil }); err != nil {
				return err
			}
		}
		return nil
	}
	runs := 20
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		runs = 250
	}
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	var all []string
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3)} {
		for seed := range uint64(2) {
			var first string
			for i := range runs {
				runtime.GOMAXPROCS(1 + i%4)
				trace, err := sim.Trace(program, sim.With(s), sim.Seed(seed), sim.Cancels())
				if err != nil && !errors.Is(err, asyncio.ErrCancelled) {
					t.Fatal(err)
				}
				if i == 0 {
					first = trace
					all = append(all, trace)
				} else if trace != first {
					t.Fatalf("%v, seed %d, run %d:\n%s\nwant\n%s", s, seed, i, trace, first)
				}
			}
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a == b {
				t.Errorf("two seeds, or strategies, have the same trace:\n%s", a)
			}
		}
	}
}

// PCT finds a bug of depth d, in a program of n tasks and k steps, with a probability of at least
// 1/(n*k^(d-1)).
func TestPCT_FindsByDepth(t *testing.T) {
	const long = 20
	program := func(hit *int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			first, second := 0, 0 // steps of long at those of short
			n := 0
			a := start(ctx, "long", func(ctx context.Context) error {
				for range long {
					n++
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				return nil
			})
			b := start(ctx, "short", func(ctx context.Context) error {
				first = n
				err := asyncio.Sleep(ctx, 0)
				second = n
				return err
			})
			_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{a, b})
			if first == 0 && second == long {
				*hit++
			}
			return err
		}
	}
	const runs, tasks, steps = 4000, 3, long + 10
	rate := func(s sim.Strategy) float64 {
		hit := 0
		r := sim.Check(program(&hit), sim.With(s), sim.Runs(runs))
		if r.Failure != nil {
			t.Fatal(r.Failure)
		}
		return float64(hit) / float64(r.Runs)
	}
	if got, least := rate(sim.PCT(2)), 1.0/(tasks*steps); got < least {
		t.Errorf("PCT(2) finds it in %.4f of the runs, want at least %.4f", got, least)
	}
	if got := rate(sim.PCT(1)); got != 0 {
		t.Errorf("PCT(1) finds it in %.4f of the runs, but it takes two orderings", got)
	}
	if got := rate(sim.Random()); got > 0.001 {
		t.Errorf("Random finds it in %.4f of the runs: it is no test of PCT", got)
	}
}

func FuzzTape(f *testing.F) {
	f.Add([]byte{1, 1, 0, 2})
	f.Fuzz(func(t *testing.T, schedule []byte) {
		sim.Run(t, func(ctx context.Context) error {
			var mu asyncio.Lock
			inside := 0
			var all []asyncio.AnyFuture
			for i := range 3 {
				all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
					if err := mu.Acquire(ctx); err != nil {
						return err
					}
					defer mu.Release()
					inside++
					defer func() { inside-- }()
					if inside != 1 {
						return fmt.Errorf("%d inside", inside)
					}
					return yield(ctx, 2)
				}))
			}
			_, _, err := asyncio.Wait(ctx, all)
			return err
		}, sim.With(sim.Tape(schedule)))
	})
}

func TestTape_FollowsTheBytes(t *testing.T) {
	fails := 0
	for _, tape := range [][]byte{nil, {0, 0, 0}, {0, 0, 1, 1}, {0, 0, 3, 3}, {9, 9, 9, 9, 9}} {
		if r := sim.Check(lostUpdate, sim.With(sim.Tape(tape)), sim.Runs(2)); r.Failure != nil {
			fails++
			if len(r.Failure.Deviations) != 2 {
				t.Errorf("%v: %v", tape, r.Failure)
			}
		}
	}
	if fails != 2 {
		t.Errorf("%d tapes fail, want 2", fails)
	}
}
