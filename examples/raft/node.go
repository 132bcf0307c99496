package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/goasyncio/asyncio"
)

// A Config is the configuration of one node.
type Config struct {
	ID uint64 // of this node, not 0
	// where to listen, for the other nodes and for clients; default this node's address
	Listen string
	// all nodes of the cluster, including this one; the same on all of them, and for ever
	Peers []Peer
	Dir   string // for the data that must survive; used by this node alone
	// default 100 ms; a heartbeat is one tick, an election begins after 10 to 20 without one
	Tick          time.Duration
	SnapshotEvery int         // changes between two snapshots, default 1000
	Logger        raft.Logger // told what happens; default none

	// Ways to break the node on purpose, to see whether a test finds out.

	// AckBeforeSync sends, applies and answers before the data that this is based on is synced. A
	// sync is done only once in ten ticks.
	AckBeforeSync bool
	// ReadWithoutQuorum makes a leader answer reads from its own store, without asking whether it
	// still is the leader.
	ReadWithoutQuorum bool
	// ForgetVote does not save the node's vote.
	ForgetVote bool
}

// A Peer is a node of the cluster, with the address where it listens.
type Peer struct {
	ID      uint64
	Address string
}

func (c *Config) check() error {
	if c.Tick == 0 {
		c.Tick = 100 * time.Millisecond
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 1000
	}
	if c.Logger == nil {
		c.Logger = &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}
	}
	c.Peers = slices.SortedFunc(slices.Values(c.Peers), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	known := false
	for i, p := range c.Peers {
		if p.ID == c.ID {
			known = true
			c.Listen = cmp.Or(c.Listen, p.Address)
		}
		switch {
		case p.ID == 0 || p.ID == raft.LocalAppendThread || p.ID == raft.LocalApplyThread:
			return fmt.Errorf("no node can have the number %d: count from 1", p.ID)
		case i > 0 && c.Peers[i-1].ID == p.ID:
			return fmt.Errorf("two peers have the number %d", p.ID)
		case p.Address == "":
			return fmt.Errorf("peer %d has no address", p.ID)
		}
	}
	switch {
	case !known:
		return fmt.Errorf("node %d is not among the peers: name all nodes, this one too", c.ID)
	case len(c.Peers) < 2:
		return errors.New("a node alone replicates nothing: name at least two peers, better three")
	case c.Dir == "":
		return errors.New("no directory for what must survive")
	case c.Tick < 0 || c.SnapshotEvery < 0:
		return fmt.Errorf("a tick of %v, a snapshot every %d changes: both must be positive", c.Tick, c.SnapshotEvery)
	}
	return nil
}

// Main is the life of a node: it recovers the state in its directory, and serves until it is
// cancelled or cannot go on. It must be called in a task, which it suspends. Two nodes in one
// process share nothing.
func Main(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	n, err := openNode(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = n.log.close(ctx) }() // everything that matters was synced
	ln, err := asyncio.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, n.tick, asyncio.TaskName("tick"))
		tg.CreateTask(ctx, n.work, asyncio.TaskName("raft"))
		for _, p := range n.peers {
			tg.CreateTask(ctx, func(ctx context.Context) error { return n.sendTo(ctx, p) }, asyncio.TaskName(fmt.Sprintf("send to %d", p.ID)))
		}
		for {
			conn, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			tg.CreateTask(ctx, func(ctx context.Context) error { return n.serve(ctx, conn) }, asyncio.TaskName("serve"))
		}
	})
}

// A node is one member of the cluster. Its tasks share it: they call raft only between two awaits.
//
//	node 1: A Ready of raft's is handled in this order: save and sync; send; apply; answer reads;
//	   tell raft. One Ready at a time.
//	node 2: A change is answered when it has been applied. The store says whether it was made, or
//	   why not.
//	node 3: A read is answered from the store when a quorum has confirmed that this node was the
//	   leader after the read came, and all entries committed by then have been applied.
//	node 4: A client that waits in a term that is over, or at a node that is no longer the leader,
//	   is told to ask again: its answer may never come.
//	node 5: A commit index alone is not saved. It goes with the next entries, and a node that
//	   restarts learns it from the leader.
type node struct {
	Config
	raft   *raft.RawNode
	memory *raft.MemoryStorage // the contents of the log, for raft to read
	log    *wal
	store  *store
	peers  []*peer // all other nodes
	wake   asyncio.Event

	hard        *pb.HardState
	applied     uint64 // index of the last entry that the store contains
	snapshotted uint64 // index of the last entry that the snapshot contains
	ticks       int
	syncAt      int // tick at which to sync, 0 if all is synced; with AckBeforeSync

	changes []*change
	reads   []*read
	life    uint64 // distinguishes the reads of this life of the node from those of other lives
	readNo  uint64
}

// change is a client that waits for the answer to a change.
type change struct {
	client   string
	sequence uint64
	term     uint64
	answer   *asyncio.Future[reply]
}

