package asynciogrpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

// A stoppedError is the error of an RPC, or of a wait for it, that was ended on this side (grpc 6).
// It wraps the reason and has a code for package status.
type stoppedError struct {
	why  error
	code codes.Code
	text string // for the peer; "" if that may see the reason
}

func (e *stoppedError) Error() string {
	if e.text != "" {
		return fmt.Sprintf("asynciogrpc: %s: %v", e.text, e.why)
	}
	return e.why.Error()
}

func (e *stoppedError) Unwrap() error { return e.why }

// GRPCStatus is for package status.
func (e *stoppedError) GRPCStatus() *status.Status {
	if e.text != "" {
		return status.New(e.code, "asynciogrpc: "+e.text)
	}
	return status.New(e.code, e.why.Error())
}

// stopped makes the error of a wait with ctx that ended because of why.
func stopped(ctx context.Context, why error) error {
	code := codes.Canceled
	var panicked *asyncio.PanicError
	switch {
	case isCancel(why):
	case errors.As(why, &panicked), errors.Is(why, asyncio.ErrGoexit):
		code = codes.Internal
	case errors.Is(why, asyncio.ErrLoopClosed):
		code = codes.Unavailable
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	return &stoppedError{why: why, code: code}
}

// misused makes the error for a call that the program should not have made.
func misused(err error, method string) error {
	return &stoppedError{why: fmt.Errorf("%w (in %s)", err, method), code: codes.Internal}
}

// outcome returns the error of a call that gRPC made with ctx, or below it, and that failed with
// err. If gRPC failed because ctx has ended, that is the cause of ctx (grpc 6).
func outcome(ctx context.Context, err error) error {
	code := status.Code(err)
	if code == codes.DeadlineExceeded && ctx.Err() == nil && isPast(ctx) {
		// The server, which was sent the deadline, has seen it pass. Our own timer is due.
		if _, err := asyncio.CreateFuture[asyncio.None](ctx).Await(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
	if ctx.Err() != nil && (code == codes.Canceled || code == codes.DeadlineExceeded) {
		return stopped(ctx, context.Cause(ctx))
	}
	return err
}

// isPast reports whether the deadline of ctx, a task's, has passed.
func isPast(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	l, err := asyncio.GetRunningLoop(ctx)
	return ok && err == nil && !l.Now().Before(d)
}

// answer makes, of the error of a handler's task, the error that gRPC gets (grpc 7).
func answer(err error) error {
	var panicked *asyncio.PanicError
	switch {
	case err == nil:
		return nil
	case isCancel(err):
		return &stoppedError{err, codes.Unavailable, "the handler was cancelled"}
	case errors.As(err, &panicked), errors.Is(err, asyncio.ErrGoexit):
		return &stoppedError{err, codes.Internal, "the handler panicked or exited"}
	case errors.Is(err, asyncio.ErrLoopClosed):
		return &stoppedError{err, codes.Unavailable, "the loop of the handlers is closed"}
	}
	return err
}

// isCancel reports whether a task that returns err has been cancelled: whether err is a
// CancelledError, wrapped or not. One that is joined to another error does not count.
func isCancel(err error) bool {
	for err != nil {
		switch e := err.(type) {
		case *asyncio.CancelledError:
			return true
		case *asyncio.PanicError:
			return false
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			if len(all) != 1 {
				return false
			}
			err = all[0]
		default:
			err = errors.Unwrap(err)
		}
	}
	return false
}
