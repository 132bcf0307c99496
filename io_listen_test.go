package asyncio_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestListener_CloseAndCancel(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		accept := func() *asyncio.Task[*asyncio.Conn] {
			a := asyncio.CreateTask(ctx, ln.AcceptContext)
			settle(t, ctx)
			return a
		}
		a := accept()
		if _, err := ln.AcceptContext(ctx); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Accept: %v", err)
		}
		a.Cancel()
		if _, err := a.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		// A connection that comes after the cancel is there for the next Accept.
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		s, err := ln.AcceptContext(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		if s.RemoteAddr().String() != c.LocalAddr().String() || s.LocalAddr().String() != ln.Addr().String() {
			t.Errorf("accepted %v at %v, dialled %v to %v", s.RemoteAddr(), s.LocalAddr(), c.LocalAddr(), ln.Addr())
		}
		ln.SetDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		ln.SetDeadline(time.Time{})
		a = accept()
		ln.Close()
		if _, err := a.Await(ctx); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		return nil
	})
}

func TestReusePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // Windows has nothing like it
	}
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		a, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0", asyncio.ReusePort())
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := asyncio.Listen(ctx, "tcp", a.Addr().String(), asyncio.ReusePort())
		if err != nil {
			return err
		}
		defer b.Close()
		if _, err := asyncio.Listen(ctx, "tcp", a.Addr().String()); err == nil {
			t.Error("a third without the option was let in")
		}
		return nil
	})
}
