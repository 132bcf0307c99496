package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// echoes is a host's program: it sends every line back, and every datagram.
func echoes(ctx context.Context) error {
	s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		for {
			line, err := r.ReadLine(ctx)
			if len(line) == 0 || err != nil {
				return nil
			}
			if _, err := w.Write(ctx, line); err != nil {
				return nil
			}
		}
	}, ":7")
	if err != nil {
		return err
	}
	c, err := asyncio.ListenPacket(ctx, "udp", ":7")
	if err != nil {
		return err
	}
	start(ctx, "datagrams", func(ctx context.Context) error {
		for p := make([]byte, 100); ; {
			n, from, err := c.ReadFromContext(ctx, p)
			if err != nil {
				return nil
			}
			if _, err := c.WriteTo(p[:n], from); err != nil {
				return err
			}
		}
	})
	return s.Serve(ctx)
}

// A client of echoes: what the answers are, and when they came.
type answers struct {
	at  []time.Duration
	got []string
	err error
}

// A network of main and a host named echo, with a latency of 10 ms, whose client sends lines or
// datagrams, one each second from second 1 on.
func withEcho(ctx context.Context, datagrams bool, lines ...string) (*answers, error) {
	a := new(answers)
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return a, err
	}
	note := func(got string) {
		a.at = append(a.at, loop.Time().SinceStart().Truncate(time.Millisecond))
		a.got = append(a.got, strings.TrimSpace(got))
	}
	write, read, stop := func([]byte) error { return nil }, func() (string, error) { return "", nil }, func() {}
	if datagrams {
		c, err := asyncio.DialPacket(ctx, "udp", "echo:7")
		if err != nil {
			return a, err
		}
		write = func(p []byte) error { _, err := c.Write(p); return err }
		read = func() (string, error) {
			p := make([]byte, 100)
			n, err := c.ReadContext(ctx, p)
			return string(p[:n]), err
		}
		stop = func() { c.Close() }
	} else {
		r, w, err := asyncio.OpenConnection(ctx, "echo:7")
		if err != nil {
			a.err = err
			return a, nil
		}
		write = func(p []byte) error { _, err := w.Write(ctx, p); return err }
		read = func() (string, error) {
			line, err := r.ReadLine(ctx)
			if err == nil && len(line) == 0 {
				err = io.EOF
			}
			return string(line), err
		}
		stop = func() { w.CloseSoon() }
	}
	reader := start(ctx, "reader", func(ctx context.Context) error {
		for {
			got, err := read()
			if err != nil {
				a.err = err
				return nil
			}
			note(got)
		}
	})
	for i, line := range lines {
		if err := asyncio.Sleep(ctx, time.Duration(i+1)*time.Second-loop.Time().SinceStart()); err != nil {
			return a, err
		}
		if err := write([]byte(line + "\n")); err != nil {
			break
		}
	}
	if err := asyncio.Sleep(ctx, time.Minute); err != nil {
		return a, err
	}
	stop()
	_, _ = asyncio.WaitFor(ctx, reader, time.Second)
	return a, nil
}

