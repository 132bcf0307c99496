package asyncio

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A PacketConn sends and receives datagrams for tasks of one loop: a [net.PacketConn] whose
// ReadFrom and WriteTo suspend the calling task. Make one with [ListenPacket]; a socket that talks
// to one peer only is a [DatagramConn], which [DialPacket] makes. Python: the transport of
// create_datagram_endpoint.
//
// Its methods are for the loop only, except that any goroutine may call Close, LocalAddr and the
// methods that set deadlines. ReadFrom, WriteTo and their kin must be called in a task, which they
// suspend; the others do not suspend. One task may receive and another send at the same time;
// further ones get [ErrBusy]. The errors are those of [Conn], and its rules conn 1 to conn 3 and
// conn 5 hold here too.
type PacketConn struct {
	loop   *EventLoop
	end    driver.PacketEndpoint
	ways   *ways
	closed bool
	view   view            // for goroutines, nil until it is asked for
	watch  runtime.Cleanup // closes the endpoint of a PacketConn that the collector finds (conn 5)
}

func (l *EventLoop) newPacketConn(end driver.PacketEndpoint) *PacketConn {
	c := &PacketConn{loop: l, end: end, ways: new(ways)}
	c.ways.rd = half{loop: l, verb: "receive at", addr: end.LocalAddr()}
	c.ways.wr = half{loop: l, verb: "send from", addr: end.LocalAddr()}
	end.Notify(c.ways)
	if u := l.unclosed(end, l.here()); u != nil {
		c.watch = runtime.AddCleanup(c, (*unclosed).drop, u)
	}
	return c
}

// ReadFrom suspends the calling task until a datagram has come, and returns it and its sender. If
// the datagram does not fit into p, the rest is lost. A cancel of the task, or the end of the
// context that the task was made with, ends the wait; no datagram is lost.
func (c *PacketConn) ReadFrom(p []byte) (n int, from net.Addr, err error) {
	t, err := c.loop.currentOn("PacketConn.ReadFrom")
	if err != nil {
		return 0, nil, c.failure("read", err)
	}
	err = c.do(t.ctx, t, &c.ways.rd, "read", func() (err error) { n, from, err = c.end.ReadFrom(p); return err })
	return n, from, err
}

// ReadFromUDPAddrPort is ReadFrom for UDP. It returns the address as a value, and on Linux
// allocates nothing. As in package net, a socket for both families returns IPv4 addresses as IPv6
// ones; see [netip.Addr.Unmap].
func (c *PacketConn) ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error) {
	t, err := c.loop.currentOn("PacketConn.ReadFromUDPAddrPort")
	if err != nil {
		return 0, from, c.failure("read", err)
	}
	err = c.do(t.ctx, t, &c.ways.rd, "read", func() (err error) { n, from, err = c.end.ReadFromAddrPort(p); return err })
	return n, from, err
}

// ReadFromContext is ReadFrom with a context whose end also ends the wait.
func (c *PacketConn) ReadFromContext(ctx context.Context, p []byte) (n int, from net.Addr, err error) {
	t, err := c.loop.enterOn(ctx, "PacketConn.ReadFromContext")
	if err != nil {
		return 0, nil, c.failure("read", err)
	}
	err = c.do(ctx, t, &c.ways.rd, "read", func() (err error) { n, from, err = c.end.ReadFrom(p); return err })
	return n, from, err
}

// WriteTo sends p as one datagram, and suspends the calling task while the system has no room for
// it. A cancel of the task, or the end of the context that the task was made with, ends the wait,
// and nothing was sent.
func (c *PacketConn) WriteTo(p []byte, to net.Addr) (n int, err error) {
	t, err := c.loop.currentOn("PacketConn.WriteTo")
	if err != nil {
		return 0, c.failure("write", err)
	}
	err = c.do(t.ctx, t, &c.ways.wr, "write", func() (err error) { n, err = c.end.WriteTo(p, to); return err })
	return n, err
}

