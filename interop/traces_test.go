package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime/pprof"
	exectrace "runtime/trace"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/exp/trace"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciootel"
)

// burn computes for that long.
//
//go:noinline
func burn(d time.Duration) (n int) {
	for begun := time.Now(); time.Since(begun) < d; n++ {
	}
	return n
}

// The samples of a profile have the labels of the task that was running, although tasks that take
// turns are on stacks that give control to each other without Go's scheduler, and one that waits
// may have others on top of it.
func TestLabels_OfAProfile(t *testing.T) {
	var out bytes.Buffer
	must(t, pprof.StartCPUProfile(&out))
	// The times differ from turn to turn: a sample is taken every 10 milliseconds, and turns of
	// that length would show it the same task again and again.
	first := func(ctx context.Context) error {
		for i := range 60 {
			burn(time.Duration(5+7*i%11) * time.Millisecond)
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		return nil
	}
	second := func(ctx context.Context) error {
		for i := range 60 {
			burn(time.Duration(1+4*i%9) * time.Millisecond)
			// A child that is awaited at once, and one that suspends.
			if _, err := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				burn(time.Duration(1+5*i%9) * time.Millisecond)
				return asyncio.Sleep(ctx, 0)
			}), asyncio.TaskName("child")).Await(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{
			asyncio.CreateTask(ctx, asyncio.Do(first), asyncio.TaskName("first")),
			asyncio.CreateTask(ctx, asyncio.Do(second), asyncio.TaskName("second")),
		})
		return err
	}), asyncio.LabelTasks(true))
	pprof.StopCPUProfile()
	must(t, err)
	p, err := profile.Parse(&out)
	must(t, err)
	right, wrong := make(map[string]int), make(map[string]int)
	for _, s := range p.Sample {
		calls := func(function string) bool {
			return slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
				return slices.ContainsFunc(l.Line, func(l profile.Line) bool { return strings.HasSuffix(l.Function.Name, function) })
			})
		}
		if !calls("interop.burn") {
			continue
		}
		of := "first"
		switch {
		case calls("TestLabels_OfAProfile.func2.1"):
			of = "child"
		case calls("TestLabels_OfAProfile.func2"):
			of = "second"
		}
		if name := s.Label["task"]; len(name) == 1 && name[0] == of && len(s.Label["coroutine"]) == 1 {
			right[of] += int(s.Value[0])
		} else {
			wrong[fmt.Sprint(of, " as ", name, s.Label["coroutine"])] += int(s.Value[0])
		}
	}
	t.Logf("samples: %v, wrong: %v", right, wrong)
	if len(wrong) > 0 || right["first"] < 20 || right["second"] < 10 || right["child"] < 10 {
		t.Errorf("samples: %v, wrong: %v", right, wrong)
	}
}

