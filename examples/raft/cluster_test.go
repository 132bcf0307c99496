package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A cluster is three nodes, tasks of one loop, that talk over loopback. A node is stopped by a
// cancel, at whatever it waits for.
type cluster struct {
	t       *testing.T
	configs []Config
	running []*asyncio.Task[asyncio.None] // nil if stopped
}

func newCluster(t *testing.T, change func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, running: make([]*asyncio.Task[asyncio.None], 3)}
	dir := t.TempDir()
	peers := freePeers(t)
	for _, p := range peers {
		config := Config{ID: p.ID, Peers: peers, Dir: filepath.Join(dir, fmt.Sprint(p.ID)), Tick: 10 * time.Millisecond}
		change(&config)
		c.configs = append(c.configs, config)
	}
	return c
}

// freePeers returns three nodes, with addresses that were free a moment ago.
func freePeers(t *testing.T) (peers []Peer) {
	t.Helper()
	for id := range uint64(3) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		peers = append(peers, Peer{id + 1, ln.Addr().String()})
	}
	return peers
}

// run runs body with all nodes running.
func (c *cluster) run(body func(ctx context.Context) error) {
	c.t.Helper()
	_, err := asyncio.Run(c.t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			for i := range c.configs {
				c.start(ctx, i)
			}
			if err := body(ctx); err != nil {
				return err
			}
			for i := range c.configs {
				if err := c.stop(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}))
	if err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) start(ctx context.Context, i int) {
	c.running[i] = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return Main(ctx, c.configs[i]) }),
		asyncio.TaskName(fmt.Sprintf("node %d", i+1)))
}

func (c *cluster) stop(ctx context.Context, i int) error {
	task := c.running[i]
	if task == nil {
		return nil
	}
	c.running[i] = nil
	task.Cancel("the test stops it")
	if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
		return fmt.Errorf("node %d: %w", i+1, err)
	}
	return nil
}

func (c *cluster) client(ctx context.Context) *Client {
	var nodes []string
	for _, p := range c.configs[0].Peers {
		nodes = append(nodes, p.Address)
	}
	client := NewClient(ctx, nodes...)
	client.Pause, client.Attempt, client.Patience = 5*time.Millisecond, 300*time.Millisecond, 20*time.Second
	return client
}

// leader returns the number, counted from 0, of the node that made a change for the client.
func (c *cluster) leader(ctx context.Context, client *Client) (int, error) {
	if err := client.Put(ctx, "who", "leads"); err != nil {
		return 0, err
	}
	for i, p := range c.configs[0].Peers {
		if p.Address == client.node() {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no node has the address %s", client.node())
}

// together runs n clients beside faults. Each client makes at least so many requests and goes on
// until faults has returned. Then together checks the history.
func together(ctx context.Context, client func(ctx context.Context) *Client, n, asks int, faults func(ctx context.Context, h *history) error) error {
	h := new(history)
	over := false
	err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for number := range n {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				c := client(ctx)
				defer c.Close()
				return h.work(ctx, c, number+1, 2, 0, func(asked int) bool { return asked < asks || !over })
			}, asyncio.TaskName(fmt.Sprintf("client %d", number+1)))
		}
		err := faults(ctx, h)
		over = true
		return err
	})
	if err == nil && h.answered < n*asks/2 {
		err = fmt.Errorf("only %d of %d were answered", h.answered, n*asks)
	}
	return errors.Join(err, h.check())
}

// The leader is stopped, again and again, and comes back. While the system lives, unsynced data is
// there too, so this does not find a node that answers before it syncs.
func TestCluster_LeaderStops(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprint("ack-before-sync ", broken), func(t *testing.T) {
			c := newCluster(t, func(c *Config) {
				c.SnapshotEvery = 20
				c.AckBeforeSync = broken
			})
			c.run(func(ctx context.Context) error {
				return together(ctx, c.client, 3, 150, func(ctx context.Context, h *history) error {
					own := c.client(ctx)
					defer own.Close()
					for range 4 {
						leader, err := c.leader(ctx, own)
						if err != nil {
							return err
						}
						if err := c.stop(ctx, leader); err != nil {
							return err
						}
						if err := h.wait(ctx, 20); err != nil { // the others go on
							return err
						}
						c.start(ctx, leader)
						if err := h.wait(ctx, 20); err != nil {
							return err
						}
					}
					return nil
				})
			})
		})
	}
}

