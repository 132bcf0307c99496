package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A party is one end of a connection in the model test: it writes and reads at its own pace, and
// records the result.
type party struct {
	l    *lab
	name string
	c    driver.Endpoint
	rng  *rand.Rand

	send, sent int    // bytes to write, and bytes written
	finished   bool   // it has ended its stream
	got        []byte // the bytes it has read
	ended      bool   // it has read the end of the peer's stream
	err        error  // the error it got
	closed     bool
	lazy       bool // it waits now and then before it reads
	abrupt     int  // it aborts, or is killed, at this turn; 0 for never
	turns      int
	salt       byte
}

func (p *party) over() bool { return p.closed || p.err != nil || p.finished && p.ended }

// at returns the byte that is sent at a position.
func (p *party) at(i int) byte { return byte(i*7/3) ^ p.salt }

// turn does something, and is called again on readiness or after a while.
func (p *party) turn() {
	if p.over() {
		if !p.closed {
			p.closed = true
			p.c.Close()
			fmt.Fprintf(&p.l.log, "%v %s closes after %d of %d, %d, %v\n", p.l.clock, p.name, p.sent, p.send, len(p.got), p.err)
		}
		return
	}
	if p.turns++; p.turns == p.abrupt {
		p.closed = true
		p.c.Abort()
		return
	}
	p.write()
	if p.err == nil && !p.ended && (!p.lazy || p.rng.IntN(3) == 0) {
		p.read()
	} else if !p.ended {
		p.l.at(p.l.clock+time.Duration(p.rng.Int64N(int64(50*ms))), p.turn)
	}
	if p.over() {
		p.turn()
	}
}

func (p *party) write() {
	for !p.finished {
		if p.sent == p.send {
			p.finished = true
			p.fail(p.c.CloseWrite(), syscall.ENOTCONN)
			return
		}
		b := make([]byte, min(1+p.rng.IntN(5000), p.send-p.sent))
		for i := range b {
			b[i] = p.at(p.sent + i)
		}
		n, err := p.c.Write(b)
		p.sent += n
		if err == driver.ErrAgain {
			return
		} else if err != nil {
			p.fail(err, syscall.EPIPE)
			return
		}
	}
}

// fail records an error of writing. Errors that only follow an earlier report (tcp 9) come from
// reading.
func (p *party) fail(err error, late syscall.Errno) {
	if err != nil && !errors.Is(err, late) {
		p.err = err
	} else if err != nil {
		p.finished = true
	}
}

func (p *party) read() {
	for b := make([]byte, 1+p.rng.IntN(3000)); ; {
		n, err := p.c.Read(b)
		p.got = append(p.got, b[:n]...)
		if n > 0 {
			fmt.Fprintf(&p.l.log, "%v %s reads %d\n", p.l.clock, p.name, n)
		}
		switch {
		case err == driver.ErrAgain:
			return
		case err == io.EOF:
			p.ended = true
			return
		case err != nil:
			p.err = err
			return
		case p.lazy:
			p.l.at(p.l.clock+time.Duration(p.rng.Int64N(int64(20*ms))), p.turn)
			return
		}
	}
}

// weather breaks and mends the network at random, until it ends.
func weather(l *lab, rng *rand.Rand, until time.Duration, names []string, lives func(name string, kill bool)) {
	var change func()
	change = func() {
		if l.clock >= until {
			l.net.Heal()
			l.net.SetLink(Link{MinLatency: ms, MaxLatency: 3 * ms})
			fmt.Fprintf(&l.log, "%v healed\n", l.clock)
			return
		}
		i := rng.IntN(len(names))
		from, to := names[i], names[(i+1+rng.IntN(len(names)-1))%len(names)]
		what := rng.IntN(10)
		fmt.Fprintf(&l.log, "%v weather %d %s %s\n", l.clock, what, from, to)
		switch what {
		case 0:
			l.net.Cut(from, to)
		case 1:
			l.net.Mend(from, to)
		case 2:
			l.net.Hold(from, to)
		case 3, 4:
			l.net.Release(from, to)
		case 5:
			l.net.Partition(names[:1], names[1:])
		case 6:
			l.net.Heal()
		case 7:
			l.net.SetLink(Link{MaxLatency: time.Duration(rng.Int64N(int64(300 * ms))), Loss: rng.Float64() / 3, Bandwidth: rng.IntN(2) * (20_000 + rng.IntN(1_000_000))})
		case 8:
			if rng.IntN(8) == 0 {
				l.net.Reset(from, to)
			}
		case 9:
			if rng.IntN(10) == 0 {
				lives(from, rng.IntN(2) == 0)
			}
		}
		l.at(l.clock+time.Duration(rng.Int64N(int64(2*time.Second))), change)
	}
	l.at(l.clock, change)
}

