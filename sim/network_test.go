package sim

import (
	"errors"
	"fmt"
	"io"
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

const ms = time.Millisecond

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
		{a, "tcp", "b:80", &net.TCPAddr{IP: net.IPv6loopback}, "", nil, "IPv6 is not simulated"},
		{a, "unix", "/run/b", &net.TCPAddr{}, "", nil, "mismatched local address type"},
		{a, "tcp", "b", nil, "", nil, "missing port"},
		{a, "tcp", "b:http", nil, "", nil, "unknown port"},
		{a, "tcp", "b:70000", nil, "", nil, "invalid port"},
		{a, "tcp", "[::1]:80", nil, "", nil, "IPv6 is not simulated"},
		{a, "tcp6", "b:80", nil, "", errors.ErrUnsupported, `network "tcp6" is not simulated`},
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
		{"tcp", "[::]:80", nil, "IPv6 is not simulated"},
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

// tcp 5: when an attempt to connect ends, and with which result.
func TestNetwork_Connect(t *testing.T) {
	l := newLab(t, 1)
	a, b, c := l.host("a"), l.host("b"), l.host("c")
	c.powerOff()
	ln := l.listen(b, "tcp", ":80")
	var err error
	connect := func(address string) func() {
		return func() {
			var conn driver.Connecting
			if conn, err = l.dial(a, "tcp", address); conn != nil {
				conn.Close()
			}
		}
	}
	for _, x := range []struct {
		address string
		err     error
		after   time.Duration
	}{
		{"b:80", nil, 10 * ms},
		{"b:81", syscall.ECONNREFUSED, 10 * ms},
		{"c:80", syscall.ETIMEDOUT, 127 * time.Second},
		{"10.0.0.99:80", syscall.ETIMEDOUT, 127 * time.Second},
	} {
		if d := l.took(connect(x.address)); !errors.Is(err, x.err) || d != x.after {
			t.Errorf("%s: %v after %v, want %v after %v", x.address, err, d, x.err, x.after)
		}
	}
	var sys interface{ Timeout() bool }
	if connect("c:80")(); !errors.As(err, &sys) || !sys.Timeout() || !strings.EqualFold(err.Error(), "connect: connection timed out") {
		t.Errorf("%v is no time-out", err)
	}

	// A lost request is sent again after a second; so is a lost answer.
	l.net.Cut("a", "b")
	l.at(l.clock+500*ms, func() { l.net.Mend("a", "b") })
	if d := l.took(connect("b:80")); err != nil || d != 1010*ms {
		t.Errorf("the request was lost: %v after %v", err, d)
	}
	l.net.Cut("b", "a")
	l.at(l.clock+500*ms, func() { l.net.Mend("b", "a") })
	if d := l.took(connect("b:80")); err != nil || d > 1020*ms || d < 1000*ms {
		t.Errorf("the answer was lost: %v after %v", err, d)
	}

	// An attempt that is given up leaves nothing behind.
	conn, err := a.Dial("tcp", "b:80", nil)
	if err != nil || conn.Connect() != driver.ErrAgain {
		t.Fatalf("Dial = %v", err)
	}
	conn.Close()
	if err := conn.Connect(); err != net.ErrClosed {
		t.Errorf("Connect = %v", err)
	}
	l.settle()
	ln.Close()
	l.wantNothingLeft()
}

// tcp 5: a listener that does not accept makes its clients wait.
func TestNetwork_Backlog(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")
	l.net.SetBacklog(2)
	ln := l.listen(b, "tcp", ":80")
	for range 2 {
		if _, err := l.dial(a, "tcp", "b:80"); err != nil {
			t.Fatal(err)
		}
	}
	l.at(l.clock+1500*ms, func() { ln.Accept() })
	d := l.took(func() {
		if _, err := l.dial(a, "tcp", "b:80"); err != nil {
			t.Error(err)
		}
	})
	if d != 3010*ms { // the requests after 0 and 1 s were dropped
		t.Errorf("the third was connected after %v", d)
	}
	if d := l.took(func() {
		if _, err := l.dial(a, "tcp", "b:80"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Error(err)
		}
	}); d != 127*time.Second {
		t.Errorf("the fourth gave up after %v", d)
	}
	// Connections not accepted when the listener closes are reset.
	var clients []*tcpConn
	for _, c := range a.sys.connections() {
		clients = append(clients, c)
	}
	ln.Close()
	l.settle()
	reset := 0
	for _, c := range clients {
		if c.err == syscall.ECONNRESET {
			reset++
		}
	}
	if len(clients) != 3 || reset != 2 {
		t.Errorf("%d of %d clients were reset, want 2 of 3", reset, len(clients))
	}
	a.kill()
	b.kill()
	l.wantNothingLeft()
}

// tcp 1 to tcp 4: the bytes written are the bytes read, though in other pieces, and never more are
// on their way than the buffers hold.
func TestNetwork_Stream(t *testing.T) {
	for _, network := range []string{"tcp", "loopback", "unix"} {
		t.Run(network, func(t *testing.T) {
			l := newLab(t, 1)
			l.net.SetLink(Link{MinLatency: 1 * ms, MaxLatency: 9 * ms})
			a, b := l.host("a"), l.host("b")
			var client, server driver.Endpoint
			if network == "tcp" {
				client, server = l.connect(a, b)
			} else if network == "loopback" {
				client, server = l.connect(a, a)
			} else {
				ln := l.listen(a, "unix", "/s")
				c, err := l.dial(a, "unix", "/s")
				if err != nil {
					t.Fatal(err)
				}
				client, server = c, l.accept(ln)
				if server.LocalAddr().String() != "/s" || client.RemoteAddr().String() != "/s" {
					t.Errorf("from %v to %v", client.RemoteAddr(), server.LocalAddr())
				}
				ln.Close()
			}
			want := pattern(100_000)
			var got strings.Builder
			pieces, sent := 0, 0
			p := make([]byte, 10_000)
			reading := l.ear(server)
			reading.then = func(read, _ bool) {
				for read {
					n, err := server.Read(p)
					got.Write(p[:n])
					if err != nil {
						break
					}
					pieces++
				}
			}
			if _, err := server.Read(p); err != driver.ErrAgain {
				t.Errorf("Read = %v", err)
			}
			for i := 0; sent < len(want); i++ {
				n := min(1+i*37%3000, len(want)-sent)
				l.mustWrite(client, want[sent:sent+n])
				sent += n
			}
			client.CloseWrite()
			l.settle()
			if got.String() != want || pieces < 5 {
				t.Errorf("%d bytes came in %d pieces, want %d", got.Len(), pieces, len(want))
			}
			if _, err := server.Read(p); err != io.EOF {
				t.Errorf("Read = %v, want EOF", err)
			}
			if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write after CloseWrite = %v", err)
			}
			l.mustWrite(server, "the other way")
			server.Close()
			l.wantEnd(client, "the other way", nil)
			client.Close()
			l.wantNothingLeft()
		})
	}
}

