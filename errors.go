package asyncio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The errors that a program can meet, to be matched with [errors.Is]. A function that has an error
// result returns the error. A function that has none (CreateTask, CallSoon) panics with it where
// Python would raise, because only a mistake in the program leads there.
var (
	// ErrCancelled is Python's CancelledError. The error in hand is a
	// [*CancelledError], which also matches [context.Canceled].
	ErrCancelled error = &CancelledError{}

	// ErrTimeout is Python's TimeoutError. The error in hand is a [*TimeoutError], which also
	// matches [context.DeadlineExceeded].
	ErrTimeout error = &TimeoutError{}

	// ErrInvalidState is Python's InvalidStateError: a result was asked for before it was there, or
	// was set a second time.
	ErrInvalidState = errors.New("asyncio: invalid state")

	// ErrInvalidArgument stands for Python's TypeError and ValueError.
	ErrInvalidArgument = errors.New("asyncio: invalid argument")

	// ErrNoRunningLoop says that the given context does not lead to a loop or, for GetRunningLoop,
	// to one that is running.
	ErrNoRunningLoop = errors.New("asyncio: no running event loop: use the ctx that the coroutine was given, and start the first one with Run")

	// ErrNotInTask says that a plain callback called a function that suspends.
	ErrNotInTask = errors.New("asyncio: not in a task: only a coroutine can wait; start one with CreateTask")

	// ErrForeignGoroutine says that a goroutine that is not the loop's own touched the loop.
	ErrForeignGoroutine = errors.New("asyncio: not safe from a goroutine outside the event loop: use CallSoonThreadsafe or RunCoroutineThreadsafe")

	// ErrDifferentLoop says that a future was awaited on a loop it does not belong to, or that
	// a lock, event, queue or the like was waited for on one loop while another uses it.
	ErrDifferentLoop = errors.New("asyncio: attached to a different event loop: use it on its own, and RunCoroutineThreadsafe to have that loop do something")

	// ErrAwaitSelf says that a task waits for itself, which cannot end.
	ErrAwaitSelf = errors.New("asyncio: a task cannot await itself")

	// ErrNotAcquired says that a lock that is not locked was released or used with a condition, or
	// that a permit or token was given back that nobody has.
	ErrNotAcquired = errors.New("asyncio: not acquired")

	// ErrWouldBlock is returned by a call that must not wait but would have to.
	ErrWouldBlock = errors.New("asyncio: would block")

	// ErrBusy says that another task is already reading, writing or accepting here. Input would be
	// dealt out between the two tasks, and their output would be mixed up.
	ErrBusy = errors.New("asyncio: in use by another task")

	// ErrBrokenBarrier is Python's BrokenBarrierError: the barrier was aborted, or was reset while
	// the task waited at it.
	ErrBrokenBarrier = errors.New("asyncio: broken barrier")

	// ErrLoopRunning refuses a call that needs a loop at rest, above all a nested run.
	ErrLoopRunning = errors.New("asyncio: the event loop is already running")

	// ErrLoopClosed refuses any use of a loop after Close.
	ErrLoopClosed = errors.New("asyncio: the event loop is closed")

	// ErrLoopStopped says that Stop ended a run before the future that it was for was done.
	ErrLoopStopped = errors.New("asyncio: event loop stopped before the future completed")

	// ErrLoopBlocked is the error of an operation that a goroutine asked the loop for, by a view
	// such as [ThreadsafeConn], while a step of the loop waits for a channel, a lock or another
	// goroutine. If it waits for this one, neither would ever go on.
	ErrLoopBlocked = errors.New("asyncio: the event loop is blocked: a step must not wait other than by an await; call what blocks in ToThread")

	// ErrDeadlock says that nothing can happen any more: no callback is ready, no
	// timer is set, no goroutine is at work that could wake the loop, and no task waits
	// for a channel. Only a loop on a virtual clock can know that.
	ErrDeadlock = errors.New("asyncio: deadlock")

	// ErrQueueEmpty is Python's QueueEmpty: GetNowait found nothing.
	ErrQueueEmpty = errors.New("asyncio: the queue is empty")

	// ErrQueueFull is Python's QueueFull: PutNowait found no room.
	ErrQueueFull = errors.New("asyncio: the queue is full")

	// ErrQueueShutDown is Python's QueueShutDown: nothing can be put into the queue any more, and
	// nothing is left in it.
	ErrQueueShutDown = errors.New("asyncio: the queue is shut down")

	// ErrExecutorShutDown is returned by an executor's Submit after Shutdown.
	ErrExecutorShutDown = errors.New("asyncio: the executor has been shut down")

	// ErrKeyboardInterrupt is returned by Run when SIGINT cancelled the main task. For other
	// signals Run returns a [*SignalError].
	ErrKeyboardInterrupt = errors.New("asyncio: interrupted")

	// ErrGoexit is the outcome of a task or thread function that called
	// [runtime.Goexit], as t.FailNow does.
	ErrGoexit = errors.New("asyncio: the goroutine exited (runtime.Goexit, or FailNow or SkipNow of a test)")
)

