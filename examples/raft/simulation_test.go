package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A simulation is three hosts, node1 to node3, that run Main as it is in production, and clients on the host of the test.
type simulation struct {
	hosts   []*sim.Host
	net     *sim.Network
	history *history
	leader  int               // who was elected last, counted from 0
	leaders map[uint64]uint64 // who was elected in a term
	wrong   error             // what no cluster may do
	over    bool              // the clients are to come to an end
	tally   *tally
}

// A scenario is what a simulation is of.
type scenario struct {
	config   func(*Config)
	clients  int
	think    time.Duration // of a client, at most
	lasts    time.Duration // how long things go wrong
	restart  time.Duration // how long a node is off, at most
	troubles func(s *simulation) []trouble
	tally    *tally // nil if nobody wants to know
}

// A tally counts what has happened in all runs of an exploration, to see that it is not nothing.
type tally struct {
	runs, elections, answers, unanswered int
	simulated                            time.Duration
	ends                                 map[string]int // of programs, by why
	troubles                             map[string]int
}

func (t *tally) String() string {
	return fmt.Sprintf("%d runs of %v: %d elections, %d answers, %d requests without, ends of nodes %v, troubles %v",
		t.runs, t.simulated/time.Duration(max(t.runs, 1)), t.elections, t.answers, t.unanswered, t.ends, t.troubles)
}

// A trouble goes wrong from time to time: after a pause, which is at most twice that long, with a probability, and for so long at most.
type trouble struct {
	what  string
	p     float64
	pause time.Duration
	lasts time.Duration
	do    func(r func(n int) int) // r is below n, at random
	undo  func()
}

const (
	simulatedPort = "7000"
	simulatedDir  = "/var/raft"
)

func nodeName(i int) string { return fmt.Sprint("node", i+1) }

// run is a run of the simulation, in which clients work.
func (sc scenario) run(ctx context.Context) error {
	return sc.with(ctx, func(ctx context.Context, s *simulation) error { return s.work(ctx, sc) })
}

// with is a run of the simulation. When body returns the nodes must agree soon.
func (sc scenario) with(ctx context.Context, body func(ctx context.Context, s *simulation) error) error {
	elections, restore := seedElections(ctx)
	defer restore()
	s := &simulation{tally: cmp.Or(sc.tally, new(tally)), net: sim.NetworkOf(ctx), history: new(history), leaders: make(map[uint64]uint64)}
	var peers []Peer
	for i := range 3 {
		peers = append(peers, Peer{uint64(i + 1), net.JoinHostPort(nodeName(i), simulatedPort)})
	}
	for i := range 3 {
		c := Config{ID: uint64(i + 1), Peers: peers, Dir: simulatedDir, SnapshotEvery: 10, Logger: witness{quiet, s}}
		if sc.config != nil {
			sc.config(&c)
		}
		s.hosts = append(s.hosts, sim.NewHost(ctx, nodeName(i), func(ctx context.Context) error {
			elections.join(ctx)
			return Main(ctx, c)
		}))
	}
	if s.tally.ends == nil {
		s.tally.ends, s.tally.troubles = make(map[string]int), make(map[string]int)
	}
	sim.AtEnd(ctx, "tally", func() error {
		s.tally.runs++
		s.tally.elections += len(s.leaders)
		s.tally.answers += s.history.answered
		s.tally.unanswered += len(s.history.ops) - s.history.answered
		return nil
	})
	sim.Always(ctx, "one leader in a term", func() error { return s.wrong })
	sim.AtEnd(ctx, "linearizable", s.history.check)
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, keepers *asyncio.TaskGroup) error {
		defer keepers.Cancel()
		for _, h := range s.hosts {
			keepers.CreateTask(func(ctx context.Context) error { return s.keep(ctx, h, sc.restart) }, asyncio.Name("keeper of "+h.Name()))
		}
		if err := body(ctx, s); err != nil {
			return err
		}
		if err := s.agree(ctx); err != nil {
			return err
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		s.tally.simulated += loop.Time()
		return err
	})
}

