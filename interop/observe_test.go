//go:build unix

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// An observer notes what a request does, by a library for logs, traces or metrics. The library
// finds the request in the ctx.
type observer struct {
	begin func(ctx context.Context, request string) context.Context
	note  func(ctx context.Context, place string)
	// seen returns how often each place was noted, by request and place.
	seen func(t *testing.T) map[string]int
}

func observeRows() []row {
	var rows []row
	for _, library := range slices.Sorted(maps.Keys(observers)) {
		rows = append(rows, row{library: library, way: asItIs, sim: "yes", by: "TestObserve"})
	}
	return rows
}

type place struct {
	name string
	run  func(ctx context.Context, other *asyncio.EventLoop, fn func(ctx context.Context) error) error
}

// places are where a request may note something: each calls fn with a ctx that comes from the one
// given. Those that need another loop are last; simulated programs have none.
var places = []place{
	{"after an await", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		return fn(ctx)
	}},
	{"CreateTask", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.CreateTask(ctx, asyncio.Do(fn)).Await(ctx)
		return err
	}},
	{"RunTaskGroup", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, fn)
			return nil
		})
	}},
	{"Gather", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.Gather(ctx, asyncio.Do(fn))
		return err
	}},
	{"Shield", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.Shield(ctx, asyncio.Do(fn)).Await(ctx)
		return err
	}},
	{"FailAfter", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		return asyncio.FailAfter(ctx, patience, fn)
	}},
	{"WithTimeout", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		ctx, cancel := asyncio.WithTimeout(ctx, patience)
		defer cancel()
		return fn(ctx)
	}},
	{"ToThread", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, fn(ctx) })
		return err
	}},
	{"Outside", func(ctx context.Context, _ *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		return fn(asyncio.Outside(ctx))
	}},
	{"Call of another loop", func(ctx context.Context, other *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.Call(ctx, other, asyncio.Do(fn))
		return err
	}},
	{"StartCall by a thread", func(ctx context.Context, other *asyncio.EventLoop, fn func(ctx context.Context) error) error {
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			return asyncio.StartCall(ctx, other, asyncio.Do(fn)).Result(ctx)
		})
		return err
	}},
}

const ofOneLoop = 9 // how many places need no other loop

// goThrough has twenty requests at a time go through the places, each in its own order and several
// times, and note what they do.
func (o observer) goThrough(ctx context.Context, places []place, other *asyncio.EventLoop) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for i := range requests {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				ctx = o.begin(ctx, fmt.Sprint("request ", i))
				for range rounds {
					for _, j := range asyncio.Rand(ctx).Perm(len(places)) {
						if err := places[j].run(ctx, other, func(ctx context.Context) error {
							o.note(ctx, places[j].name)
							return nil
						}); err != nil {
							return fmt.Errorf("%s: %w", places[j].name, err)
						}
					}
				}
				return nil
			})
		}
		return nil
	})
}

// check: what a library has noted is put down to the request that did it.
func (o observer) check(t *testing.T, places []place) {
	t.Helper()
	want := map[string]int{}
	for i := range requests {
		for _, place := range places {
			want[fmt.Sprintf("request %d, %s", i, place.name)] = rounds
		}
	}
	if seen := o.seen(t); !maps.Equal(seen, want) {
		t.Errorf("noted %v, want %v", seen, want)
	}
}

const requests, rounds = 20, 5

// TestObserve: tasks note what they do on two loops, and in simulations.
func TestObserve(t *testing.T) {
	for name, make := range observers {
		t.Run(name, func(t *testing.T) {
			o := make()
			_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
				return asyncio.None{}, o.goThrough(ctx, places, g.Loop(1))
			}, asyncio.DebugMode(true))
			must(t, err)
			o.check(t, places)
		})
		t.Run(name+", simulated", func(t *testing.T) {
			var last observer
			sim.Explore(t, func(ctx context.Context) error {
				last = make()
				return last.goThrough(ctx, places[:ofOneLoop], nil)
			}, sim.Runs(3))
			last.check(t, places[:ofOneLoop])
		})
	}
}

type requestKey struct{}

// withRequest puts the request's name into every record, as a handler of a program does.
type withRequest struct{ slog.Handler }

