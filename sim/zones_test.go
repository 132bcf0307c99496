package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// pings returns the program of a host that asks all others once a second, in turn, and writes down
// how long each took to answer within half a second.
func pings(name string, all []string, trips map[string]time.Duration) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		c, err := asyncio.ListenPacket(ctx, "udp", ":7")
		if err != nil {
			return err
		}
		start(ctx, "echo", func(ctx context.Context) error {
			for p := make([]byte, 10); ; {
				n, from, err := c.ReadFromContext(ctx, p)
				if err != nil {
					return nil
				}
				if _, err := c.WriteTo(p[:n], from); err != nil {
					return err
				}
			}
		})
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		for round := time.Second; ; round += time.Second {
			for _, other := range all {
				if other == name {
					continue
				}
				start(ctx, "ping "+other, func(ctx context.Context) error {
					delete(trips, name+" "+other)
					c, err := asyncio.DialPacket(ctx, "udp", other+":7")
					if err != nil {
						return err
					}
					defer c.Close()
					begun := loop.Time()
					if _, err := c.Write([]byte("?")); err != nil {
						return err
					}
					limited, cancel := asyncio.WithTimeout(ctx, 500*time.Millisecond)
					defer cancel()
					if _, err := c.ReadContext(limited, make([]byte, 10)); err == nil {
						trips[name+" "+other] = loop.Time().Sub(begun)
					}
					return nil
				})
			}
			if err := asyncio.Sleep(ctx, round-loop.Time().SinceStart()); err != nil {
				return err
			}
		}
	}
}

// Links, partitions and isolation by zone, as the round trips between hosts show them.
func TestZones(t *testing.T) {
	wire := func(d time.Duration) sim.Link { return sim.Link{MinLatency: d} }
	const ms = time.Millisecond
	sim.Run(t, func(ctx context.Context) error {
		n := sim.NetworkOf(ctx)
		n.SetLink(wire(ms))
		trips := make(map[string]time.Duration)
		all := []string{"a", "b", "c", "d"}
		for _, name := range all {
			sim.NewHost(ctx, name, pings(name, all, trips))
		}
		if err := asyncio.Sleep(ctx, 500*ms); err != nil {
			return err
		}
		for _, c := range []struct {
			do   func()
			want string // from a to b, from a to c, from c to b, from a to d
		}{
			{func() {}, "2ms 2ms 2ms 2ms"},
			{func() {
				n.SetZones(map[string][]string{"eu": {"a", "b"}, "us": {"c"}}, wire(5*ms), wire(50*ms))
			}, "10ms 100ms 100ms 2ms"},
			{func() { n.SetLinkBetweenZones("us", "eu", wire(70*ms)) }, "10ms 120ms 120ms 2ms"},
			{func() { n.SetLinkBetweenZones("eu", "eu", wire(6*ms)) }, "12ms 120ms 120ms 2ms"},
			{func() { n.SetLinkBetween("a", "b", wire(ms)) }, "7ms 120ms 120ms 2ms"},
			{func() { n.PartitionZones([]string{"eu"}, []string{"us"}) }, "7ms - - 2ms"},
			{func() { n.Heal() }, "7ms 120ms 120ms 2ms"},
			{func() { n.IsolateZone("eu") }, "7ms - - -"},
			{func() { n.Heal(); n.SetZones(nil, sim.Link{}, sim.Link{}) }, "2ms 2ms 2ms 2ms"},
		} {
			c.do()
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			var got []string
			for _, pair := range []string{"a b", "a c", "c b", "a d"} {
				if d, ok := trips[pair]; ok {
					got = append(got, d.String())
				} else {
					got = append(got, "-")
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				return fmt.Errorf("trips %s, want %s", s, c.want)
			}
		}
		return nil
	})
}

func TestZones_Misuse(t *testing.T) {
	for want, do := range map[string]func(n *sim.Network){
		`there is no host "x"`: func(n *sim.Network) { n.SetZones(map[string][]string{"eu": {"x"}}, sim.Link{}, sim.Link{}) },
		`zone "eu" of 0 hosts`: func(n *sim.Network) { n.SetZones(map[string][]string{"eu": nil}, sim.Link{}, sim.Link{}) },
		"is in the zones eu and us": func(n *sim.Network) {
			n.SetZones(map[string][]string{"eu": {"main"}, "us": {"main"}}, sim.Link{}, sim.Link{})
		},
		`there is no zone "eu"; the zones are  (in s`: func(n *sim.Network) { n.IsolateZone("eu") },
		`there is no zone "eu"; the zones are us (in`: func(n *sim.Network) {
			n.SetZones(map[string][]string{"us": {"main"}}, sim.Link{}, sim.Link{})
			n.PartitionZones([]string{"us"}, []string{"eu"})
		},
		"a latency is negative": func(n *sim.Network) { n.SetZones(nil, sim.Link{}, sim.Link{MinLatency: -1}) },
	} {
		f := sim.Check(func(ctx context.Context) error { do(sim.NetworkOf(ctx)); return nil }).Failure
		if !errors.Is(f, asyncio.ErrInvalidArgument) || !strings.Contains(f.Error(), want) {
			t.Errorf("%v, want %q", f, want)
		}
	}
}

// A host's wall clock can be set, with its time zone, while the host is on or off; timers do not
// notice, and files get its times.
func TestHost_SetClock(t *testing.T) {
	tokyo := time.FixedZone("JST", 9*60*60)
	noon := time.Date(2024, 2, 28, 12, 0, 0, 0, tokyo)
	sim.Run(t, func(ctx context.Context) error {
		var seen []string
		look := func(ctx context.Context) error {
			loop, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			for range 2 {
				begun := loop.Time()
				if err := asyncio.Sleep(ctx, time.Minute); err != nil {
					return err
				}
				seen = append(seen, fmt.Sprintf("%s +%v", loop.Now().Format("2006-01-02 15:04:05 MST"), loop.Time().Sub(begun)))
			}
			return asyncio.WriteFile(ctx, "stamp", []byte("x"), 0o666)
		}
		h := sim.NewHost(ctx, "tokyo", look)
		h.SetClock(noon)
		if err := asyncio.Sleep(ctx, 90*time.Second); err != nil {
			return err
		}
		h.SetClock(noon.AddDate(1, 0, 0))
		if err := h.Wait(ctx); err != nil {
			return err
		}
		h.SetClock(noon.In(time.UTC))
		h.Restart()
		if err := h.Wait(ctx); err != nil {
			return err
		}
		want := []string{"2024-02-28 12:01:00 JST +1m0s", "2025-02-28 12:00:30 JST +1m0s", "2024-02-28 03:01:00 UTC +1m0s", "2024-02-28 03:02:00 UTC +1m0s"}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			return fmt.Errorf("%q, want %q", seen, want)
		}
		info, err := h.Disk().Snapshot().Open("stamp")
		if err != nil {
			return err
		}
		stat, err := info.Stat()
		if err != nil {
			return err
		}
		if want := noon.Add(2 * time.Minute); !stat.ModTime().Equal(want) {
			return fmt.Errorf("the file is of %v, want %v", stat.ModTime(), want)
		}
		return nil
	})
}