// WriteToUDPAddrPort is WriteTo for UDP, with the address as a value. On Linux it allocates
// nothing.
func (c *PacketConn) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (n int, err error) {
	t, err := c.loop.currentOn("PacketConn.WriteToUDPAddrPort")
	if err != nil {
		return 0, c.failure("write", err)
	}
	err = c.do(t.ctx, t, &c.ways.wr, "write", func() (err error) { n, err = c.end.WriteToAddrPort(p, to); return err })
	return n, err
}

// do repeats try, and waits before each repetition.
func (c *PacketConn) do(ctx context.Context, t *task, h *half, op string, try func() error) error {
	late := h.expired()
	if err := h.begin(t); err != nil {
		return c.failure(op, err)
	}
	if late && !c.closed {
		return c.failure(op, os.ErrDeadlineExceeded)
	}
	for {
		err := try()
		if err == nil {
			return nil
		}
		if err != driver.ErrAgain {
			return c.failure(op, unsupported(err))
		}
		if h.expired() { // not before the attempt (conn 2)
			return c.failure(op, os.ErrDeadlineExceeded)
		}
		if err := h.wait(ctx, t); err != nil {
			return c.failure(op, err)
		}
	}
}

func (c *PacketConn) failure(op string, err error) error {
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	if c.end == nil { // of a zero PacketConn
		return &net.OpError{Op: op, Err: err}
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Err: err}
}

// Close closes the socket; a task that sends or receives gets [net.ErrClosed]. It does not suspend;
// more calls do nothing. Any goroutine may call it, as [Conn.Close].
func (c *PacketConn) Close() error {
	if err := c.loop.checkForeign("PacketConn.Close"); !c.loop.mayNow(err) {
		return c.loop.orPost(err, func() { _ = c.Close() })
	}
	if c.loop.closedAll() || c.closed {
		return nil
	}
	c.closed = true
	c.watch.Stop()
	err := c.end.Close()
	c.ways.rd.wake()
	c.ways.wr.wake()
	return err
}

// LocalAddr returns the socket's address. Any goroutine may call it.
func (c *PacketConn) LocalAddr() net.Addr { return c.end.LocalAddr() }

// SetDeadline sets both deadlines. See [Conn.SetReadDeadline]. Any goroutine may call it.
func (c *PacketConn) SetDeadline(d time.Time) error { return c.setDeadline(d, true, true) }

// SetReadDeadline is [Conn.SetReadDeadline] for ReadFrom.
func (c *PacketConn) SetReadDeadline(d time.Time) error { return c.setDeadline(d, true, false) }

// SetWriteDeadline is [Conn.SetReadDeadline] for WriteTo.
func (c *PacketConn) SetWriteDeadline(d time.Time) error { return c.setDeadline(d, false, true) }

func (c *PacketConn) setDeadline(d time.Time, read, write bool) error {
	if err := c.loop.checkOwner("PacketConn.SetDeadline"); !c.loop.mayNow(err) {
		return c.loop.orPost(err, func() { _ = c.setDeadline(d, read, write) })
	}
	if c.closed {
		return c.failure("set", net.ErrClosed)
	}
	if read {
		c.ways.rd.setDeadline(d)
	}
	if write {
		c.ways.wr.setDeadline(d)
	}
	return nil
}

// SetReadBuffer sets the size of the system's receive buffer in bytes.
func (c *PacketConn) SetReadBuffer(bytes int) error {
	return c.setOption("PacketConn.SetReadBuffer", driver.ReadBuffer, bytes)
}

// SetWriteBuffer sets the size of the system's send buffer in bytes.
func (c *PacketConn) SetWriteBuffer(bytes int) error {
	return c.setOption("PacketConn.SetWriteBuffer", driver.WriteBuffer, bytes)
}

func (c *PacketConn) setOption(caller string, o driver.Option, value int) error {
	if err := c.loop.checkOwner(caller); err != nil {
		return c.failure("set", err)
	}
	if err := c.end.SetOption(o, value); err != nil {
		return c.failure("set", unsupported(err))
	}
	return nil
}

// SyscallConn gives access to the descriptor, for its options.
func (c *PacketConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.end.SyscallConn()
	return raw, unsupported(err)
}
