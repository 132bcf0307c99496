package gallery

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/goasyncio/asyncio"
)

// Writes go to a primary, and reads to a replica, which learns of the writes a little later. The
// mistake is to take whatever the replica has: somebody who has just written reads what was there
// before. A reader who says what it has seen can be sent away by a replica that is behind, to the
// primary.
//
// Terry et al., "Session Guarantees for Weakly Consistent Replicated Data" (PDIS 1994); MongoDB has
// them since it lost reads like these: https://jepsen.io/analyses/mongodb-3-6-4
type replica struct {
	mistake bool
	number  int
}

func (r *replica) run(ctx context.Context) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, r.follow, asyncio.TaskName("follower"))
		return serve(ctx, func(_ context.Context, request string) (string, error) {
			// BUG: without this the reader gets less than it has written
			if seen, _ := strconv.Atoi(strings.TrimPrefix(request, "get ")); r.number < seen && !r.mistake {
				return "behind", nil
			}
			return strconv.Itoa(r.number), nil
		})
	})
}

// follow asks the primary for what it has, again and again.
func (r *replica) follow(ctx context.Context) error {
	for {
		answer, err := call(ctx, "primary", "get")
		if err == nil {
			number, _ := strconv.Atoi(answer)
			r.number = max(r.number, number)
		} else if !isOneOf(err, errNoAnswer) {
			return err
		}
		if err := asyncio.Sleep(ctx, think/4); err != nil {
			return err
		}
	}
}

// replicaBehind is a primary, a replica, and a client that writes a number and reads it back.
func replicaBehind(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("primary", database)
		s.server("replica", func(ctx context.Context) error { return (&replica{mistake: mistake}).run(ctx) })
		for n := 1; n <= 10; n++ {
			if _, err := persist(ctx, "primary", strconv.Itoa(n)); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
			answer, err := persist(ctx, "replica", fmt.Sprint("get ", n))
			if err == nil && answer == "behind" {
				answer, err = persist(ctx, "primary", "get")
			}
			if err != nil {
				return err
			}
			if number, _ := strconv.Atoi(answer); number < n {
				return fmt.Errorf("%d was written, and the same client reads %s", n, answer)
			}
		}
		return nil
	})
}
