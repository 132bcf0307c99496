package inspect

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

//go:embed page.html
var page []byte

func init() { http.Handle("/debug/asyncio/", Handler()) }

// patience is how long a request may take.
const patience = 5 * time.Second

// maxEach is how many tasks a request may ask for one by one.
const maxEach = 10_000

// A HandlerOption is an option of [Handler]. Any goroutine may make one.
type HandlerOption struct{ set func(*pages) }

// AllowCancel lets everybody who can open the page cancel tasks from it. The requests of other
// sites' pages are refused. The page that importing this package serves does not allow it.
func AllowCancel() HandlerOption { return HandlerOption{func(p *pages) { p.mayCancel = true }} }

// pages is how the page is served.
type pages struct{ mayCancel bool }

// Handler serves the page, which is live, the JSON of [Process] below it, at json, and what the
// flight recorders hold, at recording: a page, or a file with ?format=file. It is for
// net/http's own servers, whose goroutines answer while a loop is stuck; a server on a loop would
// be stuck with it. Serve it under /debug/asyncio/, and to nobody whom you would not show the
// program's stacks: it asks for no password.
func Handler(opts ...HandlerOption) http.Handler {
	var p pages
	for _, o := range opts {
		if o.set != nil {
			o.set(&p)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/asyncio/{$}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		first := []byte("{}")
		if p, err := Take(ctx, withoutStacks); err == nil {
			first, _ = json.Marshal(p) // in which < is escaped
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; img-src 'self' data:")
		shown := bytes.Replace(page, []byte(">{}<"), slices.Concat([]byte(">"), first, []byte("<")), 1)
		if p.mayCancel {
			shown = bytes.Replace(shown, []byte(`data-cancel="no"`), []byte(`data-cancel="yes"`), 1)
		}
		_, _ = w.Write(shown)
	})
	mux.Handle("POST /debug/asyncio/cancel", http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.cancel)))
	mux.HandleFunc("GET /debug/asyncio/json", func(w http.ResponseWriter, r *http.Request) {
		each := 0
		if q := r.URL.Query().Get("each"); q != "" {
			if _, err := fmt.Sscanf(q, "%d", &each); err != nil || each < 0 || each > maxEach {
				http.Error(w, fmt.Sprintf("each=%s: it is a number of tasks from 0 to %d", q, maxEach), http.StatusBadRequest)
				return
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		p, err := Take(ctx, Each(each))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(p)
	})
	mux.HandleFunc("GET /debug/asyncio/events", events)
	mux.HandleFunc("GET /debug/asyncio/recording", serveRecording)
	return mux
}

// cancel cancels a task.
func (p *pages) cancel(w http.ResponseWriter, r *http.Request) {
	if !p.mayCancel {
		http.Error(w, "cancelling is not allowed here: inspect.Handler was called without AllowCancel", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	loop, err := strconv.Atoi(r.FormValue("loop"))
	if err != nil {
		http.Error(w, fmt.Sprintf("loop=%s: it is the number of a loop", r.FormValue("loop")), http.StatusBadRequest)
		return
	}
	switch err := Cancel(ctx, loop, r.FormValue("id"), r.FormValue("name")); {
	case errors.Is(err, ErrNoTask):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// events sends a Process each second, as server-sent events, until the client has gone. If a loop
// is stuck, what can be said at once comes first, and the stack a moment later.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	send := func(opts ...Option) (p *Process, err error) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		p, err = Take(ctx, opts...)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(p)
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", text)
		}
		return p, errors.Join(err, flush.Flush())
	}
	isStuck := func(l *Loop) bool { return l.Stuck != nil }
	known := false // that a loop is stuck, and where
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var p *Process
		var err error
		if !known {
			p, err = send(withoutStacks)
			known = err == nil && slices.ContainsFunc(p.Loops, isStuck)
		}
		if err == nil && known {
			p, err = send()
		}
		if err != nil {
			return
		}
		known = slices.ContainsFunc(p.Loops, isStuck)
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
