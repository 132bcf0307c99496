package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// The simulated network: wires between the systems of hosts. A system's names, ports and processes
// are in system.go (system 1-6), TCP is in tcp.go (tcp 1-9), datagrams are in udp.go (udp 1-4).
//
//	link 1: There is a wire from each host to each other and one to itself, each for one direction
//	   only. Two hosts know of each other only what arrives by wire.
//	link 2: A packet leaves when the wire has taken everything sent before it (bandwidth), and
//	   arrives a latency later. Segments of one direction of a connection arrive in the order in
//	   which they were sent, and so do the datagrams of a wire, except reordered ones. Otherwise a
//	   later packet may arrive earlier.
//	link 3: Faults, latencies and sizes of segments are answers to questions (question 1), whose
//	   names say what is meant and between which hosts. In the order of production a packet takes
//	   the least latency of its link, and segments are as long as they can be. A fault is asked
//	   for only where its probability is not zero, a latency even of a packet that is lost.
//	link 4: A wire that is down (cut, or between two parts of a partition) loses what is under way
//	   when it goes down and what is sent while it is down. A wire that is held keeps what
//	   arrives, up to maxHeld, and hands it over in that order when it is released.
//	link 5: The wire from a host to itself is never down and has no faults. Its latency is small
//	   but not zero, so time passes for programs that talk to themselves for ever.
//	link 6: Nothing happens inside a call that sends. A program's actions take effect elsewhere
//	   only through at, between two of its steps.
//	link 7: When everything is closed or idle, no event is left. No timer just keeps itself going
//	   (see tcp 8).
type network struct {
	now      func() time.Duration
	at       func(when time.Duration, fn func()) // in the order of the calls where times are equal
	question func(what string, u unit) *question
	happens  func(q *question, p float64) bool // p > 0
	amount   func(q *question, s span) int64
	// nil, or told of what a test does to the network
	note func(text string)
	// nil, or whether chaos may do something to a wire
	endure func(from, to *system, t Trouble) bool

	systems   []*system       // in the order of their first attach
	wires     map[route]*wire // that have been asked for
	groups    map[*system]int // of the partition
	link      Link            // of wires that have none of their own
	linkIsSet bool            // by the test
	divisions map[divided]*division
	divided   uint64 // how often a division was asked for
	rounds    int    // how often everything was healed
	ids       uint64
	calm      bool // no fault happens from now on

	zones *zoning // nil: there are none
	dns   DNS
	names map[string]record // set by SetName
	ipv6  bool

	who func() endUser // nil, or tells which task runs (circle 2)

	rules    []*ActiveRule   // in the order in which they were added
	messages uint64          // that have been numbered
	seen     func(m Message) // nil, or told of what programs send
	picture  *picture        // nil, or told of packets

	patience      time.Duration // how long unacknowledged data is sent again (tcp 6)
	sendBuffer    int           // bytes, of a new connection
	receiveBuffer int           // bytes, of a new connection
	backlog       int           // connections, of a listener
}

type route struct{ from, to *system }

// The defaults of a network.
const (
	defaultPatience = 924600 * time.Millisecond // what tcp_retries2 = 15 amounts to on Linux
	defaultBuffer   = 64 << 10
	defaultBacklog  = 4096 // net.core.somaxconn
)

var (
	defaultLink  = Link{MinLatency: 100 * time.Microsecond, MaxLatency: time.Millisecond}
	loopbackLink = Link{MinLatency: 20 * time.Microsecond}
)

func newNetwork(now func() time.Duration, at func(when time.Duration, fn func()), question func(what string, u unit) *question,
	happens func(q *question, p float64) bool, amount func(q *question, s span) int64) *network {
	return &network{
		now: now, at: at, question: question, happens: happens, amount: amount,
		wires: make(map[route]*wire), link: defaultLink,
		patience: defaultPatience, sendBuffer: defaultBuffer, receiveBuffer: defaultBuffer, backlog: defaultBacklog,
	}
}

