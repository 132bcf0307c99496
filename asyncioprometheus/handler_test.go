package asyncioprometheus_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asyncioprometheus"
)

// A task that serves the metrics of its own loop does not make the loop stuck, and neither does a
// goroutine.
func TestHandler(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	must(t, r.Register(asyncioprometheus.NewCollector()))
	h := asyncioprometheus.Handler(r, promhttp.HandlerOpts{})
	serve := func(ctx context.Context) page {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil))
		parser := expfmt.NewTextParser(model.LegacyValidation)
		p, err := parser.TextToMetricFamilies(w.Body)
		must(t, err)
		return p
	}
	run(t, func(ctx context.Context) error {
		stalls := serve(ctx).value("asyncio_stalls_total", "loop=1")
		for range 3 {
			p := serve(ctx)
			p.want(t, 0, "asyncio_loop_stuck", "loop=1")
			p.want(t, 1, "asyncio_tasks", "loop=1", "state=waiting")
		}
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			p := serve(ctx)
			p.want(t, 0, "asyncio_loop_stuck", "loop=1")
			p.want(t, stalls, "asyncio_stalls_total", "loop=1")
			return asyncio.None{}, nil
		})
		return err
	})
}

// What the gatherer says of an error becomes what the options say, and a cancel is obeyed.
func TestHandler_Errors(t *testing.T) {
	g := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("no numbers") })
	h := asyncioprometheus.Handler(g, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
	run(t, func(ctx context.Context) error {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil))
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "no numbers") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		w = httptest.NewRecorder()
		cancelled := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).(*asyncio.Task[asyncio.None]).Cancel()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil))
			return nil
		}))
		_, _, err := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{cancelled})
		if w.Body.Len() > 0 {
			t.Errorf("a response after a cancel: %s", w.Body)
		}
		return err
	})
}