// work has clients work while things go wrong, and then while nothing does.
func (s *simulation) work(ctx context.Context, sc scenario) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, clients *asyncio.TaskGroup) error {
		for i := range sc.clients {
			clients.CreateTask(func(ctx context.Context) error {
				c := s.client(ctx)
				defer c.Close()
				return s.history.work(ctx, c, i+1, sc.think, func(int) bool { return !s.over })
			}, asyncio.Name(fmt.Sprint("client ", i+1)))
		}
		clients.CreateTask(s.hangUp, asyncio.Name("impatient client"))
		_, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, nemesis *asyncio.TaskGroup) error {
				for _, t := range sc.troubles(s) {
					nemesis.CreateTask(func(ctx context.Context) error { return s.cause(ctx, t) }, asyncio.Name(t.what))
				}
				return nil
			})
		}), sc.lasts)
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
		sim.StopFaults(ctx)
		s.net.SetLink(sim.Link{MinLatency: 100 * time.Microsecond, MaxLatency: time.Millisecond})
		err = asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return s.history.wait(ctx, 5*sc.clients) })
		if errors.Is(err, asyncio.ErrTimeout) {
			err = fmt.Errorf("nothing goes wrong any more, and there is no progress: %w", err)
		}
		s.over = true
		return err
	})
}

// cause is the task of a trouble, until it is cancelled.
func (s *simulation) cause(ctx context.Context, t trouble) error {
	r := asyncio.Rand(ctx)
	for {
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(2*int64(t.pause)+1))); err != nil {
			return err
		}
		lasts := time.Duration(r.Int64N(int64(t.lasts) + 1))
		n := r.Uint64() // so that whether it happens changes nothing for the next time
		if !sim.Fault(ctx, t.what, t.p) {
			continue
		}
		s.tally.troubles[t.what]++
		t.do(func(of int) int {
			defer func() { n /= uint64(of) }()
			return int(n % uint64(of))
		})
		err := asyncio.Sleep(ctx, lasts)
		if t.undo != nil {
			t.undo()
		}
		if err != nil {
			return err
		}
	}
}

// keep is the task that turns a host on again: one that lost its power, and one whose disk has failed, which a node does not survive.
func (s *simulation) keep(ctx context.Context, h *sim.Host, after time.Duration) error {
	r := asyncio.Rand(ctx)
	for {
		err := h.Wait(ctx)
		if stopped(ctx, err) {
			return err
		}
		expected := false
		for _, e := range []error{sim.ErrCrashed, syscall.EIO, syscall.ENOSPC} {
			if errors.Is(err, e) {
				s.tally.ends[e.Error()]++
				expected = true
			}
		}
		if !expected {
			return fmt.Errorf("%v has ended: %w", h, err)
		}
		if err := asyncio.Sleep(ctx, time.Duration(r.Int64N(int64(after)+1))); err != nil {
			return err
		}
		if !h.IsOn() {
			h.Restart()
		}
	}
}

func (s *simulation) client(ctx context.Context) *Client {
	var nodes []string
	for _, h := range s.hosts {
		nodes = append(nodes, net.JoinHostPort(h.Name(), simulatedPort))
	}
	c := NewClient(ctx, nodes...)
	c.Patience = 5 * time.Second
	return c
}

// hangUp is the task of a client that does not wait for answers: a few requests, some of which it does not even finish.
func (s *simulation) hangUp(ctx context.Context) error {
	r := asyncio.Rand(ctx)
	c := s.client(ctx)
	for i := range 6 {
		pause, patience := time.Duration(r.Int64N(int64(4*time.Second))), time.Duration(r.Int64N(int64(10*time.Millisecond)))
		q := request{op: "put", client: c.id, sequence: uint64(i + 1), key: string(rune('a' + r.IntN(3))), value: fmt.Sprint("impatient ", i)}
		whole, abort := r.IntN(4) > 0, r.IntN(2) == 0
		if err := asyncio.Sleep(ctx, pause); err != nil {
			return err
		}
		if s.over {
			return nil
		}
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			_, w, err := asyncio.OpenConnection(ctx, net.JoinHostPort(s.hosts[s.leader].Name(), simulatedPort))
			if err != nil {
				return err
			}
			defer func() {
				if abort {
					w.Abort()
				} else {
					w.CloseSoon()
				}
			}()
			line := q.String()
			if whole { // what is not a whole line must not be done
				line += "\n"
				s.history.unanswered(0, q)
			}
			if _, err := w.Write(ctx, []byte(line)); err != nil {
				return err
			}
			return asyncio.Sleep(ctx, patience)
		})
		if err != nil && stopped(ctx, err) {
			return err
		}
	}
	return nil
}

