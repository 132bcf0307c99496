package driver

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// portablePacketConn sends and receives datagrams.
type portablePacketConn struct {
	portable
	c                net.PacketConn
	reading, writing bool
	full             bool // in holds a datagram
	in, out          []byte
	n                int
	from, dest       net.Addr
	readErr, sendErr error
}

func (n *news) adoptPacketConn(d *Real, c net.PacketConn) *portablePacketConn {
	e := &portablePacketConn{c: c}
	e.d = d
	n.add(e)
	return e
}

func (e *portablePacketConn) LocalAddr() net.Addr                   { return e.c.LocalAddr() }
func (e *portablePacketConn) SyscallConn() (syscall.RawConn, error) { return e.syscallConn(e.c) }
func (e *portablePacketConn) SetOption(o Option, value int) error   { return e.setOption(e.c, o, value) }

func (e *portablePacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return 0, nil, net.ErrClosed
	case e.reading:
		return 0, nil, ErrAgain
	case e.full:
		e.full = false
		return copy(p, e.in[:e.n]), e.from, nil
	case e.readErr != nil:
		err := e.readErr
		e.readErr = nil
		return 0, nil, err
	}
	e.in = roomFor(p, e.in)
	e.reading = true
	e.d.news.work.Go(e.receive)
	return 0, nil, ErrAgain
}

func (e *portablePacketConn) receive() {
	var n int
	var from net.Addr
	err := ErrGoexit
	defer func() { // the socket may exit the goroutine (portable 6)
		e.mu.Lock()
		e.reading, e.full = false, err == nil
		e.n, e.from, e.readErr = n, from, err
		e.mu.Unlock()
		e.post(true, false)
	}()
	n, from, err = e.c.ReadFrom(e.in)
	if u, ok := e.c.LocalAddr().(*net.UnixAddr); ok && from == nil && err == nil {
		from = &net.UnixAddr{Net: u.Net} // the sender has no name
	}
}

func (e *portablePacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case e.writing:
		return 0, ErrAgain
	case e.sendErr != nil:
		err := e.sendErr
		e.sendErr = nil
		return 0, err
	}
	e.out = append(e.out[:0], p...)
	e.dest = to
	e.writing = true
	e.d.news.work.Go(e.send)
	return len(p), nil
}

func (e *portablePacketConn) send() {
	err := ErrGoexit
	defer func() { // the socket may exit the goroutine (portable 6)
		e.mu.Lock()
		e.writing, e.sendErr = false, err
		if e.closed {
			_ = e.shutLocked()
		}
		e.mu.Unlock()
		e.post(false, true)
	}()
	_, err = e.c.WriteTo(e.out, e.dest)
}

func (e *portablePacketConn) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	n, from, err := e.ReadFrom(p)
	if a, ok := from.(*net.UDPAddr); ok {
		return n, a.AddrPort(), err
	}
	return n, netip.AddrPort{}, err
}

func (e *portablePacketConn) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	if _, ok := e.c.LocalAddr().(*net.UnixAddr); ok {
		return 0, ErrSockets
	}
	return e.WriteTo(p, net.UDPAddrFromAddrPort(to))
}

func (e *portablePacketConn) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed, e.to = true, nil
	if e.writing {
		return nil // the goroutine closes
	}
	return e.shutLocked()
}

func (e *portablePacketConn) shutLocked() error {
	e.d.news.drop(e)
	return e.c.Close()
}

// shut closes the socket when its driver closes.
func (e *portablePacketConn) shut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed, e.to = true, nil
	if e.writing {
		_ = e.c.SetWriteDeadline(time.Now().Add(lingerLimit))
		return
	}
	_ = e.shutLocked()
}
