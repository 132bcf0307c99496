package sim

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// link 4, tcp 6: a cut loses the packets under way and all later ones. They are sent again after
// the mend.
func TestNetwork_Cut(t *testing.T) {
	l := newLab(t, 1)
	client, server := l.connect(l.host("a"), l.host("b"))
	l.mustWrite(client, "under way")
	l.pass(2 * ms)
	l.net.Cut("a", "b")
	l.pass(time.Second)
	if _, err := server.Read(make([]byte, 1)); err != driver.ErrAgain {
		t.Errorf("Read = %v", err)
	}
	l.mustWrite(client, ", and later")
	l.net.Mend("a", "b")
	if d := l.took(func() { l.wantRead(server, "under way, and later") }); d == 0 || d > 2*time.Second {
		t.Errorf("it came %v after the mend", d)
	}
	l.settle()

	// The other direction is cut: everything arrives, and the sender does not know.
	l.net.Cut("b", "a")
	start := l.clock
	l.mustWrite(client, "you hear me")
	l.wantRead(server, "you hear me")
	_, err := l.read(client, 1)
	if d := l.clock - start; !errors.Is(err, syscall.ETIMEDOUT) || d < 924*time.Second || d > 940*time.Second {
		t.Errorf("the sender got %v after %v", err, d)
	}
	if got := l.net.Traffic("b", "a"); got.Lost < 16 {
		t.Errorf("%+v", got)
	}
	client.Close()
	l.net.SetRetransmission(10 * time.Second)
	l.net.Heal()
	client, server = l.connect(l.network.named("a").process, l.network.named("b").process)
	l.net.Cut("a", "b")
	l.mustWrite(client, "x")
	start = l.clock
	if _, err = l.read(client, 1); !errors.Is(err, syscall.ETIMEDOUT) || l.clock-start > 20*time.Second {
		t.Errorf("with a limit of 10 s: %v after %v", err, l.clock-start)
	}
	server.Abort()
}

// link 4: partitions, and the calls that heal them.
func TestNetwork_Partition(t *testing.T) {
	l := newLab(t, 1)
	hosts := map[string]*process{}
	for _, name := range []string{"a", "b", "c", "d"} {
		hosts[name] = l.host(name)
		l.packets(hosts[name], ":1")
	}
	reach := func() string {
		var all []string
		for _, from := range []string{"a", "b", "c", "d"} {
			for _, to := range []string{"a", "b", "c", "d"} {
				before := len(hosts[to].sys.sockets[1][0].queue)
				u := l.packets(hosts[from], ":0")
				u.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netipOf(hosts[to], 1)))
				l.settle()
				u.Close()
				if len(hosts[to].sys.sockets[1][0].queue) == before {
					all = append(all, from+to)
				}
			}
		}
		return strings.Join(all, " ")
	}
	for _, x := range []struct {
		name string
		do   func()
		want string // pairs that cannot reach each other
	}{
		{"at first", func() {}, ""},
		{"two groups", func() { l.net.Partition([]string{"a"}, []string{"b", "c"}) }, "ab ac ba ca"},
		{"and a cut", func() { l.net.Cut("d", "a") }, "ab ac ba ca da"},
		{"a mend is not for partitions", func() { l.net.Mend("a", "b") }, "ab ac ba ca da"},
		{"another partition", func() { l.net.Partition([]string{"a", "b"}, []string{"c"}) }, "ac bc ca cb da"},
		{"no partition", func() { l.net.Partition() }, "da"},
		{"a hold", func() { l.net.Hold("b", "c") }, "bc da"},
		{"healed", func() { l.net.Heal() }, ""},
	} {
		if x.do(); reach() != x.want {
			t.Errorf("%s: %q, want %q", x.name, reach(), x.want)
		}
	}
	for _, h := range hosts {
		h.kill()
	}
	l.wantNothingLeft()
}

