package asyncio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A Conn is a connection that tasks of one loop read and write: a [net.Conn] whose Read and Write
// suspend the calling task instead of a goroutine. So bufio, textproto, encoding/json and protocols
// that read and write where they are called run unchanged inside a task. Make one with [Dial],
// [Listener.AcceptContext] or [NewConn]; give a library that wants a dial function [DialContext].
//
// Its methods are for the loop only, except that any goroutine may call Close, Abort and the
// methods that set deadlines or return addresses. Read, Write and their kin must be called in a
// task, which they suspend; the others do not suspend. Close and Abort also work after the loop was
// closed. One task may read and another write at the same time; a second reader or writer is
// refused with [ErrBusy].
//
// Code written for a net.Conn runs in a task as long as it reads and writes where it is called.
// Many libraries start goroutines that read or write: net/rpc, net/http's Transport, HTTP/2, SSH,
// the CopyFrom of pgx. Their calls are refused with [ErrForeignGoroutine]. Give such a library the
// view that [Conn.Threadsafe] returns, or a dial function of [ThreadsafeDialer], and call it in
// [ToThread]. [Conn.Detach] gives a connection away for good. docs/libraries.md says how tasks use
// many libraries.
//
//	conn 1: An operation tries first and suspends only if it must wait. An operation that need not
//	   wait does not suspend, so a cancel does not reach it. But a task that could go on for ever
//	   without suspending gives way to the others for one iteration after each 16 operations.
//	conn 2: A wait ends because the connection may be ready, its deadline passed, it was closed, or
//	   its task was cancelled or its context ended. The wait itself reports only a cancel or the end
//	   of the context. For the rest the task looks itself, so a wake-up without a reason does no
//	   harm. An operation that begins after its deadline fails at once. An operation that began
//	   before it looks at the connection first, and at the deadline only if it would have to wait
//	   (again): data that was there in time is delivered, however late the task runs.
//	conn 3: Only the task that returns bytes takes them from the connection. So none are lost,
//	   however a wait ends.
//	conn 4: Write returns the number of bytes accepted, also with an error. A cancelled Write may
//	   have sent a part.
//	conn 5: A connection that nobody holds any more and that was not closed is closed when the
//	   collector finds it. The exception handler is told the place where it was dialled or adopted;
//	   in debug mode also where it was accepted. On virtual time that would depend on the collector,
//	   so there it stays open until the loop closes.
//
// Errors are as in package net: a plain [io.EOF], and otherwise a [*net.OpError], which names the
// operation and the connection and wraps the cause. The causes are:
//
//   - [net.ErrClosed], [os.ErrDeadlineExceeded], or a system error such as syscall.ECONNRESET;
//   - [errors.ErrUnsupported] where the connection cannot do the operation;
//   - a cancel or the end of a context, as [Future.Await] returns them;
//   - for a call in the wrong place [ErrBusy], [ErrNotInTask], [ErrDifferentLoop], [ErrLoopClosed]
//     or, from a foreign goroutine, [ErrForeignGoroutine].
//
// So a library that recognises broken connections by *net.OpError gives up a connection on which a
// cancel has cut a message. [errors.Is] finds the cause, and a task that returns the error of a
// cancel ends as cancelled. The error's Timeout method is true for a deadline, and for a context
// that ended by its deadline; for a cancel it never is.
//
// Do not put crypto/tls directly on a Conn if one task reads while another writes: it holds a mutex
// while it waits, which would stop the loop. Use [TLSClient] and [TLSServer].
type Conn struct {
	loop   *EventLoop
	end    driver.Endpoint
	closed bool
	ways   *ways           // separate: the endpoint has them and must not hold the Conn (conn 5)
	view   view            // for goroutines, nil until it is asked for
	watch  runtime.Cleanup // closes the endpoint of a Conn that the collector finds (conn 5)
}

