package asyncio

import (
	"cmp"
	"net"
	"slices"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A ThreadsafeListener is a view of a [Listener] for goroutines: a [net.Listener] that any
// goroutine may use, such as that of a server that starts a goroutine for each connection.
// [Listener.Threadsafe] makes one. The connections that it accepts are [*ThreadsafeConn]. What is
// said there holds here too.
type ThreadsafeListener struct {
	door
	ln  *Listener
	own net.Listener // nil if the loop accepts
}

// Threadsafe returns a view of the listener that any goroutine may use. It is for the loop only and
// does not suspend; in any other place, and if the system gives no further descriptor, it returns a
// view all of whose operations fail.
func (ln *Listener) Threadsafe() *ThreadsafeListener {
	if err := ln.loop.checkOwner("Listener.Threadsafe"); err != nil {
		return &ThreadsafeListener{door: door{err: err}}
	}
	if ln.view != nil {
		return ln.view.(*ThreadsafeListener)
	}
	v := &ThreadsafeListener{door: door{asked: errandsOn(ln.loop)}, ln: ln}
	ln.rd.lineOfErrands()
	if s, ok := ln.end.(driver.ListenerSharer); ok {
		if v.own, v.err = s.Share(); v.err != nil {
			return &ThreadsafeListener{door: door{err: v.err}}
		}
		v.open(v.own, v.own.Addr().Network()+" "+v.own.Addr().String(), nil)
	}
	ln.view = v
	return v
}

func (v *ThreadsafeListener) failure(op string, err error) error {
	if v.asked == nil {
		return &net.OpError{Op: op, Err: err}
	}
	return v.ln.failure(op, err)
}

// Accept blocks the calling goroutine, or suspends the calling task, until there is a connection. A
// lack of descriptors or memory is returned to a goroutine as an error, as in package net; servers
// then wait and try again.
func (v *ThreadsafeListener) Accept() (net.Conn, error) {
	byTask, err := v.enter("ThreadsafeListener.Accept")
	var c *ThreadsafeConn
	switch {
	case err != nil:
	case byTask:
		var nc net.Conn
		if nc, err = v.ln.Accept(); err == nil {
			c = nc.(*Conn).Threadsafe()
			err = c.err
		}
	default:
		c, err = v.accept()
	}
	if err != nil {
		return nil, v.failure("accept", err)
	}
	return c, nil
}

// accept is Accept for a goroutine.
func (v *ThreadsafeListener) accept() (*ThreadsafeConn, error) {
	line := v.ln.rd.lineOfErrands()
	if err := line.enter(); err != nil {
		return nil, err
	}
	defer line.leave()
	if v.own == nil {
		a := &acceptance{ln: v.ln}
		err := v.asked.ask(line, a)
		return a.view, err
	}
	nc, err := v.own.Accept()
	if err != nil {
		return nil, err
	}
	return v.asked.viewOf(nc)
}

// An acceptance is an Accept that a goroutine asks for.
type acceptance struct {
	ln   *Listener
	view *ThreadsafeConn
}

func (a *acceptance) attempt() error {
	ln := a.ln
	if ln.closed {
		return net.ErrClosed
	}
	end, err := ln.end.Accept()
	if err != nil {
		return err
	}
	c := ln.loop.newConn(end)
	c.mustBeClosed(ln.loop.created())
	a.view = c.Threadsafe()
	return a.view.err
}

// Close stops listening, for goroutines and tasks: whoever waits in Accept gets [net.ErrClosed]. It
// neither blocks nor suspends. The address is free when the loop has closed its descriptor, which
// is a moment later unless the loop calls Close.
func (v *ThreadsafeListener) Close() error {
	if err := v.lock("ThreadsafeListener.Close"); err != nil {
		return v.failure("close", err)
	}
	return cmp.Or(v.closeOwn(), v.ln.Close())
}

// Addr returns the address that the listener listens on.
func (v *ThreadsafeListener) Addr() net.Addr {
	if v.asked == nil {
		return nil
	}
	return v.ln.Addr()
}

// A ThreadsafePacketConn is a view of a [PacketConn] for goroutines: a [net.PacketConn] that any
// goroutine may use. [PacketConn.Threadsafe] makes one. What is said of [ThreadsafeConn] holds
// here too.
type ThreadsafePacketConn struct {
	door
	conn *PacketConn
	own  net.PacketConn // nil if the loop sends and receives
}

// Threadsafe returns a view of the socket that any goroutine may use. It is for the loop only and
// does not suspend; in any other place, and if the system gives no further descriptor, it returns a
// view all of whose operations fail.
func (c *PacketConn) Threadsafe() *ThreadsafePacketConn {
	if err := c.loop.checkOwner("PacketConn.Threadsafe"); err != nil {
		return &ThreadsafePacketConn{door: door{err: err}}
	}
	if c.view != nil {
		return c.view.(*ThreadsafePacketConn)
	}
	v := &ThreadsafePacketConn{door: door{asked: errandsOn(c.loop)}, conn: c}
	c.ways.rd.lineOfErrands()
	c.ways.wr.lineOfErrands()
	if s, ok := c.end.(driver.PacketSharer); ok {
		if v.own, v.err = s.Share(); v.err != nil {
			return &ThreadsafePacketConn{door: door{err: v.err}}
		}
		v.open(v.own, v.own.LocalAddr().Network()+" "+v.own.LocalAddr().String(), nil)
	}
	c.view = v
	return v
}

func (v *ThreadsafePacketConn) failure(op string, err error) error {
	if v.asked == nil {
		return &net.OpError{Op: op, Err: err}
	}
	return v.conn.failure(op, err)
}

// ReadFrom blocks the calling goroutine, or suspends the calling task, until a datagram has come.
// See [PacketConn.ReadFrom].
func (v *ThreadsafePacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	byTask, err := v.enter("ThreadsafePacketConn.ReadFrom")
	if err == nil && byTask {
		return v.conn.ReadFrom(p)
	}
	d := &datagram{conn: v.conn, p: p}
	if err == nil {
		line := v.conn.ways.rd.lineOfErrands()
		if err = line.enter(); err == nil {
			defer line.leave()
			if v.own != nil {
				return v.own.ReadFrom(p)
			}
			err = v.asked.ask(line, d)
		}
	}
	if err != nil {
		return d.n, nil, v.failure("read", unsupported(err))
	}
	return d.n, d.addr, nil
}

// WriteTo sends p as one datagram, and blocks the calling goroutine, or suspends the calling task,
// while the system has no room for it. See [PacketConn.WriteTo].
func (v *ThreadsafePacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	byTask, err := v.enter("ThreadsafePacketConn.WriteTo")
	if err == nil && byTask {
		return v.conn.WriteTo(p, to)
	}
	d := &datagram{conn: v.conn, send: true, p: p, addr: to}
	if err == nil {
		line := v.conn.ways.wr.lineOfErrands()
		if err = line.enter(); err == nil {
			defer line.leave()
			switch {
			case v.own != nil:
				return v.own.WriteTo(p, to)
			case v.asked.loop.gate != nil:
				if err = v.asked.doAhead(line, &datagram{conn: v.conn, send: true, p: slices.Clone(p), addr: to}); err == nil {
					return len(p), nil
				}
			default:
				err = v.asked.ask(line, d)
			}
		}
	}
	if err != nil {
		return d.n, v.failure("write", unsupported(err))
	}
	return d.n, nil
}

// A datagram is one that a goroutine asks to send or to receive.
type datagram struct {
	conn *PacketConn
	send bool
	p    []byte
	n    int
	addr net.Addr
}

func (d *datagram) attempt() (err error) {
	switch {
	case d.conn.closed:
		err = net.ErrClosed
	case d.send:
		d.n, err = d.conn.end.WriteTo(d.p, d.addr)
	default:
		d.n, d.addr, err = d.conn.end.ReadFrom(d.p)
	}
	return err
}

// Close closes the socket, for goroutines and tasks. It neither blocks nor suspends.
func (v *ThreadsafePacketConn) Close() error {
	if err := v.lock("ThreadsafePacketConn.Close"); err != nil {
		return v.failure("close", err)
	}
	if v.asked.loop.gate != nil {
		return v.asked.closeBehind(v.conn.ways.rd.lineOfErrands(), v.conn.ways.wr.lineOfErrands(), v.conn.Close)
	}
	return cmp.Or(v.closeOwn(), v.conn.Close())
}

// LocalAddr returns the socket's address.
func (v *ThreadsafePacketConn) LocalAddr() net.Addr {
	if v.asked == nil {
		return nil
	}
	return v.conn.LocalAddr()
}

// SetDeadline sets both deadlines. See [ThreadsafeConn.SetReadDeadline].
func (v *ThreadsafePacketConn) SetDeadline(d time.Time) error {
	return v.setDeadline(d, net.PacketConn.SetDeadline, (*PacketConn).SetDeadline)
}

// SetReadDeadline is [ThreadsafeConn.SetReadDeadline] for ReadFrom.
func (v *ThreadsafePacketConn) SetReadDeadline(d time.Time) error {
	return v.setDeadline(d, net.PacketConn.SetReadDeadline, (*PacketConn).SetReadDeadline)
}

// SetWriteDeadline is [ThreadsafeConn.SetReadDeadline] for WriteTo.
func (v *ThreadsafePacketConn) SetWriteDeadline(d time.Time) error {
	return v.setDeadline(d, net.PacketConn.SetWriteDeadline, (*PacketConn).SetWriteDeadline)
}

func (v *ThreadsafePacketConn) setDeadline(d time.Time, own func(net.PacketConn, time.Time) error, onLoop func(*PacketConn, time.Time) error) error {
	byTask, err := v.enter("ThreadsafePacketConn.SetDeadline")
	if err != nil {
		return v.failure("set", err)
	}
	if v.own != nil {
		if err := own(v.own, d); err != nil {
			return err
		}
	}
	if byTask {
		return onLoop(v.conn, d)
	}
	if v.asked.loop.gate != nil {
		return v.asked.setDeadlineAtGate(v.conn.ways.rd.lineOfErrands(), d, func(d time.Time) { _ = onLoop(v.conn, d) })
	}
	if v.asked.loop.post(arrivalFunc(func() { _ = onLoop(v.conn, d) })) != nil {
		return v.failure("set", net.ErrClosed)
	}
	return nil
}
