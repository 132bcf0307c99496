package sim

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

func netipOf(s *process, port uint16) netip.AddrPort { return netip.AddrPortFrom(s.sys.addr, port) }

// received takes all datagrams that have arrived, and returns them with their senders.
func received(t *testing.T, u driver.PacketEndpoint) (data, from []string) {
	t.Helper()
	p := make([]byte, 100)
	for {
		n, addr, err := u.ReadFrom(p)
		if err == driver.ErrAgain {
			return data, from
		} else if err != nil {
			t.Fatal(err)
		}
		data, from = append(data, string(p[:n])), append(from, addr.String())
	}
}

// udp 1: which socket gets which datagram.
func TestDatagrams_GoWhere(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	everywhere := l.packets(b, ":1")
	local := l.packets(b, "127.0.0.1:2")
	sender := l.packets(a, "a:7")
	for _, to := range []string{"10.0.0.2:1", "10.0.0.2:2", "10.0.0.77:1", "127.0.0.1:1"} {
		if n, err := sender.WriteToAddrPort([]byte(to), netip.MustParseAddrPort(to)); n != len(to) && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("to %s: %d, %v", to, n, err)
		}
	}
	here := l.packets(b, ":0")
	for _, to := range []string{"127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:1", "10.0.0.2:1"} {
		if _, err := here.WriteTo([]byte("here "+to), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
			t.Error(err)
		}
	}
	l.settle()
	data, from := received(t, everywhere)
	if want := []string{"here 127.0.0.1:1", "here 0.0.0.0:1", "here 10.0.0.2:1", "10.0.0.2:1"}; !slices.Equal(data, want) {
		t.Errorf("%q", data)
	}
	if !strings.HasPrefix(from[0], "127.0.0.1:") || !strings.HasPrefix(from[2], "10.0.0.2:") || from[3] != "10.0.0.1:7" {
		t.Errorf("from %q", from)
	}
	if data, _ = received(t, local); !slices.Equal(data, []string{"here 127.0.0.1:2"}) {
		t.Errorf("%q", data)
	}

	// A connected socket receives from its peer only.
	c, err := a.Dial("udp", "b:1", &net.UDPAddr{Port: 9})
	if err != nil || c.Connect() != nil {
		t.Fatal(err)
	}
	here.WriteToAddrPort([]byte("a stranger"), netipOf(a, 9))
	everywhere.WriteToAddrPort([]byte("the peer"), netipOf(a, 9))
	everywhere.WriteToAddrPort(nil, netipOf(a, 9))
	l.settle()
	if s, err := l.read(c, 3); s != "the" || err != nil { // the rest is lost
		t.Errorf("%q, %v", s, err)
	}
	if s, err := l.read(c, 100); s != "" || err != nil {
		t.Errorf("an empty datagram: %q, %v", s, err)
	}
	if s, err := l.read(c, 100); err != errNothingHappens {
		t.Errorf("%q, %v", s, err)
	}
}

