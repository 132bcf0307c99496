package asynciootel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/goasyncio/asyncio"
)

// scope is the name of the instrumentation.
const scope = "github.com/goasyncio/asyncio/asynciootel"

// A TraceOption is an option of [TraceTasks]. Any goroutine may make one.
type TraceOption struct{ set func(*tracing) }

// WithTracerProvider has the spans made by p. The default is the global provider at the time of the
// call of [TraceTasks].
func WithTracerProvider(p trace.TracerProvider) TraceOption {
	return TraceOption{func(t *tracing) { t.provider = p }}
}

// OnlyWithParent leaves out tasks whose context has no span. So tasks get spans as part of a
// request that somebody traces, and a task that lives as long as the program does not.
func OnlyWithParent() TraceOption {
	return TraceOption{func(t *tracing) {
		t.filters = append(t.filters, func(r *asyncio.TaskRequest) bool { return trace.SpanContextFromContext(r.Context).IsValid() })
	}}
}

// WithFilter leaves out tasks for which keep returns false. It is called as a task factory is.
func WithFilter(keep func(r *asyncio.TaskRequest) bool) TraceOption {
	return TraceOption{func(t *tracing) { t.filters = append(t.filters, keep) }}
}

type tracing struct {
	provider trace.TracerProvider
	filters  []func(*asyncio.TaskRequest) bool
	tracer   trace.Tracer
}

// TraceTasks gives each task that l makes from now on a span, from when the task is made until it
// ends. The parent is the span in the context that the task is made with, and in the coroutine's
// context the task's span is the current one. The span is named for the coroutine, as main.fetch.
// Its attributes are the task's name (asyncio.task.name) and how long it waited for its first step
// (asyncio.task.wait, in seconds). If the task ends with an error, that is recorded, and the span's
// status says so; a task that is cancelled has the attribute asyncio.task.cancelled instead. A task
// that is cancelled before its first step has no span, as it has done nothing.
//
// It replaces the loop's task factory by one that calls the present one first. It is for the loop
// only and does not suspend.
func TraceTasks(l *asyncio.EventLoop, opts ...TraceOption) {
	t := new(tracing)
	for _, o := range opts {
		if o.set != nil {
			o.set(t)
		}
	}
	if t.provider == nil {
		t.provider = otel.GetTracerProvider()
	}
	t.tracer = t.provider.Tracer(scope)
	next := l.GetTaskFactory()
	l.SetTaskFactory(func(l *asyncio.EventLoop, r *asyncio.TaskRequest) {
		if next != nil {
			next(l, r)
		}
		t.request(r)
	})
}

func (t *tracing) request(r *asyncio.TaskRequest) {
	for _, keep := range t.filters {
		if !keep(r) {
			return
		}
	}
	name, made := r.Coroutine(), time.Now()
	r.Wrap(func(ctx context.Context, run func(ctx context.Context) error) error {
		return t.run(ctx, name, made, run)
	})
}

// run runs a task in its span.
func (t *tracing) run(ctx context.Context, name string, made time.Time, run func(ctx context.Context) error) error {
	ctx, span := t.tracer.Start(ctx, name, trace.WithTimestamp(made))
	if !span.IsRecording() {
		return run(ctx)
	}
	span.SetAttributes(
		attribute.String("asyncio.task.name", asyncio.CurrentTask(ctx).GetName()),
		attribute.Float64("asyncio.task.wait", time.Since(made).Seconds()),
	)
	returned := false
	defer func() {
		// A panic goes on to the loop, which reports it; and the span must end.
		if v := recover(); v != nil {
			span.SetStatus(codes.Error, "panic")
			span.AddEvent("exception", trace.WithAttributes(attribute.String("exception.type", "panic")))
			span.End(trace.WithStackTrace(true))
			panic(v)
		}
		if !returned { // Goexit, or the loop is being closed
			span.SetStatus(codes.Error, "the task's goroutine has ended")
		}
		span.End()
	}()
	err := run(ctx)
	returned = true
	switch {
	case errors.Is(err, asyncio.ErrCancelled):
		span.SetAttributes(attribute.Bool("asyncio.task.cancelled", true))
	case err != nil:
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
