//go:build linux || darwin || freebsd

package driver

import (
	"io"
	"net"
	"os"
	"syscall"
)

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
	s, err := p.share(c)
	if err == nil {
		c.Close()
	}
	return s, err
}

func (p *poller) share(c net.Conn) (*socket, error) {
	fd, err := descriptorOf(c.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	return p.newSocket(fd, c.LocalAddr().Network(), c.LocalAddr(), c.RemoteAddr())
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
			if n < len(p) && !s.greedy && !s.asleep {
				s.readable = false
			}
			if n == 0 && s.stream {
				s.readable = true // and it stays so: every later read must return the same
				return 0, io.EOF
			}
			return n, nil
		case errno == syscall.EAGAIN:
			return 0, s.again(toRead)
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
			return 0, s.again(toWrite)
		case errno != syscall.EINTR:
			return 0, os.NewSyscallError("write", errno)
		}
	}
}

func (s *socket) CloseRead() error { return s.shutdown(syscall.SHUT_RD) }

func (s *socket) CloseWrite() error {
	err := s.shutdown(syscall.SHUT_WR)
	if err == nil && !s.writable {
		s.p.due = append(s.p.due, &s.slot) // a write that waits fails now, which is no edge
	}
	return err
}

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
	c, err := s.duplicate()
	if err == nil {
		s.p.unregister(s.fd)
		s.release()
	}
	return c, err
}

// Share implements [Sharer].
func (s *socket) Share() (net.Conn, error) {
	c, err := s.duplicate()
	if err == nil {
		s.sleep()
	}
	return c, err
}

// duplicate returns a connection of package net for the same socket.
func (s *socket) duplicate() (net.Conn, error) {
	f, err := s.copy()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	restore := s.tcpOptions()
	c, err := net.FileConn(f) // makes another duplicate, and sets options as for a new connection
	if err == nil {
		restore()
	}
	return c, err
}

// tcpOptions notes the options that package net sets on every TCP connection, and returns a
// function that sets them again.
func (s *socket) tcpOptions() (restore func()) {
	type option struct{ level, name, value int }
	var all []option
	if s.network == "tcp" {
		all = []option{{level: syscall.IPPROTO_TCP, name: syscall.TCP_NODELAY}, {level: syscall.SOL_SOCKET, name: syscall.SO_KEEPALIVE}}
		for _, o := range keepAliveOptions {
			all = append(all, option{level: syscall.IPPROTO_TCP, name: o.name})
		}
	}
	for i, o := range all {
		all[i].value, _ = syscall.GetsockoptInt(s.fd, o.level, o.name)
	}
	return func() {
		for _, o := range all {
			_ = syscall.SetsockoptInt(s.fd, o.level, o.name, o.value)
		}
	}
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
	s.listens = true
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

// Share implements [ListenerSharer].
func (s *listenerSocket) Share() (net.Listener, error) {
	f, err := s.copy()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err == nil {
		s.sleep()
	}
	return l, err
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
			return nil, s.again(toRead)
		case syscall.EINTR, syscall.ECONNABORTED: // the peer has already given up
		default:
			return nil, os.NewSyscallError("accept", err)
		}
	}
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
