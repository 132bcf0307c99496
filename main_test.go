package asyncio_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
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

// newLoop makes a virtual loop that the test closes.
func newLoop(t *testing.T) *asyncio.EventLoop {
	l := sim.NewEventLoop(t.Context())
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// quietLoop is a loop on the real clock that ignores reports.
func quietLoop(ctx context.Context) *asyncio.EventLoop {
	l := asyncio.NewEventLoop(ctx)
	l.SetExceptionHandler(new(reports).handle)
	return l
}

// onRealTime runs main on the machine's clock, and on the system's poller if there is one.
func onRealTime(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	if _, err := asyncio.Run(t.Context(), asyncio.Do(main)); err != nil {
		t.Error(err)
	}
}

// onBothClocks runs main on virtual time with run, and once more on the machine's clock.
func onBothClocks(t *testing.T, main func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	t.Run("virtual", func(t *testing.T) { run(t, func(ctx context.Context) error { return main(t, ctx) }) })
	t.Run("real", func(t *testing.T) { onRealTime(t, func(ctx context.Context) error { return main(t, ctx) }) })
}

// onSystem runs body on the real clock, once on the system's poller and once on the portable one. A
// report to the exception handler fails the test.
func onSystem(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		t.Cleanup(func() { // when the loop is closed
			for _, c := range r.all {
				t.Errorf("exception handler: %s: %v %s", c.Message, c.Exception, c.Source)
			}
		})
		return body(t, ctx)
	})
}

// onSystemReporting is onSystem, except that body gets the reports to the exception handler.
func onSystemReporting(t *testing.T, body func(t *testing.T, ctx context.Context, r *reports) error) {
	t.Helper()
	for name, make := range map[string]func() *driver.Real{"poller": driver.NewReal, "portable": driver.NewPortable} {
		t.Run(name, func(t *testing.T) {
			var r reports
			ctx := asyncio.WithLoopFactory(t.Context(), func(ctx context.Context) *asyncio.EventLoop {
				l := asyncio.NewEventLoop(driver.With(ctx, make()))
				l.SetExceptionHandler(r.handle)
				return l
			})
			_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
				return limited(t, ctx, func(t *testing.T, ctx context.Context) error { return body(t, ctx, &r) })
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// onSockets is onSystem, and also runs body on the simulated network of package sim, on virtual
// time.
func onSockets(t *testing.T, body func(t *testing.T, ctx context.Context) error) {
	t.Helper()
	onSystem(t, body)
	t.Run("simulated", func(t *testing.T) {
		sim.Run(t, func(ctx context.Context) error { return limited(t, ctx, body) })
	})
}

// limited returns body under a time limit that only a hang reaches.
func limited(t *testing.T, ctx context.Context, body func(t *testing.T, ctx context.Context) error) error {
	return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(t, ctx) })
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
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

// exits runs fn on a goroutine and reports whether runtime.Goexit ended that goroutine.
func exits(fn func()) bool {
	exited := make(chan bool)
	go func() {
		returned := false
		defer func() { exited <- !returned }()
		fn()
		returned = true
	}()
	return <-exited
}

// subprocess returns a command that runs one test of this program. If the kernel cannot run the
// program itself, ASYNCIO_EMULATOR names the emulator that does.
func subprocess(test string, env ...string) *exec.Cmd {
	args := []string{os.Args[0], "-test.run=^" + test + "$", "-test.v", "-test.timeout=60s"}
	if emulator := os.Getenv("ASYNCIO_EMULATOR"); emulator != "" {
		args = slices.Insert(args, 0, emulator)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
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

var errTest = errors.New("test")

type (
	tasked  = *asyncio.Task[asyncio.None]
	routine = func(ctx context.Context) error
)

// start starts fn as a task.
func start(ctx context.Context, fn routine) tasked {
	return asyncio.CreateTask(ctx, asyncio.Do(fn))
}

func sleeper(d time.Duration) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(sleeping(d))
}

func sleeping(d time.Duration) routine {
	return func(ctx context.Context) error { return asyncio.Sleep(ctx, d) }
}

func after(d time.Duration, v int, err error) asyncio.Coroutine[int] {
	return func(ctx context.Context) (int, error) {
		if e := asyncio.Sleep(ctx, d); e != nil {
			return 0, e
		}
		return v, err
	}
}

func never(ctx context.Context) error {
	_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
	return err
}

func instant(context.Context) (int, error) { return 1, nil }

func yields(ctx context.Context, n int) error {
	for range n {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// iterate lets n iterations pass.
func iterate(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	must(t, yields(ctx, n))
}

func self(ctx context.Context) asyncio.AnyTask { return asyncio.CurrentTask(ctx) }

func asCancelled(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asyncio.ErrTimeout) {
		t.Errorf("%v, want a CancelledError", err)
	}
}

// endsCancelled awaits task and checks that it ends cancelled.
func endsCancelled(t *testing.T, ctx context.Context, task *asyncio.Task[asyncio.None]) {
	t.Helper()
	if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
		t.Errorf("%v ended with %v, want it cancelled", task, err)
	}
}

func await(t *testing.T, ctx context.Context, tasks ...*asyncio.Task[asyncio.None]) {
	t.Helper()
	for _, task := range tasks {
		if _, err := task.Await(ctx); err != nil {
			t.Errorf("%v: %v", task, err)
		}
	}
}

func ended(ctx context.Context, t *asyncio.Task[asyncio.None]) error {
	_, err := t.Await(ctx)
	return err
}
