package asyncio_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// collected runs the collector until there is a report. It returns the report and removes it from
// r.
func (r *reports) collected(ctx context.Context) (c asyncio.ExceptionContext, err error) {
	for {
		runtime.GC()
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return c, err
		}
		r.mu.Lock()
		n := len(r.all)
		if n > 0 {
			c, r.all = r.all[0], nil
		}
		r.mu.Unlock()
		if n > 0 {
			return c, nil
		}
	}
}

// forget opens something in a task that ends, and drops it.
func forget(ctx context.Context, open func(ctx context.Context) error) error {
	return ended(ctx, start(ctx, open))
}

// A connection that nobody holds any more is closed and reported, with the place where it was made
// (conn 5).
func TestConn_Dropped(t *testing.T) {
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		address := ln.Addr().String()
		for what, open := range map[string]func(ctx context.Context) error{
			"a connection": func(ctx context.Context) error { return second(asyncio.Dial(ctx, "tcp", address)) },
			"streams": func(ctx context.Context) error {
				_, w, err := asyncio.OpenConnection(ctx, address)
				if err == nil {
					_, err = w.Write(ctx, []byte("hello"))
				}
				return err
			},
			"one that was adopted": func(ctx context.Context) error {
				c, err := net.Dial("tcp", address)
				if err != nil {
					return err
				}
				return second(asyncio.NewConn(ctx, c))
			},
		} {
			if err := forget(ctx, open); err != nil {
				return err
			}
			peer, err := ln.Accept()
			if err != nil {
				return err
			}
			c, err := r.collected(ctx)
			if err != nil {
				t.Fatalf("%s: nothing is reported", what)
			}
			if !strings.Contains(c.Message, "unclosed connection") || !strings.Contains(c.Message, peer.RemoteAddr().String()) {
				t.Errorf("%s: %s", what, c.Message)
			}
			if !strings.Contains(c.SourceTraceback, "TestConn_Dropped") {
				t.Errorf("%s: made at %s", what, c.SourceTraceback)
			}
			peer.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, peer); err != nil {
				t.Errorf("%s: the peer: %v", what, err)
			}
			peer.Close()
		}
		return nil
	})
}

func TestPacketConn_Dropped(t *testing.T) {
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		for what, open := range map[string]func(ctx context.Context) error{
			"PacketConn":   func(ctx context.Context) error { return second(asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")) },
			"DatagramConn": func(ctx context.Context) error { return second(asyncio.DialPacket(ctx, "udp", "127.0.0.1:9")) },
		} {
			if err := forget(ctx, open); err != nil {
				return err
			}
			c, err := r.collected(ctx)
			if err != nil {
				t.Fatalf("%s: nothing is reported", what)
			}
			if !strings.Contains(c.Message, "unclosed connection udp 127.0.0.1:") || !strings.Contains(c.SourceTraceback, "TestPacketConn_Dropped") {
				t.Errorf("%s: %s, made at %s", what, c.Message, c.SourceTraceback)
			}
		}
		return nil
	})
}

// A connection that was closed or detached, or that somebody still waits for, is not reported.
func TestConn_NotDropped(t *testing.T) {
	onSystemReporting(t, func(t *testing.T, ctx context.Context, r *reports) error {
		err := forget(ctx, func(ctx context.Context) error {
			for range 10 {
				c, s := connect(t, ctx)
				if err := c.Close(); err != nil {
					return err
				}
				nc, err := s.Detach()
				if err != nil {
					return err
				}
				nc.Close()
			}
			return nil
		})
		if err != nil {
			return err
		}
		var waits *asyncio.Task[asyncio.None]
		var peer *asyncio.Conn
		err = forget(ctx, func(ctx context.Context) error {
			var c *asyncio.Conn
			c, peer = connect(t, ctx)
			waits = start(ctx, func(ctx context.Context) error { defer c.Close(); return second(c.Read(make([]byte, 1))) })
			return nil
		})
		if err != nil {
			return err
		}
		for range 5 {
			runtime.GC()
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if len(r.all) > 0 {
			t.Errorf("%v", r.all)
		}
		if _, err := peer.Write([]byte("x")); err != nil {
			return err
		}
		peer.Close()
		return ended(ctx, waits)
	})
}
