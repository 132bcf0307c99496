package sim_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// shout serves lines at port 7, in capitals of a kind.
func shout(ctx context.Context) error {
	s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		for line, err := range r.Lines(ctx) {
			if err != nil {
				return err
			}
			if _, err := w.Write(ctx, append([]byte("you said "), line...)); err != nil {
				return err
			}
		}
		return nil
	}, ":7")
	if err != nil {
		return err
	}
	return s.Serve(ctx)
}

// A server and its clients, as they run in production, on hosts of a simulation.
func TestHost_Streams(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		server := sim.NewHost(ctx, "server", shout)
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		for i := range 3 {
			c := sim.NewHost(ctx, fmt.Sprint("client", i), func(ctx context.Context) error {
				r, w, err := asyncio.OpenConnection(ctx, "server:7")
				if err != nil {
					return err
				}
				defer w.Close(ctx)
				for k := range 5 {
					if _, err := w.Write(ctx, fmt.Appendf(nil, "%d %d\n", i, k)); err != nil {
						return err
					}
					line, err := r.ReadLine(ctx)
					if err != nil {
						return err
					}
					if want := fmt.Sprintf("you said %d %d\n", i, k); string(line) != want {
						return fmt.Errorf("got %q, want %q", line, want)
					}
				}
				return nil
			})
			defer func() { _ = c }()
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		server.Shutdown()
		if err := server.Wait(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		return nil
	}, sim.Runs(30))
}

// What a client sees of a server that is killed, loses power, or is behind a cut.
func TestHost_ServerGone(t *testing.T) {
	for name, c := range map[string]struct {
		hit  func(ctx context.Context, server *sim.Host)
		err  error
		took time.Duration // at least
	}{
		"killed":      {func(_ context.Context, s *sim.Host) { s.Kill() }, syscall.ECONNRESET, 0},
		"power":       {func(_ context.Context, s *sim.Host) { s.Crash() }, syscall.ETIMEDOUT, time.Minute},
		"power, back": {func(_ context.Context, s *sim.Host) { s.Crash(); s.Restart() }, syscall.ECONNRESET, 0},
		"cut":         {func(ctx context.Context, s *sim.Host) { sim.NetworkOf(ctx).Cut("main", "server") }, syscall.ETIMEDOUT, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				server := sim.NewHost(ctx, "server", shout)
				if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				conn, err := asyncio.Dial(ctx, "tcp", "server:7")
				if err != nil {
					return err
				}
				defer conn.Close()
				begun := now(ctx)
				c.hit(ctx, server)
				_, err = conn.Write([]byte("hello\n"))
				buf := make([]byte, 100)
				for err == nil {
					_, err = conn.Read(buf)
				}
				if !errors.Is(err, c.err) {
					return fmt.Errorf("got %w, want %v", err, c.err)
				}
				if took := now(ctx) - begun; took < c.took {
					return fmt.Errorf("it took %v", took)
				}
				return nil
			})
		})
	}
}

func now(ctx context.Context) time.Duration {
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		panic(err)
	}
	return l.Time()
}
