//go:build linux && !386 && !s390x

package driver

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"
)

// Datagrams of UDP without package syscall's addresses, each of which would be allocated. (On 386
// and s390x these calls go through another one.)

func receiveFrom(fd int, p []byte) (n int, from netip.AddrPort, zone uint32, errno syscall.Errno) {
	var sa syscall.RawSockaddrInet6 // the larger of the two
	size := uint32(unsafe.Sizeof(sa))
	r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, from, 0, errno
	}
	switch sa.Family {
	case syscall.AF_INET:
		sa4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&sa))
		from = netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	case syscall.AF_INET6:
		from, zone = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), networkOrder(sa.Port)), sa.Scope_id
	}
	return int(r), from, zone, 0
}

func sendTo(fd int, p []byte, to netip.AddrPort, inet6 bool, zone uint32) syscall.Errno {
	if inet6 {
		sa := syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16(), Scope_id: zone}
		return sendRaw(fd, p, unsafe.Pointer(&sa), unsafe.Sizeof(sa))
	}
	sa := syscall.RawSockaddrInet4{Family: syscall.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4()}
	return sendRaw(fd, p, unsafe.Pointer(&sa), unsafe.Sizeof(sa))
}

func sendRaw(fd int, p []byte, sa unsafe.Pointer, size uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, uintptr(sa), size)
	return errno
}

// networkOrder converts a port between its form in memory and a number, in both directions.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
