//go:build linux || darwin || freebsd

package driver

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// slots is the poller's table of descriptors, indexed by their numbers.
type slots struct {
	table      []*slot
	count      int
	generation uint32
	due        []*slot // to be told, without an event, that another write is worthwhile
}

// tellDue tells the notifiers of the slots in due.
func (t *slots) tellDue() {
	for _, s := range t.due {
		s.ready(false, true) // does nothing if it has been closed
	}
	t.due = t.due[:0]
}

// direction is a set of directions.
type direction uint8

const (
	toRead direction = 1 << iota
	toWrite
)

// A slot is a descriptor in the poller.
type slot struct {
	p          *poller
	fd         int // -1 once closed
	generation uint32
	watched    direction // of somebody else's descriptor (epoll 9); zero for our own
	to         Notifier

	readable, writable bool // edges that no attempt has cleared (epoll 1)
	greedy             bool // only EAGAIN clears readable (epoll 2)
	asleep             bool // not in the poller (share 1)

	close func()      // called when the poller closes
	of    *descriptor // nil if the descriptor is somebody else's
}

func (t *slots) put(s *slot) {
	t.generation++
	if t.generation == 0 {
		t.generation++
	}
	s.generation = t.generation
	if s.fd >= len(t.table) {
		t.table = append(t.table, make([]*slot, max(s.fd+1, 2*len(t.table), 64)-len(t.table))...)
	}
	if t.table[s.fd] == nil {
		t.count++
	} // else a watched one that its owner closed without telling the poller
	t.table[s.fd] = s
}

func (t *slots) remove(s *slot) {
	if s.fd < len(t.table) && t.table[s.fd] == s {
		t.table[s.fd] = nil
		t.count--
	}
}

// now returns the slot of a descriptor, nil if there is none.
func (t *slots) now(fd int) *slot {
	if fd >= 0 && fd < len(t.table) {
		return t.table[fd]
	}
	return nil
}

// at is now, but only for a slot of this generation (epoll 6).
func (t *slots) at(fd int, generation uint32) *slot {
	if s := t.now(fd); s != nil && s.generation == generation {
		return s
	}
	return nil
}

// some tells yield of the sockets from a place in the table on, and returns the next place, -1 if
// that was the last.
func (t *slots) some(from, most int, yield func(local net.Addr, listens bool)) (next int) {
	end := min(from+most, len(t.table))
	for ; from < end; from++ {
		if s := t.table[from]; s != nil && s.of != nil && s.of.network != "pipe" {
			yield(s.of.local, s.of.listens)
		}
	}
	if end == len(t.table) {
		return -1
	}
	return end
}

func (t *slots) closeAll() {
	for _, s := range t.table {
		if s != nil && s.close != nil {
			s.close()
		}
	}
	t.table, t.count = nil, 0
}

// ready notes edges and tells the notifier of both directions in one call (epoll 5).
func (s *slot) ready(read, write bool) {
	if s.watched != 0 {
		read, write = read && s.watched&toRead != 0, write && s.watched&toWrite != 0
	}
	s.readable = s.readable || read
	s.writable = s.writable || write
	if s.to != nil && (read || write) {
		s.to.Ready(read, write)
	}
}

// watch implements [Sockets.Watch].
func (p *poller) watch(fd int, read, write bool, w Notifier) error {
	is := direction(0)
	if read {
		is |= toRead
	}
	if write {
		is |= toWrite
	}
	s := p.now(fd)
	switch {
	case s == nil && is == 0:
		return nil
	// checked first, because the table grows to the largest number in it
	case s == nil && !isOpen(fd):
		return syscall.EBADF
	case s == nil:
		s = &slot{p: p, fd: fd}
		p.put(s)
		if err := p.setWatched(fd, s.generation, 0, is); err != nil {
			p.remove(s)
			return err
		}
	case s.watched == 0:
		return errors.New("the descriptor belongs to a connection")
	default:
		err := p.setWatched(fd, s.generation, s.watched, is)
		if errors.Is(err, syscall.ENOENT) && is != 0 { // closed, and opened again as another file
			err = p.setWatched(fd, s.generation, 0, is)
		}
		if is == 0 {
			p.remove(s)
			return nil // even if its owner has closed it
		}
		if err != nil {
			return err
		}
	}
	s.watched, s.to = is, w
	return nil
}

