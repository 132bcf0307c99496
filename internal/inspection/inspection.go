// Package inspection looks at the event loops of a process from outside of them: for package
// inspect, and for the socket to which the asyncio command attaches. It knows loops by an interface
// and describes them as JSON.
package inspection

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

//	inspection 1: A loop does the work for a look at it in slices, one in each of its iterations,
//	   and each slice takes at most Slice, or one task. Text is made on the loop only for what is
//	   shown.
//	inspection 2: A step that does not return is noticed from outside: Patience after the
//	   request, or if it has begun later, when it has gone on for at most twice Patience. It is
//	   described by what the loop noted when the step began, and by the stack of the step's
//	   goroutine.
//	inspection 3: No look waits for a loop that is stuck (inspection 2), and nobody for one whose
//	   run has ended.
//	inspection 4: From a look until a minute later, loops time their steps, and are pinged four
//	   times a second for their lag. So a page or a collector that looks again and again sees both,
//	   and a program at which nobody looks does neither. There is no goroutine for that: a timer
//	   starts one each time.

// Slice is how long a loop works for an inspection in one iteration.
const Slice = 100 * time.Microsecond

// Patience is how long a step may take while somebody waits for the loop.
const Patience = 40 * time.Millisecond

// A Loop is an event loop that runs.
type Loop interface {
	// Survey begins a survey of the loop's tasks. Any goroutine may call it. began is closed when
	// the loop takes it up, and done gets the result, unless ctx is done before, or the run ends.
	// ok is false if the loop has been closed.
	Survey(ctx context.Context, ask Ask) (began <-chan struct{}, done <-chan *Survey, ok bool)

	// Step describes the step under way. Any goroutine may call it.
	Step() Step

	// Watch has the loop note its steps from now on. Any goroutine may call it.
	Watch()

	// Time has the loop measure its steps, or no longer. Any goroutine may call it.
	Time(on bool)

	// Ping has the loop call fn soon. Any goroutine may call it. It reports false if the loop has
	// been closed.
	Ping(fn func()) bool

	// Stack returns the present stack of the goroutine of the step under way, nil if it cannot be
	// found. Any goroutine may call it.
	Stack() []byte

	// Cancel has the loop look for a task with this id and name, and cancel it with the message
	// why, unless ctx is done before. found gets whether there is such a task. Any goroutine may
	// call it. ok is false if the loop has been closed.
	Cancel(ctx context.Context, id, name, why string) (found <-chan bool, ok bool)
}

// A Step is what a loop notes when a step begins.
type Step struct {
	Count     uint64 // of steps and waits so far
	Task      string // empty for a callback
	Goroutine uint64 // 0 if no step is under way
}

// Ask says what a survey is to contain besides groups.
type Ask struct {
	Tasks int // how many tasks are described one by one, oldest first

	NoStacks bool `json:",omitempty"` // a step that does not return is described without its stack

	Recording *AskRecording `json:",omitempty"` // asks for that instead
}

// A Process is everything that is known of a process.
type Process struct {
	PID     int       `json:"pid"`
	Program string    `json:"program"`
	Go      string    `json:"go"`
	Time    time.Time `json:"time"`
	Loops   []*Survey `json:"loops"`
}

// A Survey describes a loop.
type Survey struct {
	Number  int           `json:"loop"`
	Stuck   *Stuck        `json:"stuck,omitempty"`
	Lag     time.Duration `json:"lag_ns"`   // until it answered
	Longest time.Duration `json:"slice_ns"` // the longest slice of this survey
	Tasks   int           `json:"tasks"`
	Ready   int           `json:"ready"`
	Timers  int           `json:"timers"`
	Groups  []*Group      `json:"groups"`            // the largest first
	Objects []*Object     `json:"objects,omitempty"` // those with the most waiters first

	// How many there are, also those that are left out.
	AllGroups  int `json:"all_groups"`
	AllObjects int `json:"all_objects"`

	Circle []string `json:"circle,omitempty"`
	Each   []*Task  `json:"each,omitempty"`

	// Tasks of coroutines that are still known, since somebody could look.
	Made   int      `json:"made"`
	Next   []*Timer `json:"next,omitempty"`   // timers, the earliest first
	Queues []*Queue `json:"queues,omitempty"` // large ones, the largest first
	Steps  *Steps   `json:"steps,omitempty"`  // while somebody is looking
	// The longest of each second of the last minute in which somebody looked, oldest first.
	Lags    []time.Duration `json:"lags_ns,omitempty"`
	Servers []*Server       `json:"servers,omitempty"`
	Sockets *Sockets        `json:"sockets,omitempty"` // nil if there are none
	// The default one, nil if it has not been used.
	Executor *Executor `json:"executor,omitempty"`
}

