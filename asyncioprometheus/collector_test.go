package asyncioprometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asyncioprometheus"
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

// A page is the metrics of a scrape, by name.
type page map[string]*dto.MetricFamily

// handler returns the handler of a registry that has a collector, and nothing else.
func handler(t *testing.T, opts ...asyncioprometheus.Option) http.Handler {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	must(t, r.Register(asyncioprometheus.NewCollector(opts...)))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
}

// scrape asks for the page and has another package than the one that wrote it read it. It is for
// goroutines.
func scrape(h http.Handler) (page, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(w.Body)
}

// scraped is scrape for a task, which awaits it.
func scraped(ctx context.Context, h http.Handler) (page, error) {
	return asyncio.ToThread(ctx, func(context.Context) (page, error) { return scrape(h) })
}

// value returns the value of the metric with these labels, given as "name=value", -1 if there is
// none. Of a histogram it is the count.
func (p page) value(name string, labels ...string) float64 {
	for _, m := range p[name].GetMetric() {
		all := make(map[string]bool)
		for _, l := range m.GetLabel() {
			all[l.GetName()+"="+l.GetValue()] = true
		}
		missing := false
		for _, l := range labels {
			missing = missing || !all[l]
		}
		switch {
		case missing:
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	return -1
}

func (p page) want(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	if got := p.value(name, labels...); got != want {
		t.Errorf("%s%v is %v, want %v", name, labels, got, want)
	}
}

func sleeper(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

func spawn(ctx context.Context, n int, coro func(ctx context.Context) error) (all []*asyncio.Task[asyncio.None]) {
	for range n {
		all = append(all, asyncio.CreateTask(ctx, asyncio.Do(coro)))
	}
	return all
}

const coroutineOfSleeper = "coroutine=asyncioprometheus_test.sleeper"

func TestCollector_Tasks(t *testing.T) {
	h := handler(t)
	before, err := scrape(h)
	must(t, err)
	run(t, func(ctx context.Context) error {
		asleep := spawn(ctx, 30, sleeper)
		lost := spawn(ctx, 4, func(context.Context) error { return os.ErrInvalid })
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		for _, task := range asleep[:10] {
			task.Cancel()
		}
		for _, task := range lost {
			_ = task.Exception()
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		must(t, err)
		loop.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		spawn(ctx, 2, func(context.Context) error { panic("here") })
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		spawn(ctx, 5, sleeper) // they are new when the scrape comes
		p, err := scraped(ctx, h)
		must(t, err)
		p.want(t, 25, "asyncio_tasks", "loop=1", "state=waiting", coroutineOfSleeper)
		p.want(t, 25, "asyncio_timers", "loop=1")
		p.want(t, 0, "asyncio_loop_stuck", "loop=1")
		p.want(t, 0, "asyncio_loop_stuck_duration_seconds", "loop=1")
		p.want(t, max(before.value("asyncio_stalls_total", "loop=1"), 0), "asyncio_stalls_total", "loop=1")
		p.want(t, 0, "asyncio_connections", "loop=1")
		p.want(t, 0, "asyncio_executor_queue", "loop=1")
		p.want(t, 1, "asyncio_executor_running", "loop=1") // the scrape itself
		for outcome, n := range map[string]float64{"returned": 0, "failed": 4, "cancelled": 10, "panicked": 2} {
			was := max(before.value("asyncio_tasks_ended_total", "loop=1", "outcome="+outcome), 0)
			p.want(t, was+n, "asyncio_tasks_ended_total", "loop=1", "outcome="+outcome)
		}
		there := p.value("asyncio_tasks_made_total", "loop=1")
		for _, outcome := range []string{"returned", "failed", "cancelled", "panicked"} {
			there -= p.value("asyncio_tasks_ended_total", "loop=1", "outcome="+outcome)
		}
		if there != 26 { // with main
			t.Errorf("%v tasks are there, made less ended", there)
		}
		if lag := p.value("asyncio_loop_lag_seconds", "loop=1"); lag <= 0 || lag > 1 {
			t.Errorf("the lag is %v", lag)
		}
		steps := p["asyncio_step_duration_seconds"].GetMetric()[0].GetHistogram()
		if steps.GetSampleCount() < 50 || steps.GetSampleSum() <= 0 || len(steps.GetBucket()) != 16 {
			t.Errorf("steps: %v", steps)
		}
		if n := p.value("asyncio_iteration_duration_seconds", "loop=1"); n < 4 {
			t.Errorf("%v iterations", n)
		}
		return nil
	})
}

// Totals go on when the loop has ended, and with the next loop, which gets its number.
func TestCollector_TotalsStay(t *testing.T) {
	h := handler(t)
	made := func() [2]float64 {
		p, err := scrape(h)
		must(t, err)
		p.want(t, -1, "asyncio_loop_stuck", "loop=1") // no loop runs
		return [2]float64{p.value("asyncio_tasks_made_total", "loop=1"), p.value("asyncio_tasks_made_total", "loop=2")}
	}
	run(t, func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })
	first := made()
	for range 3 {
		run(t, func(ctx context.Context) error {
			spawn(ctx, 10, func(context.Context) error { return nil })
			return asyncio.Sleep(ctx, 0)
		})
	}
	if last := made(); last != [2]float64{first[0] + 33, first[1]} {
		t.Errorf("%v tasks were made, and then %v", first, last)
	}
}

// A collector made while the loop runs counts the tasks that are there.
func TestCollector_MadeLater(t *testing.T) {
	run(t, func(ctx context.Context) error {
		spawn(ctx, 7, sleeper)
		must(t, asyncio.Sleep(ctx, 0))
		p, err := scraped(ctx, handler(t))
		must(t, err)
		p.want(t, 7, "asyncio_tasks", "loop=1", "state=waiting", coroutineOfSleeper)
		return nil
	})
}

// A scrape does not wait for a loop that is stuck. It says so, with what it knows.
func TestCollector_Stuck(t *testing.T) {
	h := handler(t)
	type result struct {
		page
		took time.Duration
		err  error
	}
	results := make(chan result)
	look := func() {
		begun := time.Now()
		p, err := scrape(h)
		results <- result{p, time.Since(begun), err}
	}
	run(t, func(ctx context.Context) error {
		spawn(ctx, 3, sleeper)
		if _, err := scraped(ctx, h); err != nil {
			return err
		}
		for range 3 {
			go look()
			r := <-results // the task blocks its loop, which is what the test is about
			must(t, r.err)
			if r.took > 300*time.Millisecond {
				t.Errorf("the scrape took %v", r.took)
			}
			r.want(t, 1, "asyncio_loop_stuck", "loop=1")
			if r.value("asyncio_loop_stuck_duration_seconds", "loop=1") <= 0 || r.value("asyncio_loop_lag_seconds", "loop=1") < 0.03 {
				t.Errorf("stuck: %v, lag: %v", r.page["asyncio_loop_stuck_duration_seconds"], r.page["asyncio_loop_lag_seconds"])
			}
			r.want(t, 3, "asyncio_tasks", "loop=1", coroutineOfSleeper)
		}
		p, err := scraped(ctx, h)
		must(t, err)
		p.want(t, 0, "asyncio_loop_stuck", "loop=1")
		if p.value("asyncio_stalls_total", "loop=1") < 1 {
			t.Errorf("stalls: %v", p["asyncio_stalls_total"])
		}
		return nil
	})
}

// A loop that is stuck before anybody has asked it has totals.
func TestCollector_StuckFromTheStart(t *testing.T) {
	h := handler(t)
	run(t, func(ctx context.Context) error {
		var p page
		done := make(chan error)
		go func() {
			var err error
			p, err = scrape(h)
			done <- err
		}()
		must(t, <-done)
		p.want(t, 1, "asyncio_loop_stuck", "loop=1")
		p.want(t, -1, "asyncio_timers", "loop=1")
		if p.value("asyncio_tasks_made_total", "loop=1") < 1 {
			t.Errorf("%v", p["asyncio_tasks_made_total"])
		}
		return nil
	})
}

// A hundred scrapes at a time agree, while the loop works, and end with it.
func TestCollector_ConcurrentScrapes(t *testing.T) {
	h := handler(t)
	run(t, func(ctx context.Context) error {
		spawn(ctx, 200, sleeper)
		// With a hundred goroutines beside it the loop may look stuck, and its last census counts.
		if _, err := scraped(ctx, h); err != nil {
			return err
		}
		over := false
		busy := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for !over {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return nil }))
			}
			return nil
		}))
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					for range 2 {
						p, err := scrape(h)
						must(t, err)
						p.want(t, 200, "asyncio_tasks", "loop=1", coroutineOfSleeper, "state=waiting")
					}
				})
			}
			all.Wait()
			return asyncio.None{}, nil
		})
		over = true
		_, _ = busy.Await(ctx)
		return err
	})
}