// What rules do, as the program sees it.
func TestRules(t *testing.T) {
	contains := func(s string) func(sim.Message) bool {
		return func(m sim.Message) bool { return bytes.Contains(m.Data, []byte(s)) }
	}
	for _, c := range []struct {
		name      string
		datagrams bool
		rule      sim.Rule
		want      string // answers with their times, and the error
		note      string // in the trace
	}{
		{"watch", false, sim.Rule{From: "main", To: "echo"}, "[a 1.02s] [b 2.02s] [c 3.02s]", ""},
		{"drop the second write", false, sim.Rule{From: "main", To: "echo", Do: sim.Drop, Skip: 1, Times: 1},
			"[a 1.02s] [b 2.24s] [c 3.02s]", "from main to echo, 2 bytes\n"},
		{"drop an answer by content", false, sim.Rule{From: "echo", Match: contains("b"), Do: sim.Drop, Name: "b is lost"},
			"[a 1.02s] [b 2.24s] [c 3.02s]", "(b is lost)"},
		{"delay one write, and all behind it", false, sim.Rule{To: "echo", Match: contains("a"), Do: sim.Delay, Delay: 5 * time.Second},
			"[a 6.02s] [b 6.04s] [c 6.04s]", "the network: delay write"},
		{"break at a request", false, sim.Rule{To: "echo", Match: contains("b"), Do: sim.Break}, "[a 1.02s] connection reset by peer", "break the connection at write"},
		{"break at an answer", false, sim.Rule{From: "echo", Match: contains("b"), Do: sim.Break}, "[a 1.02s] connection reset by peer", ""},
		{"refuse to connect", false, sim.Rule{Kinds: []sim.MessageKind{sim.KindRequest}, To: "echo", Do: sim.Break}, "connection refused", ""},
		{"drop the request to connect", false, sim.Rule{Kinds: []sim.MessageKind{sim.KindRequest}, To: "echo", Do: sim.Drop, Times: 1},
			"[a 1.04s] [b 2.02s] [c 3.02s]", "drop request"},
		{"drop acknowledgments", false, sim.Rule{Kinds: []sim.MessageKind{sim.KindAck}, Do: sim.Drop}, "[a 1.02s] [b 2.02s] [c 3.02s]", "drop acknowledgment"},
		{"drop every segment once more", false, sim.Rule{Kinds: []sim.MessageKind{sim.KindSegment}, To: "echo", Do: sim.Drop, Times: 2},
			"[a 1.68s] [b 2.02s] [c 3.02s]", "drop segment"},

		{"datagrams: drop", true, sim.Rule{From: "main", Match: contains("b"), Do: sim.Drop}, "[a 1.02s] [c 3.02s]", "the network: drop datagram"},
		{"datagrams: delay", true, sim.Rule{From: "main", Skip: 1, Times: 1, Do: sim.Delay, Delay: 1500 * time.Millisecond}, "[a 1.02s] [c 3.02s] [b 3.52s]", ""},
		{"datagrams: duplicate", true, sim.Rule{To: "main", Match: contains("c"), Do: sim.Duplicate}, "[a 1.02s] [b 2.02s] [c 3.02s] [c 3.03s]", "the network: duplicate datagram"},
		{"datagrams by size", true, sim.Rule{Match: func(m sim.Message) bool { return m.Size > 2 }, Do: sim.Drop}, "[a 1.02s] [b 2.02s] [c 3.02s]", ""},
		{"datagrams by link", true, sim.Rule{Match: func(m sim.Message) bool { return m.From == "echo" && m.Destination.Addr().String() == "10.0.0.1" }, Do: sim.Drop}, "", "from echo to main"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a *answers
			main := func(ctx context.Context) error {
				sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: 10 * time.Millisecond})
				sim.NewHost(ctx, "echo", echoes)
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				sim.NetworkOf(ctx).AddRule(c.rule)
				var err error
				a, err = withEcho(ctx, c.datagrams, "a", "b", "c")
				return err
			}
			trace, err := sim.Trace(main)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, at := range a.at {
				got = append(got, fmt.Sprintf("[%s %v]", a.got[i], at.Truncate(10*time.Millisecond)))
			}
			for _, want := range []error{syscall.ECONNRESET, syscall.ECONNREFUSED} {
				if errors.Is(a.err, want) {
					got = append(got, want.Error())
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("answers %s, want %s (%v)\n%s", s, c.want, a.err, trace)
			}
			if !strings.Contains(trace, c.note) {
				t.Errorf("%q is not in\n%s", c.note, trace)
			}
			again, _ := sim.Trace(main)
			if again != trace {
				t.Errorf("two traces differ:\n%s\n%s", trace, again)
			}
		})
	}
}

// A write that a rule is for has no segment in common with the writes around it.
func TestRules_WritesKeepTheirEdges(t *testing.T) {
	for seed := range uint64(20) {
		var before, behind time.Duration
		_, err := sim.Trace(func(ctx context.Context) error {
			n := sim.NetworkOf(ctx)
			n.SetLink(sim.Link{MinLatency: 10 * time.Millisecond})
			n.SetBuffers(1<<20, 1<<20)
			var got []byte
			loop, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			sim.NewHost(ctx, "sink", func(ctx context.Context) error {
				l, err := asyncio.Listen(ctx, "tcp", ":7")
				if err != nil {
					return err
				}
				defer l.Close()
				c, err := l.AcceptContext(ctx)
				if err != nil {
					return err
				}
				defer c.Close()
				for p := make([]byte, 1<<16); ; {
					m, err := c.Read(p)
					if err != nil {
						return nil
					}
					if got = append(got, p[:m]...); len(got) == 10_000 {
						before = loop.Time().SinceStart()
					}
					behind = loop.Time().SinceStart()
				}
			})
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			n.AddRule(sim.Rule{From: "main", Match: func(m sim.Message) bool { return m.Data[0] == 'b' }, Do: sim.Delay, Delay: time.Minute})
			c, err := asyncio.Dial(ctx, "tcp", "sink:7")
			if err != nil {
				return err
			}
			defer c.Close()
			for _, s := range []string{"a", "b", "c"} {
				if _, err := c.Write(bytes.Repeat([]byte(s), 10_000)); err != nil {
					return err
				}
			}
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return err
			}
			want := slices.Concat(bytes.Repeat([]byte("a"), 10_000), bytes.Repeat([]byte("b"), 10_000), bytes.Repeat([]byte("c"), 10_000))
			if !bytes.Equal(got, want) {
				return fmt.Errorf("got %d bytes, or others", len(got))
			}
			return nil
		}, sim.Seed(seed))
		if err != nil {
			t.Fatal(err)
		}
		if before > 2*time.Second || behind < time.Minute {
			t.Errorf("seed %d: the bytes before are there at %v, the last ones at %v", seed, before, behind)
		}
	}
}

