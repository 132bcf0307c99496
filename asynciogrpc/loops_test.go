package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciogrpc"
)

// TestLoops_WhoCalls: which callers a client suspends, which it blocks, and which it refuses.
func TestLoops_WhoCalls(t *testing.T) {
	address := listen(t, echo())
	client := connect(t, address, clientOptions()...)
	other := asyncio.NewEventLoop(t.Context())
	otherEnded := make(chan error, 1)
	go func() { otherEnded <- other.RunForever() }()
	defer func() {
		_, _ = other.CallSoonThreadsafe(other.Stop)
		if err := errors.Join(<-otherEnded, other.Close()); err != nil {
			t.Error(err)
		}
	}()
	call := func(ctx context.Context) error { return waits["unary"](ctx, client) }
	talk := func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(message("x")); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	callers := map[string]struct {
		run  func(ctx context.Context, call func(ctx context.Context) error) error
		want error
	}{
		"a task": {func(ctx context.Context, call func(ctx context.Context) error) error {
			return call(ctx)
		}, nil},
		"ToThread": {func(ctx context.Context, call func(ctx context.Context) error) error {
			_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) { return 0, call(ctx) })
			return err
		}, nil},
		"a goroutine with a context of its own": {func(ctx context.Context, call func(ctx context.Context) error) error {
			done := make(chan error, 1)
			go func() { done <- call(context.Background()) }()
			err, _, e := asyncio.Recv(ctx, done)
			return errors.Join(err, e)
		}, nil},
		"a goroutine with a task's context": {func(ctx context.Context, call func(ctx context.Context) error) error {
			done := make(chan error, 1)
			go func() { done <- call(ctx) }()
			err, _, e := asyncio.Recv(ctx, done)
			return errors.Join(err, e)
		}, nil},
		"a callback": {func(ctx context.Context, call func(ctx context.Context) error) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			done := asyncio.CreateFuture[error](ctx)
			l.CallSoon(func() { _ = done.SetResult(call(ctx)) })
			err, e := done.Await(ctx)
			return errors.Join(err, e)
		}, asyncio.ErrNotInTask},
		"a task of another loop": {func(ctx context.Context, call func(ctx context.Context) error) error {
			_, err := asyncio.Call(ctx, other, func(context.Context) (int, error) { return 0, call(ctx) })
			return err
		}, asyncio.ErrForeignGoroutine},
	}
	for who, c := range callers {
		for what, call := range map[string]func(ctx context.Context) error{"unary": call, "stream": talk} {
			for _, debug := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/debug=%v", who, what, debug), func(t *testing.T) {
					_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
						if err := c.run(ctx, call); !errors.Is(err, c.want) || c.want == nil && err != nil {
							t.Errorf("the call ends with %v, want %v", err, c.want)
						}
						return nil
					}), asyncio.DebugMode(debug))
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// TestLoops_StreamsAreTheLoops: a stream of a task refuses goroutines and callbacks, on both sides.
func TestLoops_StreamsAreTheLoops(t *testing.T) {
	checked := 0
	refuses := func(ctx context.Context, methods map[string]func() error) error {
		for _, name := range slices.Sorted(maps.Keys(methods)) {
			method := methods[name]
			done := make(chan error, 1)
			go func() { done <- method() }()
			if err, _, e := asyncio.Recv(ctx, done); !errors.Is(err, asyncio.ErrForeignGoroutine) || e != nil {
				return fmt.Errorf("%s on a goroutine ends with %w, %w", name, err, e)
			}
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			called := asyncio.CreateFuture[error](ctx)
			l.CallSoon(func() { _ = called.SetResult(method()) })
			if err, e := called.Await(ctx); !errors.Is(err, asyncio.ErrNotInTask) || e != nil {
				return fmt.Errorf("%s in a callback ends with %w, %w", name, err, e)
			}
			checked++
		}
		return nil
	}
	s := &service{duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
		return refuses(stream.Context(), map[string]func() error{
			"RecvMsg":    func() error { return stream.RecvMsg(message("")) },
			"SendMsg":    func() error { return stream.SendMsg(reply("")) },
			"SendHeader": func() error { return stream.SendHeader(nil) },
		})
	}}
	onSite(t, s, func(ctx context.Context, site *site) error {
		stream, err := site.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if _, err := stream.Recv(); ignoreEOF(err) != nil {
			t.Error(err)
		}
		err = refuses(ctx, map[string]func() error{
			"RecvMsg":   func() error { return stream.RecvMsg(reply("")) },
			"SendMsg":   func() error { return stream.SendMsg(message("")) },
			"CloseSend": stream.CloseSend,
			"Header": func() error {
				_, err := stream.Header()
				return err
			},
		})
		if checked != 7 {
			t.Errorf("%d methods were checked", checked)
		}
		return err
	})
}

