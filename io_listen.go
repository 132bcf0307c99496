package asyncio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A ListenOption is an option of [Listen] and [ListenPacket]. Any goroutine may make one.
type ListenOption struct {
	config    *net.ListenConfig
	reusePort bool
}

// ListenConfig makes Listen use the settings of lc. A simulated network has no settings.
func ListenConfig(lc *net.ListenConfig) ListenOption { return ListenOption{config: lc} }

// ReusePort lets several sockets, of this program or of others of the same user, listen on one
// address. The system distributes connections among them (SO_REUSEPORT); a simulated network
// refuses the second. Python: reuse_port=True.
func ReusePort() ListenOption { return ListenOption{reusePort: true} }

func listenConfig(opts []ListenOption) net.ListenConfig {
	var lc net.ListenConfig
	reuse := false
	for _, o := range opts {
		if o.config != nil {
			lc = *o.config
		}
		reuse = reuse || o.reusePort
	}
	if reuse {
		before := lc.Control
		lc.Control = func(network, address string, c syscall.RawConn) error {
			if before != nil {
				if err := before(network, address, c); err != nil {
					return err
				}
			}
			var failed error
			err := c.Control(func(fd uintptr) { failed = driver.ReusePort(fd) })
			return errors.Join(err, unsupported(failed))
		}
	}
	return lc
}

// A Listener accepts connections for tasks of one loop. It is a [net.Listener] whose Accept
// suspends the calling task. Make one with [Listen] or [NewListener].
//
// Its methods are for the loop only, except Addr, Close and SetDeadline. Accept and AcceptContext
// must be called in a task, which they suspend; the others do not suspend. One task at a time can
// wait for a connection; a second gets [ErrBusy]. The other errors are those of [Conn].
type Listener struct {
	loop   *EventLoop
	end    driver.Listener
	rd     half
	closed bool
	// Accept has reported a lack of descriptors, and nothing was accepted since
	failed bool
	view   view // for goroutines, nil until it is asked for
}

// Listen listens on an address, as [net.Listen] names networks and addresses: "tcp", "unix" and
// their kin. For a Unix socket it first removes the socket file at the address, whether its server
// has ended or still runs, as Python does. Closing the listener removes its own file if it is still
// there.
//
// It must be called in a task, and suspends it while the address is looked up. A cancel, or the end
// of ctx, leaves nothing behind. Errors are those of [Dial].
func Listen(ctx context.Context, network, address string, opts ...ListenOption) (*Listener, error) {
	l, err := enterSockets(ctx, "Listen")
	if err != nil {
		return nil, notOpened("listen", network, address, err)
	}
	if n, ok := l.drv.(driver.Network); ok {
		if err := l.current.yield(); err != nil { // a name is looked up
			return nil, notOpened("listen", network, address, err)
		}
		end, err := n.Listen(network, address)
		if err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Err: err}
		}
		return l.newListener(end), nil
	}
	lc := listenConfig(opts)
	nl, err := openOutside(ctx, func(ctx context.Context) (net.Listener, error) {
		return inPlaceOfStale(network, address, func() (net.Listener, error) { return lc.Listen(ctx, network, address) })
	})
	if err != nil {
		return nil, notOpened("listen", network, address, err)
	}
	return l.adoptListener(nl, true)
}

// inPlaceOfStale removes the socket file that an earlier server has left, and calls listen.
func inPlaceOfStale[T any](network, address string, listen func() (T, error)) (T, error) {
	var stale error
	if strings.HasPrefix(network, "unix") {
		stale = driver.RemoveStale(address)
	}
	ln, err := listen()
	if err != nil && stale != nil {
		err = notOpened("listen", network, address, fmt.Errorf("%w; the socket file that is there cannot be replaced: %w", err, stale))
	}
	return ln, err
}

// NewListener makes a Listener of nl, which then belongs to the Listener and must not be used any
// more; if NewListener fails, nl is closed. A listener of package net moves to the loop's poller.
// Any other is served by a goroutine that calls its Accept. The file of a Unix socket stays when
// the listener is closed: it belongs to the maker of the socket, such as a service manager or the
// program that this one replaces.
//
// NewListener is for the loop only and does not suspend. Errors are those of [NewConn]. Python: the
// sock argument of start_server.
func NewListener(ctx context.Context, nl net.Listener) (*Listener, error) {
	if nl == nil {
		return nil, fmt.Errorf("%w: nil listener (in NewListener)", ErrInvalidArgument)
	}
	l, err := socketsOf(ctx, "NewListener")
	if err != nil {
		nl.Close()
		return nil, err
	}
	return l.adoptListener(nl, false)
}

func (l *EventLoop) adoptListener(nl net.Listener, named bool) (*Listener, error) {
	addr := nl.Addr()
	end, err := l.sockets.AdoptListener(nl, named)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: addr.Network(), Addr: addr, Err: err}
	}
	return l.newListener(end), nil
}

func (l *EventLoop) newListener(end driver.Listener) *Listener {
	ln := &Listener{loop: l, end: end}
	ln.rd = half{loop: l, verb: "accept at", addr: end.LocalAddr()}
	end.Notify((*listenerReady)(ln))
	return ln
}

type listenerReady Listener

func (ln *listenerReady) Ready(read, write bool) {
	if read {
		ln.rd.wake()
	}
}

