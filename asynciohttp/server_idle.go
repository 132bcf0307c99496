package asynciohttp

import (
	"iter"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
)

// A connLink is a connection's place in a list.
type connLink struct {
	prev, next *serverConn
	listed     bool
}

// A connList holds connections in the order in which they were added, those of a server.
type connList struct{ first, last *serverConn }

func (q *connList) add(c *serverConn) {
	c.among = connLink{prev: q.last, listed: true}
	if q.last == nil {
		q.first = c
	} else {
		q.last.among.next = c
	}
	q.last = c
}

func (q *connList) remove(c *serverConn) {
	k := c.among
	if !k.listed {
		return
	}
	if k.prev == nil {
		q.first = k.next
	} else {
		k.prev.among.next = k.next
	}
	if k.next == nil {
		q.last = k.prev
	} else {
		k.next.among.prev = k.prev
	}
	c.among = connLink{}
}

// all allows the current connection to be removed.
func (q *connList) all() iter.Seq[*serverConn] {
	return func(yield func(*serverConn) bool) {
		for c := q.first; c != nil; {
			next := c.among.next
			if !yield(c) {
				return
			}
			c = next
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
	first, last, bare *serverConn
	timer             *asyncio.TimerHandle // nil if none is set
	at                asyncio.Instant      // when the timer is due
}

// enter puts c, which begins to wait, at the end.
func (q *idleQueue) enter(s *Server, c *serverConn) {
	c.since = s.loop.Time()
	c.resting = connLink{prev: q.last, listed: true}
	if q.last == nil {
		q.first = c
	} else {
		q.last.resting.next = c
	}
	q.last = c
	if q.bare == nil {
		q.bare = c
	}
	if q.timer == nil || q.at.After(c.since.Add(idleGrace)) {
		q.set(s)
	}
}

func (q *idleQueue) leave(c *serverConn) {
	k := c.resting
	if !k.listed {
		return
	}
	if q.bare == c {
		q.bare = k.next
	}
	if k.prev == nil {
		q.first = k.next
	} else {
		k.prev.resting.next = k.next
	}
	if k.next == nil {
		q.last = k.prev
	} else {
		k.next.resting.prev = k.prev
	}
	c.resting = connLink{}
}

// set sets the timer for the next connection that is due (rest 3).
func (q *idleQueue) set(s *Server) {
	if q.timer != nil {
		q.timer.Cancel()
		q.timer = nil
	}
	next := asyncio.Never
	if q.bare != nil {
		next = q.bare.since.Add(idleGrace)
	}
	if limit := s.idleTimeout(); limit > 0 && q.first != nil {
		if at := q.first.since.Add(limit); at.Before(next) {
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
	for q.bare != nil && !now.Before(q.bare.since.Add(idleGrace)) {
		c := q.bare
		q.bare = c.resting.next
		c.nudge(toGiveBack)
	}
	limit := s.idleTimeout()
	for c := q.first; limit > 0 && c != nil && !now.Before(c.since.Add(limit)); c = q.first {
		q.leave(c)
		if c.state == http.StateIdle { // a new one has ReadHeaderTimeout
			c.nudge(toClose)
		}
	}
	q.set(s)
}
