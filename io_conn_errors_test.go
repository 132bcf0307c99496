package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// attempt is an operation that waits, with the name that package net gives it.
type attempt struct {
	name, op string
	do       func(ctx context.Context) error
	method   func() error // the method without ctx, nil if there is none
}

// attempts returns operations of every kind that wait for ever.
func attempts(t *testing.T, ctx context.Context) (all []attempt, done func()) {
	t.Helper()
	c, s := connect(t, ctx)
	full, deaf := connect(t, ctx)
	clientConfig, serverConfig := configs(t)
	secure, secureServer := connectTLS(t, ctx, clientConfig, serverConfig)
	ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	pc, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
	must(t, err)
	p := make([]byte, 1)
	r, w := asyncio.NewStreams(s)
	all = []attempt{
		{"Conn.Read", "read", func(ctx context.Context) error { return second(c.ReadContext(ctx, p)) }, func() error { return second(c.Read(p)) }},
		{"Conn.Write", "write", func(ctx context.Context) error { return second(full.WriteContext(ctx, make([]byte, 64<<20))) },
			func() error { return second(full.Write(make([]byte, 64<<20))) }},
		{"Accept", "accept", func(ctx context.Context) error { return second(ln.AcceptContext(ctx)) }, func() error { return second(ln.Accept()) }},
		{"ReadFrom", "read", func(ctx context.Context) error { _, _, err := pc.ReadFromContext(ctx, p); return err },
			func() error { _, _, err := pc.ReadFrom(p); return err }},
		{"TLSConn.Read", "read", func(ctx context.Context) error { return second(secure.ReadContext(ctx, p)) }, func() error { return second(secure.Read(p)) }},
		{"TLSConn.Write", "write", func(ctx context.Context) error { return second(secureServer.WriteContext(ctx, make([]byte, 64<<20))) }, nil},
		{"ReadLine", "read", func(ctx context.Context) error { return second(r.ReadLine(ctx)) }, nil},
	}
	return all, func() {
		for _, c := range []io.Closer{c, s, full, deaf, secure, secureServer, ln, pc} {
			c.Close()
		}
		w.Abort()
	}
}

// isOp returns what is wrong with err as an error of package net, nil if it is right.
func isOp(err error, op string, timeout bool) error {
	var ne net.Error
	switch o, ok := err.(*net.OpError); {
	case !ok:
		return fmt.Errorf("%T (%v), want a *net.OpError", err, err)
	case o.Op != op:
		return fmt.Errorf("%v, want the operation %q", err, op)
	case !errors.As(err, &ne) || ne.Timeout() != timeout:
		return fmt.Errorf("%v: Timeout is %v", err, !timeout)
	}
	return nil
}

// A cancel during an operation returns a *net.OpError. Libraries take that to mean that the
// connection is broken, and give up a connection with a half-sent message. A task that returns it
// still ends cancelled.
func TestConn_CancelIsAnOpError(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		all, done := attempts(t, ctx)
		defer done()
		for _, a := range all {
			task := start(ctx, a.do)
			settle(t, ctx)
			task.Cancel("enough")
			err := ended(ctx, task)
			if e := isOp(err, a.op, false); e != nil {
				t.Errorf("%s: %v", a.name, e)
			}
			if !errors.Is(err, asyncio.ErrCancelled) || !errors.Is(err, context.Canceled) || !task.Cancelled() {
				t.Errorf("%s: %v, cancelled: %v", a.name, err, task.Cancelled())
			}
			// A cancel whose cause is a deadline is not a timeout of the connection.
			task = start(ctx, a.do)
			settle(t, ctx)
			task.CancelCause(context.DeadlineExceeded)
			if e := isOp(ended(ctx, task), a.op, false); e != nil {
				t.Errorf("%s, with a cause: %v", a.name, e)
			}
		}
		return nil
	})
}

