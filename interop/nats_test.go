//go:build unix

package interop

import (
	"context"
	"errors"
	"net"
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
	left := outcome{atOnce, runsOn, kept}
	return []row{
		{
			library: "nats.go, Request", way: inThread, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) { return natsRequester(ctx, url) },
		},
		{
			library: "nats.go, Request", way: onView, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				dialer := nats.SetCustomDialer(natsDialer(asyncio.ThreadsafeDialer(ctx)))
				return natsRequester(ctx, url, dialer)
			},
		},
		{
			library: "nats.go, subscription", way: callbacks, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) { return natsSubscriber(ctx, url) },
		},
		{
			library: "nats.go, subscription", way: onView, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return natsSubscriber(ctx, url, nats.SetCustomDialer(natsDialer(asyncio.ThreadsafeDialer(ctx))))
			},
		},
	}
}

// A natsDialer dials for nats.go.
type natsDialer dialFunc

func (d natsDialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func connectNATS(ctx context.Context, url string, options ...nats.Option) (*nats.Conn, error) {
	return asyncio.ToThread(ctx, func(context.Context) (*nats.Conn, error) { return nats.Connect(url, options...) })
}

// natsRequester makes a client that waits for answers in threads.
func natsRequester(ctx context.Context, url string, options ...nats.Option) (*client, error) {
	nc, err := connectNATS(ctx, url, options...)
	if err != nil {
		return nil, err
	}
	blocking := func(ctx context.Context, subject, value string) (string, error) {
		m, err := nc.RequestWithContext(ctx, subject, []byte(value))
		if err != nil {
			return "", err
		}
		return string(m.Data), nil
	}
	c := natsClient(nc, func(ctx context.Context, subject, value string) (string, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return blocking(ctx, subject, value) })
	})
	c.goroutine = func(ctx context.Context, value string) (string, error) { return blocking(ctx, "ask", value) }
	return c, nil
}

// natsSubscriber makes a client that gets its answers by a subscription.
func natsSubscriber(ctx context.Context, url string, options ...nats.Option) (*client, error) {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return nil, err
	}
	answers := make(waiters)
	options = append(options, nats.ClosedHandler(func(*nats.Conn) {
		loop.CallSoonThreadsafe(func() { answers.fail(nats.ErrConnectionClosed) })
	}))
	nc, err := connectNATS(ctx, url, options...)
	if err != nil {
		return nil, err
	}
	// Everything that nats.go sends it sends under a lock, and whoever has the lock waits while the
	// connection accepts no more. So threads call it. No thread waits for messages.
	messages := make(chan *nats.Msg, 64)
	if _, err := asyncio.ToThread(ctx, func(context.Context) (*nats.Subscription, error) {
		return nc.ChanSubscribe("answer.>", messages)
	}); err != nil {
		return nil, err
	}
	reader := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for {
			m, _, err := asyncio.Recv(ctx, messages)
			if err != nil {
				return err
			}
			answers.deliver(string(m.Data))
		}
	}))
	c := natsClient(nc, func(ctx context.Context, subject, value string) (string, error) {
		return answers.wait(ctx, value, func() error {
			_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				return asyncio.None{}, nc.Publish(subject, []byte(value))
			})
			return err
		})
	})
	closeConnection := c.close
	c.close = func(ctx context.Context) error {
		reader.Cancel()
		return closeConnection(ctx)
	}
	return c, nil
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
