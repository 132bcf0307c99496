package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A simulation is three hosts, node1 to node3, that run Main as in production, and clients on the
// host of the test.
type simulation struct {
	hosts   []*sim.Host
	net     *sim.Network
	history *history
	leader  int               // the node elected last, counted from 0
	leaders map[uint64]uint64 // the node elected in each term
	wrong   error             // an error that no cluster may make
	over    bool              // the clients are to come to an end
	tally   *tally
}

// A scenario describes a simulation.
type scenario struct {
	config   func(*Config)
	clients  int           // that read and write,
	readers  int           // and that only read
	think    time.Duration // of a client, at most
	attempt  time.Duration // how long a client waits for one node; 0 for the default
	lasts    time.Duration // how long faults go on
	restart  time.Duration // how long a node is off, at most
	troubles func(s *simulation) []trouble
	tally    *tally // nil if nothing is counted
}

// A tally counts the events in all runs of an exploration, to see that there are some.
type tally struct {
	runs, elections, answers, unanswered int
	simulated                            time.Duration
	ends                                 map[string]int // of programs, by reason
	troubles                             map[string]int
}

func (t *tally) String() string {
	troubles := 0
	for _, n := range t.troubles {
		troubles += n
	}
	return fmt.Sprintf("%d runs of %v: %d elections, %d answers, %d requests without one, nodes that ended: %v, %d troubles of %d kinds",
		t.runs, t.simulated/time.Duration(max(t.runs, 1)), t.elections, t.answers, t.unanswered, t.ends, troubles, len(t.troubles))
}

// A trouble is a fault that comes from time to time: after a random pause of at most twice pause,
// with the probability p, and for at most lasts.
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

// run is a run of the simulation in which clients work.
func (sc scenario) run(ctx context.Context) error {
	return sc.with(ctx, func(ctx context.Context, s *simulation) error { return s.work(ctx, sc) })
}

// with is a run of the simulation. When body returns, the nodes must soon agree.
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
			keepers.CreateTask(ctx, func(ctx context.Context) error { return s.keep(ctx, h, sc.restart) }, asyncio.TaskName("keeper of "+h.Name()))
		}
		if err := body(ctx, s); err != nil {
			return err
		}
		if err := s.agree(ctx); err != nil {
			return err
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		s.tally.simulated += loop.Time().SinceStart()
		return err
	})
}

