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
	"github.com/goasyncio/asyncio/asynciogrpc"
)

func TestGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := newGate()
	serveGRPC(t, &grpcService{gate: g}, ln)
	runBattery(t, g.server(), grpcRows(ln.Addr().String()))
}

// grpcService is the service of grpc's own tests. It answers a request with the payload; it holds
// the answer back if the request wants the user's name, and the name is the caller's address.
type grpcService struct {
	grpc_testing.UnimplementedTestServiceServer
	gate interface {
		wait(ctx context.Context, value string) error
	}
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
				return grpcClient(cc, asyncio.ToThread), nil
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
				return grpcClient(cc, asyncio.ToThread), nil
			},
		},
		{
			library: "grpc-go, unary", way: ours + " (asynciogrpc)", sim: "no",
			cancel: outcome{ended, takenBack, kept}, done: outcome{ended, takenBack, kept}, closing: endsThem,
			open: func(context.Context, int) (*client, error) {
				cc, err := grpc.NewClient("passthrough:"+address, insecurely, grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()))
				if err != nil {
					return nil, err
				}
				return grpcClient(cc, inTask), nil
			},
		},
	}
}

// grpcServerRow has handlers that are tasks.
func grpcServerRow(g *loopGate) row {
	return row{
		library: "grpc-go, server", way: ours + " (asynciogrpc)", sim: "no",
		cancel: outcome{atOnce, takenBack, kept}, done: outcome{atOnce, takenBack, kept}, closing: waitsThem,
		open: func(ctx context.Context, _ int) (*client, error) {
			if err := g.begin(ctx); err != nil {
				return nil, err
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			gs := grpc.NewServer(grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(g.loop)))
			grpc_testing.RegisterTestServiceServer(gs, &grpcService{gate: g})
			serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asynciogrpc.Serve(ctx, gs, ln) }))
			cc, err := grpc.NewClient("passthrough:"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			c := grpcClient(cc, asyncio.ToThread)
			c.close = func(ctx context.Context) error {
				serving.Cancel()
				if _, err := serving.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
					return errors.Join(err, cc.Close())
				}
				return inThreadOnly(cc.Close)(ctx)
			}
			return c, nil
		},
	}
}

type grpcCall = func(ctx context.Context) (*grpc_testing.SimpleResponse, error)

// inTask makes a call in the calling task.
func inTask(ctx context.Context, call grpcCall) (*grpc_testing.SimpleResponse, error) {
	return call(ctx)
}

// grpcClient makes a client whose tasks make calls by means of do.
func grpcClient(cc *grpc.ClientConn, do func(ctx context.Context, call grpcCall) (*grpc_testing.SimpleResponse, error)) *client {
	service := grpc_testing.NewTestServiceClient(cc)
	call := func(ctx context.Context, value string, hold bool) (*grpc_testing.SimpleResponse, error) {
		return service.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(value)}, FillUsername: hold})
	}
	request := func(ctx context.Context, value string, hold bool) (*grpc_testing.SimpleResponse, error) {
		response, err := do(ctx, func(ctx context.Context) (*grpc_testing.SimpleResponse, error) { return call(ctx, value, hold) })
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
