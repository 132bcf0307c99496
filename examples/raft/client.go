package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio"
)

// ErrUnknown is returned when no answer came in time.
var ErrUnknown = errors.New("no answer in time; a change may have been made, may still be, or not")

// A Client makes requests to a cluster, one at a time. It finds the leader, and asks again until it
// has an answer; a change that is sent again is made once. Its methods are for the loop only and
// must be called in a task, which they suspend.
//
// A change that has failed with [ErrUnknown], or was cancelled, can still be made until the
// client's next change has been answered.
type Client struct {
	Patience time.Duration // with one call, default 10 s
	Attempt  time.Duration // how long to wait for the answer of one node, default 1 s
	Pause    time.Duration // before asking again, at most twice that; default 50 ms

	id       string
	sequence uint64
	nodes    []string
	next     int    // the next node to ask
	address  string // the leader's address, if known

	r *asyncio.StreamReader
	w *asyncio.StreamWriter // nil if not connected
}

// NewClient makes a client of the cluster whose nodes have these addresses. It is for the loop only
// and does not suspend.
func NewClient(ctx context.Context, nodes ...string) *Client {
	return &Client{
		Patience: 10 * time.Second,
		Attempt:  time.Second,
		Pause:    50 * time.Millisecond,
		id:       strconv.FormatUint(asyncio.Rand(ctx).Uint64(), 36),
		nodes:    nodes,
	}
}

// Get returns the value of key, if there is one.
func (c *Client) Get(ctx context.Context, key string) (value string, ok bool, err error) {
	p, err := c.ask(ctx, request{op: "get", key: key})
	return p.text, p.kind == "value", err
}

// Put sets the value of key.
func (c *Client) Put(ctx context.Context, key, value string) error {
	c.sequence++
	_, err := c.ask(ctx, request{op: "put", client: c.id, sequence: c.sequence, key: key, value: value})
	return err
}

// CAS sets the value of key to value if it is old, and reports whether it was.
func (c *Client) CAS(ctx context.Context, key, old, value string) (swapped bool, err error) {
	c.sequence++
	p, err := c.ask(ctx, request{op: "cas", client: c.id, sequence: c.sequence, key: key, old: old, value: value})
	return p.kind == "ok", err
}

// Close closes the connection. It does not suspend.
func (c *Client) Close() {
	if c.w != nil {
		c.w.CloseSoon()
		c.r, c.w = nil, nil
	}
}

// ask asks until there is an answer.
func (c *Client) ask(ctx context.Context, q request) (p reply, err error) {
	if len(c.nodes) == 0 {
		return p, errors.New("a client without the addresses of nodes")
	}
	var last error
	err = asyncio.Timeout(ctx, c.Patience, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		for {
			if p, err = c.attempt(ctx, q.String()); err != nil && stopped(ctx, err) {
				return err
			}
			switch {
			case err != nil:
				last = err
				c.turn("")
			case p.kind == "leader":
				last = fmt.Errorf("%s is not the leader", c.node())
				c.turn(p.text)
			case p.kind == "again":
				last = fmt.Errorf("%s: %s", c.node(), p.text)
			case p.kind == "error":
				return errors.New(p.text)
			default:
				return nil
			}
			if err := asyncio.Sleep(ctx, jitter(ctx, c.Pause)); err != nil {
				return err
			}
		}
	})
	if err != nil && (errors.Is(err, asyncio.ErrTimeout) || stopped(ctx, err)) {
		c.Close() // so that a late answer is not taken for the next one's
	}
	if errors.Is(err, asyncio.ErrTimeout) {
		err = fmt.Errorf("%w: %w; last: %w", ErrUnknown, err, last)
	}
	return p, err
}

// node returns the address of the node to ask.
func (c *Client) node() string {
	if c.address != "" {
		return c.address
	}
	return c.nodes[c.next]
}

// turn switches to another node: the leader, if it is known, otherwise the next.
func (c *Client) turn(leader string) {
	c.Close()
	if leader == "" {
		c.next = (c.next + 1) % len(c.nodes)
	}
	c.address = leader
}

// attempt asks one node once.
func (c *Client) attempt(ctx context.Context, line string) (p reply, err error) {
	err = asyncio.Timeout(ctx, c.Attempt, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		if c.w == nil {
			r, w, err := asyncio.OpenConnection(ctx, c.node(), asyncio.StreamLimit(2*maxRequest))
			if err != nil {
				return err
			}
			c.r, c.w = r, w
		}
		if _, err := fmt.Fprintln(c.w.Writer(ctx), line); err != nil {
			return err
		}
		answer, err := readLine(ctx, c.r)
		if err == nil {
			p, err = parseReply(answer)
		}
		return err
	})
	return p, err
}
