package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciogrpc"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// A service implements the methods that a test needs; the others are unimplemented.
type service struct {
	testgrpc.UnimplementedTestServiceServer
	unary  func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error)
	down   func(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error
	up     func(stream testgrpc.TestService_StreamingInputCallServer) error
	duplex func(stream testgrpc.TestService_FullDuplexCallServer) error
}

func (s *service) UnaryCall(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if s.unary == nil {
		return s.UnimplementedTestServiceServer.UnaryCall(ctx, req)
	}
	return s.unary(ctx, req)
}

func (s *service) StreamingOutputCall(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	if s.down == nil {
		return s.UnimplementedTestServiceServer.StreamingOutputCall(req, stream)
	}
	return s.down(req, stream)
}

func (s *service) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	if s.up == nil {
		return s.UnimplementedTestServiceServer.StreamingInputCall(stream)
	}
	return s.up(stream)
}

func (s *service) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	if s.duplex == nil {
		return s.UnimplementedTestServiceServer.FullDuplexCall(stream)
	}
	return s.duplex(stream)
}

// payload makes the payload of a message that says text.
func payload(text string) *testgrpc.Payload { return &testgrpc.Payload{Body: []byte(text)} }

func request(text string) *testgrpc.SimpleRequest {
	return &testgrpc.SimpleRequest{Payload: payload(text)}
}

func response(text string) *testgrpc.SimpleResponse {
	return &testgrpc.SimpleResponse{Payload: payload(text)}
}

func message(text string) *testgrpc.StreamingOutputCallRequest {
	return &testgrpc.StreamingOutputCallRequest{Payload: payload(text)}
}

func reply(text string) *testgrpc.StreamingOutputCallResponse {
	return &testgrpc.StreamingOutputCallResponse{Payload: payload(text)}
}

// said is what a message says.
func said(m interface{ GetPayload() *testgrpc.Payload }) string {
	return string(m.GetPayload().GetBody())
}

// echo answers each request with what that says.
func echo() *service {
	return &service{
		unary: func(_ context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
			return response(said(req)), nil
		},
		duplex: func(stream testgrpc.TestService_FullDuplexCallServer) error {
			for {
				m, err := stream.Recv()
				if err != nil {
					return ignoreEOF(err)
				}
				if err := stream.Send(reply(said(m))); err != nil {
					return err
				}
			}
		},
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// clientOptions and serverOptions are the interceptors of this package.
func clientOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()),
		grpc.WithChainStreamInterceptor(asynciogrpc.StreamClientInterceptor()),
	}
}

func serverOptions(l *asyncio.EventLoop) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(l)),
		grpc.ChainStreamInterceptor(asynciogrpc.StreamServerInterceptor(l)),
	}
}

// listen serves s with opts, until the test ends, and returns the address.
func listen(tb testing.TB, s *service, opts ...grpc.ServerOption) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	tb.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return ln.Addr().String()
}

// connect makes a client of the server at address, until the test ends.
func connect(tb testing.TB, address string, opts ...grpc.DialOption) testgrpc.TestServiceClient {
	tb.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cc.Close(); err != nil {
			tb.Error(err)
		}
	})
	return testgrpc.NewTestServiceClient(cc)
}

// overlaps counts the operations that began, on gRPC's own streams, while another one of the same
// direction was under way, which gRPC forbids.
var overlaps atomic.Int32

// A line is one direction of a stream of gRPC's.
type line struct{ busy atomic.Bool }

func (l *line) enter() (leave func()) {
	if l.busy.Swap(true) {
		overlaps.Add(1)
	}
	return func() { l.busy.Store(false) }
}

// watchServer and watchClient are interceptors that count overlaps. They belong between those of
// this package and gRPC.
func watchServer(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &watchedServer{ServerStream: ss})
}

func watchClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	inner, err := streamer(ctx, desc, cc, method, opts...)
	return &watchedClient{ClientStream: inner}, err
}

type watchedServer struct {
	grpc.ServerStream
	sending, receiving line
}