func one(ctx context.Context) error   { return asyncio.Sleep(ctx, time.Hour) }
func two(ctx context.Context) error   { return asyncio.Sleep(ctx, time.Hour) }
func three(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

// The label "coroutine" has as many values as it may have, the most frequent ones, and no more.
func TestCollector_MaxCoroutines(t *testing.T) {
	h := handler(t, asyncioprometheus.MaxCoroutines(2))
	none := handler(t, asyncioprometheus.MaxCoroutines(0))
	run(t, func(ctx context.Context) error {
		spawn(ctx, 3, one)
		spawn(ctx, 5, two)
		for range 2 {
			p, err := scraped(ctx, h)
			must(t, err)
			p.want(t, 3, "asyncio_tasks", "coroutine=asyncioprometheus_test.one")
			p.want(t, 5, "asyncio_tasks", "coroutine=asyncioprometheus_test.two")
			p.want(t, 1, "asyncio_tasks", "coroutine=other")
		}
		more := spawn(ctx, 9, three)
		p, err := scraped(ctx, h)
		must(t, err)
		p.want(t, 5, "asyncio_tasks", "coroutine=asyncioprometheus_test.two")
		p.want(t, -1, "asyncio_tasks", "coroutine=asyncioprometheus_test.three")
		p.want(t, 10, "asyncio_tasks", "coroutine=other")
		p, err = scraped(ctx, none)
		must(t, err)
		p.want(t, 18, "asyncio_tasks", "coroutine=other", "state=waiting")
		for _, task := range more {
			task.Cancel()
		}
		must(t, asyncio.Sleep(ctx, time.Millisecond))
		p, err = scraped(ctx, h)
		must(t, err)
		p.want(t, 1, "asyncio_tasks", "coroutine=other")
		return nil
	})
	defer func() {
		if recover() == nil {
			t.Error("a negative limit is accepted")
		}
	}()
	asyncioprometheus.MaxCoroutines(-1)
}

func TestCollector_Connections(t *testing.T) {
	h := handler(t)
	run(t, func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer func() { must(t, ln.Close()) }()
		var open []net.Conn
		for range 2 {
			c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			defer func() { must(t, c.Close()) }()
			accepted, err := ln.Accept()
			if err != nil {
				return err
			}
			d := accepted.(*asyncio.Conn)
			p, err := scraped(ctx, h)
			must(t, err)
			p.want(t, float64(2+len(open)), "asyncio_connections", "loop=1")
			nc, err := d.Detach()
			if err != nil {
				return err
			}
			open = append(open, nc)
		}
		p, err := scraped(ctx, h)
		must(t, err)
		p.want(t, 2, "asyncio_connections", "loop=1") // those that were given away do not count
		for _, nc := range open {
			must(t, nc.Close())
		}
		return nil
	})
}