// tcp 3: a message may arrive in two pieces, and two messages in one.
func TestNetwork_SegmentsEndAnywhere(t *testing.T) {
	l := newLab(t, 1)
	l.net.SetLink(Link{MinLatency: 1 * ms, MaxLatency: 9 * ms})
	client, server := l.connect(l.host("a"), l.host("b"))
	split, joined := 0, 0
	for range 100 {
		l.mustWrite(client, "a message")
		s, err := l.read(server, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(s) < 9 {
			split++
			l.wantRead(server, "a message"[len(s):])
		}
		l.mustWrite(client, "first")
		l.mustWrite(client, "second")
		for n := len(server.(*tcpConn).in); n == len(server.(*tcpConn).in); {
			l.step()
		}
		l.pass(0)
		if s, _ = l.read(server, 100); len(s) > 5 {
			joined++
		}
		l.wantRead(server, "firstsecond"[len(s):])
	}
	if split < 10 || split > 40 || joined < 10 || joined > 90 {
		t.Errorf("of 100, %d were split and %d joined", split, joined)
	}
}

// tcp 2: a slow reader stops its writer, and lets it go on.
func TestNetwork_SlowReader(t *testing.T) {
	l := newLab(t, 1)
	l.net.SetBuffers(10_000, 20_000)
	client, server := l.connect(l.host("a"), l.host("b"))
	n, err := l.write(client, pattern(100_000))
	if n != 30_000 || err != errNothingHappens {
		t.Errorf("Write took %d, %v; want 30000", n, err)
	}
	quiet := l.clock
	l.wantRead(server, pattern(100_000)[:5])
	l.settle()
	if m, _ := client.Write([]byte("x")); m != 0 {
		t.Error("5 bytes of room were worth speaking of")
	}
	l.wantRead(server, pattern(100_000)[5:20_000])
	rest := pattern(100_000)[n:]
	if m, err := l.write(client, rest); m != 20_000 || err != errNothingHappens {
		t.Errorf("then it took %d, %v; want 20000", m, err)
	}
	if l.clock-quiet > time.Minute {
		t.Errorf("it took %v", l.clock-quiet)
	}
	l.wantRead(server, pattern(100_000)[20_000:50_000])

	// It works with buffers of one byte, too.
	l.net.SetBuffers(1, 1)
	client, server = l.connect(l.host("c"), l.host("d"))
	go1 := l.ear(server)
	var got []byte
	go1.then = func(bool, bool) {
		for p := make([]byte, 1); ; {
			n, err := server.Read(p)
			if got = append(got, p[:n]...); err != nil {
				return
			}
		}
	}
	go1.then(true, false)
	l.mustWrite(client, "one by one")
	l.settle()
	if string(got) != "one by one" {
		t.Errorf("%q", got)
	}
}

// tcp 8 and tcp 2: the message that there is room again may be lost.
func TestNetwork_LostWindow(t *testing.T) {
	l := newLab(t, 1)
	l.net.SetBuffers(1000, 1000)
	client, server := l.connect(l.host("a"), l.host("b"))
	if n, err := l.write(client, pattern(3000)); n != 2000 || err != errNothingHappens {
		t.Fatalf("Write = %d, %v", n, err)
	}
	l.net.Cut("b", "a")
	l.wantRead(server, pattern(3000)[:1000])
	l.pass(time.Minute)
	l.net.Mend("b", "a")
	d := l.took(func() { l.wantRead(server, pattern(3000)[1000:2000]) })
	if d == 0 || d > 2*time.Minute {
		t.Errorf("it went on after %v", d)
	}
	// If nobody answers, the writer gives up.
	l.mustWrite(client, pattern(1000))
	l.settle()
	l.mustWrite(client, pattern(1000))
	l.net.Cut("b", "a")
	d = l.took(func() {
		if _, err := l.write(client, "x"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("Write = %v", err)
		}
	})
	if d < 924*time.Second || d > 1200*time.Second {
		t.Errorf("it gave up after %v", d)
	}
}

// tcp 7 and tcp 9: how connections end.
func TestNetwork_Ends(t *testing.T) {
	l := newLab(t, 1)
	a, b := l.host("a"), l.host("b")

	// Bytes written before Close are delivered.
	client, server := l.connect(a, b)
	l.mustWrite(client, pattern(60_000))
	client.Close()
	l.wantEnd(server, pattern(60_000), nil)
	l.wantEnd(server, "", nil)
	server.Close()
	l.wantNothingLeft()

	// Something unread: the peer is reset, behind the bytes that have arrived.
	client, server = l.connect(a, b)
	l.mustWrite(server, "for the client")
	l.mustWrite(client, "unread")
	l.settle()
	server.Close()
	l.wantEnd(client, "for the client", syscall.ECONNRESET)
	l.wantEnd(client, "", nil) // the error is reported once
	if _, err := l.write(client, "x"); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write after a reset: %v", err)
	}
	if err := client.CloseWrite(); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("CloseWrite after a reset: %v", err)
	}
	client.Close()
	l.wantNothingLeft()

	// The error is reported to the writer.
	client, server = l.connect(a, b)
	server.Abort()
	l.settle()
	if _, err := l.write(client, "x"); !errors.Is(err, syscall.ECONNRESET) || !strings.EqualFold(err.Error(), "write: connection reset by peer") {
		t.Errorf("Write: %v", err)
	}
	l.wantEnd(client, "", nil)
	client.Close()

	// Abort drops the unsent bytes.
	client, server = l.connect(a, b)
	l.net.SetLinkBetween("a", "b", Link{MinLatency: 5 * ms, Bandwidth: 10_000})
	client.Write([]byte(pattern(60_000)))
	client.Abort()
	if got, err := l.readAll(server); !errors.Is(err, syscall.ECONNRESET) || len(got) > 60_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	server.Close()
	l.wantNothingLeft()
	l.net.SetLinkBetween("a", "b", Link{MinLatency: 5 * ms})

	// Without lingering Close is Abort; with a linger time it is Abort after that time.
	client, server = l.connect(a, b)
	client.SetOption(driver.Linger, 0)
	client.Close()
	l.wantEnd(server, "", syscall.ECONNRESET)
	server.Close()
	l.net.SetBuffers(1000, 1000)
	client, server = l.connect(a, b)
	l.net.SetBuffers(defaultBuffer, defaultBuffer)
	client.Write([]byte(pattern(1000)))
	l.settle()
	client.Write([]byte(pattern(1000))) // cannot be delivered
	client.SetOption(driver.Linger, 3)
	client.Close()
	l.pass(3004 * ms)
	if err := server.(*tcpConn).err; err != 0 {
		t.Errorf("it lingered for less than 3 s: %v", err)
	}
	l.pass(ms)
	if err := server.(*tcpConn).err; err != syscall.ECONNRESET {
		t.Errorf("it lingered for more than 3 s: %v", err)
	}
	l.wantEnd(server, pattern(1000), syscall.ECONNRESET)
	server.Close()
	l.wantNothingLeft()

	// Writing to a closed peer: the first write gets through, and a reset comes back; then the pipe
	// is broken.
	client, server = l.connect(a, b)
	server.Close()
	l.wantEnd(client, "", nil)
	l.mustWrite(client, "x")
	l.settle()
	for range 2 {
		if _, err := l.write(client, "x"); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write to who has closed: %v", err)
		}
	}
	l.wantEnd(client, "", nil)
	client.Close()
	l.wantNothingLeft()

	// CloseRead: reads are at the end at once, and bytes that arrive can still be read.
	client, server = l.connect(a, b)
	client.CloseRead()
	l.wantEnd(client, "", nil)
	l.mustWrite(server, "late")
	l.settle()
	l.wantEnd(client, "late", nil)
	client.Close()
	server.Close()
	l.wantNothingLeft()

	// endpoint 4: after Close every operation returns net.ErrClosed.
	for what, err := range map[string]error{
		"Read": second(client.Read(nil)), "Write": second(client.Write(nil)), "CloseWrite": client.CloseWrite(), "CloseRead": client.CloseRead(),
		"SetOption": client.SetOption(driver.NoDelay, 1), "Detach": second(client.Detach()),
	} {
		if err != net.ErrClosed {
			t.Errorf("%s of a closed connection: %v", what, err)
		}
	}
	if err := errors.Join(client.Close(), client.Abort()); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// tcp 7: both directions are closed at the same time, and every packet may be lost once.
