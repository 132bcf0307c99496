package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

var errWanted = errors.New("wanted")

// A hold is a service whose handlers say that they have been called and then wait for the end of
// their context, the cause of which they tell too.
type hold struct {
	service
	called *asyncio.Queue[string]
	causes *asyncio.Queue[error]
	calls  int
}

func newHold() *hold {
	h := &hold{called: asyncio.NewQueue[string](0), causes: asyncio.NewQueue[error](0)}
	wait := func(ctx context.Context, what string) error {
		h.calls++
		if err := h.called.PutNowait(what); err != nil {
			return err
		}
		_, err := asyncio.CreateFuture[asyncio.None](ctx).Await(ctx)
		if e := h.causes.PutNowait(err); e != nil {
			return e
		}
		return err
	}
	h.unary = func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		return nil, wait(ctx, "unary")
	}
	h.duplex = func(stream testgrpc.TestService_FullDuplexCallServer) error {
		return wait(stream.Context(), "duplex")
	}
	h.down = func(_ *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
		return wait(stream.Context(), "down")
	}
	h.up = func(stream testgrpc.TestService_StreamingInputCallServer) error {
		return wait(stream.Context(), "up")
	}
	return h
}

// waits are the ways in which a task can wait for an RPC.
var waits = map[string]func(ctx context.Context, client testgrpc.TestServiceClient) error{
	"unary": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		_, err := client.UnaryCall(ctx, request("x"))
		return err
	},
	"duplex": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	},
	"down": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		stream, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	},
	"up": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		stream, err := client.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		_, err = stream.CloseAndRecv()
		return err
	},
	"header of duplex": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if _, err = stream.Header(); err == nil {
			_, err = stream.Recv() // has the status
		}
		return err
	},
	"send of duplex": func(ctx context.Context, client testgrpc.TestServiceClient) error {
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for {
			if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 64<<10)}}); err == io.EOF {
				_, err = stream.Recv() // has the status
				return err
			} else if err != nil {
				return err
			}
		}
	},
}

// TestClient_EndsOfAWait: whatever ends a task's wait for an RPC, the RPC ends, the server hears of
// it, and the task gets the reason, which has a code too.
func TestClient_EndsOfAWait(t *testing.T) {
	ends := map[string]struct {
		run   func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error
		is    []error
		isNot []error
		code  codes.Code
	}{
		"cancel": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				task := spawn(ctx, wait)
				if _, err := h.called.Get(ctx); err != nil {
					return err
				}
				task.Cancel("enough")
				_, err := task.Await(ctx)
				if !task.Cancelled() {
					return fmt.Errorf("the task is not cancelled, but ended with %w", err)
				}
				return err
			},
			is:   []error{asyncio.ErrCancelled, context.Canceled},
			code: codes.Canceled,
		},
		"end of the ctx": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				inner, cancel := context.WithCancelCause(ctx)
				defer cancel(nil)
				task := spawn(inner, wait)
				if _, err := h.called.Get(ctx); err != nil {
					return err
				}
				cancel(errWanted)
				_, err := task.Await(ctx)
				if task.Cancelled() {
					return errors.New("the task is cancelled")
				}
				return err
			},
			is:    []error{errWanted},
			isNot: []error{asyncio.ErrCancelled},
			code:  codes.Canceled,
		},
		"deadline on the loop's clock": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				ctx, cancel := asyncio.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				return wait(ctx)
			},
			is:    []error{context.DeadlineExceeded},
			isNot: []error{asyncio.ErrCancelled},
			code:  codes.DeadlineExceeded,
		},
		"deadline on the machine's clock": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				return wait(ctx)
			},
			is:    []error{context.DeadlineExceeded},
			isNot: []error{asyncio.ErrCancelled},
			code:  codes.DeadlineExceeded,
		},
		"FailAfter": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				err := asyncio.FailAfter(ctx, 50*time.Millisecond, wait)
				if e := (*asyncio.TimeoutError)(nil); !errors.As(err, &e) {
					return fmt.Errorf("FailAfter ends with %w", err)
				}
				return errWanted
			},
			is:   []error{errWanted},
			code: codes.Unknown,
		},
		"Timeout": {
			run: func(ctx context.Context, h *hold, wait func(ctx context.Context) error) error {
				err := asyncio.Timeout(ctx, 50*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return wait(ctx) })
				if e := (*asyncio.TimeoutError)(nil); !errors.As(err, &e) {
					return fmt.Errorf("Timeout ends with %w", err)
				}
				return errWanted
			},
			is:   []error{errWanted},
			code: codes.Unknown,
		},
	}
	for way, wait := range waits {
		for end, c := range ends {
			t.Run(way+"/"+end, func(t *testing.T) {
				h := newHold()
				onSite(t, &h.service, func(ctx context.Context, site *site) error {
					var err error
					for h.calls == 0 { // on a busy machine the deadline may come before the handler
						err = c.run(ctx, h, func(ctx context.Context) error { return wait(ctx, site) })
					}
					for _, is := range c.is {
						if !errors.Is(err, is) {
							t.Errorf("the error is %v, want %v", err, is)
						}
					}
					for _, not := range c.isNot {
						if errors.Is(err, not) {
							t.Errorf("the error is %v, which must not match %v", err, not)
						}
					}
					if code := status.Code(err); code != c.code {
						t.Errorf("the code of %v is %v, want %v", err, code, c.code)
					}
					if cause, err := h.causes.Get(ctx); err != nil {
						return err
					} else if !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
						t.Errorf("the server's context ended with %v", cause)
					}
					return nil
				})
			})
		}
	}
}

