package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/goasyncio/asyncio"
)

// A Payment is an amount that was charged.
type Payment struct {
	ID     string `json:"id"`
	Order  string `json:"order"`
	Amount int    `json:"amount"` // in cents
}

type paymentRequest struct {
	Order  string `json:"order"`
	Amount int    `json:"amount"`
}

// payments is the service that charges. It promises:
//
//	payments 1: A payment that was acknowledged is never lost.
//	payments 2: Requests with the same Idempotency-Key charge once, however often, whenever and in
//	   which life of the service they come. A request without a key is a payment of its own, as with
//	   most services of this kind.
type payments struct {
	*service
	limit int // of a payment, in cents

	byID  map[string]*charged
	byKey map[string]*charged

	number, total, repeated int // of durable payments
}

// A charged is a payment with its key.
type charged struct {
	payment Payment
	durable *asyncio.Future[asyncio.None] // nil if it was read from the journal
}

// A record of payments' journal is a payment.
type chargedRecord struct {
	Key string `json:"key,omitempty"`
	Payment
}

// runPayments runs the service until the calling task is cancelled.
func runPayments(ctx context.Context, c config, limit int) error {
	s := &payments{service: newService(c), limit: limit, byID: make(map[string]*charged), byKey: make(map[string]*charged)}
	s.mux.Handle("POST /payments", s.handle(s.post))
	s.mux.Handle("GET /payments/{id}", s.handle(s.get))
	s.mux.Handle("GET /balance", s.handle(s.balance))
	s.count("payments_total", "Payments that were charged.", func() int { return s.number })
	s.count("payments_repeated_total", "Requests whose payment had been charged before.", func() int { return s.repeated })
	return s.run(ctx, s.load)
}

// load applies a record that was read from the journal.
func (s *payments) load(line []byte) error {
	var r chargedRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	s.add(r.Key, &charged{payment: r.Payment})
	s.sum(r.Payment)
	return nil
}

func (s *payments) add(key string, c *charged) {
	s.byID[c.payment.ID] = c
	if key != "" {
		s.byKey[key] = c
	}
}

func (s *payments) sum(p Payment) {
	s.number++
	s.total += p.Amount
}

// post is POST /payments.
func (s *payments) post(ctx context.Context, r *http.Request) (int, any, error) {
	var want paymentRequest
	if err := readBody(r, &want); err != nil {
		return 0, nil, err
	}
	if want.Order == "" || want.Amount <= 0 {
		return 0, nil, problem{http.StatusBadRequest, "a payment needs an order and a positive amount"}
	}
	key := r.Header.Get("Idempotency-Key")
	c, repeated := s.byKey[key]
	switch {
	case repeated && (c.payment.Order != want.Order || c.payment.Amount != want.Amount):
		return 0, nil, problem{http.StatusUnprocessableEntity, "this Idempotency-Key belongs to another payment"}
	case !repeated && want.Amount > s.limit:
		return 0, nil, problem{http.StatusPaymentRequired, fmt.Sprintf("declined: the limit is %d", s.limit)}
	case !repeated:
		c = s.charge(ctx, key, want)
	}
	if err := wait(ctx, c.durable); err != nil {
		return 0, nil, err
	}
	if repeated {
		s.repeated++
		return http.StatusOK, c.payment, nil
	}
	return http.StatusCreated, c.payment, nil
}

// charge makes a payment and appends its record. From now on a repeated request finds it
// (payments 2).
func (s *payments) charge(ctx context.Context, key string, want paymentRequest) *charged {
	id := newID(ctx, s.byID)
	c := &charged{payment: Payment{ID: id, Order: want.Order, Amount: want.Amount}}
	s.add(key, c)
	c.durable = s.journal.append(ctx, chargedRecord{key, c.payment}, func() {
		s.sum(c.payment)
		s.log.Debug("charged", "order", want.Order, "payment", id)
	})
	return c
}

// get is GET /payments/{id}.
func (s *payments) get(ctx context.Context, r *http.Request) (int, any, error) {
	c := s.byID[r.PathValue("id")]
	if c == nil {
		return 0, nil, problem{http.StatusNotFound, "there is no such payment"}
	}
	if err := wait(ctx, c.durable); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.payment, nil
}

// balance is GET /balance.
func (s *payments) balance(context.Context, *http.Request) (int, any, error) {
	return http.StatusOK, map[string]int{"payments": s.number, "total": s.total}, nil
}
