// Package lab runs Python programs on this library's event loop: a small interpreter for the part
// of Python that asyncio is taught with. Every coroutine that a loop drives is a task of package
// asyncio, so order, time and errors are the library's.
//
// A program sees CPython 3.13's behaviour: its output and, on a virtual clock, the time at which it
// ends are the same. What the lab does not have ends the program with a message that begins
// "outside the subset" and has the line; it never gives another result in silence. README.md lists
// the subset.
package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/lab/internal/vm"
)

// Exit statuses of a program, besides those that it chooses itself with sys.exit.
const (
	StatusError    = vm.StatusError    // an uncaught exception, or a text that is not Python
	StatusOutside  = vm.StatusOutside  // something that the lab does not have
	StatusLimit    = vm.StatusLimit    // more steps or memory than the limits allow
	StatusDeadlock = vm.StatusDeadlock // on a virtual clock, nothing could happen any more
)

// Limits bound what a program may use. A field that is zero stands for no limit that a program
// meets in practice: 4 GB asked for in all, 1000 nested calls as in CPython.
type Limits struct {
	Steps     int // calls, iterations and jumps back
	Bytes     int // memory asked for from beginning to end; what is freed again counts too
	Recursion int // nested calls
}

// An Event is one thing that a program did.
type Event struct {
	// Kind is line (the line about to run), task (one was made; Text is its coroutine), step (one
	// begins a step), wait (it waits; Text says for what), done (it ended; Text is its result or
	// error), output (Text was printed) or clock (time.sleep has moved the virtual clock).
	Kind string
	Time time.Duration // on the program's clock
	Task string        // empty outside tasks
	Line int           // of the program, zero if that says nothing
	Text string
}

// Options say how a program runs. The zero Options discard its output and use the real clock.
type Options struct {
	File    string    // its name in tracebacks, "main.py" by default
	Stdout  io.Writer // nil discards
	Stderr  io.Writer
	Virtual bool   // time passes only where nothing else is to be done
	Seed    uint64 // of module random, where the program does not give one
	Limits  Limits
	Events  func(Event) // is told of everything, if it is not nil; it must not call the program
}

// A Result is how a program ended.
type Result struct {
	Status int           // as the process would have it
	End    time.Duration // how long it took, on its clock
}

type hook func(Event)

func (h hook) Event(e vm.Event) { h(Event(e)) }

func (o Options) config(ctx context.Context) vm.Config {
	cfg := vm.Config{File: o.File, Stdout: o.Stdout, Stderr: o.Stderr, Virtual: o.Virtual, Seed: o.Seed, Limits: vm.Limits(o.Limits), Context: ctx}
	if cfg.File == "" {
		cfg.File = "main.py"
	}
	if cfg.Stdout == nil {
		cfg.Stdout = io.Discard
	}
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	if o.Events != nil {
		cfg.Hooks = hook(o.Events)
	}
	return cfg
}

// Run runs a program and returns how it ended. It blocks the calling goroutine, which may be any
// one. The end of ctx ends the program with status 130. Errors of the program go to Stderr as
// Python prints them.
func Run(ctx context.Context, source string, o Options) Result {
	in := vm.New(o.config(ctx))
	status := in.Run(source)
	return Result{status, in.End()}
}

// Prompt reads statements from r and runs each on one loop, with await at the top, as python -m
// asyncio does. It returns the exit status when r ends or the program calls exit.
func Prompt(ctx context.Context, r io.Reader, o Options) int {
	cfg := o.config(ctx)
	s := vm.NewSession(cfg)
	defer s.Close()
	fmt.Fprintln(cfg.Stdout, "asyncio lab: a part of Python 3.13 on the event loop of asyncio for Go.\nUse \"await\" directly instead of \"asyncio.run()\".\n>>> import asyncio")
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var src strings.Builder
	for {
		prompt := ">>> "
		if src.Len() > 0 {
			prompt = "... "
		}
		fmt.Fprint(cfg.Stdout, prompt)
		if !lines.Scan() {
			fmt.Fprintln(cfg.Stdout)
			return 0
		}
		line := lines.Text()
		if src.Len() == 0 && strings.TrimSpace(line) == "" {
			continue
		}
		src.WriteString(line + "\n")
		if vm.Incomplete(src.String()) {
			continue
		}
		status, more := s.Enter(src.String())
		src.Reset()
		if !more {
			return status
		}
	}
}