// attach begins a life of a host: its first, or the next after powerOff or kill. tell passes
// readiness on to the host's loop (endpoint 2).
func (n *network) attach(name string, addr netip.Addr, tell func(to driver.Notifier, read, write bool)) *process {
	s := n.named(name)
	if s == nil {
		s = n.newSystem(name, addr)
	}
	if s.addr != addr {
		panic(fmt.Sprintf("sim: host %q has the address %v, and is attached again with %v", name, s.addr, addr))
	}
	if s.process != nil && !s.process.dead {
		panic(fmt.Sprintf("sim: host %q is attached twice", name))
	}
	s.on = true
	s.process = &process{sys: s, tell: tell}
	return s.process
}

func (n *network) newSystem(name string, addr netip.Addr) *system {
	if !addr.Is4() || addr.IsLoopback() || addr.IsUnspecified() || n.addressed(addr) != nil {
		panic(fmt.Sprintf("sim: host %q cannot have the address %v: one of IPv4 is needed that no other host has", name, addr))
	}
	s := newSystem(n, name, addr)
	s.number = len(n.systems)
	// never down, without faults, and not without latency (link 5)
	s.loopback = &wire{n: n, from: s, to: s, own: &loopbackLink}
	n.wires[route{s, s}] = s.loopback
	n.systems = append(n.systems, s)
	return s
}

// named returns the host of that name, nil if there is none.
func (n *network) named(name string) *system {
	for _, s := range n.systems {
		if s.name == name {
			return s
		}
	}
	return nil
}

// addressed returns the host at an address, nil if there is none.
func (n *network) addressed(addr netip.Addr) *system {
	for _, s := range n.systems {
		if s.addr == addr || s.addr6 == addr {
			return s
		}
	}
	return nil
}

// must is named for the names that a test gives: it panics for an unknown one.
func (n *network) must(name, caller string) *system {
	s := n.named(name)
	if s == nil {
		known := make([]string, len(n.systems))
		for i, s := range n.systems {
			known[i] = s.name
		}
		panic(fmt.Errorf("%w: there is no host %q; the hosts are %s (in sim.Network.%s)", asyncio.ErrInvalidArgument, name, strings.Join(known, ", "), caller))
	}
	return s
}

// between returns the wire between two hosts that a test names.
func (n *network) between(from, to, caller string) *wire {
	if from == to {
		panic(fmt.Errorf("%w: %q and %[2]q are one host, and what it sends to itself has no faults (in sim.Network.%s)", asyncio.ErrInvalidArgument, from, caller))
	}
	return n.wire(n.must(from, caller), n.must(to, caller))
}

// wire returns the wire from one host to another. It is made when it is asked for first: of many
// hosts few talk to all others.
func (n *network) wire(from, to *system) *wire {
	w := n.wires[route{from, to}]
	if w == nil {
		w = &wire{n: n, from: from, to: to, apart: n.areApart(from, to)}
		n.wires[route{from, to}] = w
	}
	return w
}

// areApart reports whether the partition, if there is one, separates two hosts.
func (n *network) areApart(a, b *system) bool {
	i, one := n.groups[a]
	j, two := n.groups[b]
	return one && two && i != j
}

// each calls fn for every wire between two hosts that has been made, in a fixed order. The others
// are as a new one is.
func (n *network) each(fn func(*wire)) {
	all := make([]*wire, 0, len(n.wires))
	for _, w := range n.wires {
		if w.from != w.to {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *wire) int {
		return cmp.Or(cmp.Compare(a.from.number, b.from.number), cmp.Compare(a.to.number, b.to.number))
	})
	for _, w := range all {
		fn(w)
	}
}

// say adds an action of the test to the trace of the run.
func (n *network) say(format string, args ...any) {
	if n.note != nil {
		n.note(fmt.Sprintf(format, args...))
	}
}

// doubt makes every connection look for a reason to probe (tcp 8).
func (n *network) doubt() {
	for _, s := range n.systems {
		for _, c := range s.connections() {
			c.watch()
		}
	}
}

// A Network connects the hosts of a simulation. With it a test sets how good the connections are,
// and breaks them. Every change takes effect at once, also for packets under way.
//
// Named hosts must exist, and where two are named they must differ: anything else panics with an
// error that matches [asyncio.ErrInvalidArgument]. What a host sends to itself arrives after 20 µs
// and has no faults.
//
// Its methods are for the loop only, and do not suspend.
type Network struct{ n *network }

