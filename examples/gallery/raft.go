package gallery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A raftNode keeps a number on three nodes by raft (Ongaro and Ousterhout, "In Search of an
// Understandable Consensus Algorithm", 2014), in a small form: a leader sends its whole log each
// time, and reads go through the log as well. raftMistakes has what may be wrong with it.
type raftNode struct {
	mistakes raftMistakes
	name     string
	peers    []string

	term   int
	vote   string // in this term
	log    []raftEntry
	turn   asyncio.Lock // for changing the three above, which are on the disk
	leader bool
	commit int            // how many entries are committed
	has    map[string]int // how many entries of the leader's log each peer has
	newest int            // term that somebody has told of
	heard  asyncio.Instant
	// set, and replaced, when there is something new
	news *asyncio.Event

	loop      *asyncio.EventLoop
	elected   func(term int, name string)
	committed func(index int, e raftEntry)
}

// raftMistakes are the mistakes of three entries of the gallery: see raftVote and its neighbours.
type raftMistakes struct{ forgetsVote, readsAlone, countsReachable bool }

// A raftEntry is a write of a value, or of none: then it stands for a read.
type raftEntry struct {
	term  int
	value string
}

const (
	heartbeat       = 250 * time.Millisecond
	electionTimeout = 400 * time.Millisecond // to twice as much
)

func (n *raftNode) run(ctx context.Context) (err error) {
	if n.loop, err = asyncio.GetRunningLoop(ctx); err != nil {
		return err
	}
	n.vote, n.news = "-", new(asyncio.Event)
	text, err := load(ctx, "raft")
	if err != nil {
		return err
	}
	if words := strings.Fields(text); len(words) > 0 {
		_, _ = fmt.Sscan(words[0], &n.term)
		n.vote, n.log = words[1], parseLog(words[2:])
	}
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, func(ctx context.Context) error { return n.campaign(ctx, tg) }, asyncio.TaskName("campaign"))
		return serve(ctx, n.handle)
	})
}

func parseLog(words []string) (log []raftEntry) {
	for _, word := range words {
		var e raftEntry
		term, value, _ := strings.Cut(word, ":")
		_, _ = fmt.Sscan(term, &e.term)
		e.value = value
		log = append(log, e)
	}
	return log
}

func formatLog(log []raftEntry) (text string) {
	for _, e := range log {
		text += fmt.Sprintf(" %d:%s", e.term, e.value)
	}
	return text
}

// become changes what is on the disk, and then what is in memory. It is called with the turn.
func (n *raftNode) become(ctx context.Context, term int, vote string, log []raftEntry) error {
	text := fmt.Sprint(term, " ", vote, formatLog(log))
	if n.mistakes.forgetsVote {
		text = "0 -" + formatLog(log) // BUG raftVote: after a crash it votes in the same term again
	}
	if err := save(ctx, "raft", text); err != nil {
		return err
	}
	if term > n.term {
		n.leader = false
	}
	n.term, n.vote, n.log = term, vote, log
	n.tell()
	return nil
}

func (n *raftNode) tell() {
	n.news.Set()
	n.news = new(asyncio.Event)
}

func (n *raftNode) handle(ctx context.Context, request string) (string, error) {
	words := strings.Fields(request)
	switch words[0] {
	case "write":
		return n.execute(ctx, words[1])
	case "read":
		return n.execute(ctx, "")
	}
	var term int
	_, _ = fmt.Sscan(words[1], &term)
	if err := n.turn.Acquire(ctx); err != nil {
		return "", err
	}
	defer n.turn.Release()
	if term < n.term {
		return fmt.Sprint("no ", n.term), nil
	}
	vote := n.vote
	if term > n.term {
		vote = "-"
	}
	if words[0] == "vote" {
		return n.grant(ctx, term, vote, words[2], words[3], words[4])
	}
	return n.follow(ctx, term, vote, words[2], parseLog(words[3:]))
}

// grant answers a candidate.
func (n *raftNode) grant(ctx context.Context, term int, vote, candidate, lastTerm, length string) (string, error) {
	var theirs, theirLength int
	_, _ = fmt.Sscan(lastTerm, &theirs)
	_, _ = fmt.Sscan(length, &theirLength)
	mine := lastTermOf(n.log)
	if vote != "-" && vote != candidate || theirs < mine || theirs == mine && theirLength < len(n.log) {
		return fmt.Sprint("no ", term), n.become(ctx, term, vote, n.log)
	}
	n.heard = n.loop.Time()
	return fmt.Sprint("yes ", term), n.become(ctx, term, candidate, n.log)
}

func lastTermOf(log []raftEntry) int {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].term
}

// follow takes the leader's log, unless its own has all of that already.
func (n *raftNode) follow(ctx context.Context, term int, vote, commit string, log []raftEntry) (string, error) {
	n.heard = n.loop.Time()
	if len(log) <= len(n.log) && slices.Equal(log, n.log[:len(log)]) {
		log = n.log
	}
	if term != n.term || len(log) != len(n.log) || !slices.Equal(log, n.log) {
		if err := n.become(ctx, term, vote, log); err != nil {
			return "", err
		}
	}
	n.leader = false
	var known int
	_, _ = fmt.Sscan(commit, &known)
	n.commitTo(known)
	return fmt.Sprint("yes ", n.term), nil
}