// read is a client that waits for the answer to a read.
type read struct {
	id        []byte
	key       string
	term      uint64
	confirmed bool   // a quorum has confirmed the leader
	index     uint64 // then: the index that must be applied first
	answer    *asyncio.Future[reply]
}

const (
	electionTicks = 10
	maxFrame      = 256 << 20 // bytes of a message
	maxRequest    = 1 << 20   // bytes of a line
)

// openNode makes a node from the contents of its directory.
func openNode(ctx context.Context, c Config) (*node, error) {
	var voters []uint64
	n := &node{Config: c, memory: raft.NewMemoryStorage(), life: asyncio.Rand(ctx).Uint64()}
	for _, p := range c.Peers {
		voters = append(voters, p.ID)
		if p.ID != c.ID {
			n.peers = append(n.peers, &peer{Peer: p, queue: asyncio.NewQueue[*pb.Message](maxQueue)})
		}
	}
	// A cluster begins with a snapshot that all nodes agree on: an empty store and the list of
	// nodes.
	initial := saved{
		node:     c.ID,
		snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: voters}}},
		hard:     &pb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))},
	}
	held, s, err := openWAL(ctx, c.Dir, initial)
	if err != nil {
		return nil, err
	}
	n.log = held
	if err := n.recover(s, voters); err != nil {
		return nil, errors.Join(err, held.close(ctx))
	}
	return n, nil
}

func (n *node) recover(s saved, voters []uint64) (err error) {
	meta := s.snapshot.GetMetadata()
	if was := meta.GetConfState().GetVoters(); !slices.Equal(was, voters) {
		return fmt.Errorf("the cluster was made of the nodes %v, the peers are %v: they cannot change", was, voters)
	}
	if n.store, err = restoreStore(s.snapshot.GetData()); err != nil {
		return err
	}
	n.hard, n.applied, n.snapshotted = s.hard, meta.GetIndex(), meta.GetIndex()
	if err := errors.Join(n.memory.ApplySnapshot(s.snapshot), n.memory.SetHardState(s.hard), n.memory.Append(s.entries)); err != nil {
		return err
	}
	n.raft, err = raft.NewRawNode(&raft.Config{
		ID:                        n.ID,
		ElectionTick:              electionTicks,
		HeartbeatTick:             1,
		Storage:                   n.memory,
		Applied:                   n.applied,
		MaxSizePerMsg:             1 << 20,
		MaxUncommittedEntriesSize: 64 << 20,
		MaxInflightMsgs:           maxQueue,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    n.Logger,
	})
	return err
}

// tick is the task that tells raft the time.
func (n *node) tick(ctx context.Context) error {
	for {
		if err := asyncio.Sleep(ctx, n.Tick); err != nil {
			return err
		}
		n.ticks++
		n.raft.Tick()
		n.wake.Set()
	}
}

// work is the task that carries out what raft asks for.
func (n *node) work(ctx context.Context) error {
	for {
		for n.raft.HasReady() {
			if err := n.handle(ctx, n.raft.Ready()); err != nil {
				return err
			}
		}
		if n.syncAt > 0 && n.ticks >= n.syncAt {
			n.syncAt = 0
			if err := n.log.sync(ctx); err != nil {
				return err
			}
			continue
		}
		n.wake.Clear()
		if err := n.wake.Wait(ctx); err != nil {
			return err
		}
	}
}

// handle carries out one Ready (node 1).
func (n *node) handle(ctx context.Context, rd raft.Ready) error {
	if err := n.save(ctx, rd); err != nil {
		return err
	}
	for _, m := range rd.Messages {
		n.send(m)
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		s, err := restoreStore(rd.Snapshot.GetData())
		if err != nil {
			return err
		}
		n.store, n.applied = s, rd.Snapshot.GetMetadata().GetIndex()
		n.snapshotted = n.applied
	}
	for _, e := range rd.CommittedEntries {
		if err := n.apply(e); err != nil {
			return err
		}
	}
	for _, s := range rd.ReadStates {
		for _, r := range n.reads {
			if bytes.Equal(r.id, s.RequestCtx) {
				r.confirmed, r.index = true, s.Index
			}
		}
	}
	n.answerReads()
	n.raft.Advance(rd)
	n.giveUp()
	if n.applied-n.snapshotted >= uint64(n.SnapshotEvery) {
		return n.snapshot(ctx)
	}
	return nil
}

// save saves the parts of rd that must be saved.
func (n *node) save(ctx context.Context, rd raft.Ready) error {
	if !raft.IsEmptyHardState(rd.HardState) {
		n.hard = rd.HardState
		if err := n.memory.SetHardState(n.hard); err != nil {
			return err
		}
	}
	switch {
	case !raft.IsEmptySnap(rd.Snapshot):
		if err := n.log.replace(ctx, saved{snapshot: rd.Snapshot, hard: n.hardToSave(), entries: rd.Entries}); err != nil {
			return err
		}
		if err := n.memory.ApplySnapshot(rd.Snapshot); err != nil {
			return err
		}
	case rd.MustSync: // a commit index alone is not saved (node 5)
		if err := n.log.append(ctx, n.hardToSave(), rd.Entries); err != nil {
			return err
		}
		if n.AckBeforeSync {
			if n.syncAt == 0 {
				n.syncAt = n.ticks + electionTicks
			}
		} else if err := n.log.sync(ctx); err != nil {
			return err
		}
	}
	return n.memory.Append(rd.Entries)
}

