package gallery

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A receiver applies each message once, though the sender repeats what is not answered. The mistake
// is to remember a message for a fixed time only: a sender that was cut off for longer comes again,
// and its message is new. Here the sender numbers its messages, and the number of the last one is
// remembered for ever.
//
// Amazon SQS forgets after five minutes ("message deduplication ID" in its documentation).
type receiver struct {
	mistake bool
	last    int
	seen    time.Time // when the last message came
	applied func(message int)
}

const dedupeWindow = 2 * time.Second

func (r *receiver) run(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	text, err := load(ctx, "last")
	if err != nil {
		return err
	}
	var at int64
	if _, err := fmt.Sscan(text, &r.last, &at); err == nil {
		r.seen = time.Unix(0, at)
	}
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		message, err := strconv.Atoi(strings.TrimSpace(request))
		if err != nil {
			return "what?", nil
		}
		known := message <= r.last
		if r.mistake && loop.Now().Sub(r.seen) > dedupeWindow {
			known = false // BUG: the sender may still be trying
		}
		if known {
			return "known", nil
		}
		r.last, r.seen = message, loop.Now()
		if err := save(ctx, "last", fmt.Sprint(r.last, " ", r.seen.UnixNano())); err != nil {
			return "", err
		}
		r.applied(message)
		return "applied", nil
	}))
}

// dedupeByTime is a receiver, and a client that sends.
func dedupeByTime(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		times := make(map[int]int)
		s.server("receiver", func(ctx context.Context) error {
			r := &receiver{mistake: mistake, applied: func(message int) { times[message]++ }}
			return r.run(ctx)
		})
		for n := range 12 {
			if _, err := persist(ctx, "receiver", strconv.Itoa(n+1)); err != nil {
				return err
			}
			if times[n+1] > 1 {
				return fmt.Errorf("message %d was applied %d times", n+1, times[n+1])
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		return nil
	})
}
