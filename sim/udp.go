package sim

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A udpSocket is a socket for datagrams, connected or not.
//
//	udp 1: A datagram goes to the socket that is connected to its sender, else to the one at its
//	   address, else to the one at all addresses of the host. A connected socket receives from its
//	   peer only.
//	udp 2: A socket keeps arrived datagrams up to the size of its buffer; each counts some bytes
//	   more than its length. Datagrams that do not fit are lost.
//	udp 3: Sending never waits. A datagram of more than 65,507 bytes is refused with EMSGSIZE. A
//	   wire whose bandwidth is used up loses datagrams that would have to wait too long.
//	udp 4: A datagram without a receiving socket is refused, if the address has a system: the next
//	   operation of a socket that is connected to that address returns ECONNREFUSED; other sockets
//	   are not told. Refusals are lost like datagrams.
type udpSocket struct {
	attention
	at    netip.AddrPort
	peer  netip.AddrPort // if the socket is connected
	queue []*datagram
	size  int // of the queue (udp 2)
	limit int

	refused bool // a refusal has come and is not reported yet (udp 4)
	deaf    bool
	mute    bool
}

const (
	maxDatagram      = 65507
	datagramHeader   = 28
	datagramOverhead = 512
	socketBuffer     = 208 << 10 // net.core.rmem_default
)

// A datagram is one message between sockets.
type datagram struct {
	src, dst netip.AddrPort
	data     []byte
}

func (d *datagram) noun() noun { return aDatagram }
func (d *datagram) size() int  { return datagramHeader + len(d.data) }

func (d *datagram) arrive(s *system) {
	if !s.on {
		return
	}
	if u := s.socketFor(d.dst, d.src); u != nil {
		u.take(d)
		return
	}
	s.wireTo(d.src.Addr()).carryDatagram(&refusal{from: d.dst, to: d.src})
}

// socketFor returns the socket that receives a datagram (udp 1).
func (s *system) socketFor(at, from netip.AddrPort) *udpSocket {
	var found *udpSocket
	best := 0
	for _, u := range s.sockets[at.Port()] {
		fit := 1
		switch {
		case u.peer.IsValid() && u.peer != from, !overlap(u.at.Addr(), at.Addr()):
			continue
		case u.peer.IsValid():
			fit = 3
		case u.at.Addr() == at.Addr():
			fit = 2
		}
		if fit > best {
			found, best = u, fit
		}
	}
	return found
}

// A refusal tells the sender of a datagram that no socket received it (udp 4).
type refusal struct{ from, to netip.AddrPort }

func (r *refusal) noun() noun { return aRefusal }
func (r *refusal) size() int  { return 2 * datagramHeader }

func (r *refusal) arrive(s *system) {
	if u := s.socketFor(r.to, r.from); s.on && u != nil && u.peer.IsValid() {
		u.refused = true
		u.wake(true, true)
	}
}

func (s *process) newUDP(at, peer netip.AddrPort) (*udpSocket, error) {
	at, err := s.sys.bind(at, s.sys.socketInUse)
	if err != nil {
		return nil, err
	}
	u := &udpSocket{attention: attention{process: s}, at: at, peer: peer, limit: socketBuffer}
	s.sys.sockets[at.Port()] = append(s.sys.sockets[at.Port()], u)
	return u, nil
}

func (s *process) dialUDP(from, to netip.AddrPort) (driver.Connecting, error) {
	u, err := s.newUDP(from, to)
	if err != nil {
		return nil, err
	}
	return u, nil
}

// take queues a datagram, or loses it if there is no room (udp 2).
func (u *udpSocket) take(d *datagram) {
	if u.size+len(d.data)+datagramOverhead > u.limit || u.deaf {
		return
	}
	u.size += len(d.data) + datagramOverhead
	u.queue = append(u.queue, d)
	u.wake(true, false)
}

func (u *udpSocket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(u.at) }

func (u *udpSocket) RemoteAddr() net.Addr {
	if !u.peer.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(u.peer)
}

// Connect implements [driver.Connecting]. A datagram socket is connected as soon as it is made.
func (u *udpSocket) Connect() error {
	if u.shut() {
		return net.ErrClosed
	}
	return nil
}

// failed reports a refusal, once.
func (u *udpSocket) failed(call string) error {
	switch {
	case u.shut():
		return net.ErrClosed
	case u.refused:
		u.refused = false
		return os.NewSyscallError(call, syscall.ECONNREFUSED)
	}
	return nil
}

