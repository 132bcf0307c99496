package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A client of the services, on the host of the test.
type caller struct {
	http.Client
	ids map[string]string // the names of IDs in expectations, such as ID1
}

func newCaller() *caller {
	return &caller{http.Client{Transport: new(asynciohttp.Transport)}, make(map[string]string)}
}

// call sends a request, "METHOD URL KEY" or "METHOD URL", and returns "STATUS BODY" with names in
// the place of IDs. A body goes with "Content-Type: application/json".
func (c *caller) call(ctx context.Context, request, body string) (string, error) {
	f := append(strings.Fields(c.named(request)), "")
	req, err := http.NewRequestWithContext(ctx, f[0], f[1], strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if f[2] != "" {
		req.Header.Set("Idempotency-Key", f[2])
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	data, err := asynciohttp.ReadAll(resp.Body, maxAnswer)
	return fmt.Sprintf("%d %s", resp.StatusCode, id.ReplaceAllStringFunc(strings.TrimSpace(string(data)), c.name)), err
}

var id = regexp.MustCompile(`\b[0-9a-f]{16}\b`)

// name returns the name of an ID: ID1 for the first one that was seen.
func (c *caller) name(id string) string {
	if c.ids[id] == "" {
		c.ids[id] = fmt.Sprint("ID", len(c.ids)+1)
	}
	return c.ids[id]
}

// named replaces names by IDs.
func (c *caller) named(s string) string {
	return names.ReplaceAllStringFunc(s, func(name string) string {
		for id, n := range c.ids {
			if "/"+n == name {
				return "/" + id
			}
		}
		return name
	})
}

var names = regexp.MustCompile(`/ID[0-9]+\b`)

// expect fails unless the answer is want.
func (c *caller) expect(ctx context.Context, request, body, want string) error {
	got, err := c.call(ctx, request, body)
	if err == nil && got != want {
		err = fmt.Errorf("got %s, want %s", got, want)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", request, body, err)
	}
	return nil
}

// withServices runs body with both programs on hosts of their own, in the order of production and
// in some others.
func withServices(t *testing.T, flags string, body func(ctx context.Context, s *simulation, c *caller) error) {
	t.Helper()
	main := func(ctx context.Context) (err error) {
		s := newSimulation(ctx)
		if s.payments, err = s.start(ctx, "payments -addr :80 -dir "+paymentsDir); err != nil {
			return err
		}
		if s.orders, err = s.start(ctx, "orders -addr :80 -dir "+ordersDir+" -payments http://payments/ "+flags); err != nil {
			return err
		}
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		c := newCaller()
		defer c.CloseIdleConnections()
		return body(ctx, s, c)
	}
	sim.Run(t, main)
	if !t.Failed() {
		sim.Explore(t, main, sim.Runs(5))
	}
}

const tea = `{"item":"tea","amount":300}`

func TestAPI(t *testing.T) {
	const notOrder, notPayment = `{"error":"an order needs an item and a positive amount"}`, `{"error":"a payment needs an order and a positive amount"}`
	long := `{"item":"` + strings.Repeat("x", maxBody) + `"}`
	withServices(t, "", func(ctx context.Context, _ *simulation, c *caller) error {
		for _, step := range []struct{ request, body, want string }{
			{"GET http://orders/healthz", "", `200 {"status":"ok"}`},
			{"POST http://orders/orders k1", tea, `201 {"id":"ID1","item":"tea","amount":300,"status":"placed"}`},
			{"POST http://orders/orders k1", `{"item":"tea","amount":301}`, `422 {"error":"this Idempotency-Key belongs to another order"}`},
			{"POST http://orders/orders k1", `{"item":"coffee","amount":300}`, `422 {"error":"this Idempotency-Key belongs to another order"}`},
			{"wait", "", ""},
			{"GET http://orders/orders/ID1", "", `200 {"id":"ID1","item":"tea","amount":300,"status":"paid","payment":"ID2"}`},
			{"POST http://orders/orders k1", tea, `200 {"id":"ID1","item":"tea","amount":300,"status":"paid","payment":"ID2"}`},
			{"POST http://orders/orders k2", tea, `201 {"id":"ID3","item":"tea","amount":300,"status":"placed"}`},
			{"GET http://payments/payments/ID2", "", `200 {"id":"ID2","order":"ID1","amount":300}`},
			{"wait", "", ""},
			{"GET http://payments/balance", "", `200 {"payments":2,"total":600}`},

			{"POST http://orders/orders", tea, `400 {"error":"an order needs an Idempotency-Key"}`},
			{"POST http://orders/orders k3", `{"item":"","amount":1}`, "400 " + notOrder},
			{"POST http://orders/orders k3", `{"item":"tea","amount":0}`, "400 " + notOrder},
			{"POST http://orders/orders k3", `{"item":"tea","amount":-1}`, "400 " + notOrder},
			{"POST http://orders/orders k3", `{"item":"tea","amount":1,"price":2}`, `400 {"error":"the body is not what belongs here: json: unknown field \"price\""}`},
			{"POST http://orders/orders k3", tea + tea, `400 {"error":"the body goes on behind the JSON"}`},
			{"POST http://orders/orders k3", "", `400 {"error":"the body is not what belongs here: EOF"}`},
			{"POST http://orders/orders k3", long, `413 {"error":"the body is too long"}`},
			{"GET http://orders/orders/unknown", "", `404 {"error":"there is no such order"}`},
			{"DELETE http://orders/orders/ID1", "", "405 Method Not Allowed"},

			{"POST http://payments/payments p1", `{"order":"x","amount":5}`, `201 {"id":"ID4","order":"x","amount":5}`},
			{"POST http://payments/payments p1", `{"order":"x","amount":5}`, `200 {"id":"ID4","order":"x","amount":5}`},
			{"POST http://payments/payments p1", `{"order":"y","amount":5}`, `422 {"error":"this Idempotency-Key belongs to another payment"}`},
			{"POST http://payments/payments", `{"order":"x","amount":5}`, `201 {"id":"ID5","order":"x","amount":5}`},
			{"POST http://payments/payments", `{"order":"x","amount":5}`, `201 {"id":"ID6","order":"x","amount":5}`},
			{"POST http://payments/payments p2", `{"order":"x","amount":1000001}`, `402 {"error":"declined: the limit is 1000000"}`},
			{"POST http://payments/payments p2", `{"order":"","amount":1}`, "400 " + notPayment},
			{"POST http://payments/payments p2", `{"order":"x","amount":0}`, "400 " + notPayment},
			{"GET http://payments/payments/unknown", "", `404 {"error":"there is no such payment"}`},
			{"GET http://payments/balance", "", `200 {"payments":5,"total":615}`},

			{"POST http://orders/orders k4", `{"item":"yacht","amount":2000000}`, `201 {"id":"ID7","item":"yacht","amount":2000000,"status":"placed"}`},
			{"wait", "", ""},
			{"GET http://orders/orders/ID7", "", `200 {"id":"ID7","item":"yacht","amount":2000000,"status":"refused","refusal":"402 Payment Required: declined: the limit is 1000000"}`},
		} {
			if step.request == "wait" {
				if err := sim.Advance(ctx, time.Second); err != nil {
					return err
				}
			} else if err := c.expect(ctx, step.request, step.body, step.want); err != nil {
				return err
			}
		}
		got, err := c.call(ctx, "GET http://orders/metrics", "")
		for _, want := range []string{
			"# TYPE orders_placed_total counter\norders_placed_total 3\n", "\norders_repeated_total 1\n", "\nrelay_attempts_total 3\n",
			"\nrelay_failures_total 0\n", "# TYPE outbox_entries gauge\noutbox_entries 0", "\njournal_syncs_total 6\n",
		} {
			if !strings.Contains(got, want) {
				err = errors.Join(err, fmt.Errorf("%q is not in the metrics:\n%s", want, got))
			}
		}
		return err
	})
}

// Requests with one key that come while the first one is being written get its order. All are
// answered when it is durable.
func TestOrders_SameKeyAtOnce(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.orders.Disk().SetSyncLatency(time.Second, time.Second)
		seen := make(map[string]int)
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range 4 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					body := tea
					if i == 3 {
						body = `{"item":"tea","amount":1}`
						if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
							return err
						}
					}
					got, err := c.call(ctx, "POST http://orders/orders k", body)
					seen[got]++
					return err
				})
			}
			return nil
		})
		placed := `{"id":"ID1","item":"tea","amount":300,"status":"placed"}`
		if err == nil && (seen["201 "+placed] != 1 || seen["200 "+placed] != 2 || seen[`422 {"error":"this Idempotency-Key belongs to another order"}`] != 1) {
			err = fmt.Errorf("%v", seen)
		}
		return err
	})
}

