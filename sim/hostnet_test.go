package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	return l.Time()
}

// Without faults nothing is lost, so there is nothing to probe for, and a program that waits for
// ever has a deadlock.
func TestHost_StopFaultsEndsProbes(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		_, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		network := sim.NetworkOf(ctx)
		network.SetLink(sim.Link{Loss: 1})
		sim.StopFaults(ctx)
		if err := asyncio.Sleep(ctx, time.Hour); err != nil {
			return err
		}
		if got := network.Traffic("main", "server"); got.Delivered > 10 {
			return fmt.Errorf("an idle connection has sent %v", got)
		}
		return nil
	})
}

// counter keeps a number in a file. It sets told to a count once the calls that should make it
// durable have returned; without safe it forgets to sync the file.
func counter(safe bool, told *int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		n := 0
		if b, err := asyncio.ReadFile(ctx, "count"); err == nil {
			if _, err := fmt.Sscan(string(b), &n); err != nil {
				return fmt.Errorf("the file has %q: %w", b, err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if n < *told {
			return fmt.Errorf("%d was told, and %d is left", *told, n)
		}
		for {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			n++
			f, err := asyncio.OpenFile(ctx, "count.new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
			if err != nil {
				return err
			}
			_, err = f.Write(ctx, fmt.Append(nil, n))
			if err == nil && safe {
				err = f.Sync(ctx)
			}
			if err := errors.Join(err, f.Close(ctx)); err != nil {
				return err
			}
			if err := asyncio.Rename(ctx, "count.new", "count"); err != nil {
				return err
			}
			if err := asyncio.SyncDir(ctx, "."); err != nil {
				return err
			}
			*told = n
		}
	}
}

// Crashes find a program that forgets to sync, and find nothing in one that syncs.
func TestHost_Disk(t *testing.T) {
	program := func(safe bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			told := 0
			h := sim.NewHost(ctx, "node", counter(safe, &told))
			h.Disk().SetLatency(time.Millisecond, 20*time.Millisecond)
			h.SetCrashes(0.05, time.Second)
			for range 20 {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if !h.IsRunning() {
					if err := h.Wait(ctx); !errors.Is(err, sim.ErrCrashed) {
						return err
					}
				}
			}
			sim.StopFaults(ctx)
			before := told
			return sim.Eventually(ctx, 10*time.Second, "counting goes on", func() bool { return told > before })
		}
	}
	sim.Explore(t, program(true), sim.Runs(100))
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3)} {
		r := sim.Check(program(false), sim.With(s), sim.Runs(2000))
		f := r.Failure
		if f == nil {
			t.Fatalf("%v: not found: %s", s, r.Coverage)
		}
		if len(f.Deviations) != 2 || !strings.Contains(f.Error(), "crash of node") || !strings.Contains(f.Error(), "node: lose: write count.new") {
			t.Errorf("%v: %v", s, f)
		}
	}
}

// A trace names the place where the program waits, even in an iterator of the library that was
// compiled into the program.
func TestTrace_Iterators(t *testing.T) {
	trace, err := sim.Trace(func(ctx context.Context) error {
		_, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return asyncio.Sleep(ctx, time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(trace, "waits in asyncio.(*StreamReader).ReadLine at hostnet_test.go:") || strings.Contains(trace, "io_") {
		t.Errorf("%s", trace)
	}
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