// Stuck describes a step that has not returned.
type Stuck struct {
	Task  string        `json:"task"` // empty for a callback
	Where string        `json:"where,omitempty"`
	For   time.Duration `json:"for_ns"`
	Stack string        `json:"stack,omitempty"`
}

// A Group is the tasks that run the same coroutine and wait in the same way at the same place.
type Group struct {
	Coroutine string   `json:"coroutine"`
	Defined   string   `json:"defined"`
	State     string   `json:"state"`
	Where     string   `json:"where"`
	Stack     []string `json:"stack,omitempty"`
	Count     int      `json:"count"`
	// The place, and so the count, is of a sample.
	Sampled  bool     `json:"sampled,omitempty"`
	Examples []string `json:"examples"` // names of tasks, the oldest first
	IDs      []string `json:"ids"`      // of these tasks
	// Of the first example, which is the oldest; 0 if it is not known.
	Age time.Duration `json:"age_ns,omitempty"`

	// Of all tasks with this coroutine, in this group or not.
	// A task that has made one of them, empty for a callback.
	By      string        `json:"by,omitempty"`
	Made    string        `json:"made_at,omitempty"`    // file and line of that call
	Steps   int           `json:"steps,omitempty"`      // while somebody was looking
	Busy    time.Duration `json:"busy_ns,omitempty"`    // all their steps together
	Longest time.Duration `json:"longest_ns,omitempty"` // of their steps
}

// An Object is something that tasks wait for: a lock, a queue.
type Object struct {
	What    string   `json:"what"`
	Owner   string   `json:"owner,omitempty"`
	Size    int      `json:"size,omitempty"`    // values in a queue, free permits or tokens
	Limit   int      `json:"limit,omitempty"`   // of a queue or a limiter
	Holders []string `json:"holders,omitempty"` // of a limiter's tokens, some of them
	Waiters int      `json:"waiters"`
	Names   []string `json:"names"` // of some of them
}

// A Task is one task.
type Task struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Coroutine string        `json:"coroutine"`
	Age       time.Duration `json:"age_ns,omitempty"` // 0 if it is not known
	State     string        `json:"state"`
	Stack     []string      `json:"stack,omitempty"`
	AwaitedBy []string      `json:"awaited_by,omitempty"` // ids
}

// A Steps is what has been measured of a loop's steps.
type Steps struct {
	Count   int           `json:"count"`
	Busy    time.Duration `json:"busy_ns"` // all of them together
	Longest time.Duration `json:"longest_ns"`
	For     time.Duration `json:"for_ns"`         // how long they have been measured
	Slow    []*SlowStep   `json:"slow,omitempty"` // those of the last minute that took longest
}

// A SlowStep is a step that took longer than a millisecond.
type SlowStep struct {
	Task  string        `json:"task"`            // empty for a callback
	What  string        `json:"what"`            // the coroutine, or the callback
	Where string        `json:"where,omitempty"` // where its task suspended
	Took  time.Duration `json:"took_ns"`
	Ago   time.Duration `json:"ago_ns"` // when it ended
}

// A Timer is a callback that is due at a time, or a task that sleeps until then.
type Timer struct {
	What string        `json:"what"`
	In   time.Duration `json:"in_ns"` // less than zero if it is late
}