// A client that leaves does not take its order with it: the order is written and paid.
func TestOrders_ImpatientClient(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.orders.Disk().SetSyncLatency(time.Second, time.Second)
		ctx2, cancel := asyncio.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := c.call(ctx2, "POST http://orders/orders k", tea); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the first request: %w", err)
		}
		if err := sim.Advance(ctx, 5*time.Second); err != nil {
			return err
		}
		return c.expect(ctx, "POST http://orders/orders k", tea, `200 {"id":"ID1","item":"tea","amount":300,"status":"paid","payment":"ID2"}`)
	})
}

// SIGTERM while an order is being written: it is written, answered and paid before the program
// ends. New connections are refused, and one that had not sent its request yet is told.
func TestOrders_Shutdown(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.orders.Disk().SetSyncLatency(time.Second, time.Second)
		s.payments.Disk().SetSyncLatency(time.Second, time.Second)
		first := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			return c.expect(ctx, "POST http://orders/orders k", tea, `201 {"id":"ID1","item":"tea","amount":300,"status":"placed"}`)
		}))
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		late, err := asyncio.Dial(ctx, "tcp", "orders:80")
		if err != nil {
			return err
		}
		defer late.Close()
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil { // until it is accepted
			return err
		}
		s.orders.Shutdown()
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if _, err := io.WriteString(late, "GET /healthz HTTP/1.1\r\nHost: orders\r\n\r\n"); err != nil {
			return err
		}
		if resp, err := http.ReadResponse(bufio.NewReader(late), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
			return fmt.Errorf("a connection without a request got the wrong answer: %w", err)
		}
		if got, err := c.call(ctx, "GET http://orders/healthz", ""); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("a new connection: %s %w", got, err)
		}
		if _, err := first.Await(ctx); err != nil {
			return err
		}
		if err := s.orders.Wait(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		data, err := s.orders.Disk().ReadDurable(ordersDir + "/" + journalName)
		if err != nil {
			return err
		}
		all, err := readOrders(data)
		for _, o := range all {
			if o.Status == "paid" {
				return err
			}
		}
		return fmt.Errorf("the outbox was not flushed: %v %w", all, err)
	})
}

