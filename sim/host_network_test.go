package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// shout serves lines at port 7 and answers in capitals.
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

// shouting turns on a host named server that shouts, and connects to it.
func shouting(ctx context.Context) (*sim.Host, *asyncio.Conn, error) {
	server := sim.NewHost(ctx, "server", shout)
	if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
		return nil, nil, err
	}
	conn, err := asyncio.Dial(ctx, "tcp", "server:7")
	return server, conn, err
}

// The client's view of a server that is killed, loses power, or is behind a cut.
func TestHost_ServerGone(t *testing.T) {
	cut := func(ctx context.Context, s *sim.Host) { sim.NetworkOf(ctx).Cut("main", "server") }
	kill := func(_ context.Context, s *sim.Host) { s.Kill() }
	crash := func(_ context.Context, s *sim.Host) { s.Crash() }
	restart := func(_ context.Context, s *sim.Host) { s.Crash(); s.Restart() }
	for name, c := range map[string]struct {
		end     func(ctx context.Context, server *sim.Host)
		talked  bool // first, so the connection has been accepted
		writes  bool // every second, instead of once and then waiting for an answer
		err     error
		took    time.Duration // at least
		refused bool          // a later connection attempt is refused
	}{
		"killed before it accepts": {end: kill, err: syscall.ECONNRESET, refused: true},
		"killed, writing":          {end: kill, talked: true, writes: true, err: syscall.EPIPE, refused: true},
		"power":                    {end: crash, err: syscall.ETIMEDOUT, took: time.Minute},
		"power, writing":           {end: crash, talked: true, writes: true, err: syscall.ETIMEDOUT, took: time.Minute},
		"power, back":              {end: restart, err: syscall.ECONNRESET},
		"power, back, writing":     {end: restart, talked: true, writes: true, err: syscall.ECONNRESET},
		"cut":                      {end: cut, err: syscall.ETIMEDOUT, took: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				server, conn, err := shouting(ctx)
				if err != nil {
					return err
				}
				defer conn.Close()
				if c.talked {
					if _, err := conn.Write([]byte("hello\n")); err != nil {
						return err
					}
					if _, err := io.ReadFull(conn, make([]byte, len("you said hello\n"))); err != nil {
						return err
					}
				}
				begun := now(ctx)
				c.end(ctx, server)
				_, err = conn.Write([]byte("hello\n"))
				for err == nil {
					if c.writes {
						if err := asyncio.Sleep(ctx, time.Second); err != nil {
							return err
						}
						_, err = conn.Write([]byte("hello\n"))
					} else {
						_, err = conn.Read(make([]byte, 100))
					}
				}
				if !errors.Is(err, c.err) {
					return fmt.Errorf("got %w, want %v", err, c.err)
				}
				if took := now(ctx) - begun; took < c.took {
					return fmt.Errorf("it took %v", took)
				}
				if c.refused {
					if _, err := asyncio.Dial(ctx, "tcp", "server:7"); !errors.Is(err, syscall.ECONNREFUSED) {
						return fmt.Errorf("afterwards: %v", err)
					}
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
	return l.Time().SinceStart()
}

// Lost data is sent again in time even while the program goes on writing: more data to send does
// not delay it.
func TestHost_LossWhileWriting(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		var heard []string
		sim.NewHost(ctx, "listener", func(ctx context.Context) error {
			ln, err := asyncio.Listen(ctx, "tcp", ":7")
			if err != nil {
				return err
			}
			conn, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			r, _ := asyncio.NewStreams(conn)
			for line, err := range r.Lines(ctx) {
				if err != nil {
					return err
				}
				heard = append(heard, string(line))
			}
			return nil
		})
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		_, w, err := asyncio.OpenConnection(ctx, "listener:7")
		if err != nil {
			return err
		}
		defer w.Abort()
		network := sim.NetworkOf(ctx)
		for i := range 100 { // for ten seconds
			switch i {
			case 10:
				network.Cut("main", "listener")
			case 20:
				network.Mend("main", "listener")
			case 40: // it was sent again after 0.2 s, 0.6 s, 1.4 s
				if len(heard) < 39 {
					return fmt.Errorf("two seconds after the cut was mended, %d of 40 lines have arrived", len(heard))
				}
			}
			if _, err := fmt.Fprintf(w.Writer(ctx), "%d\n", i); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
		if len(heard) != 100 || heard[99] != "99\n" {
			return fmt.Errorf("of 100 lines %d have arrived", len(heard))
		}
		return nil
	})
}

// A network that is busy for ever without any host taking part is a failure, not a hang.
func TestNetwork_GoesOnForEver(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		sim.NetworkOf(ctx).SetRetransmission(1 << 62)
		server, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		sim.NetworkOf(ctx).Isolate(server.Name())
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 10))
		return err
	}).Failure
	if f == nil || !strings.Contains(f.Error(), "no program has anything to do") || !strings.Contains(f.Trace, "server is isolated") {
		t.Errorf("got %v", f)
	}
}
