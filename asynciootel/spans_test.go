package asynciootel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciootel"
)

// traced runs main on a loop whose tasks have spans, and returns those that have ended, by the name
// of the task or, if they are not of a task, by their own.
func traced(t *testing.T, main func(ctx context.Context, tracer trace.Tracer) error, opts ...asynciootel.TraceOption) map[string]tracetest.SpanStub {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	p := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		must(t, err)
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		asynciootel.TraceTasks(l, append(opts, asynciootel.WithTracerProvider(p))...)
		return main(ctx, p.Tracer("test"))
	}), asyncio.HandleSIGINT(false))
	must(t, err)
	spans := make(map[string]tracetest.SpanStub)
	for _, s := range exporter.GetSpans() {
		name := s.Name
		if task := attributeOf(s, "asyncio.task.name"); task != "" {
			name = task
		}
		if _, twice := spans[name]; twice {
			t.Errorf("two spans of %s", name)
		}
		spans[name] = s
	}
	must(t, p.Shutdown(context.Background()))
	return spans
}

func attributeOf(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.Emit()
		}
	}
	return ""
}

// task makes a task with a name.
func task(ctx context.Context, name string, fn func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, asyncio.Do(fn), asyncio.TaskName(name))
}

// One trace goes from a span of the program through a task, its child, a group, a function in a
// thread and a coroutine of another loop.
func TestTraceTasks_OneTrace(t *testing.T) {
	var tracer trace.Tracer
	span := func(ctx context.Context, name string) context.Context {
		ctx, s := tracer.Start(ctx, name)
		s.End()
		return ctx
	}
	spans := traced(t, func(ctx context.Context, tr trace.Tracer) error {
		tracer = tr
		ctx, root := tracer.Start(ctx, "root")
		defer root.End()
		_, err := task(ctx, "parent", func(ctx context.Context) error {
			if _, err := task(ctx, "child", func(ctx context.Context) error {
				if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
					span(ctx, "thread")
					return asyncio.None{}, nil
				})
				return err
			}).Await(ctx); err != nil {
				return err
			}
			err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for i := range 2 {
					tg.CreateTask(ctx, func(ctx context.Context) error {
						return asyncio.Sleep(ctx, time.Millisecond)
					}, asyncio.TaskName(fmt.Sprint("member", i)))
				}
				return nil
			})
			if err != nil {
				return err
			}
			return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
				_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
					// the goroutine runs a loop of its own
					return asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
						span(ctx, "other loop")
						return nil
					}), asyncio.HandleSIGINT(false))
				})
				return err
			})
		}).Await(ctx)
		return err
	})
	parents := map[string]string{
		"parent": "root", "child": "parent", "thread": "child", "member0": "parent", "member1": "parent", "other loop": "parent",
	}
	if len(spans) != len(parents)+1 {
		t.Errorf("%d spans", len(spans))
	}
	for name, parent := range parents {
		s := spans[name]
		if s.Parent.SpanID() != spans[parent].SpanContext.SpanID() || s.SpanContext.TraceID() != spans["root"].SpanContext.TraceID() {
			t.Errorf("%s is not below %s", name, parent)
		}
	}
	child := spans["child"]
	if want := "asynciootel_test.TestTraceTasks_OneTrace."; !strings.HasPrefix(child.Name, want) {
		t.Errorf("the span of the child is called %s", child.Name)
	}
	if attributeOf(child, "asyncio.task.wait") == "" || child.Status.Code != codes.Unset || !child.EndTime.After(child.StartTime) {
		t.Errorf("the child: %+v", child)
	}
}

// Call goes from loop to loop with its context.
func TestTraceTasks_Call(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	p := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		must(t, g.Each(ctx, func(ctx context.Context, i int) error {
			l, err := asyncio.GetRunningLoop(ctx)
			asynciootel.TraceTasks(l, asynciootel.WithTracerProvider(p))
			return err
		}))
		ctx, root := p.Tracer("test").Start(ctx, "root")
		defer root.End()
		_, err := task(ctx, "caller", func(ctx context.Context) error {
			_, err := asyncio.Call(ctx, g.Loop(1), asyncio.Do(func(ctx context.Context) error {
				return asyncio.Sleep(ctx, time.Millisecond)
			}), asyncio.TaskName("called"))
			return err
		}).Await(ctx)
		return asyncio.None{}, err
	}, asyncio.HandleSIGINT(false))
	must(t, err)
	var caller, called tracetest.SpanStub
	for _, s := range exporter.GetSpans() {
		switch attributeOf(s, "asyncio.task.name") {
		case "caller":
			caller = s
		case "called":
			called = s
		}
	}
	if !called.SpanContext.IsValid() || called.Parent.SpanID() != caller.SpanContext.SpanID() {
		t.Errorf("caller: %+v, called: %+v", caller, called)
	}
	must(t, p.Shutdown(context.Background()))
}