// An execution trace has the tasks, with their parents and names, and their coroutines as regions,
// and can be read although a coroutine suspends in a region of its own.
func TestTrace_Tasks(t *testing.T) {
	var out bytes.Buffer
	must(t, exectrace.Start(&out))
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		for i := range 3 {
			_, err := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) (err error) {
				exectrace.WithRegion(ctx, "mine", func() {
					asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
						exectrace.WithRegion(ctx, "theirs", func() { err = asyncio.Sleep(ctx, time.Millisecond) })
						return err
					}), asyncio.TaskName(fmt.Sprint("child", i)))
					err = asyncio.Sleep(ctx, 2*time.Millisecond)
					_, err = asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
						exectrace.WithRegion(ctx, "thread", func() {})
						return asyncio.None{}, nil
					})
				})
				return err
			}), asyncio.TaskName(fmt.Sprint("parent", i))).Await(ctx)
			if err != nil {
				return err
			}
		}
		// One that panics and one that is cancelled before it starts end too.
		l, err := asyncio.GetRunningLoop(ctx)
		must(t, err)
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		panics := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("oh") }), asyncio.TaskName("panics"))
		unborn := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return nil }), asyncio.TaskName("unborn"))
		unborn.Cancel()
		_, _, err = asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{panics, unborn})
		_ = panics.Exception()
		// A task that is made when the mode is over has its maker's context, and ends nothing.
		l.SetTaskTrace(false)
		_, _ = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })).Await(ctx)
		return err
	}), asyncio.TraceTasks(true))
	exectrace.Stop()
	must(t, err)

	type tracedTask struct {
		kind, name string
		parent     trace.TaskID
		ends       int
		regions    []string
	}
	tasks := make(map[trace.TaskID]*tracedTask)
	open := make(map[trace.GoID][]string)
	r, err := trace.NewReader(&out)
	must(t, err)
	for {
		e, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err) // a region that does not nest
		}
		switch e.Kind() {
		case trace.EventTaskBegin:
			tasks[e.Task().ID] = &tracedTask{kind: e.Task().Type, parent: e.Task().Parent}
		case trace.EventTaskEnd:
			tasks[e.Task().ID].ends++
		case trace.EventLog:
			if e.Log().Category == "task" {
				tasks[e.Log().Task].name = e.Log().Message
			}
		case trace.EventRegionBegin:
			open[e.Goroutine()] = append(open[e.Goroutine()], e.Region().Type)
			if task := tasks[e.Region().Task]; task != nil {
				task.regions = append(task.regions, e.Region().Type)
			}
		case trace.EventRegionEnd:
			inner := open[e.Goroutine()]
			if len(inner) == 0 || inner[len(inner)-1] != e.Region().Type {
				t.Errorf("region %s ends, of %v", e.Region().Type, inner)
				break
			}
			open[e.Goroutine()] = inner[:len(inner)-1]
		}
	}
	byName := make(map[string]*tracedTask)
	for _, task := range tasks {
		byName[task.name] = task
		if task.ends != 1 || !strings.HasPrefix(task.kind, "interop.TestTrace_Tasks.") {
			t.Errorf("%+v", task)
		}
	}
	if len(tasks) != 9 {
		t.Errorf("tasks: %v", slices.Sorted(maps.Keys(byName)))
	}
	for i := range 3 {
		parent, child := byName[fmt.Sprint("parent", i)], byName[fmt.Sprint("child", i)]
		if tasks[parent.parent].name != "Task-1" || tasks[child.parent] != parent {
			t.Errorf("parent: %+v, child: %+v", parent, child)
		}
		if !slices.Equal(parent.regions, []string{parent.kind, "mine", "thread"}) || !slices.Equal(child.regions, []string{child.kind, "theirs"}) {
			t.Errorf("regions: %q, %q", parent.regions, child.regions)
		}
	}
	for g, regions := range open {
		if len(regions) > 0 {
			t.Errorf("goroutine %d has open regions: %q", g, regions)
		}
	}
}

// A trace goes from a client's task by HTTP to a server's task, and on to a function in a thread.
func TestTraceTasks_HTTP(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	options := []otelhttp.Option{otelhttp.WithTracerProvider(p), otelhttp.WithPropagators(propagation.TraceContext{})}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		asynciootel.TraceTasks(l, asynciootel.WithTracerProvider(p), asynciootel.OnlyWithParent())
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		handler := otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := asyncio.CreateTask(r.Context(), asyncio.Do(func(ctx context.Context) error {
				_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
					_, s := p.Tracer("interop").Start(ctx, "thread")
					s.End()
					return asyncio.None{}, nil
				})
				return err
			}), asyncio.TaskName("of the server")).Await(r.Context())
			must(t, err)
			fmt.Fprint(w, "served")
		}), "handler", options...)
		server := asynciohttp.NewServer(&http.Server{Handler: handler})
		serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return server.Serve(ctx, ln) }))
		transport := &asynciohttp.Transport{}
		client := &http.Client{Transport: otelhttp.NewTransport(transport, options...)}
		request, root := p.Tracer("interop").Start(ctx, "root")
		_, err = asyncio.CreateTask(request, asyncio.Do(func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://"+ln.Addr().String(), nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(resp.Body)
			if string(text) != "served" {
				t.Errorf("%q", text)
			}
			return errors.Join(err, resp.Body.Close())
		}), asyncio.TaskName("of the client")).Await(ctx)
		root.End()
		transport.CloseIdleConnections()
		must(t, server.Shutdown(ctx))
		if _, err := serving.Await(ctx); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		return err
	}))
	must(t, err)
	spans := make(map[string]sdktrace.ReadOnlySpan)
	var last sdktrace.ReadOnlySpan
	for _, s := range recorder.Ended() {
		spans[s.SpanContext().SpanID().String()] = s
		if s.Name() == "thread" {
			last = s
		}
	}
	var path []string
	for s := last; s != nil; s = spans[s.Parent().SpanID().String()] {
		name := s.Name()
		for _, a := range s.Attributes() {
			if a.Key == "asyncio.task.name" {
				name = "task " + a.Value.AsString()
			}
		}
		path = append(path, name)
	}
	want := []string{"thread", "task of the server", "GET", "HTTP GET", "task of the client", "root"}
	if !slices.Equal(path, want) {
		t.Errorf("the trace goes up %q, want %q", path, want)
	}
}
