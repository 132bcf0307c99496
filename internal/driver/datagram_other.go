//go:build darwin || freebsd || (linux && (386 || s390x))

package driver

import (
	"net/netip"
	"syscall"
)

func receiveFrom(fd int, p []byte) (n int, from netip.AddrPort, zone uint32, errno syscall.Errno) {
	n, sa, err := syscall.Recvfrom(fd, p, 0)
	if err != nil {
		return 0, from, 0, err.(syscall.Errno)
	}
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		from = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		from, zone = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), sa.ZoneId
	}
	return n, from, zone, 0
}

func sendTo(fd int, p []byte, to netip.AddrPort, inet6 bool, zone uint32) syscall.Errno {
	var err error
	if inet6 {
		err = syscall.Sendto(fd, p, 0, &syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: zone})
	} else {
		err = syscall.Sendto(fd, p, 0, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err != nil {
		return err.(syscall.Errno)
	}
	return 0
}
