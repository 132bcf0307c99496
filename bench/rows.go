package main

import "fmt"

// A job is one call of every program: a row and its n. One call may measure more than one thing.
type job struct {
	row string
	n   int // for programs that are compiled
	// slow is n for CPython, uvloop and Node, in rows about one operation rather than about many
	// tasks at once: being slower, they take as long for a smaller n.
	slow int

	// The number of rounds for calls that take seconds, if it is to be smaller than for the others.
	rounds, slowRounds int
}

const (
	million     = 1_000_000
	flatWithin  = 2   // how much the cost of a task may grow from the smallest n to the largest
	quickDivide = 100 // what -quick divides n by, and less for the curve
)

var jobs = []job{
	{row: "switch", n: 2 * million},
	{row: "yield1", n: 2 * million, slow: 40_000},
	{row: "yield2", n: 2 * million, slow: 40_000},
	{row: "spawn", n: 500_000, slow: 20_000},
	{row: "spawn_end", n: 500_000, slow: 20_000},
	{row: "gather_now", n: 500_000, slow: 20_000},
	{row: "gather_suspend", n: 200_000, slow: 20_000},
	{row: "gather3000", n: 300_000, slow: 21_000},
	{row: "gather10000", n: 300_000, slow: 20_000},
	{row: "gather100000", n: million, slow: 100_000, rounds: 3, slowRounds: 1},
	{row: "queue1", n: 200_000, slow: 20_000},
	{row: "queue1000", n: million, slow: 100_000},
	{row: "lock", n: 4 * million, slow: 200_000},
	{row: "lock100", n: 200_000, slow: 20_000},
	{row: "sleepers", n: 100_000, slow: 100_000, slowRounds: 2},
	{row: "suspended", n: million, slow: million, rounds: 3, slowRounds: 1},
	{row: "timer", n: million, slow: 100_000},
	{row: "cancel", n: 100_000, slow: 100_000, slowRounds: 2},
	{row: "taskgroup", n: 200_000, slow: 20_000},
	{row: "threadsafe", n: 200_000, slow: 50_000},
	{row: "threadsafe_latency", n: 20_000, slow: 5_000},
	{row: "tothread", n: 20_000, slow: 2_000},
	{row: "printtasks", n: 10_000, slow: 10_000, rounds: 3, slowRounds: 1},
	{row: "growth", n: 1_000, slow: 1_000},
	{row: "growth", n: 10_000, slow: 10_000},
	{row: "growth", n: 100_000, slow: 100_000, rounds: 3, slowRounds: 1},
}

// at returns n for a program and the number of rounds it runs, given the number asked for.
func (j job) at(slow, quick bool, asked int) (n, rounds int) {
	n, rounds = j.n, asked
	if j.rounds > 0 {
		rounds = min(rounds, j.rounds)
	}
	if slow {
		n = j.slow
		if j.slowRounds > 0 {
			rounds = min(rounds, j.slowRounds)
		}
	}
	switch {
	case quick && j.row == "growth":
		n /= quickDivide / 10
	case quick && n > 1000:
		n = max(1000, n/quickDivide)
	}
	return n, rounds
}

// A line is one line of the tables: the measurement, and the unit of its n.
type line struct{ row, title, unit string }