func (h withRequest) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(slog.Any("request", ctx.Value(requestKey{})))
	return h.Handler.Handle(ctx, r)
}

// records are lines of JSON.
type records struct {
	transcript
	place string // the name of the field with the place
}

func (r *records) seen(t *testing.T) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for line := range strings.Lines(r.String()) {
		var fields map[string]any
		must(t, json.Unmarshal([]byte(line), &fields))
		seen[fmt.Sprintf("%v, %v", fields["request"], fields[r.place])]++
	}
	return seen
}

var observers = map[string]func() observer{
	"log/slog": func() observer {
		out := &records{place: "msg"}
		logger := slog.New(withRequest{slog.NewJSONHandler(out, nil)})
		return observer{
			begin: func(ctx context.Context, request string) context.Context {
				return context.WithValue(ctx, requestKey{}, request)
			},
			note: func(ctx context.Context, place string) { logger.InfoContext(ctx, place) },
			seen: out.seen,
		}
	},
	"zap": func() observer {
		out := &records{place: "msg"}
		logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(out), zap.InfoLevel))
		return observer{
			begin: func(ctx context.Context, request string) context.Context {
				return context.WithValue(ctx, requestKey{}, logger.With(zap.String("request", request)))
			},
			note: func(ctx context.Context, place string) { ctx.Value(requestKey{}).(*zap.Logger).Info(place) },
			seen: out.seen,
		}
	},
	"zerolog": func() observer {
		out := &records{place: "message"}
		logger := zerolog.New(out)
		return observer{
			begin: func(ctx context.Context, request string) context.Context {
				return logger.With().Str("request", request).Logger().WithContext(ctx)
			},
			note: func(ctx context.Context, place string) { zerolog.Ctx(ctx).Info().Msg(place) },
			seen: out.seen,
		}
	},
	"OpenTelemetry, spans": func() observer {
		recorder := tracetest.NewSpanRecorder()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("interop")
		return observer{
			begin: func(ctx context.Context, request string) context.Context {
				ctx, span := tracer.Start(ctx, request)
				span.End()
				return ctx
			},
			note: func(ctx context.Context, place string) {
				_, span := tracer.Start(ctx, place)
				span.End()
			},
			seen: func(*testing.T) map[string]int {
				seen, names := make(map[string]int), make(map[trace.SpanID]string)
				for _, span := range recorder.Ended() {
					names[span.SpanContext().SpanID()] = span.Name()
				}
				for _, span := range recorder.Ended() {
					if span.Parent().IsValid() {
						seen[names[span.Parent().SpanID()]+", "+span.Name()]++
					}
				}
				return seen
			},
		}
	},
	"Prometheus": func() observer {
		registry := prometheus.NewRegistry()
		notes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "notes_total"}, []string{"request", "place"})
		registry.MustRegister(notes)
		return observer{
			begin: func(ctx context.Context, request string) context.Context {
				return context.WithValue(ctx, requestKey{}, request)
			},
			note: func(ctx context.Context, place string) {
				notes.WithLabelValues(ctx.Value(requestKey{}).(string), place).Inc()
			},
			seen: func(t *testing.T) map[string]int { return scraped(t, registry) },
		}
	},
}

// scraped returns the numbers that a page of metrics shows, which tasks serve.
func scraped(t *testing.T, registry *prometheus.Registry) map[string]int {
	t.Helper()
	var page string
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
		serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return asynciohttp.Serve(ctx, &http.Server{Handler: handler}, ln)
		}))
		defer serving.Cancel()
		response, err := asynciohttp.Get(ctx, "http://"+ln.Addr().String())
		if err != nil {
			return err
		}
		text, err := asynciohttp.ReadAll(response.Body, 1<<20)
		page = string(text)
		return err
	}))
	must(t, err)
	http.DefaultClient.CloseIdleConnections()
	seen := make(map[string]int)
	for line := range strings.Lines(page) {
		var place, request string
		var n int
		if _, err := fmt.Sscanf(line, "notes_total{place=%q,request=%q} %d", &place, &request, &n); err == nil {
			seen[request+", "+place] = n
		}
	}
	return seen
}