// TestLoops_Group: the RPCs go to the loops of a group in turn, and each is a task of one.
func TestLoops_Group(t *testing.T) {
	var mu sync.Mutex
	served := make(map[*asyncio.EventLoop]int)
	note := func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		served[l]++
		return nil
	}
	s := echo()
	unary, duplex := s.unary, s.duplex
	s.unary = func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		if err := errors.Join(note(ctx), asyncio.Sleep(ctx, 0)); err != nil {
			return nil, err
		}
		return unary(ctx, req)
	}
	s.duplex = func(stream testgrpc.TestService_FullDuplexCallServer) error {
		if err := note(stream.Context()); err != nil {
			return err
		}
		return duplex(stream)
	}
	const loops, calls = 3, 30
	_, err := asyncio.RunLoopGroup(t.Context(), loops, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		address := listen(t, s, grpc.ChainUnaryInterceptor(asynciogrpc.GroupUnaryServerInterceptor(g)), grpc.ChainStreamInterceptor(asynciogrpc.GroupStreamServerInterceptor(g)))
		client := connect(t, address, clientOptions()...)
		return asyncio.None{}, g.Each(ctx, func(ctx context.Context, i int) error {
			for n := range calls {
				text := fmt.Sprintf("call %d of loop %d", n, i)
				m, err := client.UnaryCall(ctx, request(text))
				if err != nil || said(m) != text {
					return fmt.Errorf("%v, %w", m, err)
				}
				stream, err := client.FullDuplexCall(ctx)
				if err != nil {
					return err
				}
				if err := errors.Join(stream.Send(message(text)), stream.CloseSend()); err != nil {
					return err
				}
				r, err := stream.Recv()
				if err != nil || said(r) != text {
					return fmt.Errorf("%v, %w", r, err)
				}
				if _, err := stream.Recv(); ignoreEOF(err) != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
	total := 0
	for _, n := range served {
		total += n
	}
	if len(served) != loops || total != 2*loops*calls {
		t.Errorf("the RPCs of each loop: %v", served)
	}
}

// TestLoops_Chain: interceptors before the server's and behind the client's run on goroutines, the
// others in the task.
func TestLoops_Chain(t *testing.T) {
	var mu sync.Mutex
	var order []string
	note := func(ctx context.Context, where string) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := asyncio.GetRunningLoop(ctx); err == nil {
			where += " in " + asyncio.CurrentTask(ctx).GetName()
		}
		order = append(order, where)
	}
	type key struct{}
	serverUnary := func(where string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			note(ctx, where)
			return handler(context.WithValue(ctx, key{}, where), req)
		}
	}
	serverStream := func(where string) grpc.StreamServerInterceptor {
		return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			note(ss.Context(), where)
			return handler(srv, ss)
		}
	}
	clientUnary := func(where string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			note(ctx, where)
			return invoker(ctx, method, req, reply, cc, opts...)
		}
	}
	clientStream := func(where string) grpc.StreamClientInterceptor {
		return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			note(ctx, where)
			return streamer(ctx, desc, cc, method, opts...)
		}
	}
	s := echo()
	unary := s.unary
	s.unary = func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		if got := ctx.Value(key{}); got != "server behind" {
			return nil, fmt.Errorf("the value is %v", got)
		}
		return unary(ctx, req)
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.CurrentTask(ctx).SetName("main")
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		address := listen(t, s,
			grpc.ChainUnaryInterceptor(serverUnary("server before"), asynciogrpc.UnaryServerInterceptor(l), serverUnary("server behind")),
			grpc.ChainStreamInterceptor(serverStream("server before"), asynciogrpc.StreamServerInterceptor(l), serverStream("server behind")))
		client := connect(t, address,
			grpc.WithChainUnaryInterceptor(clientUnary("client before"), asynciogrpc.UnaryClientInterceptor(), clientUnary("client behind")),
			grpc.WithChainStreamInterceptor(clientStream("client before"), asynciogrpc.StreamClientInterceptor(), clientStream("client behind")))
		for way, method := range map[string]string{"unary": "UnaryCall", "duplex": "FullDuplexCall"} {
			order = nil
			err := asyncio.Timeout(ctx, 50*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return waits[way](ctx, client) })
			want := []string{"client before in main", "client behind", "server before", "server behind in /grpc.testing.TestService/" + method}
			mu.Lock()
			if !slices.Equal(order, want) {
				t.Errorf("%s: the order is %q, want %q; %v", way, order, want, err)
			}
			mu.Unlock()
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

