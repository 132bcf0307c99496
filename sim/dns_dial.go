package sim

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A dial to a name whose lookup takes time or has several answers (dns 3), as package net does it.

// A dialNames is a connection to one of several addresses. It is an endpoint of which the loop sees
// nothing but Connect until one of them is connected; then it is that one.
//
//	eyeballs 1: The family of the first address comes first. Within a family each address is tried
//	   when the one before has failed. The other family begins when the first one has failed with
//	   all addresses, or after fallbackDelay, and then both go on side by side.
//	eyeballs 2: The first connection that is open wins, and the others are aborted.
//	eyeballs 3: If all fail, the error is the first one of the family that came first. Package net
//	   divides a deadline among the addresses of a family; here the first one may use it up.
type dialNames struct {
	attention
	driver.Endpoint // the winner, once there is one

	transport string
	local     net.Addr
	families  [2][]netip.AddrPort // still to be tried
	trying    [2]driver.Connecting
	errs      [2]error
	ended     [2]bool
	begun     [2]bool
	addr      net.Addr // of the first attempt
	err       error
}

// fallbackDelay is net.Dialer's.
const fallbackDelay = 300 * time.Millisecond

// dialTo dials one of the addresses that a lookup has found. One that takes no time and has a
// single address is dialled directly, so that a program's errors are those of the dial itself.
func (s *process) dialTo(transport string, l lookup, port uint16, local net.Addr) (driver.Connecting, error) {
	if l.takes == 0 {
		switch {
		case l.err != nil:
			return nil, l.err
		case len(l.addrs) == 1 || transport == "udp":
			return s.dialOne(transport, netip.AddrPortFrom(l.addrs[0], port), local)
		}
	}
	d := &dialNames{attention: attention{process: s}, transport: transport, local: local}
	for _, addr := range l.addrs {
		family := 0
		if addr.Is4() != l.addrs[0].Is4() {
			family = 1
		}
		d.families[family] = append(d.families[family], netip.AddrPortFrom(addr, port))
	}
	n := s.sys.n
	n.at(n.now()+l.takes, func() {
		switch {
		case d.shut():
		case l.err != nil:
			d.fail(l.err)
		default:
			d.begin(0)
			n.at(n.now()+fallbackDelay, func() { d.begin(1) })
		}
	})
	return d, nil
}

// dialOne dials one address.
func (s *process) dialOne(transport string, to netip.AddrPort, local net.Addr) (driver.Connecting, error) {
	if to.Addr().Is6() && !s.sys.n.ipv6 {
		return nil, os.NewSyscallError("connect", syscall.ENETUNREACH)
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

// undecided reports whether addresses are still to be tried.
func (d *dialNames) undecided() bool { return !d.shut() && d.Endpoint == nil && d.err == nil }

// begin begins with a family, unless that has been done.
func (d *dialNames) begin(family int) {
	if d.undecided() && !d.begun[family] {
		d.begun[family] = true
		d.next(family)
	}
}

// next tries the next address of a family.
func (d *dialNames) next(family int) {
	for len(d.families[family]) > 0 && d.undecided() {
		to := d.families[family][0]
		d.families[family] = d.families[family][1:]
		if d.addr == nil {
			d.addr = net.TCPAddrFromAddrPort(to)
		}
		c, err := d.process.dialOne(d.transport, to, d.local)
		if err == nil {
			c.Notify(attempt{d, family})
			d.trying[family] = c
			if d.look(family) {
				return
			}
			continue
		}
		d.failed(family, err)
	}
	if d.undecided() && d.trying[family] == nil {
		d.ended[family] = true
		if d.ended[0] && d.ended[1] {
			d.fail(d.errs[0])
			return
		}
		d.begin(1 - family)
	}
}

// look looks at what has become of an attempt, and reports whether to wait for it or the dial is
// decided.
func (d *dialNames) look(family int) bool {
	c := d.trying[family]
	switch err := c.Connect(); err {
	case driver.ErrAgain:
		return true
	case nil:
		d.trying[family] = nil
		d.win(c)
		return true
	default:
		d.trying[family] = nil
		_ = c.Abort()
		d.failed(family, err)
		return false
	}
}

func (d *dialNames) failed(family int, err error) {
	if d.errs[family] == nil {
		d.errs[family] = err
	}
}

// win makes c the connection (eyeballs 2).
func (d *dialNames) win(c driver.Connecting) {
	d.abortAttempts()
	to := d.to
	d.Endpoint = c
	if to != nil {
		c.Notify(to)
		d.wake(false, true)
	}
}

func (d *dialNames) fail(err error) {
	if err == nil { // there is no address of the first family
		err = d.errs[1]
	}
	d.err = err
	d.wake(false, true)
}

func (d *dialNames) abortAttempts() {
	for family, c := range d.trying {
		if c != nil {
			d.trying[family] = nil
			_ = c.Abort()
		}
	}
}

// An attempt is the notifier of a connection that is tried.
type attempt struct {
	d      *dialNames
	family int
}

func (a attempt) Ready(bool, bool) {
	if a.d.undecided() && a.d.trying[a.family] != nil && !a.d.look(a.family) {
		a.d.next(a.family)
	}
}

// Connect implements [driver.Connecting].
func (d *dialNames) Connect() error {
	switch {
	case d.Endpoint != nil:
		return nil
	case d.shut():
		return net.ErrClosed
	case d.err != nil:
		return d.err
	}
	return d.againToWrite()
}

// Notify implements [driver.Handle].
func (d *dialNames) Notify(to driver.Notifier) {
	d.attention.Notify(to)
	if d.Endpoint != nil {
		d.Endpoint.Notify(to)
	}
}

// LocalAddr implements [driver.Handle].
func (d *dialNames) LocalAddr() net.Addr {
	if d.Endpoint != nil {
		return d.Endpoint.LocalAddr()
	}
	return &net.TCPAddr{}
}

// RemoteAddr implements [driver.Endpoint]: before there is a winner, the first address that was
// tried.
func (d *dialNames) RemoteAddr() net.Addr {
	if d.Endpoint != nil {
		return d.Endpoint.RemoteAddr()
	}
	return d.addr
}

// SyscallConn implements [driver.Handle].
func (d *dialNames) SyscallConn() (syscall.RawConn, error) { return d.attention.SyscallConn() }

// Close implements [driver.Handle].
func (d *dialNames) Close() error {
	if d.Endpoint != nil {
		return d.Endpoint.Close()
	}
	return d.Abort()
}

// Abort implements [driver.Endpoint].
func (d *dialNames) Abort() error {
	if d.Endpoint != nil {
		return d.Endpoint.Abort()
	}
	if !d.shut() {
		d.abortAttempts()
		d.close()
	}
	return nil
}
