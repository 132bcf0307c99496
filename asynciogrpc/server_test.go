package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciogrpc"
)

// TestServer_Answers: what a client sees when a handler ends, and what the loop reports.
func TestServer_Answers(t *testing.T) {
	type ending struct {
		name    string
		end     func(ctx context.Context) error
		code    codes.Code
		text    string // in the client's message
		reports string // in the only report, "" if there is none
	}
	endings := []ending{
		{"no error", func(context.Context) error { return nil }, codes.OK, "", ""},
		{"status", func(context.Context) error { return status.Error(codes.NotFound, "nothing there") }, codes.NotFound, "nothing there", ""},
		{"plain error", func(context.Context) error { return errWanted }, codes.Unknown, "wanted", ""},
		{"timeout", func(ctx context.Context) error {
			return asyncio.FailAfter(ctx, 0, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		}, codes.DeadlineExceeded, "timed out", ""},
		{"cancel", func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel("shutting down")
			return asyncio.Sleep(ctx, time.Hour)
		}, codes.Unavailable, "the handler was cancelled", ""},
		{"wrapped cancel", func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel()
			return fmt.Errorf("while sleeping: %w", errors.Join(asyncio.Sleep(ctx, time.Hour), nil))
		}, codes.Unavailable, "the handler was cancelled", ""},
		{"cancel with a status", func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel()
			_ = asyncio.Sleep(ctx, time.Hour)
			return status.Error(codes.ResourceExhausted, "too slow")
		}, codes.ResourceExhausted, "too slow", ""},
		{"cancel beside an error", func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel()
			return errors.Join(asyncio.Sleep(ctx, time.Hour), errWanted)
		}, codes.Canceled, "wanted", ""},
		{"panic", func(context.Context) error { panic("a secret") }, codes.Internal, "the handler panicked or exited", "a secret"},
		{"panic of a child", func(ctx context.Context) error {
			_, err := spawn(ctx, func(context.Context) error { panic(errWanted) }).Await(ctx)
			return err
		}, codes.Internal, "the handler panicked or exited", "wanted"},
	}
	for _, c := range endings {
		s := &service{
			unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
				return response("x"), c.end(ctx)
			},
			duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
				if err := c.end(stream.Context()); err != nil {
					return err
				}
				return stream.Send(reply("x"))
			},
		}
		for _, way := range []string{"unary", "duplex"} {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				onSite(t, s, func(ctx context.Context, site *site) error {
					err := waits[way](ctx, site)
					got := status.Convert(err)
					if got.Code() != c.code || !strings.Contains(got.Message(), c.text) || strings.Contains(got.Message(), "secret") {
						t.Errorf("the client sees %v", err)
					}
					reports := site.reports()
					if c.reports == "" && len(reports) > 0 || c.reports != "" && (len(reports) != 1 || !strings.Contains(reports[0], c.reports)) {
						t.Errorf("the loop reported %q", reports)
					}
					return nil
				})
			})
		}
	}
}

// TestServer_Goexit: a handler that exits its goroutine ends its RPC, and the run, as in any task.
func TestServer_Goexit(t *testing.T) {
	s := &service{unary: func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		runtime.Goexit()
		return nil, nil
	}}
	l := asyncio.NewEventLoop(t.Context())
	client := connect(t, listen(t, s, serverOptions(l)...))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer l.Close()
		_ = l.RunForever() // the Goexit goes on here
	}()
	_, err := client.UnaryCall(t.Context(), request("x"))
	if status.Code(err) != codes.Internal {
		t.Errorf("the client sees %v", err)
	}
	<-ended
}

