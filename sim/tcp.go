package sim

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A tcpConn is one end of a TCP connection, as its system keeps it, and the endpoint of it. Unix
// sockets are the same on the loopback wire.
//
//	tcp 1: Each direction numbers what it sends: the request to connect is 0, bytes count from 1,
//	   and the end of the stream follows the last byte. The request and the end are acknowledged
//	   and sent again like bytes. una is the first number not acknowledged, next the next to be
//	   sent, max the next that was never sent: una <= next <= max <= end+1. Segments that arrive
//	   early are kept until their turn.
//	tcp 2: Write takes as many bytes as fit into the send buffer, which holds everything not
//	   acknowledged. edge is the end of the peer's room; it never goes back. So a slow reader
//	   stops its writer when both buffers are full. A reader tells the peer when it has made room
//	   worth speaking of.
//	tcp 3: Bytes sent at once go in segments of up to a maximum. A segment may end before it (link
//	   3); of random ones a quarter do. So reads need not end where a program's writes did.
//	tcp 4: Every segment with something new is acknowledged at once, and so is every repeated one.
//	   A lost acknowledgment is made up for by the next one, or by the segment being sent again.
//	tcp 5: Connecting takes a round trip. A request is sent again after 1 s, 2 s, 4 s and so on, 6
//	   times; after 127 s it fails with ETIMEDOUT. A refused request fails at once; a request for
//	   which the listener has no room is dropped. The answer is sent again 5 times.
//	tcp 6: Unacknowledged data is sent again after 200 ms plus the measured round trip, doubled
//	   each time, up to 120 s: at first a single segment, the rest when something is acknowledged.
//	   The time begins when the data has left, or when something before it was acknowledged;
//	   sending more behind it changes nothing. After network.patience without progress the
//	   connection fails with ETIMEDOUT.
//	tcp 7: Close ends the stream behind what was written, which is still delivered. But with
//	   something unread, or on Abort, or without lingering, the connection is reset, which drops
//	   what is not delivered. A closed connection at which something arrives is reset too. A
//	   segment of a connection unknown to the system is answered with a reset, and a reset is not
//	   sent again. An end that is through stays to answer until the other end is through or gone.
//	tcp 8: Probes (keep-alive, a closed window) are sent only while they have something to find
//	   out: while the other end is gone, a wire between the two is silent, or the other end has
//	   made room and this end has not heard of it. A probe is answered with an acknowledgment.
//	   Without an answer keep-alive gives up after 15 s and nine more probes, a closed window as
//	   tcp 6 does. This is the one place that looks at the other end, and it decides only whether
//	   to ask.
//	tcp 9: A failure is reported once: to the next read, behind the data that has arrived, or to
//	   the next write. Later reads return the end of the stream and later writes a broken pipe.
//	   After a read has returned the end of the stream, all later reads return it too.
type tcpConn struct {
	attention
	sys    *system
	id     uint64 // of this end; connections are ordered by it
	side   side
	unix   bool
	path   string // of a request to a Unix socket
	flow   flow
	local  net.Addr
	remote net.Addr
	out    *wire
	last   time.Duration // when the segment sent last arrives
	// the other end, looked at only for probes (tcp 8); nil until it is known
	peer     *tcpConn
	listener *listener // at which it waits to be accepted

	// The sending direction (tcp 1, tcp 2).
	buf             []byte // numbers end-len(buf) to end-1; the array is never written to again
	una, next, max  int64
	end             int64
	edge            int64
	finishing       bool // the end of the stream is at end
	sendBuffer      int
	left            time.Duration // when the segment sent last has left
	srtt, deviation time.Duration
	backoff         int
	tries           int
	since           time.Duration // of the last progress
	cautious        bool          // after a time-out: one segment at a time
	deadline        time.Duration // when una is sent again, 0 for never
	ring            time.Duration // when a timer goes off, 0 for none
	marks           []*mark       // writes that rules act on
	ids             []numbered    // where writes begin, if there is a picture

	user, reader endUser // the task that has used it last, and the last that had to wait (circle 1)

	// The receiving direction.
	heard         bool // the peer's request or its answer has arrived
	rcv           int64
	early         []*segment // sorted
	in            [][]byte
	unread        int
	receiveBuffer int
	promised      int64 // the edge that the peer was told, or is about to be told
	ended         bool  // the peer's stream has ended
	deaf          bool  // CloseRead
	echo          time.Duration

	probing    bool // a timer for the next probe is set (tcp 8)
	unanswered int
	keepAlive  bool
	linger     int // seconds; -1 for the system's default

	err     syscall.Errno // the failure still to be reported (tcp 9), 0 for none
	failure error         // of connecting
	orphan  bool          // closed, and still delivering
	through bool          // both streams have ended and are acknowledged (tcp 7)
	removed bool          // the system no longer knows it
}

const (
	maxSegment         = 1460
	maxLoopbackSegment = 32 << 10
	segmentHeader      = 40

	connectTimeout = time.Second
	connectTries   = 6
	answerTries    = 5
	minRetransmit  = 200 * time.Millisecond
	maxRetransmit  = 120 * time.Second

	probeInterval = 15 * time.Second // package net's
	maxProbes     = 9
)

