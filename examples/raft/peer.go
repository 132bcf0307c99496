package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/goasyncio/asyncio"
)

// A peer is another node. Each node connects to each other one, and sends on that connection alone;
// so between two nodes there is one connection each way. Messages may get lost, as raft allows: a
// message that cannot be sent is dropped, and raft is told.
type peer struct {
	Peer
	queue *asyncio.Queue[*pb.Message]
	from  *asyncio.StreamWriter // of the connection on which the peer sends
}

const maxQueue = 256 // messages to one peer

// send queues m for its peer, or drops it.
func (n *node) send(m *pb.Message) {
	for _, p := range n.peers {
		if p.ID == m.GetTo() {
			if p.queue.PutNowait(m) != nil {
				n.dropped(m)
			}
		}
	}
}

// dropped tells raft that m was not sent.
func (n *node) dropped(m *pb.Message) {
	n.raft.ReportUnreachable(m.GetTo())
	if m.GetType() == pb.MsgSnap {
		n.raft.ReportSnapshot(m.GetTo(), raft.SnapshotFailure)
	}
	n.wake.Set()
}

// A link is the connection on which a node sends to a peer. TCP sends lost data again, but at
// growing intervals, so after the network was down for a minute TCP may need another minute to
// recover. So a link is not trusted for that long:
//
//	peer 1: The receiver acknowledges with a byte, at once and then at most once in ackTicks.
//	peer 2: A sender that has been sending for lostTicks, without pauses longer than ackTicks, and
//	   has heard nothing, gives the link up and makes another. The time that a single message took
//	   counts as hearing something: the message went into buffers that somebody empties.
type link struct {
	w     *asyncio.StreamWriter
	wrote int  // the tick of the last write,
	heard int  // and the tick from which peer 2 counts
	over  bool // the peer has closed it
}

const (
	ackTicks  = electionTicks / 2
	lostTicks = 2 * electionTicks
)

// lost reports whether the link is to be given up (peer 2).
func (l *link) lost(tick int) bool {
	return l.over || tick-l.wrote <= ackTicks && tick-l.heard > lostTicks
}

// hear is the task that reads the peer's acknowledgments on the link.
func (n *node) hear(ctx context.Context, l *link, r *asyncio.StreamReader) error {
	for {
		said, err := r.Read(ctx, maxQueue)
		if err != nil && stopped(ctx, err) {
			return err
		}
		if err != nil || len(said) == 0 {
			l.over = true
			return nil
		}
		l.heard = n.ticks
	}
}

// sendTo is the task that sends to p. It connects when there is something to send.
func (n *node) sendTo(ctx context.Context, p *peer) error {
	var l *link
	drop := func() {
		if l != nil {
			l.w.Abort()
			l = nil
		}
	}
	defer drop()
	pause := n.Tick
	for {
		m, err := p.queue.Get(ctx)
		if err != nil {
			return err
		}
		if l != nil && l.lost(n.ticks) {
			n.Logger.Infof("%x does not reach %x any more on its connection, and makes another", n.ID, p.ID)
			drop()
		}
		if l == nil {
			l, err = n.connect(ctx, p)
		}
		if err == nil {
			err = n.write(ctx, l, m)
		}
		if err == nil {
			pause = n.Tick
			continue
		}
		if stopped(ctx, err) {
			return err
		}
		n.Logger.Infof("%x cannot send to %x: %v", n.ID, p.ID, err)
		drop()
		n.dropped(m)
		if err := asyncio.Sleep(ctx, jitter(ctx, pause)); err != nil {
			return err
		}
		pause = min(2*pause, electionTicks*n.Tick)
		for !p.queue.Empty() { // old messages are of no use
			if m, err := p.queue.GetNowait(); err == nil {
				n.dropped(m)
			}
		}
	}
}

// jitter returns a time between d and twice d, so that peers that fail at the same time do not try
// again at the same time.
func jitter(ctx context.Context, d time.Duration) time.Duration {
	return d + time.Duration(asyncio.Rand(ctx).Int64N(int64(d)+1))
}

// stopped reports whether err means that the calling task is to end.
func stopped(ctx context.Context, err error) bool {
	return errors.Is(err, asyncio.ErrCancelled) || ctx.Err() != nil
}

func (n *node) connect(ctx context.Context, p *peer) (*link, error) {
	var r *asyncio.StreamReader
	var w *asyncio.StreamWriter
	err := asyncio.Timeout(ctx, electionTicks*n.Tick, func(ctx context.Context, _ *asyncio.TimeoutScope) (err error) {
		if r, w, err = asyncio.OpenConnection(ctx, p.Address); err == nil {
			_, err = fmt.Fprintf(w.Writer(ctx), "peer %d %d\n", n.ID, p.ID)
		}
		return err
	})
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return nil, err
	}
	l := &link{w: w, wrote: n.ticks, heard: n.ticks}
	asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return n.hear(ctx, l, r) }), asyncio.TaskName(fmt.Sprintf("hear from %d", p.ID)))
	return l, nil
}

