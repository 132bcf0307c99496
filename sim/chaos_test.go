package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// sending makes three hosts: a sends the numbers below 20 to b, one every 10 ms, in datagrams or
// over a connection, and b tells main what has come, and when. c looks on.
func sending(datagrams bool, judge func(got []int, took []time.Duration, err error) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var got []int
		var took []time.Duration
		sent := make([]time.Duration, 20)
		var failed error
		receive := func(ctx context.Context, read func(p []byte) (int, error)) {
			p := make([]byte, 4)
			for {
				n, err := read(p)
				if err != nil {
					return
				}
				var i int
				if _, err := fmt.Sscanf(string(p[:n]), "%d", &i); err != nil || n < 3 {
					i = -1
				}
				if got = append(got, i); i >= 0 && i < len(sent) {
					took = append(took, now(ctx)-sent[i])
				}
			}
		}
		sim.NewHost(ctx, "c", anHour)
		sim.NewHost(ctx, "b", func(ctx context.Context) error {
			if datagrams {
				c, err := asyncio.ListenPacket(ctx, "udp", ":1")
				if err != nil {
					return err
				}
				receive(ctx, func(p []byte) (int, error) {
					n, _, err := c.ReadFromContext(ctx, p)
					return n, err
				})
				return nil
			}
			ln, err := asyncio.Listen(ctx, "tcp", ":1")
			if err != nil {
				return err
			}
			for {
				c, err := ln.AcceptContext(ctx)
				if err != nil {
					return err
				}
				receive(ctx, c.Read)
			}
		})
		a := sim.NewHost(ctx, "a", func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
			var c interface{ Write([]byte) (int, error) }
			var err error
			if datagrams {
				c, err = asyncio.DialPacket(ctx, "udp", "b:1")
			} else {
				c, err = asyncio.Dial(ctx, "tcp", "b:1")
			}
			if err != nil {
				failed = err
				return nil
			}
			for i := range sent {
				sent[i] = now(ctx)
				if _, err := c.Write(fmt.Appendf(nil, "%04d", i)); err != nil {
					failed = err
				}
				if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
		if err := a.Wait(ctx); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		return judge(got, took, failed)
	}
}

func wrong(is bool) error {
	if is {
		return errors.New("trouble")
	}
	return nil
}

func longest(took []time.Duration) (most time.Duration) {
	for _, d := range took {
		most = max(most, d)
	}
	return most
}

// ticking makes a host whose program looks at its clocks, and its disk, every 10 ms, and main
// counts its lives and what is odd.
func ticking(judge func(lives int, odd string) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		lives, odd := 0, ""
		sim.NewHost(ctx, "a", func(ctx context.Context) error {
			lives++
			loop, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			for range 30 {
				mono, wall := loop.Time(), loop.Now()
				if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
				if loop.Time().Sub(mono) > 11*time.Millisecond {
					odd += "late "
				}
				if d := loop.Now().Sub(wall) - loop.Time().Sub(mono); d.Abs() > time.Microsecond {
					odd += "jump "
				}
				if err := asyncio.WriteFile(ctx, "x", []byte("x"), 0o666); err != nil {
					odd += err.Error()
					return err
				}
			}
			return nil
		})
		begun := now(ctx)
		if err := asyncio.Sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		if now(ctx)-begun > 10100*time.Millisecond {
			odd += "main "
		}
		return judge(lives, odd)
	}
}

func oddly(what string) func(ctx context.Context) error {
	return ticking(func(_ int, odd string) error { return wrong(strings.Contains(odd, what)) })
}

