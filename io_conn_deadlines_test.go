package asyncio_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestConn_Deadline(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		isTimeout := func(what string, err error) {
			t.Helper()
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%s: %v, want os.ErrDeadlineExceeded", what, err)
			}
		}
		p := make([]byte, 8)
		client.SetReadDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		_, err := client.Read(p)
		isTimeout("ahead", err)
		if _, err := server.Write([]byte("late")); err != nil {
			return err
		}
		_, err = client.Read(p)
		isTimeout("passed, with data", err)
		client.SetReadDeadline(time.Time{})
		if n, err := client.Read(p); string(p[:n]) != "late" || err != nil {
			t.Errorf("without a deadline: %q, %v", p[:n], err)
		}
		// One deadline is set while the reader waits, and one is taken back.
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(p)
			return err
		})
		settle(t, ctx)
		client.SetReadDeadline(loop(t, ctx).Now().Add(time.Hour))
		client.SetReadDeadline(loop(t, ctx).Now().Add(-time.Hour))
		isTimeout("while it waits", ended(ctx, reader))

		client.SetDeadline(loop(t, ctx).Now().Add(50 * time.Millisecond))
		for err = error(nil); err == nil; {
			_, err = client.Write(pattern(1 << 20))
		}
		isTimeout("write", err)
		return nil
	})
}

// stalled runs op as a task and then, in one step of the loop, calls come, which brings what op
// waits for. The step holds the loop up until after op's deadline. It takes real time, because the
// data comes from the system or a goroutine.
func stalled(t *testing.T, ctx context.Context, op func(ctx context.Context, deadline time.Time) error, come func() error) error {
	t.Helper()
	deadline := time.Now().Add(300 * time.Millisecond)
	task := start(ctx, func(ctx context.Context) error { return op(ctx, deadline) })
	settle(t, ctx)
	if err := come(); err != nil {
		return err
	}
	if late := time.Since(deadline); late >= 0 {
		t.Errorf("nothing was tested: it came %v after the deadline", late)
	}
	//asynciovet:allow blocking the step has to last until after the deadline
	<-time.After(time.Until(deadline) + 50*time.Millisecond)
	return ended(ctx, task)
}

// Data that was there before the deadline is delivered, however late the loop gets to it (conn 2).
func TestDeadline_AfterStall(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		peer, err := ln.Accept()
		if err != nil {
			return err
		}
		defer peer.Close()
		err = stalled(t, ctx, func(ctx context.Context, deadline time.Time) error {
			c.SetReadDeadline(deadline)
			_, err := c.Read(make([]byte, 1))
			return err
		}, func() error { return second(peer.Write([]byte("x"))) })
		if err != nil {
			t.Errorf("Read: %v", err)
		}

		// Now a writer waits for room.
		c.SetReadDeadline(time.Time{})
		if err := peer.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			return err
		}
		if err := c.SetWriteBuffer(64 << 10); err != nil {
			return err
		}
		err = stalled(t, ctx, func(ctx context.Context, deadline time.Time) error {
			c.SetWriteDeadline(deadline)
			for {
				if _, err := c.Write(make([]byte, 1<<10)); err != nil || time.Now().After(deadline) {
					return err
				}
			}
		}, func() error {
			err := stuck(ctx, c)
			go io.Copy(io.Discard, peer)
			return err
		})
		if err != nil {
			t.Errorf("Write: %v", err)
		}
		return nil
	})
}

func TestDeadline_AcceptAfterStall(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		return stalled(t, ctx, func(ctx context.Context, deadline time.Time) error {
			ln.SetDeadline(deadline)
			c, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			return c.Close()
		}, func() error {
			//asynciovet:allow blocking the step may, and the system accepts for the listener
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			return c.Close()
		})
	})
}

func TestDeadline_DatagramAfterStall(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		c, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer c.Close()
		return stalled(t, ctx, func(ctx context.Context, deadline time.Time) error {
			c.SetReadDeadline(deadline)
			_, _, err := c.ReadFrom(make([]byte, 1))
			return err
		}, func() error {
			peer, err := net.Dial("udp", c.LocalAddr().String())
			if err != nil {
				return err
			}
			defer peer.Close()
			return second(peer.Write([]byte("x")))
		})
	})
}

// One method of a stream, or one record of TLS, may take several reads of the connection. The
// deadline is for the whole. (Not so for connections read by a goroutine, which brings one chunk at
// a time.)
func TestDeadline_StreamAfterStall(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	want := pattern(40_000)
	onRealTime(t, func(ctx context.Context) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		write, written := make(chan struct{}), make(chan error, 1)
		go func() {
			written <- func() error {
				c, err := ln.Accept()
				if err != nil {
					return err
				}
				defer c.Close()
				peer := tls.Server(c, serverConfig)
				if err := peer.Handshake(); err != nil {
					return err
				}
				<-write
				return second(peer.Write(want))
			}()
		}()
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		secure, err := asyncio.TLSClient(ctx, c, clientConfig)
		if err != nil {
			return err
		}
		r, w := asyncio.NewStreams(secure)
		defer w.Close(ctx)
		return stalled(t, ctx, func(ctx context.Context, deadline time.Time) error {
			c.SetReadDeadline(deadline)
			got, err := r.ReadExactly(ctx, len(want))
			if err == nil && !bytes.Equal(got, want) {
				t.Error("other bytes than were sent")
			}
			return err
		}, func() error {
			close(write)
			return <-written
		})
	})
}

// An operation that begins after its deadline fails, as in package net, even if data is there (conn
// 2).
func TestDeadline_PassedBefore(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		r, w := asyncio.NewStreams(c)
		past := loop(t, ctx).Now().Add(-time.Second)
		ln.SetDeadline(past)
		c.SetDeadline(past)
		for what, op := range map[string]func() error{
			"Accept":   func() error { return second(ln.Accept()) },
			"Read":     func() error { return second(c.Read(make([]byte, 1))) },
			"Write":    func() error { return second(c.Write([]byte("x"))) },
			"ReadLine": func() error { return second(r.ReadLine(ctx)) },
			"writer":   func() error { return second(w.Write(ctx, []byte("x"))) },
		} {
			if err := op(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		}
		ln.SetDeadline(time.Time{})
		s, err := ln.AcceptContext(ctx)
		if err != nil {
			return err
		}
		return s.Close()
	})
}