// NewConn makes a Conn of c, which then belongs to the Conn and must not be used any more; if
// NewConn fails, c is closed. A connection of package net moves to the loop's poller. Any other
// connection is served by goroutines that call its Read and Write, and an error of a write may be
// returned by the next write only.
//
// NewConn is for the loop only and does not suspend. It fails with [ErrNoRunningLoop] and, if the
// loop's clock is virtual, [errors.ErrUnsupported]. Python: the sock argument of open_connection,
// connect_accepted_socket.
func NewConn(ctx context.Context, c net.Conn) (*Conn, error) {
	if c == nil {
		return nil, fmt.Errorf("%w: nil connection (in NewConn)", ErrInvalidArgument)
	}
	l, err := socketsOf(ctx, "NewConn")
	if err != nil {
		c.Close()
		return nil, err
	}
	return l.adopt(c)
}

// socketsOf returns the loop of ctx if it can have sockets.
func socketsOf(ctx context.Context, caller string) (*EventLoop, error) {
	l := loopOf(ctx)
	if l == nil {
		return nil, noLoop(ctx, caller)
	}
	if err := l.checkOwner(caller); err != nil {
		return nil, err
	}
	if l.sockets == nil {
		s, ok := l.drv.(driver.Sockets)
		if !ok {
			return nil, fmt.Errorf("asyncio: %w: a loop on virtual time has no network; those of sim.Run and sim.Explore have (in %s)", errors.ErrUnsupported, caller)
		}
		l.sockets = s
	}
	return l, nil
}

func (l *EventLoop) adopt(nc net.Conn) (*Conn, error) {
	end, err := l.adopted(nc)
	if err != nil {
		return nil, err
	}
	c := l.newConn(end)
	c.mustBeClosed(l.here())
	return c, nil
}

func (l *EventLoop) adopted(nc net.Conn) (driver.Endpoint, error) {
	end, err := l.sockets.Adopt(nc)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: nc.LocalAddr().Network(), Addr: nc.RemoteAddr(), Err: err}
	}
	return end, nil
}

func (l *EventLoop) newConn(end driver.Endpoint) *Conn {
	c := new(Conn)
	c.begin(l, end)
	return c
}

// begin makes c the connection of end.
func (c *Conn) begin(l *EventLoop, end driver.Endpoint) {
	c.loop, c.end, c.ways = l, end, new(ways)
	c.ways.rd = half{loop: l, verb: "read from", addr: end.RemoteAddr()}
	c.ways.wr = half{loop: l, verb: "write to", addr: end.RemoteAddr()}
	end.Notify(c.ways)
	openConns.of(l).n++
}

// openConnections counts the connections of a loop that have not been closed.
type openConnections struct{ n int }

var openConns = newPart[openConnections]()

// unclosed refers to the endpoint of a connection that nobody holds any more (conn 5).
type unclosed struct {
	loop *EventLoop
	end  driver.Handle
	made *trace
}

// mustBeClosed makes the collector close and report c if nobody closes it (conn 5).
func (c *Conn) mustBeClosed(made *trace) {
	if u := c.loop.unclosed(c.end, made); u != nil {
		c.watch = runtime.AddCleanup(c, (*unclosed).drop, u)
	}
}

func (l *EventLoop) unclosed(end driver.Handle, made *trace) *unclosed {
	if l.drv.Polls() {
		return nil
	}
	return &unclosed{l, end, made}
}

// here returns the place from which the library was called, in debug mode or not.
func (l *EventLoop) here() *trace {
	tr := trace(callers(maxCallers))
	return &tr
}

// drop is called by the collector, on a goroutine of its own.
func (u *unclosed) drop() { _ = u.loop.post(u) }

func (u *unclosed) fire(*future) {
	name := u.end.LocalAddr().Network() + " " + u.end.LocalAddr().String()
	if e, ok := u.end.(driver.Endpoint); ok && e.RemoteAddr() != nil {
		name += "->" + e.RemoteAddr().String()
	}
	u.loop.CallExceptionHandler(ExceptionContext{
		Message:         fmt.Sprintf("unclosed connection %s: nobody holds it any more; whoever opens a connection must close it (Close)", name),
		SourceTraceback: u.made.String(),
	})
	if _, ok := u.end.(driver.Endpoint); ok {
		openConns.of(u.loop).n--
	}
	_ = u.end.Close()
}

