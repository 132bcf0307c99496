package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

const ms = time.Millisecond

// A lab is a network without programs: a test acts for all of them. It keeps its own time, and
// advances only step by step.
type lab struct {
	t      *testing.T
	seed   uint64
	clock  time.Duration
	events laterEvents
	count  int
	told   []func()
	busy   bool // the loops do not look at their notifications
	log    strings.Builder
	ears   map[driver.Handle]*ear
	hosts  int

	// faulty decides on faults; nil is at random.
	faulty func(name string) bool

	*network
	net *Network
}

type laterEvent struct {
	when time.Duration
	seq  int
	fn   func()
}

type laterEvents []laterEvent

func (h laterEvents) Len() int { return len(h) }
func (h laterEvents) Less(i, j int) bool {
	return h[i].when < h[j].when || h[i].when == h[j].when && h[i].seq < h[j].seq
}
func (h laterEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *laterEvents) Push(e any)   { *h = append(*h, e.(laterEvent)) }
func (h *laterEvents) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}

// An ear is the notifier of one endpoint.
type ear struct {
	read, write bool
	then        func(read, write bool)
}

func (e *ear) Ready(read, write bool) {
	e.read, e.write = e.read || read, e.write || write
	if e.then != nil {
		e.then(read, write)
	}
}

// newLab makes a network with a latency of 5 ms everywhere.
func newLab(t *testing.T, seed uint64) *lab {
	l := &lab{t: t, seed: seed, ears: make(map[driver.Handle]*ear)}
	chances, amounts := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	l.network = newNetwork(
		func() time.Duration { return l.clock },
		func(when time.Duration, fn func()) {
			if when < l.clock {
				t.Errorf("at %v something is to happen at %v", l.clock, when)
			}
			l.count++
			heap.Push(&l.events, laterEvent{when, l.count, fn})
		},
		func(what string, u unit) *question { return &question{what: what, unit: u} },
		func(q *question, p float64) bool {
			fault := q.what
			if p <= 0 {
				t.Errorf("%s: asked with probability %v", fault, p)
			}
			yes := chances.Float64() < p
			if l.faulty != nil {
				yes = l.faulty(fault)
			}
			fmt.Fprintf(&l.log, "%v %s: %v\n", l.clock, fault, yes)
			return yes
		},
		func(q *question, s span) int64 {
			if amounts.Float64() >= s.p {
				return s.usual
			}
			return s.least + amounts.Int64N(s.most-s.least+1)
		})
	l.net = &Network{l.network}
	l.net.SetLink(Link{MinLatency: 5 * time.Millisecond})
	return l
}

// host begins a life of a host.
func (l *lab) host(name string) *process {
	addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(l.hosts + 1)})
	if s := l.named(name); s != nil {
		addr = s.addr
	} else {
		l.hosts++
	}
	return l.attach(name, addr, func(to driver.Notifier, read, write bool) {
		l.told = append(l.told, func() { to.Ready(read, write) })
	})
}

// step does the next thing that is due, and reports whether there was any.
func (l *lab) step() bool {
	l.tell()
	if len(l.events) == 0 {
		return false
	}
	if l.count > 20_000_000 {
		l.t.Fatal("it does not end")
	}
	e := heap.Pop(&l.events).(laterEvent)
	l.clock = e.when
	e.fn()
	l.tell()
	return true
}

func (l *lab) tell() {
	for len(l.told) > 0 && !l.busy {
		fn := l.told[0]
		l.told = l.told[1:]
		fn()
	}
}

// settle goes on until nothing is left to happen.
func (l *lab) settle() {
	for l.step() {
	}
}

// pass lets time go by.
func (l *lab) pass(d time.Duration) {
	end := l.clock + d
	for l.tell(); len(l.events) > 0 && l.events[0].when <= end; {
		l.step()
	}
	l.clock = end
}

// took returns the time that fn takes.
func (l *lab) took(fn func()) time.Duration {
	start := l.clock
	fn()
	return l.clock - start
}

func (l *lab) ear(h driver.Handle) *ear {
	if l.ears[h] == nil {
		l.ears[h] = new(ear)
		h.Notify(l.ears[h])
	}
	return l.ears[h]
}

var errNothingHappens = errors.New("it has to wait, and nothing is left to happen")

// try does an operation, and repeats it each time that Ready is called (endpoint 1).
func (l *lab) try(h driver.Handle, fn func() error) error {
	e := l.ear(h)
	for {
		*e = ear{then: e.then}
		err := fn()
		if err != driver.ErrAgain {
			return err
		}
		for !e.read && !e.write {
			if !l.step() && !e.read && !e.write {
				return errNothingHappens
			}
		}
	}
}

