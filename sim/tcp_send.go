package sim

import (
	"syscall"
	"time"
)

// The sending direction of a connection (tcp 1 to tcp 3, tcp 6, tcp 8): when which segment leaves,
// when it is sent again, what an acknowledgment changes, and probes.

// emit sends one segment.
func (c *tcpConn) emit(p *segment) {
	p.to = side{c.side.conn, !c.side.server}
	p.from, p.src, p.dst, p.path = c, c.flow.local, c.flow.remote, c.path
	if c.heard {
		p.ack = c.rcv
	}
	c.promised = max(c.promised, max(c.rcv, 1)+int64(max(c.receiveBuffer-c.unread, 0)))
	p.edge = c.promised
	p.sent, p.echo = c.now()+1, c.echo
	if c.out != nil { // nil if no host has the address
		c.left = c.out.carry(p, &c.last)
	}
}

func (c *tcpConn) acknowledge() { c.emit(&segment{number: c.next}) }

// transmit sends everything that may be sent (tcp 1-3).
func (c *tcpConn) transmit() {
	if c.removed {
		return
	}
	before, idle := c.next, c.una == c.max
	for p := c.nextSegment(); p != nil; p = c.nextSegment() {
		c.next = p.behind()
		c.max = max(c.max, c.next)
		c.emit(p)
	}
	if c.next != before {
		if idle {
			c.since = c.now()
		}
		if before == c.una {
			c.setTimer()
		}
	}
	if c.stuck() {
		c.watch()
	}
}

func (c *tcpConn) nextSegment() *segment {
	switch {
	case c.cautious && c.next > c.una:
		return nil
	case c.next == 0:
		return &segment{request: true}
	case c.una == 0:
		return nil
	case c.next < c.end && c.next < c.edge:
		n := c.untilMark(c.segmentSize(min(c.end, c.edge) - c.next))
		start := int64(len(c.buf)) - (c.end - c.next)
		return &segment{number: c.next, data: c.buf[start : start+n], fin: c.finishing && c.next+n == c.end}
	case c.next == c.end && c.finishing:
		return &segment{number: c.next, fin: true}
	}
	return nil
}

// segmentSize returns the size of the next segment, which may end early at random (tcp 3).
func (c *tcpConn) segmentSize(available int64) int64 {
	if c.out == c.sys.loopback {
		return min(available, maxLoopbackSegment)
	}
	return c.out.segmentSize(min(available, maxSegment))
}

// stuck reports whether there is something to send and the peer has no room.
func (c *tcpConn) stuck() bool {
	return c.una > 0 && c.next < c.end && c.next >= c.edge && c.una == c.max
}

func (c *tcpConn) timeout() time.Duration {
	first := connectTimeout
	if c.una > 0 {
		first = c.srtt + max(minRetransmit, 4*c.deviation)
	}
	return min(first<<min(c.backoff, 16), maxRetransmit)
}

// setTimer sets the retransmission deadline after something was sent or acknowledged (tcp 6).
func (c *tcpConn) setTimer() {
	if c.una == c.max {
		c.deadline = 0
		return
	}
	c.deadline = max(c.now(), c.left) + c.timeout()
	c.setRing()
}

// setRing makes sure that a timer goes off at the deadline or before.
func (c *tcpConn) setRing() {
	if c.ring != 0 && c.ring <= c.deadline {
		return
	}
	when := c.deadline
	c.ring = when
	c.sys.n.at(when, func() {
		if c.ring != when {
			return // another timer has taken its place
		}
		c.ring = 0
		switch {
		case c.removed || c.deadline == 0:
		case c.now() < c.deadline:
			c.setRing()
		default:
			c.retransmit()
		}
	})
}

// retransmit sends again when the deadline has passed, or gives up (tcp 5, tcp 6).
func (c *tcpConn) retransmit() {
	c.tries++
	switch {
	case c.una == 0 && c.side.server && c.tries > answerTries:
		c.remove()
		return
	case c.una == 0 && c.tries > connectTries, c.una > 0 && c.now()-c.since >= c.sys.n.patience:
		c.fail(syscall.ETIMEDOUT)
		return
	}
	c.backoff++
	c.cautious = true
	c.next = c.una
	c.transmit()
}

// progress handles an acknowledgment of something new.
func (c *tcpConn) progress(p *segment) {
	first := c.una == 0
	c.una = p.ack
	c.next = max(c.next, c.una)
	if waiting := max(c.end-c.una, 0); int64(len(c.buf)) > waiting {
		c.buf = c.buf[int64(len(c.buf))-waiting:]
	}
	c.backoff, c.tries, c.cautious = 0, 0, false
	c.since = c.now()
	if p.echo > 0 {
		c.measure(c.now() + 1 - p.echo)
	}
	c.setTimer()
	switch {
	case first && c.side.server:
		c.listener.opened(c)
	case first || c.sendBuffer-len(c.buf) >= c.sendBuffer/3:
		c.wake(false, true)
	}
}

// measure adds a round trip to the estimate, as RFC 6298 says.
func (c *tcpConn) measure(d time.Duration) {
	if c.srtt == 0 {
		c.srtt, c.deviation = d, d/2
		return
	}
	c.deviation += ((c.srtt - d).Abs() - c.deviation) / 4
	c.srtt += (d - c.srtt) / 8
}

// watch sets a timer only if there is something to find out (tcp 8), so an idle connection has none
// (link 7).
func (c *tcpConn) watch() {
	if !c.probing && c.doubtful() {
		c.probing = true
		wait := probeInterval
		if c.stuck() {
			wait = c.timeout()
		}
		c.sys.n.at(c.now()+wait, c.probe)
	}
}

// doubtful reports whether there is something to find out, and a reason to want it.
func (c *tcpConn) doubtful() bool {
	if c.removed || !c.open() || c.through || !c.keepAlive && !c.orphan && !c.stuck() {
		return false
	}
	return c.peer.removed || c.out.silent() || c.peer.out.silent() || c.stuck() && c.peer.promised > c.edge
}

func (c *tcpConn) probe() {
	c.probing = false
	if !c.doubtful() {
		c.unanswered = 0
		return
	}
	if c.una == c.max { // else retransmission finds out (tcp 6)
		if c.unanswered == 0 {
			c.since = c.now()
		}
		if c.stuck() && c.now()-c.since >= c.sys.n.patience || !c.stuck() && c.unanswered >= maxProbes {
			c.fail(syscall.ETIMEDOUT)
			return
		}
		c.unanswered++
		if c.stuck() {
			c.backoff++
		}
		c.emit(&segment{number: c.next, probe: true})
	}
	c.watch()
}
