package asyncio_test

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
	"github.com/goasyncio/asyncio/sim"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := skipped(); err != nil {
		panic(err)
	}
	os.Exit(leaktest.Run(m))
}

// skipped makes testing skip the tests that this system cannot run. By default it skips none: other
// systems can run all tests, or a test checks for itself.
var skipped = func() error { return nil }

// reports collects the reports to a loop's exception handler.
type reports struct {
	mu  sync.Mutex
	all []asyncio.ExceptionContext
}

func (r *reports) handle(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
}

func (r *reports) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, c := range r.all {
		all = append(all, c.Message)
	}
	return all
}

// onVirtualTime returns a context whose loops are virtual and collect their reports in r.
func onVirtualTime(ctx context.Context, r *reports) context.Context {
	return asyncio.WithLoopFactory(ctx, func(ctx context.Context) *asyncio.EventLoop {
		l := sim.NewEventLoop(ctx)
		l.SetExceptionHandler(r.handle)
		l.SetDebug(ctx.Done() != nil) // so that run covers both settings
		return l
	})
}

// run runs main twice on virtual time, because the ways to suspend differ: with a context that
// could end and debug mode, and with one that cannot end and without debug mode. The test fails if
// main returns an error, or if anything is reported to the exception handler.
func run(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	for _, ctx := range []context.Context{t.Context(), context.WithoutCancel(t.Context())} {
		var r reports
		if _, err := asyncio.Run(onVirtualTime(ctx, &r), asyncio.Do(main)); err != nil {
			t.Error(err)
		}
		for _, c := range r.all {
			t.Errorf("exception handler: %s: %v %s", c.Message, c.Exception, c.Source)
		}
	}
}

// runFast is run without debug mode, for tests that make millions of calls.
func runFast(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetDebug(false)
		settle(t, ctx) // debug mode changes with the next step
		return main(ctx)
	})
}

// runReporting is run for tests that expect reports. It returns them with main's error.
func runReporting(t *testing.T, main func(ctx context.Context) error) (*reports, error) {
	t.Helper()
	var r reports
	_, err := asyncio.Run(onVirtualTime(t.Context(), &r), asyncio.Do(main))
	return &r, err
}

// loop returns the loop of ctx.
func loop(t *testing.T, ctx context.Context) *asyncio.EventLoop {
	t.Helper()
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// settle gives everything that is ready a few iterations.
func settle(t *testing.T, ctx context.Context) {
	t.Helper()
	for range 5 {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			t.Errorf("settle: %v", err)
		}
	}
}

// panicOf returns the error that fn panics with.
func panicOf(fn func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case error:
			err = v
		default:
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	fn()
	return nil
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s = %v, want %v", what, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s = %v, want %v", what, got, want)
			return
		}
	}
}

// captureLog collects the output of the default exception handler during the test.
func captureLog(t *testing.T) (logged func() string) {
	var mu sync.Mutex
	var b strings.Builder
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	}), nil)))
	t.Cleanup(func() { restoreLog(old) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// restoreLog restores the previous default logger. Package log, which the default logger writes to,
// would otherwise go on writing to the other logger.
func restoreLog(old *slog.Logger) {
	slog.SetDefault(old)
	log.SetOutput(os.Stderr)
}
