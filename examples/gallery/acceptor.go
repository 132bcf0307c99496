package gallery

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio"
)

// An acceptor of Paxos ("Paxos Made Simple", Lamport 2001) promises to accept nothing with a lower
// ballot, and reports what it has accepted. The mistake is to keep that in memory: an acceptor that
// was started again makes a majority that knows nothing of the value that an earlier one has
// chosen.
//
// Michael et al. found it in protocols that recover without disks: "Recovering Shared Objects
// Without Stable Storage" (DISC 2017).
type acceptor struct {
	mistake            bool
	promised, accepted int // ballots
	value              string
}

func (a *acceptor) run(ctx context.Context) error {
	text, err := load(ctx, "acceptor")
	if err != nil {
		return err
	}
	_, _ = fmt.Sscan(text, &a.promised, &a.accepted, &a.value)
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		var what, value string
		var ballot int
		_, _ = fmt.Sscan(request, &what, &ballot, &value)
		switch {
		case what == "prepare" && ballot > a.promised:
			a.promised = ballot
		case what == "accept" && ballot >= a.promised:
			a.promised, a.accepted, a.value = ballot, ballot, value
		default:
			return fmt.Sprint("refused ", a.promised, " ", a.value), nil
		}
		if !a.mistake { // BUG: without this it forgets what it answers now
			if err := save(ctx, "acceptor", fmt.Sprint(a.promised, " ", a.accepted, " ", a.value)); err != nil {
				return "", err
			}
		}
		return fmt.Sprint("yes ", a.accepted, " ", a.value), nil
	}))
}

// A proposer gets a value chosen: its own, or one that has been chosen before.
type proposer struct {
	acceptors []string
	ballot    int
	value     string
}

// propose tries one ballot. It returns the value that was chosen, or "".
func (p *proposer) propose(ctx context.Context) (string, error) {
	p.ballot += 10 // the last digit is the proposer's
	value, newest := p.value, 0
	promises, err := p.ask(ctx, fmt.Sprint("prepare ", p.ballot))
	if err != nil || len(promises) < 2 {
		return "", err
	}
	for _, promise := range promises {
		var ballot int
		var accepted string
		if _, err := fmt.Sscan(promise, &ballot, &accepted); err == nil && ballot > newest {
			newest, value = ballot, accepted
		}
	}
	yes, err := p.ask(ctx, fmt.Sprint("accept ", p.ballot, " ", value))
	if err != nil || len(yes) < 2 {
		return "", err
	}
	return value, nil
}

// ask returns what follows after "yes" in the answers of a majority.
func (p *proposer) ask(ctx context.Context, request string) (yes []string, err error) {
	answers, err := callAll(ctx, patience, p.acceptors, 2, request)
	for _, answer := range answers {
		var word string
		var ballot int
		_, _ = fmt.Sscan(answer, &word, &ballot)
		if word == "yes" {
			yes = append(yes, answer[len("yes "):])
		}
		for word == "refused" && p.ballot < ballot {
			p.ballot += 10
		}
	}
	return yes, err
}

// promiseForgotten is three acceptors and two proposers, which ask again and again what has been
// chosen. It must be one value.
func promiseForgotten(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		acceptors := []string{"acceptor1", "acceptor2", "acceptor3"}
		for _, name := range acceptors {
			s.server(name, func(ctx context.Context) error { return (&acceptor{mistake: mistake}).run(ctx) })
		}
		chosen := ""
		for i := range 2 {
			s.client("proposer"+strconv.Itoa(i+1), func(ctx context.Context) error {
				p := &proposer{acceptors: acceptors, ballot: i, value: "value" + strconv.Itoa(i+1)}
				for range 6 {
					if err := asyncio.Sleep(ctx, time.Duration(i+2)*think); err != nil {
						return err
					}
					value, err := p.propose(ctx)
					if err != nil {
						return err
					}
					if value != "" && chosen != "" && value != chosen {
						return fmt.Errorf("%s was chosen, and then %s", chosen, value)
					}
					if value != "" {
						chosen = value
					}
				}
				return nil
			})
		}
		return nil
	})
}
