package asyncio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A DialOption is an option of [Dial]. Any goroutine may make one.
type DialOption struct{ dialer *net.Dialer }

// Dialer makes Dial use the settings of d: a local address, a resolver, the time for which one
// address family is preferred to the other, a Control function. Its Timeout and Deadline count real
// time; use [Timeout] or a context instead. A simulated network uses only Timeout, Deadline and
// LocalAddr, and counts its own time.
func Dialer(d *net.Dialer) DialOption { return DialOption{dialer: d} }

// Dial connects to an address, as [net.Dial] names networks and addresses: "tcp", "unix" and their
// kin. Package net, on a goroutine, looks up names and tries the addresses of both families side by
// side; the connection itself needs no goroutine. On a host of package sim, Dial uses the simulated
// network.
//
// For datagrams use [DialPacket], and for a library that wants a dial function [DialContext]. Dial
// refuses "udp" and its kin: a *Conn is no [net.PacketConn], so libraries would take it for a
// stream.
//
// Dial must be called in a task, which it suspends. A cancel of the task, or the end of ctx, ends
// the attempt and leaves nothing behind. Every error is a [*net.OpError], as in package net, around
// the cause: also a cancel or the end of ctx, [ErrNotInTask], [ErrNoRunningLoop] and, on virtual
// time without a simulated network, [errors.ErrUnsupported]. Python: loop.create_connection.
func Dial(ctx context.Context, network, address string, opts ...DialOption) (*Conn, error) {
	if isDatagram(network) {
		return nil, notOpened("dial", network, address, fmt.Errorf("%w: a Conn of datagrams would be taken for a stream: use DialPacket or DialContext (in Dial)", ErrInvalidArgument))
	}
	c := new(Conn)
	if err := c.dial(ctx, network, address, opts, "Dial"); err != nil {
		return nil, err
	}
	return c, nil
}

// DialPacket is [Dial] for datagrams: "udp", "unixgram" and their kin. Python:
// loop.create_datagram_endpoint with a remote address.
func DialPacket(ctx context.Context, network, address string, opts ...DialOption) (*DatagramConn, error) {
	if !isDatagram(network) {
		return nil, notOpened("dial", network, address, fmt.Errorf("%w: no network of datagrams: use Dial (in DialPacket)", ErrInvalidArgument))
	}
	c := new(DatagramConn)
	if err := c.dial(ctx, network, address, opts, "DialPacket"); err != nil {
		return nil, err
	}
	return c, nil
}

// DialContext is [Dial] or [DialPacket], depending on the network. It has the form that libraries
// take in their fields and options named Dial, DialContext or DialFunc. The connection is a [*Conn]
// or a [*DatagramConn], and the library must dial, read and write in tasks of the loop; a library
// that does so on goroutines of its own gets [ErrForeignGoroutine] and needs [ThreadsafeDialer].
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if isDatagram(network) {
		if c, err := DialPacket(ctx, network, address); err == nil {
			return c, nil
		} else {
			return nil, err
		}
	}
	c, err := Dial(ctx, network, address)
	if err != nil {
		return nil, err // and not a Conn that is nil
	}
	return c, nil
}

// isDatagram reports whether package net's connections to such a network carry datagrams to one
// peer.
func isDatagram(network string) bool {
	return strings.HasPrefix(network, "udp") || strings.HasPrefix(network, "ip") || network == "unixgram"
}

// A DatagramConn is a socket for datagrams that talks to one peer only. It is a [Conn] on which
// each Read and Write is one datagram. Like package net's, it is a [net.PacketConn] too. If a
// datagram does not fit into Read's buffer, the rest is lost. Make one with [DialPacket]; a socket
// that talks to many peers is a [PacketConn].
type DatagramConn struct{ Conn }

// ReadFrom is [Conn.Read]; it also returns the address of the peer.
func (c *DatagramConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	if err != nil {
		return n, nil, err
	}
	return n, c.RemoteAddr(), nil
}

// WriteTo fails with [net.ErrWriteToConnected], as package net's does: there is only one peer, and
// Write writes to it. WriteTo is for the loop only and does not suspend.
func (c *DatagramConn) WriteTo([]byte, net.Addr) (int, error) {
	return 0, c.failure("write", net.ErrWriteToConnected)
}

func dialerOf(opts []DialOption) *net.Dialer {
	d := new(net.Dialer)
	for _, o := range opts {
		if o.dialer != nil {
			d = o.dialer
		}
	}
	return d
}

// dial makes c a connection to an address.
func (c *Conn) dial(ctx context.Context, network, address string, opts []DialOption, caller string) error {
	l, err := enterSockets(ctx, caller)
	if err != nil {
		return notOpened("dial", network, address, err)
	}
	d := dialerOf(opts)
	if n, ok := l.drv.(driver.Network); ok {
		if err := l.current.yield(); err != nil { // a name is looked up
			return notOpened("dial", network, address, err)
		}
		return c.connect(ctx, l, n, d, network, address)
	}
	nc, err := openOutside(ctx, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, address) })
	if err != nil {
		return notOpened("dial", network, address, err)
	}
	end, err := l.adopted(nc)
	if err != nil {
		return err
	}
	c.begin(l, end)
	c.mustBeClosed(l.here())
	return nil
}

// notOpened wraps the error of a failed dial or listen as package net does. Most errors come from
// there and are wrapped already.
func notOpened(op, network, address string, err error) error {
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	return &net.OpError{Op: op, Net: network, Addr: unresolved{network, address}, Err: err}
}

// unresolved is an address as the program wrote it.
type unresolved struct{ network, address string }