// Each trouble by itself befalls a program, is the whole explanation, and can be replayed. In the
// order of production nothing happens. Exhaustive(1) finds it too.
func TestChaos_EachTrouble(t *testing.T) {
	again := ticking(func(lives int, _ string) error { return wrong(lives > 1) })
	late := func(_ []int, took []time.Duration, _ error) error { return wrong(longest(took) > 50*time.Millisecond) }
	fewer := func(got []int, _ []time.Duration, _ error) error { return wrong(len(got) < 20) }
	for _, c := range []struct {
		trouble sim.Trouble
		main    func(ctx context.Context) error
		want    string
	}{
		{sim.Delays, sending(true, late), "a datagram from a to b was late by "},
		{sim.Delays, sending(false, late), "was late by "},
		{sim.Losses, sending(true, fewer), "a datagram from a to b is lost"},
		{sim.Losses, sending(false, late), "is lost"},
		{sim.Duplicates, sending(true, func(got []int, _ []time.Duration, _ error) error { return wrong(len(got) > 20) }), "a datagram from a to b arrives twice"},
		{sim.Reordering, sending(true, func(got []int, _ []time.Duration, _ error) error {
			for i := range got {
				if got[i] != i {
					return wrong(true)
				}
			}
			return nil
		}), "a datagram from a to b was overtaken, and late by "},
		{sim.SlowLinks, sending(true, late), "from a to b"},
		{sim.Cuts, sending(true, fewer), "nothing from a to b arrived for "},
		{sim.Partitions, sending(true, fewer), "nothing passed between "},
		{sim.Resets, sending(false, func(_ []int, _ []time.Duration, err error) error { return wrong(err != nil) }), "are reset"},
		{sim.ShortReads, sending(false, func(got []int, _ []time.Duration, err error) error { return wrong(len(got) > 20) }), "a read at b from a returned "},
		{sim.Pauses, oddly("late"), "a paused for "},
		{sim.Pauses, oddly("main"), "main paused for "},
		{sim.ClockJumps, oddly("jump"), "the wall clock of a was set by "},
		{sim.Crashes, again, "a lost power for "},
		{sim.Kills, again, "a was killed for "},
		{sim.Shutdowns, again, "a was shut down for "},
		{sim.DiskErrors, oddly("input/output error"), "a: the write of x at 0, 1 bytes fails"},
		{sim.NameErrors, sending(false, func(_ []int, _ []time.Duration, err error) error { return wrong(err != nil) }), "lookup: a: no answer for b"},
		{sim.FullDisks, oddly("no space left"), "a: there is no room for the write of x"},
	} {
		t.Run(fmt.Sprint(c.trouble, " ", c.want), func(t *testing.T) {
			sim.Run(t, c.main, sim.Chaos(c.trouble))
			for _, s := range []sim.Strategy{sim.Swarm(), sim.Exhaustive(1)} {
				f := sim.Check(c.main, sim.Chaos(c.trouble), sim.WithStrategy(s), sim.Runs(3000)).Failure
				if f == nil {
					t.Errorf("%v: not found", s)
					continue
				}
				if len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], c.want) {
					t.Errorf("%v: %q %s", s, f.Deviations, f.Minimal)
				}
				file := t.TempDir() + "/x.sim"
				if err := os.WriteFile(file, []byte(f.Schedule), 0o666); err != nil {
					t.Fatal(err)
				}
				if g := sim.Check(c.main, sim.Chaos(c.trouble), sim.Replay(file)).Failure; g == nil || g.Err.Error() != f.Err.Error() {
					t.Errorf("%v: replayed: %v, want %v", s, g, f.Err)
				}
			}
		})
	}
}

