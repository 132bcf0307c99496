package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/sim"
)

// hardLife is the two programs with all troubles.
var hardLife = scenario{clients: 2, think: 400 * time.Millisecond, lasts: 8 * time.Second, restart: time.Second, troubles: everything}

// runs returns n, or fewer where n takes too long.
func runs(n int) int {
	if testing.Short() || raceEnabled {
		return max(1, n/10)
	}
	return n
}

// Whatever goes wrong, no promise is broken: 2000 seeds in make nightly.
func TestSimulation(t *testing.T) {
	sc := hardLife
	sc.thorough = runs(50) == 50
	sim.Explore(t, sc.run, sim.Runs(runs(50)))
}

// The same seed gives the same run, step for step, whatever else the machine does: 1000 times with
// ASYNCIO_EXPLORE=all.
func TestSimulation_Repeats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	sc := hardLife
	sc.lasts = 3 * time.Second
	times := runs(5)
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		times = 1000
	}
	for seed := range uint64(2) {
		var first string
		for i := range max(2, times) {
			runtime.GOMAXPROCS(1 + i%4)
			trace, err := sim.Trace(sc.run, sim.WithStrategy(sim.Random()), sim.Seed(seed))
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = trace
				t.Logf("seed %d: %d lines, hash %x", seed, strings.Count(trace, "\n"), sha256.Sum256([]byte(trace)))
			}
			if trace != first {
				a, b := strings.Split(first, "\n"), strings.Split(trace, "\n")
				at := 0
				for at < min(len(a), len(b)) && a[at] == b[at] {
					at++
				}
				t.Fatalf("seed %d, time %d: line %d is\n%s\nand was\n%s", seed, i+1, at+1, b[min(at, len(b)-1)], a[min(at, len(a)-1)])
			}
		}
	}
}

// A bug is a promise that a flag breaks.
type bug struct {
	scenario
	found string // the failure says this
	cause string // the fault that the failure needs, and no other
}

var bugs = map[string]bug{
	// A request to payments is repeated because its answer was lost, without a key.
	"charge-without-key": {
		scenario{
			flags: "-charge-without-key -attempt 300ms", clients: 1, think: 200 * time.Millisecond, lasts: time.Second,
			troubles: func(s *simulation) []trouble {
				return []trouble{s.lostAnswers(400*time.Millisecond, time.Second)}
			},
		}, "was charged twice", "answers of payments are lost",
	},
	// The service ends after an order has left the outbox, and before payments got the request.
	"mark-before-send": {
		scenario{
			flags: "-mark-before-send", clients: 1, think: 200 * time.Millisecond, lasts: time.Second, restart: 200 * time.Millisecond,
			troubles: func(s *simulation) []trouble {
				s.net.SetLinkBetween("orders", "payments", sim.Link{MinLatency: 100 * time.Millisecond, MaxLatency: 400 * time.Millisecond})
				return []trouble{powerFailure(s.orders, 500*time.Millisecond)}
			},
		}, "has left the outbox, and payments never charged it", "power failure of orders",
	},
	// The program is told to stop while it writes an order to its disk.
	"drop-on-shutdown": {
		scenario{
			flags: "-drop-on-shutdown", clients: 1, think: 200 * time.Millisecond, lasts: time.Second, restart: 200 * time.Millisecond,
			troubles: func(s *simulation) []trouble {
				s.orders.Disk().SetSyncLatency(50*time.Millisecond, 50*time.Millisecond)
				return []trouble{s.terminate(s.orders, 200*time.Millisecond)}
			},
		}, "was accepted and never answered, though all that happened were shutdowns", "SIGTERM of orders",
	},
}

// Each bug is found within 20 runs on each of five seeds, and the explanation names its cause.
// Without the flag nothing is found.
func TestBugs(t *testing.T) {
	seeds := uint64(5)
	if testing.Short() || raceEnabled {
		seeds = 1
	}
	for name, b := range bugs {
		for i := range seeds {
			seed := 1000 * (i + 1)
			t.Run(fmt.Sprintf("%s/seed %d", name, seed), func(t *testing.T) { b.find(t, seed) })
		}
		t.Run(name+"/right", func(t *testing.T) {
			right := b.scenario
			right.flags = strings.Replace(b.flags, "-"+name, "", 1)
			if f := sim.Check(right.run, sim.Runs(runs(20))).Failure; f != nil {
				t.Error(f)
			}
		})
	}
}

func (b bug) find(t *testing.T, seed uint64) {
	f := sim.Check(b.run, sim.Runs(20), sim.Seed(seed)).Failure
	if f == nil {
		t.Fatal("not found")
	}
	explanation, _, _ := strings.Cut(f.Error(), "\n\nseed")
	t.Logf("in run %d: %s", f.Run, explanation)
	if !strings.Contains(f.Err.Error(), b.found) {
		t.Errorf("found something else than %q", b.found)
	}
	isCause := func(d string) bool { return strings.HasSuffix(d, "there was a fault: "+b.cause) }
	if len(f.Deviations) == 0 || slices.ContainsFunc(f.Deviations, func(d string) bool { return !isCause(d) }) {
		t.Errorf("the explanation is %q, want only %q", f.Deviations, b.cause)
	}
}
