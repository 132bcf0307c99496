package asyncio_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestPacketConn(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		a, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer b.Close()
		c, err := asyncio.DialPacket(ctx, "udp", a.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()

		p := make([]byte, 2000)
		for _, size := range []int{0, 1, 1400} { // an empty datagram is a datagram too
			if n, err := b.WriteTo(pattern(size), a.LocalAddr()); n != size || err != nil {
				t.Errorf("WriteTo = %d, %v", n, err)
			}
			n, from, err := a.ReadFrom(p)
			if n != size || err != nil || from.String() != b.LocalAddr().String() {
				t.Errorf("ReadFrom = %d, %v, %v", n, from, err)
			}
			if n, err := c.Write(pattern(size)); n != size || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			n, ap, err := a.ReadFromUDPAddrPort(p)
			if n != size || err != nil || ap.String() != c.LocalAddr().String() {
				t.Errorf("ReadFromUDPAddrPort = %d, %v, %v", n, ap, err)
			}
			if _, err := a.WriteToUDPAddrPort(pattern(size), ap); err != nil {
				t.Error(err)
			}
			if n, err := c.Read(p); n != size || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
		}

		a.SetReadDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		if _, _, err := a.ReadFrom(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		a.SetReadDeadline(time.Time{})
		receive := start(ctx, func(ctx context.Context) error {
			_, _, err := a.ReadFromContext(ctx, p)
			return err
		})
		settle(t, ctx)
		if _, _, err := a.ReadFrom(p); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second ReadFrom: %v", err)
		}
		receive.Cancel()
		if err := ended(ctx, receive); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := b.WriteTo([]byte("kept"), a.LocalAddr()); err != nil {
			return err
		}
		if n, _, err := a.ReadFrom(p); string(p[:n]) != "kept" || err != nil {
			t.Errorf("after a cancel: %q, %v", p[:n], err)
		}
		receive = start(ctx, func(ctx context.Context) error {
			_, _, err := a.ReadFrom(p)
			return err
		})
		settle(t, ctx)
		a.Close()
		if err := ended(ctx, receive); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		return nil
	})
}

// Addresses of both families arrive as package net returns them. An address that cannot be reached
// is an error.
func TestPacketConn_Addresses(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		for _, local := range append(loopbacks(t), ":0") {
			plain, err := net.ListenPacket("udp", local)
			if err != nil {
				return err
			}
			defer plain.Close()
			c, err := asyncio.ListenPacket(ctx, "udp", local)
			if err != nil {
				return err
			}
			defer c.Close()
			port := func(a net.Addr) uint16 { return a.(*net.UDPAddr).AddrPort().Port() }
			for _, host := range loopbacks(t) {
				ip := netip.MustParseAddrPort(host).Addr()
				to := netip.AddrPortFrom(ip, port(plain.LocalAddr()))
				_, refused := plain.(*net.UDPConn).WriteToUDPAddrPort(nil, netip.AddrPortFrom(ip, port(c.LocalAddr())))
				if refused != nil && strings.HasSuffix(t.Name(), "portable") {
					continue // the goroutine reports an error one datagram late
				}
				n, err := c.WriteToUDPAddrPort([]byte("x"), to)
				if (err == nil) != (refused == nil) {
					t.Errorf("from %s to %v: %v, and package net: %v", local, to, err, refused)
				}
				if err != nil || refused != nil {
					continue
				}
				if n != 1 {
					t.Errorf("from %s to %v: %d bytes", local, to, n)
				}
				// Both sides see the same addresses.
				p := make([]byte, 10)
				//asynciovet:allow blocking the datagram is there already
				_, seen, err := plain.(*net.UDPConn).ReadFromUDPAddrPort(p)
				if err != nil {
					return err
				}
				_, from, err := c.ReadFromUDPAddrPort(p)
				if err != nil {
					return err
				}
				if from.Addr() != seen.Addr() || from.Port() != port(plain.LocalAddr()) || seen.Port() != port(c.LocalAddr()) {
					t.Errorf("at %s from %v: %v; package net: %v", local, ip, from, seen)
				}
				if _, err := plain.WriteTo(nil, net.UDPAddrFromAddrPort(seen)); err != nil {
					return err
				}
				_, a, err := c.ReadFrom(p)
				if err != nil {
					return err
				}
				if u, ok := a.(*net.UDPAddr); !ok || u.AddrPort() != from || u.String() != net.UDPAddrFromAddrPort(from).String() {
					t.Errorf("at %s from %v: %v, want %v", local, ip, a, from)
				}
			}
			if _, err := c.WriteToUDPAddrPort(nil, netip.AddrPort{}); err == nil && !strings.HasSuffix(t.Name(), "portable") {
				t.Errorf("from %s to no address: no error", local)
			}
		}
		return nil
	})
}

// loopbacks returns the addresses of this host to listen at, with IPv6 if the host has it.
func loopbacks(t *testing.T) []string {
	t.Helper()
	c, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		return []string{"127.0.0.1:0"}
	}
	must(t, c.Close())
	return []string{"127.0.0.1:0", "[::1]:0"}
}
