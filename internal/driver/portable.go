package driver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
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

// post hands news to the loop (portable 4).
func (e *portable) post(read, write bool) {
	n := &e.d.news
	n.mu.Lock()
	n.list = append(n.list, told{e, read, write})
	n.some.Store(true)
	n.mu.Unlock()
	e.d.Wake()
}

// portableConn is a connection. While reading is set, in and the other read fields belong to the
// reading goroutine; while writing is set, out belongs to the writing one.
type portableConn struct {
	portable
	c         net.Conn
	datagrams bool // a read takes a whole datagram or drops its rest; an empty one counts

	reading, writing     bool
	brought              bool // unread holds bytes, or a datagram
	ended                bool // nothing may be written any more
	detached             bool // the connection was given back (portable 5)
	in, unread           []byte
	out, next            []byte // being written, and to be written next
	readErr, writeErr    error
	closeAfter, endAfter bool // the writing goroutine is to close, or to end the stream
	idle                 sync.Cond
}

func (n *news) adopt(d *Real, c net.Conn) *portableConn {
	e := &portableConn{c: c, datagrams: sendsDatagrams(c)}
	e.d = d
	e.idle.L = &e.mu
	n.add(e)
	return e
}

func (e *portableConn) LocalAddr() net.Addr  { return e.c.LocalAddr() }
func (e *portableConn) RemoteAddr() net.Addr { return e.c.RemoteAddr() }

func (e *portableConn) SyscallConn() (syscall.RawConn, error) { return syscallConn(e.c) }

func syscallConn(c any) (syscall.RawConn, error) {
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

func (e *portableConn) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case len(p) == 0:
		return 0, nil
	case e.reading:
		return 0, ErrAgain
	case e.brought:
		return e.take(p), nil
	case e.readErr != nil:
		return 0, e.readErr
	}
	if e.in == nil {
		e.in = make([]byte, portableChunk)
	}
	e.reading = true
	e.d.news.work.Add(1)
	go e.read() // its result is kept for a later Read (portable 1)
	return 0, ErrAgain
}

// take copies from the bytes that a goroutine has read.
func (e *portableConn) take(p []byte) int {
	n := copy(p, e.unread)
	e.unread = e.unread[n:]
	e.brought = len(e.unread) > 0 && !e.datagrams
	return n
}

func (e *portableConn) read() {
	var n int
	var err error
	defer func() { // the connection may exit the goroutine (portable 6)
		e.mu.Lock()
		e.reading = false
		e.unread, e.readErr = e.in[:n], err
		e.brought = n > 0 || err == nil
		e.shedAtEnd()
		e.leave(true, false)
	}()
	for n == 0 && err == nil {
		err = ErrGoexit
		if n, err = e.c.Read(e.in); e.datagrams {
			break
		}
	}
}

// Shed implements [Shedder] for a pipe that is read. If a goroutine waits at the pipe, it is shed
// when the goroutine sees the end.
func (e *portableConn) Shed() bool {
	c, ok := e.c.(*pipeConn)
	if !ok || c.write {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.reading && !e.closed && e.readErr == nil {
		kept := slices.Clone(e.unread) // the old memory is used by the next read
		if shed(&kept, c.readNow) {
			e.readErr = io.EOF
		}
		e.unread, e.brought = kept, len(kept) > 0
	}
	e.shedAtEnd()
	return e.readErr != nil
}

// shedAtEnd gives a pipe's descriptor back once it has been read to its end. The caller holds the
// lock.
func (e *portableConn) shedAtEnd() {
	if _, ok := e.c.(*pipeConn); ok && e.readErr == io.EOF {
		_ = e.shutLocked()
	}
}

// leave ends a goroutine's work. The goroutine holds the lock.
func (e *portableConn) leave(read, write bool) {
	detached := e.detached
	e.idle.Broadcast()
	e.mu.Unlock()
	if !detached {
		e.post(read, write)
		e.d.news.work.Done()
	}
}

// sendsDatagrams reports whether a write to c is sent whole or not at all. A [net.UnixConn] has the
// methods for datagrams even if it is a stream.
func sendsDatagrams(c net.Conn) bool {
	if u, ok := c.(*net.UnixConn); ok {
		return u.LocalAddr().Network() != "unix"
	}
	_, ok := c.(net.PacketConn)
	return ok
}

// Write accepts a copy of p, or of a part, which a goroutine sends (portable 2).
func (e *portableConn) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case e.writeErr != nil:
		return 0, e.writeErr
	case e.ended:
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	case len(p) == 0 && !e.datagrams:
		return 0, nil
	case e.writing && (e.datagrams || len(e.next) >= portableChunk):
		return 0, ErrAgain
	}
	n := min(len(p), portableChunk-len(e.next))
	e.next = append(e.next, p[:n]...)
	if !e.writing {
		e.writing = true
		e.out, e.next = e.next, e.out[:0]
		e.d.news.work.Add(1)
		go e.write()
	}
	return n, nil
}