// A Queue is one that has become large.
type Queue struct {
	What       string `json:"what"`
	Size       int    `json:"size"`            // values in it
	Limit      int    `json:"limit,omitempty"` // values that it can hold, 0 for any number
	Getters    int    `json:"getters"`         // tasks that wait for a value
	Putters    int    `json:"putters"`         // tasks that wait for room
	Unfinished int    `json:"unfinished"`      // values for which TaskDone was not called
	// The task that had put a value when it was last looked at, empty for a callback.
	By    string        `json:"by,omitempty"`
	Where string        `json:"where,omitempty"` // file and line of that call
	Stack []string      `json:"stack,omitempty"`
	Was   int           `json:"was"`    // its size then
	Ago   time.Duration `json:"ago_ns"` // how long that is ago
}

// A Server is one that accepts connections.
type Server struct {
	Addresses []string `json:"addresses"`
	// That are connected, in a handshake or with a handler.
	Clients int `json:"clients"`
	Limit   int `json:"limit,omitempty"` // MaxClients, 0 for any number
	// The task of the client that has been there longest.
	Oldest string        `json:"oldest,omitempty"`
	Age    time.Duration `json:"age_ns,omitempty"` // of that task, 0 if it is not known
}

// A Sockets is the sockets that a loop has open.
type Sockets struct {
	Connections int        `json:"connections"`
	Listeners   int        `json:"listeners"`
	Addresses   []*Address `json:"addresses"` // those with most connections first, at most 20
}

// An Address is a local address.
type Address struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"`
	Listens     bool   `json:"listens,omitempty"`
}

// An Executor runs thread functions.
type Executor struct {
	What    string `json:"what"`
	Threads int    `json:"threads"` // goroutines that it has
	Most    int    `json:"most"`    // goroutines that it may have
	Running int    `json:"running"` // functions under way
	Queued  int    `json:"queued"`  // functions that wait for a goroutine
}

var registry struct {
	sync.Mutex
	loops  map[Loop]*entry
	number int
	on     bool
	socket *net.UnixListener // nil while there is none

	looked time.Time   // when somebody has last looked
	attend *time.Timer // until a minute later (inspection 4)
}

// A Run is a loop that runs.
type Run struct {
	Loop   Loop
	Number int             // counted by the process
	Ended  <-chan struct{} // closed when the run has ended
}

// An entry is a run, and what the last look at it has seen.
type entry struct {
	Run
	ended chan struct{} // Run.Ended
	step  uint64        // Step.Count
	since time.Time
	lags  lags
}

// sees notes the step under way, and returns for how long that step has been seen.
func (e *entry) sees(s Step, now time.Time) time.Duration {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if s.Count != e.step || e.since.IsZero() {
		e.step, e.since = s.Count, now
	}
	return now.Sub(e.since)
}

// byEnvironment is ASYNCIOINSPECT as of the start of the program.
var byEnvironment = os.Getenv("ASYNCIOINSPECT") != "" && os.Getenv("ASYNCIOINSPECT") != "0"

// Begins is called when a loop's run begins, and says whether the loop is to note its steps, and
// whether it is to time them.
func Begins(l Loop) (watched, timed bool) {
	first, watched, timed := begins(l)
	if first && recordedSignal != "" {
		recordAtSignal(recordedSignal) // it may log, which is the program's
	}
	return watched, timed
}

func begins(l Loop) (first, watched, timed bool) {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if r.loops == nil {
		r.loops = make(map[Loop]*entry)
	}
	r.number++
	ended := make(chan struct{})
	r.loops[l] = &entry{Run: Run{l, r.number, ended}, ended: ended}
	if byEnvironment && !r.on {
		r.on = true
		go serve()
	}
	return r.number == 1, r.on, r.attend != nil
}

// Ends is called when a loop's run ends.
func Ends(l Loop) {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if e := r.loops[l]; e != nil {
		close(e.ended)
		delete(r.loops, l)
	}
}

// Enable has all loops watched, and opens the socket.
func Enable() {
	r := &registry
	r.Lock()
	defer r.Unlock()
	if r.on {
		return
	}
	r.on = true
	for l := range r.loops {
		l.Watch()
	}
	go serve()
}

