package sim

import (
	"slices"
	"time"
)

// The receiving direction of a connection (tcp 1, tcp 4): which connection an arriving segment
// belongs to, and what it changes there.

func (p *segment) arrive(s *system) {
	if !s.on {
		return
	}
	c := s.conns[p.to]
	switch {
	case c != nil:
		c.receive(p)
	case p.reset:
	case p.request && p.to.server:
		s.requested(p)
	default:
		s.answerReset(p)
	}
}

// answerReset answers a segment that belongs to no connection with a reset (tcp 7).
func (s *system) answerReset(p *segment) {
	w := s.wireTo(p.src.Addr())
	last := time.Duration(0)
	w.carry(&segment{to: side{p.to.conn, !p.to.server}, src: p.dst, dst: p.src, reset: true}, &last)
}

// receive handles a segment and acknowledges it (tcp 4).
func (c *tcpConn) receive(p *segment) {
	c.unanswered = 0
	if p.reset {
		c.reset()
		return
	}
	if !c.heard && !p.request {
		return // part of the answer to a request; the answer will come again
	}
	if p.edge > c.edge {
		c.edge = p.edge
	}
	again := c.heard && p.request
	if p.request && !c.heard {
		c.heard, c.rcv, c.peer = true, 1, p.from
	}
	if p.ack > c.una && p.ack <= c.max {
		c.progress(p)
	}
	if len(p.data) > 0 || p.fin || p.request || p.probe {
		c.echo = p.sent
		if p.number < c.rcv && p.behind() > c.rcv || p.number >= c.rcv {
			if c.orphan && len(p.data) > 0 {
				c.abort()
				return
			}
			if !p.request && !p.probe {
				c.take(p)
			}
		}
		switch {
		case c.una > 0:
			c.acknowledge()
		case again:
			c.next = 0 // the answer was lost
		}
	}
	c.transmit()
	c.settle()
}

// take puts an arriving segment in its place in the stream (tcp 1).
func (c *tcpConn) take(p *segment) {
	i, _ := slices.BinarySearchFunc(c.early, p.number, func(q *segment, number int64) int { return int(q.number - number) })
	if i < len(c.early) && c.early[i].number == p.number && c.early[i].behind() >= p.behind() {
		return
	}
	c.early = slices.Insert(c.early, i, p)
	for len(c.early) > 0 && c.early[0].number <= c.rcv {
		q := c.early[0]
		c.early = slices.Delete(c.early, 0, 1)
		if q.behind() <= c.rcv {
			continue
		}
		if data := q.data[min(c.rcv-q.number, int64(len(q.data))):]; len(data) > 0 {
			c.in = append(c.in, data)
			c.unread += len(data)
			c.rcv += int64(len(data))
		}
		if q.fin {
			c.ended = true
			c.rcv++
		}
		c.wake(true, false)
	}
}
