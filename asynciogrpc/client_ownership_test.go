package asynciogrpc_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/goasyncio/asyncio"
)

// TestClient_MessagesAreTheTasks: a cancelled call returns only when the goroutine behind it has
// ended, however late that sees the end of its context. The race detector sees if it does not.
func TestClient_MessagesAreTheTasks(t *testing.T) {
	h := newHold()
	begun, returned := make(chan struct{}, 1), 0 // calls on the goroutine
	late := func(ctx context.Context, m *testgrpc.Payload, call func() error) error {
		begun <- struct{}{}
		err := call()
		<-ctx.Done()
		for range 100 {
			m.Body = append(m.Body, 'x')
			runtime.Gosched()
		}
		returned++
		return err
	}
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return late(ctx, req.(*testgrpc.SimpleRequest).Payload, func() error { return invoker(ctx, method, req, reply, cc, opts...) })
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		inner, err := streamer(ctx, desc, cc, method, opts...)
		return &lateStream{inner, ctx, late}, err
	}
	onSite(t, &h.service, func(ctx context.Context, site *site) error {
		req, calls := request("x"), 0
		cancelled := func(wait func(ctx context.Context) error) {
			t.Helper()
			task := spawn(ctx, wait)
			if _, _, err := asyncio.Recv(ctx, begun); err != nil {
				t.Error(err)
			}
			task.Cancel()
			_, err := task.Await(ctx)
			if !task.Cancelled() {
				t.Errorf("the task ends with %v", err)
			}
			calls++
			if returned != calls {
				t.Errorf("%d calls have returned on their goroutines, %d in their tasks", returned, calls)
			}
			req.Payload.Body = nil
		}
		cancelled(func(ctx context.Context) error {
			_, err := site.UnaryCall(ctx, req)
			return err
		})
		cancelled(func(ctx context.Context) error {
			stream, err := site.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			m := &testgrpc.StreamingOutputCallResponse{Payload: req.Payload}
			err = stream.RecvMsg(m)
			m.Payload.Body = nil
			return err
		})
		cancelled(func(ctx context.Context) error {
			stream, err := site.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			m := &testgrpc.StreamingOutputCallRequest{Payload: req.Payload}
			err = stream.SendMsg(m)
			m.Payload.Body = nil
			return err
		})
		return nil
	}, grpc.WithChainUnaryInterceptor(unary), grpc.WithChainStreamInterceptor(stream))
}

type lateStream struct {
	grpc.ClientStream
	ctx  context.Context
	late func(ctx context.Context, m *testgrpc.Payload, call func() error) error
}

func (s *lateStream) RecvMsg(m any) error {
	return s.late(s.ctx, m.(*testgrpc.StreamingOutputCallResponse).Payload, func() error {
		return s.ClientStream.RecvMsg(new(testgrpc.StreamingOutputCallResponse))
	})
}

func (s *lateStream) SendMsg(m any) error {
	return s.late(s.ctx, m.(*testgrpc.StreamingOutputCallRequest).Payload, func() error { return s.ClientStream.SendMsg(m) })
}

// TestClient_LateCancel: a call that has succeeded although a cancel came counts, and the cancel
// comes at the task's next await.
func TestClient_LateCancel(t *testing.T) {
	s := echo()
	s.up = func(stream testgrpc.TestService_StreamingInputCallServer) error {
		return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{})
	}
	reached, gone := make(chan struct{}), make(chan struct{})
	late := func(ctx context.Context, call func() error) error {
		err := call()
		reached <- struct{}{}
		<-ctx.Done()
		<-gone
		return err
	}
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return late(ctx, func() error { return invoker(ctx, method, req, reply, cc, opts...) })
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		inner, err := streamer(ctx, desc, cc, method, opts...)
		return &lateStream{inner, ctx, func(ctx context.Context, _ *testgrpc.Payload, call func() error) error { return late(ctx, call) }}, err
	}
	ways := map[string]func(ctx context.Context, site *site) error{
		"unary": func(ctx context.Context, site *site) error {
			m, err := site.UnaryCall(ctx, request("hello"))
			if said(m) != "hello" {
				t.Errorf("the response is %v, %v", m, err)
			}
			return err
		},
		"Send": func(ctx context.Context, site *site) error {
			stream, err := site.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			return stream.SendMsg(message("hello"))
		},
	}
	for way, call := range ways {
		t.Run(way, func(t *testing.T) {
			onSite(t, s, func(ctx context.Context, site *site) error {
				succeeded := false
				task := spawn(ctx, func(ctx context.Context) error {
					if err := call(ctx, site); err != nil {
						return err
					}
					succeeded = true
					if n := asyncio.CurrentTask(ctx).Cancelling(); n != 1 {
						t.Errorf("%d cancels are counted", n)
					}
					return asyncio.Sleep(ctx, time.Hour)
				})
				if _, _, err := asyncio.Recv(ctx, reached); err != nil {
					return err
				}
				task.Cancel("too late")
				if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
				if err := asyncio.Send(ctx, gone, struct{}{}); err != nil {
					return err
				}
				_, err := task.Await(ctx)
				if !task.Cancelled() || !succeeded {
					t.Errorf("the task ends with %v, and has succeeded: %v", err, succeeded)
				}
				return nil
			}, grpc.WithChainUnaryInterceptor(unary), grpc.WithChainStreamInterceptor(stream))
		})
	}
}
