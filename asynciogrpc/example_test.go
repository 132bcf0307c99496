package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciogrpc"
)

// A board tells how services are. Its handlers are tasks of one loop, so it needs no lock.
type board struct {
	health.UnimplementedHealthServer
	services map[string]health.HealthCheckResponse_ServingStatus
	watchers []*asyncio.Queue[health.HealthCheckResponse_ServingStatus]
}

func (b *board) set(service string, s health.HealthCheckResponse_ServingStatus) {
	b.services[service] = s
	for _, q := range b.watchers {
		_ = q.PutNowait(s) // the queue has no limit
	}
}

func (b *board) Check(_ context.Context, req *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	s, ok := b.services[req.Service]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no %s", req.Service)
	}
	return &health.HealthCheckResponse{Status: s}, nil
}

// Watch sends every change. It may wait for as long as it likes, for a change as for the client.
func (b *board) Watch(req *health.HealthCheckRequest, stream health.Health_WatchServer) error {
	ctx := stream.Context() // leads to the loop, and ends when the client goes
	changes := asyncio.NewQueue[health.HealthCheckResponse_ServingStatus](0)
	b.watchers = append(b.watchers, changes)
	defer func() {
		b.watchers = slices.DeleteFunc(b.watchers, func(q *asyncio.Queue[health.HealthCheckResponse_ServingStatus]) bool { return q == changes })
	}()
	for s := b.services[req.Service]; ; {
		// suspends the task
		if err := stream.Send(&health.HealthCheckResponse{Status: s}); err != nil {
			return err
		}
		var err error
		if s, err = changes.Get(ctx); err != nil {
			return err
		}
	}
}

// serve runs body beside a server of b on the same loop, with a client of it.
func serve(b *board, body func(ctx context.Context, client health.HealthClient) error) error {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		srv := grpc.NewServer(
			grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(l)),
			grpc.ChainStreamInterceptor(asynciogrpc.StreamServerInterceptor(l)))
		health.RegisterHealthServer(srv, b)
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asynciogrpc.Serve(ctx, srv, ln)
		}))

		conn, err := grpc.NewClient(ln.Addr().String(),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()),
			grpc.WithChainStreamInterceptor(asynciogrpc.StreamClientInterceptor()))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := body(ctx, health.NewHealthClient(conn)); err != nil {
			return err
		}
		server.Cancel() // Serve waits for the RPCs that are under way
		if _, err := server.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		return nil
	}))
	return err
}

// A service whose state needs no lock, and a client that calls it, on one loop.
func Example() {
	b := &board{services: map[string]health.HealthCheckResponse_ServingStatus{"db": health.HealthCheckResponse_SERVING}}
	err := serve(b, func(ctx context.Context, client health.HealthClient) error {
		for _, name := range []string{"db", "cache"} {
			// suspends the task
			resp, err := client.Check(ctx, &health.HealthCheckRequest{Service: name})
			fmt.Println(name, resp.GetStatus(), status.Code(err))
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// db SERVING OK
	// cache UNKNOWN NotFound
	// <nil>
}

// A stream ends with the ctx that it was made with. WithCancel ends it on every way out.
func ExampleStreamClientInterceptor() {
	b := &board{services: make(map[string]health.HealthCheckResponse_ServingStatus)}
	err := serve(b, func(ctx context.Context, client health.HealthClient) error {
		ctx, cancel := asyncio.WithCancel(ctx)
		defer cancel()
		stream, err := client.Watch(ctx, &health.HealthCheckRequest{Service: "db"})
		if err != nil {
			return err
		}
		for _, next := range []health.HealthCheckResponse_ServingStatus{health.HealthCheckResponse_SERVING, health.HealthCheckResponse_NOT_SERVING} {
			resp, err := stream.Recv() // suspends the task
			if err != nil {
				return err
			}
			fmt.Println(resp.Status)
			b.set("db", next) // the handler's state: both sides are tasks of one loop
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// UNKNOWN
	// SERVING
	// <nil>
}

// A cancel of a task that waits in Recv ends the RPC. To wait for a limited time and keep the
// stream, receive in a task of its own and wait for that.
func ExampleStreamClientInterceptor_limitedWait() {
	b := &board{services: make(map[string]health.HealthCheckResponse_ServingStatus)}
	err := serve(b, func(ctx context.Context, client health.HealthClient) error {
		ctx, cancel := asyncio.WithCancel(ctx)
		defer cancel()
		stream, err := client.Watch(ctx, &health.HealthCheckRequest{Service: "db"})
		if err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		next := asyncio.CreateTask(ctx, func(context.Context) (*health.HealthCheckResponse, error) { return stream.Recv() })
		done, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{next}, asyncio.WaitTimeout(time.Millisecond))
		fmt.Println(len(done), err)
		b.set("db", health.HealthCheckResponse_SERVING)
		resp, err := next.Await(ctx)
		fmt.Println(resp.GetStatus(), err)
		return nil
	})
	fmt.Println(err)
	// Output:
	// 0 <nil>
	// SERVING <nil>
	// <nil>
}

// What ends a call on this side is told by its reason, and has a code all the same.
func ExampleUnaryClientInterceptor() {
	var never asyncio.Event
	stuck := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return nil, never.Wait(ctx)
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		// stuck is behind the interceptor, so it runs in the task
		srv := grpc.NewServer(grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(l), stuck))
		health.RegisterHealthServer(srv, &board{})
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asynciogrpc.Serve(ctx, srv, ln) }))
		conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()))
		if err != nil {
			return err
		}
		defer conn.Close()
		check := func(ctx context.Context) error {
			_, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
			return err
		}

		err = asyncio.FailAfter(ctx, 10*time.Millisecond, check)
		fmt.Println(errors.Is(err, asyncio.ErrTimeout), err)

		limited, cancel := asyncio.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		err = check(limited)
		fmt.Println(errors.Is(err, context.DeadlineExceeded), status.Code(err))

		task := asyncio.CreateTask(ctx, asyncio.Do(check))
		l.CallLater(10*time.Millisecond, func() { task.Cancel() })
		_, err = task.Await(ctx)
		fmt.Println(task.Cancelled(), status.Code(err))
		return nil
	}))
	fmt.Println(err)
	// Output:
	// true asyncio: timed out
	// true DeadlineExceeded
	// true Canceled
	// <nil>
}

// The connections, too, can be the loop's: gRPC's goroutines get views of them.
func ExampleServe() {
	b := &board{services: map[string]health.HealthCheckResponse_ServingStatus{"db": health.HealthCheckResponse_SERVING}}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		srv := grpc.NewServer(grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(l)))
		health.RegisterHealthServer(srv, b)
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asynciogrpc.Serve(ctx, srv, ln.Threadsafe())
		}))
		dial := asyncio.ThreadsafeDialer(ctx)
		conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithChainUnaryInterceptor(asynciogrpc.UnaryClientInterceptor()))
		if err != nil {
			return err
		}
		resp, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: "db"})
		fmt.Println(resp.GetStatus(), err)
		if err := conn.Close(); err != nil {
			return err
		}
		if err := asynciogrpc.GracefulStop(ctx, srv); err != nil {
			return err
		}
		_, err = server.Await(ctx)
		return err
	}))
	fmt.Println(err)
	// Output:
	// SERVING <nil>
	// <nil>
}