// A node that missed more than the others keep gets a snapshot, and is as good as they are.
func TestCluster_SnapshotForALateNode(t *testing.T) {
	c := newCluster(t, func(c *Config) { c.SnapshotEvery = 10 })
	c.run(func(ctx context.Context) error {
		client := c.client(ctx)
		defer client.Close()
		leader, err := c.leader(ctx, client)
		if err != nil {
			return err
		}
		late, other := (leader+1)%3, (leader+2)%3
		if err := c.stop(ctx, late); err != nil {
			return err
		}
		for i := range 50 {
			if err := client.Put(ctx, fmt.Sprint("k", i), strings.Repeat("v", 100*i)); err != nil {
				return err
			}
		}
		c.start(ctx, late)
		if err := c.stop(ctx, other); err != nil {
			return err
		}
		for i := range 50 { // the leader needs the late node's confirmation
			if v, ok, err := client.Get(ctx, fmt.Sprint("k", i)); err != nil || !ok || v != strings.Repeat("v", 100*i) {
				t.Errorf("k%d: %.10q, %v, %v", i, v, ok, err)
			}
		}
		if err := client.Put(ctx, "last", "one"); err != nil { // now it has all entries before
			return err
		}
		if err := c.stop(ctx, late); err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(c.configs[late].Dir, walName))
		if err != nil {
			return err
		}
		s, err := readWAL(data)
		if err != nil {
			return err
		}
		if index := s.snapshot.GetMetadata().GetIndex(); index < 40 {
			t.Errorf("the late node has a snapshot up to %d", index)
		}
		return nil
	})
}

// Answered changes survive a stop of all nodes, and so does the record that lets a repeated change
// be made only once.
func TestCluster_AllRestart(t *testing.T) {
	c := newCluster(t, func(c *Config) { c.SnapshotEvery = 4 })
	c.run(func(ctx context.Context) error {
		client, other := c.client(ctx), c.client(ctx)
		defer client.Close()
		defer other.Close()
		for round := range 3 {
			key := fmt.Sprint("k", round)
			if err := client.Put(ctx, key, "mine"); err != nil {
				return err
			}
			if err := other.Put(ctx, key, "other's"); err != nil {
				return err
			}
			for i := range c.configs {
				if err := c.stop(ctx, i); err != nil {
					return err
				}
			}
			for i := range c.configs {
				c.start(ctx, i)
			}
			client.sequence--
			if err := client.Put(ctx, key, "mine"); err != nil {
				return err
			}
			for before := range round + 1 {
				if v, ok, err := other.Get(ctx, fmt.Sprint("k", before)); err != nil || !ok || v != "other's" {
					t.Errorf("round %d: k%d is %q, %v, %v", round, before, v, ok, err)
				}
			}
		}
		return nil
	})
}

// send sends text to a node, and returns everything that comes back; the node must go on.
func (c *cluster) send(ctx context.Context, node int, what string) (string, error) {
	r, w, err := asyncio.OpenConnection(ctx, c.configs[node].Peers[node].Address)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(ctx, []byte(what)); err != nil {
		return "", err
	}
	if err := w.WriteEOF(ctx); err != nil {
		return "", err
	}
	answer, err := r.Read(ctx, -1)
	return string(answer), err
}

func TestCluster_BadInput(t *testing.T) {
	c := newCluster(t, func(*Config) {})
	c.run(func(ctx context.Context) error {
		client := c.client(ctx)
		defer client.Close()
		leader, err := c.leader(ctx, client)
		if err != nil {
			return err
		}
		for _, test := range []struct{ say, answer string }{
			{"get who\nput x 1 a b\nget a\n", "value \"leads\"\nok\nvalue \"b\"\n"},
			{"nonsense\nget a\n", "error \"unknown request \\\"nonsense\\\": say get, put or cas\"\nvalue \"b\"\n"},
			{"put x 2 a half of a request", ""},
			{"peer 7 1\n", ""},
			{fmt.Sprintf("peer %d %d\n\xff\xff\xff\xff", (leader+1)%3+1, leader+1), ""},
			{fmt.Sprintf("peer %d %d\n\x00\x00\x00\x01\xff", (leader+1)%3+1, leader+1), ""},
			// addressed to a node that does not exist
			{fmt.Sprintf("peer %d %d\n\x00\x00\x00\x02\x10\x09", (leader+1)%3+1, leader+1), ""},
			{"", ""},
		} {
			if answer, err := c.send(ctx, leader, test.say); err != nil || answer != test.answer {
				t.Errorf("%q: %q, %v, want %q", test.say, answer, err, test.answer)
			}
		}
		if _, err := c.send(ctx, leader, strings.Repeat("x", maxRequest+1)); err != nil && !isReset(err) {
			t.Errorf("a long request: %v", err)
		}
		address := c.configs[0].Peers[leader].Address
		if answer, err := c.send(ctx, (leader+1)%3, "get who\n"); err != nil || answer != fmt.Sprintf("leader %q\n", address) {
			t.Errorf("a node that is not the leader: %q, %v", answer, err)
		}
		if v, ok, err := client.Get(ctx, "a"); v != "b" || !ok || err != nil {
			t.Errorf("after all that: %q, %v, %v", v, ok, err)
		}
		return nil
	})
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF)
}

