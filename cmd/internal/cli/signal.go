package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// How a signal ends a lesson. asyncio.Run cancels its main task on SIGINT, but nothing does so in a
// lesson that runs a loop of its own, and nothing handles SIGTERM. So the command ends the context
// that it gave the lesson: every await then fails, deferred functions run, and the loop is closed.
// With SIGINT both may happen, in either order, and lead to the same end.
//
// After the first signal nothing listens for signals any more, so a second one kills the program
// even if a lesson does not end.

// signalError is the cause of a context that a signal has ended.
type signalError struct {
	sig syscall.Signal
	msg string
}

var (
	interrupted = &signalError{syscall.SIGINT, "interrupted"}
	terminated  = &signalError{syscall.SIGTERM, "terminated"}
)

func (e *signalError) Error() string { return e.msg }

// status returns the exit status that tells a shell that a signal ended the program.
func (e *signalError) status() int { return 128 + int(e.sig) }

// untilSignal returns a context that the first SIGINT or SIGTERM ends, with a [*signalError] as its
// cause. A signal that was ignored when the program started stays ignored, as in a background job
// of a shell script. stop must be called.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	for _, e := range []*signalError{interrupted, terminated} {
		if !signal.Ignored(e.sig) {
			signal.Notify(signals, e.sig)
		}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var cause error
		select {
		case sig := <-signals:
			cause = interrupted
			if sig == terminated.sig {
				cause = terminated
			}
		case <-over:
		}
		signal.Stop(signals) // before cancel: a second signal may then kill the program
		cancel(cause)
	}()
	return ctx, func() {
		close(over)
		<-ended
	}
}
