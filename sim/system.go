package sim

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A system is the operating system of a host, as far as it is on the network. A [process] runs on
// it, one in each life.
//
//	system 1: Names stand for addresses as dns 1 says. "localhost", 127.0.0.0/8 and ::1 are the host
//	   itself. A host has an address of each family, that of IPv6 only while the network has IPv6.
//	   Ports are numbers.
//	system 2: Listening at an empty host means all addresses of the host, at 0.0.0.0 those of IPv4,
//	   and at :: again all; connecting to one of these means the host itself. Port 0 is the next
//	   free port from 32768 to 60999: the numbers are the same in each run, and a host that restarts
//	   does not begin again with the first.
//	system 3: A port is in use at an address while a listener is there, at that address or at all
//	   addresses, or while the system remembers a connection made from there. Connections accepted
//	   there do not matter (SO_REUSEADDR).
//	system 4: A process that is killed loses its sockets as if it closed them. The system goes on:
//	   it delivers the written bytes, refuses requests, and answers segments that belong to no
//	   connection with a reset.
//	system 5: A host without power loses everything, sends nothing and answers nothing. When it is
//	   on again it remembers nothing: see system 4.
//	system 6: Paths of Unix sockets are names within the host, and gone with the listener. Their
//	   connections are TCP connections on the loopback wire.
type system struct {
	n        *network
	number   int // in the order in which they were made
	name     string
	addr     netip.Addr
	addr6    netip.Addr
	loopback *wire
	on       bool
	process  *process // the current one, or the last

	conns     map[side]*tcpConn
	flows     map[flow]*tcpConn
	listeners map[uint16][]*listener
	paths     map[string]*listener
	replaced  []*listener // listeners whose paths others have taken since
	sockets   map[uint16][]*udpSocket
	dialled   map[uint16]int // how many connections were made from each port
	ephemeral uint16         // the last port assigned
}

// A side is one end of a connection, as segments name it.
type side struct {
	conn   uint64
	server bool
}

// A flow is one end of a connection between two addresses.
type flow struct{ local, remote netip.AddrPort }

const firstEphemeral, lastEphemeral = 32768, 60999

var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func newSystem(n *network, name string, addr netip.Addr) *system {
	s := &system{n: n, name: name, addr: addr, addr6: sixOf(addr), ephemeral: firstEphemeral - 1}
	s.forget()
	return s
}

// forget drops everything that a system without power loses (system 5).
func (s *system) forget() {
	s.conns = make(map[side]*tcpConn)
	s.flows = make(map[flow]*tcpConn)
	s.listeners = make(map[uint16][]*listener)
	s.paths = make(map[string]*listener)
	s.replaced = nil
	s.sockets = make(map[uint16][]*udpSocket)
	s.dialled = make(map[uint16]int)
}

// sixOf returns the address of IPv6 of the host with this one of IPv4: fd00:: and its last two
// bytes.
func sixOf(addr netip.Addr) netip.Addr {
	four := addr.As4()
	return netip.AddrFrom16([16]byte{0: 0xfd, 14: four[2], 15: four[3]})
}

func oldestFirst(a, b *tcpConn) int { return cmp.Compare(a.id, b.id) }

// connections returns the connections of the system, oldest first.
func (s *system) connections() []*tcpConn {
	return slices.SortedFunc(maps.Values(s.conns), oldestFirst)
}

// wireTo returns the wire to an address, nil if no host has it.
func (s *system) wireTo(addr netip.Addr) *wire {
	if s.isOwn(addr) {
		return s.loopback
	}
	if to := s.n.addressed(addr); to != nil {
		return s.n.wire(s, to)
	}
	return nil
}

func (s *system) isOwn(addr netip.Addr) bool {
	return addr == s.addr || addr == s.addr6 || addr.IsLoopback()
}

