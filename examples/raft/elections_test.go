package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// seedElections makes raft draw its election time-outs from asyncio.Rand until restore is called.
// Raft draws them from crypto/rand.Reader (lockedRand in raft.go) and has no other way in. Each
// draw uses the random numbers of the task that is running, so a node's draws do not depend on
// other nodes. Call it at the beginning of a run, in the run. crypto/rand.Reader is shared by the
// whole program: only one such run at a time.
func seedElections(ctx context.Context) (e *elections, restore func()) {
	system := rand.Reader
	e = &elections{ctx: ctx, hosts: make(map[*sim.Host]context.Context)}
	rand.Reader = e
	return e, func() { rand.Reader = system }
}

// elections is a source of random bytes.
type elections struct {
	ctx   context.Context
	hosts map[*sim.Host]context.Context // of the programs that run on them
}

// join adds the caller's program, which runs on a host of its own, to those that draw.
func (e *elections) join(ctx context.Context) { e.hosts[sim.HostOf(ctx)] = ctx }

func (e *elections) Read(p []byte) (int, error) {
	ctx, ok := e.hosts[sim.CurrentHost(e.ctx)]
	if !ok {
		ctx = e.ctx
	}
	for i := 0; i < len(p); i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], asyncio.Rand(ctx).Uint64())
		copy(p[i:], word[:])
	}
	return len(p), nil
}

// transcript runs three of raft's nodes without any network or disk, under a seed, and returns
// everything that they said, byte for byte: ticks and messages in an order drawn from the seed,
// with losses, proposals, reads, and restarts of raft from its saved state.
func transcript(t *testing.T, seed uint64) []byte {
	t.Helper()
	var said bytes.Buffer
	events := &raft.DefaultLogger{Logger: log.New(&said, "", 0)}
	events.EnableDebug()
	sim.Run(t, func(ctx context.Context) error {
		_, restore := seedElections(ctx)
		defer restore()
		r := asyncio.Rand(ctx)
		initial := emptyCluster(1)
		var nodes []*raft.RawNode
		var memories []*raft.MemoryStorage
		start := func(m *raft.MemoryStorage, id int) (*raft.RawNode, error) {
			return raft.NewRawNode(&raft.Config{ID: uint64(id + 1), ElectionTick: electionTicks, HeartbeatTick: 1, Storage: m, Applied: 1,
				MaxSizePerMsg: 100, MaxInflightMsgs: 4, CheckQuorum: true, PreVote: true, Logger: events})
		}
		for i := range 3 {
			m := raft.NewMemoryStorage()
			if err := m.ApplySnapshot(initial.snapshot); err != nil {
				return err
			}
			if err := m.SetHardState(initial.hard); err != nil {
				return err
			}
			n, err := start(m, i)
			if err != nil {
				return err
			}
			nodes, memories = append(nodes, n), append(memories, m)
		}
		var underway []*pb.Message
		for step := range 3000 {
			i := r.IntN(3)
			switch what := r.IntN(100); {
			case what < 20:
				nodes[i].Tick()
			case what < 75 && len(underway) > 0:
				at := r.IntN(len(underway))
				m := underway[at]
				underway = slices.Delete(underway, at, at+1)
				_ = nodes[m.GetTo()-1].Step(m) // refused messages do not matter here
			case what < 78 && len(underway) > 0:
				nodes[underway[0].GetFrom()-1].ReportUnreachable(underway[0].GetTo())
				underway = underway[1:]
			case what < 88:
				fmt.Fprintf(&said, "proposed: %v\n", nodes[i].Propose(fmt.Append(nil, "change ", step)))
			case what < 93:
				nodes[i].ReadIndex(fmt.Append(nil, "read ", step))
			case what == 99 && r.IntN(5) == 0:
				n, err := start(memories[i], i)
				if err != nil {
					return err
				}
				nodes[i] = n
			}
			for id, n := range nodes {
				for n.HasReady() {
					rd := n.Ready()
					fmt.Fprintf(&said, "%d: %v\n", id+1, raft.DescribeReady(rd, nil))
					if !raft.IsEmptyHardState(rd.HardState) {
						if err := memories[id].SetHardState(rd.HardState); err != nil {
							return err
						}
					}
					if err := memories[id].Append(rd.Entries); err != nil {
						return err
					}
					for _, m := range rd.Messages {
						frame, err := proto.Marshal(m)
						if err != nil {
							return err
						}
						fmt.Fprintf(&said, "%x\n", frame)
						sent := new(pb.Message)
						if err := proto.Unmarshal(frame, sent); err != nil {
							return err
						}
						underway = append(underway, sent)
					}
					n.Advance(rd)
				}
			}
		}
		return nil
	}, sim.Seed(seed))
	return said.Bytes()
}

// With its random numbers seeded, raft does the same twice: nothing it does depends on the order of
// a map, the time, or another goroutine. After an update of the module, this test says whether that
// still holds.
func TestRaft_Repeats(t *testing.T) {
	different := make(map[string]bool)
	for seed := range uint64(20) {
		first, second := transcript(t, seed), transcript(t, seed)
		if !bytes.Equal(first, second) {
			a, b := bytes.Split(first, []byte("\n")), bytes.Split(second, []byte("\n"))
			at := 0
			for at < min(len(a), len(b)) && bytes.Equal(a[at], b[at]) {
				at++
			}
			t.Fatalf("seed %d: line %d is\n%s\nand\n%s", seed, at+1, a[min(at, len(a)-1)], b[min(at, len(b)-1)])
		}
		if !bytes.Contains(first, []byte("became leader")) {
			t.Errorf("seed %d: nobody was elected", seed)
		}
		different[string(first)] = true
	}
	if len(different) != 20 {
		t.Errorf("20 seeds make %d different runs", len(different))
	}
}