func (s *watchedServer) SendMsg(m any) error {
	defer s.sending.enter()()
	return s.ServerStream.SendMsg(m)
}

func (s *watchedServer) SendHeader(md metadata.MD) error {
	defer s.sending.enter()()
	return s.ServerStream.SendHeader(md)
}

func (s *watchedServer) RecvMsg(m any) error {
	defer s.receiving.enter()()
	return s.ServerStream.RecvMsg(m)
}

type watchedClient struct {
	grpc.ClientStream
	sending, receiving line
}

func (s *watchedClient) SendMsg(m any) error {
	defer s.sending.enter()()
	return s.ClientStream.SendMsg(m)
}

func (s *watchedClient) CloseSend() error {
	defer s.sending.enter()()
	return s.ClientStream.CloseSend()
}

func (s *watchedClient) RecvMsg(m any) error {
	defer s.receiving.enter()()
	return s.ClientStream.RecvMsg(m)
}

func (s *watchedClient) Header() (metadata.MD, error) {
	defer s.receiving.enter()()
	return s.ClientStream.Header()
}

// A site is a server whose handlers are tasks of a loop, and a client for tasks of that loop.
type site struct {
	testgrpc.TestServiceClient
	cc   *grpc.ClientConn
	srv  *grpc.Server
	loop *asyncio.EventLoop

	mu       sync.Mutex
	reported []string
}

// reports returns what the exception handler was told.
func (s *site) reports() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reported)
}

// onSite runs body in a task, with a client of s. Both sides have the interceptors of this package,
// in front of those in opts.
func onSite(t *testing.T, s *service, body func(ctx context.Context, site *site) error, opts ...grpc.DialOption) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			return withSite(ctx, s, packageNet, opts, body)
		})
	}), asyncio.DebugMode(true))
	if err != nil {
		t.Error(err)
	}
}

// A network is how the two sides of a site reach each other.
type network struct {
	listen func(ctx context.Context) (net.Listener, error)
	dialer func(ctx context.Context) func(ctx context.Context, network, address string) (net.Conn, error)
}

var (
	packageNet = network{
		func(context.Context) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		func(context.Context) func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext
		},
	}
	// the connections belong to the loop, and gRPC's goroutines have views of them
	ofTheLoop = network{
		func(ctx context.Context) (net.Listener, error) {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			return ln.Threadsafe(), nil
		},
		func(ctx context.Context) func(ctx context.Context, network, address string) (net.Conn, error) {
			return asyncio.ThreadsafeDialer(ctx)
		},
	}
)

func withSite(ctx context.Context, s *service, n network, opts []grpc.DialOption, body func(ctx context.Context, site *site) error) (err error) {
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	site := &site{loop: l}
	l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
		site.mu.Lock()
		defer site.mu.Unlock()
		site.reported = append(site.reported, fmt.Sprintf("%s: %v", c.Message, c.Exception))
	})
	ln, err := n.listen(ctx)
	if err != nil {
		return err
	}
	site.srv = grpc.NewServer(append([]grpc.ServerOption{grpc.ChainStreamInterceptor(watchServer)}, serverOptions(l)...)...)
	testgrpc.RegisterTestServiceServer(site.srv, s)
	server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		return asynciogrpc.Serve(ctx, site.srv, ln)
	}))
	dial := n.dialer(ctx)
	opts = append(append(clientOptions(), opts...), grpc.WithChainStreamInterceptor(watchClient), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
	site.cc, err = grpc.NewClient("passthrough:///"+ln.Addr().String(), opts...)
	if err != nil {
		return err
	}
	site.TestServiceClient = testgrpc.NewTestServiceClient(site.cc)
	defer func() {
		closing := asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
			if err := site.cc.Close(); err != nil {
				return err
			}
			if err := asynciogrpc.GracefulStop(ctx, site.srv); err != nil {
				return err
			}
			_, err := server.Await(ctx)
			return err
		})
		err = errors.Join(err, closing)
	}()
	return body(ctx, site)
}

// spawn starts body as a task.
func spawn(ctx context.Context, body func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, asyncio.Do(body))
}
