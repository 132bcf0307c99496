// Package metrics has the numbers of a process's event loops: how late they are, how many tasks
// they have and what these do, how long steps take, what waits for the executor. It is for those
// who write an exporter. Modules asyncioprometheus and asynciootel are such exporters, and
// docs/metrics.md says what each number means.
//
// All loops of the process are found by themselves, but for those of a simulation. A loop counts
// nothing until the first [Reader] is made. From then on it reads the clock once a step.
package metrics

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/internal/metering"
)

// A Loop is the numbers of an event loop. Those of this struct are totals, which never go down.
type Loop struct {
	// Number is the smallest that no other loop had when this one began its first run. The loop has
	// it until it is closed, and then another one may get it, with the totals so far. So a program
	// that runs one loop after another has the number 1 only. These are not the numbers of package
	// inspect.
	Number int

	Made uint64 // tasks; those that the loop had when it began to count are among them

	// Tasks that have ended. One whose context has ended counts as cancelled.
	Returned, Failed, Cancelled, Panicked uint64

	Stalls uint64 // steps that took at least the loop's slow callback duration, 100 ms by default

	// Steps has the steps that are over, each with the loop's own work up to the next one. Their
	// sum is the time in which the loop did not wait.
	Steps Histogram

	// Iterations has the iterations of the loop, which are as long as what arrives meanwhile may
	// have to wait.
	Iterations Histogram

	Running *Running // nil if the loop does not run now
}

// Running is what is known of a loop that runs.
type Running struct {
	Stuck *Stuck        // nil if the loop has answered, or is only busy
	Lag   time.Duration // how long a callback from outside has waited for its turn, so far
	Last  *Census       // what the loop has told last; nil if it never could
}

// Stuck is a step that has not returned.
type Stuck struct {
	Task string        // its name, empty for a callback
	For  time.Duration // at least: since a reader has first seen it
}

// A Census is what a loop counts when it is asked.
type Census struct {
	Tasks       []Tasks // by coroutine and state; sorted
	Ready       int     // callbacks that can run
	Timers      int     // that are set
	Connections int     // that are open, pipes of subprocesses among them

	// Executor has the default executor's jobs, as of now even if the loop is stuck. It is nil if
	// there is no executor yet, or a foreign one.
	Executor *Executor
}

// Tasks is the number of tasks that run the same coroutine and are in the same state. It is zero if
// there have been such tasks earlier.
type Tasks struct {
	Coroutine string // its function, such as main.fetch, or "other"
	State     string // new, ready, running or waiting
	Count     int
}

// Executor is the jobs of an executor.
type Executor struct{ Queued, Running int }

// A Histogram counts durations.
type Histogram struct {
	Bounds []time.Duration // upper bounds of the buckets, which include them
	Counts []uint64        // of each bucket alone; the last has no bound
	Sum    time.Duration
}

// Count returns how many durations there are. Any goroutine may call it.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

func histogram(c metering.Counts) Histogram {
	return Histogram{Bounds: slices.Clone(metering.Bounds[:]), Counts: slices.Clone(c.Of[:]), Sum: c.Sum}
}

// An Option is an option of [NewReader]. Any goroutine may make one.
type Option struct{ max *int }

// MaxCoroutines limits the names of coroutines that a reader tells apart: the first n that it
// meets, of those that it meets at the same time the most frequent. The tasks of all others are
// counted as those of "other". The default is 50. MaxCoroutines panics if n is negative.
func MaxCoroutines(n int) Option {
	if n < 0 {
		panic(fmt.Errorf("metrics: at most %d coroutines", n))
	}
	return Option{&n}
}

// Other is the name of the coroutines beyond a reader's limit.
const Other = "other"

// A Reader reads the numbers of all loops. Make one with [NewReader].
type Reader struct {
	max   int
	mu    sync.Mutex
	names map[string]bool
	seen  map[int]map[kind]bool // by the number of the loop
}

// A kind is what the tasks of a [Tasks] have in common.
type kind struct{ coroutine, state string }

// NewReader makes a reader. From the first one on, all loops of the process count, those that run
// already too. Any goroutine may call it.
func NewReader(opts ...Option) *Reader {
	r := &Reader{max: 50, names: make(map[string]bool), seen: make(map[int]map[kind]bool)}
	for _, o := range opts {
		if o.max != nil {
			r.max = *o.max
		}
	}
	metering.Enable()
	return r
}

// Read returns the numbers of all loops that there have been since the first reader was made, in
// the order of their numbers. It blocks its caller until the loops have answered, but at most for
// 200 milliseconds, and not after ctx is done: of a loop that does not answer, it returns what is
// known. So it is for goroutines, not for tasks: the loop of a task that called it could not
// answer. Any number of goroutines may call it at the same time.
func (r *Reader) Read(ctx context.Context) []*Loop {
	var all []*Loop
	for _, n := range metering.Read(ctx) {
		m := n.Meter
		l := &Loop{
			Number: m.Number,
			Made:   m.Made.Load(), Stalls: m.Stalls.Load(),
			Returned: m.Ended[metering.Returned].Load(), Failed: m.Ended[metering.Failed].Load(),
			Cancelled: m.Ended[metering.Cancelled].Load(), Panicked: m.Ended[metering.Panicked].Load(),
			Steps: histogram(m.Steps.Counts()), Iterations: histogram(m.Iterations.Counts()),
		}
		if n.Live != nil {
			l.Running = r.running(m.Number, n.Live)
		}
		all = append(all, l)
	}
	return all
}

func (r *Reader) running(number int, n *metering.Live) *Running {
	now := &Running{Lag: n.Lag}
	if n.Stuck {
		now.Stuck = &Stuck{n.Task, n.For}
	}
	if n.Last == nil {
		return now
	}
	now.Last = &Census{
		Tasks: r.tasks(number, n.Last.Kinds),
		Ready: n.Last.Ready, Timers: n.Last.Timers, Connections: n.Last.Connections,
	}
	if e := n.Last.Executor; e != nil {
		var x Executor
		x.Queued, x.Running = e.Load()
		now.Last.Executor = &x
	}
	return now
}

// tasks merges what is beyond the limit of names.
func (r *Reader) tasks(number int, kinds []metering.Kind) []Tasks {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range slices.SortedFunc(slices.Values(kinds), func(a, b metering.Kind) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Coroutine, b.Coroutine))
	}) {
		if len(r.names) < r.max {
			r.names[k.Coroutine] = true
		}
	}
	seen := r.seen[number]
	if seen == nil {
		seen = make(map[kind]bool)
		r.seen[number] = seen
	}
	counts := make(map[kind]int)
	for _, k := range kinds {
		name := k.Coroutine
		if !r.names[name] {
			name = Other
		}
		seen[kind{name, k.State}] = true
		counts[kind{name, k.State}] += k.Count
	}
	var all []Tasks
	for _, k := range slices.SortedFunc(maps.Keys(seen), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.coroutine, b.coroutine), cmp.Compare(a.state, b.state))
	}) {
		all = append(all, Tasks{k.coroutine, k.state, counts[k]})
	}
	return all
}