// Accept suspends the calling task until there is a connection. It is [Listener.AcceptContext] with
// the context of the task. The connection is a [*Conn].
func (ln *Listener) Accept() (net.Conn, error) {
	t, err := ln.loop.currentOn("Listener.Accept")
	if err != nil {
		return nil, ln.failure("accept", err)
	}
	c, err := ln.accept(t.ctx, t)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptContext suspends the calling task until there is a connection. A cancel of the task or the
// end of ctx ends the wait; no connection is lost. It returns [net.ErrClosed] if the listener is
// closed, also while it waits.
//
// If the system runs out of descriptors or memory, AcceptContext reports that to the exception
// handler, once, and tries again every second: the connections that wait need not be lost.
func (ln *Listener) AcceptContext(ctx context.Context) (*Conn, error) {
	t, err := ln.loop.enterOn(ctx, "Listener.AcceptContext")
	if err != nil {
		return nil, ln.failure("accept", err)
	}
	return ln.accept(ctx, t)
}

// acceptRetryDelay is CPython's ACCEPT_RETRY_DELAY.
const acceptRetryDelay = time.Second

func (ln *Listener) accept(ctx context.Context, t *task) (*Conn, error) {
	if ln.rd.expired() && !ln.closed {
		return nil, ln.failure("accept", os.ErrDeadlineExceeded)
	}
	for {
		c, err := ln.acceptNow(t)
		if err == nil {
			return c, nil
		}
		if err := ln.wait(ctx, t, err); err != nil {
			return nil, ln.failure("accept", err)
		}
	}
}

// acceptNow accepts a connection if one is there. Pass its error to wait, which knows whether
// waiting helps.
func (ln *Listener) acceptNow(t *task) (*Conn, error) {
	if err := ln.rd.begin(t); err != nil {
		return nil, ln.failure("accept", err)
	}
	if ln.closed {
		return nil, ln.failure("accept", net.ErrClosed)
	}
	end, err := ln.end.Accept()
	switch {
	case err == nil:
		ln.failed = false
		c := ln.loop.newConn(end)
		c.mustBeClosed(ln.loop.created())
		return c, nil
	case err == driver.ErrAgain:
		return nil, err
	case outOfResources(err):
		if !ln.failed {
			ln.failed = true
			ln.loop.CallExceptionHandler(ExceptionContext{Message: "socket.accept() out of system resource", Exception: ln.failure("accept", err), Task: t.self})
		}
		return nil, err
	}
	return nil, ln.failure("accept", err)
}

// wait suspends t until another acceptNow may succeed where the last failed with why. If none will,
// wait returns why.
func (ln *Listener) wait(ctx context.Context, t *task, why error) error {
	again := why == driver.ErrAgain
	if !again && !(ln.failed && outOfResources(why)) {
		return why
	}
	if ln.rd.expired() { // not before the attempt (conn 2)
		return os.ErrDeadlineExceeded
	}
	if again {
		return ln.rd.wait(ctx, t)
	}
	return ln.pause(ctx, t)
}

// pause waits before the next attempt. Closing the listener, its deadline, or another connection
// ends the wait.
func (ln *Listener) pause(ctx context.Context, t *task) error {
	again := &timer{when: ln.loop.after(acceptRetryDelay), cb: &ln.rd}
	ln.loop.setTimer(again)
	defer ln.loop.timers.remove(again)
	return ln.rd.wait(ctx, t)
}

func outOfResources(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (ln *Listener) failure(op string, err error) error {
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	if ln.end == nil { // of a zero Listener
		return &net.OpError{Op: op, Err: err}
	}
	return &net.OpError{Op: op, Net: ln.Addr().Network(), Addr: ln.Addr(), Err: goexit(err)}
}

// SetDeadline makes Accept fail with [os.ErrDeadlineExceeded] once the loop's clock has reached d;
// the zero time takes the deadline away. Any goroutine may call it, as [Conn.SetReadDeadline].
func (ln *Listener) SetDeadline(d time.Time) error {
	if err := ln.loop.checkOwner("Listener.SetDeadline"); !ln.loop.mayNow(err) {
		return ln.loop.orPost(err, func() { _ = ln.SetDeadline(d) })
	}
	if ln.closed {
		return ln.failure("set", net.ErrClosed)
	}
	ln.rd.setDeadline(d)
	return nil
}

// Close stops listening; a task that waits in Accept gets [net.ErrClosed]. Connections that were
// accepted stay open. The file of a Unix socket that [Listen] made is removed if it is still this
// listener's. Close does not suspend; more calls do nothing. Any goroutine may call it, as
// [Conn.Close].
func (ln *Listener) Close() error {
	if err := ln.loop.checkForeign("Listener.Close"); !ln.loop.mayNow(err) {
		return ln.loop.orPost(err, func() { _ = ln.Close() })
	}
	if ln.loop.closedAll() || ln.closed {
		return nil
	}
	ln.closed = true
	err := ln.end.Close()
	if ln.view != nil {
		_ = ln.view.closeOwn()
	}
	ln.rd.wake()
	return err
}

// Addr returns the address that the listener listens on. Any goroutine may call it.
func (ln *Listener) Addr() net.Addr { return ln.end.LocalAddr() }

// SyscallConn gives access to the descriptor, for its options. It does not suspend.
func (ln *Listener) SyscallConn() (syscall.RawConn, error) {
	raw, err := ln.end.SyscallConn()
	return raw, unsupported(err)
}