// A held message is released by the test. Meanwhile the test knows that it is on its way.
func ExampleActiveRule() {
	r := sim.Check(func(ctx context.Context) error {
		server := sim.NewHost(ctx, "server", echoes)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		answer := sim.NetworkOf(ctx).AddRule(sim.Rule{From: "server", Do: sim.Hold, Times: 1})
		client := start(ctx, "client", func(ctx context.Context) error {
			r, w, err := asyncio.OpenConnection(ctx, "server:7")
			if err != nil {
				return err
			}
			defer w.CloseSoon()
			if _, err := w.Write(ctx, []byte("hello\n")); err != nil {
				return err
			}
			_, err = r.ReadLine(ctx)
			return err
		})
		if err := answer.Wait(ctx, 1); err != nil {
			return err
		}
		// The server has answered, and the client does not know.
		server.Crash()
		answer.Release()
		_, err := client.Await(ctx)
		return err
	}, sim.Runs(20))
	fmt.Println(r.Failure)
	// Output: <nil>
}

// With a probability a rule is a fault: it does not happen in order, is found, and is named in the
// explanation.
func TestRules_AsAFault(t *testing.T) {
	wrong := errors.New("an answer was lost")
	main := func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echoes)
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		n := sim.NetworkOf(ctx)
		n.AddRule(sim.Rule{Name: "an answer is lost", From: "echo", Do: sim.Drop, Probability: 0.1})
		a, err := withEcho(ctx, true, "a", "b", "c")
		if err == nil && len(a.got) < 3 {
			err = wrong
		}
		return err
	}
	for _, s := range []sim.Strategy{sim.Random(), sim.Exhaustive(1)} {
		f := sim.Check(main, sim.WithStrategy(s), sim.Runs(2000)).Failure
		if f == nil || !errors.Is(f, wrong) || len(f.Deviations) != 1 || !strings.HasSuffix(f.Deviations[0], "there was a fault: an answer is lost") {
			t.Errorf("%v: %v", s, f)
		}
	}
}

// Removing a rule, or StopFaults, releases what it holds; Heal does not end a rule.
func TestRules_End(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(ctx context.Context, r *sim.ActiveRule)
		want int
	}{
		{"remove", func(_ context.Context, r *sim.ActiveRule) { r.Remove() }, 3},
		{"release", func(_ context.Context, r *sim.ActiveRule) { r.Release() }, 1},
		{"stop faults", func(ctx context.Context, _ *sim.ActiveRule) { sim.StopFaults(ctx) }, 3},
		{"heal", func(ctx context.Context, _ *sim.ActiveRule) { sim.NetworkOf(ctx).Heal() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				sim.NewHost(ctx, "echo", echoes)
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				rule := sim.NetworkOf(ctx).AddRule(sim.Rule{To: "echo", Do: sim.Hold})
				loop, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				loop.CallLater(1500*time.Millisecond, func() { c.end(ctx, rule) })
				a, err := withEcho(ctx, true, "a", "b", "c")
				if err != nil {
					return err
				}
				if len(a.got) != c.want {
					return fmt.Errorf("answers %q, want %d", a.got, c.want)
				}
				return nil
			})
		})
	}
}

func TestRules_Misuse(t *testing.T) {
	for want, rule := range map[string]sim.Rule{
		`there is no host "nobody"`:           {To: "nobody"},
		"a negative number of messages":       {Skip: -1},
		"does not go with delay":              {Do: sim.Delay},
		"does not go with drop":               {Do: sim.Drop, Delay: time.Second},
		"2 is not a probability":              {Probability: 2},
		"is no action":                        {Do: 77},
		"is no kind of message":               {Kinds: []sim.MessageKind{77}},
		"to duplicate a write changes":        {Do: sim.Duplicate, Kinds: []sim.MessageKind{sim.KindWrite}},
		"belongs to no connection that could": {Do: sim.Break, Kinds: []sim.MessageKind{sim.KindDatagram}},
	} {
		f := sim.Check(func(ctx context.Context) error {
			sim.NetworkOf(ctx).AddRule(rule)
			return nil
		}).Failure
		if !errors.Is(f, asyncio.ErrInvalidArgument) || !strings.Contains(f.Error(), want) || !strings.Contains(f.Error(), "(in sim.Network.AddRule)") {
			t.Errorf("%+v: %v, want %q", rule, f, want)
		}
	}
}
