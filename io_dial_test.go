package asyncio_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

func TestDial_Fails(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ln.Close()
		var op *net.OpError
		if _, err := asyncio.Dial(ctx, "tcp", ln.Addr().String()); !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("refused: %v", err)
		}
		var dns *net.DNSError
		failing := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name server")
		}}}
		if _, err := asyncio.Dial(ctx, "tcp", "name.invalid:1", asyncio.Dialer(failing)); !errors.As(err, &dns) {
			t.Errorf("name not found: %v", err)
		}
		if _, err := asyncio.Dial(ctx, "carrier pigeon", "roof"); err == nil {
			t.Error("an unknown network")
		}
		return nil
	})
}

// A cancelled Dial leaves nothing behind, whenever the cancel comes.
func TestDial_Cancelled(t *testing.T) {
	before := leaktest.Descriptors()
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		for i := range 50 {
			arrived := make(chan struct{})
			d := &net.Dialer{Control: nil, Resolver: nil, ControlContext: nil}
			if i%2 == 0 { // such a dial does not return before it is cancelled
				d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}
			} else {
				close(arrived)
			}
			address := ln.Addr().String()
			if i%2 == 0 {
				address = "name.invalid:1"
			}
			dial := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.Conn, error) {
				return asyncio.Dial(ctx, "tcp", address, asyncio.Dialer(d))
			})
			for range i % 7 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			dial.Cancel()
			c, err := dial.Await(ctx)
			if err == nil {
				c.Close() // the dial was faster than the cancel
			} else if !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("Dial = %v", err)
			}
		}
		return nil
	})
	// a dial may still be closing its descriptor
	for end := time.Now().Add(5 * time.Second); leaktest.Descriptors() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors before, %d after", before, leaktest.Descriptors())
		}
	}
}

// Package net has a timer of its own for a context's deadline. The error is the same whichever
// timer fires first.
func TestDial_ContextEnds(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		late := &net.Dialer{ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
			if d, ok := ctx.Deadline(); ok {
				<-time.After(time.Until(d))
			}
			return os.ErrDeadlineExceeded
		}}
		dial := func(ctx context.Context) error {
			_, err := asyncio.Dial(ctx, "tcp", "127.0.0.1:1", asyncio.Dialer(late))
			return err
		}
		for range 50 {
			if err := asyncio.FailAfter(ctx, 100*time.Microsecond, dial); !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("FailAfter: %v", err)
			}
			if expired, err := asyncio.MoveOnAfter(ctx, 100*time.Microsecond, dial); !expired || err != nil {
				t.Errorf("MoveOnAfter: %v, %v", expired, err)
			}
			inner, cancel := context.WithTimeout(ctx, 100*time.Microsecond)
			if err := dial(inner); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a standard context: %v", err)
			}
			cancel()
		}
		// Another timeout's error is returned unchanged.
		early := &net.Dialer{Control: func(_, _ string, _ syscall.RawConn) error { return os.ErrDeadlineExceeded }}
		return asyncio.FailAfter(ctx, time.Hour, func(ctx context.Context) error {
			if _, err := asyncio.Dial(ctx, "tcp", "127.0.0.1:1", asyncio.Dialer(early)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("another timeout: %v", err)
			}
			return nil
		})
	})
}

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
