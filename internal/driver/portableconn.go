package driver

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// portableConn is a connection. While reading is set, in and the other read fields belong to the
// reading goroutine; while writing is set, out belongs to the writing one.
type portableConn struct {
	portable
	c         net.Conn
	datagrams bool // a read takes a whole datagram or drops its rest; an empty one counts

	reading, writing  bool
	brought           bool // unread holds bytes, or a datagram
	ended             bool // nothing may be written any more
	detached          bool // the connection was given back (portable 5)
	in, unread        []byte
	out, next         []byte // being written, and to be written next
	readErr, writeErr error
	closeAfter        bool         // the writing goroutine is to close
	endAfter          func() error // by which it is to end the stream
	idle              sync.Cond
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

func (e *portableConn) SyscallConn() (syscall.RawConn, error) { return e.syscallConn(e.c) }

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
		return 0, e.failed(&e.readErr)
	}
	if e.datagrams {
		e.in = roomFor(p, e.in)
	} else if e.in == nil {
		e.in = make([]byte, portableChunk)
	}
	e.reading = true
	e.d.news.work.Add(1)
	go e.read() // its result is kept for a later Read (portable 1)
	return 0, ErrAgain
}

// failed returns the error in err. It stays, because the stream is broken; but among datagrams it
// is that of one, and the next may arrive.
func (e *portableConn) failed(err *error) error {
	was := *err
	if e.datagrams {
		*err = nil
	}
	return was
}

// roomFor returns a buffer for a datagram that is to be read into p, which is in if that is large
// enough.
func roomFor(p, in []byte) []byte {
	if n := max(len(p), portableChunk); len(in) < n {
		return make([]byte, n)
	}
	return in
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
		return 0, e.failed(&e.writeErr)
	case e.ended:
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	case len(p) == 0 && !e.datagrams:
		return 0, nil
	case e.writing && (e.datagrams || len(e.next) >= portableChunk):
		return 0, ErrAgain
	}
	n := len(p)
	if !e.datagrams {
		n = min(n, portableChunk-len(e.next))
	}
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
		if e.endAfter != nil && err == nil {
			_ = e.endAfter()
		}
		if e.closeAfter {
			e.closeAfter = false
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
	err := e.closeWrite()
	if err == nil && e.writing {
		e.post(false, true) // a write that waits fails now
	}
	return err
}

func (e *portableConn) closeWrite() error {
	h, ok := e.c.(interface{ CloseWrite() error })
	if !ok {
		return ErrSockets
	}
	if e.writing {
		e.endAfter, e.ended = h.CloseWrite, true
		return nil
	}
	err := h.CloseWrite()
	e.ended = e.ended || err == nil
	return err
}

func (e *portableConn) CloseRead() error {
	if e.isClosed() {
		return net.ErrClosed
	}
	return e.closeRead()
}

func (e *portableConn) closeRead() error {
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
	err := c.e.writeErr
	switch {
	case c.closed:
		err = net.ErrClosed
	case err != nil:
		err = c.e.failed(&c.e.writeErr)
	case c.e.ended:
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

func (c *detachedConn) CloseRead() error { return c.e.closeRead() }

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

func (e *portableConn) SetOption(o Option, value int) error {
	return e.setOption(e.c, o, value)
}
