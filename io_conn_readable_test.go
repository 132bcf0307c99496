package asyncio_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/goasyncio/asyncio"
)

// readinessOf is what a Conn and a TLSConn have in common here.
type readinessOf interface {
	net.Conn
	ReadNowait(p []byte) (int, error)
	OnReadable(fn func()) error
}

// becomesReadable waits until c has something to read, by OnReadable, and returns what ReadNowait
// then reads.
func becomesReadable(ctx context.Context, c readinessOf, p []byte) (int, error) {
	for {
		n, err := c.ReadNowait(p)
		if err != asyncio.ErrWouldBlock {
			return n, err
		}
		f := asyncio.CreateFuture[asyncio.None](ctx)
		if err := c.OnReadable(func() { _ = f.SetResult(asyncio.None{}) }); err != nil {
			return 0, err
		}
		if _, err := f.Await(ctx); err != nil {
			return 0, err
		}
	}
}

func TestConn_OnReadable(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		defer server.Close()
		return tryReadable(t, ctx, client, server)
	})
}

func TestTLSConn_OnReadable(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.sign(t, "server")
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			onSockets(t, func(t *testing.T, ctx context.Context) error {
				client, server := connect(t, ctx)
				accepted := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.TLSConn, error) {
					return asyncio.TLSServer(ctx, server, &tls.Config{Certificates: []tls.Certificate{cert}})
				})
				c, err := asyncio.TLSClient(ctx, client, &tls.Config{RootCAs: ca.pool, ServerName: "server", MaxVersion: version})
				if err != nil {
					return err
				}
				s, err := accepted.Await(ctx)
				if err != nil {
					return err
				}
				defer s.Close()
				return tryReadable(t, ctx, c, s)
			})
		})
	}
}

// tryReadable tries both functions on client, at whose other end is server. It closes client.
func tryReadable(t *testing.T, ctx context.Context, client, server readinessOf) error {
	p := make([]byte, 8)
	if n, err := client.ReadNowait(p); n != 0 || err != asyncio.ErrWouldBlock {
		t.Errorf("ReadNowait with nothing there = %d, %v", n, err)
	}
	calls := 0
	must(t, client.OnReadable(func() { calls += 100 }))
	must(t, client.OnReadable(func() { calls++ })) // replaces it
	if settle(t, ctx); calls != 0 {
		t.Errorf("%d calls before anything came", calls)
	}
	if _, err := server.Write([]byte("hello")); err != nil {
		return err
	}
	for calls == 0 {
		if err := asyncio.Sleep(ctx, 1); err != nil {
			return err
		}
	}
	if settle(t, ctx); calls != 1 {
		t.Errorf("%d calls for one message", calls)
	}
	if n, err := becomesReadable(ctx, client, p[:2]); string(p[:n]) != "he" || err != nil {
		t.Errorf("ReadNowait = %q, %v", p[:n], err)
	}
	if n, err := client.ReadNowait(p); string(p[:n]) != "llo" || err != nil {
		t.Errorf("the rest = %q, %v", p[:n], err)
	}

	// A task that waits gets the bytes, and others are refused.
	reader := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
		p := make([]byte, 8)
		n, err := client.Read(p)
		return string(p[:n]), err
	})
	settle(t, ctx)
	if _, err := client.ReadNowait(p); !errors.Is(err, asyncio.ErrBusy) {
		t.Errorf("ReadNowait beside a reader = %v", err)
	}
	if _, err := server.Write([]byte("task")); err != nil {
		return err
	}
	if s, err := reader.Await(ctx); s != "task" || err != nil {
		t.Errorf("the reader got %q, %v", s, err)
	}

	// One that was taken back is not called, also if it was due already.
	for {
		_, err := client.ReadNowait(p)
		if err == asyncio.ErrWouldBlock {
			break
		}
		if err != nil {
			return err
		}
	}
	must(t, client.OnReadable(func() { t.Error("called after it was taken back") }))
	if _, err := server.Write([]byte("x")); err != nil {
		return err
	}
	must(t, client.OnReadable(nil))
	if n, err := becomesReadable(ctx, client, p); string(p[:n]) != "x" || err != nil {
		t.Errorf("ReadNowait = %q, %v", p[:n], err)
	}

	// The end of the stream is something to read, and stays so.
	if err := server.Close(); err != nil {
		return err
	}
	for range 2 {
		if n, err := becomesReadable(ctx, client, p); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
	}

	// So is a close at this end, before and after.
	told := 0
	must(t, client.OnReadable(func() { told++ }))
	if err := client.Close(); err != nil {
		return err
	}
	if settle(t, ctx); told != 1 {
		t.Errorf("%d calls for Close", told)
	}
	if _, err := client.ReadNowait(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	must(t, client.OnReadable(func() { told++ }))
	if settle(t, ctx); told != 2 {
		t.Errorf("no call for a connection that is closed already")
	}
	return nil
}
