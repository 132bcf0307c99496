package driver

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Endpoints for which goroutines wait: where there is no poller, and for connections that are not
// descriptors.
//
//	portable 1: An attempt that cannot be served from what a goroutine has read starts a goroutine,
//	   unless one is under way, and returns ErrAgain. The result is kept in the endpoint, so a task
//	   that gives up its wait loses nothing.
//	portable 2: A write copies the bytes that it accepts and returns at once. A goroutine sends
//	   them, and meanwhile as many again are accepted. So an error may be reported one write late,
//	   as with a kernel's send buffer.
//	portable 3: Close and CloseWrite take effect after the accepted bytes have been sent. Closing
//	   the driver gives that lingerLimit and then aborts.
//	portable 4: A goroutine's news is put on a list; Wait and Poll tell it.
//	portable 5: A detached connection takes with it the read and the writes that are under way: the
//	   next read or write waits for them. The loop does not wait, and may be closed by then.
//	portable 6: A connection may do anything. One that exits the goroutine, as a test's does that
//	   calls t.Fatal, has failed with ErrGoexit.

// lingerLimit is how long a closed driver waits for its endpoints to send the bytes they accepted.
const lingerLimit = 5 * time.Second

const portableChunk = 64 << 10

// news is the list of endpoints that goroutines have news for, and of all endpoints.
type news struct {
	some atomic.Bool
	mu   sync.Mutex
	list []told
	all  map[interface{ shut() }]struct{} // open, or with a goroutine at work
	work sync.WaitGroup
}

type told struct {
	to          *portable
	read, write bool
}

// tell passes the news on to the notifiers, on the loop (portable 4).
func (n *news) tell() {
	if !n.some.Load() {
		return
	}
	n.mu.Lock()
	list := n.list
	n.list = nil
	n.some.Store(false)
	n.mu.Unlock()
	for _, e := range list {
		if e.to.to != nil {
			e.to.to.Ready(e.read, e.write)
		}
	}
}

func (n *news) add(e interface{ shut() }) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = make(map[interface{ shut() }]struct{})
	}
	n.all[e] = struct{}{}
}

func (n *news) drop(e interface{ shut() }) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, e)
}

// each tells yield of all open endpoints: a map has no place to go on from.
func (n *news) each(yield func(local net.Addr, listens bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for e := range n.all {
		_, listens := e.(Listener)
		if h, ok := e.(Handle); ok {
			yield(h.LocalAddr(), listens)
		}
	}
}

// close closes all open endpoints and waits for the goroutines.
func (n *news) close() {
	n.mu.Lock()
	var all []interface{ shut() }
	for e := range n.all {
		all = append(all, e)
	}
	n.mu.Unlock()
	for _, e := range all {
		e.shut()
	}
	n.work.Wait()
}

// portable is what the three kinds of endpoints have in common.
type portable struct {
	d  *Real
	to Notifier

	mu     sync.Mutex
	closed bool
}

func (e *portable) Notify(n Notifier) { e.to = n }

func (e *portable) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// post hands news to the loop (portable 4).
func (e *portable) post(read, write bool) {
	n := &e.d.news
	n.mu.Lock()
	n.list = append(n.list, told{e, read, write})
	n.some.Store(true)
	n.mu.Unlock()
	e.d.Wake()
}

// syscallConn gives access to the descriptor of c, which is that of e.
func (e *portable) syscallConn(c any) (syscall.RawConn, error) {
	if e.isClosed() {
		return nil, net.ErrClosed
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, ErrSockets
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	return controlled{raw}, nil
}

// controlled is the descriptor of a connection that a goroutine may be reading or writing; package
// net would wait for that goroutine.
type controlled struct{ syscall.RawConn }

func (c controlled) Read(f func(fd uintptr) bool) error  { return callOnce(c, f) }
func (c controlled) Write(f func(fd uintptr) bool) error { return callOnce(c, f) }

// callOnce is Read or Write on a descriptor for a function that must not wait.
func callOnce(c syscall.RawConn, f func(fd uintptr) bool) error {
	done := false
	err := c.Control(func(fd uintptr) { done = f(fd) })
	if err == nil && !done {
		return fmt.Errorf("to wait for a descriptor: %w", errors.ErrUnsupported)
	}
	return err
}

// setOption sets an option of c, which is that of e.
func (e *portable) setOption(c any, o Option, value int) error {
	if e.isClosed() { // c may be open still, to send what was accepted
		return net.ErrClosed
	}
	switch o {
	case NoDelay:
		if t, ok := c.(interface{ SetNoDelay(bool) error }); ok {
			return t.SetNoDelay(value != 0)
		}
	case KeepAlive:
		if t, ok := c.(interface{ SetKeepAlive(bool) error }); ok {
			return t.SetKeepAlive(value != 0)
		}
	case Linger:
		if t, ok := c.(interface{ SetLinger(int) error }); ok {
			return t.SetLinger(value)
		}
	case ReadBuffer:
		if t, ok := c.(interface{ SetReadBuffer(int) error }); ok {
			return t.SetReadBuffer(value)
		}
	case WriteBuffer:
		if t, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
			return t.SetWriteBuffer(value)
		}
	}
	return ErrSockets
}