// A CancelledError is one request to cancel, delivered to a task at an await. It
// matches [ErrCancelled] and [context.Canceled].
//
// A coroutine that returns it, wrapped or not, ends its task as cancelled. Joined to another error
// it is an error like any other; joined to nil, as by errors.Join(err, f.Close()) after a Close
// that worked, it is still a cancel.
type CancelledError struct {
	Msg   string // the argument of Cancel
	By    string // the name of the task that asked, empty if no task did
	cause error

	// failure is the error of another task that led to the cancel. It is printed, but errors.Is
	// does not find it: a task cancelled because another one failed with io.EOF must not match
	// io.EOF.
	failure error
}

func (e *CancelledError) Error() string {
	var b strings.Builder
	b.WriteString("asyncio: cancelled")
	if e.Msg != "" {
		b.WriteString(": " + e.Msg)
	}
	if e.By != "" {
		fmt.Fprintf(&b, " (by %s)", e.By)
	}
	if e.failure != nil {
		b.WriteString(": " + e.failure.Error())
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	return b.String()
}

// Is makes every cancellation match [ErrCancelled] and [context.Canceled].
func (e *CancelledError) Is(target error) bool {
	return target == ErrCancelled || target == context.Canceled
}

// Unwrap returns the cause given to CancelCause, nil if there was none.
func (e *CancelledError) Unwrap() error { return e.cause }

// asCancelled finds the cancellation that err is or wraps. It does not search several errors that
// are joined: a cancellation beside real failures does not make them a cancellation.
func asCancelled(err error) *CancelledError {
	for err != nil {
		if c, ok := err.(*CancelledError); ok {
			return c
		}
		err = unwrap(err)
	}
	return nil
}

// unwrap returns the error that err is about. It returns nil if err is about none, or if err is
// another kind of thing than the error it wraps: a cancel is not its cause, a panic is not its
// value, and a group is not its only child's error.
func unwrap(err error) error {
	switch err := err.(type) {
	case *CancelledError, *PanicError, interface{ isGroup() }:
		return nil
	case interface{ Unwrap() error }:
		return err.Unwrap()
	case interface{ Unwrap() []error }:
		if all := err.Unwrap(); len(all) == 1 { // errors.Join leaves out nil
			return all[0]
		}
	}
	return nil
}

// A TimeoutError says that the time given to [Timeout], [WaitFor], [FailAfter], [Cleanup] or
// [AsCompleted] ran out. It matches [ErrTimeout] and [context.DeadlineExceeded].
type TimeoutError struct {
	When Instant // the deadline

	// From is the error that the body ended with when it was stopped, nil if there is no body. For
	// Timeout and WaitFor it is the cancellation, Python's "raise TimeoutError from exc". errors.Is
	// does not look into it, because a timeout is not a cancellation.
	From error
}

func (e *TimeoutError) Error() string { return "asyncio: timed out" }

// Is makes every timeout match [ErrTimeout] and [context.DeadlineExceeded].
func (e *TimeoutError) Is(target error) bool {
	return target == ErrTimeout || target == context.DeadlineExceeded
}

// Timeout is true, as in net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// A SignalError is what [Run] returns when a signal other than SIGINT cancelled the main task; see
// [HandleSignals].
type SignalError struct{ Signal os.Signal }

func (e *SignalError) Error() string { return fmt.Sprintf("asyncio: stopped by signal: %v", e.Signal) }

// A PanicError is the outcome of a task whose coroutine panicked. Value is the value of the panic,
// and Stack the stack at that moment, as [runtime/debug.Stack] prints it.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("asyncio: panic: %v", e.Value)
}

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// joinErrors is errors.Join, but leaves a single error as it is.
func joinErrors(a, b error) error {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return errors.Join(a, b)
}
