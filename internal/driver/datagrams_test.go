package driver_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A packetEnd is an endpoint for datagrams with its notifier.
type packetEnd struct {
	driver.PacketEndpoint
	told
}

func (w *world) packetEnd(c net.PacketConn) *packetEnd {
	w.Helper()
	e, err := w.d.AdoptPacketConn(c)
	w.must(err)
	x := &packetEnd{PacketEndpoint: e, told: told{w: w}}
	x.Notify(&x.told)
	return x
}

func (e *packetEnd) Close() error {
	err := e.PacketEndpoint.Close()
	e.closed = true
	return err
}

// retry calls op until it need not wait. It tries again only when it is told to (endpoint 1).
func (e *packetEnd) retry(count *int, op func() error) error {
	e.w.Helper()
	for {
		before := *count
		err := op()
		if err != driver.ErrAgain {
			return err
		}
		e.w.until("Ready", func() bool { return *count > before })
	}
}

func (e *packetEnd) receive(p []byte) (n int, from net.Addr, err error) {
	e.w.Helper()
	err = e.retry(&e.reads, func() error { n, from, err = e.ReadFrom(p); return err })
	return n, from, err
}

func (e *packetEnd) send(p []byte, to net.Addr) error {
	e.w.Helper()
	return e.retry(&e.writes, func() error {
		n, err := e.WriteTo(p, to)
		if err == nil && n != len(p) {
			e.w.Errorf("WriteTo = %d, want %d", n, len(p))
		}
		return err
	})
}

// expect receives one datagram.
func (e *packetEnd) expect(want []byte) net.Addr {
	e.w.Helper()
	p := make([]byte, len(want)+10)
	n, from, err := e.receive(p)
	e.w.must(err)
	if !bytes.Equal(p[:n], want) {
		e.w.Fatalf("received %d bytes %.20q, want %d bytes %.20q", n, p[:n], len(want), want)
	}
	return from
}

// bind makes a socket outside of the driver. An empty address is a new file.
func (w *world) bind(network, address string) net.PacketConn {
	w.Helper()
	if address == "" {
		address = filepath.Join(w.TempDir(), "s")
	}
	c, err := net.ListenPacket(network, address)
	if err != nil {
		w.Skip(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

// packetKinds are the kinds of sockets that carry datagrams.
var packetKinds = []struct{ name, network, address string }{
	{"udp4", "udp", "127.0.0.1:0"},
	{"udp6", "udp", "[::1]:0"},
	{"unixgram", "unixgram", ""},
	{"in a wrapper", "udp", "127.0.0.1:0"},
}

// onPackets runs test on each kind of socket for datagrams in each poller.
func onPackets(t *testing.T, test func(w *world, a, b *packetEnd)) {
	for _, k := range packetKinds {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				ca, cb := w.bind(k.network, k.address), w.bind(k.network, k.address)
				if k.name == "in a wrapper" {
					ca, cb = struct{ net.PacketConn }{ca}, struct{ net.PacketConn }{cb}
				}
				test(w, w.packetEnd(ca), w.packetEnd(cb))
			})
		})
	}
}

// A datagram arrives whole, cut to the buffer, or empty, with its sender. A receiver that waits is
// told (endpoint 1).
func TestPacket_Datagrams(t *testing.T) {
	onPackets(t, func(w *world, a, b *packetEnd) {
		p := make([]byte, 100)
		for range 5 {
			for range 2 {
				if _, _, err := b.ReadFrom(p); err != driver.ErrAgain {
					w.Fatal(err)
				}
			}
			w.must(a.send([]byte("hello"), b.LocalAddr()))
			w.must(a.send(nil, b.LocalAddr()))
			w.must(a.send([]byte("cut off"), b.LocalAddr()))
			w.must(a.send([]byte("whole"), b.LocalAddr()))
			if from := b.expect([]byte("hello")); from.String() != a.LocalAddr().String() || from.Network() != a.LocalAddr().Network() {
				w.Errorf("from %v, want %v", from, a.LocalAddr())
			}
			b.expect(nil)
			if n, _, err := b.receive(p[:3]); string(p[:n]) != "cut" || err != nil {
				w.Errorf("received %q, %v", p[:n], err)
			}
			w.must(b.send([]byte("back"), b.expect([]byte("whole"))))
			a.expect([]byte("back"))
		}
	})
}