// Payments is away when the program is told to stop. The program waits for a while, and the next
// life has the order paid.
func TestOrders_ShutdownWithoutPayments(t *testing.T) {
	withServices(t, "-drain 3s", func(ctx context.Context, s *simulation, c *caller) error {
		s.payments.Crash()
		if err := c.expect(ctx, "POST http://orders/orders k", tea, `201 {"id":"ID1","item":"tea","amount":300,"status":"placed"}`); err != nil {
			return err
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		begin := loop.Time()
		s.orders.Shutdown()
		if err := s.orders.Wait(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		if took := loop.Time().Sub(begin); took < 3*time.Second || took > 4*time.Second {
			return fmt.Errorf("the shutdown took %v", took)
		}
		s.orders.Restart()
		s.payments.Restart()
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		return c.expect(ctx, "GET http://orders/orders/ID1", "", `200 {"id":"ID1","item":"tea","amount":300,"status":"paid","payment":"ID2"}`)
	})
}

// A disk that hangs makes the client wait for as long as a request may take, no longer. The order
// is kept when the disk works again.
func TestOrders_StalledDisk(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.orders.Disk().SetSyncLatency(20*time.Second, 20*time.Second)
		if err := c.expect(ctx, "POST http://orders/orders k", tea, `503 {"error":"that took too long; ask again with the same Idempotency-Key"}`); err != nil {
			return err
		}
		if err := sim.Advance(ctx, 20*time.Second); err != nil {
			return err
		}
		return c.expect(ctx, "POST http://orders/orders k", tea, `200 {"id":"ID1","item":"tea","amount":300,"status":"placed"}`)
	})
}

// A disk that fails ends the program, and the requests that wait for it are told.
func TestOrders_FailedDisk(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.orders.Disk().SetFaults(sim.DiskFaults{Sync: 1})
		got, err := c.call(ctx, "POST http://orders/orders k", tea)
		if err != nil || !strings.HasPrefix(got, `503 {"error":"the journal cannot be written`) {
			return fmt.Errorf("%s %w", got, err)
		}
		if err := s.orders.Wait(ctx); !errors.Is(err, syscall.EIO) {
			return fmt.Errorf("the program has ended: %w", err)
		}
		s.orders.Disk().SetFaults(sim.DiskFaults{})
		s.orders.Restart()
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		got, err = c.call(ctx, "POST http://orders/orders k", tea) // it may have been written
		if err == nil && !strings.HasPrefix(got, "200 ") && !strings.HasPrefix(got, "201 ") {
			err = errors.New(got)
		}
		return err
	})
}