func (n *raftNode) commitTo(index int) {
	for n.commit < min(index, len(n.log)) {
		n.committed(n.commit, n.log[n.commit])
		n.commit++
	}
	n.tell()
}

// campaign makes the node a candidate when it has heard of no leader for a while.
func (n *raftNode) campaign(ctx context.Context, tg *asyncio.TaskGroup) error {
	for {
		wait := electionTimeout + time.Duration(asyncio.Rand(ctx).Int64N(int64(electionTimeout)))
		if err := asyncio.Sleep(ctx, wait); err != nil {
			return err
		}
		if n.leader || n.loop.Time().Sub(n.heard) < electionTimeout {
			continue
		}
		if err := n.turn.Acquire(ctx); err != nil {
			return err
		}
		term := max(n.term, n.newest) + 1
		err := n.become(ctx, term, n.name, n.log)
		n.turn.Release()
		if err != nil {
			return err
		}
		answers, err := callAll(ctx, heartbeat, n.peers, len(n.peers), fmt.Sprint("vote ", term, " ", n.name, " ", lastTermOf(n.log), " ", len(n.log)))
		if err != nil {
			return err
		}
		yes := 1
		for _, answer := range answers {
			if n.isYes(answer, term) {
				yes++
			}
		}
		if n.term == term && yes >= n.majority(len(answers)) {
			n.lead(ctx, tg)
		}
	}
}

// majority is how many nodes must agree, when so many peers have answered.
func (n *raftNode) majority(answered int) int {
	if n.mistakes.countsReachable {
		// BUG raftSplit: whoever is alone is a majority of the nodes it reaches
		return (answered+1)/2 + 1
	}
	return (len(n.peers)+1)/2 + 1
}

// isYes reports whether a peer has agreed in this term. If it knows of a newer one the node is no
// leader any more.
func (n *raftNode) isYes(answer string, term int) bool {
	var word string
	var theirs int
	_, _ = fmt.Sscan(answer, &word, &theirs)
	n.newest = max(n.newest, theirs)
	if theirs > n.term {
		n.leader = false
		n.tell()
	}
	return word == "yes" && theirs == term
}

// lead starts sending the log to the peers.
func (n *raftNode) lead(ctx context.Context, tg *asyncio.TaskGroup) {
	n.leader, n.has = true, make(map[string]int)
	term := n.term
	n.elected(term, n.name)
	for _, peer := range n.peers {
		tg.CreateTask(ctx, func(ctx context.Context) error { return n.replicate(ctx, peer, term) }, asyncio.TaskName("replication to "+peer))
	}
}

// replicate sends the log to a peer from time to time.
func (n *raftNode) replicate(ctx context.Context, peer string, term int) error {
	for n.leader && n.term == term {
		length := len(n.log)
		answer, err := callFor(ctx, heartbeat, peer, fmt.Sprint("append ", term, " ", n.commit, formatLog(n.log)))
		if err != nil && !isOneOf(err, errNoAnswer) {
			return err
		}
		if n.term != term || !n.leader {
			return nil
		}
		if err == nil && n.isYes(answer, term) {
			n.has[peer] = length
			n.count()
		} else if n.mistakes.countsReachable {
			delete(n.has, peer)
			n.count()
		}
		if err := asyncio.Sleep(ctx, heartbeat); err != nil {
			return err
		}
	}
	return nil
}

// count finds out what a majority has.
func (n *raftNode) count() {
	for length := len(n.log); length > n.commit; length-- {
		if n.log[length-1].term != n.term {
			return // a newer leader can still replace it: figure 8 of the paper
		}
		have := 1
		for _, has := range n.has {
			if has >= length {
				have++
			}
		}
		if have >= n.majority(len(n.has)) {
			n.commitTo(length)
			return
		}
	}
}

// execute puts an entry into the log and waits until it is committed. It answers with what the
// number is then.
func (n *raftNode) execute(ctx context.Context, value string) (string, error) {
	if value == "" && n.mistakes.readsAlone && n.leader {
		// BUG raftRead: there may be a newer leader, and a newer number
		return n.numberAt(n.commit), nil
	}
	term, index, err := n.propose(ctx, value)
	if err != nil || index < 0 {
		return "not the leader", err
	}
	for n.commit <= index {
		if n.term != term || !n.leader {
			return "unknown", nil
		}
		if err := n.news.Wait(ctx); err != nil {
			return "", err
		}
	}
	if n.log[index].term != term {
		return "unknown", nil
	}
	return n.numberAt(index + 1), nil
}

// propose puts an entry into the log of the leader, and returns where it is: -1 if this is none.
func (n *raftNode) propose(ctx context.Context, value string) (term, index int, err error) {
	if err := n.turn.Acquire(ctx); err != nil {
		return 0, 0, err
	}
	defer n.turn.Release()
	if !n.leader {
		return 0, -1, nil
	}
	term, index = n.term, len(n.log)
	return term, index, n.become(ctx, term, n.vote, append(slices.Clip(n.log), raftEntry{term, value}))
}

// numberAt is the last value among the first entries.
func (n *raftNode) numberAt(entries int) string {
	for i := entries - 1; i >= 0; i-- {
		if n.log[i].value != "" {
			return n.log[i].value
		}
	}
	return "0"
}
