package asyncioprometheus

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/goasyncio/asyncio"
)

// Handler serves what g gathers, as [promhttp.HandlerFor] does, to a server of goroutines or of
// tasks, such as package asynciohttp's. With promhttp's own handler a task would block its loop
// until the collector of this package has given up waiting for that very loop, which would seem to
// be stuck. Here the task awaits a thread function that gathers.
//
// Any goroutine may call Handler, and any goroutine or task the handler. In a task the handler
// suspends, and a cancel ends it without a response.
func Handler(g prometheus.Gatherer, opts promhttp.HandlerOpts) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := asyncio.GetRunningLoop(r.Context()); err != nil { // a goroutine
			promhttp.HandlerFor(g, opts).ServeHTTP(w, r)
			return
		}
		var failed error
		found, err := asyncio.ToThread(r.Context(), func(context.Context) (all []*dto.MetricFamily, err error) {
			all, failed = g.Gather() // of what has failed the handler makes what opts say
			return all, nil
		})
		if err != nil {
			return
		}
		gathered := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return found, failed })
		promhttp.HandlerFor(gathered, opts).ServeHTTP(w, r)
	})
}
