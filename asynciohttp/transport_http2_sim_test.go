package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// serveHTTP2 is the model's server with HTTP/2. It answers well and badly, in time and early, and
// ends connections with GOAWAY and without a word.
func (m *clientModel) serveHTTP2(ctx context.Context, ln net.Listener) error {
	config := &http.Server{ErrorLog: discarded, Protocols: unencrypted(), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 3, MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 8 << 10}}
	config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rnd := asyncio.Rand(r.Context())
		id := r.Header.Get("X-Id")
		m.arrived[id]++
		if rnd.IntN(8) != 0 {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
		if rnd.IntN(3) == 0 && asyncio.Sleep(r.Context(), time.Duration(rnd.IntN(5000))*time.Microsecond) != nil {
			return
		}
		w.Header().Set("X-Id", id)
		switch rnd.IntN(12) {
		case 0: // no answer
			panic(http.ErrAbortHandler)
		case 1:
			w.Header().Set("Connection", "close") // GOAWAY
		case 2:
			sim.NetworkOf(r.Context()).ResetAll()
		}
		text := strings.Repeat(id+" ", 1+rnd.IntN(2000))
		half := rnd.IntN(10) == 0
		for rest := text; rest != ""; {
			n := min(len(rest), 1+rnd.IntN(3000))
			if _, err := io.WriteString(w, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
			if rnd.IntN(4) == 0 && asyncio.Sleep(r.Context(), time.Duration(rnd.IntN(2000))*time.Microsecond) != nil {
				return
			}
			if half && len(rest) < len(text)/2 {
				panic(http.ErrAbortHandler)
			}
		}
	})
	return asynciohttp.NewServer(config).Serve(ctx, ln)
}

// rain is a simulation of a client and a server with HTTP/2 in bad weather: loss, latency, a
// partition, resets, and crashes of the server in the midst of responses. A purchase is made again
// until its answer is there; the server knows it by its key.
func rain(ctx context.Context) error {
	network := sim.NetworkOf(ctx)
	network.SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: 20 * time.Millisecond, Loss: 0.02, Duplicate: 0.01, Reorder: 0.05})
	server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
		s := shop()
		s.Addr, s.ErrorLog, s.Protocols = ":80", discarded, unencrypted()
		return s.ListenAndServe(ctx)
	})
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	for i := range 5 {
		l.CallLater(time.Duration(1+i)*700*time.Millisecond, func() {
			switch i {
			case 0, 3:
				server.Crash()
				l.CallLater(100*time.Millisecond, server.Restart)
			case 1:
				network.Isolate("server")
				l.CallLater(500*time.Millisecond, network.Heal)
			default:
				network.ResetAll()
			}
		})
	}
	tr := &asynciohttp.Transport{Protocols: unencrypted(), HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}}
	defer tr.CloseIdleConnections()
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for range 5 {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				for done := 0; done < 20; {
					got := ""
					err := asyncio.Timeout(ctx, 10*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
						req, err := http.NewRequestWithContext(ctx, "POST", "http://server/buy", io.MultiReader(strings.NewReader("abc")))
						if err != nil {
							return err
						}
						_, got, err = exchange(tr.RoundTrip, req)
						return err
					})
					switch {
					case err == nil && strings.Count(got, "sold\n") == 20:
						done++
						continue
					case err == nil:
						return fmt.Errorf("%w: half of an answer: %q", errModel, got)
					case errors.Is(err, asyncio.ErrCancelled):
						return err
					}
					if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return nil
	})
}

// A simulation of both ends takes the same course each time that it has the same seed.
func TestTransportHTTP2_SameTrace(t *testing.T) {
	model := func(ctx context.Context) error {
		m := clientModel{limit: 2, http2: true}
		return m.run(ctx, 4, 5)
	}
	for name, main := range map[string]func(ctx context.Context) error{"faults": rain, "cancels": model} {
		for seed := range uint64(5) {
			var traces [2]string
			for i := range traces {
				var err error
				if traces[i], err = sim.Trace(main, sim.Seed(seed), sim.WithStrategy(sim.Random())); err != nil {
					t.Errorf("%s, seed %d: %v", name, seed, err)
				}
			}
			if traces[0] != traces[1] {
				t.Errorf("%s, seed %d: two traces", name, seed)
			}
		}
	}
}

// Faults end requests, and neither the pool nor the server.
func TestTransportHTTP2_Faults(t *testing.T) {
	sim.Explore(t, rain, sim.Runs(modelRuns(20)))
}