func TestConn_EndOfContextIsAnOpError(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		all, done := attempts(t, ctx)
		defer done()
		for _, a := range all {
			limited, cancel := asyncio.WithTimeout(ctx, time.Millisecond)
			for limited.Err() != nil { // the machine stopped for a millisecond while it was made
				cancel()
				limited, cancel = asyncio.WithTimeout(ctx, time.Millisecond)
			}
			for _, when := range []string{"while it waits", "before"} {
				err := a.do(limited)
				// ReadLine with a done context does not reach the connection
				if e := isOp(err, a.op, true); e != nil && !(a.name == "ReadLine" && when == "before") {
					t.Errorf("%s, %s: %v", a.name, when, e)
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s, %s: %v", a.name, when, err)
				}
			}
			cancel()
			if expired, err := asyncio.MoveOnAfter(ctx, time.Millisecond, a.do); !expired || err != nil {
				t.Errorf("%s: MoveOnAfter = %v, %v", a.name, expired, err)
			}
			if err := asyncio.FailAfter(ctx, time.Millisecond, a.do); !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("%s: FailAfter = %v", a.name, err)
			}
			err := asyncio.Timeout(ctx, time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return a.do(ctx) })
			if _, ok := err.(*asyncio.TimeoutError); !ok {
				t.Errorf("%s: Timeout = %v", a.name, err)
			}
		}
		return nil
	})
}

// A context that ended with the cause io.EOF is not the end of the peer's data.
func TestConn_EndOfContextIsNotTheEnd(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		c, s := connect(t, ctx)
		defer c.Close()
		defer s.Close()
		inner, cancel := context.WithCancelCause(ctx)
		reader := start(ctx, func(context.Context) error { return second(c.ReadContext(inner, make([]byte, 1))) })
		settle(t, ctx)
		cancel(io.EOF)
		if err := ended(ctx, reader); err == io.EOF || !errors.Is(err, io.EOF) {
			t.Errorf("Read = %v, want io.EOF inside an error that says it was the context's", err)
		}
		return nil
	})
}

// A misused call returns a *net.OpError too. Otherwise a library could be left with half a message
// and an error that it ignores.
func TestConn_MisuseIsAnOpError(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		all, done := attempts(t, ctx)
		defer done()
		for _, a := range all {
			if a.method == nil {
				continue
			}
			waits := start(ctx, a.do)
			settle(t, ctx)
			busy := a.method()
			outside := asyncio.CreateFuture[error](ctx)
			loop(t, ctx).CallSoon(func() { outside.SetResult(a.method()) })
			callback, err := outside.Await(ctx)
			if err != nil {
				return err
			}
			for want, err := range map[error]error{asyncio.ErrBusy: busy, asyncio.ErrNotInTask: callback} {
				if e := isOp(err, a.op, false); e != nil || !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v; %v", a.name, err, want, e)
				}
			}
			waits.Cancel()
			if err := ended(ctx, waits); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("%s: %v", a.name, err)
			}
		}
		return nil
	})
}

// Dial, Listen and ListenPacket fail with package net's errors, which name the address.
func TestDial_CancelIsAnOpError(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for op, do := range map[string]func(ctx context.Context) error{
			"dial":          func(ctx context.Context) error { return second(asyncio.Dial(ctx, "tcp", "127.0.0.1:1")) },
			"listen":        func(ctx context.Context) error { return second(asyncio.Listen(ctx, "tcp", "127.0.0.1:1")) },
			"listen packet": func(ctx context.Context) error { return second(asyncio.ListenPacket(ctx, "udp", "127.0.0.1:1")) },
		} {
			task := start(ctx, func(ctx context.Context) error {
				asyncio.CurrentTask(ctx).Cancel()
				return do(ctx)
			})
			err := ended(ctx, task)
			if e := isOp(err, op[:min(len(op), 6)], false); e != nil || !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
				t.Errorf("%s: %v; %v", op, err, e)
			}
			var to *net.OpError
			if errors.As(err, &to) && (to.Addr == nil || to.Addr.String() != "127.0.0.1:1") {
				t.Errorf("%s: %v does not say what", op, err)
			}
			over, cancel := context.WithCancel(ctx)
			cancel()
			if e := isOp(do(over), op[:min(len(op), 6)], false); e != nil {
				t.Errorf("%s with a context that is over: %v", op, e)
			}
		}
		return nil
	})
}