func (n *node) hardToSave() *pb.HardState {
	if !n.ForgetVote {
		return n.hard
	}
	h := proto.Clone(n.hard).(*pb.HardState)
	h.Vote = new(uint64(0))
	return h
}

// apply applies a committed entry, and answers the client that waits for it (node 2).
func (n *node) apply(e *pb.Entry) error {
	n.applied = e.GetIndex()
	if len(e.GetData()) == 0 {
		return nil // the entry with which a leader begins its term
	}
	q, err := parseRequest(string(e.GetData()))
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
	}
	p := n.store.apply(q)
	n.changes = slices.DeleteFunc(n.changes, func(c *change) bool {
		if c.client != q.client || c.sequence != q.sequence {
			return false
		}
		tell(c.answer, p)
		return true
	})
	return nil
}

// answerReads answers the reads that are confirmed and applied far enough (node 3).
func (n *node) answerReads() {
	n.reads = slices.DeleteFunc(n.reads, func(r *read) bool {
		if !r.confirmed || r.index > n.applied {
			return false
		}
		tell(r.answer, n.store.get(r.key))
		return true
	})
}

// giveUp answers the clients whose answer may never come (node 4).
func (n *node) giveUp() {
	status := n.raft.BasicStatus()
	term := status.HardState.GetTerm()
	leads := status.RaftState == raft.StateLeader
	lost := reply{"again", "the leader has changed"}
	n.changes = slices.DeleteFunc(n.changes, func(c *change) bool {
		if leads && c.term == term {
			return false
		}
		tell(c.answer, lost)
		return true
	})
	n.reads = slices.DeleteFunc(n.reads, func(r *read) bool {
		if r.confirmed || leads && r.term == term {
			return false
		}
		tell(r.answer, lost)
		return true
	})
}

// tell answers a client that still waits.
func tell(answer *asyncio.Future[reply], p reply) {
	if !answer.Done() {
		_ = answer.SetResult(p) // it is not done
	}
}

// snapshot saves the applied state, and drops the log of it. Half of the entries stay in memory,
// for nodes that are behind.
func (n *node) snapshot(ctx context.Context) error {
	snap, err := n.memory.CreateSnapshot(n.applied, nil, n.store.snapshot())
	if err != nil {
		return err
	}
	last, err := n.memory.LastIndex()
	if err != nil {
		return err
	}
	var rest []*pb.Entry
	if last > n.applied {
		if rest, err = n.memory.Entries(n.applied+1, last+1, math.MaxUint64); err != nil {
			return err
		}
	}
	if err := n.log.replace(ctx, saved{snapshot: snap, hard: n.hardToSave(), entries: rest}); err != nil {
		return err
	}
	n.snapshotted = n.applied
	n.syncAt = 0
	if err := n.memory.Compact(n.applied - uint64(n.SnapshotEvery)/2); err != raft.ErrCompacted {
		return err
	}
	return nil
}

// answer carries out a client's request.
func (n *node) answer(ctx context.Context, line string) (reply, error) {
	q, err := parseRequest(line)
	if err != nil {
		return reply{"error", err.Error()}, nil
	}
	status := n.raft.BasicStatus()
	if status.RaftState != raft.StateLeader {
		return reply{"leader", n.address(status.Lead)}, nil
	}
	if q.op != "get" {
		return n.change(ctx, q, status.HardState.GetTerm())
	}
	if n.ReadWithoutQuorum {
		return n.store.get(q.key), nil
	}
	return n.read(ctx, q.key, status.HardState.GetTerm())
}

func (n *node) address(id uint64) string {
	for _, p := range n.Peers {
		if p.ID == id {
			return p.Address
		}
	}
	return ""
}

func (n *node) change(ctx context.Context, q request, term uint64) (reply, error) {
	if err := n.raft.Propose([]byte(q.String())); err != nil {
		return reply{"again", err.Error()}, nil
	}
	c := &change{q.client, q.sequence, term, asyncio.CreateFuture[reply](ctx)}
	n.changes = append(n.changes, c)
	n.wake.Set()
	defer func() { n.changes = slices.DeleteFunc(n.changes, func(o *change) bool { return o == c }) }()
	return c.answer.Await(ctx)
}

func (n *node) read(ctx context.Context, key string, term uint64) (reply, error) {
	n.readNo++
	id := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, n.life), n.readNo)
	r := &read{id: id, key: key, term: term, answer: asyncio.CreateFuture[reply](ctx)}
	n.reads = append(n.reads, r)
	n.raft.ReadIndex(id)
	n.wake.Set()
	defer func() { n.reads = slices.DeleteFunc(n.reads, func(o *read) bool { return o == r }) }()
	return r.answer.Await(ctx)
}