// agree waits until all nodes have the same on their disks, and looks whether it is what clients read.
func (s *simulation) agree(ctx context.Context) error {
	c := s.client(ctx)
	defer c.Close()
	want := make(map[string]reply)
	for _, key := range []string{"a", "b", "c"} {
		p, err := s.history.ask(ctx, c, 0, request{op: "get", key: key})
		if err != nil {
			return err
		}
		want[key] = p
	}
	if err := c.Put(ctx, "last", "one"); err != nil { // all nodes will know that what is before it is committed
		return err
	}
	var err error
	for range 100 {
		if err = s.compare(want); err == nil {
			return nil
		}
		if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// compare compares what the nodes have on their disks with each other, and with what was read.
func (s *simulation) compare(want map[string]reply) error {
	var first string
	for i, h := range s.hosts {
		data, err := h.Disk().ReadFile(simulatedDir + "/" + walName)
		if err != nil {
			return err
		}
		held, err := readWAL(data)
		if err != nil {
			return fmt.Errorf("%v: %w", h, err)
		}
		st, err := restoreStore(held.snapshot.GetData())
		if err != nil {
			return fmt.Errorf("%v: %w", h, err)
		}
		for _, e := range held.entries {
			if len(e.GetData()) == 0 {
				continue
			}
			q, err := parseRequest(string(e.GetData()))
			if err != nil {
				return fmt.Errorf("%v: %w", h, err)
			}
			st.apply(q)
		}
		for _, key := range []string{"a", "b", "c"} {
			if p := st.get(key); p != want[key] {
				return fmt.Errorf("%v has %v of %q, and %v was read", h, p, key, want[key])
			}
		}
		all := string(st.snapshot())
		if first = cmp.Or(first, all); all != first {
			return fmt.Errorf("node1 has\n%s\nand %v\n%s", first, nodeName(i), all)
		}
	}
	return nil
}

// A witness is told by raft what happens.
type witness struct {
	raft.Logger
	s *simulation
}

var quiet = &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}

func (w witness) Infof(format string, v ...any) {
	if !strings.HasSuffix(format, "became leader at term %d") {
		return
	}
	id, term := v[0].(uint64), v[1].(uint64)
	w.s.leader = int(id - 1)
	if was, ok := w.s.leaders[term]; ok && w.s.wrong == nil {
		w.s.wrong = fmt.Errorf("node%d was elected in term %d, and so was node%d", was, term, id)
	}
	w.s.leaders[term] = id
}

// everything is all that a cluster must survive.
func everything(s *simulation) []trouble {
	var all []trouble
	const second = time.Second
	network := func(name string, do func(r func(int) int)) {
		all = append(all, trouble{name, 0.3, 3 * second, 4 * second, do, s.net.Heal})
	}
	two := func(r func(int) int) (string, string) {
		i := r(3)
		return nodeName(i), nodeName((i + 1 + r(2)) % 3)
	}
	network("the leader is isolated", func(func(int) int) { s.isolate(s.leader) })
	network("a node is isolated", func(r func(int) int) { s.isolate(r(3)) })
	network("no node reaches another", func(func(int) int) {
		s.net.Partition([]string{nodeName(0)}, []string{nodeName(1)}, []string{nodeName(2)})
	})
	network("one way is cut", func(r func(int) int) { s.net.Cut(two(r)) })
	network("one way is held", func(r func(int) int) { s.net.Hold(two(r)) })
	network("a client cannot reach the leader", func(func(int) int) { s.net.Cut("main", nodeName(s.leader)) })
	network("answers do not reach the clients", func(func(int) int) { s.net.Cut(nodeName(s.leader), "main") })
	all = append(all,
		trouble{"connections are reset", 0.3, 3 * second, 0, func(r func(int) int) { s.net.Reset(two(r)) }, nil},
		trouble{"the network is bad", 0.3, 5 * second, 5 * second, func(r func(int) int) {
			s.net.SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: time.Duration(1+r(300)) * time.Millisecond, Loss: 0.05})
		}, func() { s.net.SetLink(sim.Link{MinLatency: 100 * time.Microsecond, MaxLatency: time.Millisecond}) }},
		trouble{"the leader is killed", 0.3, 5 * second, 0, func(func(int) int) { s.hosts[s.leader].Kill() }, nil},
		trouble{"all lose power", 0.1, 5 * second, 0, func(func(int) int) {
			for _, h := range s.hosts {
				h.Crash()
			}
		}, nil},
	)
	for i, h := range s.hosts {
		h.SetCrashes(0.0003, 10*second)
		all = append(all, s.badDisk(i)...)
		all = append(all,
			trouble{"power failure of " + h.Name(), 0.3, 5 * second, 0, func(func(int) int) { h.Crash() }, nil},
			trouble{"the clock of " + h.Name() + " is wrong", 0.2, 5 * second, 10 * second,
				func(r func(int) int) {
					h.SetClockRate([]float64{0.3, 0.9, 1.1, 3}[r(4)])
					h.JumpClock(time.Duration(r(7200)-3600) * second)
				},
				func() { h.SetClockRate(1) }})
	}
	return all
}

