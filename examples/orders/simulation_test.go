package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A simulation is the two programs, each on a host of its own and with the command line that it has
// in production, and clients on other hosts. The fields are what the test knows of them.
type simulation struct {
	net              *sim.Network
	orders, payments *sim.Host

	orderOf  map[string]string // the order that a key was acknowledged with
	acked    []string          // acknowledged orders
	charges  map[string]string // the payment of each order
	accepted map[string]bool   // requests that reached a handler of orders
	answers  map[string]int    // how often, by method, path and status
	stopping map[*sim.Host]bool
	ended    map[error]bool // programs, for these reasons
	troubled int            // how often something began or ended that may break connections
	active   int            // how many such things go on
	broken   map[promise]error
	over     bool // the clients are to come to an end

	lastFile     []byte // the journal of payments, as it was read last
	lastPayments map[string][]Payment
}

// A promise is an invariant of a simulation.
type promise string

const (
	kept      promise = "an acknowledged order is not lost" // orders 1
	oneOrder  promise = "a key gives one order"             // orders 2
	atMost    promise = "an order is charged at most once"  // orders 4, payments 2
	inTheEnd  promise = "an order is charged in the end"    // orders 4
	answered  promise = "an accepted request is answered"   // service 2
	readiness promise = "the service recovers"
)

// A scenario describes a simulation.
type scenario struct {
	flags    string        // of orders, beside the usual ones
	clients  int           // hosts
	think    time.Duration // of a client between two orders, at most
	lasts    time.Duration // how long faults go on
	restart  time.Duration // how long a program is off, at most
	troubles func(s *simulation) []trouble
	thorough bool // the runs are so many that some of them meet everything
}

// A trouble is a fault that comes from time to time: after a random pause of at most twice pause,
// with the probability p, and for at most lasts.
type trouble struct {
	what  string
	p     float64
	pause time.Duration
	lasts time.Duration
	mild  bool                    // no request may lose its answer by it
	do    func(r func(n int) int) // r is below n, at random
	undo  func()
}

const (
	ordersDir   = "/var/orders"
	paymentsDir = "/var/payments"
	ordersURL   = "http://orders/orders"
)

// run is a run of the simulation.
func (sc scenario) run(ctx context.Context) error {
	s := newSimulation(ctx)
	var err error
	if s.payments, err = s.start(ctx, "payments -addr :80 -dir "+paymentsDir); err != nil {
		return err
	}
	if s.orders, err = s.start(ctx, "orders -addr :80 -dir "+ordersDir+" -payments http://payments "+sc.flags); err != nil {
		return err
	}
	for _, p := range []promise{kept, oneOrder, atMost, inTheEnd, answered, readiness} {
		sim.Always(ctx, string(p), func() error { return s.broken[p] })
	}
	sim.AtEnd(ctx, "the disks agree", s.checkDisks)
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, keepers *asyncio.TaskGroup) error {
		defer keepers.Cancel()
		for _, h := range []*sim.Host{s.orders, s.payments} {
			keepers.CreateTask(ctx, func(ctx context.Context) error { return s.keep(ctx, h, sc.restart) }, asyncio.TaskName("keeper of "+h.Name()))
		}
		if err := s.work(ctx, sc); err != nil {
			return err
		}
		if err := s.audit(ctx); err != nil {
			return err
		}
		if sc.thorough {
			s.met(ctx)
		}
		return nil
	})
}

// met states what some run must have met.
func (s *simulation) met(ctx context.Context) {
	sim.Sometimes(ctx, "clients have placed twenty orders", len(s.acked) >= 20)
	sim.Sometimes(ctx, "orders is asked again for an order that it has", s.answers["POST /orders 200"] > 0)
	sim.Sometimes(ctx, "payments is asked again for a payment that it has", s.answers["POST /payments 200"] > 0)
	sim.Sometimes(ctx, "a request fails with the journal, or takes too long", s.answers["POST /orders 503"] > 0)
	sim.Sometimes(ctx, "a client leaves before its answer", s.answers["POST /orders 0"] > 0)
	for _, e := range ends {
		sim.Sometimes(ctx, "a program ends: "+e.Error(), s.ended[e])
	}
}

// ends are the reasons for which programs may end.
var ends = []error{sim.ErrCrashed, asyncio.ErrCancelled, syscall.EIO, syscall.ENOSPC}