func (e *portableConn) write() {
	var err error
	locked := false
	defer func() { // the connection may exit the goroutine (portable 6)
		if !locked {
			e.mu.Lock()
		}
		e.writeErr, e.writing = err, false
		defer e.leave(false, true)
		if e.endAfter && err == nil {
			_ = closeWrite(e.c)
		}
		if e.closeAfter {
			e.shutLocked()
		}
	}()
	for {
		err = ErrGoexit
		_, err = e.c.Write(e.out)
		e.mu.Lock()
		if locked = err != nil || len(e.next) == 0; locked {
			return
		}
		e.out, e.next = e.next, e.out[:0]
		detached := e.detached
		e.mu.Unlock()
		if !detached {
			e.post(false, true)
		}
	}
}

// CloseWrite ends the stream behind the accepted bytes (portable 3).
func (e *portableConn) CloseWrite() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	return e.closeWrite()
}

func (e *portableConn) closeWrite() error {
	if e.writing {
		e.endAfter, e.ended = true, true
		return nil
	}
	err := closeWrite(e.c)
	e.ended = e.ended || err == nil
	return err
}

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return ErrSockets
}

func (e *portableConn) CloseRead() error {
	if h, ok := e.c.(interface{ CloseRead() error }); ok {
		return h.CloseRead()
	}
	return ErrSockets
}

// Close closes the connection behind the accepted bytes (portable 3).
func (e *portableConn) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed, e.to = true, nil
	if e.writing {
		e.closeAfter = true
		return nil
	}
	return e.shutLocked()
}

func (e *portableConn) shutLocked() error {
	e.d.news.drop(e)
	return e.c.Close()
}

func (e *portableConn) Abort() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed && !e.closeAfter {
		return nil
	}
	e.closed, e.closeAfter, e.to = true, false, nil
	if t, ok := e.c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	return e.shutLocked()
}

// shut closes the connection when its driver closes.
func (e *portableConn) shut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed, e.to = true, nil
	if e.writing {
		e.closeAfter = true
		_ = e.c.SetWriteDeadline(time.Now().Add(lingerLimit))
		return
	}
	_ = e.shutLocked()
}

// Detach gives the connection back, with everything under way (portable 5).
func (e *portableConn) Detach() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	e.closed, e.detached, e.to = true, true, nil
	e.d.news.drop(e)
	for _, working := range []bool{e.reading, e.writing} {
		if working {
			e.d.news.work.Done()
		}
	}
	if e.reading || e.writing || e.brought || e.readErr != nil || e.writeErr != nil {
		return &detachedConn{Conn: e.c, e: e}, nil
	}
	return e.c, nil
}

// detachedConn is a connection that was detached with a read or write under way, unread bytes, or
// an error. The endpoint's mutex guards these.
type detachedConn struct {
	net.Conn
	e      *portableConn
	closed bool
}

func (c *detachedConn) Read(p []byte) (int, error) {
	c.e.mu.Lock()
	for c.e.reading && !c.closed {
		c.e.idle.Wait()
	}
	switch err := c.e.readErr; {
	case c.closed:
		c.e.mu.Unlock()
		return 0, net.ErrClosed
	case c.e.brought:
		defer c.e.mu.Unlock()
		return c.e.take(p), nil
	case err != nil:
		c.e.readErr = nil // the next read asks the connection
		c.e.mu.Unlock()
		return 0, err
	}
	c.e.mu.Unlock()
	return c.Conn.Read(p)
}

