package asynciogrpc_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/goasyncio/asyncio"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// loopOf runs a loop until the benchmark ends.
func loopOf(b *testing.B) *asyncio.EventLoop {
	l := asyncio.NewEventLoop(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.RunForever() }()
	b.Cleanup(func() {
		_, _ = l.CallSoonThreadsafe(l.Stop)
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// eachPair runs a benchmark with plain gRPC, with tasks on one side, and on both.
func eachPair(b *testing.B, callers int, body func(ctx context.Context, client testgrpc.TestServiceClient, n int) error) {
	for _, c := range []struct {
		name           string
		client, server bool
	}{{"plain", false, false}, {"server", false, true}, {"client", true, false}, {"both", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			var sopts []grpc.ServerOption
			if c.server {
				sopts = serverOptions(loopOf(b))
			}
			var copts []grpc.DialOption
			if c.client {
				copts = clientOptions()
			}
			client := connect(b, listen(b, echo(), sopts...), copts...)
			if err := body(b.Context(), client, 1); err != nil { // connects
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			run(b, c.client, callers, func(ctx context.Context) error { return body(ctx, client, b.N/callers+1) })
			b.StopTimer()
		})
	}
}

// run runs body in so many tasks, or on so many goroutines.
func run(b *testing.B, tasks bool, n int, body func(ctx context.Context) error) {
	if !tasks {
		errs := make(chan error)
		for range n {
			go func() { errs <- body(b.Context()) }()
		}
		for range n {
			if err := <-errs; err != nil {
				b.Error(err)
			}
		}
		return
	}
	_, err := asyncio.Run(b.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range n {
				tg.CreateTask(ctx, body)
			}
			return nil
		})
	}))
	if err != nil {
		b.Error(err)
	}
}

func BenchmarkUnary(b *testing.B) {
	call := func(ctx context.Context, client testgrpc.TestServiceClient, n int) error {
		for range n {
			if _, err := client.UnaryCall(ctx, request("hello")); err != nil {
				return err
			}
		}
		return nil
	}
	b.Run("1 caller", func(b *testing.B) { eachPair(b, 1, call) })
	b.Run("100 callers", func(b *testing.B) { eachPair(b, 100, call) })
}

func BenchmarkStream(b *testing.B) {
	talk := func(ctx context.Context, client testgrpc.TestServiceClient, n int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for range n {
			if err := stream.Send(message("hello")); err != nil {
				return err
			}
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
		return nil
	}
	b.Run("1 caller", func(b *testing.B) { eachPair(b, 1, talk) })
	b.Run("100 callers", func(b *testing.B) { eachPair(b, 100, talk) })
}
