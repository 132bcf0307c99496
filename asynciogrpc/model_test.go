package asynciogrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/goasyncio/asyncio"
)

// A crowd is a service whose handlers can be cancelled, and whose state belongs to the loop.
type crowd struct {
	service
	handlers []asyncio.AnyTask // that run
	served   map[string]bool   // the texts of unary RPCs
}

func newCrowd() *crowd {
	c := &crowd{served: make(map[string]bool)}
	e := echo()
	c.unary = func(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		defer c.enter(ctx)()
		if err := asyncio.Sleep(ctx, time.Duration(len(said(req))%3)*50*time.Microsecond); err != nil {
			return nil, err
		}
		c.served[said(req)] = true
		return e.unary(ctx, req)
	}
	c.duplex = func(stream testgrpc.TestService_FullDuplexCallServer) error {
		defer c.enter(stream.Context())()
		return e.duplex(stream)
	}
	c.down = func(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
		defer c.enter(stream.Context())()
		for {
			if err := stream.Send(reply(said(req))); err != nil {
				return err
			}
		}
	}
	c.up = func(stream testgrpc.TestService_StreamingInputCallServer) error {
		defer c.enter(stream.Context())()
		for {
			if _, err := stream.Recv(); err == io.EOF {
				return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{})
			} else if err != nil {
				return err
			}
		}
	}
	return c
}

// enter notes the calling handler, until leave is called.
func (c *crowd) enter(ctx context.Context) (leave func()) {
	t := asyncio.CurrentTask(ctx)
	c.handlers = append(c.handlers, t)
	return func() {
		for i, h := range c.handlers {
			if h == t {
				c.handlers[i] = c.handlers[len(c.handlers)-1]
				c.handlers = c.handlers[:len(c.handlers)-1]
			}
		}
	}
}

// uses are what a task does with a client until it is cancelled. text is in all its messages.
var uses = []func(ctx context.Context, client testgrpc.TestServiceClient, text string) error{
	func(ctx context.Context, client testgrpc.TestServiceClient, text string) error {
		m, err := client.UnaryCall(ctx, request(text))
		if err == nil && said(m) != text {
			return fmt.Errorf("%w: the answer to %q is %q", errWrong, text, said(m))
		}
		return err
	},
	func(ctx context.Context, client testgrpc.TestServiceClient, text string) error {
		stream, err := client.FullDuplexCall(ctx)
		for n := 0; err == nil; n++ {
			text := fmt.Sprint(text, n)
			var m *testgrpc.StreamingOutputCallResponse
			if err = ignoreEOF(stream.Send(message(text))); err == nil { // Recv has the status
				m, err = stream.Recv()
			}
			if err == nil && said(m) != text {
				return fmt.Errorf("%w: the answer to %q is %q", errWrong, text, said(m))
			}
		}
		return err
	},
	func(ctx context.Context, client testgrpc.TestServiceClient, text string) error {
		stream, err := client.StreamingOutputCall(ctx, message(text))
		for err == nil {
			var m *testgrpc.StreamingOutputCallResponse
			if m, err = stream.Recv(); err == nil && said(m) != text {
				return fmt.Errorf("%w: the answer to %q is %q", errWrong, text, said(m))
			}
		}
		return err
	},
	func(ctx context.Context, client testgrpc.TestServiceClient, text string) error {
		stream, err := client.StreamingInputCall(ctx)
		for n := 0; err == nil && n < 3; n++ {
			err = ignoreEOF(stream.Send(&testgrpc.StreamingInputCallRequest{Payload: payload(text)}))
		}
		if err == nil {
			_, err = stream.CloseAndRecv()
		}
		return err
	},
	func(ctx context.Context, client testgrpc.TestServiceClient, text string) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			stream, err := client.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			tg.CreateTask(ctx, func(context.Context) error {
				for {
					if err := stream.Send(message(text)); err != nil {
						return ignoreEOF(err)
					}
				}
			})
			tg.CreateTask(ctx, func(context.Context) error {
				for {
					if m, err := stream.Recv(); err != nil {
						return err
					} else if said(m) != text {
						return fmt.Errorf("%w: %q comes back as %q", errWrong, text, said(m))
					}
				}
			})
			return nil
		})
	},
}

var errWrong = errors.New("a message of somebody else")

// TestModel_Cancels cancels tasks at random points of RPCs, 500 of them, or as many as
// ASYNCIO_MODELS says: the client's, by Cancel or the end of their context, or the handlers. After
// each, the ClientConn and the server answer, and all handlers have ended. The connections are
// those of package net, and then the loop's own.
func TestModel_Cancels(t *testing.T) {
	cancels := 500
	if n, err := strconv.Atoi(os.Getenv("ASYNCIO_MODELS")); err == nil {
		cancels = n
	} else if testing.Short() {
		cancels = 100
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("ASYNCIO_SEED"), 10, 64); err == nil {
		seed = s
	}
	for name, n := range map[string]network{"package net": packageNet, "of the loop": ofTheLoop} {
		t.Run(name, func(t *testing.T) {
			outcomes := make(map[string]int)
			random := rand.New(rand.NewPCG(seed, 0))
			c := newCrowd()
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				return withSite(ctx, &c.service, n, nil, func(ctx context.Context, site *site) error {
					for n := range cancels {
						err := asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
							return c.cancelOnce(ctx, site, random, n, outcomes)
						})
						if err != nil {
							return fmt.Errorf("cancel %d: %w", n, err)
						}
					}
					if len(site.reports()) > 0 {
						t.Errorf("reported: %q", site.reports())
					}
					return nil
				})
			}))
			if t.Logf("ASYNCIO_SEED=%d: %v", seed, outcomes); err != nil {
				t.Error(err)
			}
		})
	}
}

