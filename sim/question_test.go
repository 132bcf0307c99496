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

// overtaken fails if the note of host a arrives after that of b, which is sent 500 µs later.
func overtaken(ctx context.Context) error {
	conn, err := asyncio.ListenPacket(ctx, "udp", ":1")
	if err != nil {
		return err
	}
	defer conn.Close()
	for i, name := range []string{"a", "b"} {
		sim.NewHost(ctx, name, func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Duration(i)*500*time.Microsecond); err != nil {
				return err
			}
			c, err := asyncio.DialPacket(ctx, "udp", "main:1")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(name))
			return err
		})
	}
	var got string
	for range 2 {
		p := make([]byte, 1)
		if _, _, err := conn.ReadFromContext(ctx, p); err != nil {
			return err
		}
		got += string(p)
	}
	if got == "ba" {
		return errors.New("a was overtaken")
	}
	return nil
}

// A failure that needs one late packet is explained by that packet, whichever strategy finds it,
// and its schedule is replayed.
func TestAmount_LatePacketIsTheExplanation(t *testing.T) {
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3), sim.Exhaustive(0)} {
		f := sim.Check(overtaken, sim.WithStrategy(s)).Failure
		if f == nil {
			t.Fatalf("%v: not found", s)
		}
		if len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "a datagram from a to main took ") || !strings.HasSuffix(f.Deviations[0], "µs instead of 100µs") && !strings.HasSuffix(f.Deviations[0], "1ms instead of 100µs") {
			t.Errorf("%v: %q", s, f.Deviations)
		}
		if again, err := sim.Reformat(f.Schedule); err != nil || again != f.Schedule {
			t.Errorf("%v: the schedule reads as %q, %v", s, again, err)
		}
		file := t.TempDir() + "/x.sim"
		if err := os.WriteFile(file, []byte(f.Schedule), 0o666); err != nil {
			t.Fatal(err)
		}
		if g := sim.Check(overtaken, sim.Replay(file)).Failure; g == nil || g.Err.Error() != f.Err.Error() {
			t.Errorf("%v: replayed: %v, want %v", s, g, f.Err)
		}
	}
	sim.Run(t, overtaken)
}

// Main can be paused, so a sleep that stands for a synchronization is found out.
func TestAmount_SleepIsNoSynchronization(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		sim.HostOf(ctx).SetPauses(0.1, 100*time.Millisecond)
		ready := false
		start(ctx, "producer", func(ctx context.Context) error {
			for range 4 { // 40 ms of work
				if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
			ready = true
			return nil
		})
		if err := asyncio.Sleep(ctx, 45*time.Millisecond); err != nil { // "it is ready by then"
			return err
		}
		if !ready {
			return errors.New("not ready")
		}
		return nil
	}).Failure
	if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "main paused for ") {
		t.Errorf("%v", f)
	}
}

// In order every operation of a disk takes the least time, and has its effect at the end of it.
// Whatever else is needed is in the explanation.
func TestAmount_DiskTimes(t *testing.T) {
	main := func(limit time.Duration) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			disk := sim.HostOf(ctx).Disk()
			disk.SetLatency(time.Millisecond, time.Second)
			begin := now(ctx)
			if err := asyncio.MkdirAll(ctx, "d", 0o777); err != nil {
				return err
			}
			if took := now(ctx) - begin; took > limit {
				return fmt.Errorf("it took too long")
			}
			return nil
		}
	}
	sim.Run(t, main(time.Millisecond))
	f := sim.Check(main(500 * time.Millisecond)).Failure
	if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "main: mkdir d took ") || !strings.Contains(f.Deviations[0], "ms instead of 1ms") {
		t.Errorf("%v", f)
	}
}

// A long run with a delay for each packet is minimised as quickly as one with few deviations.
func TestMinimise_ManyDelays(t *testing.T) {
	runs := 0
	main := func(ctx context.Context) error {
		runs++
		_, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		p := make([]byte, 10)
		late := 0
		for range 500 {
			begin := now(ctx)
			if _, err := conn.Write([]byte("hello\n")); err != nil {
				return err
			}
			for n := 0; n < len("hello\n"); {
				k, err := conn.Read(p)
				if err != nil {
					return err
				}
				n += k
			}
			if now(ctx)-begin > 1800*time.Microsecond {
				late++
			}
		}
		if late > 1 {
			return errors.New("twice too late")
		}
		return nil
	}
	r := sim.Check(main)
	f := r.Failure
	if f == nil || f.Found < 500 || len(f.Deviations) < 2 || len(f.Deviations) > 8 {
		t.Fatalf("%v", f)
	}
	if spent := runs - r.Runs; spent > 300 {
		t.Errorf("%d runs to find out which of %d deviations it takes", spent, f.Found)
	}
}