// Disable closes the socket. It is for tests, which leave nothing behind.
func Disable() {
	r := &registry
	for {
		r.Lock()
		socket := r.socket
		r.socket = nil
		r.Unlock()
		if socket != nil {
			closeSocket(socket)
			return
		}
		runtime.Gosched() // it is being opened
	}
}

// Running returns the loops that run, in the order of their numbers.
func Running() []Run {
	var all []Run
	for _, e := range running() {
		all = append(all, e.Run)
	}
	return all
}

func running() []*entry {
	r := &registry
	r.Lock()
	defer r.Unlock()
	return slices.SortedFunc(maps.Values(r.loops), func(a, b *entry) int { return cmp.Compare(a.Number, b.Number) })
}

// Look describes all loops that run, at the same time.
func Look(ctx context.Context, ask Ask) *Process {
	p := &Process{PID: os.Getpid(), Program: program(), Go: runtime.Version(), Time: time.Now()}
	attend()
	loops := running()
	found := make([]*Survey, len(loops))
	var all sync.WaitGroup
	for i, l := range loops {
		all.Go(func() { found[i] = survey(ctx, l, ask) })
	}
	all.Wait()
	for _, s := range found {
		if s != nil {
			p.Loops = append(p.Loops, s)
		}
	}
	return p
}

// JSON is Look as text.
func JSON(ctx context.Context, ask Ask) ([]byte, error) { return json.Marshal(Look(ctx, ask)) }

func program() string {
	if len(os.Args) == 0 {
		return ""
	}
	return filepath.Base(os.Args[0])
}

// survey describes a loop, nil if its run has ended (inspection 3).
func survey(ctx context.Context, e *entry, ask Ask) *Survey {
	asked := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	step := e.Loop.Step()
	e.sees(step, asked)
	began, done, ok := e.Loop.Survey(ctx, ask)
	if !ok {
		return nil
	}
	patience := time.NewTicker(Patience)
	defer patience.Stop()
	var lag time.Duration // 0 until it has begun
	for {
		select {
		case <-began:
			began, lag = nil, time.Since(asked)
		case s := <-done:
			s.Number, s.Lag, s.Lags = e.Number, cmp.Or(lag, time.Since(asked)), e.lags.all()
			return s
		case <-e.Ended:
			return nil
		case <-ctx.Done():
			return &Survey{Number: e.Number, Lag: cmp.Or(lag, time.Since(asked))}
		case <-patience.C:
			now := e.Loop.Step()
			since := e.sees(now, time.Now())
			if now.Count == step.Count && now.Goroutine != 0 {
				stuck := &Stuck{Task: now.Task, For: since}
				if !ask.NoStacks {
					stuck.Stack = string(e.Loop.Stack())
					stuck.Where = ProgramsPlace(stuck.Stack)
					if now = e.Loop.Step(); now.Count != step.Count { // it has returned since
						step = now
						continue
					}
				}
				return &Survey{Number: e.Number, Lag: cmp.Or(lag, time.Since(asked)), Lags: e.lags.all(), Stuck: stuck}
			}
			step = now
		}
	}
}

// ErrNoTask is returned for a task that is not there, or no longer.
var ErrNoTask = errors.New("there is no such task")

// Cancel cancels a task of a loop that runs. It waits for a loop that is stuck until ctx is done.
func Cancel(ctx context.Context, loop int, id, name string) error {
	all := running()
	i := slices.IndexFunc(all, func(e *entry) bool { return e.Number == loop })
	if i < 0 {
		return fmt.Errorf("%w: no loop has the number %d", ErrNoTask, loop)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found, ok := all[i].Loop.Cancel(ctx, id, name, "cancelled by package inspect")
	if !ok {
		return fmt.Errorf("%w: loop %d has ended", ErrNoTask, loop)
	}
	select {
	case is := <-found:
		if !is {
			return fmt.Errorf("%w: no task %q of loop %d has the id %s", ErrNoTask, name, loop, id)
		}
		return nil
	case <-all[i].Ended:
		return fmt.Errorf("%w: loop %d has ended", ErrNoTask, loop)
	case <-ctx.Done():
		return fmt.Errorf("loop %d has not answered: %w", loop, context.Cause(ctx))
	}
}
