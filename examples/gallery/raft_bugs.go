package gallery

import (
	"context"
	"fmt"
	"strconv"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// raftVote: a node does not keep on its disk for whom it has voted. Started again, it votes once
// more in the same term, and the term has two leaders. Figure 2 of the paper says what must be on
// stable storage before an answer.
func raftVote(mistake bool) program { return raftCluster(raftMistakes{forgetsVote: mistake}) }

// raftRead: a leader answers reads from its memory. It may have been deposed and not know it. etcd
// and Consul did that: https://aphyr.com/posts/316-jepsen-etcd-and-consul
func raftRead(mistake bool) program { return raftCluster(raftMistakes{readsAlone: mistake}) }

// raftSplit: nodes take a majority of those that they reach for a majority. After a partition both
// sides have a leader, as in Elasticsearch without minimum_master_nodes:
// https://github.com/elastic/elasticsearch/issues/2488
func raftSplit(mistake bool) program { return raftCluster(raftMistakes{countsReachable: mistake}) }

// raftCluster is three nodes, and clients that write numbers and read. A term must have one leader,
// what was committed must stay, and what clients do and see must be linearizable.
func raftCluster(mistakes raftMistakes) program {
	return staged(func(ctx context.Context, s *stage) error {
		names := []string{"node1", "node2", "node3"}
		leaders, log := make(map[int]string), make(map[int]raftEntry)
		var broken error
		sim.Always(ctx, "raft", func() error { return broken })
		for i, name := range names {
			s.server(name, func(ctx context.Context) error {
				n := &raftNode{mistakes: mistakes, name: name, peers: []string{names[(i+1)%3], names[(i+2)%3]}}
				n.elected = func(term int, name string) {
					if was := leaders[term]; was != "" && was != name {
						broken = fmt.Errorf("%s and %s are leaders in term %d", was, name, term)
					}
					leaders[term] = name
				}
				n.committed = func(index int, e raftEntry) {
					if was, ok := log[index]; ok && was != e {
						broken = fmt.Errorf("%v is committed, and was %v", e, was)
					}
					log[index] = e
				}
				return n.run(ctx)
			})
		}
		h := new(history)
		var clients []*asyncio.Task[asyncio.None]
		for i := range 2 {
			clients = append(clients, s.start("client"+strconv.Itoa(i+1), func(ctx context.Context) error {
				at := i
				for range 12 {
					o, request := h.read(), "read"
					if asyncio.Rand(ctx).IntN(2) == 0 {
						o = h.write()
						request = "write " + strconv.Itoa(o.value)
					}
					for range names {
						answer, err := callFor(ctx, 2*heartbeat, names[at%3], request)
						if err != nil && !isOneOf(err, errNoAnswer) {
							return err
						}
						value, err := strconv.Atoi(answer)
						if err == nil && o.write {
							value = o.value
						}
						if err == nil {
							o.done(value)
						}
						if answer != "not the leader" {
							break
						}
						at++
					}
					if err := asyncio.Sleep(ctx, 3*think); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		if err := asyncio.Sleep(ctx, 2*electionTimeout); err != nil {
			return err
		}
		if _, err := asyncio.Gather(ctx, clients...); err != nil {
			return err
		}
		return h.check()
	})
}
