//go:build unix

package interop

import (
	"context"
	"net"
	"net/rpc"
	"strconv"
	"testing"

	"github.com/goasyncio/asyncio"
)

func TestRPC(t *testing.T) {
	address, s := startRPC(t)
	runBattery(t, s, rpcRows(address))
}

// Answers is the service behind net/rpc.
type Answers struct {
	gate       *gate
	ctx        context.Context
	connection string
}

func (a *Answers) Ask(value string, answer *string) error { *answer = value; return nil }

func (a *Answers) Hold(value string, answer *string) error {
	*answer = value
	return a.gate.wait(a.ctx, value)
}

func (a *Answers) Connection(_ string, answer *string) error { *answer = a.connection; return nil }

func startRPC(t *testing.T) (address string, s server) {
	t.Helper()
	g := newGate()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { must(t, ln.Close()) })
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			server := rpc.NewServer()
			must(t, server.Register(&Answers{g, t.Context(), strconv.Itoa(n)}))
			go server.ServeConn(c)
		}
	}()
	return ln.Addr().String(), g.server()
}

func rpcRows(address string) []row {
	left := outcome{atOnce, runsOn, kept}
	return []row{
		{
			library: "net/rpc", way: callbacks, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return rpcClient(ctx, new(net.Dialer).DialContext, address)
			},
		},
		{
			library: "net/rpc", way: onView, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return rpcClient(ctx, asyncio.ThreadsafeDialer(ctx), address)
			},
		},
	}
}

func rpcClient(ctx context.Context, dial dialFunc, address string) (*client, error) {
	c, err := asyncio.ToThread(ctx, func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", address) })
	if err != nil {
		return nil, err
	}
	rc := rpc.NewClient(c)
	return &client{
		ask: func(ctx context.Context, value string) (string, error) { return callRPC(ctx, rc, "Answers.Ask", value) },
		hold: func(ctx context.Context, value string) (string, error) {
			return callRPC(ctx, rc, "Answers.Hold", value)
		},
		connection: func(ctx context.Context) (string, error) { return callRPC(ctx, rc, "Answers.Connection", "") },
		close:      inThreadOnly(rc.Close),
		goroutine: func(_ context.Context, value string) (answer string, err error) {
			err = rc.Call("Answers.Ask", value, &answer)
			return answer, err
		},
	}, nil
}

// callRPC suspends the calling task until there is an answer. Go only sends the request; it blocks
// while the connection accepts no more, so a thread calls it. No thread waits for the answer.
func callRPC(ctx context.Context, rc *rpc.Client, method, value string) (string, error) {
	answer := new(string) // the library writes it, even after a cancel
	call, err := asyncio.ToThread(ctx, func(context.Context) (*rpc.Call, error) {
		return rc.Go(method, value, answer, make(chan *rpc.Call, 1)), nil
	})
	if err != nil {
		return "", err
	}
	done, _, err := asyncio.Recv(ctx, call.Done)
	if err != nil {
		return "", err
	}
	return *answer, done.Error
}
