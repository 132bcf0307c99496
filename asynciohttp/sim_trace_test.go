package asynciohttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A storm is a simulation in which a Server on one host and http.Client with a Transport on another
// meet everything at once: latency, loss, a partition, resets, and a crash in the midst of a
// response.
type storm struct {
	server, client *tls.Config     // nil without TLS
	protocols      *http.Protocols // of both ends
	proto          string          // which they speak
}

const (
	stormClients  = 4
	stormRequests = 8 // of each client
	stormLines    = 30
	stormCrashAt  = 9 // the request whose response the first crash cuts short
)

// serve is the program of the server's host. requests counts those of all its lives.
func (s storm) serve(requests *int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /old", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/buy", http.StatusTemporaryRedirect)
		})
		mux.HandleFunc("POST /buy", func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			*requests++
			nth := *requests
			if err := asyncio.Sleep(r.Context(), 5*time.Millisecond); err != nil {
				return
			}
			for i := range stormLines {
				fmt.Fprintf(w, "line %d of %s\n", i, b)
				if err := http.NewResponseController(w).Flush(); err != nil {
					return
				}
				if nth == stormCrashAt && i == stormLines/2 {
					if err := asyncio.Sleep(r.Context(), 250*time.Millisecond); err != nil {
						return // so that the client has the first half
					}
					sim.HostOf(ctx).Crash()
				}
			}
		})
		config := &asynciohttp.Server{
			Addr: ":80", Handler: mux, ErrorLog: discarded, TLSConfig: s.server, Protocols: s.protocols,
			ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		}
		if s.server != nil {
			return config.ListenAndServeTLS(ctx, "", "")
		}
		return config.ListenAndServe(ctx)
	}
}

// buy is what a client does: requests until each has been answered, with what it learned in the
// trace.
func (s storm) buy(ctx context.Context, client *http.Client, name string) error {
	scheme := "http"
	if s.client != nil {
		scheme = "https"
	}
	for i := 0; i < stormRequests; {
		item := fmt.Sprintf("%s-%d", name, i)
		path := []string{"/buy", "/old"}[i%2]
		err := asyncio.Timeout(ctx, 3*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			var body io.Reader = strings.NewReader(item)
			if i%4 == 2 { // of unknown length
				body = io.MultiReader(body)
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://server:80"+path, body)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			sim.Note(ctx, "%s: %s %s, %d bytes with sum %08x, %v", item, resp.Proto, resp.Status, len(b), crc32.ChecksumIEEE(b), err)
			if err != nil {
				return err
			}
			if want := stormAnswer(item); string(b) != want || resp.Proto != s.proto {
				return fmt.Errorf("%w: the answer to %s is\n%s", errModel, item, b)
			}
			return nil
		})
		switch {
		case err == nil:
			i++
			continue
		case errors.Is(err, asyncio.ErrCancelled), errors.Is(err, errModel):
			return err
		}
		sim.Note(ctx, "%s: %v", item, err)
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func stormAnswer(item string) string {
	var b strings.Builder
	for i := range stormLines {
		fmt.Fprintf(&b, "line %d of %s\n", i, item)
	}
	return b.String()
}

func (s storm) main(ctx context.Context) error {
	network := sim.NetworkOf(ctx)
	network.SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: 20 * time.Millisecond, Loss: 0.02, Reorder: 0.05})
	requests := 0
	server := sim.NewHost(ctx, "server", s.serve(&requests))
	client := sim.NewHost(ctx, "client", func(ctx context.Context) error {
		tr := &asynciohttp.Transport{TLSClientConfig: s.client, Protocols: s.protocols, MaxIdleConnsPerHost: stormClients, IdleConnTimeout: time.Second}
		defer tr.CloseIdleConnections()
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range stormClients {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					return s.buy(ctx, &http.Client{Transport: tr}, fmt.Sprint("client", i))
				})
			}
			return nil
		})
	})
	watch := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for tick := 1; ; tick++ {
			if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
			switch {
			case !server.IsRunning():
				server.Restart()
			case tick == 7:
				network.Isolate("server")
			case tick == 12:
				network.Heal()
			case tick == 15:
				network.ResetAll()
			}
		}
	}))
	err := client.Wait(ctx)
	watch.Cancel()
	_, _ = watch.Await(ctx)
	return err
}

// stormTLS returns configurations for both ends.
func stormTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	other := httptest.NewUnstartedServer(nil) // httptest has a certificate
	other.StartTLS()
	defer other.Close()
	client = other.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", nil // which it is for
	return &tls.Config{Certificates: other.TLS.Certificates}, client
}

// cutShort is a client's note about a response that has begun and not ended.
var cutShort = regexp.MustCompile(`200 OK, [1-9][0-9]* bytes with sum [0-9a-f]+, [^<]`)

// A Server and an http.Client in the same storm take the same course each time, byte for byte of
// the trace, however many processors there are: 20 times (5 with TLS), or 1000 if ASYNCIO_EXPLORE
// is all. The random numbers of TLS are not the seed's, and do not show: they change no length and
// no order.
func TestClientAndServer_SameSeedSameTrace(t *testing.T) {
	repetitions := 20
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		repetitions = 1000
	}
	server, client := stormTLS(t)
	h2, h2c := new(http.Protocols), new(http.Protocols)
	h2.SetHTTP2(true)
	h2c.SetUnencryptedHTTP2(true)
	for name, s := range map[string]storm{
		"plain":          {proto: "HTTP/1.1"},
		"TLS":            {proto: "HTTP/1.1", server: server, client: client},
		"HTTP2":          {proto: "HTTP/2.0", protocols: h2c},
		"HTTP2 with TLS": {proto: "HTTP/2.0", protocols: h2, server: server, client: client},
	} {
		repetitions := repetitions
		if s.client != nil && repetitions < 1000 {
			repetitions /= 4 // handshakes are slow
		}
		t.Run(name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			run := func(seed uint64) string {
				trace, err := sim.Trace(s.main, sim.WithStrategy(sim.Random()), sim.Seed(seed))
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !cutShort.MatchString(trace) {
					t.Errorf("seed %d: no response was cut short", seed)
				}
				return trace
			}
			first := run(0)
			if first == run(1) {
				t.Error("two seeds have the same trace")
			}
			for i := 1; i < repetitions; i++ {
				runtime.GOMAXPROCS(1 + i%4)
				if trace := run(0); trace != first {
					t.Fatalf("repetition %d: %s", i, firstDifference(first, trace))
				}
			}
			t.Logf("%d repetitions of %d bytes", repetitions, len(first))
		})
	}
}

// firstDifference describes where two traces part.
func firstDifference(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return fmt.Sprintf("line %d is\n%s\nand was\n%s", i+1, lb[i], la[i])
		}
	}
	return fmt.Sprintf("%d lines, and there were %d", len(lb), len(la))
}