// The methods with netip addresses do the same for UDP.
func TestPacket_AddrPort(t *testing.T) {
	onPackets(t, func(w *world, a, b *packetEnd) {
		if a.LocalAddr().Network() != "udp" {
			_, err := a.WriteToAddrPort(nil, netip.AddrPort{})
			w.is("WriteToAddrPort", err, driver.ErrSockets)
			return
		}
		of := func(e *packetEnd) netip.AddrPort { return e.LocalAddr().(*net.UDPAddr).AddrPort() }
		w.must(a.retry(&a.writes, func() error { _, err := a.WriteToAddrPort([]byte("hello"), of(b)); return err }))
		p := make([]byte, 100)
		var n int
		var from netip.AddrPort
		w.must(b.retry(&b.reads, func() (err error) { n, from, err = b.ReadFromAddrPort(p); return err }))
		if string(p[:n]) != "hello" || from != of(a) {
			w.Errorf("received %q from %v, want hello from %v", p[:n], from, of(a))
		}
	})
}

// A socket for both families of addresses reports senders in the form that package net has.
func TestPacket_BothFamilies(t *testing.T) {
	inEach(t, func(w *world) {
		c, adopted := w.bind("udp", "[::]:0").(*net.UDPConn), w.bind("udp", "[::]:0")
		e := w.packetEnd(adopted)
		p := make([]byte, 100)
		for _, host := range []string{"127.0.0.1", "::1"} {
			peer := w.bind("udp", net.JoinHostPort(host, "0"))
			for range 2 {
				for _, to := range []net.Addr{c.LocalAddr(), e.LocalAddr()} {
					_, err := peer.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(host), Port: to.(*net.UDPAddr).Port})
					w.must(err)
				}
			}
			_, want, err := c.ReadFrom(p)
			w.must(err)
			if _, got, err := e.receive(p); err != nil || got.String() != want.String() {
				w.Errorf("from %v, %v, want %v", got, err, want)
			}
			_, wantPort, err := c.ReadFromUDPAddrPort(p)
			w.must(err)
			var got netip.AddrPort
			w.must(e.retry(&e.reads, func() error { _, got, err = e.ReadFromAddrPort(p); return err }))
			if got != wantPort {
				w.Errorf("from %v, want %v", got, wantPort)
			}
			w.must(e.send([]byte("back"), want))
			_, _, err = peer.ReadFrom(p)
			w.must(err)
		}
	})
}

// An address without a host is this machine, as in package net.
func TestPacket_NoHost(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) {
			inEach(t, func(w *world) {
				a, b := w.packetEnd(w.bind("udp", at)), w.packetEnd(w.bind("udp", at))
				w.must(a.send([]byte("hello"), &net.UDPAddr{Port: b.LocalAddr().(*net.UDPAddr).Port}))
				b.expect([]byte("hello"))
			})
		})
	}
}

// An address that cannot be reached, or is none, is an error of the datagram and not of the socket.
func TestPacket_Addresses(t *testing.T) {
	onPackets(t, func(w *world, a, b *packetEnd) {
		bad := []net.Addr{&net.TCPAddr{}, nil}
		if a.LocalAddr().Network() == "udp" {
			bad = append(bad, &net.UnixAddr{Name: "/nowhere", Net: "unixgram"})
			if a.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
				bad = append(bad, &net.UDPAddr{IP: net.IPv6loopback, Port: 9})
			}
		} else {
			bad = append(bad, &net.UnixAddr{Name: "/nowhere", Net: "unixgram"}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		}
		for _, to := range bad {
			// the error may come one datagram late (portable 2)
			err := a.send([]byte("lost"), to)
			for i := 0; err == nil && i < 2; i++ {
				err = a.send([]byte("perhaps"), b.LocalAddr())
			}
			if err == nil {
				w.Errorf("no error for %v", to)
			}
		}
		w.must(a.send([]byte("x"), b.LocalAddr()))
		b.expect([]byte("x"))
	})
}

// A datagram that is too large is refused, and does no harm to others.
func TestPacket_TooLarge(t *testing.T) {
	onPackets(t, func(w *world, a, b *packetEnd) {
		if err := a.SetOption(driver.WriteBuffer, 10_000); err != driver.ErrSockets { // a wrapper
			w.must(err)
		}
		err := a.send(make([]byte, 1<<20), b.LocalAddr())
		for i := 0; err == nil && i < 2; i++ {
			err = a.send([]byte("perhaps"), b.LocalAddr())
		}
		w.is("a large datagram", err, syscall.EMSGSIZE)
		w.must(a.send([]byte("last"), b.LocalAddr()))
		for p := make([]byte, 100); ; {
			n, _, err := b.receive(p)
			w.must(err)
			if string(p[:n]) == "last" {
				break
			}
			if string(p[:n]) != "perhaps" {
				w.Errorf("received %d bytes", n)
			}
		}
	})
}

