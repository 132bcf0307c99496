package sim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A tcpConn is one end of a TCP connection, as its system keeps it, and the endpoint of it. Unix
// sockets are the same on the loopback wire.
//
//	tcp 1: Each direction numbers what it sends: the request to connect is 0, bytes count from 1,
//	   and the end of the stream follows the last byte. The request and the end are acknowledged and
//	   sent again like bytes. una is the first number not acknowledged, next the next to be sent,
//	   max the next that was never sent: una <= next <= max <= end+1. Segments that arrive early are
//	   kept until their turn.
//	tcp 2: Write takes as many bytes as fit into the send buffer, which holds everything not
//	   acknowledged. edge is the end of the peer's room; it never goes back. So a slow reader stops
//	   its writer when both buffers are full. A reader tells the peer when it has made room worth
//	   speaking of.
//	tcp 3: Bytes sent at once go in segments of up to a maximum. A quarter of the segments end
//	   somewhere before it, at random: reads need not end where a program's writes did.
//	tcp 4: Every segment with something new is acknowledged at once, and so is every repeated one. A
//	   lost acknowledgment is made up for by the next one, or by the segment being sent again.
//	tcp 5: Connecting takes a round trip. A request is sent again after 1 s, 2 s, 4 s and so on, 6
//	   times; after 127 s it fails with ETIMEDOUT. A refused request fails at once; a request for
//	   which the listener has no room is dropped. The answer is sent again 5 times.
//	tcp 6: Unacknowledged data is sent again after 200 ms plus the measured round trip, doubled each
//	   time, up to 120 s: at first a single segment, the rest when something is acknowledged. The
//	   time begins when the data has left, or when something before it was acknowledged; sending
//	   more behind it changes nothing. After network.patience without progress the connection fails
//	   with ETIMEDOUT.
//	tcp 7: Close ends the stream behind what was written, which is still delivered. But with
//	   something unread, or on Abort, or without lingering, the connection is reset, which drops
//	   what is not delivered. A closed connection at which something arrives is reset too. A segment
//	   of a connection unknown to the system is answered with a reset, and a reset is not sent
//	   again. An end that is through stays to answer until the other end is through or gone.
//	tcp 8: Probes (keep-alive, a closed window) are sent only while they have something to find out:
//	   while the other end is gone, a wire between the two is silent, or the other end has made room
//	   and this end has not heard of it. A probe is answered with an acknowledgment. Without an
//	   answer keep-alive gives up after 15 s and nine more probes, a closed window as tcp 6 does.
//	   This is the one place that looks at the other end, and it decides only whether to ask.
//	tcp 9: A failure is reported once: to the next read, behind the data that has arrived, or to the
//	   next write. Later reads return the end of the stream and later writes a broken pipe. After a
//	   read has returned the end of the stream, all later reads return it too.
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

// requested handles a request to connect at the listening system (tcp 5).
func (s *system) requested(p *segment) {
	f := flow{local: p.dst, remote: p.src}
	if p.path == "" {
		switch old := s.flows[f]; {
		case old == nil:
		case old.through:
			old.remove()
		case old.side.conn == p.to.conn: // a connection with itself
			s.answerReset(p)
			return
		default: // its system has forgotten it, and will say so
			old.acknowledge()
			return
		}
	}
	l := s.listenerFor(p)
	if l == nil {
		s.answerReset(p)
		return
	}
	if l.opening+len(l.queue) >= l.limit {
		return
	}
	l.opening++
	c := l.process.newConn(p.to, f, s.wireTo(p.src.Addr()))
	c.listener, c.peer, c.unix = l, p.from, p.path != ""
	p.from.peer = c
	c.keepAlive = !c.unix
	if c.unix {
		c.local, c.remote = l.LocalAddr(), p.from.local
	} else {
		s.flows[f] = c
	}
	c.receive(p)
}

