// Package asynciootel connects the event loops and tasks of a program with OpenTelemetry.
//
// Metrics, by a producer that the program's reader is made with:
//
//	metric.NewPeriodicReader(exporter, metric.WithProducer(asynciootel.NewProducer()))
//
// docs/metrics.md lists them. Collecting them never waits for a loop that is stuck.
//
// Spans for tasks:
//
//	asynciootel.TraceTasks(loop)
//
// Contexts need no help. A task has the context that it was made with, so a span that is in there
// is the parent of the spans of the task, of its children, of functions in [asyncio.ToThread] and
// of coroutines of other loops called by [asyncio.Call]. Across HTTP, the propagators of otelhttp
// carry it, under asynciohttp's server and transport too, because these call handlers and round
// trippers with the contexts of net/http.
package asynciootel