// Payments is away for ten minutes. The pauses between attempts grow, up to five seconds on
// average, and soon after payments is back everything is paid.
func TestRelay_BackOff(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.payments.Kill()
		for i := range 3 {
			if _, err := c.call(ctx, fmt.Sprint("POST http://orders/orders k", i), tea); err != nil {
				return err
			}
		}
		if err := sim.Advance(ctx, 10*time.Minute); err != nil {
			return err
		}
		got, err := c.call(ctx, "GET http://orders/metrics", "")
		if err != nil {
			return err
		}
		var attempts int
		_, after, _ := strings.Cut(got, "\nrelay_attempts_total ")
		if _, err := fmt.Sscan(after, &attempts); err != nil || attempts < 3*90 || attempts > 3*180 {
			return fmt.Errorf("%d attempts for three orders in ten minutes: %w", attempts, err)
		}
		s.payments.Restart()
		if err := sim.Advance(ctx, maxPause+time.Second); err != nil {
			return err
		}
		return c.expect(ctx, "GET http://payments/balance", "", `200 {"payments":3,"total":900}`)
	})
}

// A stand-in for payments answers as it likes. Requests for an order have one key; unclear answers
// are asked for again, clear ones not; no more than relayWidth requests are under way.
func TestRelay_Answers(t *testing.T) {
	withServices(t, "", func(ctx context.Context, s *simulation, c *caller) error {
		s.payments.Kill()
		now, most := 0, 0
		tries, keys := make(map[string]int), make(map[string]string)
		sim.NewHost(ctx, "stand-in", func(ctx context.Context) error {
			script := []int{http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusRequestTimeout, 0, -1, http.StatusConflict}
			return asynciohttp.NewServer(&http.Server{Addr: ":80", ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: asynciohttp.HandlerFunc(
				func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
					now++
					most = max(most, now)
					defer func() { now-- }()
					body, err := io.ReadAll(r.Body)
					if err != nil {
						return nil
					}
					order, key := string(body), r.Header.Get("Idempotency-Key")
					if first, ok := keys[order]; ok && first != key || key == "" {
						return fmt.Errorf("the keys %q and %q", first, key)
					}
					keys[order] = key
					try := tries[order]
					tries[order]++
					if err := asyncio.Sleep(ctx, 50*time.Millisecond); err != nil {
						return err
					}
					switch code := script[try]; code {
					case 0: // later than the relay waits, which then goes on without this request
						now--
						defer func() { now++ }()
						return asyncio.Sleep(ctx, time.Minute)
					case -1: // half an answer
						_, _ = io.WriteString(w, `{"id":`)
						return nil
					default:
						w.WriteHeader(code)
						return nil
					}
				})}).ListenAndServe(ctx)
		})
		program, err := parse(strings.Fields("orders -addr :80 -dir /var/orders -payments http://stand-in"), slog.New(slog.DiscardHandler), new(slog.LevelVar))
		if err != nil {
			return err
		}
		sim.NewHost(ctx, "orders2", program)
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		const n = 20
		for i := range n {
			if _, err := c.call(ctx, fmt.Sprint("POST http://orders2/orders k", i), tea); err != nil {
				return err
			}
		}
		if err := sim.Advance(ctx, time.Minute); err != nil {
			return err
		}
		for i := range n {
			if err := c.expect(ctx, fmt.Sprint("GET http://orders2/orders/ID", i+1), "",
				fmt.Sprintf(`200 {"id":"ID%d","item":"tea","amount":300,"status":"refused","refusal":"409 Conflict: "}`, i+1)); err != nil {
				return err
			}
		}
		for order, n := range tries {
			if n != 6 {
				return fmt.Errorf("%s: %d requests", order, n)
			}
		}
		if len(tries) != n || most < 2 || most > relayWidth {
			return fmt.Errorf("%d orders, at most %d requests at a time", len(tries), most)
		}
		return nil
	})
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"":                         `"" is neither orders nor payments; orders -h and payments -h list the flags`,
		"shop":                     `"shop" is neither orders nor payments; orders -h and payments -h list the flags`,
		"orders":                   "orders needs -addr",
		"orders -addr :0":          "orders needs -dir",
		"orders -addr :0 -dir x":   "orders needs -payments",
		"payments -addr :0":        "payments needs -dir",
		"payments -addr :0 -dir x": "",
		"orders -addr :0 -dir x -payments http://y":     "",
		"orders -addr :0 -dir x -payments y":            `-payments needs a URL such as http://127.0.0.1:8081, and "y" is none`,
		"orders -addr :0 -dir x -payments 127.0.0.1:80": `-payments needs a URL such as http://127.0.0.1:8081, and "127.0.0.1:80" is none`,
		"payments -addr :0 -dir x y":                    `what is "y"? The program has flags only`,
		"orders -addr :0 -dir x -payments y z":          `what is "z"? The program has flags only`,
	} {
		_, err := parse(strings.Fields(args), slog.New(slog.DiscardHandler), new(slog.LevelVar))
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
}