// TestLoops_Close: a loop that closes ends the RPCs of its tasks, those that they serve and those
// that they wait for, and leaves nothing behind. TestMain sees goroutines.
func TestLoops_Close(t *testing.T) {
	h := newHold()
	plain := make(chan error, 10) // how the RPCs end that other goroutines wait for
	for way, wait := range waits {
		t.Run(way, func(t *testing.T) {
			l := asyncio.NewEventLoop(t.Context())
			address := listen(t, &h.service, serverOptions(l)...)
			inTasks, onGoroutines := connect(t, address, clientOptions()...), connect(t, address)
			unwound := 0
			_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
				spawn(ctx, func(ctx context.Context) error {
					defer func() { unwound++ }()
					return wait(ctx, inTasks)
				})
				go func() { plain <- wait(context.Background(), onGoroutines) }()
				for range 2 {
					if _, err := h.called.Get(ctx); err != nil {
						return err
					}
				}
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
			l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
				if !strings.Contains(c.Message, "destroyed but it is pending") {
					t.Errorf("reported: %s: %v", c.Message, c.Exception)
				}
			})
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if unwound != 1 {
				t.Error("the task was not unwound")
			}
			if err := <-plain; status.Code(err) != codes.Unavailable {
				t.Errorf("the RPC that was under way ends with %v", err)
			}
			if err := wait(t.Context(), onGoroutines); status.Code(err) != codes.Unavailable {
				t.Errorf("an RPC after that ends with %v", err)
			}
		})
	}
}

// TestLoops_CloseWaits: when a loop that closes unwinds a task, the goroutine that made a call for
// it has ended. The race detector sees if it has not.
func TestLoops_CloseWaits(t *testing.T) {
	h := newHold()
	ended := false
	late := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoker(ctx, method, req, reply, cc, opts...)
		for range 1000 {
			runtime.Gosched()
		}
		ended = true
		return err
	}
	l := asyncio.NewEventLoop(t.Context())
	// a task is destroyed
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
	client := connect(t, listen(t, &h.service, serverOptions(l)...), append(clientOptions(), grpc.WithChainUnaryInterceptor(late))...)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		spawn(ctx, func(ctx context.Context) error {
			defer func() {
				if !ended {
					t.Error("the call goes on while its task is unwound")
				}
			}()
			return waits["unary"](ctx, client)
		})
		_, err := h.called.Get(ctx)
		return err
	}))
	if err := errors.Join(err, l.Close()); err != nil {
		t.Error(err)
	}
}

// TestLoops_CloseRefuses: a deferred function of a task that a closing loop unwinds gets an error
// at once instead of an RPC.
func TestLoops_CloseRefuses(t *testing.T) {
	client := connect(t, listen(t, echo()), clientOptions()...)
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
	var errs []error
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		spawn(ctx, func(ctx context.Context) error {
			stream, err := client.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			defer func() {
				_, err := client.UnaryCall(ctx, request("x"))
				errs = append(errs, err, stream.Send(message("x")), waits["duplex"](ctx, client))
			}()
			_, err = stream.Recv()
			return err
		})
		return asyncio.Sleep(ctx, 50*time.Millisecond)
	}))
	if err := errors.Join(err, l.Close()); err != nil {
		t.Error(err)
	}
	for _, err := range errs {
		if !errors.Is(err, asyncio.ErrLoopClosed) || status.Code(err) != codes.Unavailable {
			t.Errorf("while the loop closes: %v", err)
		}
	}
	if len(errs) != 3 {
		t.Errorf("errors: %v", errs)
	}
}