// udp 2 to udp 4: how datagrams are lost or refused.
func TestDatagrams_LimitsAndRefusals(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	u := l.packets(b, ":1")
	c, err := a.Dial("udp", "b:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write([]byte(pattern(65507))); n != 65507 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	if _, err := c.Write([]byte(pattern(65508))); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("Write = %v", err)
	}
	l.settle()
	received(t, u)
	u.SetOption(driver.ReadBuffer, 10*(1000+datagramOverhead))
	for range 25 {
		c.Write([]byte(pattern(1000)))
	}
	l.settle()
	if data, _ := received(t, u); len(data) != 10 {
		t.Errorf("%d datagrams fit", len(data))
	}
	for range 1000 {
		c.Write(nil) // empty ones take up room too
	}
	l.settle()
	if data, _ := received(t, u); len(data) > 100 {
		t.Errorf("%d empty datagrams fit", len(data))
	}

	// No receiver: a connected sender is told once, by reading or writing.
	u.Close()
	for _, err := range []error{second(c.Read(nil)), second(c.Write([]byte("x")))} {
		if err != nil && err != driver.ErrAgain {
			t.Errorf("%v", err)
		}
	}
	if _, err := l.read(c, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Read = %v", err)
	}
	c.Write([]byte("x"))
	l.settle()
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNREFUSED) || !strings.EqualFold(err.Error(), "write: connection refused") {
		t.Errorf("Write = %v", err)
	}
	free := l.packets(a, ":0")
	free.WriteToAddrPort([]byte("x"), netipOf(b, 1))
	l.settle()
	if _, err := free.WriteToAddrPort([]byte("x"), netipOf(b, 1)); err != nil {
		t.Errorf("a socket that is not connected: %v", err)
	}
	l.settle()
	b.powerOff()
	c.Write([]byte("x"))
	if _, err := l.read(c, 1); err != errNothingHappens {
		t.Errorf("without power: %v", err)
	}

	// Mistakes, and operations after Close (endpoint 4).
	for what, x := range map[string]struct{ got, want error }{
		"port 0":     {second(free.WriteToAddrPort(nil, netipOf(b, 0))), syscall.EINVAL},
		"no address": {second(free.WriteTo(nil, &net.TCPAddr{})), driver.ErrSockets},
		"no delay":   {c.SetOption(driver.NoDelay, 1), syscall.EOPNOTSUPP},
	} {
		if !errors.Is(x.got, x.want) {
			t.Errorf("%s: %v, want %v", what, x.got, x.want)
		}
	}
	if _, err := free.WriteToAddrPort(nil, netip.MustParseAddrPort("[::1]:1")); err == nil {
		t.Error("IPv6")
	}
	c.CloseWrite()
	if _, err := c.Write(nil); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after CloseWrite: %v", err)
	}
	c.Close()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(nil); err != net.ErrClosed {
		t.Errorf("Read = %v", err)
	}
	free.Close()
	l.wantNothingLeft()
}

// link 2, link 3: without faults datagrams come in order whatever the latency; loss, duplication
// and reordering are as likely as the link says.
func TestDatagrams_Faults(t *testing.T) {
	const n = 200
	send := func(link Link, faulty func(string) bool) (got []string) {
		l := newLab(t, 1)
		a, b := l.host("a"), l.host("b")
		l.net.SetLink(link)
		l.faulty = faulty
		u, v := l.packets(b, ":1"), l.packets(a, ":0")
		for i := range n {
			v.WriteToAddrPort([]byte{byte(i)}, netipOf(b, 1))
			l.pass(ms)
		}
		l.settle()
		got, _ = received(t, u)
		return got
	}
	if got := send(Link{MinLatency: ms, MaxLatency: 50 * ms}, nil); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("%d arrived, sorted: %v", len(got), slices.IsSorted(got))
	}
	if got := send(Link{Loss: 0.25}, nil); len(got) < 130 || len(got) > 170 || !slices.IsSorted(got) {
		t.Errorf("loss of a quarter: %d of %d arrived", len(got), n)
	}
	if got := send(Link{Duplicate: 0.25}, nil); len(got) < 230 || len(got) > 270 || !slices.IsSorted(got) {
		t.Errorf("duplication of a quarter: %d of %d arrived", len(got), n)
	}
	got := send(Link{Reorder: 0.25}, nil)
	late := 0
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			late++
		}
	}
	if len(got) != n || late < 20 || late > 70 {
		t.Errorf("reordering of a quarter: %d arrived, %d late", len(got), late)
	}
	// A single loss, as in a minimised failure.
	i := 0
	got = send(Link{Loss: 0.25}, func(string) bool { i++; return i == 5 })
	if len(got) != n-1 || slices.Contains(got, "\x04") {
		t.Errorf("%d arrived without the fifth", len(got))
	}
}