// An isolated leader does not answer reads, unless the node is broken.
func TestCluster_ReadWithoutQuorum(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			c := newCluster(t, func(c *Config) {
				c.Tick = 50 * time.Millisecond
				c.ReadWithoutQuorum = broken
			})
			c.run(func(ctx context.Context) error {
				client := c.client(ctx)
				defer client.Close()
				leader, err := c.leader(ctx, client)
				if err != nil {
					return err
				}
				for i := range c.configs {
					if i != leader {
						if err := c.stop(ctx, i); err != nil {
							return err
						}
					}
				}
				want := "again \"the leader has changed\"\n"
				if broken {
					want = "value \"leads\"\n"
				}
				if answer, err := c.send(ctx, leader, "get who\n"); err != nil || answer != want {
					t.Errorf("%q, %v, want %q", answer, err, want)
				}
				return nil
			})
		})
	}
}

// A vote is saved, unless the node is broken.
func TestCluster_ForgetVote(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			c := newCluster(t, func(c *Config) { c.ForgetVote = broken })
			leader := 0
			c.run(func(ctx context.Context) (err error) {
				client := c.client(ctx)
				defer client.Close()
				leader, err = c.leader(ctx, client)
				return err
			})
			data, err := os.ReadFile(filepath.Join(c.configs[leader].Dir, walName))
			if err != nil {
				t.Fatal(err)
			}
			s, err := readWAL(data)
			if err != nil {
				t.Fatal(err)
			}
			want := uint64(leader + 1)
			if broken {
				want = 0
			}
			if s.hard.GetVote() != want {
				t.Errorf("the leader, node %d, has saved a vote for %d", leader+1, s.hard.GetVote())
			}
		})
	}
}

func TestClient_NobodyThere(t *testing.T) {
	runTask(t, func(ctx context.Context) error {
		none := NewClient(ctx)
		if err := none.Put(ctx, "k", "v"); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("a client without nodes: %v", err)
		}
		c := NewClient(ctx, freePeers(t)[0].Address)
		// A machine may stand still for a while.
		c.Patience, c.Pause = 500*time.Millisecond, time.Millisecond
		if err := c.Put(ctx, "k", "v"); !errors.Is(err, ErrUnknown) || !errors.Is(err, asyncio.ErrTimeout) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("nobody there: %v", err)
		}
		return nil
	})
}

func TestMain_Errors(t *testing.T) {
	peers := []Peer{{1, "127.0.0.1:1"}, {2, "127.0.0.1:2"}, {3, "127.0.0.1:3"}}
	dir := t.TempDir()
	writeWAL(t, dir) // of node 2
	for _, test := range []struct {
		want   string
		config Config
	}{
		{"node 0 is not among the peers", Config{Peers: peers, Dir: dir}},
		{"node 4 is not among the peers", Config{ID: 4, Peers: peers, Dir: dir}},
		{"no node can have the number 0", Config{ID: 1, Peers: append([]Peer{{0, "x"}}, peers...), Dir: dir}},
		{"two peers have the number 2", Config{ID: 1, Peers: append([]Peer{{2, "x"}}, peers...), Dir: dir}},
		{"peer 4 has no address", Config{ID: 1, Peers: append([]Peer{{ID: 4}}, peers...), Dir: dir}},
		{"a node alone replicates nothing", Config{ID: 1, Peers: peers[:1], Dir: dir}},
		{"no directory", Config{ID: 1, Peers: peers}},
		{"must be positive", Config{ID: 1, Peers: peers, Dir: dir, Tick: -1}},
		{"belongs to node 2, this is node 1", Config{ID: 1, Peers: peers, Dir: dir}},
		{"made of the nodes [1 2 3], the peers are [2 3]", Config{ID: 2, Peers: peers[1:], Dir: dir}},
		{"damaged at 0: wrong checksum", Config{ID: 1, Peers: peers, Dir: damaged(t)}},
	} {
		runTask(t, func(ctx context.Context) error {
			if err := Main(ctx, test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			return nil
		})
	}
}

func damaged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, walName), []byte(strings.Repeat("x", sectorSize)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