// TestClient_EndOfAStreamsCtx: the end of the ctx that a stream was made with ends the RPC, and its
// cause is the error of every method that waits, in a task with another context.
func TestClient_EndOfAStreamsCtx(t *testing.T) {
	for way, wait := range map[string]func(stream testgrpc.TestService_FullDuplexCallClient) error{
		"Recv": func(stream testgrpc.TestService_FullDuplexCallClient) error {
			_, err := stream.Recv()
			return err
		},
		"Header": func(stream testgrpc.TestService_FullDuplexCallClient) error {
			_, err := stream.Header()
			return err
		},
		"Send": func(stream testgrpc.TestService_FullDuplexCallClient) (err error) {
			for err == nil {
				err = stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 64<<10)}})
			}
			return err
		},
	} {
		t.Run(way, func(t *testing.T) {
			h := newHold()
			onSite(t, &h.service, func(ctx context.Context, site *site) error {
				inner, cancel := context.WithCancelCause(ctx)
				defer cancel(nil)
				stream, err := site.FullDuplexCall(inner)
				if err != nil {
					return err
				}
				site.loop.CallLater(20*time.Millisecond, func() { cancel(errWanted) })
				if err := wait(stream); !errors.Is(err, errWanted) || status.Code(err) != codes.Canceled {
					t.Errorf("the error is %v", err)
				}
				return nil
			})
		})
	}
}

// TestClient_StatusIsAStatus: what the server answers is a status, also if it says Canceled, and
// cancels no task.
func TestClient_StatusIsAStatus(t *testing.T) {
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.NotFound} {
		answer := status.Error(code, "as the server says")
		s := &service{
			unary: func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) { return nil, answer },
			up:    func(testgrpc.TestService_StreamingInputCallServer) error { return answer },
			down: func(*testgrpc.StreamingOutputCallRequest, testgrpc.TestService_StreamingOutputCallServer) error {
				return answer
			},
			duplex: func(testgrpc.TestService_FullDuplexCallServer) error { return answer },
		}
		for _, way := range []string{"unary", "up", "down", "duplex"} {
			t.Run(code.String()+"/"+way, func(t *testing.T) {
				onSite(t, s, func(ctx context.Context, site *site) error {
					task := spawn(ctx, func(ctx context.Context) error { return waits[way](ctx, site) })
					_, err := task.Await(ctx)
					if task.Cancelled() || errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("the status has become a cancel or a timeout: %v", err)
					}
					if got := status.Convert(err); got.Code() != code || got.Message() != "as the server says" {
						t.Errorf("the status is %v", got)
					}
					return nil
				})
			})
		}
	}
}