func (u *udpSocket) receive(call string, p []byte) (int, netip.AddrPort, error) {
	if err := u.failed(call); err != nil {
		return 0, netip.AddrPort{}, err
	}
	if len(u.queue) == 0 {
		if u.deaf {
			return 0, netip.AddrPort{}, io.EOF
		}
		return 0, netip.AddrPort{}, u.againToRead()
	}
	d := u.queue[0]
	u.queue = slices.Delete(u.queue, 0, 1)
	u.size -= len(d.data) + datagramOverhead
	return copy(p, d.data), d.src, nil
}

// send sends a datagram or refuses it, and never waits (udp 3).
func (u *udpSocket) send(call string, p []byte, to netip.AddrPort) (int, error) {
	if err := u.failed(call); err != nil {
		return 0, err
	}
	addr := to.Addr().Unmap()
	switch {
	case addr.Is6() && u.at.Addr().Is4():
		return 0, &net.AddrError{Err: "IPv6 address on an IPv4 socket", Addr: to.String()}
	case addr.Is4() && u.at.Addr().Is6() && !u.at.Addr().IsUnspecified():
		return 0, &net.AddrError{Err: "IPv4 address on an IPv6 socket", Addr: to.String()}
	case to.Port() == 0:
		return 0, os.NewSyscallError(call, syscall.EINVAL)
	case len(p) > maxDatagram:
		return 0, os.NewSyscallError(call, syscall.EMSGSIZE)
	case u.mute:
		return 0, os.NewSyscallError(call, syscall.EPIPE)
	case addr.IsUnspecified() && addr.Is6():
		addr = netip.IPv6Loopback()
	case addr.IsUnspecified():
		addr = localhost
	}
	sys := u.process.sys
	from := u.at.Addr()
	switch {
	case from.IsUnspecified():
		from = sys.sourceFor(addr)
	case from.IsLoopback() && !sys.isOwn(addr):
		return 0, os.NewSyscallError(call, syscall.EINVAL)
	}
	if w := sys.wireTo(addr); w != nil {
		w.carryDatagram(&datagram{
			src: netip.AddrPortFrom(from, u.at.Port()), dst: netip.AddrPortFrom(addr, to.Port()), data: slices.Clone(p),
		})
	}
	return len(p), nil
}

func (u *udpSocket) Read(p []byte) (int, error) {
	n, _, err := u.receive("read", p)
	return n, err
}

func (u *udpSocket) Write(p []byte) (int, error) { return u.send("write", p, u.peer) }

func (u *udpSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := u.receive("recvfrom", p)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (u *udpSocket) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	return u.receive("recvfrom", p)
}

func (u *udpSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok || a == nil {
		return 0, driver.ErrSockets
	}
	return u.WriteToAddrPort(p, a.AddrPort())
}

func (u *udpSocket) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	return u.send("sendto", p, to)
}

func (u *udpSocket) CloseWrite() error { return u.shutdown(&u.mute) }

func (u *udpSocket) CloseRead() error { return u.shutdown(&u.deaf) }

func (u *udpSocket) shutdown(direction *bool) error {
	if u.shut() {
		return net.ErrClosed
	}
	*direction = true
	u.wake(true, true)
	return nil
}

func (u *udpSocket) Close() error {
	if u.shut() {
		return nil
	}
	u.close()
	u.queue = nil
	sys := u.process.sys
	sys.sockets[u.at.Port()] = slices.DeleteFunc(sys.sockets[u.at.Port()], func(other *udpSocket) bool { return other == u })
	if len(sys.sockets[u.at.Port()]) == 0 {
		delete(sys.sockets, u.at.Port())
	}
	return nil
}

func (u *udpSocket) Abort() error { return u.Close() }

func (u *udpSocket) Detach() (net.Conn, error) {
	if u.shut() {
		return nil, net.ErrClosed
	}
	return nil, errDetach
}

func (u *udpSocket) SetOption(o driver.Option, value int) error {
	switch {
	case u.shut():
		return net.ErrClosed
	case o == driver.NoDelay || o == driver.KeepAlive:
		return os.NewSyscallError("setsockopt", syscall.EOPNOTSUPP)
	case o == driver.ReadBuffer:
		u.limit = max(value, minBuffer)
	case o == driver.Linger || o == driver.WriteBuffer: // a datagram leaves at once
	default:
		return os.NewSyscallError("setsockopt", syscall.ENOPROTOOPT)
	}
	return nil
}

var _ interface {
	driver.Connecting
	driver.PacketEndpoint
} = (*udpSocket)(nil)

var _ driver.Network = (*process)(nil)