// ordeal makes connections live through bad weather, and returns the log of all events. In any
// weather, the bytes read are the bytes written, from the start and without a gap. The end is read
// only after all bytes; a party that does not read the end gets an error. When the weather is over
// nothing is left.
func ordeal(t *testing.T, seed uint64) (log string, whole, broken int) {
	t.Helper()
	l := newLab(t, seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	l.net.SetLink(Link{MinLatency: ms, MaxLatency: 20 * ms, Loss: 0.05 * float64(rng.IntN(3))})
	l.net.SetBuffers(1+rng.IntN(20_000), 1+rng.IntN(20_000))
	hosts := map[string]*process{"a": l.host("a"), "b": l.host("b"), "c": l.host("c")}
	names := []string{"a", "b", "c"}
	var parties [][2]*party
	for i := range 1 + rng.IntN(4) {
		from, to := hosts[names[i%3]], hosts[names[(i+1+rng.IntN(2))%3]]
		ln := l.listen(to, "tcp", fmt.Sprintf(":%d", 100+i))
		conn, err := from.Dial("tcp", fmt.Sprintf("%s:%d", to.sys.name, 100+i), nil)
		if err != nil {
			t.Fatal(err)
		}
		both := [2]*party{{name: fmt.Sprintf("client %d", i)}, {name: fmt.Sprintf("server %d", i), salt: 0x55}}
		for _, p := range both {
			p.l, p.rng = l, rand.New(rand.NewPCG(seed, uint64(10+len(parties))))
			p.send, p.lazy = rng.IntN(60_000), rng.IntN(2) == 0
			if rng.IntN(10) == 0 {
				p.abrupt = 1 + rng.IntN(20)
			}
		}
		parties = append(parties, both)
		l.ear(conn).then = func(bool, bool) {
			p := both[0]
			if p.c == nil {
				if err := conn.Connect(); err == driver.ErrAgain {
					return
				} else if err != nil {
					p.err, p.closed = err, true
					conn.Close()
					return
				}
				p.c = conn
			}
			p.turn()
		}
		l.ear(conn).then(false, true)
		l.ear(ln).then = func(bool, bool) {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p := both[1]
			p.c = c
			l.ear(c).then = func(bool, bool) { p.turn() }
			p.turn()
			ln.Close()
		}
		l.ear(ln).then(true, false)
	}
	weather(l, rng, 30*time.Second, names, func(name string, kill bool) {
		if s := hosts[name]; kill {
			s.kill()
		} else {
			s.powerOff()
		}
		hosts[name] = l.host(name)
	})
	l.settle()
	for _, both := range parties {
		for i, p := range both {
			peer := both[1-i]
			if p.c == nil {
				continue
			}
			for j, b := range p.got {
				if b != peer.at(j) {
					t.Fatalf("seed %d: %s has read another byte at %d than was sent", seed, p.name, j)
				}
			}
			if len(p.got) > peer.sent {
				t.Errorf("seed %d: %s has read %d bytes of %d", seed, p.name, len(p.got), peer.sent)
			}
			dead := p.c.(*tcpConn).process.dead
			// its system has closed it, behind the bytes written until then
			cut := peer.c != nil && peer.c.(*tcpConn).process.dead
			switch {
			case p.ended && len(p.got) != peer.sent:
				t.Errorf("seed %d: %s is at the end after %d of %d bytes", seed, p.name, len(p.got), peer.sent)
			case p.ended && !cut && peer.sent != peer.send:
				t.Errorf("seed %d: %s is at the end, and %s is not", seed, p.name, peer.name)
			case !p.over() && !dead:
				t.Errorf("seed %d: %s hangs: it has sent %d of %d, received %d of %d, at %v", seed, p.name, p.sent, p.send, len(p.got), peer.sent, l.clock)
			}
			if p.ended && len(p.got) == peer.send {
				whole++
			} else {
				broken++
			}
		}
	}
	for _, h := range hosts {
		h.kill()
	}
	l.wantNothingLeft()
	return l.log.String(), whole, broken
}

func TestNetwork_Ordeal(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 50
	}
	whole, broken := 0, 0
	for seed := range seeds {
		_, w, b := ordeal(t, seed)
		whole, broken = whole+w, broken+b
		if t.Failed() {
			return
		}
	}
	if whole < 100 || broken < 20 {
		t.Errorf("%d directions were whole and %d broken: the weather is not what it should be", whole, broken)
	}
}