// A segment is the unit that connections send.
type segment struct {
	to       side
	from     *tcpConn // nil of a reset by a system that knows of no connection
	src, dst netip.AddrPort
	path     string // of a request to a Unix socket

	request, fin, reset, probe bool
	number                     int64
	data                       []byte
	ack                        int64 // 0 for none
	edge                       int64
	sent, echo                 time.Duration // plus one, 0 for none: so round trips are measured
}

func (p *segment) size() int { return segmentHeader + len(p.data) }

func (p *segment) noun() noun {
	switch {
	case p.reset:
		return aReset
	case p.request:
		return aRequest
	case p.fin || len(p.data) > 0:
		return aSegment
	}
	return anAcknowledgment
}

// behind returns the number behind the last one of p.
func (p *segment) behind() int64 {
	n := p.number + int64(len(p.data))
	if p.fin || p.request {
		n++
	}
	return n
}

func (s *process) newConn(id side, f flow, out *wire) *tcpConn {
	n := s.sys.n
	n.ids++
	c := &tcpConn{
		attention: attention{process: s}, sys: s.sys, id: n.ids, side: id, flow: f, out: out,
		local: net.TCPAddrFromAddrPort(f.local), remote: net.TCPAddrFromAddrPort(f.remote),
		end: 1, sendBuffer: n.sendBuffer, receiveBuffer: n.receiveBuffer, since: n.now(), linger: -1,
	}
	s.sys.conns[id] = c
	return c
}

func (s *process) newConnID() side {
	s.sys.n.ids++
	return side{conn: s.sys.n.ids}
}

func (s *process) dialTCP(from, to netip.AddrPort) (driver.Connecting, error) {
	sys := s.sys
	at, err := sys.bind(from, func(at netip.AddrPort) bool {
		return sys.portInUse(at) || sys.flows[flow{at, to}] != nil
	})
	if err != nil {
		return nil, err
	}
	f := flow{local: at, remote: to}
	c := s.newConn(s.newConnID(), f, sys.wireTo(to.Addr()))
	c.keepAlive = true
	sys.flows[f] = c
	sys.dialled[at.Port()]++
	c.transmit()
	return c, nil
}

func (s *process) dialUnix(path string) (driver.Connecting, error) {
	if s.sys.paths[path] == nil {
		return nil, os.NewSyscallError("connect", syscall.ENOENT)
	}
	here := netip.AddrPortFrom(localhost, 0)
	c := s.newConn(s.newConnID(), flow{here, here}, s.sys.loopback)
	c.unix, c.path = true, path
	c.local, c.remote = &net.UnixAddr{Net: "unix"}, &net.UnixAddr{Net: "unix", Name: path}
	c.transmit()
	return c, nil
}

func (c *tcpConn) now() time.Duration { return c.sys.n.now() }

// open reports whether both ends know of the connection, as far as this end can tell.
func (c *tcpConn) open() bool { return c.heard && c.una > 0 }

// delivered reports whether everything has arrived, up to the end of the stream.
func (c *tcpConn) delivered() bool { return c.finishing && c.una == c.end+1 }

// settle forgets a connection when both ends are through (tcp 7).
func (c *tcpConn) settle() {
	if c.removed || !c.orphan || !c.ended || !c.delivered() {
		return
	}
	c.through = true
	if c.peer.removed {
		c.remove()
	} else if c.peer.through {
		peer := c.peer
		c.remove()
		peer.remove()
	}
}

// remove makes the system forget the connection, without a word to the other end.
func (c *tcpConn) remove() {
	if c.removed {
		return
	}
	c.removed = true
	c.deadline = 0
	c.buf, c.early = nil, nil
	if c.sys.conns[c.side] == c {
		delete(c.sys.conns, c.side)
		if c.sys.flows[c.flow] == c {
			delete(c.sys.flows, c.flow)
		}
		if !c.side.server && !c.unix {
			if c.sys.dialled[c.flow.local.Port()]--; c.sys.dialled[c.flow.local.Port()] == 0 {
				delete(c.sys.dialled, c.flow.local.Port())
			}
		}
	}
	if l := c.listener; l != nil && c.una == 0 {
		l.opening--
	}
	if c.peer != nil && !c.peer.removed {
		if c.peer.through {
			c.peer.remove()
		} else {
			c.peer.watch()
		}
	}
}

// fail records a failure, to be reported once (tcp 9).
func (c *tcpConn) fail(err syscall.Errno) {
	if c.una == 0 {
		c.failure = os.NewSyscallError("connect", err)
	} else {
		c.err = err
	}
	c.remove()
	c.wake(true, true)
}

// reset handles a reset from the peer.
func (c *tcpConn) reset() {
	switch {
	case c.removed:
	case c.una == 0 && c.side.server:
		c.remove()
	case c.una == 0:
		c.fail(syscall.ECONNREFUSED)
	case c.ended:
		c.fail(syscall.EPIPE)
	default:
		c.fail(syscall.ECONNRESET)
	}
}

// abort resets the connection.
func (c *tcpConn) abort() {
	if !c.removed && c.heard {
		c.emit(&segment{reset: true})
	}
	c.remove()
}
