package asynciootel

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/goasyncio/asyncio/metrics"
)

// A ProducerOption is an option of [NewProducer]. Any goroutine may make one.
type ProducerOption struct{ of metrics.Option }

// MaxCoroutines limits how many values the attribute "coroutine" may have, 50 by default. The tasks
// of coroutines that the producer meets later have the value "other". MaxCoroutines panics if n
// is negative.
func MaxCoroutines(n int) ProducerOption { return ProducerOption{metrics.MaxCoroutines(n)} }

type producer struct {
	reader *metrics.Reader
	start  time.Time
}

// NewProducer makes a producer of the metrics of all loops of this process, for the option
// [metric.WithProducer] of a reader. From the first one on, all loops count what they do, those
// that run already too. Its data are cumulative, whatever temporality the reader prefers.
//
// Any goroutine may call NewProducer, and a producer, which blocks its caller for at most 200
// milliseconds: it must not be called in a task.
func NewProducer(opts ...ProducerOption) metric.Producer {
	of := make([]metrics.Option, len(opts))
	for i, o := range opts {
		of[i] = o.of
	}
	return &producer{metrics.NewReader(of...), time.Now()}
}

// Produce implements [metric.Producer]. It returns no error but that of a context that is done.
func (p *producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g := &gathering{start: p.start, now: time.Now()}
	for _, l := range p.reader.Read(ctx) {
		g.loop = strconv.Itoa(l.Number)
		g.totals(l)
		if l.Running != nil {
			g.running(l.Running)
		}
	}
	if len(g.all) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: g.all}}, nil
}

// A gathering makes the data of one collection.
type gathering struct {
	start, now time.Time
	loop       string
	all        []metricdata.Metrics
}

func (g *gathering) totals(l *metrics.Loop) {
	g.histogram("asyncio.step.duration", "How long steps of tasks and callbacks took; the sum is the time in which the loop did not wait.", &l.Steps)
	g.histogram("asyncio.iteration.duration", "How long iterations of the loop took.", &l.Iterations)
	g.total("asyncio.stalls", "Steps that took at least the slow callback duration.", "{step}", l.Stalls)
	g.total("asyncio.tasks.made", "Tasks that were made.", "{task}", l.Made)
	const ended = "Tasks that have ended, by outcome."
	g.total("asyncio.tasks.ended", ended, "{task}", l.Returned, "outcome", "returned")
	g.total("asyncio.tasks.ended", ended, "{task}", l.Failed, "outcome", "failed")
	g.total("asyncio.tasks.ended", ended, "{task}", l.Cancelled, "outcome", "cancelled")
	g.total("asyncio.tasks.ended", ended, "{task}", l.Panicked, "outcome", "panicked")
}

func (g *gathering) running(r *metrics.Running) {
	stuck, since := int64(0), time.Duration(0)
	if r.Stuck != nil {
		stuck, since = 1, r.Stuck.For
	}
	gauge(g, "asyncio.loop.lag", "How long a callback from outside has waited for its turn, at this collection.", "s", r.Lag.Seconds())
	gauge(g, "asyncio.loop.stuck", "1 if a step keeps the loop from going on, else 0.", "", stuck)
	gauge(g, "asyncio.loop.stuck.duration", "For how long that step has been seen, 0 if the loop is not stuck.", "s", since.Seconds())
	c := r.Last
	if c == nil {
		return
	}
	for _, t := range c.Tasks {
		g.number("asyncio.tasks", "Tasks that are not done.", "{task}", t.Count, "state", t.State, "coroutine", t.Coroutine)
	}
	g.number("asyncio.ready_callbacks", "Callbacks that can run.", "{callback}", c.Ready)
	g.number("asyncio.timers", "Timers that are set.", "{timer}", c.Timers)
	g.number("asyncio.connections", "Connections that are open.", "{connection}", c.Connections)
	if c.Executor != nil {
		g.number("asyncio.executor.queue", "Jobs that wait for a goroutine of the default executor.", "{job}", c.Executor.Queued)
		g.number("asyncio.executor.running", "Jobs that the default executor is running.", "{job}", c.Executor.Running)
	}
}

func (g *gathering) set(attributes []string) attribute.Set {
	all := []attribute.KeyValue{attribute.String("loop", g.loop)}
	for i := 0; i < len(attributes); i += 2 {
		all = append(all, attribute.String(attributes[i], attributes[i+1]))
	}
	return attribute.NewSet(all...)
}

// dataOf returns the data of a metric, as a pointer to be appended to. It makes the metric if this
// is its first point.
func dataOf[T metricdata.Aggregation](g *gathering, name, help, unit string, empty T) (data T, put func(T)) {
	for i := range g.all {
		if g.all[i].Name == name {
			return g.all[i].Data.(T), func(d T) { g.all[i].Data = d }
		}
	}
	g.all = append(g.all, metricdata.Metrics{Name: name, Description: help, Unit: unit, Data: empty})
	m := &g.all[len(g.all)-1]
	return empty, func(d T) { m.Data = d }
}

func gauge[N int64 | float64](g *gathering, name, help, unit string, v N) {
	d, put := dataOf(g, name, help, unit, metricdata.Gauge[N]{})
	d.DataPoints = append(d.DataPoints, metricdata.DataPoint[N]{Attributes: g.set(nil), Time: g.now, Value: v})
	put(d)
}

func (g *gathering) total(name, help, unit string, v uint64, attributes ...string) {
	g.sum(name, help, unit, int64(v), true, attributes)
}

func (g *gathering) number(name, help, unit string, v int, attributes ...string) {
	g.sum(name, help, unit, int64(v), false, attributes)
}

func (g *gathering) sum(name, help, unit string, v int64, monotonic bool, attributes []string) {
	d, put := dataOf(g, name, help, unit, metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: monotonic})
	d.DataPoints = append(d.DataPoints, metricdata.DataPoint[int64]{Attributes: g.set(attributes), StartTime: g.start, Time: g.now, Value: v})
	put(d)
}

func (g *gathering) histogram(name, help string, h *metrics.Histogram) {
	d, put := dataOf(g, name, help, "s", metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality})
	bounds := make([]float64, len(h.Bounds))
	for i, b := range h.Bounds {
		bounds[i] = b.Seconds()
	}
	d.DataPoints = append(d.DataPoints, metricdata.HistogramDataPoint[float64]{
		Attributes: g.set(nil), StartTime: g.start, Time: g.now,
		Count: h.Count(), Bounds: bounds, BucketCounts: h.Counts, Sum: h.Sum.Seconds(),
	})
	put(d)
}