// sourceFor returns the address with which the host appears to another.
func (s *system) sourceFor(to netip.Addr) netip.Addr {
	switch {
	case to.IsLoopback() && to.Is6():
		return netip.IPv6Loopback()
	case to.IsLoopback():
		return localhost
	case to.Is6():
		return s.addr6
	}
	return s.addr
}

// A family is what the name of a network says about addresses: 4 or 6, or 0 for both.
type family int

// transportOf returns the transport for the name of a network, "tcp", "udp" or "unix" (system 1),
// and the family.
func transportOf(network string) (string, family, error) {
	switch network {
	case "tcp", "udp", "unix":
		return network, 0, nil
	case "tcp4", "udp4":
		return network[:3], 4, nil
	case "tcp6", "udp6":
		return network[:3], 6, nil
	case "unixgram", "unixpacket":
		return "", 0, fmt.Errorf("network %q is not simulated; use tcp, udp or unix: %w", network, errors.ErrUnsupported)
	}
	return "", 0, net.UnknownNetworkError(network)
}

// has reports whether an address is of the family.
func (f family) has(addr netip.Addr) bool { return f == 0 || addr.Is4() == (f == 4) }

// splitAddress parses an address as programs write it.
func splitAddress(transport, address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.Atoi(service)
	switch {
	case service == "":
		n = 0
	case err != nil:
		return "", 0, &net.DNSError{Err: "unknown port", Name: transport + "/" + service, IsNotFound: true}
	case n < 0 || n > 65535:
		return "", 0, &net.AddrError{Err: "invalid port", Addr: service}
	}
	return host, uint16(n), nil
}

// resolve looks up a host as programs write it (system 1, system 2).
func (s *system) resolve(f family, host string, listen bool) lookup {
	var l lookup
	literal := true
	switch addr, err := netip.ParseAddr(host); {
	case host == "" && (s.n.ipv6 && f != 4 || f == 6):
		l.addrs = []netip.Addr{netip.IPv6Unspecified()}
	case host == "":
		l.addrs = []netip.Addr{netip.IPv4Unspecified()}
	case host == "localhost" && f != 4 && s.n.ipv6:
		l.addrs = []netip.Addr{netip.IPv6Loopback(), localhost}
		if listen {
			slices.Reverse(l.addrs)
		}
	case host == "localhost":
		l.addrs = []netip.Addr{localhost}
	case err == nil:
		l.addrs = []netip.Addr{addr.Unmap().WithZone("")}
	default:
		l = s.lookUpName(host)
		literal = false
	}
	l.addrs = slices.DeleteFunc(l.addrs, func(a netip.Addr) bool { return !f.has(a) })
	switch {
	case l.err != nil:
	case len(l.addrs) == 0:
		l.err = &net.AddrError{Err: "no suitable address found", Addr: host}
	case literal && l.addrs[0].Is6() && !s.n.ipv6:
		l.err = &net.AddrError{Err: "there is no IPv6 in this network (sim.Network.SetIPv6)", Addr: host}
	case listen && !l.addrs[0].IsUnspecified():
		own := slices.DeleteFunc(l.addrs, func(a netip.Addr) bool { return !s.isOwn(a) })
		if l.addrs = own; len(own) == 0 {
			l.err = os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
		}
	case !listen && l.addrs[0].IsUnspecified():
		l.addrs[0] = localhost
		if host != "" && !netip.MustParseAddr(host).Is4() {
			l.addrs[0] = netip.IPv6Loopback()
		}
	}
	return l
}

