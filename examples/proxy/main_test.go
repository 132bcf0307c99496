package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// proxying runs body with the proxy in front of the test's own listener.
func proxying(t *testing.T, body func(ctx context.Context, proxy string, target *asyncio.Listener, reports *[]error) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			target, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer target.Close()
			address := asyncio.CreateFuture[string](ctx)
			var reports []error
			proxy := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return run(ctx, "127.0.0.1:0", target.Addr().String(), func(a string) { _ = address.SetResult(a) },
					func(err error) { reports = append(reports, err) })
			}))
			a, err := address.Await(ctx)
			if err != nil {
				return err
			}
			if err := body(ctx, a, target, &reports); err != nil {
				return err
			}
			proxy.Cancel()
			if _, err := proxy.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("the proxy: %v", err)
			}
			return nil
		})
	}))
	if err != nil {
		t.Error(err)
	}
}

// The client sends everything and says so. Only then does the server answer, with more than fits
// into any buffer.
func TestProxy_HalfClose(t *testing.T) {
	question, answer := bytes.Repeat([]byte("question"), 100_000), bytes.Repeat([]byte("answer"), 500_000)
	proxying(t, func(ctx context.Context, proxy string, target *asyncio.Listener, reports *[]error) error {
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			c, err := target.AcceptContext(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, question) {
				t.Errorf("the server got %d bytes, want %d", len(got), len(question))
			}
			_, e := c.Write(answer)
			return errors.Join(err, e)
		}))
		c, err := asyncio.Dial(ctx, "tcp", proxy)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(question); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(c)
		if !bytes.Equal(got, answer) || len(*reports) > 0 {
			t.Errorf("the client got %d bytes, want %d; reports %v", len(got), len(answer), *reports)
		}
		_, e := server.Await(ctx)
		return errors.Join(err, e)
	})
}

// A reset by the server reaches the client as a reset, not as the end of the stream, and other
// clients are not disturbed.
func TestProxy_Reset(t *testing.T) {
	proxying(t, func(ctx context.Context, proxy string, target *asyncio.Listener, reports *[]error) error {
		connect := func() (client, server *asyncio.Conn, err error) {
			if client, err = asyncio.Dial(ctx, "tcp", proxy); err == nil {
				server, err = target.AcceptContext(ctx)
			}
			return client, server, err
		}
		client, server, err := connect()
		if err != nil {
			return err
		}
		defer client.Close()
		other, otherServer, err := connect()
		if err != nil {
			return err
		}
		defer other.Close()
		defer otherServer.Close()
		if err := server.Abort(); err != nil {
			return err
		}
		if n, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("after the reset: %d, %v", n, err)
		}
		if len(*reports) != 1 {
			t.Errorf("reports: %v", *reports)
		}
		if _, err := other.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(otherServer, make([]byte, 1))
		return err
	})
}

func TestProxy_NobodyThere(t *testing.T) {
	proxying(t, func(ctx context.Context, proxy string, target *asyncio.Listener, reports *[]error) error {
		if err := target.Close(); err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", proxy)
		if err == nil {
			defer c.Close()
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes", n)
			}
		} else if !errors.Is(err, syscall.ECONNRESET) { // the proxy may be faster
			return err
		}
		for len(*reports) == 0 {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if len(*reports) != 1 {
			t.Errorf("reports: %v", *reports)
		}
		return nil
	})
}
