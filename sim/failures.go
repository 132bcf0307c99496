package sim

import (
	"errors"
	"fmt"
	"time"
)

// The ways in which a run can go wrong, besides the errors of main itself.
type (
	// violation is an invariant that does not hold.
	violation struct {
		name string
		err  error
	}
	// reported is a report to the loop's exception handler.
	reported struct {
		message, task string
		err           error
	}
	livelock struct {
		steps int
		at    time.Duration
		what  string
	}
	tooLong struct {
		steps int
		at    time.Duration
	}
	unending struct {
		events int
		at     time.Duration
	}
	leaked struct{ what, stack string }
)

func (e *violation) Error() string {
	return fmt.Sprintf("invariant %q does not hold: %v", e.name, e.err)
}
func (e *violation) Unwrap() error { return e.err }

func (e *reported) Error() string {
	s := e.message
	if e.task != "" {
		s += ": task " + quote(e.task)
	}
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}
func (e *reported) Unwrap() error { return e.err }

func (e *livelock) Error() string {
	return fmt.Sprintf("livelock: %d steps at time %v without the clock moving; next was %s (see StepLimit)", e.steps, e.at, e.what)
}

func (e *tooLong) Error() string {
	return fmt.Sprintf("main has not ended after %d steps, at time %v (see StepLimit)", e.steps, e.at)
}

func (e *unending) Error() string {
	return fmt.Sprintf("%d packets and timers of the network in a row, until time %v, and no program has anything to do", e.events, e.at)
}

func (e *leaked) Error() string {
	return fmt.Sprintf("not deterministic: %s%s", e.what, e.stack)
}

// ErrNotDeterministic is matched by the failure of a run that depends on something other than its
// seed: two runs of the same seed differ, or something of the real world has leaked in.
var ErrNotDeterministic = errors.New("sim: not deterministic")

func (e *leaked) Is(target error) bool { return target == ErrNotDeterministic }

// errExited is the outcome of a run that t.FailNow ended.
var errExited = errors.New("the test was ended by t.Fatal, t.FailNow or t.SkipNow, in a task or callback")

var errTestFailed = errors.New("t.Error or t.Fail was called")
