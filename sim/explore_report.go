package sim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goasyncio/asyncio"
)

// What an exploration returns: its report, and a failure in words.

// A Report describes an exploration that has ended.
type Report struct {
	Runs     int      // schedules that were run
	Steps    int      // of all of them
	Coverage string   // what was covered and what was not, in words
	Faults   []Tally  // by name, without details: those that could happen
	Reached  []Tally  // by name: the conditions given to Sometimes
	Failure  *Failure // nil if every run passed
}

// A Failure is a run that went wrong. As an error it is the whole explanation.
type Failure struct {
	Err      error  // what went wrong
	Seed     uint64 // of the random numbers
	Run      int    // which run of the exploration it was, counted from 1; 0 for a replay
	Strategy string // that found it
	Steps    int    // until it had gone wrong
	// from first in, first out, after minimising, in words; a line for each, or for a callback that
	// is kept back for several steps
	Deviations []string
	Found      int    // how many deviations the run had before
	Minimal    string // in what sense they are the fewest
	Trace      string // of the minimised run
	Schedule   string // the recorded schedule, to be written to a file and given to Replay

	reproduce string
	unread    bool // Err says why there is no schedule to be replayed
}

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", f.Err)
	if f.unread {
		return b.String()
	}
	var p *asyncio.PanicError
	if errors.As(f.Err, &p) {
		fmt.Fprintf(&b, "%s", placesIn(p.Stack))
	}
	if f.Run > 0 {
		fmt.Fprintf(&b, "\nseed %d, %s, run %d", f.Seed, f.Strategy, f.Run)
	} else {
		fmt.Fprintf(&b, "\nseed %d, replayed", f.Seed)
	}
	if f.reproduce != "" {
		fmt.Fprintf(&b, "\nonce more: %s", f.reproduce)
	}
	if f.Schedule != "" || f.Strategy == inOrder || len(f.Deviations) > 0 {
		b.WriteString("\n\nIt takes: first in, first out everywhere")
	}
	if len(f.Deviations) > 0 {
		b.WriteString(", except that\n  " + strings.Join(f.Deviations, ",\n  "))
	}
	b.WriteString("\n")
	if f.Minimal != "" {
		fmt.Fprintf(&b, "(%s)\n", f.Minimal)
	}
	if f.Trace != "" {
		b.WriteString("\n" + f.Trace)
	}
	return b.String()
}

const inOrder = "in order"
