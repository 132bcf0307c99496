package sim

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/timeline"
)

// What an exploration returns: its report, and a failure in words.

// A Report describes an exploration that has ended.
type Report struct {
	Runs     int      // schedules that were run
	Steps    int      // of all of them
	Coverage string   // what was covered and what was not, in words
	Kept     int      // runs of Guided that reached something new
	States   int      // that Exhaustive has seen, if the program declares its State
	LeftOut  int      // choices that were not run because of what Touches and State declare
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

	cause     []string           // the deviations, and the places that they are about
	wrong     string             // the step that went wrong, if it is known
	picture   *timeline.Timeline // nil: there is none
	file      string             // of the schedule
	timeline  string             // the file of the picture
	reproduce string
	unread    bool // Err says why there is no schedule to be replayed
}

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// Error returns the whole explanation: first the cause, which is the deviations and the step that
// they make go wrong, then what went wrong, how to run it once more, and the trace.
func (f *Failure) Error() string {
	s := f.summary()
	if f.Trace != "" && !f.isAboutTheSchedule() {
		s += "\n" + f.Trace
	}
	return s
}

// isAboutTheSchedule reports whether there was no run that could be explained.
func (f *Failure) isAboutTheSchedule() bool { return f.unread || errors.Is(f.Err, ErrIncompatible) }

// summary is everything but the trace.
func (f *Failure) summary() string {
	var b strings.Builder
	if f.isAboutTheSchedule() {
		fmt.Fprintf(&b, "%v\n", f.Err)
		return b.String()
	}
	f.writeCause(&b)
	fmt.Fprintf(&b, "%v\n", f.Err)
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
	if f.timeline != "" {
		fmt.Fprintf(&b, "\ntimeline: %s", f.timeline)
	}
	b.WriteString("\n")
	return b.String()
}

// writeCause writes what stands before the error.
func (f *Failure) writeCause(b *strings.Builder) {
	cause := f.cause
	if cause == nil {
		cause = f.Deviations
	}
	if f.Schedule != "" || f.Strategy == inOrder || len(cause) > 0 {
		b.WriteString("It takes: first in, first out everywhere")
		if len(cause) > 0 {
			b.WriteString(", except that\n  " + strings.Join(cause, ",\n  "))
		}
		b.WriteString("\n")
	}
	if f.Minimal != "" {
		fmt.Fprintf(b, "(%s)\n", f.Minimal)
	}
	if f.wrong != "" {
		fmt.Fprintf(b, "It goes wrong in %s:\n", f.wrong)
	}
}

// describe fills in what a trace says about the failure.
func (f *Failure) describe(devs []deviation, o *outcome) {
	t := o.w.tracer
	f.Trace = t.text(shownSteps)
	f.cause, f.wrong = t.becauseOf(devs), t.goesWrong(o)
	if p := o.w.picture; p != nil {
		f.picture = p.finish(t, o)
	}
}

// WriteTimeline writes the run as a page for a browser: a lane for each task, with its steps and
// waits, messages between hosts, and marks at the deviations. [Explore] writes it beside the
// schedule. The error is that of w; it is [errors.ErrUnsupported] if there is no picture, because
// the run could not be repeated. Any goroutine may call it, and it does not suspend.
func (f *Failure) WriteTimeline(w io.Writer) error {
	if f.picture == nil {
		return fmt.Errorf("sim: this failure has no timeline: %w", errors.ErrUnsupported)
	}
	f.picture.Text = f.summary()
	return f.picture.WriteHTML(w)
}

const inOrder = "in order"