func newSimulation(ctx context.Context) *simulation {
	return &simulation{
		net: sim.NetworkOf(ctx), ended: make(map[error]bool),
		orderOf: make(map[string]string), charges: make(map[string]string), accepted: make(map[string]bool), answers: make(map[string]int),
		stopping: make(map[*sim.Host]bool), broken: make(map[promise]error),
	}
}

// start starts a program on a host of its name.
func (s *simulation) start(ctx context.Context, line string) (*sim.Host, error) {
	args := strings.Fields(line)
	program, err := parse(args, slog.New(witness{s}), new(slog.LevelVar))
	if err != nil {
		return nil, err
	}
	return sim.NewHost(ctx, args[0], program), nil
}

// work makes clients order while faults happen, and then while none does.
func (s *simulation) work(ctx context.Context, sc scenario) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, clients *asyncio.TaskGroup) error {
		for i := range sc.clients {
			h := sim.NewHost(ctx, clientName(i), func(ctx context.Context) error { return s.shop(ctx, sc.think) })
			clients.CreateTask(ctx, h.Wait, asyncio.TaskName(h.Name()))
		}
		_, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, nemesis *asyncio.TaskGroup) error {
				for _, t := range sc.troubles(s) {
					nemesis.CreateTask(ctx, func(ctx context.Context) error { return s.cause(ctx, t) }, asyncio.TaskName(t.what))
				}
				return nil
			})
		}), sc.lasts)
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
		sim.StopFaults(ctx)
		s.net.SetLink(goodLink)
		s.net.SetLinkBetween("orders", "payments", goodLink)
		s.over = true
		return nil
	})
}

var goodLink = sim.Link{MinLatency: 100 * time.Microsecond, MaxLatency: time.Millisecond}

func clientName(i int) string { return fmt.Sprint("client", i+1) }

// cause is the task of a trouble, until it is cancelled.
func (s *simulation) cause(ctx context.Context, t trouble) error {
	r := asyncio.Rand(ctx)
	for {
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(2*int64(t.pause)+1))); err != nil {
			return err
		}
		lasts := time.Duration(r.Int64N(int64(t.lasts) + 1))
		n := r.Uint64() // drawn always, so that the outcome changes nothing for the next time
		if !sim.Fault(ctx, t.what, t.p) {
			continue
		}
		if !t.mild {
			s.troubled++
			s.active++
		}
		t.do(func(of int) int {
			defer func() { n /= uint64(of) }()
			return int(n % uint64(of))
		})
		err := asyncio.Sleep(ctx, lasts)
		if t.undo != nil {
			t.undo()
		}
		if !t.mild {
			s.troubled++
			s.active--
		}
		if err != nil {
			return err
		}
	}
}

// keep is the task that starts a program again, as a supervisor does: after a loss of power, when
// it was killed or told to stop, and after a failure of its disk.
func (s *simulation) keep(ctx context.Context, h *sim.Host, after time.Duration) error {
	r := asyncio.Rand(ctx)
	for {
		err := h.Wait(ctx)
		if asyncio.CurrentTask(ctx).Cancelling() > 0 {
			return err
		}
		expected := false
		for _, e := range ends {
			if errors.Is(err, e) {
				s.ended[e], expected = true, true
			}
		}
		if !expected {
			return fmt.Errorf("%v has ended: %w", h, err)
		}
		if !errors.Is(err, asyncio.ErrCancelled) {
			s.troubled++
		}
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(int64(after)+1))); err != nil {
			return err
		}
		if !h.IsRunning() {
			s.stopping[h] = false
			h.Restart()
		}
	}
}

// A witness is the handler of the programs' logs. It tells the test what a supervisor of the
// service would see there.
type witness struct{ s *simulation }

func (w witness) Enabled(context.Context, slog.Level) bool { return true }
func (w witness) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w witness) WithGroup(string) slog.Handler            { return w }

func (w witness) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]string)
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	switch r.Message {
	case "accepted":
		w.s.accepted[attrs["request"]] = true
	case "answered":
		w.s.answers[fmt.Sprint(attrs["method"], " ", attrs["path"], " ", attrs["status"])]++
	case "charged":
		w.s.charged(attrs["order"], attrs["payment"])
	}
	return nil
}

