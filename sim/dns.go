package sim

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// Names and their addresses: what a lookup answers, how long it takes, and how it goes wrong.
//
//	dns 1: The name of a host stands for its address, or for both of its addresses where there is
//	   IPv6, that of IPv6 first. A name that a test has set stands for what the test says. Only
//	   whole names are known.
//	dns 2: A lookup of a name asks one name server, which is always there. So a partition does not
//	   affect it, and what goes wrong with it is said by DNS. Addresses and "localhost" are looked
//	   up nowhere, take no time and cannot fail.
//	dns 3: A dial to a name that takes time to look up, or has several addresses, is dialNames.

// DNS describes lookups of names, by all hosts. The zero DNS answers at once and is always right.
// Any goroutine may make one.
type DNS struct {
	// The time that a lookup takes lies between the two, as the latency of a [Link] does.
	MinLatency, MaxLatency time.Duration

	// The probabilities, from 0 to 1, of faults as [Fault] defines them: that a name is not found
	// although it is there; that the name server fails, as it does when it is restarted, with an
	// error that is temporary; that the answer takes SlowTime longer, because a query was lost; and
	// that the answer is the one from before the last SetName of that name.
	NotFound, Fails, Slow, Stale float64

	SlowTime time.Duration // 5 s if it is zero, which is when a resolver asks again
}

// SetDNS sets how lookups of names go from now on. [StopFaults] ends their faults. It panics for a
// probability that is not from 0 to 1, and for a negative time.
func (n *Network) SetDNS(d DNS) {
	wrong := ""
	switch {
	case d.MinLatency < 0 || d.MaxLatency < 0 || d.SlowTime < 0:
		wrong = "a time is negative"
	case d.MaxLatency != 0 && d.MaxLatency < d.MinLatency:
		wrong = fmt.Sprintf("MaxLatency %v is less than MinLatency %v", d.MaxLatency, d.MinLatency)
	}
	for _, p := range []float64{d.NotFound, d.Fails, d.Slow, d.Stale} {
		if !(p >= 0 && p <= 1) {
			wrong = fmt.Sprintf("%v is not a probability; those are from 0 to 1", p)
		}
	}
	if wrong != "" {
		panic(fmt.Errorf("%w: %s (in sim.Network.SetDNS)", asyncio.ErrInvalidArgument, wrong))
	}
	n.n.dns = d
}

// SetName makes a name stand for addresses, in this order: each is the name of a host, which stands
// for the addresses that the host has, or an IP address that no host need have. Without any the
// name is not found. SetName replaces what the name stood for; lookups that are under way, and
// those with the fault DNS.Stale, still answer that. A name of several hosts is how a service is
// found behind one name, and a new address is what a failover sets.
func (n *Network) SetName(name string, addresses ...string) {
	if name == "" || name == "localhost" || strings.ContainsAny(name, " \t\n/:[]'\"") {
		panic(fmt.Errorf("%w: %q is no name that could be looked up (in sim.Network.SetName)", asyncio.ErrInvalidArgument, name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		panic(fmt.Errorf("%w: %q is an address, and is not looked up (in sim.Network.SetName)", asyncio.ErrInvalidArgument, name))
	}
	for _, a := range addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			n.n.must(a, "SetName")
		}
	}
	if n.n.names == nil {
		n.n.names = make(map[string]record)
	}
	n.n.say("the network: the name %s stands for %v", name, addresses)
	old, ok := n.n.names[name]
	if !ok && n.n.named(name) != nil {
		old.now = []string{name}
	}
	n.n.names[name] = record{now: slices.Clone(addresses), before: old.now, changed: true}
}

// SetIPv6 gives each host a second address, fd00:: and a number, or takes it away again from what
// is looked up and listened at from now on. With IPv6 the name of a host stands for both addresses,
// that of IPv6 first. A dial then tries both families as package net does: those of the other one
// when 300 ms have passed, or when the first one has failed (Happy Eyeballs, RFC 8305). A listener
// at an empty host is at all addresses of both families, and one of "tcp4" or at 0.0.0.0 at those
// of IPv4. Without IPv6, as a network begins, an address of IPv6 cannot be reached.
func (n *Network) SetIPv6(on bool) {
	n.n.ipv6 = on
	n.n.say("the network: IPv6: %v", on)
}

// A record is what a name stands for: names of hosts, and addresses.
type record struct {
	now, before []string
	changed     bool
}

// A lookup is an answer for one name.
type lookup struct {
	takes time.Duration
	addrs []netip.Addr
	err   error
}

// lookUpName asks for a name (dns 1, dns 2). Its questions are asked in a fixed order, whatever
// they answer.
func (s *system) lookUpName(name string) lookup {
	n, d := s.n, s.n.dns
	ask := func(words string, p float64) bool {
		return p > 0 && n.happens(n.question(fmt.Sprintf("lookup: %s: %s", s.name, fmt.Sprintf(words, name)), inTime), p)
	}
	var l lookup
	l.takes = d.MinLatency
	if d.MaxLatency > d.MinLatency {
		q := n.question(fmt.Sprintf("lookup: %s: %s took", s.name, name), inTime)
		q.usual = true
		least, most := int64(d.MinLatency), int64(d.MaxLatency)
		l.takes = time.Duration(n.amount(q, span{usual: least, least: least, most: most, p: 1, tried: most}))
	}
	if slow := cmp.Or(d.SlowTime, 5*time.Second); ask(fmt.Sprintf("%%s takes %v longer", slow), d.Slow) {
		l.takes += slow
	}
	late, astray := s.misled(name)
	l.takes += late
	r, set := n.names[name]
	if !set {
		r.now = []string{name}
	}
	stale := ask("the answer for %s is stale", d.Stale) && r.changed
	fails := ask("the name server fails for %s", d.Fails) || astray
	missing := ask("%s is not found", d.NotFound)
	targets := r.now
	if stale {
		targets = r.before
	}
	if !missing {
		for _, t := range targets {
			l.addrs = append(l.addrs, n.addressesOf(t)...)
		}
	}
	switch {
	case fails:
		l.addrs = nil
		l.err = &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	case len(l.addrs) == 0:
		l.err = &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return l
}

// addressesOf returns the addresses that the name of a host, or an address, stands for.
func (n *network) addressesOf(target string) []netip.Addr {
	if addr, err := netip.ParseAddr(target); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	s := n.named(target)
	switch {
	case s == nil:
		return nil
	case n.ipv6:
		return []netip.Addr{s.addr6, s.addr}
	}
	return []netip.Addr{s.addr}
}