// link 4: held packets arrive in order, when they are released.
func TestNetwork_Hold(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	client, server := l.connect(a, b)
	u := l.packets(b, ":1")
	v := l.packets(a, ":0")
	l.mustWrite(client, "1")
	v.WriteTo([]byte("1"), net.UDPAddrFromAddrPort(netipOf(b, 1)))
	l.net.Hold("a", "b")
	l.mustWrite(client, "2")
	v.WriteTo([]byte("2"), net.UDPAddrFromAddrPort(netipOf(b, 1)))
	l.pass(100 * time.Second)
	l.mustWrite(client, "3")
	v.WriteTo([]byte("3"), net.UDPAddrFromAddrPort(netipOf(b, 1)))
	l.pass(time.Second)
	if _, err := server.Read(make([]byte, 1)); err != driver.ErrAgain {
		t.Errorf("Read = %v", err)
	}
	l.net.Release("a", "b")
	if d := l.took(func() { l.wantRead(server, "12") }); d != 0 {
		t.Errorf("it came %v after the release", d)
	}
	// the rest waited for an acknowledgment (tcp 6)
	if d := l.took(func() { l.wantRead(server, "3") }); d != 10*ms {
		t.Errorf("the rest came %v after the release", d)
	}
	p := make([]byte, 1)
	for _, want := range []string{"1", "2", "3"} {
		if n, _, err := u.ReadFrom(p); string(p[:n]) != want || err != nil {
			t.Errorf("ReadFrom = %q, %v; want %s", p[:n], err, want)
		}
	}
	// A cut loses held packets, and a second hold holds later ones.
	l.settle()
	l.net.Hold("a", "b")
	v.WriteTo([]byte("4"), net.UDPAddrFromAddrPort(netipOf(b, 1)))
	l.pass(time.Second)
	l.net.Release("a", "b")
	l.net.Hold("a", "b")
	l.pass(time.Second)
	if _, _, err := u.ReadFrom(p); err != driver.ErrAgain {
		t.Errorf("held again: %v", err)
	}
	l.net.Cut("a", "b")
	l.net.Heal()
	l.settle()
	if _, _, err := u.ReadFrom(p); err != driver.ErrAgain {
		t.Errorf("held, and cut: %v", err)
	}
}