// TestLoops_NilArguments: mistakes are named.
func TestLoops_NilArguments(t *testing.T) {
	for name, f := range map[string]func(){
		"UnaryServerInterceptor":       func() { asynciogrpc.UnaryServerInterceptor(nil) },
		"StreamServerInterceptor":      func() { asynciogrpc.StreamServerInterceptor(nil) },
		"GroupUnaryServerInterceptor":  func() { asynciogrpc.GroupUnaryServerInterceptor(nil) },
		"GroupStreamServerInterceptor": func() { asynciogrpc.GroupStreamServerInterceptor(nil) },
	} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if !errors.Is(err, asyncio.ErrInvalidArgument) || !strings.Contains(err.Error(), "asynciogrpc."+name) {
					t.Errorf("%s panics with %v", name, err)
				}
			}()
			f()
		}()
	}
	for _, err := range []error{
		asynciogrpc.Serve(t.Context(), nil, nil),
		asynciogrpc.GracefulStop(t.Context(), nil),
	} {
		if !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("the error is %v", err)
		}
	}
	srv := grpc.NewServer()
	defer srv.Stop()
	if err := asynciogrpc.GracefulStop(t.Context(), srv); !errors.Is(err, asyncio.ErrNotInTask) {
		t.Errorf("GracefulStop outside of a task: %v", err)
	}
}

// TestLoops_OwnConnectionsClose: gRPC's goroutines have views of connections of a loop. When that
// closes, so do the connections; the server and the ClientConn fail and can be closed afterwards.
func TestLoops_OwnConnectionsClose(t *testing.T) {
	for way, wait := range waits {
		t.Run(way, func(t *testing.T) {
			h := newHold()
			l := asyncio.NewEventLoop(t.Context())
			// tasks are destroyed
			l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
			srv := grpc.NewServer(serverOptions(l)...)
			testgrpc.RegisterTestServiceServer(srv, &h.service)
			served := make(chan error, 1)
			var client testgrpc.TestServiceClient
			_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
				ln, err := ofTheLoop.listen(ctx)
				if err != nil {
					return err
				}
				go func() { served <- srv.Serve(ln) }()
				dial := ofTheLoop.dialer(ctx)
				client = connect(t, ln.Addr().String(), append(clientOptions(),
					grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))...)
				if _, err := client.EmptyCall(ctx, new(testgrpc.Empty)); status.Code(err) != codes.Unimplemented {
					return fmt.Errorf("the server does not answer: %w", err)
				}
				spawn(ctx, func(ctx context.Context) error { return wait(ctx, client) })
				_, err = h.called.Get(ctx)
				return err
			}))
			if err := errors.Join(err, l.Close()); err != nil {
				t.Error(err)
			}
			if err := waits["unary"](t.Context(), client); status.Code(err) != codes.Unavailable {
				t.Errorf("an RPC on a closed loop ends with %v", err)
			}
			srv.Stop()
			if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve ends with %v", err)
			}
		})
	}
}

// TestLoops_CloseWhileDialling: a task may close a ClientConn while that dials, also if the dial
// function needs the loop.
func TestLoops_CloseWhileDialling(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		var dialling asyncio.Event
		cc, err := grpc.NewClient("passthrough:///anywhere", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				_, err := asyncio.Call(ctx, l, func(ctx context.Context) (int, error) {
					dialling.Set()
					return 0, asyncio.Sleep(ctx, time.Hour)
				})
				return nil, err
			}))
		if err != nil {
			return err
		}
		call := spawn(ctx, func(ctx context.Context) error { return waits["unary"](ctx, testgrpc.NewTestServiceClient(cc)) })
		if err := dialling.Wait(ctx); err != nil {
			return err
		}
		if err := cc.Close(); err != nil {
			return err
		}
		if _, err := call.Await(ctx); status.Code(err) != codes.Canceled || errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("the RPC ends with %v", err)
		}
		return nil
	}), asyncio.DebugMode(true))
	if err != nil {
		t.Error(err)
	}
}