// TestServer_ClientGone: when the client has gone, awaits of the handler fail, on its stream too,
// and its task is not cancelled.
func TestServer_ClientGone(t *testing.T) {
	for _, way := range []string{"await", "Recv", "Send"} {
		t.Run(way, func(t *testing.T) {
			started, gone := asyncio.NewQueue[string](0), asyncio.NewQueue[error](0)
			s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) (err error) {
				if err := started.PutNowait("started"); err != nil {
					return err
				}
				switch ctx := stream.Context(); way {
				case "await":
					err = asyncio.Sleep(ctx, time.Hour)
				case "Recv":
					_, err = stream.Recv()
				case "Send":
					for err == nil {
						err = stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, 64<<10)}})
					}
				}
				if asyncio.CurrentTask(stream.Context()).Cancelling() > 0 {
					err = fmt.Errorf("cancelled: %w", err)
				}
				return errors.Join(err, gone.PutNowait(err))
			}}
			onSite(t, s, func(ctx context.Context, site *site) error {
				inner, cancel := asyncio.WithCancel(ctx)
				defer cancel()
				if _, err := site.FullDuplexCall(inner); err != nil {
					return err
				}
				if _, err := started.Get(ctx); err != nil {
					return err
				}
				cancel()
				err, e := gone.Get(ctx)
				if !errors.Is(err, context.Canceled) || errors.Is(err, asyncio.ErrCancelled) || status.Code(err) != codes.Canceled && way != "await" {
					t.Errorf("the handler sees %v", err)
				}
				return e
			})
		})
	}
}

// TestServer_Deadline: a handler's ctx ends at the deadline that the client has sent.
func TestServer_Deadline(t *testing.T) {
	seen := make(chan error, 1)
	s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
		_, err := stream.Recv()
		seen <- err
		return err
	}}
	l := asyncio.NewEventLoop(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.RunForever() }()
	client := connect(t, listen(t, s, serverOptions(l)...))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the client sees %v", err)
	}
	// the client's cancel may be faster than the deadline on the server
	if err := <-seen; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("the handler sees %v", err)
	}
	_, _ = l.CallSoonThreadsafe(l.Stop)
	if err := errors.Join(<-ended, l.Close()); err != nil {
		t.Error(err)
	}
}

// TestServer_CancelledRecvLosesNothing: the message that a cancelled Recv waited for is received by
// the next one, in order, and the argument of the cancelled one stays as it was.
func TestServer_CancelledRecvLosesNothing(t *testing.T) {
	const messages = 200
	cancelled := 0
	s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
		ctx := stream.Context()
		for i := 0; ; {
			m := message("untouched")
			var err error
			timeout := time.Duration(asyncio.Rand(ctx).IntN(300)) * time.Microsecond
			e := asyncio.Timeout(ctx, timeout, func(context.Context, *asyncio.TimeoutScope) error {
				err = stream.RecvMsg(m)
				return err
			})
			switch {
			case errors.Is(e, asyncio.ErrTimeout) && errors.Is(err, asyncio.ErrCancelled):
				cancelled++
				if m.ResponseType++; said(m) != "untouched" {
					return status.Errorf(codes.DataLoss, "a cancelled RecvMsg has left %v", m)
				}
				continue
			case e == io.EOF:
				return stream.Send(reply(fmt.Sprint(i)))
			case err != nil:
				return err
			}
			if said(m) != fmt.Sprint(i) || len(m.ResponseParameters) != 1 || m.ResponseStatus.GetMessage() != "x" {
				return status.Errorf(codes.DataLoss, "message %d is %v", i, m)
			}
			i++
		}
	}}
	onSite(t, s, func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for i := range messages {
			m := message(fmt.Sprint(i))
			m.ResponseParameters = []*testgrpc.ResponseParameters{{Size: 1}}
			m.ResponseStatus = &testgrpc.EchoStatus{Message: "x"}
			if err := stream.Send(m); err != nil {
				break // Recv has the reason
			}
			if err := asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(300))*time.Microsecond); err != nil {
				return err
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		m, err := stream.Recv()
		if said(m) != fmt.Sprint(messages) {
			t.Errorf("%s of %d messages, %v", said(m), messages, err)
		}
		if cancelled == 0 {
			t.Error("no Recv was cancelled")
		}
		t.Logf("%d messages, %d Recvs cancelled", messages, cancelled)
		return nil
	})
}

