package sim

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// system 1 to system 3: the meaning of names, addresses and ports, and the error for each mistake.
func TestNetwork_Addresses(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	l.listen(b, "tcp", ":80")
	l.listen(b, "tcp", "127.0.0.1:81")
	l.listen(b, "tcp", "b:82")
	l.listen(b, "unix", "/run/b")
	l.packets(b, ":53")
	for _, c := range []struct {
		from             *process
		network, address string
		local            net.Addr
		remote           string // of the connection, or
		err              error  // that it matches, or
		text             string // text in the error
	}{
		{a, "tcp", "b:80", nil, "10.0.0.2:80", nil, ""},
		{a, "tcp4", "10.0.0.2:80", nil, "10.0.0.2:80", nil, ""},
		{a, "tcp", "[::ffff:10.0.0.2]:80", nil, "10.0.0.2:80", nil, ""},
		{a, "tcp", "b:82", nil, "10.0.0.2:82", nil, ""},
		{a, "tcp", "b:81", nil, "", syscall.ECONNREFUSED, "connect"},
		{a, "tcp", "b:0", nil, "", syscall.ECONNREFUSED, ""},
		{a, "tcp", "localhost:80", nil, "", syscall.ECONNREFUSED, ""},
		{b, "tcp", "localhost:80", nil, "127.0.0.1:80", nil, ""},
		{b, "tcp", "localhost:81", nil, "127.0.0.1:81", nil, ""},
		{b, "tcp", "localhost:82", nil, "", syscall.ECONNREFUSED, ""},
		{b, "tcp", ":80", nil, "127.0.0.1:80", nil, ""},
		{b, "tcp", "0.0.0.0:80", nil, "127.0.0.1:80", nil, ""},
		{b, "tcp", "b:80", nil, "10.0.0.2:80", nil, ""},
		{b, "unix", "/run/b", nil, "/run/b", nil, ""},
		{a, "unix", "/run/b", nil, "", syscall.ENOENT, "connect"},
		{a, "udp", "b:53", nil, "10.0.0.2:53", nil, ""},
		{a, "tcp", "b:80", &net.TCPAddr{Port: 1234}, "10.0.0.2:80", nil, ""},
		// in use by the connection above
		{a, "tcp", "b:80", &net.TCPAddr{Port: 1234}, "", syscall.EADDRINUSE, "bind"},
		{a, "tcp", "b:80", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9)}, "", syscall.EADDRNOTAVAIL, "bind"},
		{a, "tcp", "b:80", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, "", syscall.EINVAL, ""},
		{a, "tcp", "b:80", &net.UDPAddr{}, "", nil, "mismatched local address type"},
		{a, "tcp", "b:80", &net.TCPAddr{IP: net.IPv6loopback}, "", nil, "mismatched local address family"},
		{a, "unix", "/run/b", &net.TCPAddr{}, "", nil, "mismatched local address type"},
		{a, "tcp", "b", nil, "", nil, "missing port"},
		{a, "tcp", "b:http", nil, "", nil, "unknown port"},
		{a, "tcp", "b:70000", nil, "", nil, "invalid port"},
		{a, "tcp", "[::1]:80", nil, "", nil, "there is no IPv6 in this network"},
		{a, "tcp6", "b:80", nil, "", nil, "no suitable address found"},
		{a, "unixgram", "b:80", nil, "", errors.ErrUnsupported, ""},
		{a, "carrier pigeon", "roof", nil, "", net.UnknownNetworkError("carrier pigeon"), ""},
		{a, "tcp", "c:80", nil, "", nil, "no such host"},
	} {
		conn, err := c.from.Dial(c.network, c.address, c.local)
		if err == nil {
			err = l.try(conn, conn.Connect)
		}
		switch {
		case c.remote != "":
			if err != nil || conn.RemoteAddr().String() != c.remote {
				t.Errorf("Dial(%s, %s): %v, want a connection to %s", c.network, c.address, err, c.remote)
			}
		case err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text):
			t.Errorf("Dial(%s, %s) = %v, want %v %s", c.network, c.address, err, c.err, c.text)
		}
	}
	var dns *net.DNSError
	if _, err := a.Dial("tcp", "c:80", nil); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("an unknown host: %v", err)
	}

	for _, c := range []struct {
		network, address string
		err              error
		text             string
	}{
		{"tcp", ":80", syscall.EADDRINUSE, "bind"},
		{"tcp", "127.0.0.1:80", syscall.EADDRINUSE, ""},
		{"tcp", ":81", syscall.EADDRINUSE, ""},
		{"tcp", "b:81", nil, ""}, // beside the listener at 127.0.0.1
		{"tcp", "a:83", syscall.EADDRNOTAVAIL, "bind"},
		{"unix", "", syscall.EINVAL, "bind"},
		{"udp", ":1", nil, "unexpected address type"},
		{"tcp", "[::]:80", nil, "there is no IPv6 in this network"},
		{"pigeon", "", net.UnknownNetworkError("pigeon"), ""},
	} {
		_, err := b.Listen(c.network, c.address)
		if (err == nil) != (c.err == nil && c.text == "") || c.err != nil && !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("Listen(%s, %s) = %v, want %v %s", c.network, c.address, err, c.err, c.text)
		}
	}
	if _, err := b.ListenPacket("udp", "localhost:53"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("ListenPacket = %v", err)
	}
	if _, err := b.ListenPacket("tcp", ":1"); err == nil {
		t.Error("ListenPacket of tcp")
	}

	// Port 0 gives another port each time, the same in each run, and not one of the previous life.
	first := l.listen(a, "tcp", ":0").LocalAddr().String()
	second := l.listen(a, "tcp", ":0").LocalAddr().String()
	a.powerOff()
	a = l.host("a")
	third := l.listen(a, "tcp", ":0").LocalAddr().String()
	if !strings.HasPrefix(first, "0.0.0.0:327") || first == second || second == third || first == third {
		t.Errorf("ports %s, %s, %s", first, second, third)
	}
	a.kill()
	b.kill()
	l.wantNothingLeft()
}

