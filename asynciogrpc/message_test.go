package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A frame is a message as a proxy has it: bytes, whatever they mean. Its codec needs a limit, which
// whoever receives has set.
type frame struct {
	limit int
	bytes []byte
}

type frameCodec struct{}

func (frameCodec) Name() string { return "frame" }

func (frameCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("a %T is no frame", v)
	}
	return f.bytes, nil
}

func (frameCodec) Unmarshal(data []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("a %T is no frame", v)
	}
	if len(data) > f.limit {
		return fmt.Errorf("%d bytes, the limit is %d", len(data), f.limit)
	}
	f.bytes = append(f.bytes[:0], data...)
	return nil
}

// fullMessage is a message with every kind of field, and one that this program does not know.
func fullMessage() *testgrpc.StreamingOutputCallRequest {
	m := message("hello")
	m.ResponseParameters = []*testgrpc.ResponseParameters{{Size: 1}, {Size: 2}}
	m.ResponseStatus = &testgrpc.EchoStatus{Code: 3, Message: "x"}
	m.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x2a}) // field 127, the number 42
	return m
}

// receivers have RecvMsg fill a kind of message, and return what that then means on the wire.
var receivers = map[string]func(stream grpc.ServerStream) ([]byte, error){
	"generated": func(stream grpc.ServerStream) ([]byte, error) {
		m := message("old, to be replaced")
		m.ResponseType = 7
		if err := stream.RecvMsg(m); err != nil {
			return nil, err
		}
		if !proto.Equal(m, fullMessage()) {
			return nil, fmt.Errorf("received %v", m)
		}
		return proto.Marshal(m)
	},
	"dynamic": func(stream grpc.ServerStream) ([]byte, error) {
		m := dynamicpb.NewMessage(fullMessage().ProtoReflect().Descriptor())
		if err := stream.RecvMsg(m); err != nil {
			return nil, err
		}
		return proto.Marshal(m)
	},
	"frame": func(stream grpc.ServerStream) ([]byte, error) {
		m := &frame{limit: 1000}
		if err := stream.RecvMsg(m); err != nil {
			return nil, err
		}
		if m.limit != 1000 {
			return nil, fmt.Errorf("the limit has become %d", m.limit)
		}
		return m.bytes, nil
	},
	"not a pointer": func(stream grpc.ServerStream) ([]byte, error) { return nil, stream.RecvMsg(frame{}) },
	"nil":           func(stream grpc.ServerStream) ([]byte, error) { return nil, stream.RecvMsg(nil) },
	"nil pointer":   func(stream grpc.ServerStream) ([]byte, error) { return nil, stream.RecvMsg((*frame)(nil)) },
}

// TestMessage_Kinds: RecvMsg of a handler fills what it is given, whatever kind of message that is,
// also with a message that a cancelled RecvMsg has begun to receive.
func TestMessage_Kinds(t *testing.T) {
	for _, c := range []struct {
		cancelled, wrong, receiver string
		why                        string // what the wrong one is told
	}{
		{"", "", "generated", ""},
		{"", "", "dynamic", ""},
		{"", "", "frame", ""},
		{"generated", "", "generated", ""},
		{"dynamic", "", "dynamic", ""},
		{"frame", "", "frame", ""},
		{"generated", "", "dynamic", ""},
		{"dynamic", "", "generated", ""},
		{"generated", "frame", "generated", "*grpc_testing.StreamingOutputCallRequest has arrived"},
		{"frame", "generated", "frame", "does not fit into a *grpc_testing.StreamingOutputCallRequest"},
		{"", "not a pointer", "frame", "not into a asynciogrpc_test.frame"},
		{"", "nil", "frame", "not into a <nil>"},
		{"", "nil pointer", "frame", "a message is received into a pointer"},
	} {
		t.Run(fmt.Sprintf("%s after %s, %s", c.receiver, c.cancelled, c.wrong), func(t *testing.T) {
			var got []byte
			begun := make(chan struct{}, 10) // a RecvMsg on a goroutine
			tell := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, &tellingStream{ss, begun})
			}
			s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
				if ctx := stream.Context(); c.cancelled != "" {
					first := spawn(ctx, func(context.Context) error {
						_, err := receivers[c.cancelled](stream)
						return err
					})
					if _, _, err := asyncio.Recv(ctx, begun); err != nil {
						return err
					}
					first.Cancel()
					if _, err := first.Await(ctx); !first.Cancelled() {
						return fmt.Errorf("the first RecvMsg ends with %w", err)
					}
				}
				err := stream.SendHeader(nil)
				if err == nil && c.wrong != "" {
					if _, e := receivers[c.wrong](stream); !errors.Is(e, asyncio.ErrInvalidArgument) || !strings.Contains(e.Error(), c.why) {
						return fmt.Errorf("the wrong RecvMsg ends with %w", e)
					}
				}
				if err == nil {
					got, err = receivers[c.receiver](stream)
				}
				return err
			}}
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				opts := append([]grpc.ServerOption{grpc.ChainStreamInterceptor(tell)}, serverOptions(l)...)
				if c.receiver == "frame" || c.cancelled == "frame" {
					opts = append(opts, grpc.ForceServerCodec(frameCodec{}))
				}
				stream, err := connect(t, listen(t, s, opts...), clientOptions()...).FullDuplexCall(ctx)
				if err != nil {
					return err
				}
				if _, err := stream.Header(); err != nil { // the first RecvMsg is over
					return err
				}
				if err := stream.Send(fullMessage()); err != nil {
					return err
				}
				_, err = stream.Recv()
				return ignoreEOF(err)
			}))
			if err != nil {
				t.Error(err)
			}
			m := new(testgrpc.StreamingOutputCallRequest)
			if err := proto.Unmarshal(got, m); err != nil || !proto.Equal(m, fullMessage()) {
				t.Errorf("received %v, %v", m, err)
			}
		})
	}
}