func (c *crowd) cancelOnce(ctx context.Context, site *site, random *rand.Rand, n int, outcomes map[string]int) error {
	use, text := uses[random.IntN(len(uses))], fmt.Sprintf("text %d", n)
	inner, end := asyncio.WithCancel(ctx)
	defer end()
	task := spawn(inner, func(ctx context.Context) error { return use(ctx, site, text) })
	var err error
	if d := random.IntN(2000); random.IntN(4) > 0 {
		err = asyncio.Sleep(ctx, time.Duration(d)*time.Microsecond)
	} else {
		for range d % 8 {
			err = errors.Join(err, asyncio.Sleep(ctx, 0))
		}
	}
	if err != nil {
		return err
	}
	by := []string{"Cancel", "ctx", "handler"}[random.IntN(3)]
	switch {
	case by == "ctx":
		end()
	case by == "handler" && len(c.handlers) > 0:
		c.handlers[0].Cancel()
	default:
		by = "Cancel"
		task.Cancel()
	}
	_, err = task.Await(ctx)
	outcome := status.Code(err).String()
	switch {
	case errors.Is(err, errWrong):
		return err
	case task.Cancelled():
		outcome = "cancelled"
		if by != "Cancel" {
			return fmt.Errorf("a task that nobody cancelled is cancelled: %w", err)
		}
	case err == nil:
		outcome = "done before"
	case by == "ctx" && !errors.Is(err, context.Canceled), by == "Cancel", by == "handler" && status.Code(err) != codes.Unavailable:
		return fmt.Errorf("by %s: the task ends with %w", by, err)
	}
	outcomes[by+": "+outcome]++
	return c.answers(ctx, site, fmt.Sprintf("after %d", n))
}

// answers checks that both sides are sound, and that no handler is left.
func (c *crowd) answers(ctx context.Context, site *site, text string) error {
	if err := c.left(ctx); err != nil {
		return err
	}
	if m, err := site.UnaryCall(ctx, request(text)); err != nil || said(m) != text || !c.served[text] {
		return fmt.Errorf("the unary call after it: %v, %w", m, err)
	}
	stream, err := site.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.Send(message(text)), stream.CloseSend()); err != nil {
		return err
	}
	if m, err := stream.Recv(); err != nil || said(m) != text {
		return fmt.Errorf("the stream after it: %v, %w", m, err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("the end of the stream after it: %w", err)
	}
	// An RPC that was over before its handler began may have begun one meanwhile. By now the server
	// knows of its end, so there will be no other.
	return c.left(ctx)
}

// left waits until no handler is left: they hear of the end of their RPC soon.
func (c *crowd) left(ctx context.Context) error {
	for len(c.handlers) > 0 {
		if err := asyncio.Sleep(ctx, 10*time.Microsecond); err != nil {
			return err
		}
	}
	return nil
}

// TestModel_Idle has 1,000 streams open, on which tasks wait on both sides, and shows that they
// hold no worker of the executor. It logs what they cost, beside streams of goroutines.
func TestModel_Idle(t *testing.T) {
	streams := 1000
	if testing.Short() {
		streams = 100
	}
	// open makes the streams, and calls wait for each, which is to start what waits.
	open := func(ctx context.Context, client testgrpc.TestServiceClient, wait func(receive func() error)) (wakeUp func() error, err error) {
		goroutines, memory := measure()
		var all []testgrpc.TestService_FullDuplexCallClient
		for range streams {
			stream, err := client.FullDuplexCall(ctx)
			if err != nil {
				return nil, err
			}
			if err := stream.Send(message("open")); err != nil {
				return nil, err
			}
			if _, err := stream.Recv(); err != nil {
				return nil, err
			}
			all = append(all, stream)
			wait(func() error {
				m, err := stream.Recv()
				if err == nil && said(m) != "wake up" {
					err = fmt.Errorf("%w: %v", errWrong, m)
				}
				return err
			})
		}
		if _, err := client.UnaryCall(ctx, request("x")); err != nil { // by then, all wait
			return nil, err
		}
		n, m := measure()
		t.Logf("%d idle streams: %.1f goroutines and %.1f KiB for each, client and server together", streams,
			float64(n-goroutines)/float64(streams), float64(m-memory)/1024/float64(streams))
		return func() error {
			for _, stream := range all {
				if err := errors.Join(stream.Send(message("wake up")), stream.CloseSend()); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	t.Run("goroutines", func(t *testing.T) {
		received := make(chan error, streams)
		wakeUp, err := open(t.Context(), connect(t, listen(t, echo())), func(receive func() error) {
			go func() { received <- receive() }()
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := wakeUp(); err != nil {
			t.Error(err)
		}
		for range streams {
			if err := <-received; err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("tasks", func(t *testing.T) {
		onSite(t, echo(), func(ctx context.Context, site *site) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				wakeUp, err := open(ctx, site, func(receive func() error) {
					tg.CreateTask(ctx, func(context.Context) error { return receive() })
				})
				if err != nil {
					return err
				}
				for range 100 {
					if n, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 1, nil }); n != 1 || err != nil {
						return fmt.Errorf("ToThread: %d, %w", n, err)
					}
				}
				return wakeUp()
			})
		})
	})
}

// measure returns the number of goroutines, and the memory for objects and stacks.
func measure() (goroutines int, bytes int64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int64(m.HeapAlloc + m.StackInuse)
}
