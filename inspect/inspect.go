// Package inspect shows what the event loops of a process are doing: their tasks, grouped by
// coroutine and by the place where they wait, the locks and queues that they wait for, and the step
// that keeps a loop from going on.
//
// Importing it is enough:
//
//	import _ "github.com/goasyncio/asyncio/inspect"
//
// Then a page is served under /debug/asyncio/ by [http.DefaultServeMux], as package net/http/pprof
// does; programs with a mux of their own use [Handler]. And the commands asyncio ps, pstree and
// stacks can attach to the process, through a Unix socket that only its user can reach. With the
// environment variable ASYNCIOINSPECT=1 they can attach to a program that does not import this
// package.
//
// All loops of the process are found by themselves, but for those of a simulation. A loop is never
// stopped: it looks at its tasks in slices of a tenth of a millisecond, one in each iteration. A
// loop whose step does not return is described from outside. A step costs a few nanoseconds more,
// as with a stall watchdog, and a new task a tenth of a microsecond, because its age and its maker
// are noted. For a minute after each look, steps are timed, and loops are pinged for their lag.
package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
)

func init() { inspection.Enable() }

// A Process is what is known of a process. Its JSON is what the page serves and what the commands
// print with --json. Times are in nanoseconds there.
type Process struct {
	PID     int       `json:"pid"`
	Program string    `json:"program"`
	Go      string    `json:"go"` // the version
	Time    time.Time `json:"time"`
	Loops   []*Loop   `json:"loops"`
}

// A Loop is an event loop that runs.
type Loop struct {
	Number int `json:"loop"` // counted by the process, in the order in which runs began

	// The step that does not return, nil if the loop has answered. If it has not, there are no
	// groups.
	Stuck *Stuck `json:"stuck,omitempty"`

	Lag     time.Duration `json:"lag_ns"`   // how long the request waited for its turn
	Longest time.Duration `json:"slice_ns"` // how long the loop worked on it at a time
	Tasks   int           `json:"tasks"`
	Ready   int           `json:"ready"`  // callbacks that can run
	Timers  int           `json:"timers"` // that are set

	Groups  []*Group  `json:"groups"`            // the largest first, at most 200
	Objects []*Object `json:"objects,omitempty"` // those with the most waiters first, at most 20

	// How many there are in all.
	AllGroups  int `json:"all_groups"`
	AllObjects int `json:"all_objects"`

	// Tasks of which each waits for the next, and the last for the first.
	Circle []string `json:"circle,omitempty"`

	Each []*Task `json:"each,omitempty"` // as many as were asked for, oldest first

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

// Stuck is a step that has not returned: its task computes, or blocks without awaiting.
type Stuck struct {
	Task  string        `json:"task"`            // its name, empty for a callback
	Where string        `json:"where,omitempty"` // file and line of the program's innermost call
	For   time.Duration `json:"for_ns"`          // at least: since somebody has first seen it
	Stack string        `json:"stack,omitempty"` // of its goroutine
}

// A Group is tasks that run the same coroutine, and wait at the same place for the same kind of
// thing.
type Group struct {
	Coroutine string   `json:"coroutine"`
	Defined   string   `json:"defined"` // file and line
	State     string   `json:"state"`   // of the first example, as FormatTasks has it
	Where     string   `json:"where"`   // file and line of the program's innermost call
	Stack     []string `json:"stack,omitempty"`
	Count     int      `json:"count"`
	// Count is an estimate, because there are many.
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

// An Object is something that tasks wait for: a lock, an event, a queue.
type Object struct {
	What    string   `json:"what"`
	Owner   string   `json:"owner,omitempty"`   // the task that has the lock
	Size    int      `json:"size,omitempty"`    // values in a queue, free permits or tokens
	Limit   int      `json:"limit,omitempty"`   // of a queue or a limiter
	Holders []string `json:"holders,omitempty"` // of a limiter's tokens, some of them
	Waiters int      `json:"waiters"`
	Names   []string `json:"names"` // of some of them
}

// A Task is one task.
type Task struct {
	ID        string        `json:"id"` // its own for as long as it lives
	Name      string        `json:"name"`
	Coroutine string        `json:"coroutine"`
	Age       time.Duration `json:"age_ns,omitempty"` // 0 if it is not known
	State     string        `json:"state"`
	Stack     []string      `json:"stack,omitempty"`      // innermost first
	AwaitedBy []string      `json:"awaited_by,omitempty"` // ids of the tasks that wait for it
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

// An Option is an option of [Take] and [Attach]. Any goroutine may make one.
type Option struct{ set func(*inspection.Ask) }

// Each asks for n tasks of each loop one by one, besides the groups; the oldest come first. Each
// task costs the loop some microseconds. Each panics if n is negative.
func Each(n int) Option {
	if n < 0 {
		panic(fmt.Errorf("inspect: %d tasks", n))
	}
	return Option{func(ask *inspection.Ask) { ask.Tasks = n }}
}

// withoutStacks has a loop that is stuck described at once: to find the stack of one goroutine
// among many thousands takes a part of a second.
var withoutStacks = Option{func(ask *inspection.Ask) { ask.NoStacks = true }}

func ask(opts []Option) inspection.Ask {
	var a inspection.Ask
	for _, o := range opts {
		if o.set != nil {
			o.set(&a)
		}
	}
	return a
}

// Take describes the loops of this process. It blocks its caller until all of them have answered,
// or have turned out to be stuck, which takes a few hundredths of a second; so it is for
// goroutines, not for tasks. When ctx is done, Take returns what it has; a loop that has not
// answered by then has no groups.
func Take(ctx context.Context, opts ...Option) (*Process, error) {
	text, err := inspection.JSON(ctx, ask(opts))
	if err != nil {
		return nil, err
	}
	return decode(text)
}

// ErrNotPrepared is returned for a process that neither imports this package nor has been started
// with ASYNCIOINSPECT=1, or belongs to another user.
var ErrNotPrepared = inspection.ErrNotPrepared

// Attach is [Take] for another process of the same user and the same machine. It works on Linux,
// macOS and FreeBSD. The directory of the sockets is asyncio in XDG_RUNTIME_DIR, or asyncio-UID in
// the directory for temporary files, or what ASYNCIOINSPECT_DIR says; a directory that others can
// enter is refused.
func Attach(ctx context.Context, pid int, opts ...Option) (*Process, error) {
	text, err := inspection.Attach(ctx, pid, ask(opts))
	if err != nil {
		return nil, err
	}
	return decode(text)
}

// ErrNoTask is returned by [Cancel] if there is no such task, or no longer.
var ErrNoTask = inspection.ErrNoTask

// Cancel asks a task of this process to cancel, as its Cancel method does: by the number of its
// loop, its id and its name, as a [Process] has them. An id alone could be that of a later task.
// Cancel blocks its caller until the loop has found the task, a slice in each iteration; so it is
// for goroutines, not for tasks. It returns [ErrNoTask], or wraps the cause of ctx if that is
// done before; then the loop is stuck, and looks for the task no longer.
func Cancel(ctx context.Context, loop int, id, name string) error {
	return inspection.Cancel(ctx, loop, id, name)
}

// decode is the only way from the process that was looked at to the one that looks, even if they
// are the same: so what is shown here and what is sent cannot differ.
func decode(text []byte) (*Process, error) {
	p := new(Process)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("inspect: the answer is not understood; it may be of another version: %w", err)
	}
	return p, nil
}