// A Link describes the connection from one host to another, in one direction. The zero Link is
// perfect: nothing is lost, and everything arrives at the moment at which it was sent. A network
// begins with latencies from 0.1 to 1 ms and no faults.
//
// Lost segments of a stream are sent again, so a program sees the loss of anything but a datagram
// as a delay: 200 ms plus a round trip, doubled each time the same segment is lost again. Any
// goroutine may make a Link.
type Link struct {
	// The latency lies between the two. In the order of production it is always MinLatency; every
	// longer one is a deviation, which the strategy chooses and the schedule records. If MaxLatency
	// is zero there is none.
	MinLatency, MaxLatency time.Duration

	// Bandwidth is in bytes a second, headers included. Zero means no limit.
	Bandwidth int

	// The probabilities, from 0 to 1, that a packet is lost, that a datagram arrives twice, and
	// that a datagram is so late that others overtake it. These are faults as [Fault] defines them:
	// below 1 none happens in the order of production.
	Loss, Duplicate, Reorder float64
}

// Traffic counts the packets of one direction between two hosts: the delivered ones, and those lost
// on the way. Any goroutine may use it.
type Traffic struct{ Delivered, Lost int }

func (l Link) check(caller string) Link {
	wrong := ""
	switch {
	case l.MinLatency < 0 || l.MaxLatency < 0:
		wrong = "a latency is negative"
	case l.MaxLatency != 0 && l.MaxLatency < l.MinLatency:
		wrong = fmt.Sprintf("MaxLatency %v is less than MinLatency %v", l.MaxLatency, l.MinLatency)
	case l.Bandwidth < 0:
		wrong = "Bandwidth is negative"
	}
	for _, p := range []float64{l.Loss, l.Duplicate, l.Reorder} {
		if !(p >= 0 && p <= 1) {
			wrong = fmt.Sprintf("%v is not a probability; those are from 0 to 1", p)
		}
	}
	if wrong != "" {
		panic(fmt.Errorf("%w: %s (in sim.Network.%s)", asyncio.ErrInvalidArgument, wrong, caller))
	}
	return l
}

// SetLink sets the link between all hosts, in both directions, except those that
// [Network.SetLinkBetween] has set.
func (n *Network) SetLink(l Link) {
	n.n.link, n.n.linkIsSet = l.check("SetLink"), true
	n.n.doubt()
}

// SetLinkBetween sets the link from one host to another.
func (n *Network) SetLinkBetween(from, to string, l Link) {
	l = l.check("SetLinkBetween")
	n.n.between(from, to, "SetLinkBetween").own = &l
	n.n.doubt()
}

// Partition divides the hosts: those in different groups cannot reach each other. A host in no
// group, usually main's, reaches all. A new partition replaces the previous one; without groups
// there is none. A single group would divide nothing, and panics.
func (n *Network) Partition(groups ...[]string) {
	if len(groups) == 1 {
		panic(fmt.Errorf("%w: one group, of %s, is divided from nobody: name those that it cannot reach in another (in sim.Network.Partition)",
			asyncio.ErrInvalidArgument, strings.Join(groups[0], ", ")))
	}
	part := make(map[*system]int)
	for i, g := range groups {
		for _, name := range g {
			s := n.n.must(name, "Partition")
			if j, ok := part[s]; ok && j != i {
				panic(fmt.Errorf("%w: host %q is in two groups (in sim.Network.Partition)", asyncio.ErrInvalidArgument, name))
			}
			part[s] = i
		}
	}
	n.n.say("the network: partition %v", groups)
	n.n.groups = part
	n.n.each(func(w *wire) {
		w.change(func() { w.apart = n.n.areApart(w.from, w.to) })
	})
	n.n.doubt()
}

// Isolate cuts a host off from all others, in both directions, like [Network.Cut] for each pair.
func (n *Network) Isolate(host string) {
	s := n.n.must(host, "Isolate")
	for _, from := range n.n.systems {
		for _, to := range n.n.systems {
			if from != to && (from == s || to == s) {
				w := n.n.wire(from, to)
				w.change(func() { w.cut = true })
			}
		}
	}
	n.n.say("the network: %s is isolated", host)
	n.n.doubt()
}

