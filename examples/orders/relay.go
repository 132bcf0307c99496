package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// The relay brings the entries of the outbox to payments.
//
//	relay 1: All requests for an order have its ID as their Idempotency-Key. Nobody can know whether
//	   a request without an answer was carried out, so it is repeated, and only a key makes that
//	   harmless.
//	relay 2: An entry leaves the outbox after payments has answered: it is settled when the record
//	   of the answer is durable. If the service ends before that, the next life repeats the request.
//	relay 3: Orders are independent of each other. Each entry has a task of its own, and they are
//	   not kept in order, so an order that payments cannot handle holds up no other one. At most
//	   relayWidth requests are under way.
//	relay 4: The pause before a repetition is random, below a limit that doubles each time. So
//	   entries that failed together do not all come back together.
const (
	relayWidth = 8
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	maxAnswer  = 64 << 10 // bytes
)

// enqueue puts an order into the outbox. Its record is durable.
func (s *orders) enqueue(p *placed) {
	s.unsettled++
	_ = s.outbox.PutNowait(p) // there is no limit, and nobody shuts it down
}

// relay is the task that relays the outbox, until it is cancelled. It begins with the entries that
// an earlier life has left.
func (s *orders) relay(ctx context.Context) error {
	for _, p := range s.loaded {
		if p.order.Status == "placed" {
			s.enqueue(p)
		}
	}
	s.loaded = nil
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for p, err := range s.outbox.All(ctx) {
			if err != nil {
				return err
			}
			tg.CreateTask(ctx, func(ctx context.Context) error {
				if err := s.settle(ctx, p); err != nil {
					return err
				}
				s.unsettled--
				s.outbox.TaskDone()
				return nil
			}, asyncio.TaskName("relay "+p.order.ID))
		}
		return nil
	})
}

// flush waits until the outbox is empty, for as long as drain. What is left then stays on the disk,
// and the next life relays it.
func (s *orders) flush(ctx context.Context) error {
	err := asyncio.Cleanup(ctx, s.drain, s.outbox.Join)
	if errors.Is(err, asyncio.ErrTimeout) {
		s.log.Warn("the outbox is not empty", "entries", s.unsettled)
		return nil
	}
	return err
}

// settle asks payments until there is an answer, and records it (relay 2).
func (s *orders) settle(ctx context.Context, p *placed) error {
	if s.markBeforeSend { // broken on purpose
		if err := s.record(ctx, p, settledRecord{ID: p.order.ID}); err != nil {
			return err
		}
	}
	for limit := firstPause; ; limit = min(2*limit, maxPause) {
		answer, err := s.pay(ctx, &p.order)
		if err == nil {
			if s.unanswered {
				s.unanswered = false
				s.log.Info("payments answers again")
			}
			return s.record(ctx, p, answer)
		}
		if errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		s.failures++
		if !s.unanswered {
			s.unanswered = true
			s.log.Warn("payments does not answer; orders stay in the outbox until it does", "error", err)
		}
		s.log.Debug("payments did not answer", "order", p.order.ID, "error", err)
		pause := time.Duration(asyncio.Rand(ctx).Int64N(int64(limit))) // relay 4
		if err := asyncio.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// record makes the answer durable and applies it.
func (s *orders) record(ctx context.Context, p *placed, answer settledRecord) error {
	return wait(ctx, s.journal.append(ctx, ordersRecord{Settled: &answer}, func() { p.settle(answer) }))
}

// pay makes one request to payments. An error means that there is no answer yet.
func (s *orders) pay(ctx context.Context, o *Order) (answer settledRecord, err error) {
	if err := s.slots.Acquire(ctx); err != nil {
		return answer, err
	}
	defer s.slots.Release()
	s.attempts++
	ctx, cancel := asyncio.WithTimeout(ctx, s.attempt)
	defer cancel()
	body, err := json.Marshal(paymentRequest{Order: o.ID, Amount: o.Amount})
	if err != nil {
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.payments+"/payments", bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !s.chargeWithoutKey {
		req.Header.Set("Idempotency-Key", o.ID) // relay 1
	}
	resp, err := s.client.Do(req) // suspends the task
	if err != nil {
		return answer, err
	}
	body, err = asynciohttp.ReadAll(resp.Body, maxAnswer)
	if err != nil {
		return answer, err
	}
	answer.ID = o.ID
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusCreated:
		var p Payment
		err = json.Unmarshal(body, &p)
		answer.Payment = p.ID
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		var e struct{ Error string }
		_ = json.Unmarshal(body, &e) // the status says enough
		answer.Refusal = fmt.Sprintf("%s: %s", resp.Status, e.Error)
	default:
		err = errors.New(resp.Status)
	}
	return answer, err
}