func (u *unclosed) String() string { return "unclosed connection" }

// currentOn returns the task that runs on l. It serves methods that suspend and have no ctx.
func (l *EventLoop) currentOn(caller string) (*task, error) {
	if err := l.checkOwner(caller); err != nil {
		return nil, err
	}
	t := l.current
	if t == nil {
		return nil, fmt.Errorf("%w (in %s)", ErrNotInTask, caller)
	}
	if t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	return t, nil
}

// enterOn is enter for methods of an object that belongs to l.
func (l *EventLoop) enterOn(ctx context.Context, caller string) (*task, error) {
	t, err := enter(ctx, caller)
	if err == nil && t.loop() != l {
		if l == nil {
			return nil, zeroValue(caller)
		}
		return nil, fmt.Errorf("%w (in %s)", ErrDifferentLoop, caller)
	}
	return t, err
}

// Read reads up to len(p) bytes, at least one, and suspends the calling task until there are any.
// At the end of the peer's data it returns [io.EOF]. A cancel of the task, or the end of the
// context that the task was made with, ends the wait; nothing is lost.
func (c *Conn) Read(p []byte) (int, error) {
	t, err := c.loop.currentOn("Conn.Read")
	if err != nil {
		return 0, c.refused("read", err)
	}
	return c.readOn(t.ctx, t, p, c.tooLate())
}

// ReadContext is Read with a context whose end also ends the wait.
func (c *Conn) ReadContext(ctx context.Context, p []byte) (int, error) {
	t, err := c.loop.enterOn(ctx, "Conn.ReadContext")
	if err != nil {
		return 0, c.refused("read", err)
	}
	return c.readOn(ctx, t, p, c.tooLate())
}

// tooLate reports whether an operation that reads, and begins now, begins after its deadline.
func (c *Conn) tooLate() bool { return c.ways.rd.expired() }

// readOn reads for an operation that began after the deadline (late) or before it. An operation of
// several reads passes to each of them the result that tooLate had when it began (conn 2).
func (c *Conn) readOn(ctx context.Context, t *task, p []byte, late bool) (int, error) {
	if err := c.beginRead(t, late); err != nil {
		return 0, err
	}
	for {
		n, err := c.tryRead(p)
		if err != driver.ErrAgain {
			return n, err
		}
		if err := c.ways.rd.wait(ctx, t); err != nil {
			return 0, c.refused("read", err)
		}
	}
}

// beginRead is what comes before the first try of a read.
//
//go:noinline
func (c *Conn) beginRead(t *task, late bool) error {
	if err := c.ways.rd.begin(t); err != nil {
		return c.refused("read", err)
	}
	if late && !c.closed {
		return c.failure("read", os.ErrDeadlineExceeded)
	}
	return nil
}

// tryRead reads what has come. It returns driver.ErrAgain if the read has to wait. It is a function
// of its own so that its frame is gone while a task waits (stack 9).
//
//go:noinline
func (c *Conn) tryRead(p []byte) (int, error) {
	n, err := c.end.Read(p)
	switch {
	case err == nil:
		return n, nil
	case err != driver.ErrAgain:
		return n, c.failure("read", err)
	case c.ways.rd.expired():
		return 0, c.failure("read", os.ErrDeadlineExceeded)
	}
	return 0, err
}

// ReadNowait reads up to len(p) bytes that have come, at least one, as [Conn.Read] does, but never
// waits: if nothing has come, it returns [ErrWouldBlock]. It is for the loop only, in a task or in
// a callback, and does not suspend. Other errors are those of Read.
func (c *Conn) ReadNowait(p []byte) (int, error) {
	if err := c.mayReadNow("Conn.ReadNowait"); err != nil {
		return 0, err
	}
	n, err := c.end.Read(p)
	switch err {
	case nil:
		return n, nil
	case driver.ErrAgain:
		return 0, ErrWouldBlock
	}
	return n, c.failure("read", err)
}

