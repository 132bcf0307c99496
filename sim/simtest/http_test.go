package simtest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
	"github.com/goasyncio/asyncio/sim/simtest"
)

// serve is the program of a host that serves with net/http until it is cancelled.
func serve(h http.Handler) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		ln, err := asyncio.NetOf(ctx).Listen(ctx, "tcp", ":80")
		if err != nil {
			return err
		}
		s := &http.Server{Handler: h}
		go s.Serve(ln)
		defer s.Close()
		_, err = asyncio.CreateFuture[asyncio.None](ctx).Await(ctx)
		return err
	}
}

// fetch sends a request and returns the body of the answer.
func fetch(ctx context.Context, c *http.Client, method, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(b), err
}

// get is fetch in a thread function.
func get(ctx context.Context, c *http.Client, url string) (string, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return fetch(ctx, c, "GET", url) })
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func client(dial dialFunc) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 10}, Timeout: 5 * time.Second}
}

// A wiretap hashes what clients write and read.
type wiretap struct {
	mu  sync.Mutex
	sum hash.Hash
}

func (w *wiretap) dial(inner dialFunc) dialFunc {
	w.sum = sha256.New()
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := inner(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tapped{c, w}, nil
	}
}

func (w *wiretap) note(op string, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.sum, "%v %s %d\n%s", time.Now().UnixNano(), op, len(p), p)
}

func (w *wiretap) String() string { return fmt.Sprintf("%x", w.sum.Sum(nil)) }

type tapped struct {
	net.Conn
	tap *wiretap
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.note("read", p[:n])
	return n, err
}

func (c tapped) Write(p []byte) (int, error) {
	c.tap.note("write", p)
	return c.Conn.Write(p)
}

// conversation has three clients on one host, with goroutines and tasks, fetch pages from another.
func conversation(tap *wiretap) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		n := 0
		var mu sync.Mutex
		sim.NewHost(ctx, "web", serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(len(r.URL.Path)) * time.Millisecond)
			mu.Lock()
			n++
			m := n
			mu.Unlock()
			fmt.Fprintf(w, "hello %s %d %s", r.URL.Path, m, strings.Repeat("x", 3000))
		})))
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		c := client(tap.dial(asyncio.NetOf(ctx).DialContext))
		defer c.CloseIdleConnections()
		var all []*asyncio.Task[asyncio.None]
		for i := range 3 {
			all = append(all, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for j := range 4 {
					url := fmt.Sprintf("http://web/%d%s", i, strings.Repeat("a", i+j+1))
					b, err := get(ctx, c, url)
					if err != nil {
						return err
					}
					if !strings.HasPrefix(b, "hello "+strings.TrimPrefix(url, "http://web")) {
						return fmt.Errorf("got %.20q from %s", b, url)
					}
					sim.Note(ctx, "client %d got %.20q", i, b)
				}
				return nil
			})))
		}
		for _, task := range all {
			if _, err := task.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// traceOf returns the trace of one run of the conversation and what went over the wire.
func traceOf(t *testing.T, seed uint64) string {
	t.Helper()
	var tap wiretap
	text, err := sim.Trace(conversation(&tap), simtest.Bubble(t), sim.WithStrategy(sim.Random()), sim.Seed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return text + tap.String() + "\n"
}

// net/http on two hosts does the same in every run with the same seed, to the byte.
func TestHTTPRepeats(t *testing.T) {
	seeds, runs := 5, 4
	if everything() {
		seeds, runs = 10, 100
	}
	differ := 0
	for seed := range uint64(seeds) {
		first := traceOf(t, seed)
		for range runs {
			if again := traceOf(t, seed); again != first {
				if differ++; differ == 1 {
					t.Errorf("seed %d: first\n%s\nthen\n%s", seed, first, again)
				}
			}
		}
	}
	t.Logf("%d of %d traces differ", differ, seeds*runs)
}

// The same in processes of their own.
func TestHTTPRepeatsElsewhere(t *testing.T) {
	const variable = "SIMTEST_TRACE"
	if os.Getenv(variable) != "" {
		fmt.Printf("sum=%x\n", sha256.Sum256([]byte(traceOf(t, 7))))
		return
	}
	processes := 2
	if everything() {
		processes = 10
	}
	want := fmt.Sprintf("sum=%x\n", sha256.Sum256([]byte(traceOf(t, 7))))
	for range processes {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), variable+"=1", "SIMTEST_ALONE=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("want %s, got %v\n%s", want, err, out)
		}
	}
}