// A Unix socket carries large datagrams, whole.
func TestPacket_Large(t *testing.T) {
	inEach(t, func(w *world) {
		a, b := w.packetEnd(w.bind("unixgram", "")), w.packetEnd(w.bind("unixgram", ""))
		for _, size := range []int{65_507, 65_536, 65_537, 100_000} {
			want := pattern(size, size)
			w.must(a.send(want, b.LocalAddr()))
			b.expect(want)
		}
	})
}

// A sender finds no room while the receiver does not read, and is told when there is some.
func TestPacket_Full(t *testing.T) {
	inEach(t, func(w *world) {
		a, b := w.packetEnd(w.bind("unixgram", "")), w.packetEnd(w.bind("unixgram", ""))
		sent := 0
		for quiet := 0; quiet < 100; {
			_, err := a.WriteTo([]byte{byte(sent)}, b.LocalAddr())
			if err == nil {
				sent++
				quiet = 0
				continue
			}
			w.is("WriteTo", err, driver.ErrAgain)
			w.poll()
			quiet++
		}
		before := a.writes
		for i := range sent {
			b.expect([]byte{byte(i)})
		}
		w.until("Ready to write", func() bool { return a.writes > before })
		w.must(a.send([]byte("more"), b.LocalAddr()))
		b.expect([]byte("more"))
	})
}

// The room that a sender waits for may have been taken by another sender.
func TestPacket_FullOfOthers(t *testing.T) {
	inEach(t, func(w *world) {
		a, b, c := w.packetEnd(w.bind("unixgram", "")), w.packetEnd(w.bind("unixgram", "")), w.packetEnd(w.bind("unixgram", ""))
		sent := 0
		for quiet := 0; quiet < 100; {
			_, err := a.WriteTo([]byte{byte(sent)}, b.LocalAddr())
			if err == nil {
				sent++
				quiet = 0
				continue
			}
			w.is("WriteTo", err, driver.ErrAgain)
			w.poll()
			quiet++
		}
		before := c.writes
		for err := error(nil); err == nil; sent++ {
			if _, err = c.WriteTo([]byte("other"), b.LocalAddr()); err != nil {
				w.is("WriteTo", err, driver.ErrAgain)
				break
			}
		}
		for p := make([]byte, 9); sent > 0; sent-- {
			_, _, err := b.receive(p)
			w.must(err)
		}
		w.until("Ready to write", func() bool { return c.writes > before })
	})
}

// After Close no Ready comes and every operation returns net.ErrClosed (endpoint 4).
func TestPacket_Close(t *testing.T) {
	onPackets(t, func(w *world, a, b *packetEnd) {
		if _, _, err := b.ReadFrom(make([]byte, 1)); err != driver.ErrAgain {
			w.Fatal(err)
		}
		_, err := b.WriteTo([]byte("accepted"), a.LocalAddr())
		w.must(err)
		to := b.LocalAddr()
		w.must(b.Close())
		w.must(b.Close())
		for what, op := range map[string]func() error{
			"ReadFrom":         func() error { _, _, err := b.ReadFrom(make([]byte, 1)); return err },
			"ReadFromAddrPort": func() error { _, _, err := b.ReadFromAddrPort(make([]byte, 1)); return err },
			"WriteTo":          func() error { _, err := b.WriteTo(nil, a.LocalAddr()); return err },
			"SyscallConn":      func() error { _, err := b.SyscallConn(); return err },
			"SetOption":        func() error { return b.SetOption(driver.ReadBuffer, 10_000) },
		} {
			w.is(what+" after Close", op(), net.ErrClosed)
		}
		if u, ok := a.LocalAddr().(*net.UDPAddr); ok {
			_, err := b.WriteToAddrPort(nil, u.AddrPort())
			w.is("WriteToAddrPort after Close", err, net.ErrClosed)
		}
		a.expect([]byte("accepted"))
		_ = a.send([]byte("x"), to)
		if a.send([]byte("to itself"), a.LocalAddr()) != nil { // the error of x (portable 2)
			w.must(a.send([]byte("to itself"), a.LocalAddr()))
		}
		for got := ""; got != "to itself"; {
			p := make([]byte, 20)
			n, _, err := a.receive(p)
			if err == nil {
				got = string(p[:n])
			}
		}
	})
}