// isOpen reports whether fd is a descriptor.
func isOpen(fd int) bool {
	var st syscall.Stat_t
	return fd == int(int32(fd)) && syscall.Fstat(fd, &st) == nil
}

// isSocket reports whether c has a descriptor that can be taken over.
func isSocket(c any) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UDPConn, *net.UnixConn, *net.TCPListener, *net.UnixListener:
		return true
	}
	return false
}

// descriptorOf returns a duplicate of c's descriptor: the original is in the runtime's poller if
// package net waits for it.
func descriptorOf(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dup int
	var failed error
	if err := raw.Control(func(fd uintptr) { dup, failed = duplicate(int(fd)) }); err != nil {
		return -1, err
	}
	return dup, failed
}

func duplicate(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dup, err := syscall.Dup(fd)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(dup)
	return dup, nil
}

// descriptor is the part that the three kinds of sockets share.
type descriptor struct {
	slot
	network string
	local   net.Addr
	listens bool // it accepts connections
}

func (d *descriptor) open(p *poller, fd int, network string, local net.Addr) error {
	d.p, d.fd, d.network, d.local, d.of = p, fd, network, local, d
	d.readable, d.writable = true, true // the first attempt finds out
	d.greedy = network != "tcp"
	p.put(&d.slot)
	if err := p.register(fd, d.generation); err != nil {
		d.release()
		return err
	}
	return nil
}

// release closes the descriptor.
func (d *descriptor) release() {
	if d.fd >= 0 {
		fd := d.fd
		d.p.remove(&d.slot)
		d.fd, d.to = -1, nil
		syscall.Close(fd)
	}
}

// copy returns a file with a duplicate of the descriptor.
func (d *descriptor) copy() (*os.File, error) {
	if d.fd < 0 {
		return nil, net.ErrClosed
	}
	fd, err := duplicate(d.fd)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), ""), nil
}

// again is called when an attempt in a direction would have to wait. It returns ErrAgain, or an
// error if the poller does not take the descriptor back (share 1).
func (d *descriptor) again(to direction) error {
	if to == toRead {
		d.readable = false
	} else {
		d.writable = false
	}
	if d.asleep {
		if err := d.p.register(d.fd, d.generation); err != nil {
			return err
		}
		d.asleep = false
	}
	return ErrAgain
}

// sleep takes the descriptor out of the poller until the loop has to wait (share 1).
func (d *descriptor) sleep() {
	d.p.unregister(d.fd)
	d.asleep, d.readable, d.writable = true, true, true
}

func (d *descriptor) Notify(n Notifier)   { d.to = n }
func (d *descriptor) LocalAddr() net.Addr { return d.local }
func (d *descriptor) Close() error        { d.release(); return nil }

func (d *descriptor) SyscallConn() (syscall.RawConn, error) {
	if d.fd < 0 {
		return nil, net.ErrClosed
	}
	return rawConn{d}, nil
}

// rawConn gives access to the descriptor, to set options and to inspect it.
type rawConn struct{ d *descriptor }

func (c rawConn) Control(f func(fd uintptr)) error {
	if c.d.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(c.d.fd))
	return nil
}

func (c rawConn) Read(f func(fd uintptr) bool) error  { return callOnce(c, f) }
func (c rawConn) Write(f func(fd uintptr) bool) error { return callOnce(c, f) }

// SetOption implements [Endpoint].
func (d *descriptor) SetOption(o Option, value int) error {
	if d.fd < 0 {
		return net.ErrClosed
	}
	var err error
	switch o {
	case NoDelay:
		err = syscall.SetsockoptInt(d.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, value)
	case KeepAlive:
		err = syscall.SetsockoptInt(d.fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, value)
		if err == nil && value != 0 {
			for _, opt := range keepAliveOptions {
				if err = syscall.SetsockoptInt(d.fd, syscall.IPPROTO_TCP, opt.name, opt.value); err != nil {
					break
				}
			}
		}
	case Linger:
		l := syscall.Linger{}
		if value >= 0 {
			l.Onoff, l.Linger = 1, int32(value)
		}
		err = syscall.SetsockoptLinger(d.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &l)
	case ReadBuffer:
		err = syscall.SetsockoptInt(d.fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, value)
	case WriteBuffer:
		err = syscall.SetsockoptInt(d.fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, value)
	default:
		err = syscall.ENOPROTOOPT
	}
	return os.NewSyscallError("setsockopt", err)
}