// whereToListen returns the address to listen at. A name is looked up; that takes no time here,
// because a program listens at its own names, which its system knows.
func (s *system) whereToListen(transport string, f family, address string) (netip.AddrPort, error) {
	host, port, err := splitAddress(transport, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	l := s.resolve(f, host, true)
	if l.err != nil {
		return netip.AddrPort{}, l.err
	}
	return netip.AddrPortFrom(l.addrs[0], port), nil
}

// nextPort returns the next free port.
func (s *system) nextPort(inUse func(uint16) bool) (uint16, error) {
	for range lastEphemeral - firstEphemeral + 1 {
		if s.ephemeral++; s.ephemeral > lastEphemeral {
			s.ephemeral = firstEphemeral
		}
		if !inUse(s.ephemeral) {
			return s.ephemeral, nil
		}
	}
	return 0, os.NewSyscallError("bind", syscall.EADDRINUSE)
}

// bind returns the address with a port that is free there (system 2, system 3).
func (s *system) bind(at netip.AddrPort, inUse func(netip.AddrPort) bool) (netip.AddrPort, error) {
	if at.Port() == 0 {
		port, err := s.nextPort(func(port uint16) bool { return inUse(netip.AddrPortFrom(at.Addr(), port)) })
		return netip.AddrPortFrom(at.Addr(), port), err
	}
	if inUse(at) {
		return at, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return at, nil
}

// overlap reports whether two addresses at one port share an address of the host.
func overlap(a, b netip.Addr) bool { return covers(a, b) || covers(b, a) }

// covers reports whether a is b, or stands for addresses with b among them (system 2).
func covers(a, b netip.Addr) bool { return a == b || a.IsUnspecified() && (a.Is6() || b.Is4()) }

func (s *system) portInUse(at netip.AddrPort) bool {
	return s.dialled[at.Port()] > 0 || slices.ContainsFunc(s.listeners[at.Port()], func(l *listener) bool { return overlap(l.at.Addr(), at.Addr()) })
}

func (s *system) socketInUse(at netip.AddrPort) bool {
	return slices.ContainsFunc(s.sockets[at.Port()], func(u *udpSocket) bool { return overlap(u.at.Addr(), at.Addr()) })
}

// A process is a life of a host as the system sees it: the owner of sockets. It implements
// [driver.Network] for the loop.
type process struct {
	sys  *system
	tell func(to driver.Notifier, read, write bool)
	dead bool
}

// powerOff cuts the host's power (system 5). It may follow kill.
func (s *process) powerOff() {
	if s.sys.process != s || !s.sys.on {
		return
	}
	s.dead = true
	s.sys.on = false
	all := s.sys.connections()
	s.sys.forget()
	for _, c := range all {
		c.remove()
	}
	s.sys.n.doubt()
}

// kill ends the process; the system goes on (system 4). A loop that closes uses it too, to close
// all endpoints that are left (endpoint 5).
func (s *process) kill() {
	if s.dead {
		return
	}
	for _, port := range slices.Sorted(maps.Keys(s.sys.listeners)) {
		for _, l := range slices.Clone(s.sys.listeners[port]) {
			l.Close()
		}
	}
	for _, path := range slices.Sorted(maps.Keys(s.sys.paths)) {
		s.sys.paths[path].Close()
	}
	for _, l := range slices.Clone(s.sys.replaced) {
		l.Close()
	}
	for _, c := range s.sys.connections() {
		c.Close()
	}
	s.sys.sockets = make(map[uint16][]*udpSocket)
	s.dead = true
}

// Dial implements [driver.Network].
func (s *process) Dial(network, address string, local net.Addr) (driver.Connecting, error) {
	transport, f, err := transportOf(network)
	if err != nil {
		return nil, err
	}
	if s.dead {
		return nil, net.ErrClosed
	}
	if transport == "unix" {
		if _, ok := local.(*net.UnixAddr); local != nil && !ok {
			return nil, &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
		}
		return s.dialUnix(address)
	}
	host, port, err := splitAddress(transport, address)
	if err != nil {
		return nil, err
	}
	return s.dialTo(transport, s.sys.resolve(f, host, false), port, local)
}

// localFor returns the address to connect from; its port may be zero.
func (s *process) localFor(transport string, to netip.Addr, local net.Addr) (netip.AddrPort, error) {
	var at netip.AddrPort
	switch a := local.(type) {
	case nil:
	case *net.TCPAddr:
		if transport == "tcp" && a != nil {
			at = a.AddrPort()
		}
	case *net.UDPAddr:
		if transport == "udp" && a != nil {
			at = a.AddrPort()
		}
	}
	if local != nil && local.Network() != transport {
		return at, &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
	}
	addr := at.Addr().Unmap()
	switch {
	case !addr.IsValid() || addr.IsUnspecified():
		addr = s.sys.sourceFor(to)
	case addr.Is4() != to.Is4():
		return at, &net.AddrError{Err: "mismatched local address family", Addr: addr.String()}
	case !s.sys.isOwn(addr):
		return at, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
	case addr.IsLoopback() && !s.sys.isOwn(to):
		return at, os.NewSyscallError("connect", syscall.EINVAL)
	}
	return netip.AddrPortFrom(addr, at.Port()), nil
}

// Listen implements [driver.Network].
func (s *process) Listen(network, address string) (driver.Listener, error) {
	transport, f, err := transportOf(network)
	if err != nil {
		return nil, err
	}
	if s.dead {
		return nil, net.ErrClosed
	}
	l := &listener{attention: attention{process: s}, limit: s.sys.n.backlog, transport: transport}
	switch transport {
	case "unix":
		if address == "" {
			return nil, os.NewSyscallError("bind", syscall.EINVAL)
		}
		// as asyncio.Listen does with the file (system 6)
		if old := s.sys.paths[address]; old != nil {
			s.sys.replaced = append(s.sys.replaced, old)
		}
		l.path = address
		s.sys.paths[address] = l
		return l, nil
	case "tcp":
		at, err := s.sys.whereToListen(transport, f, address)
		if err != nil {
			return nil, err
		}
		if l.at, err = s.sys.bind(at, s.sys.portInUse); err != nil {
			return nil, err
		}
		s.sys.listeners[l.at.Port()] = append(s.sys.listeners[l.at.Port()], l)
		return l, nil
	}
	return nil, &net.AddrError{Err: "unexpected address type", Addr: address}
}

// ListenPacket implements [driver.Network].
func (s *process) ListenPacket(network, address string) (driver.PacketEndpoint, error) {
	transport, f, err := transportOf(network)
	if err != nil {
		return nil, err
	}
	if s.dead {
		return nil, net.ErrClosed
	}
	if transport != "udp" {
		return nil, &net.AddrError{Err: "unexpected address type", Addr: address}
	}
	at, err := s.sys.whereToListen(transport, f, address)
	if err != nil {
		return nil, err
	}
	return s.newUDP(at, netip.AddrPort{})
}

// attention is the waiting state of an endpoint (endpoint 1-4). The host's loop gets it as the
// notifier, because the endpoint may be closed before the loop looks.
type attention struct {
	process   *process
	to        driver.Notifier
	wantRead  bool // since ErrAgain
	wantWrite bool
	closed    bool
}

func (a *attention) Notify(to driver.Notifier) { a.to = to }

func (a *attention) Ready(read, write bool) {
	if a.to != nil && !a.shut() {
		a.to.Ready(read, write)
	}
}

// shut reports whether the program has closed the endpoint, or has itself ended.
func (a *attention) shut() bool { return a.closed || a.process.dead }

func (a *attention) againToRead() error  { a.wantRead = true; return driver.ErrAgain }
func (a *attention) againToWrite() error { a.wantWrite = true; return driver.ErrAgain }

// wake makes waiting readers and writers try again.
func (a *attention) wake(read, write bool) {
	read, write = read && a.wantRead, write && a.wantWrite
	if a.to == nil || a.shut() || !read && !write {
		return
	}
	a.wantRead = a.wantRead && !read
	a.wantWrite = a.wantWrite && !write
	a.process.tell(a, read, write)
}

func (a *attention) close() {
	a.closed, a.to = true, nil
}

func (a *attention) SyscallConn() (syscall.RawConn, error) { return nil, driver.ErrSockets }