func (c *detachedConn) Write(p []byte) (int, error) {
	c.e.mu.Lock()
	for c.e.writing && !c.closed {
		c.e.idle.Wait()
	}
	err := c.e.writeErr // the error stays: the bytes accepted before were not sent
	switch {
	case c.closed:
		err = net.ErrClosed
	case err == nil && c.e.ended:
		err = os.NewSyscallError("write", syscall.EPIPE)
	}
	c.e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *detachedConn) CloseWrite() error {
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return c.e.closeWrite()
}

func (c *detachedConn) CloseRead() error { return c.e.CloseRead() }

// Close takes effect behind the accepted bytes, and wakes waiting readers and writers at once.
func (c *detachedConn) Close() error {
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.e.idle.Broadcast()
	if c.e.writing {
		c.e.closeAfter = true
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}

func (e *portableConn) SetOption(o Option, value int) error { return setOption(e.c, o, value) }

func setOption(c any, o Option, value int) error {
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

// portableListener accepts at most one connection ahead of being asked.
type portableListener struct {
	portable
	l         net.Listener
	file      socketFile
	accepting bool
	accepted  net.Conn
	err       error
}

func (n *news) adoptListener(d *Real, l net.Listener, named bool) *portableListener {
	e := &portableListener{l: l, file: fileOf(l, named)}
	e.d = d
	n.add(e)
	return e
}

func (e *portableListener) LocalAddr() net.Addr                   { return e.l.Addr() }
func (e *portableListener) SyscallConn() (syscall.RawConn, error) { return syscallConn(e.l) }

func (e *portableListener) Accept() (Endpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, net.ErrClosed
	case e.accepting:
		return nil, ErrAgain
	case e.accepted != nil:
		c := e.accepted
		e.accepted = nil
		if end, err := e.d.adopt(c); err == nil {
			return end, nil
		}
		return e.d.news.adopt(e.d, c), nil // the poller needs a descriptor, and c has none
	case e.err != nil:
		err := e.err
		e.err = nil
		return nil, err
	}
	e.accepting = true
	e.d.news.work.Go(e.accept)
	return nil, ErrAgain
}

func (e *portableListener) accept() {
	var c net.Conn
	err := ErrGoexit
	defer func() { // the listener may exit the goroutine (portable 6)
		e.mu.Lock()
		defer e.post(true, false)
		defer e.mu.Unlock()
		e.accepting = false
		if !e.closed {
			e.accepted, e.err = c, err
		} else if err == nil {
			c.Close()
		}
	}()
	c, err = e.l.Accept()
}

func (e *portableListener) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed, e.to = true, nil
	if e.accepted != nil {
		e.accepted.Close()
	}
	e.d.news.drop(e)
	e.file.remove()
	return e.l.Close()
}

func (e *portableListener) shut() { _ = e.Close() }

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
func (e *portablePacketConn) SyscallConn() (syscall.RawConn, error) { return syscallConn(e.c) }
func (e *portablePacketConn) SetOption(o Option, value int) error   { return setOption(e.c, o, value) }

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
	if e.in == nil {
		e.in = make([]byte, portableChunk)
	}
	e.reading = true
	e.d.news.work.Go(e.receive)
	return 0, nil, ErrAgain
}

func (e *portablePacketConn) receive() {
	n, from, err := e.c.ReadFrom(e.in)
	e.mu.Lock()
	e.reading, e.full = false, err == nil
	e.n, e.from, e.readErr = n, from, err
	e.mu.Unlock()
	e.post(true, false)
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
	_, err := e.c.WriteTo(e.out, e.dest)
	e.mu.Lock()
	e.writing, e.sendErr = false, err
	if e.closed {
		e.c.Close()
	}
	e.mu.Unlock()
	e.post(false, true)
}

func (e *portablePacketConn) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	n, from, err := e.ReadFrom(p)
	if a, ok := from.(*net.UDPAddr); ok {
		return n, a.AddrPort(), err
	}
	return n, netip.AddrPort{}, err
}

func (e *portablePacketConn) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	return e.WriteTo(p, net.UDPAddrFromAddrPort(to))
}

func (e *portablePacketConn) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed, e.to = true, nil
	e.d.news.drop(e)
	if e.writing {
		return nil // the goroutine closes
	}
	return e.c.Close()
}

func (e *portablePacketConn) shut() { _ = e.Close() }