// system 5: a host without power sends nothing, and remembers nothing when it is back.
func TestNetwork_PowerOff(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	ln := l.listen(b, "tcp", ":80")
	client, server := l.connect(a, b)
	idle, _ := l.connect(a, b)
	quiet, _ := l.connect(a, b)
	quiet.SetOption(driver.KeepAlive, 0)
	unix := l.listen(b, "unix", "/s")
	if _, err := server.Read(make([]byte, 1)); err != driver.ErrAgain {
		t.Fatal(err)
	}
	l.ear(server).then = func(bool, bool) { t.Error("a dead program is told") }
	l.mustWrite(client, "x")
	l.busy = true
	l.pass(5 * ms)
	if len(l.told) != 1 {
		t.Errorf("%d were told", len(l.told))
	}
	b.powerOff()
	b.powerOff()
	l.busy = false
	start := l.clock
	for what, err := range map[string]error{
		"Read": second(server.Read(make([]byte, 1))), "Accept": second(ln.Accept()), "Listen": second(b.Listen("tcp", ":1")), "Dial": second(b.Dial("tcp", "a:1", nil)),
		"ListenPacket": second(b.ListenPacket("udp", ":1")), "unix": second(unix.Accept()),
	} {
		if err != net.ErrClosed {
			t.Errorf("%s by a dead program: %v", what, err)
		}
	}
	if err := errors.Join(server.Close(), server.Abort(), ln.Close(), unix.Close()); err != nil {
		t.Errorf("Close by a dead program: %v", err)
	}
	l.mustWrite(client, "nobody hears")
	_, err := l.read(idle, 1)
	if d := l.clock - start; !errors.Is(err, syscall.ETIMEDOUT) || d != 150*time.Second {
		t.Errorf("keep-alive: %v after %v", err, d)
	}
	_, err = l.read(client, 1)
	if d := l.clock - start; !errors.Is(err, syscall.ETIMEDOUT) || d < 924*time.Second || d > 940*time.Second {
		t.Errorf("retransmission: %v after %v", err, d)
	}
	if _, err = l.read(quiet, 1); err != errNothingHappens {
		t.Errorf("without keep-alive: %v", err)
	}

	// It comes back. A peer that sends is reset; a silent peer is reset at the next probe.
	b = l.host("b")
	client, _ = l.connect(a, b)
	idle, _ = l.connect(a, b)
	b.powerOff()
	b = l.host("b")
	l.listen(b, "tcp", ":80")
	l.mustWrite(client, "x")
	d := l.took(func() { l.wantEnd(client, "", syscall.ECONNRESET) })
	if d != 10*ms {
		t.Errorf("it was reset after %v", d)
	}
	if d := l.took(func() { l.wantEnd(idle, "", syscall.ECONNRESET) }); d > 15*time.Second {
		t.Errorf("who is silent was reset after %v", d)
	}
	l.mustWrite(quiet, "x")
	l.wantEnd(quiet, "", syscall.ECONNRESET)

	// Its clients use ports for which the peer still remembers connections of the previous life.
	old, err := b.Dial("tcp", "a:90", &net.TCPAddr{Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	ln = l.listen(a, "tcp", ":90")
	if err := l.try(old, old.Connect); err != nil {
		t.Fatal(err)
	}
	served := l.accept(ln)
	l.settle()
	b.powerOff()
	b = l.host("b")
	again, err := b.Dial("tcp", "a:90", &net.TCPAddr{Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	if d := l.took(func() { err = l.try(again, again.Connect) }); err != nil || d != 1010*ms {
		t.Errorf("from the port of the life before: %v after %v", err, d)
	}
	l.wantEnd(served, "", syscall.ECONNRESET)
	a.kill()
	b.kill()
	l.wantNothingLeft()
}

// system 4: a process that is killed loses its sockets as if it closed them.
func TestNetwork_Kill(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	l.listen(b, "tcp", ":80")
	client, server := l.connect(a, b)
	unread, other := l.connect(a, b)
	u := l.packets(b, ":53")
	l.mustWrite(server, "the last words")
	l.mustWrite(unread, "unread")
	l.settle()
	waiting, err := l.dial(a, "tcp", "b:80") // and no program accepts it
	if err != nil {
		t.Fatal(err)
	}
	l.settle()
	b.kill()
	b.kill()
	for _, h := range []driver.Endpoint{server, other} {
		if _, err := h.Read(make([]byte, 1)); err != net.ErrClosed {
			t.Errorf("Read by a dead program: %v", err)
		}
	}
	if _, _, err := u.ReadFrom(nil); err != net.ErrClosed {
		t.Errorf("ReadFrom by a dead program: %v", err)
	}
	l.wantEnd(client, "the last words", nil)
	l.wantEnd(unread, "", syscall.ECONNRESET)
	l.wantEnd(waiting, "", syscall.ECONNRESET)
	if d := l.took(func() { _, err = l.dial(a, "tcp", "b:80") }); !errors.Is(err, syscall.ECONNREFUSED) || d != 10*ms {
		t.Errorf("after the kill: %v after %v", err, d)
	}
	b = l.host("b")
	l.listen(b, "tcp", ":80")
	if _, err := l.dial(a, "tcp", "b:80"); err != nil {
		t.Errorf("a new life: %v", err)
	}
	b.kill()
	b.powerOff() // after the kill
	if _, err := l.dial(a, "tcp", "b:80"); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("without power: %v", err)
	}
	a.kill()
	l.wantNothingLeft()
}