func TestCollector_Executor(t *testing.T) {
	h := handler(t)
	run(t, func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.SetDefaultExecutor(asyncio.NewThreadPoolExecutor(2))
		p, err := scraped(ctx, h)
		must(t, err)
		p.want(t, 1, "asyncio_executor_running", "loop=1")
		begun, goOn := make(chan bool, 2), make(chan bool)
		jobs := spawn(ctx, 5, func(ctx context.Context) error {
			_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				begun <- true
				<-goOn
				return asyncio.None{}, nil
			})
			return err
		})
		seen := make(chan page)
		go func() {
			<-begun
			<-begun
			p, err := scrape(h)
			must(t, err)
			close(goOn)
			seen <- p
		}()
		p, _, err = asyncio.Recv(ctx, seen)
		must(t, err)
		p.want(t, 2, "asyncio_executor_running", "loop=1")
		p.want(t, 3, "asyncio_executor_queue", "loop=1")
		go func() {
			for range 3 {
				<-begun
			}
		}()
		_, _, err = asyncio.Wait(ctx, jobs)
		return err
	})
}

// Loops that run at the same time have different numbers, from 1 on.
func TestCollector_SeveralLoops(t *testing.T) {
	h := handler(t)
	_, err := asyncio.RunLoopGroup(t.Context(), 3, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		must(t, g.Each(ctx, func(context.Context, int) error { return nil })) // all of them run
		p, err := scraped(ctx, h)
		must(t, err)
		for _, n := range "123" {
			p.want(t, 0, "asyncio_loop_stuck", "loop="+string(n))
		}
		p.want(t, -1, "asyncio_loop_stuck", "loop=4")
		return asyncio.None{}, nil
	}, asyncio.HandleSIGINT(false))
	must(t, err)
}

