//go:build linux || darwin || freebsd

package driver

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// slots is the poller's table of descriptors, indexed by their numbers.
type slots struct {
	table      []*slot
	count      int
	generation uint32
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

	close func() // called when the poller closes
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
}

func (d *descriptor) open(p *poller, fd int, network string, local net.Addr) error {
	d.p, d.fd, d.network, d.local = p, fd, network, local
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

// socket is a connection.
type socket struct {
	descriptor
	remote net.Addr
	stream bool // a read of zero bytes is the end
	pipe   bool // a pipe, not a socket
}

func (p *poller) newSocket(fd int, network string, local, remote net.Addr) (*socket, error) {
	s := &socket{remote: remote, stream: network != "udp" && network != "unixgram"}
	s.close = s.release
	if err := s.open(p, fd, network, local); err != nil {
		return nil, err
	}
	return s, nil
}

func (p *poller) adopt(c net.Conn) (*socket, error) {
	fd, err := descriptorOf(c.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	s, err := p.newSocket(fd, c.LocalAddr().Network(), c.LocalAddr(), c.RemoteAddr())
	if err == nil {
		c.Close()
	}
	return s, err
}

func (s *socket) RemoteAddr() net.Addr { return s.remote }

func (s *socket) Read(p []byte) (int, error) {
	if s.fd < 0 {
		return 0, net.ErrClosed
	}
	if !s.readable {
		return 0, ErrAgain
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		var n int
		var errno syscall.Errno
		if s.pipe {
			n, errno = read(s.fd, p)
		} else {
			n, errno = receive(s.fd, p)
		}
		switch {
		case errno == 0:
			if n < len(p) && !s.greedy {
				s.readable = false
			}
			if n == 0 && s.stream {
				s.readable = true // and it stays so: every later read must return the same
				return 0, io.EOF
			}
			return n, nil
		case errno == syscall.EAGAIN:
			s.readable = false
			return 0, ErrAgain
		case errno != syscall.EINTR:
			return 0, os.NewSyscallError("read", errno)
		}
	}
}

func (s *socket) Write(p []byte) (int, error) {
	if s.fd < 0 {
		return 0, net.ErrClosed
	}
	if !s.writable {
		return 0, ErrAgain
	}
	for {
		var n int
		var errno syscall.Errno
		if s.pipe {
			n, errno = write(s.fd, p)
		} else {
			n, errno = send(s.fd, p)
		}
		switch {
		case errno == 0:
			return n, nil // a short write does not clear writable (epoll 3)
		case errno == syscall.EAGAIN:
			s.writable = false
			return 0, ErrAgain
		case errno != syscall.EINTR:
			return 0, os.NewSyscallError("write", errno)
		}
	}
}

func (s *socket) CloseWrite() error { return s.shutdown(syscall.SHUT_WR) }
func (s *socket) CloseRead() error  { return s.shutdown(syscall.SHUT_RD) }

func (s *socket) shutdown(how int) error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	return os.NewSyscallError("shutdown", syscall.Shutdown(s.fd, how))
}

func (s *socket) Abort() error {
	if s.fd < 0 {
		return nil
	}
	if s.network == "tcp" {
		_ = s.SetOption(Linger, 0)
	}
	s.release()
	return nil
}

func (s *socket) Detach() (net.Conn, error) {
	if s.fd < 0 {
		return nil, net.ErrClosed
	}
	fd, err := duplicate(s.fd)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	c, err := net.FileConn(f) // makes another duplicate
	if err != nil {
		return nil, err
	}
	s.p.unregister(s.fd)
	s.release()
	return c, nil
}

// listenerSocket accepts connections.
type listenerSocket struct {
	descriptor
	file socketFile
}

func (p *poller) adoptListener(l net.Listener, named bool) (*listenerSocket, error) {
	fd, err := descriptorOf(l.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	s := new(listenerSocket)
	s.close = func() { s.Close() }
	if err := s.open(p, fd, l.Addr().Network(), l.Addr()); err != nil {
		return nil, err
	}
	s.file = fileOf(l, named)
	if s.network == "tcp" { // accepted connections inherit these options
		if err = s.SetOption(NoDelay, 1); err == nil {
			err = s.SetOption(KeepAlive, 1)
		}
		if err != nil {
			s.Close()
			return nil, err
		}
	}
	l.Close()
	return s, nil
}

// Close also removes a Unix socket's file.
func (s *listenerSocket) Close() error {
	s.file.remove()
	s.release()
	return nil
}

func (s *listenerSocket) Accept() (Endpoint, error) {
	if s.fd < 0 {
		return nil, net.ErrClosed
	}
	if !s.readable {
		return nil, ErrAgain
	}
	for {
		fd, sa, err := accept(s.fd)
		switch err {
		case nil:
			local := s.local
			if sa, err := syscall.Getsockname(fd); err == nil {
				local = address(s.network, sa)
			}
			c, err := s.p.newSocket(fd, s.network, local, address(s.network, sa))
			if err != nil {
				return nil, err
			}
			if !optionsInherited && s.network == "tcp" {
				_ = c.SetOption(NoDelay, 1)
				_ = c.SetOption(KeepAlive, 1)
			}
			return c, nil
		case syscall.EAGAIN:
			s.readable = false
			return nil, ErrAgain
		case syscall.EINTR, syscall.ECONNABORTED: // the peer has already given up
		default:
			return nil, os.NewSyscallError("accept", err)
		}
	}
}

// packetSocket sends and receives datagrams.
type packetSocket struct {
	descriptor
	inet6 bool // IPv4 addresses are to be mapped
	zone  zone // the last zone seen
}

// zone is a network interface, which distinguishes link-local addresses.
type zone struct {
	index uint32
	name  string
}

// nameOf returns package net's name for the interface. Asking the system for it costs far more than
// a datagram.
func (z *zone) nameOf(index uint32) string {
	if index != z.index {
		z.index, z.name = index, zoneName(index)
	}
	return z.name
}

func (p *poller) adoptPacketConn(c net.PacketConn) (*packetSocket, error) {
	fd, err := descriptorOf(c.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	s := new(packetSocket)
	s.close = s.release
	if err := s.open(p, fd, c.LocalAddr().Network(), c.LocalAddr()); err != nil {
		return nil, err
	}
	sa, _ := syscall.Getsockname(fd)
	_, s.inet6 = sa.(*syscall.SockaddrInet6)
	c.Close()
	return s, nil
}

// receiving and sending make the checks before an attempt; received and sent handle its result.
func (s *packetSocket) receiving() error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	if !s.readable {
		return ErrAgain
	}
	return nil
}

func (s *packetSocket) received(errno syscall.Errno) error {
	if errno == syscall.EAGAIN {
		s.readable = false
		return ErrAgain
	}
	return os.NewSyscallError("recvfrom", errno)
}

func (s *packetSocket) sending() error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	if !s.writable {
		return ErrAgain
	}
	return nil
}

func (s *packetSocket) sent(errno syscall.Errno) error {
	if errno == syscall.EAGAIN {
		s.writable = false
		return ErrAgain
	}
	return os.NewSyscallError("sendto", errno)
}

// udpAddr is a net.UDPAddr in one piece.
type udpAddr struct {
	net.UDPAddr
	bytes [net.IPv6len]byte
}

func (s *packetSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	if s.network == "udp" {
		n, from, err := s.ReadFromAddrPort(p)
		if err != nil {
			return 0, nil, err
		}
		ip := from.Addr()
		a := &udpAddr{UDPAddr: net.UDPAddr{Port: int(from.Port()), Zone: ip.Zone()}}
		if ip.Is4() {
			b := ip.As4()
			a.IP = a.bytes[:copy(a.bytes[:], b[:])]
		} else {
			a.bytes = ip.As16()
			a.IP = a.bytes[:]
		}
		return n, &a.UDPAddr, nil
	}
	if err := s.receiving(); err != nil {
		return 0, nil, err
	}
	for {
		n, from, err := syscall.Recvfrom(s.fd, p, 0)
		if err == nil {
			return n, address(s.network, from), nil
		}
		if err != syscall.EINTR {
			return 0, nil, s.received(err.(syscall.Errno))
		}
	}
}

func (s *packetSocket) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	if s.network != "udp" {
		n, _, err := s.ReadFrom(p)
		return n, netip.AddrPort{}, err
	}
	if err := s.receiving(); err != nil {
		return 0, netip.AddrPort{}, err
	}
	for {
		n, from, zone, errno := receiveFrom(s.fd, p)
		if errno == 0 {
			if zone != 0 {
				from = netip.AddrPortFrom(from.Addr().WithZone(s.zone.nameOf(zone)), from.Port())
			}
			return n, from, nil
		}
		if errno != syscall.EINTR {
			return 0, netip.AddrPort{}, s.received(errno)
		}
	}
}

