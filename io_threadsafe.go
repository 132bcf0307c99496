package asyncio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Views of connections for goroutines.
//
//	threadsafe 1: Where the system allows, a view has a descriptor of its own for the same socket,
//	   in Go's poller. Goroutines use that with package net, at package net's cost, and the loop has
//	   no part in it. So a step that waits for goroutines that wait for the network only keeps the
//	   loop: it does not wait for itself.
//	threadsafe 2: In a simulation, and where goroutines serve the loop's connections, the loop does
//	   the operations of goroutines (errand 1). There a step that waits for them waits for itself.
//	   On the machine's clock that is noticed (errand 6).
//	   Behind a gate, in a simulation with goroutines, writes are done ahead (errand 8).
//	threadsafe 3: A connection that a goroutine has dialled or accepted is the loop's only when a
//	   task first uses it.
//	threadsafe 4: The loop keeps a list of the descriptors of views and closes them when it closes.
//	   A view that nobody holds any more is closed when the collector finds it, and reported like a
//	   Conn (conn 5).

// A ThreadsafeConn is a view of a [Conn] for goroutines: a [net.Conn] that any goroutine may use,
// and several at a time, as those of package net. Give it to libraries that read and write on
// goroutines of their own. [Conn.Threadsafe], [ThreadsafeDialer] and [ThreadsafeListener] make one.
// Closing it closes the Conn too.
//
// Read and Write block a goroutine that calls them. In a task of the loop they are those of the
// Conn and suspend the task; but a library that waits for goroutines of its own blocks its caller,
// and the loop with it, so call it in [ToThread]. A task of another loop is refused with
// [ErrForeignGoroutine].
//
// Goroutines and tasks take turns: while one side reads, the other is refused with [ErrBusy], and
// so for writing. Several goroutines may read or write at a time, as with package net; their data
// is not mixed. Deadlines hold for both sides. When the loop is closed, so is the connection. The
// other errors are those of Conn.
//
// Where goroutines serve the loop's connections, as on Windows, the loop does the operations of a
// view of a Conn. There a step that waits for a goroutine that waits at the view is noticed: the
// goroutine's operation fails with [ErrLoopBlocked], within a second if it began in that step, and
// otherwise after ten.
//
// In a simulation a thread function may use views, and is as reproducible as a task. Other
// goroutines may use them where they take part in it (package sim/simtest); there a Write does not
// wait, and a failure is returned by a later one.
//
// There is no SyscallConn: the socket belongs to the loop. Set options on the Conn.
type ThreadsafeConn struct {
	door
	own    net.Conn             // for goroutines, nil if they ask the loop (threadsafe 2)
	conn   atomic.Pointer[Conn] // for tasks, nil until one uses it (threadsafe 3)
	rd, wr *errandLine
}

// Threadsafe returns a view of the connection that any goroutine may use. The Conn stays as it is,
// and tasks may go on using it. To give a connection away for good use [Conn.Detach]. Threadsafe is
// for the loop only and does not suspend; in any other place, and if the system gives no further
// descriptor, it returns a view all of whose operations fail. Each call returns the same view.
func (c *Conn) Threadsafe() *ThreadsafeConn {
	if err := c.loop.checkOwner("Conn.Threadsafe"); err != nil {
		return &ThreadsafeConn{door: door{err: err}}
	}
	if c.view != nil {
		return c.view.(*ThreadsafeConn)
	}
	v := &ThreadsafeConn{door: door{asked: errandsOn(c.loop)}}
	if s, ok := c.end.(driver.Sharer); ok {
		own, err := s.Share()
		if err != nil {
			return &ThreadsafeConn{door: door{err: err}}
		}
		v.opened(own, nil)
	}
	v.belongsTo(c, c.ways.rd.lineOfErrands(), c.ways.wr.lineOfErrands())
	return v
}

// belongsTo makes c the connection of v for tasks.
func (v *ThreadsafeConn) belongsTo(c *Conn, rd, wr *errandLine) {
	v.rd, v.wr = rd, wr
	rd.half, wr.half = &c.ways.rd, &c.ways.wr
	c.ways.rd.outside, c.ways.wr.outside = rd, wr
	c.view = v
	v.conn.Store(c)
}

// opened makes own the connection of v for goroutines. It reports false if the loop is closed.
func (v *ThreadsafeConn) opened(own net.Conn, made *trace) (ok bool) {
	v.own = own
	return v.open(own, own.LocalAddr().Network()+" "+own.LocalAddr().String()+"->"+own.RemoteAddr().String(), made)
}

