package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// In production NetOf is package net, for goroutines and without a loop.
func TestNet(t *testing.T) {
	use := func(ctx context.Context, n *asyncio.Net) error {
		ln, err := n.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "hello")
		}()
		c, err := n.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, ok := c.(*net.TCPConn); !ok {
			return fmt.Errorf("the connection is a %T", c)
		}
		if all, err := io.ReadAll(c); string(all) != "hello" || err != nil {
			return fmt.Errorf("read %q, %w", all, err)
		}
		p, err := n.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer p.Close()
		if addrs, err := n.LookupHost(ctx, "127.0.0.1"); err != nil || len(addrs) != 1 {
			return fmt.Errorf("127.0.0.1 is at %v, %w", addrs, err)
		}
		return nil
	}
	if err := use(t.Context(), asyncio.NetOf(t.Context())); err != nil {
		t.Errorf("without a loop: %v", err)
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		for _, of := range []context.Context{ctx, asyncio.Outside(ctx)} {
			n := asyncio.NetOf(of)
			if _, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, use(ctx, n) }); err != nil {
				return err
			}
			if _, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, use(ctx, asyncio.NetOf(ctx)) }); err != nil {
				return err
			}
			// In a task it would block the loop.
			//asynciovet:allow nestedrun it is refused, which is what the test wants
			if _, err := n.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, asyncio.ErrLoopBlocked) {
				return fmt.Errorf("a dial in a task: %w", err)
			}
			//asynciovet:allow nestedrun it is refused, which is what the test wants
			if _, err := n.LookupHost(ctx, "localhost"); !errors.Is(err, asyncio.ErrLoopBlocked) {
				return fmt.Errorf("a look-up in a task: %w", err)
			}
			ln, err := n.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			_ = ln.Close()
		}
		return nil
	}))
	if err != nil {
		t.Errorf("with a loop: %v", err)
	}
}

// Where there is no network for goroutines, the error says so.
func TestNet_Refusals(t *testing.T) {
	if _, err := asyncio.NetOf(nil).Dial("tcp", "127.0.0.1:1"); !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Errorf("a nil context: %v", err)
	}
	done, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	if _, err := asyncio.NetOf(t.Context()).Listen(done, "tcp", "127.0.0.1:0"); !errors.Is(err, cause) {
		t.Errorf("a context that has ended: %v", err)
	}
	ctx := asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop)
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		//asynciovet:allow nestedrun it is refused, which is what the test wants
		_, err := asyncio.NetOf(ctx).Dial("tcp", "127.0.0.1:1")
		return err
	}))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a loop on virtual time: %v", err)
	}
}
