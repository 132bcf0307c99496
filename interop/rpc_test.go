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
	return []row{
		{
			library: "net/rpc", way: callbacks, sim: "no",
			cancel: outcome{atOnce, runsOn, kept}, done: outcome{atOnce, runsOn, kept}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				rc, err := asyncio.ToThread(ctx, func(context.Context) (*rpc.Client, error) { return rpc.Dial("tcp", address) })
				if err != nil {
					return nil, err
				}
				call := func(ctx context.Context, method, value string) (string, error) {
					answer := new(string) // the library writes it, even after a cancel
					done, _, err := asyncio.Recv(ctx, rc.Go(method, value, answer, make(chan *rpc.Call, 1)).Done)
					if err != nil {
						return "", err
					}
					return *answer, done.Error
				}
				return &client{
					ask:        func(ctx context.Context, value string) (string, error) { return call(ctx, "Answers.Ask", value) },
					hold:       func(ctx context.Context, value string) (string, error) { return call(ctx, "Answers.Hold", value) },
					connection: func(ctx context.Context) (string, error) { return call(ctx, "Answers.Connection", "") },
					close:      inThreadOnly(rc.Close),
				}, nil
			},
		},
	}
}