// Cut loses everything that one host sends to another. The other direction stays as it is: where
// acknowledgments are lost, data arrives and its sender does not know.
func (n *Network) Cut(from, to string) {
	n.oneWay(from, to, "Cut", func(w *wire) { w.cut = true })
}

// Mend undoes [Network.Cut]. It does not end a partition.
func (n *Network) Mend(from, to string) {
	n.oneWay(from, to, "Mend", func(w *wire) { w.cut = false })
}

// Hold keeps back everything that would arrive at host to from host from, until [Network.Release].
func (n *Network) Hold(from, to string) {
	n.oneWay(from, to, "Hold", func(w *wire) { w.holding = true })
}

// Release delivers everything held, in the order in which it arrived.
func (n *Network) Release(from, to string) {
	n.oneWay(from, to, "Release", func(w *wire) { w.holding = false })
}

// oneWay applies do to the wire from one host to another.
func (n *Network) oneWay(from, to, what string, do func(*wire)) {
	w := n.n.between(from, to, what)
	n.n.say("the network: %s from %s to %s", strings.ToLower(what), from, to)
	w.change(func() { do(w) })
	n.n.doubt()
}

// Heal undoes every Cut, Hold and Partition, and what [Chaos] has done to the network so far. Links
// stay as they were set.
func (n *Network) Heal() {
	n.n.say("the network: all is healed")
	n.n.groups = nil
	n.n.each(func(w *wire) { w.change(func() { w.cut, w.apart, w.holding = false, false, false }) })
	n.n.heal()
	n.n.doubt()
}

// Reset breaks all connections between two hosts, as a firewall does that has forgotten them: both
// ends get [syscall.ECONNRESET].
func (n *Network) Reset(a, b string) {
	w := n.n.between(a, b, "Reset")
	n.n.say("the network: connections between %s and %s are reset", a, b)
	n.n.resetBetween(w.from, w.to)
}

// ResetAll is [Network.Reset] for every two hosts.
func (n *Network) ResetAll() {
	n.n.reset(func(c *tcpConn) bool { return c.out != nil && c.out != c.sys.loopback })
}

func (n *network) reset(these func(*tcpConn) bool) {
	var all []*tcpConn
	for _, s := range n.systems {
		for _, c := range s.connections() {
			if these(c) {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, oldestFirst)
	for _, c := range all {
		c.reset()
	}
}

// SetBuffers sets the sizes in bytes of the write buffer at the sending end and of the read buffer
// at the receiving end, for connections made from now on. Both default to 64 KiB. A writer waits
// when both are full. For a single connection use [asyncio.Conn.SetWriteBuffer] and
// [asyncio.Conn.SetReadBuffer].
func (n *Network) SetBuffers(write, read int) {
	if write < 1 || read < 1 {
		panic(fmt.Errorf("%w: a buffer of %d bytes; at least one is needed (in sim.Network.SetBuffers)", asyncio.ErrInvalidArgument, min(write, read)))
	}
	n.n.sendBuffer, n.n.receiveBuffer = write, read
}

// SetBacklog sets how many connections may wait to be accepted, for listeners made from now on. The
// default is 4096. A connection beyond that is not refused: its request is sent again after one
// second, two, four and so on.
func (n *Network) SetBacklog(connections int) {
	if connections < 1 {
		panic(fmt.Errorf("%w: a backlog of %d connections (in sim.Network.SetBacklog)", asyncio.ErrInvalidArgument, connections))
	}
	n.n.backlog = connections
}

// SetRetransmission sets for how long unacknowledged data is sent again before the connection fails
// with [syscall.ETIMEDOUT]. The default is 924.6 s, as on Linux. Connecting always takes 127 s to
// fail.
func (n *Network) SetRetransmission(limit time.Duration) {
	if limit <= 0 {
		panic(fmt.Errorf("%w: a limit of %v (in sim.Network.SetRetransmission)", asyncio.ErrInvalidArgument, limit))
	}
	n.n.patience = limit
}

// Traffic returns the counts of packets that one host has sent to another.
func (n *Network) Traffic(from, to string) Traffic {
	return n.n.between(from, to, "Traffic").traffic
}
