package sim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A connection as the program sees it: what reads, writes, closing and socket options return, and
// what they make the connection do.

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
	if c.sys.n.who != nil {
		c.user = c.sys.n.who()
	}
	if most := min(len(p), c.unread); most > 1 && c.out != nil {
		p = p[:c.out.readSize(most)]
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
	c.reader = c.user
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
	if c.sys.n.who != nil {
		c.user = c.sys.n.who()
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
	c.written(p[:n])
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
