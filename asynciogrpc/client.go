package asynciogrpc

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

// UnaryClientInterceptor returns an interceptor that makes the unary calls of a ClientConn suspend
// the calling task. Give it to [grpc.WithChainUnaryInterceptor] first: the interceptors behind it
// run on a goroutine, outside of the loop, as does what gRPC calls besides (credentials,
// [grpc.OnFinish]), and may block there; those before it run in the task and must not.
//
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor(), …),
//		grpc.WithChainStreamInterceptor(asynciogrpc.StreamClientInterceptor(), …))
//
// A cancel of the calling task ends the call: the server sees Canceled, and the task gets its
// [asyncio.CancelledError]. If ctx ends, the error is the cause of ctx. Both have a code for
// package status, Canceled or DeadlineExceeded. The server may have done what it was asked for. A
// call that succeeded before the cancel could stop it returns its result, and the cancel comes at
// the task's next await. The call returns when nothing uses req and reply any more, which takes as
// long as the other interceptors and the credentials need to see that their ctx has ended.
//
// A goroutine that is no loop's makes the calls as without the interceptor. So does a task that
// passes a ctx without the loop, and blocks the loop. Any goroutine may call
// UnaryClientInterceptor; it does not block.
func UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		in, err := inTask(ctx)
		if err != nil {
			return misused(err, method)
		}
		if !in {
			return invoker(outside(ctx), method, req, reply, cc, opts...)
		}
		inside, end := rpcContext(ctx)
		defer end(nil)
		op, err := start(ctx, func() error { return invoker(inside, method, req, reply, cc, opts...) })
		if err == nil {
			err = op.finish(ctx, end)
		}
		if err != nil {
			return stopped(ctx, err)
		}
		return outcome(ctx, op.err)
	}
}

// inTask reports whether a call with ctx is made in a task. The error says that it is made where it
// would block a loop.
func inTask(ctx context.Context) (bool, error) {
	_, err := enter(ctx)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, asyncio.ErrForeignGoroutine):
		if onLoop() {
			return false, err
		}
	default:
		if _, e := asyncio.GetRunningLoop(ctx); e == nil {
			return false, err // in a callback
		}
	}
	return false, nil
}

// onLoop reports whether the calling goroutine is a stack of some loop. Package asyncio marks its
// stacks with this bit of a goroutine, which a new goroutine does not have.
func onLoop() bool {
	is := debug.SetPanicOnFault(true)
	debug.SetPanicOnFault(is)
	return is
}

// outside returns ctx without its loop, if it leads to one.
func outside(ctx context.Context) context.Context {
	if _, err := asyncio.GetRunningLoop(ctx); err == nil {
		return asyncio.Outside(ctx)
	}
	return ctx
}

// rpcContext makes the context of an RPC, for gRPC's goroutines, from that of a task.
func rpcContext(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	inner, end := context.WithCancelCause(asyncio.Outside(ctx))
	d, ok := ctx.Deadline()
	l, err := asyncio.GetRunningLoop(ctx)
	if !ok || err != nil {
		return inner, end
	}
	if ahead := time.Since(l.Now()); ahead.Abs() > time.Second { // virtual time (grpc 9)
		inner = deadlineContext{inner, d.Add(ahead)}
	}
	return inner, end
}

// A deadlineContext is a context with another deadline, at which it does not end.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

func (c deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

// StreamClientInterceptor is [UnaryClientInterceptor] for streams, for
// [grpc.WithChainStreamInterceptor]. Making a stream suspends the calling task, and so do the
// stream's Header, SendMsg, CloseSend and RecvMsg, and with them the methods of generated code. The
// stream is then for tasks of the loop only; one may send while another receives, and a second
// sender or receiver gets an error that matches [asyncio.ErrBusy]. The stream's Context leads to
// the loop.
//
// A cancel of a task that waits in such a method ends the RPC, as does the end of the ctx that the
// stream was made with. To wait for a message for a limited time and go on afterwards, receive in a
// task of its own, and [asyncio.Wait] for it. A cancel that arrives elsewhere does not end the RPC.
// So make each stream with a ctx that ends when the work with it does, as gRPC demands:
//
//	ctx, cancel := asyncio.WithCancel(ctx)
//	defer cancel()
//	stream, err := client.Watch(ctx, …)
//
// A stream that nobody holds any more ends when the collector finds it.
func StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		in, err := inTask(ctx)
		if err != nil {
			return nil, misused(err, method)
		}
		if !in {
			return streamer(outside(ctx), desc, cc, method, opts...)
		}
		inside, end := rpcContext(ctx)
		s := &clientStream{ctx: ctx, inside: inside, end: end}
		op, err := start(ctx, func() (err error) {
			s.inner, err = streamer(inside, desc, cc, method, opts...)
			return err
		})
		if err == nil {
			err = op.finish(ctx, end)
		}
		if err != nil {
			end(err)
			return nil, stopped(ctx, err)
		}
		if op.err != nil {
			end(op.err)
			return nil, outcome(ctx, op.err)
		}
		runtime.AddCleanup(s, func(end context.CancelCauseFunc) { end(errDropped) }, end)
		return s, nil
	}
}

