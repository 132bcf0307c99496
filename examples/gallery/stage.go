package gallery

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// What the programs of the gallery have in common: hosts and clients, requests and
// answers of one line each, and files that are replaced as a whole.

// A program is what a host runs, as it would be given to [asyncio.Run].
type program = func(ctx context.Context) error

// A stage is the hosts of one run. Its methods are for main.
type stage struct {
	ctx   context.Context // of tg: it goes on when body's time is over
	tg    *asyncio.TaskGroup
	busy  map[string]bool                 // clients that have not done what they are there for
	ended int                             // how many programs have, for whatever reason
	after func(ctx context.Context) error // nil, or looks when all faults are over
}

// staged returns a main for a simulation. It runs body and waits for the clients, but for no longer
// than twenty seconds: where things go wrong all the time, there is no end. If body has set after,
// all faults end then, the hosts get time to do what is left, and after looks. If it finds
// something wrong, it looks once more, and that counts: a host may have been paused for a minute,
// and then have been stopped for another.
func staged(body func(ctx context.Context, s *stage) error) program {
	return func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			defer tg.Cancel()
			s := &stage{ctx: ctx, tg: tg, busy: make(map[string]bool)}
			_, err := asyncio.MoveOnAfter(ctx, 20*time.Second, func(ctx context.Context) error {
				if err := body(ctx, s); err != nil {
					return err
				}
				return sim.Eventually(ctx, time.Hour, "the clients are done", func() bool { return len(s.busy) == 0 })
			})
			if err != nil || s.after == nil {
				return err
			}
			sim.StopFaults(ctx)
			for _, wait := range []time.Duration{30 * time.Second, 3 * time.Minute} {
				if err = asyncio.Sleep(ctx, wait); err != nil {
					return err
				}
				if err = s.after(ctx); err == nil {
					return nil
				}
			}
			return err
		})
	}
}

// server adds a host. Deferred functions are called in a crash too.
func (s *stage) server(name string, p program) {
	sim.NewHost(s.ctx, name, func(ctx context.Context) error {
		defer func() { s.ended++ }()
		return p(ctx)
	})
}

// client adds a host whose program ends by itself, unless it is stopped.
func (s *stage) client(name string, p program) {
	s.busy[name] = true
	s.server(name, func(ctx context.Context) error {
		err := p(ctx)
		if err == nil {
			delete(s.busy, name)
		}
		return err
	})
}

// start starts a task of main that goes on when body's time is over.
func (s *stage) start(name string, fn func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return s.tg.CreateTask(s.ctx, fn, asyncio.TaskName(name))
}

func isOneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// port is where every server listens.
const port = ":7000"

// serve answers the requests that come to this host, one line each. It ends when it is cancelled,
// or with the first error of handle: a program that cannot do its work ends, and is started again.
func serve(ctx context.Context, handle func(ctx context.Context, request string) (string, error)) error {
	failed := asyncio.CreateFuture[asyncio.None](ctx)
	defer failed.Cancel() // a client that comes while this ends has nobody to tell
	server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		for {
			line, err := r.ReadLine(ctx)
			if err != nil || !strings.HasSuffix(string(line), "\n") {
				return gone(err) // a request without its end is none
			}
			answer, err := handle(ctx, strings.TrimSuffix(string(line), "\n"))
			if err != nil && gone(err) == nil && !failed.Done() {
				return failed.SetException(err)
			}
			// what a failed program has in its memory, it must not tell
			if err != nil || failed.Done() {
				return gone(err)
			}
			if _, err := w.Write(ctx, []byte(answer+"\n")); err != nil {
				return gone(err)
			}
		}
	}, port)
	if err != nil {
		return err
	}
	defer server.Close()
	_, err = failed.Await(ctx)
	return err
}

// inTurn makes handle take one request at a time.
func inTurn(handle func(ctx context.Context, request string) (string, error)) func(ctx context.Context, request string) (string, error) {
	var turn asyncio.Lock
	return func(ctx context.Context, request string) (string, error) {
		if err := turn.Acquire(ctx); err != nil {
			return "", err
		}
		defer turn.Release()
		return handle(ctx, request)
	}
}

// gone is what a handler returns when its client has gone, whatever the error is: only a cancel
// must be returned.
func gone(err error) error {
	if errors.Is(err, asyncio.ErrCancelled) {
		return err
	}
	return nil
}

// errNoAnswer says nothing about a request: it may have been carried out, or may be later.
var errNoAnswer = errors.New("no answer")

const (
	patience = time.Second            // of a client, for an answer
	think    = 100 * time.Millisecond // what a client does between two requests takes so long
)

// call sends a request to a host and returns its answer, or errNoAnswer.
func call(ctx context.Context, host, request string) (string, error) {
	return callFor(ctx, patience, host, request)
}

// callFor is call with another patience.
func callFor(ctx context.Context, d time.Duration, host, request string) (string, error) {
	answer := ""
	err := asyncio.FailAfter(ctx, d, func(ctx context.Context) (err error) {
		answer, err = ask(ctx, host, request)
		return err
	})
	if err != nil && (isOneOf(err, asyncio.ErrTimeout) || !isOneOf(err, asyncio.ErrCancelled)) {
		err = errNoAnswer
	}
	return answer, err
}

// ask is call without a limit of time, and with the errors of the connection.
func ask(ctx context.Context, host, request string) (string, error) {
	r, w, err := asyncio.OpenConnection(ctx, host+port)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(ctx, []byte(request+"\n")); err != nil {
		return "", err
	}
	line, err := r.ReadLine(ctx)
	if err == nil && !strings.HasSuffix(string(line), "\n") {
		err = errNoAnswer // the connection has ended within it
	}
	return strings.TrimSuffix(string(line), "\n"), err
}

// callAll sends a request to each host and returns the first n answers, or those that come within
// d.
func callAll(ctx context.Context, d time.Duration, hosts []string, n int, request string) (answers []string, err error) {
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for _, h := range hosts {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				answer, err := callFor(ctx, d, h, request)
				if errors.Is(err, errNoAnswer) {
					return nil
				}
				if err == nil && len(answers) < n {
					answers = append(answers, answer)
				}
				if len(answers) == n {
					tg.Cancel()
				}
				return err
			}, asyncio.TaskName("call of "+h))
		}
		return nil
	})
	return answers, err
}

// persist repeats a request until it is answered, with ever more patience.
func persist(ctx context.Context, host, request string) (string, error) {
	for d := patience; ; d = min(2*d, 8*patience) {
		answer, err := callFor(ctx, d, host, request)
		if !errors.Is(err, errNoAnswer) {
			return answer, err
		}
		if err := asyncio.Sleep(ctx, think); err != nil {
			return "", err
		}
	}
}