// Reset breaks the connections between two hosts, and nothing else.
func TestNetwork_Reset(t *testing.T) {
	l := newLab(t, 1)
	a, b, c := l.host("a"), l.host("b"), l.host("c")
	ab, ba := l.connect(a, b)
	ca, ac := l.connect(c, a)
	aa, _ := l.connect(a, a)
	l.net.Reset("a", "b")
	l.wantEnd(ab, "", syscall.ECONNRESET)
	l.wantEnd(ba, "", syscall.ECONNRESET)
	l.mustWrite(ca, "still there")
	l.wantRead(ac, "still there")
	pending, err := a.Dial("tcp", "10.0.0.99:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.net.ResetAll()
	l.wantEnd(ac, "", syscall.ECONNRESET)
	l.wantEnd(ca, "", syscall.ECONNRESET)
	l.mustWrite(aa, "still there")
	pending.Close()
}

// link 2: bandwidth and latency.
func TestNetwork_Bandwidth(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	client, server := l.connect(a, b)
	for _, bandwidth := range []int{1000, 10_000, 1_000_000} {
		l.net.SetLink(Link{MinLatency: 5 * ms, Bandwidth: bandwidth})
		size := 10 * bandwidth
		before := l.net.Traffic("a", "b").Delivered
		done := false
		l.ear(server).then = func(bool, bool) {
			for p := make([]byte, 4096); ; {
				n, err := server.Read(p)
				if size -= n; size == 0 {
					done = true
				}
				if err != nil {
					return
				}
			}
		}
		l.ear(server).then(true, false)
		start := l.clock
		l.mustWrite(client, pattern(size))
		for !done && l.step() {
		}
		if d := l.clock - start; d < 10*time.Second || d > 13*time.Second {
			t.Errorf("%d bytes a second: 10 s worth of it took %v and %d packets", bandwidth, d, l.net.Traffic("a", "b").Delivered-before)
		}
		l.settle()
	}
	// Datagrams that would have to wait too long are lost.
	l.net.SetLink(Link{Bandwidth: 10_000})
	u, v := l.packets(b, ":1"), l.packets(a, ":0")
	for range 1000 {
		v.WriteTo([]byte(pattern(1000)), net.UDPAddrFromAddrPort(netipOf(b, 1)))
	}
	n := 0
	l.ear(u).then = func(bool, bool) {
		for _, _, err := u.ReadFrom(nil); err == nil; _, _, err = u.ReadFrom(nil) {
			n++
		}
	}
	l.ear(u).then(true, false)
	l.settle()
	if n < maxQueued/1100 || n > 2+maxQueued/1000 {
		t.Errorf("%d of 1000 arrived", n)
	}
}

// link 3: every fault has a name that says what is lost, and between which hosts.
func TestNetwork_NamesOfFaults(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("node1"), l.host("node2")
	l.net.SetLink(Link{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1})
	seen := map[string]bool{}
	l.faulty = func(name string) bool { seen[name] = true; return false }
	client, server := l.connect(a, b)
	l.mustWrite(client, "x")
	l.wantRead(server, "x")
	server.Abort()
	u, err := a.Dial("udp", "node2:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Write([]byte("x"))
	l.settle()
	var got []string
	for name := range seen {
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{
		"duplicate a datagram from node1 to node2",
		"duplicate a refusal of a datagram from node2 to node1",
		"lose a connection request from node1 to node2",
		"lose a connection request from node2 to node1",
		"lose a datagram from node1 to node2",
		"lose a refusal of a datagram from node2 to node1",
		"lose a reset from node2 to node1",
		"lose a segment from node1 to node2",
		"lose an acknowledgment from node1 to node2",
		"lose an acknowledgment from node2 to node1",
		"reorder a datagram from node1 to node2",
		"reorder a refusal of a datagram from node2 to node1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// link 5, link 7: a host always reaches itself, and idle connections do nothing.
func TestNetwork_LoopbackAndIdle(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	remote, _ := l.connect(a, b)
	remote.Read(make([]byte, 1))
	l.net.SetLink(Link{Loss: 1, MinLatency: time.Hour})
	l.net.Partition([]string{"a"}, []string{"b"})
	client, server := l.connect(a, a)
	l.mustWrite(client, "x")
	if d := l.took(func() { l.wantRead(server, "x") }); d != 20*time.Microsecond {
		t.Errorf("it took %v", d)
	}
	l.net.Heal()
	l.net.SetLink(Link{})
	l.settle()
	start, n := l.clock, l.count
	l.pass(24 * time.Hour)
	l.net.SetLink(Link{Loss: 0.5})
	if l.settle(); l.count != n || l.clock != start+24*time.Hour {
		t.Errorf("%d things happened in an idle network", l.count-n)
	}
}

// link 3: the loss of one packet does not change how long the others take.
func TestNetwork_LossDrawsNothing(t *testing.T) {
	arrivals := func(lost int) map[string]time.Duration {
		l := newLab(t, 1)
		a, b := l.host("a"), l.host("b")
		l.net.SetLink(Link{MinLatency: ms, MaxLatency: 500 * ms, Loss: 0.5})
		asked := 0
		l.faulty = func(string) bool { asked++; return asked == lost }
		from, to := l.packets(a, ":1"), l.packets(b, ":1")
		at := make(map[string]time.Duration)
		for i := range 10 {
			sent := l.clock
			from.WriteTo(fmt.Append(nil, i), net.UDPAddrFromAddrPort(netipOf(b, 1)))
			l.settle()
			p := make([]byte, 10)
			if n, _, err := to.ReadFrom(p); err == nil {
				at[string(p[:n])] = l.clock - sent
			}
		}
		return at
	}
	all := arrivals(0)
	for lost := 1; lost <= 10; lost++ {
		got, want := arrivals(lost), maps.Clone(all)
		delete(want, fmt.Sprint(lost-1))
		if !maps.Equal(got, want) {
			t.Errorf("without the %dth: %v, want %v", lost, got, want)
		}
	}
}

// The errors for mistakes in a test contain the names.
func TestNetwork_Mistakes(t *testing.T) {
	l := newLab(t, 1)
	l.host("a")
	l.host("b")
	for want, fn := range map[string]func(){
		`no host "c"; the hosts are a, b (in sim.Network.Cut)`: func() { l.net.Cut("a", "c") },
		`no host "x"`:              func() { l.net.Partition([]string{"a", "x"}, []string{"b"}) },
		`one group, of a, b, is`:   func() { l.net.Partition([]string{"a", "b"}) },
		`"b" is in two groups`:     func() { l.net.Partition([]string{"a", "b"}, []string{"b"}) },
		`"a" and "a" are one host`: func() { l.net.Hold("a", "a") },
		`1.5 is not a probability`: func() { l.net.SetLink(Link{Loss: 1.5}) },
		`MaxLatency 1ms is less`:   func() { l.net.SetLinkBetween("a", "b", Link{MinLatency: time.Second, MaxLatency: ms}) },
		`a latency is negative`:    func() { l.net.SetLink(Link{MinLatency: -1}) },
		`Bandwidth is negative`:    func() { l.net.SetLink(Link{Bandwidth: -1}) },
		`a buffer of 0 bytes`:      func() { l.net.SetBuffers(0, 1) },
		`a backlog of 0`:           func() { l.net.SetBacklog(0) },
		`a limit of 0s`:            func() { l.net.SetRetransmission(0) },
	} {
		func() {
			defer func() {
				err, ok := recover().(error)
				if !ok || !errors.Is(err, asyncio.ErrInvalidArgument) || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
			}()
			fn()
		}()
	}
	for want, fn := range map[string]func(){
		"attached twice":      func() { l.host("a") },
		"cannot have the add": func() { l.attach("c", l.named("a").addr, nil) },
		"attached again with": func() { l.attach("a", localhost, nil) },
	} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, want) {
					t.Errorf("%v, want %s", v, want)
				}
			}()
			fn()
		}()
	}
}