// mayReadNow returns the error for a caller that may not read at the moment.
func (c *Conn) mayReadNow(caller string) error {
	if err := c.loop.checkOwner(caller); err != nil {
		return c.refused("read", err)
	}
	h := &c.ways.rd
	if h.t != nil {
		return c.refused("read", fmt.Errorf("%w: %s by %s (in %s)", ErrBusy, h, h.t.GetName(), caller))
	}
	if h.outside != nil && h.outside.inUse() {
		return c.refused("read", h.outside.busy())
	}
	return nil
}

// OnReadable makes the loop call fn once, in an iteration to come, when a read is worthwhile again:
// bytes or the end of the stream have come, or the connection has failed or was closed. It is set
// when [Conn.ReadNowait] has returned [ErrWouldBlock]; before that, no call is promised. The call
// may come for no reason, so fn tries ReadNowait and, if that would have to wait, calls OnReadable
// again. A second OnReadable replaces the first, and one with nil takes it back. A callback runs in
// no task, so fn must not await.
//
// While a task waits in Read, the bytes are for that task, and the call means nothing. OnReadable
// is for the loop only and does not suspend. It returns [ErrForeignGoroutine] or [ErrLoopClosed],
// wrapped as Read's errors. Python's equivalent is loop.add_reader with a socket.
func (c *Conn) OnReadable(fn func()) error {
	if err := c.loop.checkOwner("Conn.OnReadable"); err != nil {
		return c.refused("read", err)
	}
	r := c.ways.readable
	if r == nil {
		if fn == nil {
			return nil
		}
		r = new(readiness)
		r.handle.loop, r.handle.fn = c.loop, r.fire
		c.ways.readable = r
	}
	r.fn = fn
	if c.closed {
		r.tell()
	}
	return nil
}

// Write writes all of p. It suspends the calling task while the connection accepts no more, so a
// peer that does not read slows its writer down. If Write fails, it returns how many bytes were
// accepted before. A cancel of the task, or the end of the context that the task was made with,
// ends the wait.
func (c *Conn) Write(p []byte) (int, error) {
	t, err := c.loop.currentOn("Conn.Write")
	if err != nil {
		return 0, c.refused("write", err)
	}
	return c.write(t.ctx, t, p)
}

// WriteContext is Write with a context whose end also ends the wait.
func (c *Conn) WriteContext(ctx context.Context, p []byte) (int, error) {
	t, err := c.loop.enterOn(ctx, "Conn.WriteContext")
	if err != nil {
		return 0, c.refused("write", err)
	}
	return c.write(ctx, t, p)
}

// write returns how much was accepted, also when the wait fails (conn 4).
func (c *Conn) write(ctx context.Context, t *task, p []byte) (written int, err error) {
	h := &c.ways.wr
	late := h.expired()
	if err := h.begin(t); err != nil {
		return 0, c.refused("write", err)
	}
	if late && !c.closed {
		return 0, c.failure("write", os.ErrDeadlineExceeded)
	}
	if h.outside != nil {
		if _, err := h.outside.take(); err != nil {
			return 0, c.refused("write", err)
		}
		defer h.outside.release()
	}
	for {
		n, err := c.end.Write(p[written:])
		written += n
		if err == nil {
			if written == len(p) {
				return written, nil
			}
			continue
		}
		if err != driver.ErrAgain {
			return written, c.failure("write", err)
		}
		if h.expired() {
			return written, c.failure("write", os.ErrDeadlineExceeded)
		}
		if err := h.wait(ctx, t); err != nil {
			return written, c.refused("write", err)
		}
	}
}

// writeNow writes as much as it can without a wait. The error is the endpoint's own; it is
// [driver.ErrAgain] also where write must look closer.
func (c *Conn) writeNow(p []byte) (int, error) {
	h := &c.ways.wr
	if h.t != nil || h.outside != nil || c.closed || h.limited() || !h.mayGoOn() {
		return 0, driver.ErrAgain
	}
	return c.end.Write(p)
}

// failure wraps an error of the endpoint as package net would.
func (c *Conn) failure(op string, err error) error {
	if err == io.EOF {
		return err
	}
	return c.refused(op, goexit(err))
}

