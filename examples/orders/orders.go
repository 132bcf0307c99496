package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// An Order is what a customer has ordered.
type Order struct {
	ID     string `json:"id"`
	Item   string `json:"item"`
	Amount int    `json:"amount"` // in cents

	Status  string `json:"status"`            // placed, paid or refused
	Payment string `json:"payment,omitempty"` // the ID of the payment, if it is paid
	Refusal string `json:"refusal,omitempty"` // what payments said, if it is refused
}

// orders is the service that takes orders and has them paid. It promises:
//
//	orders 1: An order that was acknowledged is never lost.
//	orders 2: The same Idempotency-Key gives the same order, however often and whenever a request is
//	   repeated, also while the first one is being handled. With other contents it is refused.
//	orders 3: An order and its entry in the outbox are one record, so there is never one without the
//	   other. The entry stays until a record says that the order is settled.
//	orders 4: Each order is charged exactly once in the end: the relay repeats the request until
//	   payments has answered, always with the ID of the order as its Idempotency-Key (relay 1), and
//	   payments charges once for each key (payments 2).
type orders struct {
	*service
	ordersConfig
	client *http.Client
	slots  *asyncio.Semaphore      // of the relay's requests
	outbox *asyncio.Queue[*placed] // durable orders; each is done when it is settled

	byID   map[string]*placed
	byKey  map[string]*placed
	loaded []*placed // from the journal, in its order

	placed, repeated, unsettled, attempts, failures int // for metrics

	unanswered bool // the last request to payments that ended had no useful answer
}

// ordersConfig is the configuration of orders beside that of any service.
type ordersConfig struct {
	payments string        // the URL of payments
	drain    time.Duration // how long a shutdown waits for the outbox
	attempt  time.Duration // the limit of a request to payments

	// Broken on purpose. chargeWithoutKey sends requests to payments without a key, against
	// relay 1; markBeforeSend removes an entry from the outbox before it is sent, against relay 2.
	chargeWithoutKey, markBeforeSend bool
}

// A placed is an order with its key.
type placed struct {
	key     string
	order   Order
	durable *asyncio.Future[asyncio.None] // nil if it was read from the journal
}

// A record of orders' journal says one of two things.
type ordersRecord struct {
	Placed  *placedRecord  `json:"placed,omitempty"`
	Settled *settledRecord `json:"settled,omitempty"`
}

// A placedRecord is an order and its entry in the outbox (orders 3).
type placedRecord struct {
	Key    string `json:"key"`
	ID     string `json:"id"`
	Item   string `json:"item"`
	Amount int    `json:"amount"`
}

// A settledRecord removes an order from the outbox.
type settledRecord struct {
	ID      string `json:"id"`
	Payment string `json:"payment,omitempty"`
	Refusal string `json:"refusal,omitempty"`
}

// runOrders runs the service until the calling task is cancelled.
func runOrders(ctx context.Context, c config, oc ordersConfig) error {
	transport := &asynciohttp.Transport{MaxIdleConnsPerHost: relayWidth, IdleConnTimeout: 30 * time.Second}
	defer transport.CloseIdleConnections()
	s := &orders{
		service: newService(c), ordersConfig: oc,
		client: &http.Client{Transport: transport},
		slots:  asyncio.NewSemaphore(relayWidth),
		outbox: asyncio.NewQueue[*placed](0),
		byID:   make(map[string]*placed),
		byKey:  make(map[string]*placed),
	}
	s.mux.Handle("POST /orders", s.handle(s.post))
	s.mux.Handle("GET /orders/{id}", s.handle(s.get))
	s.count("orders_placed_total", "Orders that were placed.", func() int { return s.placed })
	s.count("orders_repeated_total", "Requests whose order had been placed before.", func() int { return s.repeated })
	s.count("relay_attempts_total", "Requests to payments.", func() int { return s.attempts })
	s.count("relay_failures_total", "Requests to payments without a useful answer.", func() int { return s.failures })
	s.gauge("outbox_entries", "Orders that are not settled.", func() int { return s.unsettled })
	s.background, s.finish = s.relay, s.flush
	return s.run(ctx, s.load)
}

// load applies a record that was read from the journal.
func (s *orders) load(line []byte) error {
	var r ordersRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	switch {
	case r.Placed != nil:
		p := &placed{key: r.Placed.Key, order: Order{ID: r.Placed.ID, Item: r.Placed.Item, Amount: r.Placed.Amount, Status: "placed"}}
		s.byID[p.order.ID], s.byKey[p.key] = p, p
		s.loaded = append(s.loaded, p)
	case r.Settled != nil && s.byID[r.Settled.ID] != nil:
		s.byID[r.Settled.ID].settle(*r.Settled)
	default:
		return errors.New("unknown: written by another version?")
	}
	return nil
}

func (p *placed) settle(r settledRecord) {
	p.order.Status, p.order.Payment, p.order.Refusal = "paid", r.Payment, r.Refusal
	if r.Refusal != "" {
		p.order.Status = "refused"
	}
}

// post is POST /orders.
func (s *orders) post(ctx context.Context, r *http.Request) (int, any, error) {
	var want struct {
		Item   string `json:"item"`
		Amount int    `json:"amount"`
	}
	key := r.Header.Get("Idempotency-Key")
	if err := readBody(r, &want); err != nil {
		return 0, nil, err
	}
	switch {
	case key == "":
		return 0, nil, problem{http.StatusBadRequest, "an order needs an Idempotency-Key"}
	case want.Item == "" || want.Amount <= 0:
		return 0, nil, problem{http.StatusBadRequest, "an order needs an item and a positive amount"}
	}
	p, repeated := s.byKey[key]
	switch {
	case !repeated:
		p = s.place(ctx, key, want.Item, want.Amount)
	case p.order.Item != want.Item || p.order.Amount != want.Amount:
		return 0, nil, problem{http.StatusUnprocessableEntity, "this Idempotency-Key belongs to another order"}
	}
	if err := wait(ctx, p.durable); err != nil {
		return 0, nil, err
	}
	if repeated {
		s.repeated++
		return http.StatusOK, p.order, nil
	}
	return http.StatusCreated, p.order, nil
}

// place makes an order and appends its record. From now on a repeated request finds it (orders 2).
func (s *orders) place(ctx context.Context, key, item string, amount int) *placed {
	id := newID(ctx, s.byID)
	p := &placed{key: key, order: Order{ID: id, Item: item, Amount: amount, Status: "placed"}}
	s.byID[id], s.byKey[key] = p, p
	p.durable = s.journal.append(ctx, ordersRecord{Placed: &placedRecord{key, id, item, amount}}, func() {
		s.placed++
		s.enqueue(p)
	})
	return p
}

// get is GET /orders/{id}.
func (s *orders) get(ctx context.Context, r *http.Request) (int, any, error) {
	p := s.byID[r.PathValue("id")]
	if p == nil {
		return 0, nil, problem{http.StatusNotFound, "there is no such order"}
	}
	if err := wait(ctx, p.durable); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.order, nil
}
