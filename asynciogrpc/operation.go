package asynciogrpc

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

// An operation is a blocking call of gRPC's that a goroutine makes for a task (grpc 2).
type operation struct {
	ended sync.WaitGroup // Wait returns when the goroutine has ended

	// Done when the call has returned. A cancel of the task that awaits it cancels it too, which
	// says nothing about the call.
	future *asyncio.Future[asyncio.None]

	// These belong to the goroutine until it has ended.
	made bool // false if a cancel was faster than the goroutine, which then makes no call
	err  error
}

// Submit makes an operation the executor of its own call.
func (o *operation) Submit(job func()) error { o.ended.Go(job); return nil }

// Shutdown is for [asyncio.Executor].
func (*operation) Shutdown(bool) {}

// enter returns the context of the calling task, which must be a task of the loop of ctx.
func enter(ctx context.Context) (own context.Context, err error) {
	defer refused(&err)
	t := asyncio.CurrentTask(ctx)
	if t == nil {
		return nil, asyncio.ErrNotInTask
	}
	return t.GetContext(), nil
}

// start has a goroutine make call. If ctx is done, or the loop is closed, it does not.
func start(ctx context.Context, call func() error) (_ *operation, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	defer refused(&err)
	o := new(operation)
	o.future = asyncio.RunInExecutor(ctx, o, func() (asyncio.None, error) {
		o.made, o.err = true, errPanicked // unless call returns
		o.err = call()
		return asyncio.None{}, nil
	})
	return o, nil
}

var errPanicked = status.Error(codes.Internal, "asynciogrpc: gRPC, or what it calls, panicked")

// refused is deferred. It turns the panic with which package asyncio refuses a call into an error.
func refused(err *error) {
	v := recover()
	if v == nil {
		return
	}
	why, ok := v.(error)
	if !ok || !errors.Is(why, asyncio.ErrForeignGoroutine) && !errors.Is(why, asyncio.ErrLoopClosed) {
		panic(v)
	}
	*err = why
}

// finish waits until o is over. If it returns an error, the call has panicked, or a cancel or the
// end of ctx has ended the wait; then stop was called with that error, and the goroutine has ended
// all the same (grpc 4). If the call has succeeded nevertheless, finish returns nil.
func (o *operation) finish(ctx context.Context, stop context.CancelCauseFunc) error {
	why := asyncio.ErrLoopClosed // unless Await returns
	defer func() {
		if why != nil {
			stop(why)
			//asynciovet:allow blocking an unwound task cannot await; stop ends the goroutine
			o.ended.Wait() // a loop that closes unwinds the task, and leaves nothing behind
		}
	}()
	if _, why = o.future.Await(ctx); why == nil {
		return nil
	}
	stop(why)
	_ = asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error {
		_, err := asyncio.RunInExecutor(ctx, goroutines{}, o.end).Await(ctx)
		return err
	})
	//asynciovet:allow blocking the executor has waited for it, unless the loop closes
	if o.ended.Wait(); o.made && o.err == nil {
		asyncio.DeliverAgain(ctx, why)
		return nil
	}
	return why
}

// wait waits until o is over. If it returns an error, a cancel or the end of ctx has ended the
// wait, and o goes on. It may be called again.
func (o *operation) wait(ctx context.Context) (err error) {
	defer refused(&err)
	f := o.future
	if f.Cancelled() {
		f = asyncio.RunInExecutor(ctx, goroutines{}, o.end)
	}
	_, err = f.Await(ctx)
	if err != nil && !f.Cancelled() && f.Done() && err == f.Exception() {
		return nil // a panic, for which o.err stands
	}
	return err
}

// end blocks until the goroutine has ended.
func (o *operation) end() (asyncio.None, error) {
	o.ended.Wait()
	return asyncio.None{}, nil
}

// goroutines is an executor that runs each job on a goroutine of its own.
type goroutines struct{}

func (goroutines) Submit(job func()) error { go job(); return nil }
func (goroutines) Shutdown(bool)           {}