// refused is failure for an error that does not come from the endpoint: even io.EOF is wrapped
// then, because it is not the end of the peer's data.
func (c *Conn) refused(op string, err error) error {
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	if c.end == nil { // of a zero Conn
		return &net.OpError{Op: op, Err: err}
	}
	local, remote := c.end.LocalAddr(), c.end.RemoteAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: remote, Err: err}
}

// bare returns err without the wrapping of package net.
func bare(err error) error {
	for {
		op, ok := err.(*net.OpError)
		if !ok {
			return err
		}
		err = op.Err
	}
}

// goexit translates the driver's ErrGoexit into [ErrGoexit].
func goexit(err error) error {
	if err == driver.ErrGoexit {
		return ErrGoexit
	}
	return err
}

// closedAll reports whether the loop has been closed and its driver has closed everything that was
// left. From then on several goroutines may close the same object at a time.
func (l *EventLoop) closedAll() bool { return l.closed.Load() && !l.drv.Polls() }

// Close closes the connection. Written data is still delivered; a task that reads or writes gets
// [net.ErrClosed]. Close does not suspend. More calls do nothing. Any goroutine may call it: from
// outside the loop, and while the loop does not run, it returns nil at once, and the connection is
// closed in the loop's next iteration.
func (c *Conn) Close() error {
	if err := c.loop.checkForeign("Conn.Close"); !c.loop.mayNow(err) {
		return c.loop.orPost(err, func() { _ = c.shut(c.end.Close) })
	}
	return c.shut(c.end.Close)
}

// Abort closes the connection and drops data that has not been delivered; the peer of a TCP
// connection sees a reset. It does not suspend, and any goroutine may call it, as [Conn.Close].
// Python: transport.abort.
func (c *Conn) Abort() error {
	if err := c.loop.checkForeign("Conn.Abort"); !c.loop.mayNow(err) {
		return c.loop.orPost(err, func() { _ = c.shut(c.end.Abort) })
	}
	return c.shut(c.end.Abort)
}

func (c *Conn) shut(how func() error) error {
	if c.loop.closedAll() || c.closed {
		return nil
	}
	c.closed = true
	openConns.of(c.loop).n--
	c.watch.Stop()
	err := how()
	if c.view != nil {
		_ = c.view.closeOwn()
	}
	c.ways.wakeReaders()
	c.ways.wr.wake()
	if err != nil {
		return c.failure("close", err)
	}
	return nil
}

// CloseWrite ends this side's sending; the peer reads [io.EOF] and may go on sending. It does not
// suspend. Python: write_eof.
func (c *Conn) CloseWrite() error {
	return c.control("close", "Conn.CloseWrite", func() error { return c.end.CloseWrite() })
}

// CloseRead ends this side's reading. It does not suspend.
func (c *Conn) CloseRead() error {
	return c.control("close", "Conn.CloseRead", func() error { return c.end.CloseRead() })
}

func (c *Conn) control(op, caller string, fn func() error) error {
	if err := c.loop.checkOwner(caller); err != nil {
		return c.refused(op, err)
	}
	if c.closed {
		return c.failure(op, net.ErrClosed)
	}
	if err := fn(); err != nil {
		return c.failure(op, unsupported(err))
	}
	return nil
}

func unsupported(err error) error {
	if err == driver.ErrSockets {
		return errors.ErrUnsupported
	}
	return err
}

// Detach gives the connection to goroutines: it closes c and returns an ordinary [net.Conn] without
// deadlines, which belongs to the caller. Data that the peer has sent is not lost; bytes that a
// [StreamReader] has read ahead (see its Buffered method) must be taken from that reader. Detach
// does not suspend. It returns [ErrBusy] while a task reads or writes. If it fails, c stays as it
// is. For TLS there is [TLSConn.Detach].
func (c *Conn) Detach() (net.Conn, error) {
	if err := c.loop.checkOwner("Conn.Detach"); err != nil {
		return nil, c.refused("detach", err)
	}
	if c.closed {
		return nil, c.failure("detach", net.ErrClosed)
	}
	for _, h := range []*half{&c.ways.rd, &c.ways.wr} {
		if h.t != nil {
			return nil, c.refused("detach", fmt.Errorf("%w: %s by %s (in Detach)", ErrBusy, h, h.t.GetName()))
		}
		if h.outside != nil && h.outside.inUse() {
			return nil, c.refused("detach", h.outside.busy())
		}
	}
	nc, err := c.end.Detach()
	if err != nil {
		return nil, c.failure("detach", unsupported(err))
	}
	c.closed = true
	openConns.of(c.loop).n--
	c.watch.Stop()
	if c.view != nil {
		_ = c.view.closeOwn()
	}
	return nc, nil
}