// work makes clients work while faults happen, and then while none does.
func (s *simulation) work(ctx context.Context, sc scenario) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, clients *asyncio.TaskGroup) error {
		for i := range sc.clients + sc.readers {
			changes := 2 // of four requests
			if i >= sc.clients {
				changes = 0
			}
			clients.CreateTask(ctx, func(ctx context.Context) error {
				c := s.client(ctx)
				c.Attempt = cmp.Or(sc.attempt, c.Attempt)
				defer c.Close()
				return s.history.work(ctx, c, i+1, changes, sc.think, func(int) bool { return !s.over })
			}, asyncio.TaskName(fmt.Sprint("client ", i+1)))
		}
		clients.CreateTask(ctx, s.hangUp, asyncio.TaskName("impatient client"))
		_, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, nemesis *asyncio.TaskGroup) error {
				for _, t := range sc.troubles(s) {
					nemesis.CreateTask(ctx, func(ctx context.Context) error { return s.cause(ctx, t) }, asyncio.TaskName(t.what))
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
		n := r.Uint64() // drawn always, so that the outcome changes nothing for the next time
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

// keep is the task that turns a host on again: after a power loss, and after a disk failure, which
// a node does not survive.
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
		if !h.IsRunning() {
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

// hangUp is the task of a client that does not wait for answers: it sends a few requests, some of
// them incomplete.
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
			if whole { // an incomplete line must not be executed
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

// agree waits until all nodes have the same state on their disks, and compares it with the values
// that clients read.
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
	// after this all nodes will know that everything before it is committed
	if err := c.Put(ctx, "last", "one"); err != nil {
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

// compare compares the state on the nodes' disks with each other, and with the values read.
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

// A witness is a logger through which raft reports events.
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

// everything returns all the troubles that a cluster must survive.
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

// badDisk makes a node's disk slow, full, or failing.
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

// Three nodes, unchanged, with all troubles.
func TestSimulation(t *testing.T) {
	seen := new(tally)
	sc := hardLife
	sc.tally = seen
	sim.Explore(t, sc.run, sim.Runs(runs(200)))
	t.Log(seen)
	if os.Getenv("ASYNCIOSIM") == "" && (seen.elections < 2*seen.runs || seen.answers < 50*seen.runs || len(seen.ends) < 3 || len(seen.troubles) < 20) {
		t.Error("too little happens in these runs")
	}
}

var hardLife = scenario{clients: 3, readers: 1, think: 400 * time.Millisecond, lasts: 20 * time.Second, restart: 2 * time.Second, troubles: everything}

// runs returns n, or fewer where n takes too long.
func runs(n int) int {
	if testing.Short() || raceEnabled {
		return max(1, n/10)
	}
	return n
}

// The same seed gives the same run, step for step, whatever else the machine does: 1000 times with
// ASYNCIO_EXPLORE=all.
func TestSimulation_Repeats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	sc := hardLife
	sc.lasts = 5 * time.Second
	times := runs(20)
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		times = 1000
	}
	for seed := range uint64(2) {
		var first string
		for i := range times {
			runtime.GOMAXPROCS(1 + i%4)
			trace, err := sim.Trace(sc.run, sim.WithStrategy(sim.Random()), sim.Seed(seed))
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = trace
				t.Logf("seed %d: %d lines, hash %x", seed, strings.Count(trace, "\n"), sha256.Sum256([]byte(trace)))
			}
			if trace != first {
				a, b := strings.Split(first, "\n"), strings.Split(trace, "\n")
				at := 0
				for at < min(len(a), len(b)) && a[at] == b[at] {
					at++
				}
				t.Fatalf("seed %d, time %d: line %d is\n%s\nand was\n%s", seed, i+1, at+1, b[min(at, len(b)-1)], a[min(at, len(a)-1)])
			}
		}
	}
}

// A node that was cut off, for however long, is back soon: it does not wait until TCP tries again,
// which TCP does less and less often.
func TestSimulation_CutForLong(t *testing.T) {
	for name, cut := range map[string]func(s *simulation, late string){
		"both ways": func(s *simulation, late string) { s.net.Partition([]string{late}, s.others(late)) },
		"what it gets": func(s *simulation, late string) {
			s.net.Cut(s.others(late)[0], late)
			s.net.Cut(s.others(late)[1], late)
		},
		"what it says": func(s *simulation, late string) {
			s.net.Cut(late, s.others(late)[0])
			s.net.Cut(late, s.others(late)[1])
		},
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

// A broken is a cluster that is broken on purpose, with the failures that show it.
type broken struct {
	scenario
	runs  int      // the number of runs in which it is found
	found []string // the failure is one of these
}

// powerFailures makes each host lose its power, again and again.
func powerFailures(pause time.Duration) func(s *simulation) []trouble {
	return func(s *simulation) (all []trouble) {
		for _, h := range s.hosts {
			all = append(all, trouble{"power failure of " + h.Name(), 0.5, pause, 0, func(func(int) int) { h.Crash() }, nil})
		}
		return all
	}
}

// find explores a broken cluster until it fails.
func find(t *testing.T, b broken) {
	r := sim.Check(b.run, sim.Runs(b.runs))
	f := r.Failure
	if f == nil {
		t.Fatalf("not found: %s", r.Coverage)
	}
	if !slices.ContainsFunc(b.found, func(s string) bool { return strings.Contains(f.Err.Error(), s) }) {
		t.Errorf("found something else than %q:\n%v", b.found, f)
	}
	t.Logf("in run %d: %v", f.Run, f)
}

// A node answers before it has synced. Its log then lacks an entry that others count on: the log is
// lost, has a hole, or is too short for the committed entries.
func TestSimulation_AckBeforeSync(t *testing.T) {
	find(t, broken{scenario{
		config:  func(c *Config) { c.AckBeforeSync = true },
		clients: 2, think: 2 * time.Second, lasts: 10 * time.Second, restart: time.Second,
		troubles: powerFailures(time.Second),
	}, 50, []string{"not linearizable", "damaged at", "corrupted, truncated, or lost"}})
}

// A leader that nobody follows any more goes on answering reads, while another has answered
// changes.
func TestSimulation_ReadWithoutQuorum(t *testing.T) {
	find(t, broken{scenario{
		config:  func(c *Config) { c.ReadWithoutQuorum = true },
		clients: 2, readers: 2, think: 100 * time.Millisecond, lasts: 5 * time.Second, restart: time.Second,
		troubles: func(s *simulation) []trouble {
			return []trouble{{"the leader is isolated", 0.5, time.Second, 5 * time.Second, func(func(int) int) { s.isolate(s.leader) }, s.net.Heal}}
		},
	}, 100, []string{"not linearizable"}})
}

// Two nodes ask for votes in one term, and a third restarts in between.
func TestSimulation_ForgetVote(t *testing.T) {
	find(t, broken{scenario{
		config:  func(c *Config) { c.ForgetVote = true },
		clients: 1, think: 2 * time.Second, lasts: 20 * time.Second, restart: 50 * time.Millisecond,
		troubles: func(s *simulation) []trouble {
			s.net.SetLink(sim.Link{MinLatency: 10 * time.Millisecond, MaxLatency: 300 * time.Millisecond})
			return powerFailures(time.Second)(s)
		},
	}, 300, []string{"one leader in a term"}})
}