// 200 runs in one process, with everything going wrong at times.
func TestHTTPExplored(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		var tap wiretap
		sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: 100 * time.Microsecond, MaxLatency: 20 * time.Millisecond, Loss: 0.02})
		return conversation(&tap)(ctx)
	}, simtest.Bubble(t))
}

// A host crashes after each of its steps, with requests under way.
func TestHTTPCrashes(t *testing.T) {
	main := func(ctx context.Context) error {
		web := sim.NewHost(ctx, "web", serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "part %d\n", i)
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		})))
		web.SetCrashes(0.02, 10*time.Millisecond)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		c := client(asyncio.NetOf(ctx).DialContext)
		defer c.CloseIdleConnections()
		failed := 0
		for {
			b, err := get(ctx, c, "http://web/")
			switch {
			case err == nil && b == "part 0\npart 1\npart 2\n":
				return nil
			case err == nil:
				return fmt.Errorf("a truncated answer passed for a whole one: %q", b)
			}
			if failed++; failed > 20 {
				return err
			}
			if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	sim.Explore(t, main, simtest.Bubble(t), sim.Runs(100))
	r := sim.Check(main, simtest.Bubble(t), sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(400))
	if r.Failure != nil {
		t.Error(r.Failure)
	}
	t.Log(r.Coverage)
	if len(r.Faults) == 0 {
		t.Error("there was no crash")
	}
}

// A shop looks whether there is stock, charges the customer by another service, and takes the
// stock: two customers can get the last piece. The bug is in handlers of net/http.
func TestHTTPFindsABug(t *testing.T) {
	shop := func(fixed bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			sim.NewHost(ctx, "bank", serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			stock := 1
			sim.AtEnd(ctx, "stock", func() error {
				if stock < 0 {
					return fmt.Errorf("%d pieces are left", stock)
				}
				return nil
			})
			sim.NewHost(ctx, "shop", func(ctx context.Context) error {
				bank := client(asyncio.NetOf(ctx).DialContext)
				defer bank.CloseIdleConnections()
				var mu sync.Mutex
				return serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					some := stock > 0
					if fixed && some {
						stock--
					}
					mu.Unlock()
					if !some {
						http.Error(w, "sold out", http.StatusGone)
						return
					}
					if _, err := fetch(r.Context(), bank, "POST", "http://bank/charge"); err != nil {
						http.Error(w, err.Error(), http.StatusBadGateway)
						return
					}
					if !fixed {
						mu.Lock()
						stock--
						mu.Unlock()
					}
				}))(ctx)
			})
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			c := client(asyncio.NetOf(ctx).DialContext)
			defer c.CloseIdleConnections()
			customer := func(after time.Duration) *asyncio.Task[string] {
				return asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
					if err := asyncio.Sleep(ctx, after); err != nil {
						return "", err
					}
					return get(ctx, c, "http://shop/buy")
				})
			}
			sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: 10 * time.Millisecond})
			first, second := customer(0), customer(20*time.Millisecond)
			_, err := first.Await(ctx)
			_, other := second.Await(ctx)
			if err != nil && other != nil {
				return fmt.Errorf("nobody got a piece: %w; %w", err, other)
			}
			return nil
		}
	}
	r := sim.Check(shop(false), simtest.Bubble(t), sim.Runs(200))
	if r.Failure == nil || !strings.Contains(r.Failure.Error(), `invariant "stock"`) {
		t.Fatalf("the bug was not found in %d runs: %v", r.Runs, r.Failure)
	}
	t.Logf("found in run %d\n%v", r.Failure.Run, r.Failure)
	if r := sim.Check(shop(true), simtest.Bubble(t), sim.Runs(200)); r.Failure != nil {
		t.Errorf("the corrected shop: %v", r.Failure)
	}
}