// The same seed makes the same run, to the last draw; another does not.
func TestNetwork_Deterministic(t *testing.T) {
	first := map[string]uint64{}
	for seed := range uint64(20) {
		log, _, _ := ordeal(t, seed)
		if again, _, _ := ordeal(t, seed); again != log {
			a, b := strings.Split(log, "\n"), strings.Split(again, "\n")
			i := 0
			for i < min(len(a), len(b)) && a[i] == b[i] {
				i++
			}
			t.Fatalf("seed %d: line %d is %q, and then %q", seed, i, a[i], b[i])
		}
		if other, ok := first[log]; ok {
			t.Errorf("seeds %d and %d make the same run", other, seed)
		}
		first[log] = seed
	}
}

// In any weather, an arriving datagram is one that was sent, whole.
func TestDatagrams_Ordeal(t *testing.T) {
	lost, twice := 0, 0
	for seed := range uint64(50) {
		l := newLab(t, seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		names := []string{"a", "b", "c"}
		var ends []driver.PacketEndpoint
		sent := map[string]int{}
		got := map[string]int{}
		for _, name := range names {
			u := l.packets(l.host(name), ":1")
			ends = append(ends, u)
			l.ear(u).then = func(bool, bool) {
				for p := make([]byte, 3000); ; {
					n, from, err := u.ReadFrom(p)
					if err != nil {
						return
					}
					got[fmt.Sprintf("%s %s", from.(*net.UDPAddr).IP, p[:n])]++
				}
			}
			l.ear(u).then(true, false)
		}
		l.net.SetLink(Link{MaxLatency: 20 * ms, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1})
		weather(l, rng, 10*time.Second, names, func(string, bool) {})
		for i := range 300 {
			from, to := rng.IntN(3), rng.IntN(3)
			message := fmt.Sprintf("%d %s", i, strings.Repeat("x", rng.IntN(2000)))
			sent[fmt.Sprintf("10.0.0.%d %s", from+1, message)]++
			if _, err := ends[from].WriteToAddrPort([]byte(message), netipOf(l.named(names[to]).process, 1)); err != nil {
				t.Fatal(err)
			}
			l.pass(30 * ms)
		}
		l.settle()
		for message, n := range got {
			if sent[message] == 0 {
				t.Errorf("seed %d: %.60q was never sent", seed, message)
			}
			if n == 2 {
				twice++
			} else if n > 2 {
				t.Errorf("seed %d: %.60q came %d times", seed, message, n)
			}
		}
		lost += len(sent) - len(got)
		for _, s := range slices.Clone(l.systems) {
			s.process.kill()
		}
		l.wantNothingLeft()
	}
	if lost < 1000 || twice < 100 {
		t.Errorf("%d were lost and %d came twice", lost, twice)
	}
}
