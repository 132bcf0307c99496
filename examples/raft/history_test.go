package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/goasyncio/asyncio"
)

// A history is the requests of clients and their answers, in the order in which they happened:
// every call and every return has the next number as its time. It belongs to one loop.
type history struct {
	events   int64
	ops      []*operation
	answered int
	progress asyncio.Event // set at each return
}

// operation is one call.
type operation struct {
	client       int
	request      request
	call, answer int64 // times; answer is 0 if there was none
	reply        reply
}

func (o *operation) String() string {
	what := fmt.Sprintf("%s %q", o.request.op, o.request.key)
	switch o.request.op {
	case "put":
		what += fmt.Sprintf(" %q", o.request.value)
	case "cas":
		what += fmt.Sprintf(" %q %q", o.request.old, o.request.value)
	}
	if o.answer == 0 {
		return fmt.Sprintf("%4d       client %d: %s: no answer", o.call, o.client, what)
	}
	return fmt.Sprintf("%4d to %3d client %d: %s: %v", o.call, o.answer, o.client, what, o.reply)
}

// ask makes a request with c, and records it. An error that means "no answer" is not a failure.
func (h *history) ask(ctx context.Context, c *Client, number int, q request) (reply, error) {
	h.events++
	o := &operation{client: number, request: q, call: h.events}
	h.ops = append(h.ops, o)
	p, err := askClient(ctx, c, q)
	if errors.Is(err, ErrUnknown) {
		return reply{}, nil
	}
	if err != nil {
		return reply{}, err
	}
	h.events++
	o.answer, o.reply = h.events, p
	h.answered++
	h.progress.Set()
	return p, nil
}

// unanswered records a request that nobody waits for.
func (h *history) unanswered(number int, q request) {
	h.events++
	h.ops = append(h.ops, &operation{client: number, request: q, call: h.events})
}

func askClient(ctx context.Context, c *Client, q request) (reply, error) {
	switch q.op {
	case "put":
		return reply{kind: "ok"}, c.Put(ctx, q.key, q.value)
	case "cas":
		ok, err := c.CAS(ctx, q.key, q.old, q.value)
		if !ok {
			return reply{kind: "none"}, err
		}
		return reply{kind: "ok"}, err
	}
	v, ok, err := c.Get(ctx, q.key)
	if !ok {
		return reply{kind: "none"}, err
	}
	return reply{"value", v}, err
}