// charged notes a durable payment.
func (s *simulation) charged(order, payment string) {
	if first, ok := s.charges[order]; ok {
		s.breach(atMost, "order %s was charged twice, by payments %s and %s", order, first, payment)
	}
	s.charges[order] = payment
}

// breach notes that a promise is broken.
func (s *simulation) breach(p promise, format string, args ...any) {
	if s.broken[p] == nil {
		s.broken[p] = fmt.Errorf(format, args...)
	}
}

// shop is the program of a client: it orders one thing after another, and repeats each request
// until it has an answer.
func (s *simulation) shop(ctx context.Context, think time.Duration) error {
	r := asyncio.Rand(ctx)
	transport := new(asynciohttp.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	name := sim.HostOf(ctx).Name()
	for i := 1; !s.over; i++ {
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(int64(think)))); err != nil {
			return err
		}
		key, amount, hands := fmt.Sprint(name, ".", i), 1+r.IntN(1000), 1+r.IntN(5)/4
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for hand := range hands { // a customer who clicks twice is one of five
				tg.CreateTask(ctx, func(ctx context.Context) error {
					return s.order(ctx, client, key, fmt.Sprint(key, ".", hand), amount)
				}, asyncio.TaskName(fmt.Sprint("order ", key, " ", hand)))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// patience is how long a client waits for an answer. The service has a limit that is shorter.
const patience = handleLimit + time.Second

// order places an order. It returns when that is acknowledged, however long it takes.
func (s *simulation) order(ctx context.Context, client *http.Client, key, name string, amount int) error {
	r := asyncio.Rand(ctx)
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	begin := loop.Time()
	for try := 1; ; try++ {
		request, troubled, calm := fmt.Sprint(name, ".", try), s.troubled, s.active == 0
		o, err := post(ctx, client, key, request, amount)
		switch {
		case err == nil:
			s.acknowledged(key, o, amount)
			return nil
		case errors.Is(err, asyncio.ErrCancelled):
			return err
		case errors.Is(err, errRefused):
			return fmt.Errorf("request %s: %w", request, err)
		}
		if !errors.Is(err, errNotNow) && !errors.Is(err, context.DeadlineExceeded) && s.accepted[request] && calm && s.troubled == troubled {
			s.breach(answered, "request %s was accepted and never answered, though all that happened were shutdowns: %w", request, err)
		}
		if s.over && loop.Time().Sub(begin) > time.Minute {
			s.breach(readiness, "nothing goes wrong any more, and order %s is not placed: %w", key, err)
			return nil
		}
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond)))); err != nil {
			return err
		}
	}
}

var (
	errNotNow  = errors.New("not now")
	errRefused = errors.New("refused")
)

// post makes one request.
func post(ctx context.Context, client *http.Client, key, request string, amount int) (o Order, err error) {
	ctx, cancel := asyncio.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ordersURL, strings.NewReader(fmt.Sprintf(`{"item":"tea","amount":%d}`, amount)))
	if err != nil {
		return o, err
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("X-Request-Id", request)
	return o, ask(client, req, &o)
}

// ask sends a request and decodes the answer.
func ask(client *http.Client, req *http.Request, into any) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	data, err := asynciohttp.ReadAll(resp.Body, maxAnswer)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode >= 500:
		return fmt.Errorf("%w: %s", errNotNow, data)
	case resp.StatusCode >= 400:
		return fmt.Errorf("%w: %s %s", errRefused, resp.Status, data)
	}
	return json.Unmarshal(data, into)
}

// acknowledged notes an order that a client was told of, and checks it: it must be on the disk by
// now, so that nothing can lose it (orders 1).
func (s *simulation) acknowledged(key string, o Order, amount int) {
	if o.Amount != amount {
		s.breach(oneOrder, "order %s of key %s is for %d, want %d", o.ID, key, o.Amount, amount)
	}
	if first, ok := s.orderOf[key]; ok {
		if first != o.ID {
			s.breach(oneOrder, "key %s gave orders %s and %s", key, first, o.ID)
		}
		return
	}
	s.orderOf[key] = o.ID
	s.acked = append(s.acked, o.ID)
	var records [][]byte
	data, err := s.orders.Disk().ReadDurable(ordersDir + "/" + journalName)
	if err == nil {
		records, err = readJournal(data)
	}
	if err != nil {
		s.breach(kept, "%w", err)
	} else if !slices.ContainsFunc(records, func(line []byte) bool { return bytes.Contains(line, []byte(o.ID)) }) {
		s.breach(kept, "order %s was acknowledged, and a loss of power now would lose it", o.ID)
	}
}

