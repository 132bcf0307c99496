// Raft is a key-value store that is replicated by etcd's raft, on tasks. README.md says how to run
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/goasyncio/asyncio"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "raft:", err)
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "client" {
		return runClient(ctx, args[1:])
	}
	return runNode(ctx, args)
}

// peersFlag is a list such as 1=127.0.0.1:7001,2=127.0.0.1:7002.
type peersFlag []Peer

func (p *peersFlag) String() string {
	var all []string
	for _, peer := range *p {
		all = append(all, fmt.Sprintf("%d=%s", peer.ID, peer.Address))
	}
	return strings.Join(all, ",")
}

func (p *peersFlag) Set(s string) error {
	*p = nil
	for _, peer := range strings.Split(s, ",") {
		number, address, ok := strings.Cut(peer, "=")
		id, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || address == "" {
			return fmt.Errorf("%q is not NUMBER=HOST:PORT", peer)
		}
		*p = append(*p, Peer{id, address})
	}
	return nil
}

func runNode(ctx context.Context, args []string) error {
	var c Config
	flags := flag.NewFlagSet("raft", flag.ContinueOnError)
	flags.Uint64Var(&c.ID, "id", 0, "the `number` of this node")
	flags.StringVar(&c.Listen, "listen", "", "the `address` to listen at (default this node's among the peers)")
	flags.Var((*peersFlag)(&c.Peers), "peers", "all `nodes` as NUMBER=HOST:PORT, separated by commas; the same on each")
	flags.StringVar(&c.Dir, "dir", "", "the `directory` of this node, for what must survive")
	flags.DurationVar(&c.Tick, "tick", 100*time.Millisecond, "the `time` of a heartbeat; an election begins after 10 to 20 without one")
	flags.IntVar(&c.SnapshotEvery, "snapshot-every", 1000, "the `number` of changes between two snapshots")
	verbose := flags.Bool("v", false, "say what happens")
	flags.BoolVar(&c.AckBeforeSync, "ack-before-sync", false, "BROKEN: answer before what was written is synced")
	flags.BoolVar(&c.ReadWithoutQuorum, "read-without-quorum", false, "BROKEN: a leader answers reads without asking whether it still is one")
	flags.BoolVar(&c.ForgetVote, "forget-vote", false, "BROKEN: do not save for whom the node has voted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q? A node has flags only; client comes first", flags.Arg(0))
	}
	if *verbose {
		c.Logger = &raft.DefaultLogger{Logger: log.New(os.Stderr, "", log.LstdFlags|log.Lmicroseconds)}
	}
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error { return Main(ctx, c) }), asyncio.HandleSignals(syscall.SIGTERM))
	if sig := (*asyncio.SignalError)(nil); errors.As(err, &sig) {
		return nil // it was asked to end, and has ended
	}
	return err
}

func runClient(ctx context.Context, args []string) error {
	var peers peersFlag
	flags := flag.NewFlagSet("raft client", flag.ContinueOnError)
	flags.Var(&peers, "peers", "the `nodes` as NUMBER=HOST:PORT, separated by commas")
	patience := flags.Duration("patience", 10*time.Second, "the `time` to wait for an answer")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "raft client -peers 1=HOST:PORT,... get KEY | put KEY VALUE | cas KEY OLD NEW")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	var nodes []string
	for _, p := range peers {
		nodes = append(nodes, p.Address)
	}
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		c := NewClient(ctx, nodes...)
		c.Patience = *patience
		defer c.Close()
		return askOnce(ctx, c, flags.Args())
	}))
	return err
}

// askOnce sends the request in words, and prints the answer.
func askOnce(ctx context.Context, c *Client, words []string) error {
	switch {
	case len(words) == 2 && words[0] == "get":
		v, ok, err := c.Get(ctx, words[1])
		if err == nil && !ok {
			err = fmt.Errorf("%q has no value", words[1])
		}
		if err == nil {
			fmt.Println(v)
		}
		return err
	case len(words) == 3 && words[0] == "put":
		return c.Put(ctx, words[1], words[2])
	case len(words) == 4 && words[0] == "cas":
		ok, err := c.CAS(ctx, words[1], words[2], words[3])
		if err == nil && !ok {
			err = fmt.Errorf("the value of %q is not %q", words[1], words[2])
		}
		return err
	}
	return fmt.Errorf("%q: want get KEY, put KEY VALUE or cas KEY OLD NEW", strings.Join(words, " "))
}