var errDropped = errors.New("asynciogrpc: nobody holds the stream any more")

// A clientStream is a stream of the tasks of a loop (grpc 2, grpc 3).
type clientStream struct {
	ctx    context.Context // that it was made with
	inside context.Context // of the RPC
	end    context.CancelCauseFunc
	inner  grpc.ClientStream

	sending, receiving bool
	answered           bool // gRPC does not retry any more, so inner's Context does not block
	stopped            bool // the end of a wait has ended the RPC
}

// do has a goroutine make call, as one of a direction, and suspends the task until it has returned.
func (s *clientStream) do(busy *bool, method string, call func() error) error {
	ctx, err := enter(s.ctx)
	if err != nil {
		return misused(err, method)
	}
	if *busy {
		return misused(asyncio.ErrBusy, method)
	}
	*busy = true
	defer func() { *busy = false }()
	op, err := start(ctx, call)
	if err != nil {
		return stopped(ctx, err)
	}
	err = op.finish(ctx, func(why error) {
		s.stopped = true
		s.end(why)
	})
	if s.stopped || busy == &s.receiving {
		s.answered = true
	}
	if err != nil {
		return stopped(ctx, err)
	}
	if op.err != nil && (busy == &s.receiving || op.err != io.EOF) { // the RPC is over
		s.answered = true
		s.end(op.err)
	}
	if s.stopped && status.Code(op.err) == codes.Canceled {
		return errStopped
	}
	// gRPC leaves the reason to RecvMsg
	if op.err == io.EOF && busy == &s.sending && s.ctx.Err() != nil {
		return stopped(s.ctx, context.Cause(s.ctx))
	}
	return outcome(s.ctx, op.err)
}

var errStopped = status.Error(codes.Canceled, "asynciogrpc: the RPC was ended when a task that waited for it was cancelled or its context ended")

// Header implements [grpc.ClientStream]. It is an operation of the receiving direction.
func (s *clientStream) Header() (md metadata.MD, err error) {
	err = s.do(&s.receiving, "ClientStream.Header", func() (err error) {
		md, err = s.inner.Header()
		return err
	})
	if err == nil && md == nil && s.ctx.Err() != nil {
		err = stopped(s.ctx, context.Cause(s.ctx)) // as SendMsg does
	}
	return md, err
}

// SendMsg implements [grpc.ClientStream].
func (s *clientStream) SendMsg(m any) error {
	return s.do(&s.sending, "ClientStream.SendMsg", func() error { return s.inner.SendMsg(m) })
}

// CloseSend implements [grpc.ClientStream]. It is an operation of the sending direction.
func (s *clientStream) CloseSend() error {
	return s.do(&s.sending, "ClientStream.CloseSend", s.inner.CloseSend)
}

// RecvMsg implements [grpc.ClientStream].
func (s *clientStream) RecvMsg(m any) error {
	return s.do(&s.receiving, "ClientStream.RecvMsg", func() error { return s.inner.RecvMsg(m) })
}

// Trailer implements [grpc.ClientStream].
func (s *clientStream) Trailer() metadata.MD {
	if !s.answered {
		return nil
	}
	return s.inner.Trailer()
}

// Context implements [grpc.ClientStream].
func (s *clientStream) Context() context.Context {
	if !s.answered {
		return &streamContext{s.inside, s.ctx}
	}
	return &streamContext{s.inner.Context(), s.ctx}
}

// A streamContext is the context of a stream, with values of a second one, which leads to the loop.
type streamContext struct {
	context.Context
	more context.Context
}

func (c *streamContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.more.Value(key)
}
