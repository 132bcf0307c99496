//go:build linux || darwin || freebsd

package driver

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

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

// Share implements [PacketSharer].
func (s *packetSocket) Share() (net.PacketConn, error) {
	f, err := s.copy()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err == nil {
		s.sleep()
	}
	return c, err
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
		return s.again(toRead)
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
		return s.again(toWrite)
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
		if len(a.IP) == 0 { // this machine
			host := netip.IPv4Unspecified()
			if s.inet6 {
				host = netip.IPv6Unspecified()
			}
			return s.WriteToAddrPort(p, netip.AddrPortFrom(host, uint16(a.Port)))
		}
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