// A clock that goes at another rate is seen by comparison with another host's.
func TestChaos_ClockRates(t *testing.T) {
	main := func(ctx context.Context) error {
		h := sim.NewHost(ctx, "a", func(ctx context.Context) error {
			for range 100 {
				if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
		if err := h.Wait(ctx); err != nil {
			return err
		}
		return wrong((now(ctx) - 10*time.Second).Abs() > 100*time.Millisecond)
	}
	f := sim.Check(main, sim.Chaos(sim.ClockRates)).Failure
	if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "the rate of the clock of ") {
		t.Fatalf("%v", f)
	}
}

// A service whose programs are right survives everything, and comes to an end: each trouble has an
// end itself, and a run does not have too many.
func TestChaos_Everything(t *testing.T) {
	runs := 0
	main := func(ctx context.Context) error {
		runs++
		served := 0
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				line, err := r.ReadLine(ctx)
				if err == nil {
					_, err = w.Write(ctx, line)
				}
				if errors.Is(err, asyncio.ErrCancelled) {
					return err
				}
				return nil // the client has gone
			}, ":7")
			if err != nil {
				return err
			}
			return s.Serve(ctx)
		})
		client := sim.NewHost(ctx, "client", func(ctx context.Context) error {
			for served < 20 {
				err := asyncio.Timeout(ctx, 5*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
					r, w, err := asyncio.OpenConnection(ctx, "server:7")
					if err != nil {
						return err
					}
					defer func() { _ = w.Close(context.WithoutCancel(ctx)) }()
					if _, err := w.Write(ctx, []byte("hello\n")); err != nil {
						return err
					}
					line, err := r.ReadLine(ctx)
					if err == nil {
						if served++; string(line) != "hello\n" {
							return asyncio.ErrInvalidState
						}
					}
					return err
				})
				if errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asyncio.ErrInvalidState) {
					return err
				}
				if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
		for served < 20 {
			if err := client.Wait(ctx); err != nil && !errors.Is(err, asyncio.ErrCancelled) && !errors.Is(err, sim.ErrCrashed) {
				return err
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		return nil
	}
	r := sim.Check(main, sim.Chaos(), sim.Runs(300))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	t.Log(r.Coverage)
	happened := map[string]bool{}
	for _, f := range r.Faults {
		happened[f.Name] = f.Times > 0
	}
	for t1 := sim.Trouble(1); t1&sim.AllTroubles != 0; t1 <<= 1 {
		if needsMore := sim.Duplicates | sim.Reordering | sim.DiskErrors | sim.FullDisks; !happened[t1.String()] && t1&needsMore == 0 {
			t.Errorf("%v has not happened in %d runs", t1, r.Runs)
		}
	}
	// The same seed gives the same run.
	for seed := range uint64(20) {
		opts := []sim.Option{sim.Chaos(), sim.Seed(seed), sim.WithStrategy(sim.Swarm())}
		one, err1 := sim.Trace(main, opts...)
		two, err2 := sim.Trace(main, opts...)
		if one != two || err1 != nil || err2 != nil {
			t.Errorf("seed %d: %v, %v\n%s\n%s", seed, err1, err2, one, two)
		}
	}
}

// Chaos leaves spared hosts alone, links that the test has set, and everything after StopFaults.
func TestChaos_LeavesAlone(t *testing.T) {
	late := func(_ []int, took []time.Duration, _ error) error { return wrong(longest(took) > 50*time.Millisecond) }
	for name, c := range map[string]struct {
		main     func(ctx context.Context) error
		troubles sim.Trouble
	}{
		"a spared host": {func(ctx context.Context) error {
			lives := 0
			h := sim.NewHost(ctx, "a", func(ctx context.Context) error { lives++; return asyncio.Sleep(ctx, time.Second) })
			h.Spare(sim.Crashes, sim.Kills, sim.Shutdowns)
			if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
				return err
			}
			return wrong(lives > 1)
		}, sim.Crashes | sim.Kills | sim.Shutdowns},
		"a host spared everything": {func(ctx context.Context) error {
			sim.HostOf(ctx).Spare()
			begun := now(ctx)
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			return wrong(now(ctx)-begun != time.Second)
		}, sim.Pauses},
		"a link": {func(ctx context.Context) error {
			sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond})
			return sending(true, late)(ctx)
		}, sim.Delays | sim.SlowLinks | sim.Reordering},
		"after StopFaults": {func(ctx context.Context) error {
			sim.StopFaults(ctx)
			return sending(true, late)(ctx)
		}, sim.AllTroubles},
		"main's host": {func(ctx context.Context) error {
			if err := asyncio.WriteFile(ctx, "x", []byte("x"), 0o666); err != nil {
				return err
			}
			return asyncio.Sleep(ctx, time.Second)
		}, sim.AllTroubles},
	} {
		if f := sim.Check(c.main, sim.Chaos(c.troubles)).Failure; f != nil {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// A cut that chaos has made when faults are stopped is mended at once.
func TestChaos_StopFaultsMends(t *testing.T) {
	r := sim.Check(sending(true, func([]int, []time.Duration, error) error { return nil }), sim.Chaos(sim.Cuts|sim.Partitions), sim.Runs(300))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	mended := func(ctx context.Context) error {
		in, err := asyncio.ListenPacket(ctx, "udp", ":1")
		if err != nil {
			return err
		}
		sim.NewHost(ctx, "c", anHour)
		sim.NewHost(ctx, "a", func(ctx context.Context) error {
			c, err := asyncio.DialPacket(ctx, "udp", "main:1")
			if err != nil {
				return err
			}
			for range 200 {
				if _, err := c.Write([]byte("x")); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		sim.StopFaults(ctx)
		before := sim.NetworkOf(ctx).Traffic("a", "main")
		if err := asyncio.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		if after := sim.NetworkOf(ctx).Traffic("a", "main"); after.Delivered-before.Delivered < 48 {
			return fmt.Errorf("%v, then %v", before, after)
		}
		return in.Close()
	}
	r = sim.Check(mended, sim.Chaos(sim.Cuts|sim.Partitions), sim.Runs(300))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	for _, f := range r.Faults {
		if f.Times == 0 {
			t.Errorf("%v", f)
		}
	}
}

func TestChaos_Misuse(t *testing.T) {
	for _, bad := range []sim.Trouble{0, sim.AllTroubles + 1} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, asyncio.ErrInvalidArgument) || !strings.Contains(err.Error(), "sim.Chaos") {
					t.Errorf("%v: %v", bad, err)
				}
			}()
			sim.Chaos(sim.Crashes, bad)
		}()
	}
	if got := fmt.Sprint(sim.Crashes|sim.Kills, sim.AllTroubles, sim.Trouble(0)); got != "Crashes|Kills AllTroubles Trouble(0)" {
		t.Error(got)
	}
}