// TestClient_Metadata: headers, trailers, the peer and the deadline go both ways.
func TestClient_Metadata(t *testing.T) {
	const header, trailer = "a-header", "a-trailer"
	greet := func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		p, ok := peer.FromContext(ctx)
		if got := md.Get("greeting"); len(got) != 1 || got[0] != "hello" || !ok || p.Addr == nil {
			return fmt.Errorf("the metadata is %v, the peer %v", md, p)
		}
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Hour {
			return fmt.Errorf("the deadline is %v, %v", d, ok)
		}
		if err := grpc.SetHeader(ctx, metadata.Pairs(header, "set")); err != nil {
			return err
		}
		if m, ok := grpc.Method(ctx); !ok || asyncio.CurrentTask(ctx).GetName() != m {
			return fmt.Errorf("the task is %v, the method %s", asyncio.CurrentTask(ctx), m)
		}
		return grpc.SetTrailer(ctx, metadata.Pairs(trailer, "set"))
	}
	s := &service{
		unary: func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
			return response("x"), greet(ctx)
		},
		duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
			if err := greet(stream.Context()); err != nil {
				return err
			}
			if err := stream.SetHeader(metadata.Pairs("second", "set")); err != nil {
				return err
			}
			stream.SetTrailer(metadata.Pairs("second", "set"))
			return stream.SendHeader(metadata.Pairs("third", "sent"))
		},
	}
	check := func(what string, md metadata.MD, keys ...string) {
		t.Helper()
		for _, key := range keys {
			if len(md.Get(key)) != 1 {
				t.Errorf("%s: no %s in %v", what, key, md)
			}
		}
	}
	onSite(t, s, func(ctx context.Context, site *site) error {
		ctx, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "greeting", "hello")
		var head, tail metadata.MD
		if _, err := site.UnaryCall(ctx, request("x"), grpc.Header(&head), grpc.Trailer(&tail)); err != nil {
			return err
		}
		check("unary", head, header)
		check("unary", tail, trailer)

		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if md := stream.Trailer(); md != nil {
			t.Errorf("a trailer before the end: %v", md)
		}
		if err := asyncio.Sleep(stream.Context(), 0); err != nil {
			t.Errorf("the stream's context does not lead to the loop: %v", err)
		}
		head, err = stream.Header()
		if err != nil {
			return err
		}
		check("stream", head, header, "second", "third")
		if p, ok := peer.FromContext(stream.Context()); !ok || p.Addr == nil {
			t.Errorf("the peer of the stream is %v", p)
		}
		if _, err := stream.Recv(); ignoreEOF(err) != nil {
			return err
		}
		check("stream", stream.Trailer(), trailer, "second")
		if err := asyncio.Sleep(stream.Context(), time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("an await with the context of a stream that is over: %v", err)
		}
		return nil
	})
}

// TestClient_AfterACancel: a stream that a cancel has ended says so, with a status, and cancels
// nobody who still uses it.
func TestClient_AfterACancel(t *testing.T) {
	h := newHold()
	onSite(t, &h.service, func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		err = asyncio.Timeout(ctx, 0, func(context.Context, *asyncio.TimeoutScope) error {
			_, err := stream.Recv()
			return err
		})
		if !errors.Is(err, asyncio.ErrTimeout) {
			t.Errorf("Timeout around Recv ends with %v", err)
		}
		_, err = stream.Recv()
		if status.Code(err) != codes.Canceled || errors.Is(err, asyncio.ErrCancelled) || !strings.Contains(err.Error(), "the RPC was ended when a task") {
			t.Errorf("the next Recv ends with %v", err)
		}
		if err := stream.Send(message("x")); err != io.EOF {
			t.Errorf("the next Send ends with %v", err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Errorf("CloseSend ends with %v", err)
		}
		return nil
	})
}