// viewOf returns the view of a connection that a goroutine has opened.
func (q *errands) viewOf(own net.Conn) (*ThreadsafeConn, error) {
	v := &ThreadsafeConn{door: door{asked: q}, rd: new(errandLine), wr: new(errandLine)}
	if !v.opened(own, q.loop.here()) {
		_ = own.Close()
		return nil, net.ErrClosed
	}
	return v, nil
}

// forTasks returns the Conn. It is called on the loop.
func (v *ThreadsafeConn) forTasks() (*Conn, error) {
	if c := v.conn.Load(); c != nil {
		return c, nil
	}
	l := v.asked.loop
	end, err := l.sockets.Share(v.own)
	if err == driver.ErrSockets {
		return nil, fmt.Errorf("%w: a connection that a goroutine opened, on a system without a poller: use it in ToThread", errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	c := l.newConn(end)
	v.belongsTo(c, v.rd, v.wr)
	if v.closed.Load() { // by a goroutine, which did not see the Conn
		_ = c.Close()
	}
	return c, nil
}

// enter returns the Conn if a task of the loop calls, and nil for any other goroutine.
func (v *ThreadsafeConn) enter(caller string) (*Conn, error) {
	byTask, err := v.door.enter(caller)
	if err != nil || !byTask {
		return nil, err
	}
	return v.forTasks()
}

// failure wraps an error as package net would, unless that has.
func (v *ThreadsafeConn) failure(op string, err error) error {
	if _, ok := err.(*net.OpError); ok || err == io.EOF {
		return err
	}
	if v.asked == nil {
		return &net.OpError{Op: op, Err: err}
	}
	return &net.OpError{Op: op, Net: v.LocalAddr().Network(), Source: v.LocalAddr(), Addr: v.RemoteAddr(), Err: goexit(err)}
}

// Read reads up to len(p) bytes, at least one, and blocks the calling goroutine, or suspends the
// calling task, until there are any. See [Conn.Read].
func (v *ThreadsafeConn) Read(p []byte) (int, error) {
	c, err := v.enter("ThreadsafeConn.Read")
	if c != nil {
		return c.Read(p)
	}
	if err == nil {
		err = v.rd.enter()
	}
	if err != nil {
		return 0, v.failure("read", err)
	}
	defer v.rd.leave()
	if v.own != nil {
		return v.own.Read(p)
	}
	return v.ask("read", v.rd, p)
}

// Write writes all of p, and blocks the calling goroutine, or suspends the calling task, while the
// connection accepts no more. See [Conn.Write].
func (v *ThreadsafeConn) Write(p []byte) (int, error) {
	c, err := v.enter("ThreadsafeConn.Write")
	if c != nil {
		return c.Write(p)
	}
	if err == nil {
		err = v.wr.enter()
	}
	if err != nil {
		return 0, v.failure("write", err)
	}
	defer v.wr.leave()
	if v.own != nil {
		return v.own.Write(p)
	}
	return v.ask("write", v.wr, p)
}

// ask has the loop read or write.
func (v *ThreadsafeConn) ask(op string, line *errandLine, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &transfer{conn: v.conn.Load(), line: line, write: line == v.wr, p: p}
	if t.write && v.asked.loop.gate != nil {
		if err := v.asked.writeAhead(t); err != nil {
			return t.n, v.failure(op, err)
		}
		return len(p), nil
	}
	if err := v.asked.ask(line, t); err != nil {
		return t.n, v.failure(op, err)
	}
	return t.n, nil
}

// A transfer is a Read or a Write that a goroutine asks for.
type transfer struct {
	conn  *Conn
	line  *errandLine
	write bool
	p     []byte
	n     int
}

func (t *transfer) attempt() error {
	if t.conn.closed || !t.write && t.line.closing {
		return net.ErrClosed
	}
	rest := t.p[t.n:]
	part := rest[:min(len(rest), maxErrandPart)]
	if !t.write {
		n, err := t.conn.end.Read(part)
		t.n = n
		return err
	}
	n, err := t.conn.end.Write(part)
	t.n += n
	if err == nil && t.n < len(t.p) {
		return errUnfinished
	}
	return err
}

// Close closes the connection for goroutines and tasks: whoever reads or writes gets
// [net.ErrClosed]. Data that was written is still delivered. Close neither blocks nor suspends. A
// second Close returns [net.ErrClosed], as package net's does.
func (v *ThreadsafeConn) Close() error {
	if err := v.lock("ThreadsafeConn.Close"); err != nil {
		return v.failure("close", err)
	}
	if v.asked.loop.gate != nil {
		return v.asked.closeBehind(v.rd, v.wr, v.conn.Load().Close)
	}
	err := v.closeOwn()
	if c := v.conn.Load(); c != nil {
		err = cmp.Or(err, c.Close())
	}
	return err
}

// Abort closes the connection and drops data that has not been delivered, as [Conn.Abort] does.
func (v *ThreadsafeConn) Abort() error {
	if tcp, ok := v.own.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it holds for every descriptor of the socket
	}
	switch err := v.lock("ThreadsafeConn.Abort"); err {
	case nil:
	case net.ErrClosed:
		return nil // like Conn.Abort
	default:
		return v.failure("close", err)
	}
	err := v.closeOwn()
	if c := v.conn.Load(); c != nil {
		err = cmp.Or(err, c.Abort())
	}
	return err
}

// CloseWrite ends this side's sending. It does not suspend a task. Where the loop has to do it, it
// blocks the calling goroutine until then.
func (v *ThreadsafeConn) CloseWrite() error {
	const caller = "ThreadsafeConn.CloseWrite"
	return v.shut(caller, (*Conn).CloseWrite, func() error {
		half, ok := v.own.(interface{ CloseWrite() error })
		if !ok {
			return errors.ErrUnsupported
		}
		return half.CloseWrite()
	})
}

// CloseRead ends this side's reading, like [ThreadsafeConn.CloseWrite].
func (v *ThreadsafeConn) CloseRead() error {
	const caller = "ThreadsafeConn.CloseRead"
	return v.shut(caller, (*Conn).CloseRead, func() error {
		half, ok := v.own.(interface{ CloseRead() error })
		if !ok {
			return errors.ErrUnsupported
		}
		return half.CloseRead()
	})
}

// shut ends one direction: on the loop, or by own for another goroutine.
func (v *ThreadsafeConn) shut(caller string, onLoop func(*Conn) error, own func() error) error {
	c, err := v.enter(caller)
	switch {
	case err != nil:
	case c != nil:
		return onLoop(c)
	case v.asked.loop.gate != nil:
		err = v.asked.doAhead(v.wr, &loopCall{fn: func() error { return onLoop(v.conn.Load()) }})
	case v.own == nil:
		err = v.asked.ask(v.asked.alone(), &loopCall{fn: func() error { return onLoop(v.conn.Load()) }})
	default:
		err = own()
		if c := v.conn.Load(); err == nil && c != nil {
			_ = v.asked.loop.post(arrivalFunc(func() { _ = onLoop(c) })) // a task may wait
		}
	}
	if err != nil {
		return v.failure("close", err)
	}
	return nil
}

// A loopCall is a call that a goroutine asks for.
type loopCall struct{ fn func() error }

func (f *loopCall) attempt() error { return f.fn() }

// LocalAddr returns the address of this end.
func (v *ThreadsafeConn) LocalAddr() net.Addr {
	switch {
	case v.asked == nil:
		return nil
	case v.own != nil:
		return v.own.LocalAddr()
	}
	return v.conn.Load().LocalAddr()
}

// RemoteAddr returns the address of the other end.
func (v *ThreadsafeConn) RemoteAddr() net.Addr {
	switch {
	case v.asked == nil:
		return nil
	case v.own != nil:
		return v.own.RemoteAddr()
	}
	return v.conn.Load().RemoteAddr()
}

// SetDeadline sets both deadlines. See [ThreadsafeConn.SetReadDeadline].
func (v *ThreadsafeConn) SetDeadline(d time.Time) error {
	v.wr.limitAhead(d)
	return v.setDeadline(d, net.Conn.SetDeadline, (*Conn).SetDeadline)
}

// SetReadDeadline makes Read, also one that waits already, fail with [os.ErrDeadlineExceeded] once
// the time is d; the zero time takes the deadline away. It neither blocks nor suspends.
func (v *ThreadsafeConn) SetReadDeadline(d time.Time) error {
	return v.setDeadline(d, net.Conn.SetReadDeadline, (*Conn).SetReadDeadline)
}

// SetWriteDeadline is [ThreadsafeConn.SetReadDeadline] for Write.
func (v *ThreadsafeConn) SetWriteDeadline(d time.Time) error {
	v.wr.limitAhead(d)
	return v.setDeadline(d, net.Conn.SetWriteDeadline, (*Conn).SetWriteDeadline)
}

func (v *ThreadsafeConn) setDeadline(d time.Time, own func(net.Conn, time.Time) error, onLoop func(*Conn, time.Time) error) error {
	byTask, err := v.door.enter("ThreadsafeConn.SetDeadline")
	if err != nil {
		return v.failure("set", err)
	}
	if v.own != nil {
		if err := own(v.own, d); err != nil {
			return err
		}
	}
	c := v.conn.Load()
	switch {
	case c == nil:
		return nil
	case v.asked.loop.gate != nil && !byTask:
		return v.asked.setDeadlineAtGate(v.wr, d, func(d time.Time) { _ = onLoop(c, d) })
	case byTask:
		return onLoop(c, d)
	case v.asked.loop.post(arrivalFunc(func() { _ = onLoop(c, d) })) != nil:
		return v.failure("set", net.ErrClosed)
	}
	return nil
}

// Threadsafe returns a view of the socket that any goroutine may use: a [ThreadsafeConn] that is a
// [net.PacketConn] too, as package net's sockets for datagrams are. What is said of
// [Conn.Threadsafe] holds here.
func (c *DatagramConn) Threadsafe() net.Conn { return datagramView{c.Conn.Threadsafe()} }

// A datagramView is a view of a DatagramConn. Libraries tell datagrams from streams by its methods.
type datagramView struct{ *ThreadsafeConn }

// ReadFrom is Read; it also returns the address of the peer.
func (v datagramView) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := v.Read(p)
	if err != nil {
		return n, nil, err
	}
	return n, v.RemoteAddr(), nil
}