func (s *packetSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	switch a := to.(type) {
	case *net.UDPAddr:
		return s.WriteToAddrPort(p, a.AddrPort())
	case *net.UnixAddr:
		if err := s.sending(); err != nil {
			return 0, err
		}
		for {
			err := syscall.Sendto(s.fd, p, 0, &syscall.SockaddrUnix{Name: a.Name})
			if err == nil {
				return len(p), nil
			}
			if err != syscall.EINTR {
				return 0, s.sent(err.(syscall.Errno))
			}
		}
	}
	return 0, ErrSockets
}

func (s *packetSocket) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	if s.network != "udp" {
		return 0, ErrSockets
	}
	if err := s.sending(); err != nil {
		return 0, err
	}
	var zone uint32
	switch ip := to.Addr().Unmap(); {
	case !ip.IsValid():
		return 0, &net.AddrError{Err: "missing address", Addr: to.String()}
	case s.inet6:
		zone = zoneIndex(ip.Zone())
	case !ip.Is4():
		return 0, &net.AddrError{Err: "IPv6 address on an IPv4 socket", Addr: to.String()}
	default:
		to = netip.AddrPortFrom(ip, to.Port())
	}
	for {
		errno := sendTo(s.fd, p, to, s.inet6, zone)
		if errno == 0 {
			return len(p), nil
		}
		if errno != syscall.EINTR {
			return 0, s.sent(errno)
		}
	}
}

// zoneIndex returns the number of an interface that package net knows by name, or by its number.
func zoneIndex(name string) uint32 {
	if name == "" {
		return 0
	}
	if i, err := net.InterfaceByName(name); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.Atoi(name)
	return uint32(n)
}

func zoneName(index uint32) string {
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		return i.Name
	}
	return strconv.Itoa(int(index))
}

// address returns sa in package net's form.
func address(network string, sa syscall.Sockaddr) net.Addr {
	var ip net.IP
	var port int
	var zone string
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		ip, port = net.IP(a.Addr[:]), a.Port
	case *syscall.SockaddrInet6:
		ip, port = net.IP(a.Addr[:]), a.Port
		if a.ZoneId != 0 {
			zone = zoneName(a.ZoneId)
		}
	case *syscall.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: network}
	}
	switch network {
	case "tcp":
		return &net.TCPAddr{IP: ip, Port: port, Zone: zone}
	case "udp":
		return &net.UDPAddr{IP: ip, Port: port, Zone: zone}
	}
	return &net.UnixAddr{Net: network}
}
