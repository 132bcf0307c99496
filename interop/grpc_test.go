//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

func TestGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	service := &grpcService{gate: newGate()}
	serveGRPC(t, service, ln)
	runBattery(t, service.gate.server(), grpcRows(ln.Addr().String()))
}

// grpcService is the service of grpc's own tests. It answers a request with the payload; it holds
// the answer back if the request wants the user's name, and the name is the caller's address.
type grpcService struct {
	grpc_testing.UnimplementedTestServiceServer
	gate *gate
}

func (s *grpcService) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	caller, _ := peer.FromContext(ctx)
	if r.FillUsername {
		if err := s.gate.wait(ctx, string(r.Payload.Body)); err != nil {
			return nil, err
		}
	}
	return &grpc_testing.SimpleResponse{Payload: r.Payload, Username: caller.Addr.String()}, nil
}

// serveGRPC serves on goroutines until the test ends.
func serveGRPC(t *testing.T, service grpc_testing.TestServiceServer, ln net.Listener) {
	t.Helper()
	gs := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(gs, service)
	ended := make(chan error, 1)
	go func() { ended <- gs.Serve(ln) }()
	t.Cleanup(func() { gs.Stop(); must(t, <-ended) })
}

func grpcRows(address string) []row {
	gone := outcome{atOnce, takenBack, kept}
	insecurely := grpc.WithTransportCredentials(insecure.NewCredentials())
	return []row{
		{
			library: "grpc-go, unary", way: inThread, sim: "no", cancel: gone, done: gone, closing: endsThem,
			open: func(context.Context, int) (*client, error) {
				cc, err := grpc.NewClient("passthrough:"+address, insecurely)
				if err != nil {
					return nil, err
				}
				return grpcClient(cc), nil
			},
		},
		{
			library: "grpc-go, unary", way: onView, sim: "no", cancel: gone, done: gone, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				dial := asyncio.ThreadsafeDialer(ctx)
				cc, err := grpc.NewClient("passthrough:"+address, insecurely, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
					return dial(ctx, "tcp", address)
				}))
				if err != nil {
					return nil, err
				}
				return grpcClient(cc), nil
			},
		},
		{
			library: "grpc-go, unary", way: ours + " (asynciogrpc)", sim: "no", by: "asynciogrpc",
			cancel: outcome{ended, takenBack, kept}, done: outcome{ended, takenBack, kept}, closing: endsThem,
		},
	}
}

func grpcClient(cc *grpc.ClientConn) *client {
	service := grpc_testing.NewTestServiceClient(cc)
	call := func(ctx context.Context, value string, hold bool) (*grpc_testing.SimpleResponse, error) {
		return service.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(value)}, FillUsername: hold})
	}
	request := func(ctx context.Context, value string, hold bool) (*grpc_testing.SimpleResponse, error) {
		response, err := asyncio.ToThread(ctx, func(ctx context.Context) (*grpc_testing.SimpleResponse, error) { return call(ctx, value, hold) })
		if status.Code(err) == codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
			// gRPC has told the server the deadline, and the server was first to see it pass.
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return response, err
	}
	return &client{
		ask: func(ctx context.Context, value string) (string, error) {
			response, err := request(ctx, value, false)
			return string(response.GetPayload().GetBody()), err
		},
		hold: func(ctx context.Context, value string) (string, error) {
			response, err := request(ctx, value, true)
			return string(response.GetPayload().GetBody()), err
		},
		connection: func(ctx context.Context) (string, error) {
			response, err := request(ctx, "", false)
			return response.GetUsername(), err
		},
		close: inThreadOnly(cc.Close),
		goroutine: func(ctx context.Context, value string) (string, error) {
			response, err := call(ctx, value, false)
			return string(response.GetPayload().GetBody()), err
		},
	}
}