// LocalAddr returns the address of this end. Any goroutine may call it. Python:
// get_extra_info("sockname").
func (c *Conn) LocalAddr() net.Addr { return c.end.LocalAddr() }

// RemoteAddr returns the address of the other end. Any goroutine may call it. Python:
// get_extra_info("peername").
func (c *Conn) RemoteAddr() net.Addr { return c.end.RemoteAddr() }

// SetDeadline sets both deadlines. See [Conn.SetReadDeadline]. Any goroutine may call it; it does
// not suspend.
func (c *Conn) SetDeadline(d time.Time) error {
	return c.setDeadline(d, true, true)
}

// SetReadDeadline makes Read, also one that waits already, fail with [os.ErrDeadlineExceeded] once
// the loop's clock has reached d; the zero time takes the deadline away. A d that was made with
// [time.Now], as libraries make it, means so much from now in a simulation too, rounded up to a
// millisecond, and by a hundredth at most. To limit more than one call use [Timeout] or
// [WithTimeout]. Any goroutine may call SetReadDeadline: from outside the
// loop, and while the loop does not run, it returns nil at once and takes effect in the loop's next
// iteration.
func (c *Conn) SetReadDeadline(d time.Time) error { return c.setDeadline(d, true, false) }

// SetWriteDeadline is [Conn.SetReadDeadline] for Write.
func (c *Conn) SetWriteDeadline(d time.Time) error { return c.setDeadline(d, false, true) }

func (c *Conn) setDeadline(d time.Time, read, write bool) error {
	if err := c.loop.checkOwner("Conn.SetDeadline"); !c.loop.mayNow(err) {
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

// SetNoDelay sets whether TCP sends at once (the default) or waits to fill its packets.
func (c *Conn) SetNoDelay(on bool) error {
	return c.setOption("Conn.SetNoDelay", driver.NoDelay, oneIf(on))
}

// SetKeepAlive sets whether TCP probes an idle peer (the default).
func (c *Conn) SetKeepAlive(on bool) error {
	return c.setOption("Conn.SetKeepAlive", driver.KeepAlive, oneIf(on))
}

// SetLinger sets how Close treats undelivered data. Less than zero: it is delivered in the
// background (the default). Zero: it is dropped. Else it is dropped after that many seconds.
func (c *Conn) SetLinger(seconds int) error {
	return c.setOption("Conn.SetLinger", driver.Linger, seconds)
}

// SetReadBuffer sets the size of the system's receive buffer in bytes.
func (c *Conn) SetReadBuffer(bytes int) error {
	return c.setOption("Conn.SetReadBuffer", driver.ReadBuffer, bytes)
}

// SetWriteBuffer sets the size of the system's send buffer in bytes.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.setOption("Conn.SetWriteBuffer", driver.WriteBuffer, bytes)
}

func oneIf(on bool) int {
	if on {
		return 1
	}
	return 0
}

func (c *Conn) setOption(caller string, o driver.Option, value int) error {
	return c.control("set", caller, func() error { return c.end.SetOption(o, value) })
}

// SyscallConn gives access to the descriptor, for options that have no method here. A function
// given to its Read or Write is called once. It may look whether there is anything to read, as
// pools of connections do, but it cannot wait: if it returns false, Read or Write returns
// [errors.ErrUnsupported]. SyscallConn does not suspend. It returns [errors.ErrUnsupported] for a
// connection that goroutines serve.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.end.SyscallConn()
	return raw, unsupported(err)
}
