//go:build unix

package interop

import (
	"context"
	"errors"
	"strconv"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/goasyncio/asyncio"
)

func TestNATS(t *testing.T) {
	url := startNATS(t)
	runBattery(t, natsServer(t, url), natsRows(url))
}

// startNATS starts a server in this process.
func startNATS(t *testing.T) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true})
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(startTimeout) {
		t.Fatal("the server does not start")
	}
	return s.ClientURL()
}

// natsServer answers what is sent to "ask" at once, and what is sent to "hold" when it is told to.
// It answers at the subject of the reply or, if there is none, at "answer.VALUE".
func natsServer(t *testing.T, url string) server {
	control, err := nats.Connect(url)
	must(t, err)
	t.Cleanup(control.Close)
	g := newGate()
	answer := func(m *nats.Msg) {
		reply := m.Reply
		if reply == "" {
			reply = "answer." + string(m.Data)
		}
		if err := control.Publish(reply, m.Data); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error(err)
		}
	}
	_, err = control.Subscribe("ask", answer)
	must(t, err)
	_, err = control.Subscribe("hold", func(m *nats.Msg) {
		go func() {
			if g.wait(t.Context(), string(m.Data)) == nil {
				answer(m)
			}
		}()
	})
	must(t, err)
	must(t, control.Flush())
	return g.server()
}

func natsRows(url string) []row {
	return []row{
		{
			library: "nats.go, Request", way: inThread, sim: "no",
			cancel: outcome{atOnce, runsOn, kept}, done: outcome{atOnce, runsOn, kept}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				nc, err := asyncio.ToThread(ctx, func(context.Context) (*nats.Conn, error) { return nats.Connect(url) })
				if err != nil {
					return nil, err
				}
				request := func(ctx context.Context, subject, value string) (string, error) {
					m, err := asyncio.ToThread(ctx, func(ctx context.Context) (*nats.Msg, error) {
						return nc.RequestWithContext(ctx, subject, []byte(value))
					})
					if err != nil {
						return "", err
					}
					return string(m.Data), nil
				}
				return natsClient(nc, request), nil
			},
		},
		{
			library: "nats.go, subscription", way: callbacks, sim: "no",
			cancel: outcome{atOnce, runsOn, kept}, done: outcome{atOnce, runsOn, kept}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				loop, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return nil, err
				}
				ended := new(asyncio.Event)
				nc, err := asyncio.ToThread(ctx, func(context.Context) (*nats.Conn, error) {
					return nats.Connect(url, nats.ClosedHandler(func(*nats.Conn) { loop.CallSoonThreadsafe(ended.Set) }))
				})
				if err != nil {
					return nil, err
				}
				request := func(ctx context.Context, subject, value string) (string, error) {
					messages := make(chan *nats.Msg, 64)
					sub, err := nc.ChanSubscribe("answer."+value, messages)
					if err != nil {
						return "", err
					}
					defer sub.Unsubscribe()
					if err := nc.Publish(subject, []byte(value)); err != nil {
						return "", err
					}
					m, err := received(ctx, messages, ended)
					if err != nil {
						return "", err
					}
					return string(m.Data), nil
				}
				return natsClient(nc, request), nil
			},
		},
	}
}

// received waits for a message of a subscription, or for the end of the connection: nats.go does
// not close the channel then.
func received(ctx context.Context, messages <-chan *nats.Msg, ended *asyncio.Event) (*nats.Msg, error) {
	message := asyncio.OnRecv(messages)
	won, err := asyncio.Select(ctx, message, asyncio.OnDone(asyncio.Do(ended.Wait)))
	if err != nil {
		return nil, err
	}
	if won != message {
		return nil, nats.ErrConnectionClosed
	}
	return message.Result()
}

func natsClient(nc *nats.Conn, request func(ctx context.Context, subject, value string) (string, error)) *client {
	return &client{
		ask:  func(ctx context.Context, value string) (string, error) { return request(ctx, "ask", value) },
		hold: func(ctx context.Context, value string) (string, error) { return request(ctx, "hold", value) },
		connection: func(context.Context) (string, error) {
			id, err := nc.GetClientID()
			return strconv.FormatUint(id, 10), err
		},
		close: inThreadOnly(func() error { nc.Close(); return nil }),
	}
}
