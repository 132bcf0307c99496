package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// If more clients come than a server takes, the others wait.
func TestServer_MaxClients(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		now, most, served := 0, 0, 0
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			now++
			most = max(most, now)
			served++
			defer func() { now-- }()
			settle(t, ctx)
			return shout(ctx, r, w)
		}, "127.0.0.1:0", asyncio.MaxClients(2))
		if err != nil {
			return err
		}
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range 10 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
					if err != nil {
						return err
					}
					defer w.CloseSoon()
					_, err = ask(ctx, r, w, "x")
					return err
				})
			}
			return nil
		})
		if most != 2 || served != 10 {
			t.Errorf("at most %d at a time, %d in all", most, served)
		}
		return errors.Join(err, s.Shutdown(ctx))
	})
}

// Several listeners share one limit. Each serves while fewer clients are open than the limit, and
// never more are open (server 5).
func TestServer_MaxClientsOfSeveralListeners(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		var all []*asyncio.Listener
		for range 3 {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			all = append(all, ln)
		}
		now, most := 0, 0
		s := asyncio.NewServer(ctx, all, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			now++
			most = max(most, now)
			defer func() { now-- }()
			return shout(ctx, r, w)
		}, asyncio.MaxClients(2))
		if err := s.StartServing(ctx); err != nil {
			return err
		}
		visit := func(ctx context.Context, ln *asyncio.Listener) error {
			r, w, err := asyncio.OpenConnection(ctx, ln.Addr().String())
			if err != nil {
				return err
			}
			defer w.CloseSoon()
			_, err = ask(ctx, r, w, "x")
			return err
		}
		for _, i := range []int{2, 0, 1, 1, 1, 0, 2} { // one client at a time, at any listener
			if err := visit(ctx, all[i]); err != nil {
				return err
			}
		}
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range 12 {
				tg.CreateTask(ctx, func(ctx context.Context) error { return visit(ctx, all[i%3]) })
			}
			return nil
		})
		if most != 2 {
			t.Errorf("at most %d at a time", most)
		}
		return errors.Join(err, s.Shutdown(ctx))
	})
}

// Shutdown does not wait for a client that waits for a place: it drops that client, and serves the
// current one to its end (server 5).
func TestServer_ShutdownDropsWhoWaitsForAPlace(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.StreamTLS(serverConfig), asyncio.MaxClients(1))
		if err != nil {
			return err
		}
		var conns []*asyncio.Conn
		for range 2 {
			c, err := asyncio.Dial(ctx, "tcp", s.Addrs()[0].String())
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		for s.Clients() < 2 { // both are accepted before either is served
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		var readers []*asyncio.StreamReader
		var writers []*asyncio.StreamWriter
		for _, c := range conns {
			secure, err := asyncio.TLSClient(ctx, c, clientConfig)
			if err != nil {
				return err
			}
			r, w := asyncio.NewStreams(secure)
			readers, writers = append(readers, r), append(writers, w)
		}
		var answers []*asyncio.Task[string]
		for i, r := range readers {
			answers = append(answers, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return ask(ctx, r, writers[i], "x") }))
		}
		if _, _, err := asyncio.Wait(ctx, answers, asyncio.ReturnWhen(asyncio.FirstCompleted)); err != nil {
			return err
		}
		served, waits := 0, 1
		if answers[1].Done() {
			served, waits = 1, 0
		}
		down := start(ctx, s.Shutdown)
		if got, err := answers[waits].Await(ctx); err == nil {
			t.Errorf("a second client was served: %q", got)
		}
		if got, err := ask(ctx, readers[served], writers[served], "still"); got != "STILL" || err != nil {
			t.Errorf("the client that was served: %q, %v", got, err)
		}
		for _, w := range writers {
			w.CloseSoon()
		}
		return ended(ctx, down)
	})
}

// Peers that connect and say nothing keep no others out: a client counts when its handshake is
// done. A separate limit holds for connections before that (server 5).
func TestServer_SilentHandshakes(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.StreamTLS(serverConfig), asyncio.MaxClients(1), asyncio.TLSHandshakeTimeout(time.Hour))
		if err != nil {
			return err
		}
		address := s.Addrs()[0].String()
		var silent []*asyncio.Conn
		for range 100 {
			c, err := asyncio.Dial(ctx, "tcp", address)
			if err != nil {
				return err
			}
			silent = append(silent, c)
		}
		for s.Clients() < 100 {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		visit := func(ctx context.Context) (*asyncio.StreamWriter, error) {
			r, w, err := asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(clientConfig))
			if err != nil {
				return nil, err
			}
			_, err = ask(ctx, r, w, "x")
			return w, err
		}
		first, err := visit(ctx)
		if err != nil {
			return err
		}
		if _, err := silent[0].Read(make([]byte, 1)); err == nil { // it was dropped to make room
			t.Error("the oldest handshake goes on")
		}
		if n := s.Clients(); n != 100 {
			t.Errorf("%d clients, want the one that was served and 99 that say nothing", n)
		}
		second := asyncio.CreateTask(ctx, visit)
		if err := asyncio.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if second.Done() {
			t.Error("a second client was served though one may be open")
		}
		first.CloseSoon()
		w, err := second.Await(ctx)
		if err != nil {
			return err
		}
		w.CloseSoon()
		// although 99 say nothing, and would not for an hour
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for i, c := range silent[1:] {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("silent peer %d was not dropped by Shutdown", i)
			}
		}
		return nil
	})
}

func TestServer_HandshakeTimeout(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	for _, d := range []time.Duration{0, -1} {
		if err := panicOf(func() { asyncio.TLSHandshakeTimeout(d) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("TLSHandshakeTimeout(%v): %v", d, err)
		}
	}
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		limit := asyncio.TLSHandshakeTimeout(20 * time.Millisecond)
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.StreamTLS(serverConfig), limit)
		if err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", s.Addrs()[0].String())
		if err != nil {
			return err
		}
		defer c.Close()
		begin := loop(t, ctx).Time()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the server went on with a handshake that does not begin")
		}
		if d := loop(t, ctx).Time().Sub(begin); d > 10*time.Second {
			t.Errorf("after %v", d)
		}
		if err := s.Shutdown(ctx); err != nil {
			return err
		}

		// This server says nothing.
		silent, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_, err := r.Read(ctx, -1)
			return err
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		address := silent.Addrs()[0].String()
		for name, secure := range map[string]func() error{
			"OpenConnection": func() error {
				_, _, err := asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(clientConfig), limit)
				return err
			},
			"TLSClient": func() error {
				c, err := asyncio.Dial(ctx, "tcp", address)
				if err != nil {
					return err
				}
				_, err = asyncio.TLSClient(ctx, c, clientConfig, limit)
				return err
			},
			"StartTLS": func() error {
				_, w, err := asyncio.OpenConnection(ctx, address)
				if err != nil {
					return err
				}
				return w.StartTLS(ctx, clientConfig, false, limit)
			},
		} {
			begin := loop(t, ctx).Time()
			if err := secure(); !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("%s: %v", name, err)
			}
			if d := loop(t, ctx).Time().Sub(begin); d > 10*time.Second {
				t.Errorf("%s: after %v", name, d)
			}
		}
		return silent.Shutdown(ctx)
	})
}