// A socket that is not bound has no address to answer to.
func TestPacket_UnnamedSender(t *testing.T) {
	inEach(t, func(w *world) {
		b := w.packetEnd(w.bind("unixgram", ""))
		c, err := net.Dial("unixgram", b.LocalAddr().String())
		w.must(err)
		a := w.adopt(c)
		_, err = a.write([]byte("x"))
		w.must(err)
		if from := b.expect([]byte("x")); from == nil || from.Network() != "unixgram" || from.String() != "" {
			w.Errorf("from %#v", from)
		}
	})
}

// connectedPackets are the kinds of connections that carry datagrams.
var connectedPackets = []struct {
	name string
	pair func(w *world) (a, b *end)
}{
	{"udp", connectedBy("udp", "127.0.0.1:0", "127.0.0.1:0")},
	{"udp6", connectedBy("udp", "[::1]:0", "[::1]:0")},
	{"unixgram", connectedUnix},
	{"unixpacket", adopted("unixpacket", "")},
}

func connectedBy(network, atA, atB string) func(w *world) (a, b *end) {
	return func(w *world) (a, b *end) {
		// each is bound first, then connected to the other
		ca, cb := w.bind(network, atA), w.bind(network, atB)
		la, lb := ca.LocalAddr().(*net.UDPAddr), cb.LocalAddr().(*net.UDPAddr)
		ca.Close()
		cb.Close()
		x, err := net.DialUDP(network, la, lb)
		w.must(err)
		y, err := net.DialUDP(network, lb, la)
		w.must(err)
		return w.adopt(x), w.adopt(y)
	}
}

// connectedUnix has a sender without a name.
func connectedUnix(w *world) (a, b *end) {
	cb := w.bind("unixgram", "")
	ca, err := net.Dial("unixgram", cb.LocalAddr().String())
	w.must(err)
	return w.adopt(ca), w.adopt(cb.(net.Conn))
}

// A connection for datagrams keeps each one apart. An empty one is no end of the stream, except
// where the system does not tell the two apart.
func TestPacket_Connected(t *testing.T) {
	for _, k := range connectedPackets {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				a, b := k.pair(w)
				send := func(p []byte) {
					w.Helper()
					if n, err := a.write(p); n != len(p) || err != nil {
						w.Fatalf("Write = %d, %v, want %d", n, err, len(p))
					}
				}
				expect := func(p []byte, want string) {
					w.Helper()
					if n, err := b.read(p); string(p[:n]) != want || err != nil {
						w.Fatalf("Read = %.20q, %v, want %.20q", p[:n], err, want)
					}
				}
				p := make([]byte, 200_000)
				for range 5 {
					b.again()
					send([]byte("one"))
					send([]byte("another"))
					send([]byte("whole"))
					expect(p, "one")
					expect(p[:3], "ano")
					expect(p, "whole")
					if k.name != "unixpacket" {
						send([]byte{})
						send([]byte("more"))
						expect(p, "")
						expect(p, "more")
					}
				}
				if k.name != "udp" && k.name != "udp6" {
					large := pattern(7, 100_000)
					send(large)
					expect(p, string(large))
				}
				if k.name == "unixpacket" {
					w.must(a.Close())
					if n, err := b.read(p); n != 0 || err != io.EOF {
						w.Errorf("Read = %d, %v at the end", n, err)
					}
				}
			})
		})
	}
}

// A datagram that nobody was there to receive is one error. The connection goes on.
func TestPacket_Refused(t *testing.T) {
	inEach(t, func(w *world) {
		gone := w.bind("udp", "127.0.0.1:0")
		to := gone.LocalAddr().(*net.UDPAddr)
		w.must(gone.Close())
		c, err := net.DialUDP("udp", nil, to)
		w.must(err)
		a := w.adopt(c)
		a.again()
		_, err = a.write([]byte("lost"))
		w.must(err)
		_, err = a.read(make([]byte, 9))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			w.Skipf("the system does not tell: %v", err)
		}
		peer, err := net.ListenUDP("udp", to)
		w.must(err)
		defer peer.Close()
		_, err = a.write([]byte("hello"))
		for i := 0; err != nil && i < 2; i++ {
			_, err = a.write([]byte("hello"))
		}
		w.must(err)
		p := make([]byte, 9)
		_, _, err = peer.ReadFrom(p)
		w.must(err)
		_, err = peer.WriteTo([]byte("back"), a.LocalAddr())
		w.must(err)
		n, err := a.read(p)
		for i := 0; err != nil && i < 2; i++ {
			n, err = a.read(p)
		}
		if string(p[:n]) != "back" || err != nil {
			w.Errorf("Read = %q, %v", p[:n], err)
		}
	})
}