type tellingStream struct {
	grpc.ServerStream
	begun chan struct{}
}

func (s *tellingStream) RecvMsg(m any) error {
	s.begun <- struct{}{}
	return s.ServerStream.RecvMsg(m)
}

// TestMessage_CodecPanics: a panic in a call of gRPC's is reported, and ends the call with an
// error.
func TestMessage_CodecPanics(t *testing.T) {
	onSite(t, echo(), func(ctx context.Context, site *site) error {
		for name, call := range map[string]func() error{
			"unary": func() error {
				_, err := site.UnaryCall(ctx, request("x"), grpc.ForceCodec(panicCodec{}))
				return err
			},
			"stream": func() error {
				stream, err := site.FullDuplexCall(ctx, grpc.ForceCodec(panicCodec{}))
				if err != nil {
					return err
				}
				return stream.Send(message("x"))
			},
		} {
			before := len(site.reports())
			err := call()
			if p := (*asyncio.PanicError)(nil); !errors.As(err, &p) || p.Value != "a codec's" || status.Code(err) != codes.Internal {
				t.Errorf("%s: the error is %v", name, err)
			}
			if n := len(site.reports()); n != before+1 {
				t.Errorf("%s: %d reports", name, n-before)
			}
		}
		return nil
	})
}

type panicCodec struct{}

func (panicCodec) Name() string                { return "panic" }
func (panicCodec) Marshal(any) ([]byte, error) { panic("a codec's") }
func (panicCodec) Unmarshal([]byte, any) error { panic("a codec's") }

// TestClient_DroppedStream: a stream that nobody holds any more ends.
func TestClient_DroppedStream(t *testing.T) {
	h := newHold()
	onSite(t, &h.service, func(ctx context.Context, site *site) error {
		if _, err := site.FullDuplexCall(ctx); err != nil {
			return err
		}
		if _, err := h.called.Get(ctx); err != nil {
			return err
		}
		for h.causes.Qsize() == 0 {
			runtime.GC()
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if cause, err := h.causes.Get(ctx); !errors.Is(cause, context.Canceled) {
			t.Errorf("the handler's context ended with %v, %v", cause, err)
		}
		return nil
	})
}

// TestClient_VirtualTime: on virtual time the clock stands still during a call.
func TestClient_VirtualTime(t *testing.T) {
	client := connect(t, listen(t, echo()), clientOptions()...)
	_, err := asyncio.Run(asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		spawn(ctx, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		ctx, cancel := asyncio.WithTimeout(ctx, time.Minute)
		defer cancel()
		before := l.Time()
		for range 10 {
			if err := waits["unary"](ctx, client); err != nil {
				return err
			}
		}
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(message("x")); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if d := l.Time().Sub(before); d != 0 {
			t.Errorf("%v have passed", d)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}
