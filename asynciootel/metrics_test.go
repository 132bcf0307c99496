package asynciootel_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciootel"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// run runs main on a loop.
func run(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(main), asyncio.HandleSIGINT(false))
	must(t, err)
}

// collected is what a reader of the SDK has collected, by name.
type collected map[string]metricdata.Metrics

func collect(t *testing.T, r metric.Reader) collected {
	t.Helper()
	var got metricdata.ResourceMetrics
	must(t, r.Collect(context.Background(), &got))
	all := make(collected)
	for _, s := range got.ScopeMetrics {
		if s.Scope.Name != "github.com/goasyncio/asyncio/asynciootel" {
			t.Errorf("scope %q", s.Scope.Name)
		}
		for _, m := range s.Metrics {
			if all[m.Name].Name != "" {
				t.Errorf("%s is there twice", m.Name)
			}
			all[m.Name] = m
		}
	}
	return all
}

// value returns the value of the point with these attributes, given as "name=value", 0 if there is
// none.
func (c collected) value(name string, attributes ...string) (v float64) {
	matches := func(set attribute.Set) bool {
		text := "," + set.Encoded(attribute.DefaultEncoder()) + ","
		return !slices.ContainsFunc(attributes, func(a string) bool { return !strings.Contains(text, ","+a+",") })
	}
	switch d := c[name].Data.(type) {
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			if matches(p.Attributes) {
				v += p.Value
			}
		}
	case metricdata.Gauge[int64]:
		for _, p := range d.DataPoints {
			if matches(p.Attributes) {
				v += float64(p.Value)
			}
		}
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			if matches(p.Attributes) {
				v += float64(p.Value)
			}
		}
	}
	return v
}

func (c collected) want(t *testing.T, want float64, name string, attributes ...string) {
	t.Helper()
	if got := c.value(name, attributes...); got != want {
		t.Errorf("%s%v is %v, want %v", name, attributes, got, want)
	}
}

func sleeper(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

func newReader(t *testing.T) metric.Reader {
	r := metric.NewManualReader(metric.WithProducer(asynciootel.NewProducer()))
	p := metric.NewMeterProvider(metric.WithReader(r))
	t.Cleanup(func() { must(t, p.Shutdown(context.Background())) })
	return r
}

func TestProducer(t *testing.T) {
	r := newReader(t)
	before := collect(t, r)
	run(t, func(ctx context.Context) error {
		for range 8 {
			asyncio.CreateTask(ctx, asyncio.Do(sleeper))
		}
		failed := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return errors.New("no") }))
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		_ = failed.Exception()
		c, err := asyncio.ToThread(ctx, func(context.Context) (collected, error) { return collect(t, r), nil })
		must(t, err)
		c.want(t, 8, "asyncio.tasks", "loop=1", "state=waiting", "coroutine=asynciootel_test.sleeper")
		c.want(t, 8, "asyncio.timers", "loop=1")
		c.want(t, 0, "asyncio.loop.stuck", "loop=1")
		c.want(t, before.value("asyncio.tasks.made", "loop=1")+10, "asyncio.tasks.made", "loop=1")
		c.want(t, before.value("asyncio.tasks.ended", "loop=1", "outcome=failed")+1, "asyncio.tasks.ended", "loop=1", "outcome=failed")
		c.want(t, 1, "asyncio.executor.running", "loop=1")
		h, _ := c["asyncio.step.duration"].Data.(metricdata.Histogram[float64])
		if len(h.DataPoints) != 1 || h.DataPoints[0].Count < 12 || len(h.DataPoints[0].BucketCounts) != len(h.DataPoints[0].Bounds)+1 {
			t.Errorf("steps: %+v", h)
		}
		// Now the loop is stuck: it waits for the collection.
		done := make(chan collected)
		go func() { done <- collect(t, r) }()
		begun := time.Now()
		c = <-done
		if took := time.Since(begun); took > 300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		c.want(t, 1, "asyncio.loop.stuck", "loop=1")
		c.want(t, 8, "asyncio.tasks", "loop=1", "coroutine=asynciootel_test.sleeper")
		return nil
	})
}

// The names are those of the Prometheus collector, as OpenTelemetry writes them, so that one
// dashboard serves both.
func TestProducer_Names(t *testing.T) {
	r := newReader(t)
	var c collected
	run(t, func(ctx context.Context) (err error) {
		c, err = asyncio.ToThread(ctx, func(context.Context) (collected, error) { return collect(t, r), nil })
		return err
	})
	text, err := os.ReadFile("../docs/metrics.md")
	if os.IsNotExist(err) {
		return // the module by itself, as it is downloaded
	}
	must(t, err)
	documented := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "| `asyncio_"); ok {
			name, _, _ = strings.Cut(name, "`")
			name, _, _ = strings.Cut(name, "{")
			documented["asyncio_"+name] = true
		}
	}
	for name, m := range c {
		exported := strings.ReplaceAll(name, ".", "_")
		if m.Unit == "s" {
			exported += "_seconds"
		}
		if d, ok := m.Data.(metricdata.Sum[int64]); ok && d.IsMonotonic {
			exported += "_total"
		}
		if !documented[exported] {
			t.Errorf("%s is %s for Prometheus, which docs/metrics.md does not have", name, exported)
		}
		delete(documented, exported)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which is not there", name)
	}
}
