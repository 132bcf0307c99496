package asynciogrpc

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/goasyncio/asyncio"
)

// UnaryServerInterceptor returns an interceptor that runs each unary handler as a task of l, named
// by its method. Give it to [grpc.ChainUnaryInterceptor] last: the interceptors before it run on
// gRPC's goroutine and may block; those behind it run in the task and must not.
//
// Any goroutine may call UnaryServerInterceptor and the interceptor, which blocks its goroutine
// until the task has ended. UnaryServerInterceptor panics with [asyncio.ErrInvalidArgument] if l is
// nil.
func UnaryServerInterceptor(l *asyncio.EventLoop) grpc.UnaryServerInterceptor {
	return unaryServer(always(l, "UnaryServerInterceptor"))
}

// StreamServerInterceptor is [UnaryServerInterceptor] for streams, for
// [grpc.ChainStreamInterceptor]. The handler's stream is for tasks of l only: its SendMsg, RecvMsg
// and SendHeader suspend the calling task, and with them the methods of generated code. One task
// may send while another receives; a second sender or receiver gets an error that matches
// [asyncio.ErrBusy].
//
// A cancel of a task that waits in such a method ends the wait, not the RPC, which is for the
// handler to end. A message that arrives later is received by the next call, and one that was being
// sent goes out before the next.
func StreamServerInterceptor(l *asyncio.EventLoop) grpc.StreamServerInterceptor {
	return streamServer(always(l, "StreamServerInterceptor"))
}

// GroupUnaryServerInterceptor is [UnaryServerInterceptor] for several loops, which get the RPCs in
// turn.
func GroupUnaryServerInterceptor(g *asyncio.LoopGroup) grpc.UnaryServerInterceptor {
	return unaryServer(inTurn(g, "GroupUnaryServerInterceptor"))
}

// GroupStreamServerInterceptor is [StreamServerInterceptor] for several loops, which get the RPCs
// in turn. A stream belongs to one loop.
func GroupStreamServerInterceptor(g *asyncio.LoopGroup) grpc.StreamServerInterceptor {
	return streamServer(inTurn(g, "GroupStreamServerInterceptor"))
}

func always(l *asyncio.EventLoop, caller string) func() *asyncio.EventLoop {
	if l == nil {
		panic(fmt.Errorf("%w: nil loop (in asynciogrpc.%s)", asyncio.ErrInvalidArgument, caller))
	}
	return func() *asyncio.EventLoop { return l }
}

func inTurn(g *asyncio.LoopGroup, caller string) func() *asyncio.EventLoop {
	if g == nil {
		panic(fmt.Errorf("%w: nil group (in asynciogrpc.%s)", asyncio.ErrInvalidArgument, caller))
	}
	return g.Next
}

func unaryServer(loop func() *asyncio.EventLoop) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := asyncio.Call(ctx, loop(), func(ctx context.Context) (any, error) { return handler(ctx, req) }, asyncio.TaskName(info.FullMethod))
		return resp, answer(err)
	}
}

func streamServer(loop func() *asyncio.EventLoop) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		s := &serverStream{ServerStream: ss}
		var unsent *operation
		_, err := asyncio.Call(ss.Context(), loop(), func(ctx context.Context) (asyncio.None, error) {
			s.ctx = ctx
			defer func() { s.over, unsent = true, s.sending.op }()
			return asyncio.None{}, handler(srv, s)
		}, asyncio.TaskName(info.FullMethod))
		if err == nil && unsent != nil { // it would be lost (grpc 5)
			unsent.ended.Wait()
			if unsent.made {
				err = unsent.err
			}
		}
		return answer(err)
	}
}

// A serverStream is the stream of a handler that is a task. It belongs to the loop, except for the
// operations under way.
type serverStream struct {
	grpc.ServerStream
	ctx                context.Context // of the handler
	over               bool            // the handler has ended
	sending, receiving direction
}

// A direction is one direction of a serverStream.
type direction struct {
	busy    bool       // a task is in a method
	op      *operation // that a task waits for, or whose wait was ended; nil if there is none
	message any        // that op receives
}

// enter makes the calling task the one that uses d, until it calls d.leave. It returns the task's
// context.
func (s *serverStream) enter(d *direction, method string) (context.Context, error) {
	ctx, err := enter(s.ctx)
	switch {
	case err != nil:
		return nil, misused(err, method)
	case d.busy:
		return nil, misused(asyncio.ErrBusy, method)
	}
	d.busy = true
	return ctx, nil
}

func (d *direction) leave() { d.busy = false }

// begin begins an operation. None may be under way.
func (s *serverStream) begin(ctx context.Context, d *direction, method string, call func() error) (err error) {
	if s.over {
		return misused(errOver, method)
	}
	if d.op, err = start(ctx, call); err != nil {
		return stopped(ctx, err)
	}
	return nil
}

var errOver = errors.New("asynciogrpc: the RPC is over: its handler has ended")

