// Package asyncioprometheus gives the numbers of a process's event loops to Prometheus:
//
//	prometheus.MustRegister(asyncioprometheus.NewCollector())
//	http.Handle("/metrics", asyncioprometheus.Handler(prometheus.DefaultGatherer, promhttp.HandlerOpts{}))
//
// docs/metrics.md lists the metrics and says what they mean; dashboard.json there is a dashboard
// for Grafana.
//
// A scrape never waits for a loop that is stuck: what is known of it is returned, the totals as of
// now and the rest as it told them last, and asyncio_loop_stuck is 1. Loops of a simulation have no
// metrics.
package asyncioprometheus

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goasyncio/asyncio/metrics"
)

// An Option is an option of [NewCollector]. Any goroutine may make one.
type Option struct{ of metrics.Option }

// MaxCoroutines limits how many values the label "coroutine" may have, 50 by default. The tasks of
// the coroutines that the collector meets later have the value "other". MaxCoroutines panics if n
// is negative.
func MaxCoroutines(n int) Option { return Option{metrics.MaxCoroutines(n)} }

var perLoop = []string{"loop"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("asyncio_"+name, help, append(perLoop[:1:1], labels...), nil)
}

// What there is. TestMetrics compares it with docs/metrics.md.
var (
	lag         = desc("loop_lag_seconds", "How long a callback from outside has waited for its turn, at this scrape.")
	stuck       = desc("loop_stuck", "1 if a step keeps the loop from going on, else 0.")
	stuckFor    = desc("loop_stuck_duration_seconds", "For how long that step has been seen, 0 if the loop is not stuck.")
	steps       = desc("step_duration_seconds", "How long steps of tasks and callbacks took; the sum is the time in which the loop did not wait.")
	iterations  = desc("iteration_duration_seconds", "How long iterations of the loop took.")
	stalls      = desc("stalls_total", "Steps that took at least the slow callback duration.")
	tasks       = desc("tasks", "Tasks that are not done.", "state", "coroutine")
	made        = desc("tasks_made_total", "Tasks that were made.")
	ended       = desc("tasks_ended_total", "Tasks that have ended, by outcome.", "outcome")
	ready       = desc("ready_callbacks", "Callbacks that can run.")
	timers      = desc("timers", "Timers that are set.")
	connections = desc("connections", "Connections that are open.")
	queued      = desc("executor_queue", "Jobs that wait for a goroutine of the default executor.")
	running     = desc("executor_running", "Jobs that the default executor is running.")

	all = []*prometheus.Desc{lag, stuck, stuckFor, steps, iterations, stalls, tasks, made, ended, ready, timers, connections, queued, running}
)

type collector struct{ reader *metrics.Reader }

// NewCollector makes a collector for the loops of this process, to be registered with a registry.
// From the first one on, all loops count what they do, those that run already too. Any goroutine
// may call NewCollector, and a collector. A collector blocks its caller for at most 200
// milliseconds: it must not be called in a task.
func NewCollector(opts ...Option) prometheus.Collector {
	of := make([]metrics.Option, len(opts))
	for i, o := range opts {
		of[i] = o.of
	}
	return &collector{metrics.NewReader(of...)}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.reader.Read(context.Background()) {
		s := scrape{ch, strconv.Itoa(l.Number)}
		s.totals(l)
		if l.Running != nil {
			s.running(l.Running)
		}
	}
}

// A scrape sends the metrics of a loop.
type scrape struct {
	ch   chan<- prometheus.Metric
	loop string
}

func (s scrape) totals(l *metrics.Loop) {
	s.histogram(steps, &l.Steps)
	s.histogram(iterations, &l.Iterations)
	s.counter(stalls, l.Stalls)
	s.counter(made, l.Made)
	s.counter(ended, l.Returned, "returned")
	s.counter(ended, l.Failed, "failed")
	s.counter(ended, l.Cancelled, "cancelled")
	s.counter(ended, l.Panicked, "panicked")
}

func (s scrape) running(r *metrics.Running) {
	s.gauge(lag, r.Lag.Seconds())
	isStuck, since := 0.0, time.Duration(0)
	if r.Stuck != nil {
		isStuck, since = 1, r.Stuck.For
	}
	s.gauge(stuck, isStuck)
	s.gauge(stuckFor, since.Seconds())
	c := r.Last
	if c == nil {
		return
	}
	for _, t := range c.Tasks {
		s.gauge(tasks, float64(t.Count), t.State, t.Coroutine)
	}
	s.gauge(ready, float64(c.Ready))
	s.gauge(timers, float64(c.Timers))
	s.gauge(connections, float64(c.Connections))
	if c.Executor != nil {
		s.gauge(queued, float64(c.Executor.Queued))
		s.gauge(running, float64(c.Executor.Running))
	}
}

func (s scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.loop}, labels...)...)
}

func (s scrape) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{s.loop}, labels...)...)
}

func (s scrape) histogram(d *prometheus.Desc, h *metrics.Histogram) {
	upTo := make(map[float64]uint64, len(h.Bounds))
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		upTo[bound.Seconds()] = n
	}
	s.ch <- prometheus.MustNewConstHistogram(d, h.Count(), h.Sum.Seconds(), upTo, s.loop)
}
