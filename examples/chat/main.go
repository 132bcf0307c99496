// Chat is a chat server: telnet localhost 7000, say your name, and everybody reads the lines you
// type. The people present are in a plain map, which every client's task reads and changes. No lock
// guards it, because between two awaits nothing else runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A room maps each person present to a queue of the lines still to be sent.
type room map[string]*asyncio.Queue[string]

// backlog is how many lines a client may be behind before it is dropped: a client that does not
// read must not make the others wait, nor memory grow.
const backlog = 100

func (r room) say(line string) {
	// In the order of the names, so that a simulation can repeat it.
	for _, name := range slices.Sorted(maps.Keys(r)) {
		lines := r[name]
		if err := lines.PutNowait(line); err != nil {
			delete(r, name) // it is too far behind
			lines.Shutdown(true)
		}
	}
}

// serve is the task of one client.
func (r room) serve(ctx context.Context, in *asyncio.StreamReader, out *asyncio.StreamWriter) error {
	name, err := r.enter(ctx, in, out)
	if err != nil {
		return gone(err)
	}
	lines := r[name]
	defer func() {
		if r[name] == lines {
			delete(r, name)
			r.say("* " + name + " has left")
		}
	}()
	// Both directions; whichever ends first ends the other.
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, func(ctx context.Context) error {
			defer tg.Cancel()
			for line, err := range lines.All(ctx) {
				if err != nil {
					return err
				}
				if _, err := out.Write(ctx, []byte(line+"\n")); err != nil {
					return gone(err)
				}
			}
			return nil
		})
		defer tg.Cancel()
		for line, err := range in.Lines(ctx) {
			if err != nil {
				return gone(err)
			}
			r.say(name + ": " + strings.TrimSpace(string(line)))
		}
		return nil
	})
	return err
}

// enter asks for a name until it gets one that nobody has, and announces it.
func (r room) enter(ctx context.Context, in *asyncio.StreamReader, out *asyncio.StreamWriter) (string, error) {
	var name string
	err := asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		for question := "your name?\n"; name == ""; question = "that name is taken, another one?\n" {
			if _, err := out.Write(ctx, []byte(question)); err != nil {
				return err
			}
			line, err := in.ReadLine(ctx)
			if err != nil {
				return err
			}
			name = strings.TrimSpace(string(line))
			if _, taken := r[name]; taken {
				name = ""
			}
		}
		// No await since the name was found to be free, so it still is.
		here := make([]string, 0, len(r))
		for other := range r {
			here = append(here, other)
		}
		slices.Sort(here)
		r.say("* " + name + " has come")
		r[name] = asyncio.NewQueue[string](backlog)
		return r[name].PutNowait(fmt.Sprintf("* here are %v", here))
	})
	return name, err
}

// gone drops the errors that ordinary disconnects cause, which are not worth a report.
func gone(err error) error {
	if err == nil || errors.Is(err, asyncio.ErrCancelled) {
		return err
	}
	return nil
}

// run serves until ctx ends; it passes the address to ready.
func run(ctx context.Context, address string, ready func(address string)) error {
	server, err := asyncio.StartServer(ctx, make(room).serve, address, asyncio.StreamLimit(1<<10))
	if err != nil {
		return err
	}
	ready(server.Addrs()[0].String())
	return server.Serve(ctx)
}

func main() {
	address := flag.String("listen", "localhost:7000", "where to `listen`")
	flag.Parse()
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		return run(ctx, *address, func(address string) { fmt.Println("listening at", address) })
	}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