// wait waits until d's operation is over, and takes it away from d. If it returns an error, the
// operation goes on.
func (d *direction) wait(ctx context.Context) (*operation, error) {
	if err := d.op.wait(ctx); err != nil {
		return nil, stopped(ctx, err)
	}
	op := d.op
	d.op = nil
	return op, nil
}

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *serverStream) RecvMsg(m any) error {
	const method = "ServerStream.RecvMsg"
	ctx, err := s.enter(&s.receiving, method)
	if err != nil {
		return err
	}
	d := &s.receiving
	defer d.leave()
	for {
		if d.op == nil {
			message := another(m)
			if message == nil {
				return misused(fmt.Errorf("%w: a message is received into a pointer, not into a %T", asyncio.ErrInvalidArgument, m), method)
			}
			d.message = message
			if err := s.begin(ctx, d, method, func() error { return s.ServerStream.RecvMsg(message) }); err != nil {
				return err
			}
		}
		op, err := d.wait(ctx)
		switch {
		case err != nil:
			return err
		case !op.made:
			continue // the cancel of an earlier wait was faster
		case op.err != nil:
			return outcome(s.ServerStream.Context(), op.err)
		case !move(m, d.message):
			d.op = op // for a call with the right type
			return misused(fmt.Errorf("%w: a %T has arrived, for a RecvMsg that was cancelled, and does not fit into a %T", asyncio.ErrInvalidArgument, d.message, m), method)
		}
		return nil
	}
}

// SendMsg implements [grpc.ServerStream].
func (s *serverStream) SendMsg(m any) error {
	return s.send("ServerStream.SendMsg", func() error { return s.ServerStream.SendMsg(m) })
}

// SendHeader implements [grpc.ServerStream]. It is an operation of the sending direction.
func (s *serverStream) SendHeader(md metadata.MD) error {
	return s.send("ServerStream.SendHeader", func() error { return s.ServerStream.SendHeader(md) })
}

func (s *serverStream) send(method string, call func() error) error {
	ctx, err := s.enter(&s.sending, method)
	if err != nil {
		return err
	}
	d := &s.sending
	defer d.leave()
	if d.op != nil { // its wait was ended
		if op, err := d.wait(ctx); err != nil {
			return err
		} else if op.made && op.err != nil {
			return outcome(s.ServerStream.Context(), op.err)
		}
	}
	if err := s.begin(ctx, d, method, call); err != nil {
		return err
	}
	op, err := d.wait(ctx)
	if err != nil {
		return err
	}
	return outcome(s.ServerStream.Context(), op.err)
}

// Serve serves ln with srv, and suspends the calling task until the server ends: by srv.Stop or
// [GracefulStop], after which it returns nil, by an error of ln's, or by a cancel or the end of
// ctx. After a cancel it stops accepting connections and RPCs and waits until those under way are
// over; a second cancel ends them. It closes ln. Handlers are tasks only with the interceptors of
// this package.
//
// Serve must be called in a task. To call srv.Serve instead, do so on a goroutine.
func Serve(ctx context.Context, srv *grpc.Server, ln net.Listener) error {
	if srv == nil || ln == nil {
		if ln != nil {
			_ = ln.Close()
		}
		return fmt.Errorf("%w: nil server or listener (in asynciogrpc.Serve)", asyncio.ErrInvalidArgument)
	}
	if _, err := enter(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w (in asynciogrpc.Serve)", err), ln.Close())
	}
	var failure error
	served := asyncio.RunInExecutor(ctx, goroutines{}, func() (asyncio.None, error) {
		failure = srv.Serve(ln)
		return asyncio.None{}, nil
	})
	over := false
	defer func() {
		if !over {
			go srv.Stop() // a loop that closes unwinds the task; Stop may wait for handlers
		}
	}()
	_, err := asyncio.Shield(ctx, served).Await(ctx)
	if err == nil {
		over = true
		return failure
	}
	patient := context.WithoutCancel(ctx)
	_ = GracefulStop(patient, srv)
	_, _ = served.Await(patient)
	over = true
	return err
}

// GracefulStop is srv.GracefulStop for a task: it suspends the calling task until all RPCs are
// over. srv.GracefulStop itself would block the loop, and with it the handlers that it waits for. A
// cancel, or the end of ctx, ends the RPCs that are left: their clients see Unavailable, and the
// contexts of their handlers end. GracefulStop waits for the handlers all the same and then returns
// the cancel or the cause of ctx.
func GracefulStop(ctx context.Context, srv *grpc.Server) error {
	if srv == nil {
		return fmt.Errorf("%w: nil server (in asynciogrpc.GracefulStop)", asyncio.ErrInvalidArgument)
	}
	if _, err := enter(ctx); err != nil {
		return fmt.Errorf("%w (in asynciogrpc.GracefulStop)", err)
	}
	stopped := asyncio.RunInExecutor(ctx, goroutines{}, func() (asyncio.None, error) {
		srv.GracefulStop()
		return asyncio.None{}, nil
	})
	over := false
	defer func() {
		if !over {
			go srv.Stop()
		}
	}()
	_, err := asyncio.Shield(ctx, stopped).Await(ctx)
	if err != nil {
		go srv.Stop()
		_, _ = stopped.Await(context.WithoutCancel(ctx))
	}
	over = true
	return err
}