// WriteTo fails, as [DatagramConn.WriteTo] does.
func (v datagramView) WriteTo([]byte, net.Addr) (int, error) {
	return 0, v.failure("write", net.ErrWriteToConnected)
}

// ThreadsafeDialer returns a dial function that any goroutine may call, for libraries that dial,
// read and write on goroutines of their own: the DialContext of [net/http.Transport] and its kin.
// The connections are [*ThreadsafeConn] of the loop of ctx. The function blocks the calling
// goroutine, or suspends the calling task of the loop. The end of the context that it is given ends
// the attempt, and so does a cancel of the task. Its errors are those of [Dial].
//
// ThreadsafeDialer is for the loop only and does not suspend. In any other place it returns a
// function that fails.
func ThreadsafeDialer(ctx context.Context, opts ...DialOption) func(ctx context.Context, network, address string) (net.Conn, error) {
	l, err := socketsOf(ctx, "ThreadsafeDialer")
	if err != nil {
		return func(_ context.Context, network, address string) (net.Conn, error) {
			return nil, notOpened("dial", network, address, err)
		}
	}
	d := &threadsafeDialer{errandsOn(l), opts}
	return d.dial
}

type threadsafeDialer struct {
	asked *errands
	opts  []DialOption
}

const inDialer = "the function of ThreadsafeDialer"

