package asynciohttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// responses are handlers whose responses are compared with net/http's, byte by byte.
var responses = map[string]http.HandlerFunc{
	"nothing":       func(http.ResponseWriter, *http.Request) {},
	"empty write":   func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil) },
	"short":         func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") },
	"html":          func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html><body>") },
	"binary":        func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte{0, 1, 2, 3}) },
	"2048 bytes":    write(2048),
	"2049 bytes":    write(2049),
	"4096 bytes":    write(4096),
	"5000 bytes":    write(5000),
	"100000 bytes":  write(100_000),
	"1000 and 1048": write(1000, 1048),
	"1000 and 1049": write(1000, 1049),
	"1 and 5000":    write(1, 5000),
	"many":          write(1, 2, 3, 2000, 2048, 4096, 4095, 1, 4097, 10_000, 17),
	"length declared": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5000")
		write(2000, 3000)(w, r)
	},
	"length declared, too little": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "hello")
	},
	"length declared, too much": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, err := io.WriteString(w, "hello, world")
		_, err2 := io.WriteString(w, err.Error()[:10])
		if err == nil || err2 == nil {
			panic("too much was accepted")
		}
	},
	"length declared, no number": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "ten")
		_, _ = io.WriteString(w, "hello")
	},
	"length declared, negative": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "-5")
		_, _ = io.WriteString(w, "hello")
	},
	"length zero": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "0") },
	"fields": func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-B"] = []string{"1", "2"}
		h["X-A"] = []string{" padded\t"}
		h["x-raw"] = []string{"raw"}
		h["X Bad"] = []string{"dropped"}
		h["X-Line"] = []string{"a\r\nInjected: b\nc"}
		h["X-None"] = nil
		h[""] = []string{"dropped"}
		_, _ = io.WriteString(w, "hello")
	},
	"fields after WriteHeader": func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-A", "1")
		h.Set("X-B", "1")
		w.WriteHeader(201)
		h.Set("X-A", "2")
		h.Del("X-B")
		h.Set("X-C", "1")
		_, _ = io.WriteString(w, "hello")
	},
	"Header first used after WriteHeader": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.Header().Set("X-A", "2")
	},
	"WriteHeader twice": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.WriteHeader(500)
	},
	"type":           field("Content-Type", "text/x"),
	"type, nil":      func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil; write(5)(w, r) },
	"encoding":       field("Content-Encoding", "gzip"),
	"empty encoding": field("Content-Encoding", ""),
	"date":           field("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
	"no date":        func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil; write(5)(w, r) },
	"close":          field("Connection", "close"),
	"Close":          field("Connection", "Close"),
	"keep-alive":     field("Connection", "keep-alive"),
	"keep-alive with length": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		field("Connection", "keep-alive")(w, r)
	},
	"other connection": field("Connection", "x-hop"),
	"TE chunked":       field("Transfer-Encoding", "chunked"),
	"TE identity":      field("Transfer-Encoding", "identity"),
	"TE gzip":          field("Transfer-Encoding", "gzip"),
	"TE and length": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		field("Transfer-Encoding", "chunked")(w, r)
	},
	"trailers": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Two, X-One, Content-Length")
		w.Header().Add("Trailer", "x-unset")
		_, _ = io.WriteString(w, "hello")
		w.Header().Set("X-One", "1")
		w.Header().Add("X-Two", "2a")
		w.Header().Add("X-Two", "2b")
		w.Header().Set("X-Three", "not announced")
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	},
	"trailers by prefix only": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(http.TrailerPrefix+"X-Early", "early")
		write(5)(w, r)
	},
	"trailers by prefix, late": func(w http.ResponseWriter, r *http.Request) {
		write(5)(w, r)
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	},
	"flushes": func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for i := range 3 {
			fmt.Fprintf(w, "line %d\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
		}
	},
	"flush, no body": func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush() },
	"informational": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(103)
		w.WriteHeader(102)
		w.Header().Del("Link")
		write(5)(w, r)
	},
	"100 by hand": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(100); write(5)(w, r) },
	"101": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(101)
	},
	"201":          status(201),
	"204":          status(204),
	"205":          status(205),
	"299":          status(299),
	"304":          status(304),
	"404":          status(404),
	"599":          status(599),
	"999":          status(999),
	"http.Error":   func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 418) },
	"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", 302) },
	"not found":    http.NotFound,
	"abort":        func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	"panic":        func(w http.ResponseWriter, r *http.Request) { panic("on purpose") },
	"write, panic": func(w http.ResponseWriter, r *http.Request) { write(5)(w, r); panic("on purpose") },
	"flush, panic": func(w http.ResponseWriter, r *http.Request) { write(5)(w, r); w.(http.Flusher).Flush(); panic("x") },
	"long, panic":  func(w http.ResponseWriter, r *http.Request) { write(10_000)(w, r); panic("x") },
	"bad status":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(99) },
	"content": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("0123456789", 1000)))
	},
	"hijack": func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, err = w.Write([]byte("x"))
		fmt.Fprintf(rw, "raw, %v\n", err)
		_ = rw.Flush()
	},
	"write and hijack": func(w http.ResponseWriter, r *http.Request) {
		write(5)(w, r)
		w.(http.Flusher).Flush() // net/http would lose the bytes
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, _ = rw.WriteString("raw\n")
		_ = rw.Flush()
	},
	"hijack, echo": func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		all, err := io.ReadAll(rw)
		fmt.Fprintf(c, "%q %v", all, err)
	},
	"read half": func(w http.ResponseWriter, r *http.Request) {
		n, err := io.ReadFull(r.Body, make([]byte, 2))
		fmt.Fprint(w, n, err)
	},
	"close body": func(w http.ResponseWriter, r *http.Request) {
		err := r.Body.Close()
		_, err2 := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, err, err2)
	},
	"write, then read": func(w http.ResponseWriter, r *http.Request) {
		write(5000)(w, r)
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(b), err != nil) // which error it is depends on the release of Go
	},
	"full duplex": func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			panic(err)
		}
		write(5000)(w, r)
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(b), err)
	},
	"scanner": func(w http.ResponseWriter, r *http.Request) {
		for s := bufio.NewScanner(r.Body); s.Scan(); {
			fmt.Fprintln(w, "<", s.Text())
		}
	},
	"form": func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseForm()
		fmt.Fprint(w, r.Form, err)
	},
	"status and written": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		_, err := w.Write([]byte("x"))
		if err != http.ErrBodyNotAllowed {
			panic(err)
		}
	},
}