// badDisk is what a disk does to a node: it is slow, full, or fails.
func (s *simulation) badDisk(i int) []trouble {
	h := s.hosts[i]
	d := h.Disk()
	const second = time.Second
	return []trouble{
		{"the disk of " + h.Name() + " is slow", 0.3, 5 * second, 5 * second,
			func(r func(int) int) {
				d.SetLatency(0, time.Duration(1+r(100))*time.Millisecond)
				d.SetSyncLatency(0, time.Duration(1+r(500))*time.Millisecond)
			},
			func() { d.SetLatency(0, 0); d.SetSyncLatency(0, 0) }},
		{"the disk of " + h.Name() + " is full", 0.1, 10 * second, 5 * second, func(func(int) int) { d.SetCapacity(1) }, func() { d.SetCapacity(0) }},
		{"the disk of " + h.Name() + " fails", 0.2, 10 * second, 5 * second,
			func(func(int) int) { d.SetFaults(sim.DiskFaults{Read: 0.02, Write: 0.05, Sync: 0.1, Stall: 0.02}) },
			func() { d.SetFaults(sim.DiskFaults{}) }},
	}
}

func (s *simulation) isolate(i int) {
	s.net.Partition([]string{nodeName(i)}, []string{nodeName((i + 1) % 3), nodeName((i + 2) % 3)})
}

// Three nodes, unchanged, with everything going wrong that may.
func TestSimulation(t *testing.T) {
	seen := new(tally)
	sc := scenario{clients: 3, think: 400 * time.Millisecond, lasts: 20 * time.Second, restart: 2 * time.Second, troubles: everything, tally: seen}
	sim.Explore(t, sc.run, sim.Runs(200))
	t.Log(seen)
}

// A node that was cut off, for however long, is back soon: it does not wait until TCP tries again, which it does less and less often.
func TestSimulation_CutForLong(t *testing.T) {
	for name, cut := range map[string]func(s *simulation, late string){
		"both ways":    func(s *simulation, late string) { s.net.Partition([]string{late}, s.others(late)) },
		"what it gets": func(s *simulation, late string) { s.net.Cut(s.others(late)[0], late); s.net.Cut(s.others(late)[1], late) },
		"what it says": func(s *simulation, late string) { s.net.Cut(late, s.others(late)[0]); s.net.Cut(late, s.others(late)[1]) },
	} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				return scenario{}.with(ctx, func(ctx context.Context, s *simulation) error {
					c := s.client(ctx)
					defer c.Close()
					for i := range 60 {
						if i == 1 {
							cut(s, nodeName((s.leader+1)%3))
						}
						if _, err := s.history.ask(ctx, c, 1, request{op: "put", key: "a", value: fmt.Sprint(i)}); err != nil {
							return err
						}
						if err := asyncio.Sleep(ctx, time.Second); err != nil {
							return err
						}
					}
					s.net.Heal()
					return asyncio.Timeout(ctx, 5*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return s.agree(ctx) })
				})
			})
		})
	}
}

func (s *simulation) others(than string) (all []string) {
	for _, h := range s.hosts {
		if h.Name() != than {
			all = append(all, h.Name())
		}
	}
	return all
}

// faulty is a cluster that is broken on purpose, and what a test is to find out.
var faulty = map[string]struct {
	runs     int    // within so many it is found,
	found    string // as this
	scenario scenario
}{
	"ack-before-sync": {100, "", scenario{
		config:  func(c *Config) { c.AckBeforeSync = true },
		clients: 3, think: 400 * time.Millisecond, lasts: 20 * time.Second, restart: 2 * time.Second, troubles: everything,
	}},
	"read-without-quorum": {100, "", scenario{
		config:  func(c *Config) { c.ReadWithoutQuorum = true },
		clients: 3, think: 400 * time.Millisecond, lasts: 20 * time.Second, restart: 2 * time.Second, troubles: everything,
	}},
	"forget-vote": {300, "", scenario{
		config:  func(c *Config) { c.ForgetVote = true },
		clients: 3, think: 400 * time.Millisecond, lasts: 20 * time.Second, restart: 2 * time.Second, troubles: everything,
	}},
}

func TestSimulation_Broken(t *testing.T) {
	for name, f := range faulty {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed < 5000; seed += 1000 {
				began := time.Now()
				r := sim.Check(f.scenario.run, sim.Runs(f.runs), sim.Seed(seed))
				if r.Failure == nil {
					t.Errorf("not found: %s", r.Coverage)
					continue
				}
				t.Logf("run %d, %v: %v; %d deviations, %s; %d runs\n%s", r.Failure.Run, time.Since(began), strings.Split(r.Failure.Err.Error(), "\n")[0], len(r.Failure.Deviations), r.Failure.Minimal, r.Runs, strings.Join(r.Failure.Deviations, "\n"))
			}
		})
	}
}