// TestClient_GoesOnAfterALimitedWait is how a stream survives that a message does not come in time.
func TestClient_GoesOnAfterALimitedWait(t *testing.T) {
	var release asyncio.Event
	s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
		if err := release.Wait(stream.Context()); err != nil {
			return err
		}
		return stream.Send(reply("late"))
	}}
	onSite(t, s, func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		next := asyncio.CreateTask(ctx, func(context.Context) (string, error) {
			m, err := stream.Recv()
			return said(m), err
		})
		done, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{next}, asyncio.WaitTimeout(10*time.Millisecond))
		if err != nil || len(done) > 0 {
			return fmt.Errorf("%v, %w", done, err)
		}
		release.Set()
		if text, err := next.Await(ctx); text != "late" || err != nil {
			t.Errorf("received %q, %v", text, err)
		}
		return nil
	})
}

// TestClient_OneTaskForEachDirection: a second receiver or sender is refused, and does no harm.
func TestClient_OneTaskForEachDirection(t *testing.T) {
	onSite(t, echo(), func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		first := asyncio.CreateTask(ctx, func(context.Context) (string, error) {
			m, err := stream.Recv()
			return said(m), err
		})
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if _, err := stream.Recv(); !errors.Is(err, asyncio.ErrBusy) || status.Code(err) != codes.Internal {
			t.Errorf("a second Recv ends with %v", err)
		}
		if _, err := stream.Header(); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("Header during a Recv ends with %v", err)
		}
		sender := spawn(ctx, func(context.Context) error { return stream.Send(message("hello")) })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if err := stream.Send(message("intruder")); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Send ends with %v", err)
		}
		if err := stream.CloseSend(); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("CloseSend during a Send ends with %v", err)
		}
		if _, err := sender.Await(ctx); err != nil {
			t.Error(err)
		}
		if text, err := first.Await(ctx); text != "hello" || err != nil {
			t.Errorf("received %q, %v", text, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("the end is %v", err)
		}
		return nil
	})
}

// TestClient_UpAndDown: streams with messages in one direction only.
func TestClient_UpAndDown(t *testing.T) {
	s := &service{
		up: func(stream testgrpc.TestService_StreamingInputCallServer) error {
			total := 0
			for {
				m, err := stream.Recv()
				if err == io.EOF {
					return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)})
				} else if err != nil {
					return err
				}
				total += len(said(m))
			}
		},
		down: func(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
			for i := range 100 {
				if err := stream.Send(reply(fmt.Sprintf("%s %d", said(req), i))); err != nil {
					return err
				}
			}
			stream.SetTrailer(metadata.Pairs("a-trailer", "set"))
			return nil
		},
	}
	onSite(t, s, func(ctx context.Context, site *site) error {
		up, err := site.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		for range 100 {
			if err := up.Send(&testgrpc.StreamingInputCallRequest{Payload: payload("12345")}); err != nil {
				return err
			}
		}
		if r, err := up.CloseAndRecv(); err != nil || r.AggregatedPayloadSize != 500 {
			t.Errorf("the sum is %v, %v", r, err)
		}
		down, err := site.StreamingOutputCall(ctx, message("number"))
		if err != nil {
			return err
		}
		for i := range 100 {
			m, err := down.Recv()
			if want := fmt.Sprintf("number %d", i); err != nil || said(m) != want {
				t.Fatalf("received %v, %v, want %q", m, err, want)
			}
		}
		for range 2 {
			if _, err := down.Recv(); err != io.EOF {
				t.Errorf("the end is %v", err)
			}
		}
		if md := down.Trailer(); len(md.Get("a-trailer")) != 1 {
			t.Errorf("the trailer is %v", md)
		}
		return nil
	})
}
