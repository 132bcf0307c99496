package gallery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio"
)

// Workers take turns at a number in a storage: whoever has the lock reads it and writes the next.
// The lock is a lease, so that a worker that has died does not keep it. The mistake is to rely on
// the lease: a worker that is paused, or whose request is late, writes when the lease has ended and
// the next worker has read already. With fencing the lock gives out tokens that grow, and the
// storage refuses whoever comes with an older token than it has seen.
//
// HBase had that bug. Kleppmann, "How to do distributed locking",
// https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
type fencedStorage struct {
	mistake       bool
	token, number int
}

const lockLease = time.Second

func (g *fencedStorage) run(ctx context.Context) error {
	text, err := load(ctx, "storage")
	if err != nil {
		return err
	}
	_, _ = fmt.Sscan(text, &g.token, &g.number)
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		var what string
		var token, number int
		_, _ = fmt.Sscan(request, &what, &token, &number)
		// BUG: without this the last holder of the lock can still write
		if token < g.token && !g.mistake {
			return "refused", nil
		}
		g.token = max(token, g.token)
		if what == "write" {
			g.number = number
		}
		return strconv.Itoa(g.number), save(ctx, "storage", fmt.Sprint(g.token, " ", g.number))
	}))
}

// lock lends one lease at a time. It forgets the lease when it is started again, and not the token.
func lock(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	text, err := load(ctx, "token")
	if err != nil {
		return err
	}
	token, _ := strconv.Atoi(text)
	var ends asyncio.Instant
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		if request == strconv.Itoa(token) { // it is given back
			ends = loop.Time()
			return "free", nil
		}
		if loop.Time().Before(ends) {
			return "busy", nil
		}
		token++
		ends = loop.Time().Add(lockLease)
		return strconv.Itoa(token), save(ctx, "token", strconv.Itoa(token))
	}))
}

// errBusy says that somebody else has the lock.
var errBusy = errors.New("busy")

// count adds one to the number in the storage, and returns nil if that was confirmed.
func count(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	asked := loop.Time()
	token, err := call(ctx, "lock", "acquire")
	if err != nil {
		return err
	}
	if token == "busy" {
		return errBusy
	}
	answer, err := call(ctx, "storage", "read "+token)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(answer)
	if err != nil {
		return errNoAnswer // it is refused
	}
	if err := asyncio.Sleep(ctx, 8*think); err != nil { // there is something to compute
		return err
	}
	if loop.Time().Sub(asked) > lockLease {
		return errNoAnswer
	}
	answer, err = call(ctx, "storage", fmt.Sprint("write ", token, " ", number+1))
	if err != nil {
		return err
	}
	if answer == "refused" {
		return errNoAnswer
	}
	_, err = call(ctx, "lock", token)
	if isOneOf(err, errNoAnswer) {
		return nil // the lease will end by itself
	}
	return err
}

// leaseUnfenced is a lock, a storage, and two workers that count. No confirmed count may be lost.
func leaseUnfenced(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		confirmed, stored := 0, new(fencedStorage)
		s.server("lock", lock)
		s.server("storage", func(ctx context.Context) error {
			stored = &fencedStorage{mistake: mistake}
			return stored.run(ctx)
		})
		for _, name := range []string{"worker1", "worker2"} {
			s.client(name, func(ctx context.Context) error {
				for n := 0; n < 6; {
					switch err := count(ctx); {
					case err == nil:
						confirmed++
						n++
					case isOneOf(err, errNoAnswer):
						n++
					case !isOneOf(err, errBusy):
						return err
					}
					if err := asyncio.Sleep(ctx, think); err != nil {
						return err
					}
				}
				return nil
			})
		}
		s.after = func(context.Context) error {
			if stored.number < confirmed {
				return fmt.Errorf("%d counts were confirmed, and the number is %d", confirmed, stored.number)
			}
			return nil
		}
		return nil
	})
}