// How a task ends is in its span, and every span ends.
func TestTraceTasks_Outcomes(t *testing.T) {
	never := false
	spans := traced(t, func(ctx context.Context, _ trace.Tracer) error {
		tasks := []*asyncio.Task[asyncio.None]{
			task(ctx, "returns", func(context.Context) error { return nil }),
			task(ctx, "fails", func(context.Context) error { return fmt.Errorf("reading: %w", io.ErrUnexpectedEOF) }),
			task(ctx, "panics", func(context.Context) error { panic("oh") }),
			task(ctx, "is cancelled", func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }),
			task(ctx, "swallows", func(ctx context.Context) error { _ = asyncio.Sleep(ctx, time.Hour); return nil }),
		}
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		tasks[3].Cancel()
		tasks[4].Cancel()
		unborn := task(ctx, "never starts", func(context.Context) error { never = true; return nil })
		unborn.Cancel()
		_, _, err := asyncio.Wait(ctx, append(tasks, unborn))
		for _, task := range tasks {
			_ = task.Exception()
		}
		return err
	})
	if never || len(spans) != 5 {
		t.Errorf("%d spans", len(spans))
	}
	for name, want := range map[string]codes.Code{"returns": codes.Unset, "fails": codes.Error, "panics": codes.Error, "is cancelled": codes.Unset, "swallows": codes.Unset} {
		if got := spans[name].Status; got.Code != want {
			t.Errorf("the status of %q is %v", name, got)
		}
	}
	if s := spans["fails"]; s.Status.Description != "reading: unexpected EOF" || len(s.Events) != 1 || s.Events[0].Name != "exception" {
		t.Errorf("fails: %+v", s)
	}
	if attributeOf(spans["is cancelled"], "asyncio.task.cancelled") != "true" || attributeOf(spans["swallows"], "asyncio.task.cancelled") != "" {
		t.Errorf("cancelled: %+v", spans["is cancelled"])
	}
}

// A span ends too if its task calls Goexit, or is unwound by Close.
func TestTraceTasks_Goexit(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	p := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	l := asyncio.NewEventLoop(t.Context())
	asynciootel.TraceTasks(l, asynciootel.WithTracerProvider(p))
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
	gone := make(chan bool)
	go func() {
		defer close(gone)
		defer func() { must(t, l.Close()) }()
		left := task(l.Context(), "is left", func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		_ = left
		_, _ = asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			runtime.Goexit()
			return nil
		}))
	}()
	<-gone
	var statuses []string
	for _, s := range exporter.GetSpans() {
		statuses = append(statuses, s.Status.Description)
	}
	if !slices.Equal(statuses, []string{"the task's goroutine has ended", "the task's goroutine has ended"}) {
		t.Errorf("%q", statuses)
	}
	must(t, p.Shutdown(context.Background()))
}

func TestTraceTasks_Filters(t *testing.T) {
	spans := traced(t, func(ctx context.Context, tracer trace.Tracer) error {
		inSpan, s := tracer.Start(ctx, "request")
		defer s.End()
		nothing := func(context.Context) error { return nil }
		_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{
			task(ctx, "outside", nothing), task(inSpan, "inside", nothing), task(inSpan, "noise", nothing),
		})
		return err
	}, asynciootel.OnlyWithParent(), asynciootel.WithFilter(func(r *asyncio.TaskRequest) bool { return r.Name != "noise" }))
	if len(spans) != 2 || !spans["inside"].SpanContext.IsValid() {
		t.Errorf("%v", spans)
	}
}

// The factory that was there is called first, and what it does stays.
func TestTraceTasks_KeepsTheFactory(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	p := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	failed := errors.New("wrapped")
	run(t, func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		must(t, err)
		l.SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			r.Name = "named by the factory"
			r.Wrap(func(ctx context.Context, run func(ctx context.Context) error) error {
				return errors.Join(failed, run(ctx))
			})
		})
		asynciootel.TraceTasks(l, asynciootel.WithTracerProvider(p))
		_, err = asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return nil })).Await(ctx)
		if !errors.Is(err, failed) {
			t.Errorf("%v", err)
		}
		return nil
	})
	if s := exporter.GetSpans(); len(s) != 1 || attributeOf(s[0], "asyncio.task.name") != "named by the factory" || s[0].Status.Code != codes.Error {
		t.Errorf("%+v", s)
	}
	must(t, p.Shutdown(context.Background()))
}
