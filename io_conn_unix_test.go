//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio"
)

// The peer resets the connection, whatever this side is doing.
func TestConn_Reset(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		reset := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: %v, want ECONNRESET or EPIPE", what, err)
			}
		}
		client, server := connect(t, ctx)
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		writer := start(ctx, func(ctx context.Context) error {
			for {
				if _, err := client.Write(pattern(1 << 20)); err != nil {
					return err
				}
			}
		})
		if err := stuck(ctx, client); err != nil {
			return err
		}
		server.Abort()
		// The system reports the reset to either the reader or the writer. The other one sees the
		// end of the stream or a broken pipe.
		if err := ended(ctx, reader); err != io.EOF {
			reset("a reader that waits", err)
		}
		reset("a writer that waits", ended(ctx, writer))
		for range 3 {
			_, err := client.Write([]byte("x"))
			if err == nil { // the goroutine reports the error one write late
				_, err = client.Write([]byte("x"))
			}
			reset("a later Write", err)
		}
		client.Close()

		client, server = connect(t, ctx)
		reader = start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		server.Abort()
		reset("a reader alone", ended(ctx, reader))
		client.Close()

		// After both directions were half-closed, nothing is left to reset.
		client, server = connect(t, ctx)
		must(t, client.CloseWrite())
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
		server.Abort()
		if _, err := io.ReadAll(client); err != nil {
			reset("after half-close", err)
		}
		return client.Close()
	})
}

// Detach without a spare descriptor fails and leaves the connection intact on its loop.
func TestConn_DetachOutOfDescriptors(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		if _, err := server.Write([]byte("hello")); err != nil {
			return err
		}
		release := useUpDescriptors(t)
		_, err := client.Detach()
		release()
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("Detach: %v, want EMFILE", err)
		}
		p := make([]byte, 5)
		if _, err := io.ReadFull(client, p); string(p) != "hello" || err != nil {
			t.Errorf("%q, %v", p, err)
		}
		// the connection is still in the poller
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(p)
			return err
		})
		settle(t, ctx)
		if _, err := server.Write([]byte("again")); err != nil {
			return err
		}
		return ended(ctx, reader)
	})
}

// useUpDescriptors takes all free descriptors until release is called.
func useUpDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 256
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	var taken []int
	for {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.EMFILE {
			break
		}
		must(t, err)
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			syscall.Close(fd)
		}
		taken = nil
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	}
}

// On Unix sockets a read stops short at a message that carries descriptors, even if more data
// follows.
func TestConn_UnixReadStopsShort(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fds[1])
		file := os.NewFile(uintptr(fds[0]), "")
		nc, err := netFileConn(file)
		if err != nil {
			return err
		}
		c, err := asyncio.NewConn(ctx, nc)
		if err != nil {
			return err
		}
		defer c.Close()
		got := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			p := make([]byte, 100)
			n, err := io.ReadAtLeast(c, p, 3)
			return string(p[:n]), err
		})
		settle(t, ctx) // the read waits now
		for _, message := range []string{"a", "b", "c"} {
			must(t, syscall.Sendmsg(fds[1], []byte(message), syscall.UnixRights(fds[1]), nil, 0))
		}
		if s, err := got.Await(ctx); s != "abc" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		return nil
	})
}

func netFileConn(f *os.File) (net.Conn, error) {
	defer f.Close()
	return net.FileConn(f)
}
