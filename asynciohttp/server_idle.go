package asynciohttp

import (
	"iter"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
)

// A connLink is the place of c in a list.
type connLink struct {
	c          *serverConn
	prev, next *connLink
	listed     bool
}

// A connList holds connections in the order in which they were added. It allocates nothing.
type connList struct{ first, last *connLink }

func (q *connList) add(k *connLink) {
	k.prev, k.listed = q.last, true
	if q.last == nil {
		q.first = k
	} else {
		q.last.next = k
	}
	q.last = k
}

// remove does nothing if k is not in the list.
func (q *connList) remove(k *connLink) {
	if !k.listed {
		return
	}
	if k.prev == nil {
		q.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		q.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	*k = connLink{c: k.c}
}

// all allows the current connection to be removed.
func (q *connList) all() iter.Seq[*serverConn] {
	return func(yield func(*serverConn) bool) {
		for k := q.first; k != nil; {
			next := k.next
			if !yield(k.c) {
				return
			}
			k = next
		}
	}
}

// idleGrace is how long a connection that waits for a request keeps its buffers (serve 5).
const idleGrace = time.Second

// An idleQueue holds the connections that wait for a request, in the order in which they began to.
// One timer serves all (serve 7). It is set for the first connection and not taken back when that
// has gone, so a busy connection enters and leaves without touching it.
//
//	rest 1: Every connection in the queue has been waiting since c.since, and no earlier than the
//	   one before it.
//	rest 2: Those before bare have given their buffers back, or have been told to; bare and those
//	   behind it have not.
//	rest 3: If the queue is not empty, a timer is set for the time when the first or bare is due, or
//	   earlier.
type idleQueue struct {
	connList
	bare  *connLink
	timer *asyncio.TimerHandle // nil if none is set
	at    asyncio.Instant      // when the timer is due
}

// enter puts c, which begins to wait, at the end.
func (q *idleQueue) enter(s *Server, c *serverConn) {
	c.since = s.loop.Time()
	q.add(&c.resting)
	if q.bare == nil {
		q.bare = &c.resting
	}
	if q.timer == nil || q.at.After(c.since.Add(idleGrace)) {
		q.set(s)
	}
}

func (q *idleQueue) leave(c *serverConn) {
	if q.bare == &c.resting {
		q.bare = c.resting.next
	}
	q.remove(&c.resting)
}

// set sets the timer for the next connection that is due (rest 3).
func (q *idleQueue) set(s *Server) {
	if q.timer != nil {
		q.timer.Cancel()
		q.timer = nil
	}
	next := asyncio.Never
	if q.bare != nil {
		next = q.bare.c.since.Add(idleGrace)
	}
	if limit := s.idleTimeout(); limit > 0 && q.first != nil {
		if at := q.first.c.since.Add(limit); at.Before(next) {
			next = at
		}
	}
	if next != asyncio.Never {
		q.timer, q.at = s.loop.CallAt(next, func() { q.look(s) }), next
	}
}

// look is called by the timer.
func (q *idleQueue) look(s *Server) {
	q.timer = nil
	now := s.loop.Time()
	for q.bare != nil && !now.Before(q.bare.c.since.Add(idleGrace)) {
		k := q.bare
		q.bare = k.next
		k.c.nudge(toGiveBack)
	}
	limit := s.idleTimeout()
	for limit > 0 && q.first != nil && !now.Before(q.first.c.since.Add(limit)) {
		c := q.first.c
		q.leave(c)
		if c.state == http.StateIdle { // a new one has ReadHeaderTimeout
			c.nudge(toClose)
		}
	}
	q.set(s)
}
