package asyncio_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/goasyncio/asyncio"
)

// Libraries look at a connection's type to learn whether it carries datagrams. As in package net,
// only a datagram connection is a net.PacketConn.
func TestDialContext_Kinds(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		peer, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer peer.Close()
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		var dial func(ctx context.Context, network, address string) (net.Conn, error) = asyncio.DialContext
		for network, address := range map[string]string{"udp": peer.LocalAddr().String(), "tcp": ln.Addr().String()} {
			c, err := dial(ctx, network, address)
			if err != nil {
				return err
			}
			if _, ok := c.(net.PacketConn); ok != (network == "udp") {
				t.Errorf("%s: %T, a net.PacketConn: %v", network, c, ok)
			}
			c.Close()
		}
		if c, err := dial(ctx, "tcp", "nowhere"); c != nil || err == nil {
			t.Errorf("an address that is none: %v, %v", c, err)
		}
		if c, err := dial(ctx, "udp", "nowhere"); c != nil || err == nil {
			t.Errorf("an address that is none: %v, %v", c, err)
		}
		if e := isOp(second(asyncio.Dial(ctx, "udp", peer.LocalAddr().String())), "dial", false); e != nil {
			t.Errorf("Dial of a network for datagrams: %v", e)
		}
		if e := isOp(second(asyncio.DialPacket(ctx, "tcp", ln.Addr().String())), "dial", false); e != nil {
			t.Errorf("DialPacket of a network for streams: %v", e)
		}
		return nil
	})
}

func TestDatagramConn(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		peer, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer peer.Close()
		c, err := asyncio.DialPacket(ctx, "udp", peer.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("ping")); err != nil {
			return err
		}
		p := make([]byte, 10)
		n, from, err := peer.ReadFrom(p)
		if string(p[:n]) != "ping" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		if _, err := peer.WriteTo([]byte("pong"), from); err != nil {
			return err
		}
		n, from, err = c.ReadFrom(p)
		if string(p[:n]) != "pong" || from.String() != peer.LocalAddr().String() || err != nil {
			t.Errorf("%q from %v, %v", p[:n], from, err)
		}
		if _, err := c.WriteTo(p, from); !errors.Is(err, net.ErrWriteToConnected) {
			t.Errorf("WriteTo = %v", err)
		}
		return nil
	})
}

// Connection pools check whether a connection is still good with a non-blocking read of its
// descriptor. The check takes no data and does not wait for a task or goroutine that reads.
func TestConn_LookAtDescriptor(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		c, s := connect(t, ctx)
		defer c.Close()
		defer s.Close()
		reader := start(ctx, func(ctx context.Context) error {
			_, err := io.ReadFull(c, make([]byte, 1))
			return err
		})
		settle(t, ctx)
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		calls := 0
		if err := raw.Read(func(uintptr) bool { calls++; return true }); err != nil || calls != 1 {
			t.Errorf("Read: %v, %d calls", err, calls)
		}
		if err := raw.Write(func(uintptr) bool { calls++; return true }); err != nil || calls != 2 {
			t.Errorf("Write: %v, %d calls", err, calls)
		}
		if err := raw.Read(func(uintptr) bool { return false }); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a Read that would wait: %v", err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			return err
		}
		return ended(ctx, reader)
	})
}