// write sends m: its length in four bytes, and m.
func (n *node) write(ctx context.Context, l *link, m *pb.Message) error {
	frame, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return err
	}
	if len(frame)-4 > maxFrame {
		return fmt.Errorf("a message of %d bytes, the limit is %d", len(frame)-4, maxFrame)
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	began := n.ticks
	if began-l.wrote > ackTicks {
		l.heard = began
	}
	err = asyncio.Timeout(ctx, 5*electionTicks*n.Tick, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		_, err := l.w.Write(ctx, frame)
		return err
	})
	l.wrote = n.ticks
	if l.wrote-began > ackTicks {
		l.heard = l.wrote
	}
	if err == nil && m.GetType() == pb.MsgSnap {
		n.raft.ReportSnapshot(m.GetTo(), raft.SnapshotFinish)
		n.wake.Set()
	}
	return err
}

// serve is the task of an incoming connection. Its first line says who connects: "peer FROM TO" is
// a peer, which goes on with messages; everything else is a client's first request. An error ends
// the connection, not the node.
func (n *node) serve(ctx context.Context, conn *asyncio.Conn) error {
	r, w := asyncio.NewStreams(conn, asyncio.StreamLimit(maxRequest))
	defer w.CloseSoon()
	line, err := readLine(ctx, r)
	if err == nil {
		if strings.HasPrefix(line, "peer ") {
			err = n.receive(ctx, line, r, w)
		} else {
			err = n.serveClient(ctx, line, r, w)
		}
	}
	var long *asyncio.LimitOverrunError
	switch {
	case err == nil || err == io.EOF:
		return nil
	case stopped(ctx, err):
		w.Abort()
		return err
	case errors.As(err, &long):
		_, err = fmt.Fprintln(w.Writer(ctx), reply{"error", fmt.Sprintf("a request of more than %d bytes", maxRequest)})
		if err != nil && stopped(ctx, err) {
			return err
		}
	}
	n.Logger.Infof("%x: connection of %v: %v", n.ID, conn.RemoteAddr(), err)
	return nil
}

// readLine reads a line; an incomplete line is an error.
func readLine(ctx context.Context, r *asyncio.StreamReader) (string, error) {
	line, err := r.ReadLine(ctx)
	if err == nil && line[len(line)-1] != '\n' {
		err = io.ErrUnexpectedEOF
	}
	return string(line), err
}

func (n *node) serveClient(ctx context.Context, line string, r *asyncio.StreamReader, w *asyncio.StreamWriter) (err error) {
	for ; err == nil; line, err = readLine(ctx, r) {
		p, err := n.answer(ctx, line)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w.Writer(ctx), p); err != nil {
			return err
		}
	}
	return err
}

// receive receives from a peer that has sent its hello.
func (n *node) receive(ctx context.Context, hello string, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	p, err := n.greet(hello)
	if err != nil {
		return err
	}
	if p.from != nil {
		p.from.Abort() // the peer has given the old connection up
	}
	p.from = w
	told := n.ticks - ackTicks
	for {
		head, err := r.ReadExactly(ctx, 4)
		if err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(head)
		if size > maxFrame {
			return fmt.Errorf("a message of %d bytes, the limit is %d", size, maxFrame)
		}
		data, err := r.ReadExactly(ctx, int(size))
		if err != nil {
			return err
		}
		m := new(pb.Message)
		if err := proto.Unmarshal(data, m); err != nil {
			return err
		}
		if m.GetFrom() != p.ID || m.GetTo() != n.ID {
			return fmt.Errorf("a message from %d to %d, on the connection of %d to %d", m.GetFrom(), m.GetTo(), p.ID, n.ID)
		}
		if err := n.raft.Step(m); err != nil && err != raft.ErrProposalDropped {
			return err
		}
		n.wake.Set()
		if n.ticks-told >= ackTicks { // acknowledge (peer 1)
			told = n.ticks
			if _, err := w.Write(ctx, []byte{'.'}); err != nil {
				return err
			}
		}
	}
}

// greet returns the peer that sends "peer FROM TO".
func (n *node) greet(hello string) (*peer, error) {
	w := strings.Fields(hello)
	if len(w) != 3 {
		return nil, fmt.Errorf("not a peer's hello: %.40q", hello)
	}
	if w[2] != strconv.FormatUint(n.ID, 10) {
		return nil, fmt.Errorf("%.40q was said to node %d: do all nodes have the same peers?", strings.TrimSpace(hello), n.ID)
	}
	for _, p := range n.peers {
		if w[1] == strconv.FormatUint(p.ID, 10) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%.40q: no such peer", strings.TrimSpace(hello))
}