// TestServer_CancelledSend: a Send that was cancelled while the client did not read goes on. The
// next messages, and the end of the RPC, come after it.
func TestServer_CancelledSend(t *testing.T) {
	const size = 64 << 10
	for _, ending := range []string{"return", "Send"} {
		t.Run(ending, func(t *testing.T) {
			blocked := asyncio.NewQueue[int](0)
			s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
				for i := int32(0); ; i++ {
					m := &testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Type: testgrpc.PayloadType(i), Body: make([]byte, size)}}
					err := asyncio.Timeout(stream.Context(), 50*time.Millisecond, func(context.Context, *asyncio.TimeoutScope) error {
						return stream.Send(m)
					})
					if errors.Is(err, asyncio.ErrTimeout) {
						if err := blocked.PutNowait(int(i) + 1); err != nil || ending == "return" {
							return err
						}
						return stream.Send(reply("last")) // the first has not gone out yet
					} else if err != nil {
						return err
					}
				}
			}}
			onSite(t, s, func(ctx context.Context, site *site) error {
				stream, err := site.FullDuplexCall(ctx)
				if err != nil {
					return err
				}
				sent, err := blocked.Get(ctx)
				if err != nil {
					return err
				}
				for i := range sent {
					m, err := stream.Recv()
					if err != nil || int(m.Payload.Type) != i || len(m.Payload.Body) != size {
						t.Fatalf("message %d of %d: %v, %d bytes", i, sent, err, len(m.GetPayload().GetBody()))
					}
				}
				if ending == "Send" {
					if m, err := stream.Recv(); said(m) != "last" {
						t.Errorf("the last message is %v, %v", m, err)
					}
				}
				if _, err := stream.Recv(); err != io.EOF {
					t.Errorf("the end is %v", err)
				}
				return nil
			})
		})
	}
}

// TestServer_CancelEndsAnRPCThatIsStuck: a cancelled handler ends its RPC at once, although the
// client neither reads nor writes.
func TestServer_CancelEndsAnRPCThatIsStuck(t *testing.T) {
	for _, way := range []string{"Recv", "Send"} {
		t.Run(way, func(t *testing.T) {
			handlers := asyncio.NewQueue[asyncio.AnyTask](0)
			s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
				if err := handlers.PutNowait(asyncio.CurrentTask(stream.Context())); err != nil {
					return err
				}
				if way == "Recv" {
					_, err := stream.Recv()
					return err
				}
				for {
					if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, 64<<10)}}); err != nil {
						return err
					}
				}
			}}
			onSite(t, s, func(ctx context.Context, site *site) error {
				stream, err := site.FullDuplexCall(ctx)
				if err != nil {
					return err
				}
				handler, err := handlers.Get(ctx)
				if err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, 50*time.Millisecond); err != nil { // it gets stuck
					return err
				}
				handler.Cancel("kicked")
				for err == nil {
					_, err = stream.Recv()
				}
				if status.Code(err) != codes.Unavailable {
					t.Errorf("the client sees %v", err)
				}
				return nil
			})
		})
	}
}

// TestServer_OneTaskForEachDirection: a second receiver or sender is refused, and a task that is
// left when the RPC is over may not use the stream.
func TestServer_OneTaskForEachDirection(t *testing.T) {
	late := asyncio.NewQueue[error](0)
	s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
		ctx := stream.Context()
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		var texts []string
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, func(context.Context) error {
				m, err := stream.Recv()
				texts = append(texts, said(m))
				return err
			})
			tg.CreateTask(ctx, func(context.Context) error {
				if _, err := stream.Recv(); !errors.Is(err, asyncio.ErrBusy) {
					return fmt.Errorf("a second Recv ends with %w", err)
				}
				return stream.Send(reply("ready"))
			})
			tg.CreateTask(ctx, func(context.Context) error {
				if err := stream.Send(reply("intruder")); !errors.Is(err, asyncio.ErrBusy) {
					return fmt.Errorf("a second Send ends with %w", err)
				}
				if err := stream.SendHeader(nil); !errors.Is(err, asyncio.ErrBusy) {
					return fmt.Errorf("SendHeader during a Send ends with %w", err)
				}
				return nil
			})
			return nil
		})
		if err != nil || !slices.Equal(texts, []string{"hello"}) {
			return fmt.Errorf("received %q, %w", texts, err)
		}
		handler := asyncio.CurrentTask(ctx)
		asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
			for !handler.Done() {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			_, err := stream.Recv()
			return late.PutNowait(errors.Join(err, stream.Send(reply("late"))))
		}))
		return nil
	}}
	onSite(t, s, func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if m, err := stream.Recv(); said(m) != "ready" || err != nil {
			t.Errorf("received %v, %v", m, err)
		}
		if err := stream.Send(message("hello")); err != nil {
			return err
		}
		if m, err := stream.Recv(); err != io.EOF {
			t.Errorf("received %v, %v", m, err)
		}
		err, e := late.Get(ctx)
		if err == nil || strings.Count(err.Error(), "the RPC is over") != 2 {
			t.Errorf("a Recv and a Send after the end: %v", err)
		}
		return e
	})
}

