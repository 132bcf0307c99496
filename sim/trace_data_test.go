package sim_test

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// sends sends a datagram of these bytes to nobody.
func sends(ctx context.Context, data []byte) error {
	c, err := asyncio.DialPacket(ctx, "udp", "10.0.0.1:9")
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write(data)
	return err
}

// Data that differs between two runs with the same seed is noticed though every step is the same,
// and its likely cause is named.
func TestData_IsCompared(t *testing.T) {
	random := func() []byte { // no seed decides this
		p := make([]byte, 16)
		_, _ = crand.Read(p)
		return p
	}
	runs := 0
	keys := map[string]int{}
	for i := range 20 {
		keys[string(rune('a'+i))] = i
	}
	last := ""
	unsorted := func() string { // in another order than the last time
		for {
			if s := fmt.Sprint(slices.Collect(maps.Keys(keys))); s != last {
				last = s
				return s
			}
		}
	}
	for _, c := range []struct {
		name string
		main func(ctx context.Context) error
		want []string // in the failure; none if there is none
	}{
		{"what comes from the seed", func(ctx context.Context) error {
			return sends(ctx, fmt.Appendf(nil, "%x", asyncio.Rand(ctx).Uint64()))
		}, nil},
		{"a UUID in a datagram", func(ctx context.Context) error {
			return sends(ctx, fmt.Appendf(nil, "id=%x;", random()))
		}, []string{"step 2, 'main'", "datagram 1 from main to main, 36 bytes: \"id=", "a random number or a UUID", "SetGlobalRandom"}},
		{"random bytes in a write to a disk", func(ctx context.Context) error {
			return asyncio.WriteFile(ctx, "key", append([]byte{0xff}, random()...), 0o600)
		}, []string{"main: write of key at 0, 17 bytes", "a random number or a UUID"}},
		{"a name of a file", func(ctx context.Context) error {
			return asyncio.WriteFile(ctx, fmt.Sprintf("tmp-%x", random()), nil, 0o600)
		}, []string{"open tmp-"}},
		{"the order of a map", func(ctx context.Context) error {
			return sends(ctx, []byte(unsorted()))
		}, []string{"the same bytes in another order", "sort the keys"}},
		{"the time of the machine", func(ctx context.Context) error {
			runs++
			return sends(ctx, []byte(time.Now().Add(time.Duration(runs)*time.Hour).Format(time.RFC3339)))
		}, []string{"A time is in it", "EventLoop.Now"}},
		{"a note", func(ctx context.Context) error {
			runs++
			sim.Note(ctx, "took %v", time.Duration(runs)*time.Millisecond)
			return nil
		}, []string{"took ", "A time is in it"}},
		{"the error of a task", func(ctx context.Context) error {
			_, _ = start(ctx, "worker", func(context.Context) error { return fmt.Errorf("order %x", random()) }).Await(ctx)
			return nil
		}, []string{"order ", "worker"}},
		{"the size of a message", func(ctx context.Context) error {
			runs++
			return sends(ctx, make([]byte, runs%100+1))
		}, []string{"the first has", "datagram 1 from main to main"}},
		{"one message more", func(ctx context.Context) error {
			if runs++; runs%2 == 0 {
				return sends(ctx, []byte("x"))
			}
			return sends(ctx, nil)
		}, []string{"datagram 1 from main to main"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := sim.Check(c.main, sim.Runs(2)).Failure
			if c.want == nil {
				if f != nil {
					t.Error(f)
				}
				return
			}
			if f == nil || !errors.Is(f, sim.ErrNotDeterministic) {
				t.Fatalf("not noticed: %v", f)
			}
			for _, want := range c.want {
				if !strings.Contains(f.Error(), want) {
					t.Errorf("%q is not in\n%v", want, f)
				}
			}
			if !strings.Contains(c.name, "size") && !strings.Contains(c.name, "more") && !strings.Contains(c.name, "name") {
				if f := sim.Check(c.main, sim.Runs(2), sim.SameShape()).Failure; f != nil {
					t.Errorf("with SameShape: %v", f)
				}
			}
		})
	}
}

// With the seed of package testing/cryptotest the same program is the same each time.
func TestData_SeededCrypto(t *testing.T) {
	r := sim.Check(func(ctx context.Context) error {
		cryptotest.SetGlobalRandom(t, asyncio.Rand(ctx).Uint64())
		p := make([]byte, 8)
		_, _ = crand.Read(p)
		return sends(ctx, binary.AppendUvarint(p, 1))
	}, sim.Runs(20))
	if r.Failure != nil {
		t.Error(r.Failure)
	}
}

// Where steps come in another order, or at another time, the words say what does that.
func TestData_Suspects(t *testing.T) {
	keys := make(map[string]bool)
	for i := range 20 {
		keys[fmt.Sprint("worker", i)] = true
	}
	runs := 0
	for _, c := range []struct {
		name string
		main func(ctx context.Context) error
		want string
	}{
		{"a range over a map starts tasks", func(ctx context.Context) error {
			//asynciovet:allow maprange that is what must be found
			for name := range keys {
				start(ctx, name, func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })
			}
			return asyncio.Sleep(ctx, time.Second)
		}, "made so by step 1, 'main' to asyncio.Sleep at trace_data_test.go:"},
		{"a delay from the machine", func(ctx context.Context) error {
			runs++
			return asyncio.Sleep(ctx, time.Duration(runs)*time.Millisecond)
		}, "The times differ: one is computed from time.Now, or from random numbers"},
		{"a goroutine beside it", func(ctx context.Context) error {
			runs++
			stop := make(chan struct{})
			t.Cleanup(func() { close(stop) })
			go func() { <-stop }()
			return asyncio.Sleep(ctx, time.Duration(runs)*time.Millisecond)
		}, "a goroutine runs beside the simulation, begun in sim_test.TestData_Suspects"},
	} {
		f := sim.Check(c.main, sim.Runs(2)).Failure
		for range 100 { // two orders of a map are the same now and then
			if f != nil {
				break
			}
			f = sim.Check(c.main, sim.Runs(2)).Failure
		}
		if f == nil || !errors.Is(f, sim.ErrNotDeterministic) || !strings.Contains(f.Error(), c.want) {
			t.Errorf("%s: want %q in\n%v", c.name, c.want, f)
		}
	}
}

// A trace shows what was sent in each step, with number, size and hosts, and ends with hashes of
// the steps and of the data.
func TestTrace_Messages(t *testing.T) {
	of := func(data string) string {
		trace, err := sim.Trace(func(ctx context.Context) error {
			sim.NewHost(ctx, "echo", echoes)
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
			_, err := withEcho(ctx, false, data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return trace
	}
	a, b := of("one"), of("two")
	for _, want := range []string{"write 1 from main to echo, 4 bytes\n", "write 2 from echo to main, 4 bytes\n", ": 2 messages of 8 bytes, 0 changes of disks"} {
		if !strings.Contains(a, want) {
			t.Errorf("%q is not in\n%s", want, a)
		}
	}
	last := func(trace string) (steps, data string) {
		lines := strings.Split(strings.TrimSpace(trace), "\n")
		steps, data, _ = strings.Cut(lines[len(lines)-1], ", data ")
		return steps, data
	}
	stepsA, dataA := last(a)
	if stepsB, dataB := last(b); stepsA != stepsB || dataA == dataB {
		t.Errorf("the same steps with other data have the hashes %s, %s and %s, %s", stepsA, dataA, stepsB, dataB)
	}
	if again := of("one"); again != a {
		t.Errorf("two traces differ:\n%s\n%s", a, again)
	}
}
