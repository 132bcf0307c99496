package driver

import (
	"net"
	"syscall"
)

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
func (e *portableListener) SyscallConn() (syscall.RawConn, error) { return e.syscallConn(e.l) }

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