// TestServer_Serve: the ends of Serve.
func TestServer_Serve(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(ctx context.Context, srv *grpc.Server, ln net.Listener, serve *asyncio.Task[asyncio.None]) error
		want error
		code codes.Code // of the RPC that is under way
	}{
		{"Stop", func(_ context.Context, srv *grpc.Server, _ net.Listener, _ *asyncio.Task[asyncio.None]) error {
			srv.Stop()
			return nil
		}, nil, codes.Unavailable},
		{"GracefulStop, cancelled", func(ctx context.Context, srv *grpc.Server, _ net.Listener, _ *asyncio.Task[asyncio.None]) error {
			err := asyncio.Timeout(ctx, 20*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
				return asynciogrpc.GracefulStop(ctx, srv)
			})
			if !errors.Is(err, asyncio.ErrTimeout) {
				return fmt.Errorf("GracefulStop ends with %w", err)
			}
			return nil
		}, nil, codes.Unavailable},
		{"two cancels", func(ctx context.Context, _ *grpc.Server, _ net.Listener, serve *asyncio.Task[asyncio.None]) error {
			serve.Cancel("first")
			if err := asyncio.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			if serve.Done() {
				return errors.New("the first cancel did not wait for the RPC")
			}
			serve.Cancel("second")
			return nil
		}, asyncio.ErrCancelled, codes.Unavailable},
		{"listener closed", func(_ context.Context, _ *grpc.Server, ln net.Listener, _ *asyncio.Task[asyncio.None]) error {
			return ln.Close()
		}, net.ErrClosed, codes.Canceled}, // by the test, afterwards
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHold()
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				srv := grpc.NewServer(serverOptions(l)...)
				testgrpc.RegisterTestServiceServer(srv, &h.service)
				serve := spawn(ctx, func(ctx context.Context) error { return asynciogrpc.Serve(ctx, srv, ln) })
				call := spawn(ctx, func(ctx context.Context) error {
					return waits["unary"](ctx, connect(t, ln.Addr().String(), clientOptions()...))
				})
				if _, err := h.called.Get(ctx); err != nil {
					return err
				}
				if err := c.end(ctx, srv, ln, serve); err != nil {
					return err
				}
				if _, err := serve.Await(ctx); !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("Serve ends with %v, want %v", err, c.want)
				}
				if c.code == codes.Canceled {
					call.Cancel()
				}
				if _, err := call.Await(ctx); status.Code(err) != c.code {
					t.Errorf("the RPC ends with %v", err)
				}
				_, err = h.causes.Get(ctx)
				srv.Stop()
				return err
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServer_GracefulStopWaits: GracefulStop lets the handlers go on until they have ended.
func TestServer_GracefulStopWaits(t *testing.T) {
	var entered, leave asyncio.Event
	s := &service{unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		entered.Set()
		return response("done"), leave.Wait(ctx)
	}}
	onSite(t, s, func(ctx context.Context, site *site) error {
		call := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			m, err := site.UnaryCall(ctx, request("x"))
			return said(m), err
		})
		if err := entered.Wait(ctx); err != nil {
			return err
		}
		stop := spawn(ctx, func(ctx context.Context) error { return asynciogrpc.GracefulStop(ctx, site.srv) })
		if err := asyncio.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if stop.Done() {
			t.Error("GracefulStop did not wait")
		}
		leave.Set()
		if text, err := call.Await(ctx); text != "done" || err != nil {
			t.Errorf("the RPC answers %q, %v", text, err)
		}
		_, err := stop.Await(ctx)
		return err
	})
}