func (l *lab) listen(s *process, network, address string) driver.Listener {
	l.t.Helper()
	ln, err := s.Listen(network, address)
	if err != nil {
		l.t.Fatalf("Listen(%s, %s) = %v", network, address, err)
	}
	return ln
}

func (l *lab) packets(s *process, address string) driver.PacketEndpoint {
	l.t.Helper()
	u, err := s.ListenPacket("udp", address)
	if err != nil {
		l.t.Fatalf("ListenPacket(%s) = %v", address, err)
	}
	return u
}

func (l *lab) dial(s *process, network, address string) (driver.Connecting, error) {
	c, err := s.Dial(network, address, nil)
	if err != nil {
		return nil, err
	}
	return c, l.try(c, c.Connect)
}

func (l *lab) accept(ln driver.Listener) driver.Endpoint {
	l.t.Helper()
	var c driver.Endpoint
	if err := l.try(ln, func() (err error) { c, err = ln.Accept(); return err }); err != nil {
		l.t.Fatalf("Accept = %v", err)
	}
	return c
}

// connect returns a connection from a to b.
func (l *lab) connect(a, b *process) (client, server driver.Endpoint) {
	l.t.Helper()
	ln := l.listen(b, "tcp", ":0")
	defer ln.Close()
	c, err := l.dial(a, "tcp", fmt.Sprintf("%s:%d", b.sys.name, ln.LocalAddr().(*net.TCPAddr).Port))
	if err != nil {
		l.t.Fatalf("Dial = %v", err)
	}
	return c, l.accept(ln)
}

func (l *lab) read(c driver.Endpoint, most int) (string, error) {
	p := make([]byte, most)
	n := 0
	err := l.try(c, func() (err error) { n, err = c.Read(p); return err })
	return string(p[:n]), err
}

// readAll reads to the end or an error.
func (l *lab) readAll(c driver.Endpoint) (string, error) {
	var b strings.Builder
	for {
		s, err := l.read(c, 4096)
		b.WriteString(s)
		if err == io.EOF {
			return b.String(), nil
		} else if err != nil {
			return b.String(), err
		}
	}
}

// write writes all of s, or until nothing more happens, and returns how many bytes were accepted.
func (l *lab) write(c driver.Endpoint, s string) (int, error) {
	done := 0
	for done < len(s) {
		err := l.try(c, func() error {
			n, err := c.Write([]byte(s[done:min(done+1<<16, len(s))]))
			done += n
			return err
		})
		if err == errNothingHappens { // there may be room too small to announce
			n, _ := c.Write([]byte(s[done:min(done+1<<16, len(s))]))
			done += n
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (l *lab) mustWrite(c driver.Endpoint, s string) {
	l.t.Helper()
	if n, err := l.write(c, s); n != len(s) || err != nil {
		l.t.Fatalf("Write = %d, %v; want %d", n, err, len(s))
	}
}

func (l *lab) wantRead(c driver.Endpoint, want string) {
	l.t.Helper()
	got := ""
	for len(got) < len(want) {
		s, err := l.read(c, len(want)-len(got))
		if err != nil {
			l.t.Fatalf("Read after %d bytes: %v, want %d", len(got), err, len(want))
		}
		got += s
	}
	if got != want {
		l.t.Fatalf("Read = %.50q, want %.50q (of %d bytes)", got, want, len(want))
	}
}

// wantEnd fails the test unless reading from c returns this, and then the error; nil stands for the
// end.
func (l *lab) wantEnd(c driver.Endpoint, want string, wantErr error) {
	l.t.Helper()
	if got, err := l.readAll(c); got != want || !errors.Is(err, wantErr) {
		l.t.Errorf("read %d bytes, then %v; want %d, then %v", len(got), err, len(want), wantErr)
	}
}

// wantNothingLeft fails the test if, when everything has come to rest, a system still remembers
// anything.
func (l *lab) wantNothingLeft() {
	l.t.Helper()
	l.settle()
	for _, s := range l.systems {
		if n := len(s.conns) + len(s.flows) + len(s.listeners) + len(s.paths) + len(s.sockets) + len(s.dialled); n > 0 {
			l.t.Errorf("%s: left are %d connections, %d flows, %d listeners, %d paths, %d sockets, %d ports",
				s.name, len(s.conns), len(s.flows), len(s.listeners), len(s.paths), len(s.sockets), len(s.dialled))
		}
	}
	for _, w := range l.wires {
		if len(w.held) > 0 {
			l.t.Errorf("%d packets are held from %s to %s", len(w.held), w.from.name, w.to.name)
		}
	}
}

func pattern(n int) string {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return string(p)
}
