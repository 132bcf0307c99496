package sim

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

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
