package gallery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A participant of a two-phase commit that has voted yes has given its choice away: it must wait
// until it knows what the coordinator has decided. The mistake is to abort when the decision does
// not come. It may have been to commit, and others have.
//
// Gray, "Notes on Data Base Operating Systems" (1978); systems that decide by themselves call it a
// heuristic decision:
// https://docs.oracle.com/javaee/7/api/javax/transaction/HeuristicMixedException.html
type participant struct {
	mistake bool
	states  map[string]string // of transactions: yes, commit, abort
	writes  asyncio.Lock
	settled func(transaction, state string)
}

func (p *participant) run(ctx context.Context) (err error) {
	if p.states, err = loadStates(ctx); err != nil {
		return err
	}
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, p.resolve, asyncio.TaskName("resolver"))
		return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
			what, t, _ := strings.Cut(request, " ")
			switch {
			case what == "prepare" && p.states[t] == "":
				return "yes", p.become(ctx, t, "yes")
			case what == "prepare":
				return p.states[t], nil
			}
			return "ok", p.become(ctx, t, what)
		}))
	})
}

func (p *participant) become(ctx context.Context, t, state string) error {
	if p.states[t] == "commit" || p.states[t] == "abort" {
		return nil
	}
	p.states[t] = state
	if state != "yes" {
		p.settled(t, state)
	}
	if err := p.writes.Acquire(ctx); err != nil {
		return err
	}
	defer p.writes.Release()
	return saveStates(ctx, p.states)
}

// resolve ends transactions of which the coordinator does not tell the end.
func (p *participant) resolve(ctx context.Context) error {
	for waiting := []string(nil); ; {
		for _, t := range waiting {
			if p.states[t] != "yes" {
				continue
			}
			decision := "abort" // BUG: the decision may be to commit, and late
			if !p.mistake {
				answer, err := call(ctx, "coordinator", "outcome "+t)
				if err != nil && !isOneOf(err, errNoAnswer) {
					return err
				}
				if err != nil || answer == "undecided" {
					continue
				}
				decision = answer
			}
			if err := p.become(ctx, t, decision); err != nil {
				return err
			}
		}
		waiting = nil
		for t, state := range p.states {
			if state == "yes" {
				waiting = append(waiting, t)
			}
		}
		slices.Sort(waiting)
		if err := asyncio.Sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}

// A coordinator decides to commit if all participants have voted yes. A transaction that it does
// not know has been aborted by a crash.
type coordinator struct {
	states map[string]string // of transactions: undecided, commit, abort
	writes asyncio.Lock
}

func (c *coordinator) run(ctx context.Context) (err error) {
	if c.states, err = loadStates(ctx); err != nil {
		return err
	}
	return serve(ctx, func(ctx context.Context, request string) (string, error) {
		what, t, _ := strings.Cut(request, " ")
		switch {
		case c.states[t] == "" && what == "outcome":
			return "abort", c.decide(ctx, t, "abort")
		case c.states[t] == "":
			c.states[t] = "undecided"
			votes, err := callAll(ctx, patience, participants, len(participants), "prepare "+t)
			if err != nil {
				return "", err
			}
			decision := "commit"
			if !slices.Equal(votes, []string{"yes", "yes"}) {
				decision = "abort"
			}
			if err := c.decide(ctx, t, decision); err != nil {
				return "", err
			}
			// they ask if this is lost
			_, err = callAll(ctx, patience, participants, len(participants), decision+" "+t)
			return decision, err
		}
		return c.states[t], nil
	})
}

// decide makes a decision known when it is durable.
func (c *coordinator) decide(ctx context.Context, t, decision string) error {
	c.states[t] = "undecided"
	if err := c.writes.Acquire(ctx); err != nil {
		return err
	}
	defer c.writes.Release()
	next := maps.Clone(c.states)
	next[t] = decision
	maps.DeleteFunc(next, func(_, state string) bool { return state == "undecided" })
	if err := saveStates(ctx, next); err != nil {
		return err
	}
	c.states[t] = decision
	return nil
}

func loadStates(ctx context.Context) (map[string]string, error) {
	text, err := load(ctx, "states")
	states := make(map[string]string)
	for _, field := range strings.Fields(text) {
		t, state, _ := strings.Cut(field, "=")
		states[t] = state
	}
	return states, err
}

func saveStates(ctx context.Context, states map[string]string) error {
	text := ""
	for _, t := range slices.Sorted(maps.Keys(states)) {
		text += t + "=" + states[t] + " "
	}
	return save(ctx, "states", text)
}

var participants = []string{"participant1", "participant2"}

// abortAlone is a coordinator, two participants, and a client that runs transactions. Each must end
// in the same way everywhere.
func abortAlone(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		ends := make(map[string]string)
		var broken error
		s.server("coordinator", func(ctx context.Context) error { return new(coordinator).run(ctx) })
		for _, name := range participants {
			s.server(name, func(ctx context.Context) error {
				p := &participant{mistake: mistake, settled: func(t, state string) {
					if ends[t] != "" && ends[t] != state {
						broken = fmt.Errorf("%s has ended with %s and with %s", t, ends[t], state)
					}
					ends[t] = state
				}}
				return p.run(ctx)
			})
		}
		for n := range 6 {
			if _, err := persist(ctx, "coordinator", fmt.Sprint("run transaction", n)); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		s.after = func(context.Context) error { return broken }
		return nil
	})
}