var lines = []line{
	{"yield1", "yield, 1 task", "yield"},
	{"yield2", "yield, 2 tasks", "yield"},
	{"spawn", "spawn and await", "task"},
	{"spawn_end", "the same with a context that can end", "task"},
	{"gather_now", "gather of 1000 that return at once", "task"},
	{"gather_suspend", "gather of 1000 that suspend once", "task"},
	{"gather3000", "gathers of 3,000 that suspend once", "task"},
	{"gather10000", "gathers of 10,000 that suspend once", "task"},
	{"gather100000", "gathers of 100,000 that suspend once", "task"},
	{"queue1", "queue of capacity 1, ping-pong", "round trip"},
	{"queue1000", "queue of capacity 1000, throughput", "value"},
	{"lock", "uncontended lock", "lock and unlock"},
	{"lock100", "lock contended by 100 tasks", "lock and unlock"},
	{"sleepers", "100,000 tasks sleeping 1 ms", "task"},
	{"suspended_create", "1,000,000 suspended, to create", "task"},
	{"suspended_finish", "1,000,000 suspended, to finish", "task"},
	{"suspended_create_again", "the next 1,000,000, to create", "task"},
	{"suspended_finish_again", "the next 1,000,000, to finish", "task"},
	{"timer", "timer set and cancelled", "timer"},
	{"cancel", "cancel of 100,000 waiting tasks", "task"},
	{"taskgroup", "task group of 1000", "task"},
	{"threadsafe", "CallSoonThreadsafe, throughput", "call"},
	{"threadsafe_latency", "CallSoonThreadsafe, there and back", "call"},
	{"tothread", "ToThread round trip", "call"},
	{"printtasks", "PrintTasks of 10,000 that wait", "task"},
}

func title(row string) string {
	for _, l := range lines {
		if l.row == row {
			return l.title
		}
	}
	return row
}

// A target is the highest allowed ratio of medians in one run.
type target struct {
	row     string
	against []string // peers; the best of them
	atMost  float64
	what    quantity
}

type quantity int

const (
	inTime       quantity = iota
	inBytes               // the ratio compares bytes
	plusSwitches          // one round trip of iter.Pull, two switches, is added to the peer's time
)

var targets = append([]target{
	{"yield1", []string{limit}, 1.15, inTime},
	{"yield1", []string{tokio}, 0.5, inTime},
	{"yield1", []string{cpython}, 0.05, inTime},
	{"yield2", []string{limit}, 1.15, inTime},
	{"yield2", []string{tokio}, 0.5, inTime},
	{"yield2", []string{cpython}, 0.05, inTime},
	{"spawn", []string{goroutines}, 0.4, inTime},
	{"spawn", []string{tokio}, 0.3, inTime},
	{"spawn_end", []string{goroutines}, 0.7, inTime},
	{"gather_now", []string{tokio}, 0.9, inTime},
	{"gather_now", []string{goroutines}, 0.25, inTime},
	{"gather_suspend", []string{goroutines}, 0.8, inTime},
	{"gather_suspend", []string{goroutines}, 1.3, inTime}, // as a burst, like the next
	{"gather3000", []string{goroutines}, 1.3, inTime},
	{"gather10000", []string{goroutines}, 1.0, inTime},
	{"gather100000", []string{goroutines}, 1.0, inTime},
	{"tothread", []string{goroutines}, 1.2, inTime},
	{"gather_suspend", []string{tokio}, 1, plusSwitches},
	{"queue1", []string{tokio}, 0.4, inTime},
	{"queue1", []string{goroutines}, 1.5, inTime},
	{"queue1000", []string{goroutines}, 1.0, inTime},
	{"lock", []string{tokio}, 1.0, inTime},
	{"sleepers", []string{tokio, goroutines}, 1.0, inTime},
	{"suspended_create", []string{goroutines}, 1.05, inBytes},
	{"suspended_create", []string{goroutines}, 1.1, inTime},
}, others()...)

// others returns the targets of all other rows: ahead of CPython and uvloop by a factor of 5, and
// of goroutines where the row is not parallel.
func others() (all []target) {
	parallel := map[string]bool{"threadsafe": true, "threadsafe_latency": true, "tothread": true}
	for _, row := range []string{"lock100", "suspended_finish", "timer", "cancel", "taskgroup", "threadsafe", "threadsafe_latency", "tothread"} {
		all = append(all,
			target{row, []string{cpython}, 0.2, inTime},
			target{row, []string{uvloop}, 0.2, inTime})
		if !parallel[row] {
			all = append(all, target{row, []string{goroutines}, 1.0, inTime})
		}
	}
	return all
}

// label is the key of a measurement. The points of the curve have keys of their own.
func label(row string, n int) string {
	if row == "growth" {
		return fmt.Sprintf("growth/%d", n)
	}
	return row
}
