package sim

import (
	"net"
	"net/netip"
	"slices"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Listeners of TCP and of Unix sockets (tcp 5): requests to connect that arrive, the backlog, and
// Accept.

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
