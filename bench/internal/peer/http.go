package peer

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Collect is the path that makes a server of HTTP collect its garbage and give free memory back to
// the system, so that what is left can be compared.
const Collect = "/collect"

// Handler is what the servers of HTTP in Go serve: bodies of size bytes, whose length is declared
// or not, so that they are sent in chunks if they are long.
func Handler(size int, declared bool) http.Handler {
	body, length := bytes.Repeat([]byte("x"), size), strconv.Itoa(size)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == Collect {
			runtime.GC() // after which a sync.Pool holds its values once more
			debug.FreeOSMemory()
		}
		w.Header().Set("Content-Type", "text/plain")
		if declared {
			w.Header().Set("Content-Length", length)
		}
		_, _ = w.Write(body)
	})
}

// Protocols are HTTP/1.1, or HTTP/2 with prior knowledge and without TLS.
func Protocols(http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	return p
}

// FetchAtOnce is how many requests a client makes at the same time, each on a connection that it
// keeps.
const FetchAtOnce = 100

// A Client makes n requests to a URL, whose answers have size bytes, and then again. It measures
// the requests with [Worked].
type Client func(url string, size, n int) ([]Measurement, error)

// Worked is what [Timed] does for the processor time of the process, instead of the time that
// passes: the rest of the work is another process's.
func Worked(name string, n int, run func(n int) error) ([]Measurement, error) {
	if err := run(max(FetchAtOnce, n/10)); err != nil {
		return nil, err
	}
	before := ProcessorTime(os.Getpid())
	err := run(n)
	return []Measurement{{Row: name, N: n, Total: ProcessorTime(os.Getpid()) - before}}, err
}

// fetch runs the client that args, which begin with fetch, ask for.
func fetch(w io.Writer, clients map[string]Client, args []string) error {
	if len(args) != 5 || clients[args[1]] == nil {
		return fmt.Errorf("usage: fetch %s PORT SIZE N", strings.Join(slices.Sorted(maps.Keys(clients)), "|"))
	}
	var v [3]int
	for i := range v {
		var err error
		if v[i], err = strconv.Atoi(args[2+i]); err != nil || v[i] <= 0 {
			return fmt.Errorf("%q is not a positive number", args[2+i])
		}
	}
	measured, err := clients[args[1]](fmt.Sprintf("http://127.0.0.1:%d/", v[0]), v[1], v[2])
	if err != nil {
		return err
	}
	for _, m := range measured {
		if _, err := fmt.Fprintln(w, m); err != nil {
			return err
		}
	}
	return nil
}

// Get makes a request and reads its answer, of size bytes.
func Get(rt http.RoundTripper, req *http.Request, size int) error {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
		return fmt.Errorf("%d bytes instead of %d: %w", n, size, err)
	}
	return nil
}

// Share is how many of n requests are for one of those that make them.
func Share(n, one int) int { return (n + FetchAtOnce - 1 - one) / FetchAtOnce }