func (a unresolved) Network() string { return a.network }
func (a unresolved) String() string  { return a.address }

// connect implements Dial on a network of the driver.
func (c *Conn) connect(ctx context.Context, l *EventLoop, n driver.Network, d *net.Dialer, network, address string) error {
	failed := func(addr net.Addr, err error) error {
		return &net.OpError{Op: "dial", Net: network, Source: d.LocalAddr, Addr: addr, Err: err}
	}
	end, err := n.Dial(network, address, d.LocalAddr)
	if err != nil {
		return failed(nil, err)
	}
	c.begin(l, end)
	h := &c.ways.wr
	h.verb = "connect to"
	if d.Timeout > 0 {
		h.deadline = l.after(d.Timeout)
	}
	if !d.Deadline.IsZero() {
		if at := l.at(d.Deadline); !h.limited() || at.Before(h.deadline) {
			h.deadline = at
		}
	}
	for {
		err := end.Connect()
		if err == driver.ErrAgain && h.expired() {
			err = os.ErrDeadlineExceeded
		}
		switch err {
		case nil:
			h.verb, h.deadline = "write to", Instant{}
			c.ways.rd.addr, h.addr = end.RemoteAddr(), end.RemoteAddr() // which one of a name's
			c.mustBeClosed(l.here())
			return nil
		case driver.ErrAgain:
			err := h.wait(ctx, l.current)
			if err == nil {
				continue
			}
			_ = end.Abort()
			return failed(end.RemoteAddr(), err)
		default:
			_ = end.Abort()
			return failed(end.RemoteAddr(), err)
		}
	}
}

func enterSockets(ctx context.Context, caller string) (*EventLoop, error) {
	if _, err := enter(ctx, caller); err != nil {
		return nil, err
	}
	return socketsOf(ctx, caller)
}

// freely is an executor without a limit: an attempt to connect may take minutes but needs no
// processor.
type freely struct{}

func (freely) Submit(job func()) error { go job(); return nil }
func (freely) Shutdown(bool)           {}

// openOutside runs open on a goroutine and suspends the calling task until open returns. The opened
// object is returned or, if the task no longer waits for it, closed.
func openOutside[T io.Closer](ctx context.Context, open func(ctx context.Context) (T, error)) (T, error) {
	var zero T
	inside, cancel := context.WithCancelCause(outsideContext{ctx, loopOf(ctx)})
	h := new(handover[T])
	f := RunInExecutor(ctx, freely{}, func() (None, error) {
		v, err := open(inside)
		if err == nil {
			h.offer(v)
		}
		return None{}, err
	})
	err := ErrLoopClosed // unless Await returns
	defer func() {
		if err != nil {
			cancel(err)
			h.refuse()
		}
	}()
	_, err = f.Await(ctx)
	if !f.Done() {
		f.Cancel()
	} else if err != nil {
		err = endOrFailure(ctx, err)
	}
	if err != nil {
		f.retrieved() // the caller was cancelled and no longer wants the result
		return zero, err
	}
	cancel(nil)
	return h.v, nil
}

// deadlineGrace is how long a context may take to end after its deadline.
const deadlineGrace = time.Second

// endOrFailure returns the cause of ctx if open has failed with err because ctx ended. Package net
// learns of the end too, and has a timer of its own for the deadline, because it shares the time
// out among addresses. Chance decides which of the timers is first, and must not decide which error
// the caller gets.
func endOrFailure(ctx context.Context, err error) error {
	var timed net.Error
	timeout := errors.As(err, &timed) && timed.Timeout()
	if !timeout && !errors.Is(err, context.Canceled) {
		return err
	}
	if d, ok := ctx.Deadline(); timeout && ok && ctx.Err() == nil && !time.Now().Before(d) {
		if e := Sleep(ctx, deadlineGrace); e != nil {
			return e
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// handover passes an object from a goroutine to a task that may have left. The second of the two to
// arrive closes it then.
type handover[T io.Closer] struct {
	mu      sync.Mutex
	v       T
	there   bool
	refused bool
}

func (h *handover[T]) offer(v T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refused {
		v.Close()
		return
	}
	h.v, h.there = v, true
}

func (h *handover[T]) refuse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = true
	if h.there {
		h.there = false
		h.v.Close()
	}
}

// ListenPacket opens a socket for datagrams, as [net.ListenPacket] names networks and addresses. It
// must be called in a task, which it suspends while the address is looked up. Options, cancels and
// errors are those of [Listen]. Python: loop.create_datagram_endpoint.
func ListenPacket(ctx context.Context, network, address string, opts ...ListenOption) (*PacketConn, error) {
	l, err := enterSockets(ctx, "ListenPacket")
	if err != nil {
		return nil, notOpened("listen", network, address, err)
	}
	if n, ok := l.drv.(driver.Network); ok {
		if err := l.current.yield(); err != nil {
			return nil, notOpened("listen", network, address, err)
		}
		end, err := n.ListenPacket(network, address)
		if err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Err: err}
		}
		return l.newPacketConn(end), nil
	}
	lc := listenConfig(opts)
	nc, err := openOutside(ctx, func(ctx context.Context) (net.PacketConn, error) {
		return inPlaceOfStale(network, address, func() (net.PacketConn, error) { return lc.ListenPacket(ctx, network, address) })
	})
	if err != nil {
		return nil, notOpened("listen", network, address, err)
	}
	end, err := l.sockets.AdoptPacketConn(nc)
	if err != nil {
		return nil, notOpened("listen", network, address, err)
	}
	return l.newPacketConn(end), nil
}