// Everything that is exported is in the document, with its type, and nothing else.
func TestMetrics(t *testing.T) {
	h := handler(t)
	var p page
	run(t, func(ctx context.Context) (err error) {
		p, err = scraped(ctx, h)
		return err
	})
	if _, err := os.Stat("../docs"); os.IsNotExist(err) {
		return // the module by itself, as it is downloaded
	}
	documented := make(map[string]string)
	for line := range strings.Lines(readFile(t, "../docs/metrics.md")) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(cells[1], " `asyncio_") {
			name, _, _ := strings.Cut(strings.Trim(cells[1], " `"), "{")
			documented[name] = strings.TrimSpace(cells[2])
		}
	}
	for name, f := range p {
		if kind := strings.ToLower(f.GetType().String()); documented[name] != kind {
			t.Errorf("%s is a %s, docs/metrics.md says %q", name, kind, documented[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which is not there", name)
	}
}

// The dashboard asks for metrics that are exported, and for all of them.
func TestDashboard(t *testing.T) {
	h := handler(t)
	var p page
	run(t, func(ctx context.Context) (err error) {
		p, err = scraped(ctx, h)
		return err
	})
	exported := make(map[string]bool)
	for name, f := range p {
		exported[name] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				exported[name+suffix] = true
			}
		}
	}
	type panel struct {
		ID          int
		Title, Type string
		Description string
		GridPos     struct{ H, W, X, Y int }
		Datasource  struct{ UID string }
		Targets     []struct{ Expr, RefID string }
	}
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []panel
		Templating    struct{ List []struct{ Name, Type string } }
	}
	must(t, json.Unmarshal([]byte(readFile(t, "dashboard.json")), &d))
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 || len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("the dashboard is %q, %q, schema %d, with variables %v", d.Title, d.UID, d.SchemaVersion, d.Templating.List)
	}
	asked := make(map[string]bool)
	ids := make(map[int]bool)
	used := make(map[[2]int]string) // cells of the grid
	for _, panel := range d.Panels {
		if panel.Title == "" || panel.Description == "" || panel.Type == "" || len(panel.Targets) == 0 || panel.Datasource.UID != "${datasource}" || ids[panel.ID] {
			t.Errorf("panel %+v", panel)
		}
		ids[panel.ID] = true
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if x >= 24 || used[[2]int{x, y}] != "" {
					t.Fatalf("panel %q is where %q is, or outside", panel.Title, used[[2]int{x, y}])
				}
				used[[2]int{x, y}] = panel.Title
			}
		}
		for _, target := range panel.Targets {
			names := regexp.MustCompile(`\basyncio_[a-z_]+`).FindAllString(target.Expr, -1)
			if len(names) == 0 || strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") {
				t.Errorf("panel %q asks for %q", panel.Title, target.Expr)
			}
			for _, name := range names {
				if !exported[name] {
					t.Errorf("panel %q asks for %s, which is not exported", panel.Title, name)
				}
				asked[name] = true
			}
		}
	}
	for name := range p {
		if !asked[name] && !asked[name+"_bucket"] && !asked[name+"_sum"] {
			t.Errorf("no panel asks for %s", name)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return string(text)
}