func (d *threadsafeDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l := d.asked.loop
	byTask, err := l.byOwnTask(inDialer)
	if err == nil && ctx == nil {
		err = fmt.Errorf("%w: nil context (in %s)", ErrInvalidArgument, inDialer)
	}
	var v *ThreadsafeConn
	_, simulated := l.drv.(driver.Network)
	switch {
	case err != nil:
	case byTask:
		v, err = d.open(ctx, network, address)
	case simulated:
		a := &dialling{dialer: d, ctx: ctx, network: network, address: address, line: d.asked.alone()}
		err = d.asked.ask(a.line, a)
		v = a.view
	default:
		v, err = d.openHere(ctx, network, address)
	}
	if err != nil {
		return nil, notOpened("dial", network, address, err)
	}
	if isDatagram(network) {
		return datagramView{v}, nil
	}
	return v, nil
}

// open dials on the loop.
func (d *threadsafeDialer) open(ctx context.Context, network, address string) (*ThreadsafeConn, error) {
	c := new(Conn)
	if err := c.dial(ctx, network, address, d.opts, inDialer); err != nil {
		return nil, err
	}
	v := c.Threadsafe()
	if v.err != nil {
		_ = c.Close()
	}
	return v, v.err
}

// A dialling is a dial that a goroutine asks for. A task of the loop does it.
type dialling struct {
	dialer           *threadsafeDialer
	ctx              context.Context
	network, address string
	line             *errandLine
	task             *Task[None]
	view             *ThreadsafeConn
}

func (a *dialling) attempt() error {
	if a.task == nil {
		ctx, leave := a.dialer.asked.loop.enterCall(a.ctx)
		// The task has no result: a simulation compares those, and a connection's address is new in
		// each run.
		a.task = CreateTask(ctx, Do(func(ctx context.Context) (err error) {
			a.view, err = a.dialer.open(ctx, a.network, a.address)
			return err
		}), TaskName("dial of a goroutine"))
		a.task.own = true
		a.task.AddDoneCallback(func(*Task[None]) {
			leave()
			a.line.wake()
		})
	}
	if !a.task.Done() {
		return driver.ErrAgain
	}
	_, err := a.task.Result()
	return err
}

// openHere dials on the calling goroutine (threadsafe 3).
func (d *threadsafeDialer) openHere(ctx context.Context, network, address string) (*ThreadsafeConn, error) {
	own, err := dialerOf(d.opts).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return d.asked.viewOf(own)
}
