package asynciosql

import (
	"context"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// A home is what a DB has on the loop that it belongs to.
type home struct {
	loop   *asyncio.EventLoop
	places *asyncio.CapacityLimiter
	held   map[*place]struct{}
	// tasks that wait for a place
	waiting map[asyncio.AnyTask]struct{}
}

// A place is the right to use a connection (sql 2).
type place struct {
	home *home
	// the task whose turn it is for, across awaits; nil if the end of an operation gives it back
	holder asyncio.AnyTask
}

// at returns the home of d on the loop of ctx. A DB belongs to the loop that used it first, until
// that loop is closed.
func (d *DB) at(ctx context.Context) (*home, error) {
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return nil, err
	}
	for {
		h := d.home.Load()
		switch {
		case h != nil && h.loop == l:
			return h, nil
		case h != nil && !h.loop.IsClosed():
			return nil, fmt.Errorf("%w (asynciosql: a DB belongs to the loop that used it first; make one for each loop, of the same sql.DB)", asyncio.ErrDifferentLoop)
		}
		d.home.CompareAndSwap(h, &home{
			loop: l, places: asyncio.NewCapacityLimiter(d.limit),
			held: make(map[*place]struct{}), waiting: make(map[asyncio.AnyTask]struct{}),
		})
	}
}

// acquire waits for a place. If holds is true, the calling task will have it across awaits. The
// task has just yielded.
func (d *DB) acquire(ctx context.Context, holds bool) (*place, error) {
	h, err := d.at(ctx)
	if err != nil {
		return nil, err
	}
	p := &place{home: h}
	me := asyncio.CurrentTask(ctx)
	if holds {
		p.holder = me
	}
	if h.places.AvailableTokens() == 0 {
		if h.stuck(me) {
			return nil, fmt.Errorf("%w: each of the %d places of the DB is held by a task that waits for another one here: in the body of InTx, OnConn or a Query, use the Tx or Conn, or raise the Limit", asyncio.ErrDeadlock, d.limit)
		}
		h.waiting[me] = struct{}{}
		defer delete(h.waiting, me)
	}
	if err := h.places.AcquireOnBehalfOf(ctx, p); err != nil {
		return nil, err
	}
	h.held[p] = struct{}{}
	return p, nil
}

// stuck reports whether me would wait for ever: every place is held by a task that itself waits for
// one.
func (h *home) stuck(me asyncio.AnyTask) bool {
	n := 0
	for p := range h.held {
		if _, waits := h.waiting[p.holder]; p.holder == me || waits {
			n++
		}
	}
	return n >= h.places.TotalTokens()
}

// release gives the place back.
func (p *place) release() {
	if p.home.loop.IsClosed() {
		return
	}
	delete(p.home.held, p)
	p.home.places.ReleaseOnBehalfOf(p)
}