func TestNetwork_ClosingSurvivesLoss(t *testing.T) {
	for lost := 1; ; lost++ {
		l := newLab(t, 1)
		a, b := l.host("a"), l.host("b")
		client, server := l.connect(a, b)
		l.net.SetLink(Link{MinLatency: 5 * ms, Loss: 0.5})
		n := 0
		l.faulty = func(string) bool { n++; return n == lost }
		l.mustWrite(client, "to the server")
		client.CloseWrite()
		l.mustWrite(server, "to the client")
		server.CloseWrite()
		l.wantEnd(client, "to the client", nil)
		l.wantEnd(server, "to the server", nil)
		client.Close()
		server.Close()
		l.wantNothingLeft()
		if n < lost { // every packet has been lost once
			if lost < 8 {
				t.Errorf("there were %d packets only", n)
			}
			break
		}
	}
}

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

// tcp 6: a lost segment costs one time-out and is sent again alone; the next time-out starts with
// 200 ms anew.
func TestNetwork_Retransmission(t *testing.T) {
	l := newLab(t, 1)
	client, server := l.connect(l.host("a"), l.host("b"))
	l.settle()
	l.net.SetLink(Link{MinLatency: 5 * ms, Loss: 0.1})
	n := 0
	l.faulty = func(name string) bool { n++; return n == 3 }
	packets := func() int { x := l.net.Traffic("a", "b"); return x.Delivered + x.Lost }
	before := packets()
	start := l.clock
	l.mustWrite(client, pattern(40_000))
	l.pass(100 * ms)
	first := packets() - before
	l.wantRead(server, pattern(40_000))
	d := l.clock - start
	if again := packets() - before - first; d < 200*ms || d > 250*ms || first < 20 || again != 1 {
		t.Errorf("it took %v, and %d of %d packets were sent again", d, again, first)
	}

	l.faulty = func(string) bool { return false }
	l.net.Cut("a", "b")
	l.mustWrite(client, "x")
	l.pass(time.Minute)
	l.net.Mend("a", "b")
	l.wantRead(server, "x")
	l.pass(20 * ms)
	n = 2
	l.faulty = func(string) bool { n++; return n == 3 }
	l.mustWrite(client, "y")
	if d := l.took(func() { l.wantRead(server, "y") }); d < 200*ms || d > 500*ms {
		t.Errorf("after a long break one loss cost %v", d)
	}
}

// endpoint 1: a waiting notifier is told once, until it tries again.
func TestNetwork_ToldOnce(t *testing.T) {
	l := newLab(t, 1)
	client, server := l.connect(l.host("a"), l.host("b"))
	l.ear(server)
	p := make([]byte, 10)
	for _, waits := range []bool{false, true} {
		l.busy = true
		want := 0
		if waits {
			if _, err := server.Read(p); err != driver.ErrAgain {
				t.Errorf("Read = %v", err)
			}
			want = 1
		}
		for range 3 {
			client.Write([]byte("x"))
			l.pass(time.Second)
		}
		if len(l.told) != want {
			t.Errorf("told %d times, want %d", len(l.told), want)
		}
		l.busy = false
		l.tell()
		l.wantRead(server, "xxx")
	}
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