func (s *system) listenerFor(p *segment) *listener {
	if p.path != "" {
		return s.paths[p.path]
	}
	for _, l := range s.listeners[p.dst.Port()] {
		if overlap(l.at.Addr(), p.dst.Addr()) {
			return l
		}
	}
	return nil
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
		n := c.segmentSize(min(c.end, c.edge) - c.next)
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
	n := min(available, maxSegment)
	rng := c.out.stream("segments", &c.out.sizes)
	if n > 1 && rng.IntN(4) == 0 {
		n = 1 + rng.Int64N(n-1)
	}
	return n
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

func (c *tcpConn) LocalAddr() net.Addr  { return c.local }
func (c *tcpConn) RemoteAddr() net.Addr { return c.remote }

// Connect implements [driver.Connecting].
func (c *tcpConn) Connect() error {
	switch {
	case c.shut():
		return net.ErrClosed
	case c.failure != nil:
		return c.failure
	case c.open():
		return nil
	}
	return c.againToWrite()
}

// failed returns the failure, once (tcp 9).
func (c *tcpConn) failed(call string) error {
	err := c.err
	if err == 0 {
		return nil
	}
	c.err = 0
	return os.NewSyscallError(call, err)
}

func (c *tcpConn) Read(p []byte) (int, error) {
	if c.shut() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	for n < len(p) && len(c.in) > 0 {
		m := copy(p[n:], c.in[0])
		n += m
		if c.in[0] = c.in[0][m:]; len(c.in[0]) == 0 {
			c.in = slices.Delete(c.in, 0, 1)
		}
	}
	c.unread -= n
	switch {
	case n > 0:
		c.makeRoom()
		return n, nil
	case c.ended:
		return 0, io.EOF
	}
	if err := c.failed("read"); err != nil {
		return 0, err
	}
	if c.removed || c.deaf {
		return 0, io.EOF
	}
	return 0, c.againToRead()
}

// makeRoom tells the peer that there is room, if it may need to know (tcp 2).
func (c *tcpConn) makeRoom() {
	half := int64(max(c.receiveBuffer/2, 1))
	if c.removed || c.ended || c.promised-c.rcv >= half || c.rcv+int64(c.receiveBuffer-c.unread)-c.promised < min(2*maxSegment, half) {
		return
	}
	c.acknowledge()
	if !c.peer.removed {
		c.peer.watch()
	}
}

func (c *tcpConn) Write(p []byte) (int, error) {
	if c.shut() {
		return 0, net.ErrClosed
	}
	if err := c.failed("write"); err != nil {
		return 0, err
	}
	if c.finishing || c.removed {
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	}
	n := min(len(p), c.sendBuffer-len(c.buf))
	if n <= 0 && len(p) > 0 {
		return 0, c.againToWrite()
	}
	c.buf = append(c.buf, p[:n]...)
	c.end += int64(n)
	c.transmit()
	return n, nil
}

func (c *tcpConn) CloseWrite() error {
	if c.shut() {
		return net.ErrClosed
	}
	if c.removed {
		return os.NewSyscallError("shutdown", syscall.ENOTCONN)
	}
	c.finish()
	return nil
}

// finish ends the stream.
func (c *tcpConn) finish() {
	c.finishing = true
	c.transmit()
	c.settle()
}

// CloseRead does what shutdown does on Linux: reads are at the end of the stream, and arriving data
// fills the buffer.
func (c *tcpConn) CloseRead() error {
	if c.shut() {
		return net.ErrClosed
	}
	if c.removed {
		return os.NewSyscallError("shutdown", syscall.ENOTCONN)
	}
	c.deaf = true
	c.wake(true, false)
	return nil
}

// Close ends the stream or resets the connection (tcp 7).
func (c *tcpConn) Close() error {
	if c.shut() {
		return nil
	}
	c.close()
	switch {
	case c.removed:
	case !c.open():
		c.remove()
	case c.linger == 0, c.unread > 0 && !(c.ended && c.delivered()):
		c.abort()
	default:
		c.orphan = true
		if c.linger > 0 {
			c.sys.n.at(c.now()+time.Duration(c.linger)*time.Second, func() {
				if !c.delivered() {
					c.abort()
				}
			})
		}
		c.finish()
		c.watch()
	}
	c.in, c.unread = nil, 0
	return nil
}

func (c *tcpConn) Abort() error {
	if !c.shut() {
		c.close()
		c.abort()
		c.in, c.unread = nil, 0
	}
	return nil
}

// Detach always fails: goroutines are not part of the simulation.
func (c *tcpConn) Detach() (net.Conn, error) {
	if c.shut() {
		return nil, net.ErrClosed
	}
	return nil, errDetach
}

var errDetach = fmt.Errorf("a connection of a simulation cannot be used by goroutines: %w", errors.ErrUnsupported)

func (c *tcpConn) SetOption(o driver.Option, value int) error {
	switch {
	case c.shut():
		return net.ErrClosed
	case o == driver.NoDelay && c.unix:
		return os.NewSyscallError("setsockopt", syscall.EOPNOTSUPP)
	case o == driver.KeepAlive && !c.unix:
		c.keepAlive = value != 0
		c.watch()
	case o == driver.Linger:
		c.linger = max(value, -1)
	case o == driver.ReadBuffer:
		c.receiveBuffer = max(value, minBuffer)
		if c.open() {
			c.makeRoom()
		}
	case o == driver.WriteBuffer:
		c.sendBuffer = max(value, minBuffer)
		c.wake(false, len(c.buf) < c.sendBuffer)
	case o == driver.KeepAlive: // of a Unix socket, to which it makes no difference
	default:
		return os.NewSyscallError("setsockopt", syscall.ENOPROTOOPT)
	}
	return nil
}

// minBuffer is the smallest buffer size that a program can set.
const minBuffer = 2048

// A listener accepts connections of TCP or of a Unix socket.
type listener struct {
	attention
	transport string
	at        netip.AddrPort
	path      string
	limit     int
	opening   int // connections that are not open yet
	queue     []*tcpConn
}

func (l *listener) LocalAddr() net.Addr {
	if l.transport == "unix" {
		return &net.UnixAddr{Net: "unix", Name: l.path}
	}
	return net.TCPAddrFromAddrPort(l.at)
}

// opened queues a connection.
func (l *listener) opened(c *tcpConn) {
	l.opening--
	l.queue = append(l.queue, c)
	l.wake(true, false)
}

func (l *listener) Accept() (driver.Endpoint, error) {
	if l.shut() {
		return nil, net.ErrClosed
	}
	if len(l.queue) == 0 {
		return nil, l.againToRead()
	}
	c := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	c.listener = nil
	return c, nil
}

// Close resets the connections that were not accepted.
func (l *listener) Close() error {
	if l.shut() {
		return nil
	}
	l.close()
	sys := l.process.sys
	switch {
	case l.transport == "unix" && sys.paths[l.path] == l:
		delete(sys.paths, l.path)
	case l.transport == "unix":
		sys.replaced = slices.DeleteFunc(sys.replaced, func(other *listener) bool { return other == l })
	default:
		sys.listeners[l.at.Port()] = slices.DeleteFunc(sys.listeners[l.at.Port()], func(other *listener) bool { return other == l })
		if len(sys.listeners[l.at.Port()]) == 0 {
			delete(sys.listeners, l.at.Port())
		}
	}
	for _, c := range sys.connections() {
		if c.listener == l {
			c.close()
			c.abort()
		}
	}
	l.queue = nil
	return nil
}