// audit asks for every acknowledged order until it is paid. Nothing goes wrong any more, so that
// takes less than a minute.
func (s *simulation) audit(ctx context.Context) error {
	transport := new(asynciohttp.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	get := func(ctx context.Context, url string, into any) error {
		ctx, cancel := asyncio.WithTimeout(ctx, patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		return ask(client, req, into)
	}
	for _, id := range s.acked {
		var o Order
		err := asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
				err := get(ctx, ordersURL+"/"+id, &o)
				if errors.Is(err, errRefused) {
					s.breach(kept, "order %s is lost: %w", id, err)
					return nil
				}
				if err == nil && o.Status == "paid" {
					if there, err := s.checkPayment(o); there || err != nil {
						return err
					}
				}
				if err := asyncio.Sleep(ctx, pause); err != nil {
					return err
				}
			}
		})
		switch {
		case errors.Is(err, asyncio.ErrTimeout) && o.Status == "paid":
			s.breach(inTheEnd, "order %s has left the outbox, and payments never charged it", id)
		case errors.Is(err, asyncio.ErrTimeout):
			s.breach(inTheEnd, "nothing has gone wrong for a minute, and order %s is %s", id, o.Status)
		case err != nil:
			return err
		}
	}
	return nil
}

// checkPayment looks for the payment of an order on the disk of payments, and reports whether it is
// there.
func (s *simulation) checkPayment(o Order) (there bool, err error) {
	data, err := s.payments.Disk().ReadDurable(paymentsDir + "/" + journalName)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(data, s.lastFile) {
		if s.lastPayments, err = readPayments(data); err != nil {
			return false, err
		}
		s.lastFile = data
	}
	of := s.lastPayments[o.ID]
	switch {
	case len(of) > 1:
		s.breach(atMost, "order %s was charged twice, by payments %s and %s", o.ID, of[0].ID, of[1].ID)
	case len(of) == 1 && (o.Payment != "" && of[0].ID != o.Payment || of[0].Amount != o.Amount):
		s.breach(atMost, "the payment of %+v is %+v", o, of[0])
	}
	return len(of) > 0, nil
}

// readPayments reads the journal of payments, and returns the payments of each order.
func readPayments(file []byte) (map[string][]Payment, error) {
	records, err := readJournal(file)
	if err != nil {
		return nil, err
	}
	all := make(map[string][]Payment)
	for _, line := range records {
		var r chargedRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		all[r.Order] = append(all[r.Order], r.Payment)
	}
	return all, nil
}

// readOrders reads the journal of orders.
func readOrders(file []byte) (map[string]Order, error) {
	records, err := readJournal(file)
	if err != nil {
		return nil, err
	}
	s := orders{byID: make(map[string]*placed), byKey: make(map[string]*placed)}
	for _, r := range records {
		if err := s.load(r); err != nil {
			return nil, err
		}
	}
	all := make(map[string]Order)
	for id, p := range s.byID {
		all[id] = p.order
	}
	return all, nil
}

// checkDisks compares what is on the two disks with what the clients were told: each acknowledged
// order is there and was charged once, and nothing was charged that nobody ordered.
func (s *simulation) checkDisks() error {
	data, err := s.orders.Disk().ReadFile(ordersDir + "/" + journalName)
	if err != nil {
		return err
	}
	journaled, err := readOrders(data)
	if err != nil {
		return err
	}
	if data, err = s.payments.Disk().ReadFile(paymentsDir + "/" + journalName); err != nil {
		return err
	}
	paid, err := readPayments(data)
	if err != nil {
		return err
	}
	for id, of := range paid {
		if o, ok := journaled[id]; !ok || len(of) != 1 || of[0].Amount != o.Amount {
			return fmt.Errorf("of order %s there are the payments %+v, and in orders' journal is %+v", id, of, o)
		}
	}
	for _, id := range s.acked {
		if _, ok := journaled[id]; !ok || len(paid[id]) != 1 {
			return fmt.Errorf("order %s is in orders' journal: %v; it was charged %d times", id, ok, len(paid[id]))
		}
	}
	return nil
}

