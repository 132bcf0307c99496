package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A service is what the two programs have in common: a journal, and a server of HTTP and JSON.
//
//	service 1: A handler tells nobody what is not durable. It runs in the task of its connection,
//	   and nothing else runs between two of its awaits, so the maps of a service need no lock.
//	service 2: A service that is told to stop (SIGTERM cancels its main task) accepts no more
//	   connections, finishes the requests that have reached a handler, then its background work, and
//	   closes the journal last.
//	service 3: Everything has a limit: the size of a request, the time to read it, to handle it and
//	   to write the answer. So a shutdown has one too.
//	service 4: A failed journal ends the service with an error, and its supervisor starts it again.
//	   Requests get 503 meanwhile. Whether their records are durable is not known; the client asks
//	   again with the same key.
type service struct {
	config
	journal  *journal
	mux      *http.ServeMux
	metrics  []metric
	requests int // that reached a handler
	stopping bool

	// Both are nil if there is no such work: a task beside the server, and what waits for the end
	// of its work at a shutdown.
	background, finish func(ctx context.Context) error
}

// config is the configuration that both services have.
type config struct {
	addr string
	dir  string
	log  *slog.Logger

	// dropOnShutdown is broken on purpose: a shutdown closes the connections of requests that are
	// being handled, against service 2.
	dropOnShutdown bool
}

const (
	maxBody     = 64 << 10
	handleLimit = 5 * time.Second // of the handling of a request
)

func newService(c config) *service {
	s := &service{config: c, mux: http.NewServeMux()}
	s.mux.Handle("GET /healthz", s.handle(func(ctx context.Context, r *http.Request) (int, any, error) {
		if s.stopping || s.journal.err != nil {
			return 0, nil, problem{http.StatusServiceUnavailable, "stopping"}
		}
		return http.StatusOK, map[string]string{"status": "ok"}, nil
	}))
	s.mux.HandleFunc("GET /metrics", s.serveMetrics)
	s.count("http_requests_total", "Requests that reached a handler.", func() int { return s.requests })
	s.count("journal_syncs_total", "Batches that were made durable.", func() int { return s.journal.syncs })
	return s
}

// run opens the journal, gives its records to load, and serves until the task is cancelled
// (service 2).
func (s *service) run(ctx context.Context, load func(record []byte) error) (err error) {
	j, records, err := openJournal(ctx, s.dir)
	if err != nil {
		return err
	}
	s.journal = j
	defer func() { err = errors.Join(err, asyncio.Cleanup(ctx, handleLimit, j.close)) }()
	for _, r := range records {
		if err := load(r); err != nil {
			return fmt.Errorf("a record of the journal, %s: %w", r, err)
		}
	}
	// The groups are nested, so background is over before the journal ends.
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, writer *asyncio.TaskGroup) error {
		writer.CreateTask(ctx, j.run, asyncio.TaskName("journal"))
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			if s.background != nil {
				tg.CreateTask(ctx, s.background, asyncio.TaskName("background"))
			}
			err := s.serve(ctx)
			if s.finish != nil && j.err == nil {
				err = errors.Join(err, s.finish(ctx))
			}
			return err // a cancel, as a rule; it ends the group
		})
	})
}

// serve serves until the task is cancelled and the requests being handled are answered.
func (s *service) serve(ctx context.Context) error {
	ln, err := asyncio.Listen(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	srv := asynciohttp.NewServer(&http.Server{
		Handler:        http.MaxBytesHandler(s.logged(s.mux), maxBody),
		ReadTimeout:    10 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	})
	srv.RegisterOnShutdown(func() { s.stopping = true })
	s.log.Info("serving", "address", ln.Addr())
	if s.dropOnShutdown {
		return serveAndDrop(ctx, srv, ln)
	}
	return srv.Serve(ctx, ln)
}

// serveAndDrop is broken on purpose: see config.dropOnShutdown.
func serveAndDrop(ctx context.Context, srv *asynciohttp.Server, ln *asyncio.Listener) error {
	serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return srv.Serve(ctx, ln) }))
	_, err := asyncio.Shield(ctx, serving).Await(ctx)
	_ = srv.Close()           // the handlers' contexts end, and so do their connections
	_, _ = serving.Await(ctx) // http.ErrServerClosed
	return err
}

// wait suspends the task until a record is durable. A cancel ends the wait and nothing else.
func wait(ctx context.Context, durable *asyncio.Future[asyncio.None]) error {
	if durable == nil { // it was read from the journal
		return nil
	}
	_, err := asyncio.Shield(ctx, durable).Await(ctx)
	if err != nil && durable.Done() && errors.Is(err, durable.Exception()) { // not a cancel
		err = problem{http.StatusServiceUnavailable, err.Error()}
	}
	return err
}

// newID returns an ID that no key of taken has.
func newID[T any](ctx context.Context, taken map[string]T) string {
	for {
		id := fmt.Sprintf("%016x", asyncio.Rand(ctx).Uint64())
		if _, ok := taken[id]; !ok {
			return id
		}
	}
}

// A problem is an error that the client is told.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

// handle makes a handler of a function that returns the status and the body of the response, or a
// problem. It gives the function its limit of time (service 3).
func (s *service) handle(fn func(ctx context.Context, r *http.Request) (status int, body any, err error)) http.Handler {
	return asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		var status int
		var body any
		err := asyncio.FailAfter(ctx, handleLimit, func(ctx context.Context) (err error) {
			status, body, err = fn(ctx, r)
			return err
		})
		var p problem
		switch {
		case errors.Is(err, asyncio.ErrTimeout):
			p = problem{http.StatusServiceUnavailable, "that took too long; ask again with the same Idempotency-Key"}
		case err != nil && !errors.As(err, &p):
			return err // a cancel: the client has gone
		}
		if err != nil {
			status, body = p.status, map[string]string{"error": p.text}
			if status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
		}
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(append(data, '\n')) // it fails if the client has gone, whom nobody can tell
		return nil
	})
}

// readBody reads the JSON of a request into v. Reads of a body take no ctx, so the server's
// ReadTimeout limits them, and FailAfter does not.
func readBody(r *http.Request, v any) error {
	data, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.Is(err, asyncio.ErrCancelled):
		return err
	case errors.As(err, &long):
		return problem{http.StatusRequestEntityTooLarge, "the body is too long"}
	case err != nil:
		return problem{http.StatusBadRequest, "the body is incomplete"}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return problem{http.StatusBadRequest, "the body is not what belongs here: " + err.Error()}
	}
	if d.More() {
		return problem{http.StatusBadRequest, "the body goes on behind the JSON"}
	}
	return nil
}

// logged logs each request when it reaches the handlers, and when they have finished.
func (s *service) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests++
		s.log.Debug("accepted", "method", r.Method, "path", r.URL.Path, "request", r.Header.Get("X-Request-Id"))
		sw := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(sw, r)
		s.log.Debug("answered", "method", r.Method, "path", r.URL.Path, "request", r.Header.Get("X-Request-Id"), "status", sw.status)
	})
}

// A statusWriter remembers the status of a response. It is 0 if there is none: the client or the
// connection has gone.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A metric is a number for GET /metrics.
type metric struct {
	name, kind, help string
	value            func() int
}

func (s *service) count(name, help string, value func() int) {
	s.metrics = append(s.metrics, metric{name, "counter", help, value})
}

func (s *service) gauge(name, help string, value func() int) {
	s.metrics = append(s.metrics, metric{name, "gauge", help, value})
}

// serveMetrics writes the metrics in the text format of Prometheus.
func (s *service) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range s.metrics {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", m.name, m.help, m.name, m.kind, m.name, m.value())
	}
}