func write(sizes ...int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i, n := range sizes {
			// net/http cuts strings into shorter chunks
			_, _ = w.Write(bytes.Repeat([]byte{byte('a' + i)}, n))
		}
	}
}

func field(name, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		write(5)(w, r)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		w.Header().Set("X-A", "1")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "hello")
	}
}

// byName serves the handler of the query.
func byName(w http.ResponseWriter, r *http.Request) { responses[r.URL.Query().Get("name")](w, r) }

func query(name string) string {
	return "/?name=" + strings.NewReplacer(" ", "+", ",", "%2C").Replace(name)
}

// TestServer_Responses: what handlers do gives the same bytes as with net/http, for requests of
// several kinds, and the connection goes on or ends as there.
func TestServer_Responses(t *testing.T) {
	var cases []string
	next := get("X-Next: yes", "Connection: close")
	next = strings.Replace(next, "GET /", "GET "+query("short"), 1)
	for _, name := range slices.Sorted(maps.Keys(responses)) {
		for _, request := range []string{
			"GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
			"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET %s HTTP/1.0\r\n\r\n",
			"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"HEAD %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na\nb\nc",
			"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na=b&c\r\n0\r\n\r\n",
			"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na=b&c\r\nbad\r\n",
			"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\na=b&c",
		} {
			cases = append(cases, fmt.Sprintf(request, query(name))+next)
		}
	}
	compare(t, http.HandlerFunc(byName), new(http.Server), cases)
}
