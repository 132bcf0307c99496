package asynciosql_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
	"github.com/goasyncio/asyncio/internal/leaktest"
	"github.com/goasyncio/asyncio/sim"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// reports are the reports to an exception handler.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (r *reports) handle(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s: %v", c.Message, c.Exception))
}

// on returns a context whose loops are made by factory and report to r.
func (r *reports) on(ctx context.Context, factory func(context.Context) *asyncio.EventLoop) context.Context {
	return asyncio.WithLoopFactory(ctx, func(ctx context.Context) *asyncio.EventLoop {
		l := factory(ctx)
		l.SetExceptionHandler(r.handle)
		l.SetDebug(true)
		return l
	})
}

// real makes a loop on the machine's clock, or on that of a synctest bubble.
func real(ctx context.Context) *asyncio.EventLoop { return asyncio.NewEventLoop(ctx) }

// run runs main on virtual time. The test fails if main fails or if anything is reported.
func run(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	reported, err := runReporting(t, sim.NewEventLoop, main)
	must(t, err)
	for _, r := range reported {
		t.Error("exception handler: " + r)
	}
}

// runReporting runs main on a loop of factory and returns the reports.
func runReporting(t *testing.T, factory func(context.Context) *asyncio.EventLoop, main func(ctx context.Context) error) ([]string, error) {
	t.Helper()
	var r reports
	_, err := asyncio.Run(r.on(context.WithoutCancel(t.Context()), factory), asyncio.Do(main), asyncio.HandleSIGINT(false))
	return r.all, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// is compares two values.
func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// matches checks that err matches each of want.
func matches(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("error %v, want %v", err, w)
		}
	}
}

// known checks that err does not leave the outcome open.
func known(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, asynciosql.ErrOutcomeUnknown) {
		t.Errorf("error %v: the outcome is known", err)
	}
}

// start runs fn as a task.
func start(ctx context.Context, fn func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, asyncio.Do(fn))
}

// result waits for a task and returns its error.
func result(ctx context.Context, task *asyncio.Task[asyncio.None]) error {
	_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{task})
	return errors.Join(err, task.Exception())
}

// enters waits until a statement waits in the server.
func (s *server) enters(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	got, _, err := asyncio.Recv(ctx, s.entered)
	must(t, err)
	is(t, "the waiting statement", got, want)
}

// goes lets the waiting statement go on.
func (s *server) goes(t *testing.T, ctx context.Context) {
	t.Helper()
	must(t, asyncio.Send(ctx, s.goOn, struct{}{}))
}
