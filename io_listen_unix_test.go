//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A listener that runs out of descriptors reports it once, waits, and goes on. The connections that
// were waiting are not lost.
func TestListener_OutOfDescriptors(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		var r reports
		handler := l.GetExceptionHandler()
		l.SetExceptionHandler(r.handle)
		defer l.SetExceptionHandler(handler)

		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		const n = 3
		var clients []*asyncio.Conn
		for range n {
			c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			clients = append(clients, c)
		}
		release := useUpDescriptors(t)
		defer release()
		accepting := start(ctx, func(ctx context.Context) error {
			for range n {
				c, err := ln.AcceptContext(ctx)
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte("!")); err != nil {
					return err
				}
				defer c.Close()
			}
			return nil
		})
		for len(r.messages()) == 0 {
			must(t, asyncio.Sleep(ctx, 0))
		}
		settle(t, ctx)
		release()
		for _, c := range clients {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		equal(t, "reports", r.messages(), []string{"socket.accept() out of system resource"})
		return ended(ctx, accepting)
	})
}

// The file of a Unix socket belongs to the maker of the socket, such as a service manager, which
// goes on listening there. NewListener does not remove it.
func TestNewListener_LeavesTheFile(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		owner, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		defer owner.Close()
		f, err := owner.(*net.UnixListener).File()
		if err != nil {
			return err
		}
		defer f.Close()
		passed, err := net.FileListener(f)
		if err != nil {
			return err
		}
		made, err := net.Listen("unix", path+"2")
		if err != nil {
			return err
		}
		for _, nl := range []net.Listener{passed, made} {
			ln, err := asyncio.NewListener(ctx, nl)
			if err != nil {
				return err
			}
			at := ln.Addr().String()
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("the file is gone: %v", err)
			}
		}
		c, err := asyncio.Dial(ctx, "unix", path)
		if err != nil {
			t.Fatalf("the owner is not to be reached any more: %v", err)
		}
		return c.Close()
	})
}

// A socket file left by a server that has ended does not keep the next server from listening. Any
// other file does, and is left alone.
func TestListen_ReplacesStaleFile(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		old, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		old.(*net.UnixListener).SetUnlinkOnClose(false)
		old.Close()
		ln, err := asyncio.Listen(ctx, "unix", path)
		if err != nil {
			t.Fatalf("Listen: %v", err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its own file: %v", err)
		}
		// the file of a datagram socket stays after a close, in package net and in Python
		for range 2 {
			pc, err := asyncio.ListenPacket(ctx, "unixgram", path+"g")
			if err != nil {
				t.Fatalf("ListenPacket: %v", err)
			}
			pc.Close()
		}
		must(t, os.WriteFile(path, []byte("precious"), 0o600))
		if _, err := asyncio.Listen(ctx, "unix", path); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen at a file that is no socket: %v", err)
		}
		if b, err := os.ReadFile(path); string(b) != "precious" || err != nil {
			t.Errorf("the file: %q, %v", b, err)
		}
		return nil
	})
}

// A server can take the path of a running one, as Python's does. It keeps the path when the other
// closes.
func TestListen_TakesThePlace(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		var servers []*asyncio.Listener
		for range 2 {
			ln, err := asyncio.Listen(ctx, "unix", path)
			if err != nil {
				return err
			}
			servers = append(servers, ln)
		}
		for range 2 {
			c, err := asyncio.Dial(ctx, "unix", path)
			if err != nil {
				return err
			}
			s, err := servers[1].AcceptContext(ctx)
			if err != nil {
				return err
			}
			if err := errors.Join(c.Close(), s.Close(), servers[0].Close()); err != nil {
				t.Error(err)
			}
		}
		if err := servers[1].Close(); err != nil {
			t.Error(err)
		}
		if _, err := asyncio.Dial(ctx, "unix", path); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Dial after both have closed: %v", err)
		}
		return nil
	})
}
