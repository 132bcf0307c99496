package inspect

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

//go:embed page.html
var page []byte

func init() { http.Handle("/debug/asyncio/", Handler()) }

// patience is how long a request may take.
const patience = 5 * time.Second

// maxEach is how many tasks a request may ask for one by one.
const maxEach = 10_000

// Handler serves the page, which is live, the JSON of [Process] below it, at json, and what the
// flight recorders hold, at recording: a page, or a file with ?format=file. It is for
// net/http's own servers, whose goroutines answer while a loop is stuck; a server on a loop would
// be stuck with it. Serve it under /debug/asyncio/, and to nobody whom you would not show the
// program's stacks: it asks for no password.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/asyncio/{$}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		first := []byte("{}")
		if p, err := Take(ctx); err == nil {
			first, _ = json.Marshal(p) // in which < is escaped
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
		_, _ = w.Write(bytes.Replace(page, []byte(">{}<"), slices.Concat([]byte(">"), first, []byte("<")), 1))
	})
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

// events sends a Process each second, as server-sent events, until the client has gone.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		p, err := Take(ctx)
		cancel()
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