// wait suspends until n more calls have been answered.
func (h *history) wait(ctx context.Context, n int) error {
	for n += h.answered; h.answered < n; {
		h.progress.Clear()
		if err := h.progress.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// work makes a client request things of few keys, as long as more, which gets the number of
// requests so far, returns true. The client pauses for up to think before half of the requests, and
// changes something in changes out of four. Every value is written once, so a read shows which
// write it saw.
func (h *history) work(ctx context.Context, c *Client, number, changes int, think time.Duration, more func(asked int) bool) error {
	r := asyncio.Rand(ctx)
	seen := make(map[string]string) // the last value that this client knew of a key
	for i := 0; more(i); i++ {
		if pause := time.Duration(r.Int64N(2*int64(think)+1)) - think; pause > 0 {
			if err := asyncio.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		q := request{op: "get", key: string(rune('a' + r.IntN(3)))}
		if r.IntN(4) < changes {
			q.op = "put"
			if r.IntN(2) == 0 {
				q.op, q.old = "cas", seen[q.key]
			}
		}
		if q.op != "get" {
			q.value = fmt.Sprintf("%d.%d", number, i)
		}
		p, err := h.ask(ctx, c, number, q)
		if err != nil {
			return err
		}
		switch p.kind {
		case "ok":
			seen[q.key] = q.value
		case "value":
			seen[q.key] = p.text
		}
	}
	return nil
}

// check returns an error unless some order of the operations explains all answers: each operation
// at a moment between its call and its return, those without an answer at any moment after the call
// or never. It must not be called before the clients have ended.
func (h *history) check() error {
	byKey := make(map[string][]*operation)
	var keys []string
	for _, o := range h.ops {
		if o.request.op == "get" && o.answer == 0 {
			continue
		}
		if byKey[o.request.key] == nil {
			keys = append(keys, o.request.key)
		}
		byKey[o.request.key] = append(byKey[o.request.key], o)
	}
	slices.Sort(keys)
	for _, key := range keys {
		var ops []porcupine.Operation
		for _, o := range byKey[key] {
			ops = append(ops, porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: cmp.Or(o.answer, math.MaxInt64)})
		}
		if !porcupine.CheckOperations(oneKey, ops) {
			var b strings.Builder
			for _, o := range byKey[key] {
				fmt.Fprintf(&b, "\n%v", o)
			}
			return fmt.Errorf("not linearizable: no order of what was done to %q explains the answers:%s", key, b.String())
		}
	}
	return nil
}

// oneKey is the model of one key: the state is a reply, "none" or the value.
var oneKey = porcupine.Model{
	Init: func() any { return reply{kind: "none"} },
	Step: func(state, input, _ any) (bool, any) {
		now, o := state.(reply), input.(*operation)
		next, answer := now, now
		switch q := o.request; q.op {
		case "put":
			next, answer = reply{"value", q.value}, reply{kind: "ok"}
		case "cas":
			answer = reply{kind: "none"}
			if now == (reply{"value", q.old}) {
				next, answer = reply{"value", q.value}, reply{kind: "ok"}
			}
		}
		return o.answer == 0 || o.reply == answer, next
	},
}

func TestHistory(t *testing.T) {
	get := func(client int, call, answer int64, p reply) *operation {
		return &operation{client, request{op: "get", key: "k"}, call, answer, p}
	}
	change := func(client int, op string, call, answer int64, old, value, kind string) *operation {
		return &operation{client, request{op: op, key: "k", old: old, value: value}, call, answer, reply{kind: kind}}
	}
	for _, test := range []struct {
		name string
		ops  []*operation
		ok   bool
	}{
		{"read after write", []*operation{change(1, "put", 1, 2, "", "x", "ok"), get(2, 3, 4, reply{"value", "x"})}, true},
		{"stale read", []*operation{change(1, "put", 1, 2, "", "x", "ok"), get(2, 3, 4, reply{kind: "none"})}, false},
		{"concurrent", []*operation{change(1, "put", 1, 4, "", "x", "ok"), get(2, 2, 3, reply{kind: "none"})}, true},
		{"backwards", []*operation{change(1, "put", 1, 6, "", "x", "ok"), get(2, 2, 3, reply{"value", "x"}), get(2, 4, 5, reply{kind: "none"})}, false},
		{"no answer, made", []*operation{change(1, "put", 1, 0, "", "x", ""), get(2, 2, 3, reply{kind: "none"}), get(2, 4, 5, reply{"value", "x"})}, true},
		{"no answer, not made", []*operation{change(1, "put", 1, 0, "", "x", ""), get(2, 2, 3, reply{kind: "none"})}, true},
		{"made twice", []*operation{change(1, "put", 1, 2, "", "x", "ok"), change(2, "put", 3, 4, "", "y", "ok"), get(2, 5, 6, reply{"value", "x"})}, false},
		{"cas", []*operation{change(1, "put", 1, 2, "", "x", "ok"), change(2, "cas", 3, 4, "x", "y", "ok"), change(1, "cas", 5, 6, "x", "z", "none")}, true},
		{"both cas won", []*operation{change(1, "put", 1, 2, "", "x", "ok"), change(2, "cas", 3, 6, "x", "y", "ok"), change(1, "cas", 4, 5, "x", "z", "ok")}, false},
		{"cas of nothing", []*operation{change(1, "cas", 1, 2, "", "x", "ok")}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &history{ops: test.ops}
			if err := h.check(); (err == nil) != test.ok {
				t.Errorf("check: %v", err)
			}
		})
	}
}
