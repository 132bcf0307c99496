package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A processCluster is three processes, as in production: each runs the program.
type processCluster struct {
	program string
	dir     string
	peers   []Peer
	running []*asyncio.Process
}

func (c *processCluster) flag() string { return (*peersFlag)(&c.peers).String() }

// command returns the program with arguments, as a subprocess.
func (c *processCluster) command(ctx context.Context, args []string, opts ...asyncio.SubprocessOption) (*asyncio.Process, error) {
	opts = append(opts, asyncio.SubprocessEnv(append(os.Environ(), asProgram+"=1")...))
	return asyncio.CreateSubprocessExec(ctx, c.program, args, opts...)
}

func (c *processCluster) start(ctx context.Context, i int) (err error) {
	c.running[i], err = c.command(ctx, []string{"-id", fmt.Sprint(i + 1), "-peers", c.flag(), "-listen", c.peers[i].Address,
		"-dir", filepath.Join(c.dir, fmt.Sprint(i+1)), "-tick", "20ms", "-snapshot-every", "50"})
	return err
}

// kill sends SIGKILL: the process neither says anything nor finishes anything.
func (c *processCluster) kill(ctx context.Context, i int) error {
	p := c.running[i]
	if err := p.Kill(); err != nil {
		return fmt.Errorf("node %d: %w", i+1, err)
	}
	_, err := p.Wait(ctx)
	return err
}

func (c *processCluster) client(ctx context.Context) *Client {
	var nodes []string
	for _, p := range c.peers {
		nodes = append(nodes, p.Address)
	}
	client := NewClient(ctx, nodes...)
	client.Pause, client.Patience = 10*time.Millisecond, 30*time.Second
	return client
}

// Three processes on loopback: the leader is killed while clients are at work, the others go on,
// and it comes back. Then all are killed at once. The clients' history is linearizable.
func TestProcesses(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &processCluster{program: program, dir: t.TempDir(), peers: freePeers(t), running: make([]*asyncio.Process, 3)}
	faults := func(ctx context.Context, h *history) error {
		own := c.client(ctx)
		defer own.Close()
		for range 3 {
			if err := own.Put(ctx, "who", "leads"); err != nil {
				return err
			}
			leader := 0
			for i, p := range c.peers {
				if p.Address == own.node() {
					leader = i
				}
			}
			if err := c.kill(ctx, leader); err != nil {
				return err
			}
			if err := h.wait(ctx, 30); err != nil { // the others go on
				return err
			}
			if err := c.start(ctx, leader); err != nil {
				return err
			}
			if err := h.wait(ctx, 30); err != nil {
				return err
			}
		}
		for i := range c.peers {
			if err := c.kill(ctx, i); err != nil {
				return err
			}
		}
		for i := range c.peers {
			if err := c.start(ctx, i); err != nil {
				return err
			}
		}
		return h.wait(ctx, 30)
	}
	_, err = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, 2*time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			for i := range c.peers {
				if err := c.start(ctx, i); err != nil {
					return err
				}
			}
			if err := together(ctx, c.client, 3, 200, faults); err != nil {
				return err
			}
			return errors.Join(c.checkCommandLine(ctx, t), c.checkTermination(ctx, t))
		})
	}))
	if err != nil {
		t.Error(err)
	}
}

// checkCommandLine asks with the client subcommand.
func (c *processCluster) checkCommandLine(ctx context.Context, t *testing.T) error {
	for _, test := range []struct {
		args, out, err string
	}{
		{"put colour green", "", ""},
		{"get colour", "green\n", ""},
		{"cas colour green blue", "", ""},
		{"cas colour green red", "", "raft: the value of \"colour\" is not \"green\"\n"},
		{"get colour", "blue\n", ""},
		{"get shape", "", "raft: \"shape\" has no value\n"},
		{"remove colour", "", "raft: \"remove colour\": want get KEY, put KEY VALUE or cas KEY OLD NEW\n"},
	} {
		args := append([]string{"client", "-peers", c.flag(), "-patience", "30s"}, strings.Fields(test.args)...)
		p, err := c.command(ctx, args, asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.Pipe))
		if err != nil {
			return err
		}
		out, stderr, err := p.Communicate(ctx, nil)
		if err != nil {
			return err
		}
		if code, _ := p.ReturnCode(); string(out) != test.out || string(stderr) != test.err || (code == 0) != (test.err == "") {
			t.Errorf("%s: %q, %q, code %d, want %q, %q", test.args, out, stderr, code, test.out, test.err)
		}
	}
	return nil
}

// checkTermination asks the nodes to end.
func (c *processCluster) checkTermination(ctx context.Context, t *testing.T) error {
	for i, p := range c.running {
		if err := p.SendSignal(syscall.SIGTERM); err != nil {
			return err
		}
		if code, err := p.Wait(ctx); err != nil || code != 0 {
			t.Errorf("node %d was asked to end, and ends with %d, %v", i+1, code, err)
		}
	}
	return nil
}