// powerFailure makes a host lose its power.
func powerFailure(h *sim.Host, pause time.Duration) trouble {
	return trouble{what: "power failure of " + h.Name(), p: 0.3, pause: pause, do: func(func(int) int) { h.Crash() }}
}

// terminate tells a program to stop, as a deployment does. Once is enough: a second SIGTERM would
// end it at once.
func (s *simulation) terminate(h *sim.Host, pause time.Duration) trouble {
	return trouble{what: "SIGTERM of " + h.Name(), p: 0.5, pause: pause, mild: true, do: func(func(int) int) {
		if !s.stopping[h] {
			s.stopping[h] = true
			h.Shutdown()
		}
	}}
}

// lostAnswers loses what payments says to orders.
func (s *simulation) lostAnswers(pause, lasts time.Duration) trouble {
	return trouble{what: "answers of payments are lost", p: 0.3, pause: pause, lasts: lasts,
		do:   func(func(int) int) { s.net.Cut("payments", "orders") },
		undo: func() { s.net.Mend("payments", "orders") }}
}

// everything returns all the troubles that the service must survive.
func everything(s *simulation) []trouble {
	const second = time.Second
	names := []string{"orders", "payments", clientName(0), clientName(1)}
	two := func(r func(int) int) (string, string) {
		i := r(len(names))
		return names[i], names[(i+1+r(len(names)-1))%len(names)]
	}
	network := func(what string, do func(r func(int) int)) trouble {
		return trouble{what: what, p: 0.3, pause: 2 * second, lasts: 4 * second, do: do, undo: s.net.Heal}
	}
	all := []trouble{
		s.lostAnswers(2*second, 4*second),
		network("orders is isolated", func(func(int) int) { s.net.Isolate("orders") }),
		network("payments is isolated", func(func(int) int) { s.net.Isolate("payments") }),
		network("the services are apart", func(func(int) int) { s.net.Partition([]string{"orders"}, []string{"payments"}) }),
		network("one way is cut", func(r func(int) int) { s.net.Cut(two(r)) }),
		network("one way is held", func(r func(int) int) { s.net.Hold(two(r)) }),
		{what: "connections are reset", p: 0.5, pause: second, do: func(r func(int) int) { s.net.Reset(two(r)) }},
		{what: "the network is bad", p: 0.3, pause: 2 * second, lasts: 4 * second,
			do: func(r func(int) int) {
				s.net.SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: time.Duration(1+r(300)) * time.Millisecond, Loss: 0.05})
			},
			undo: func() { s.net.SetLink(goodLink) }},
	}
	for _, h := range []*sim.Host{s.orders, s.payments} {
		h.SetCrashes(0.0003, 10*second)
		d := h.Disk()
		all = append(all,
			powerFailure(h, 3*second),
			s.terminate(h, 3*second),
			trouble{what: h.Name() + " is killed", p: 0.3, pause: 3 * second, do: func(func(int) int) { h.Kill() }},
			trouble{what: h.Name() + " is paused", p: 0.2, pause: 3 * second, do: func(r func(int) int) { h.Pause(time.Duration(r(4000)) * time.Millisecond) }},
			trouble{what: "the disk of " + h.Name() + " is slow", p: 0.3, pause: 3 * second, lasts: 4 * second,
				do: func(r func(int) int) {
					d.SetLatency(0, time.Duration(1+r(100))*time.Millisecond)
					d.SetSyncLatency(0, time.Duration(1+r(1000))*time.Millisecond)
				},
				undo: func() { d.SetLatency(0, 0); d.SetSyncLatency(0, 5*time.Millisecond) }},
			trouble{what: "the disk of " + h.Name() + " is full", p: 0.3, pause: 5 * second, lasts: 2 * second,
				do: func(func(int) int) { d.SetCapacity(1) }, undo: func() { d.SetCapacity(0) }},
			trouble{what: "the disk of " + h.Name() + " fails", p: 0.2, pause: 5 * second, lasts: 3 * second,
				do:   func(func(int) int) { d.SetFaults(sim.DiskFaults{Read: 0.02, Write: 0.05, Sync: 0.1, Stall: 0.02}) },
				undo: func() { d.SetFaults(sim.DiskFaults{}) }},
		)
	}
	return all
}
