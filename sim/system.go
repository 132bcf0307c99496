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
//	system 1: The name of a host, and only a whole one, stands for its address. "localhost" and
//	   127.0.0.0/8 are the host itself. There is no IPv6, and ports are numbers.
//	system 2: Listening at an empty host or 0.0.0.0 means all addresses of the host; connecting to
//	   it means the host itself. Port 0 is the next free port from 32768 to 60999: the numbers are
//	   the same in each run, and a host that restarts does not begin again with the first.
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
	s := &system{n: n, name: name, addr: addr, ephemeral: firstEphemeral - 1}
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

func (s *system) isOwn(addr netip.Addr) bool { return addr == s.addr || addr.IsLoopback() }

// sourceFor returns the address with which the host appears to another.
func (s *system) sourceFor(to netip.Addr) netip.Addr {
	if to.IsLoopback() {
		return localhost
	}
	return s.addr
}

// transportOf returns the transport for the name of a network: "tcp", "udp" or "unix" (system 1).
func transportOf(network string) (string, error) {
	switch network {
	case "tcp", "tcp4":
		return "tcp", nil
	case "udp", "udp4":
		return "udp", nil
	case "unix":
		return "unix", nil
	case "tcp6", "udp6", "unixgram", "unixpacket":
		return "", fmt.Errorf("network %q is not simulated; use tcp, udp or unix: %w", network, errors.ErrUnsupported)
	}
	return "", net.UnknownNetworkError(network)
}

// resolve parses an address as programs write it (system 1, system 2).
func (s *system) resolve(transport, address string, listen bool) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return none, err
	}
	port, err := strconv.Atoi(service)
	switch {
	case service == "":
		port = 0
	case err != nil:
		return none, &net.DNSError{Err: "unknown port", Name: transport + "/" + service, IsNotFound: true}
	case port < 0 || port > 65535:
		return none, &net.AddrError{Err: "invalid port", Addr: service}
	}
	addr, err := s.lookUp(host)
	if err != nil {
		return none, err
	}
	switch {
	case listen && !addr.IsUnspecified() && !s.isOwn(addr):
		return none, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
	case !listen && addr.IsUnspecified():
		addr = localhost
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

func (s *system) lookUp(host string) (netip.Addr, error) {
	switch host {
	case "":
		return netip.IPv4Unspecified(), nil
	case "localhost":
		return localhost, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr = addr.Unmap(); !addr.Is4() {
			return addr, &net.AddrError{Err: "IPv6 is not simulated", Addr: host}
		}
		return addr, nil
	}
	if to := s.n.named(host); to != nil {
		return to.addr, nil
	}
	return netip.Addr{}, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
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
func overlap(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

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
	transport, err := transportOf(network)
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
	to, err := s.sys.resolve(transport, address, false)
	if err != nil {
		return nil, err
	}
	from, err := s.localFor(transport, to.Addr(), local)
	if err != nil {
		return nil, err
	}
	if transport == "udp" {
		return s.dialUDP(from, to)
	}
	return s.dialTCP(from, to)
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
	case !addr.Is4():
		return at, &net.AddrError{Err: "IPv6 is not simulated", Addr: addr.String()}
	case !s.sys.isOwn(addr):
		return at, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
	case addr.IsLoopback() && !s.sys.isOwn(to):
		return at, os.NewSyscallError("connect", syscall.EINVAL)
	}
	return netip.AddrPortFrom(addr, at.Port()), nil
}

// Listen implements [driver.Network].
func (s *process) Listen(network, address string) (driver.Listener, error) {
	transport, err := transportOf(network)
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
		at, err := s.sys.resolve(transport, address, true)
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
	transport, err := transportOf(network)
	if err != nil {
		return nil, err
	}
	if s.dead {
		return nil, net.ErrClosed
	}
	if transport != "udp" {
		return nil, &net.AddrError{Err: "unexpected address type", Addr: address}
	}
	at, err := s.sys.resolve(transport, address, true)
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
