package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// climb fails if "b" is before "a" in all of n rounds. Each round that it wins is noted.
func climb(n int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		height := 0
		for range n {
			first := ""
			var both []asyncio.AnyFuture
			for _, name := range []string{"a", "b"} {
				both = append(both, start(ctx, name, func(context.Context) error {
					if first == "" {
						first = name
					}
					return nil
				}))
			}
			if _, _, err := asyncio.Wait(ctx, both); err != nil {
				return err
			}
			if first == "a" {
				return nil
			}
			height++
			sim.Reachable(ctx, fmt.Sprint("height ", height))
		}
		return errors.New("the top")
	}
}

// Of runs that are drawn at random one in 65,536 gets to the top, and guided ones climb in steps.
func TestGuided_ClimbsInSteps(t *testing.T) {
	const rounds, runs = 16, 2000
	if r := sim.Check(climb(rounds), sim.WithStrategy(sim.Random()), sim.Runs(runs)); r.Failure != nil {
		t.Fatalf("Random has found it: choose more rounds: %v", r.Failure)
	}
	var found []int
	for _, opts := range [][]sim.Option{nil, nil, {sim.Parallel(3)}, {sim.Seed(5)}} {
		r := sim.Check(climb(rounds), append(opts, sim.WithStrategy(sim.Guided()), sim.Runs(runs))...)
		if r.Failure == nil || !strings.Contains(r.Failure.Error(), "the top") {
			t.Fatalf("%s; %v", r.Coverage, r.Failure)
		}
		found = append(found, r.Failure.Run)
	}
	t.Log("found in run", found)
	if found[0] != found[1] || found[0] != found[2] {
		t.Errorf("found in runs %v by the same options", found)
	}
}

// The corpus is that of a fuzz test: what one exploration has found out, the next begins with, and
// so does go test -fuzz.
func TestGuided_Corpus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "testdata", "fuzz", "FuzzClimb")
	main := climb(40)
	first := sim.Check(main, sim.WithStrategy(sim.Guided()), sim.Corpus(dir), sim.Runs(40))
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if first.Failure != nil || first.Kept == 0 || len(files) != first.Kept {
		t.Fatalf("%d files, %d kept, %v", len(files), first.Kept, first.Failure)
	}
	text, _ := os.ReadFile(files[0])
	if !strings.HasPrefix(string(text), "go test fuzz v1\n[]byte(\"") || !strings.HasSuffix(string(text), "\")\n") {
		t.Errorf("%s", text)
	}
	again := sim.Check(main, sim.WithStrategy(sim.Guided()), sim.Corpus(dir), sim.Runs(len(files)+1))
	if again.Failure != nil || len(again.Reached) != len(first.Reached) {
		t.Errorf("reached %v, want %v; %v", again.Reached, first.Reached, again.Failure)
	}
	write(t, filepath.Join(dir, "other"), "go test fuzz v1\nint(3)\n")
	if r := sim.Check(main, sim.WithStrategy(sim.Guided()), sim.Corpus(dir)); r.Failure == nil || !strings.Contains(r.Failure.Error(), "whose only argument is a []byte") {
		t.Errorf("%v", r.Failure)
	}
}

// What no run comes by is a failure if it must be reached.
func TestReachable_Must(t *testing.T) {
	for _, s := range []sim.Strategy{sim.Random(), sim.Guided(), sim.Exhaustive(1)} {
		opts := []sim.Option{sim.WithStrategy(s), sim.Runs(50), sim.MustReach("height 1")}
		if r := sim.Check(climb(30), opts...); r.Failure != nil || len(r.Reached) == 0 {
			t.Errorf("%v: %v", s, r.Failure)
		}
		r := sim.Check(climb(30), append(opts, sim.MustReach("height 99"))...)
		if r.Failure == nil || !strings.Contains(r.Failure.Error(), "'height 99': no run has come by") {
			t.Errorf("%v: %v", s, r.Failure)
		}
	}
}
