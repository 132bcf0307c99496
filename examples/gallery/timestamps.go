package gallery

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/goasyncio/asyncio"
)

// A store keeps the value with the highest timestamp, which the clients give. The mistake is to
// take that from the client's wall clock: a write while the clock is ahead wins over all later
// ones, which are confirmed and lost. With a timestamp that is higher than the one the store has, a
// later write wins, whatever the clock says.
//
// Cassandra does it: https://aphyr.com/posts/299-the-trouble-with-timestamps
type storeClient struct {
	mistake bool
	loop    *asyncio.EventLoop
}

func (c *storeClient) write(ctx context.Context, value int) error {
	at := c.loop.Now().UnixNano() // BUG: if this is all, clocks decide what is kept
	if !c.mistake {
		answer, err := call(ctx, "store", "get")
		if err != nil {
			return err
		}
		_, stamp, _ := strings.Cut(answer, " ")
		newest, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			return err
		}
		at = max(at, newest+1)
	}
	_, err := call(ctx, "store", fmt.Sprint("put ", value, " ", at))
	return err
}

func (c *storeClient) read(ctx context.Context) (value int, err error) {
	answer, err := call(ctx, "store", "get")
	_, _ = fmt.Sscan(answer, &value)
	return value, err
}

// store keeps a value and its timestamp. Of two with the same timestamp it keeps the higher value.
func store(ctx context.Context) error {
	var value int
	var stamp int64
	text, err := load(ctx, "store")
	if err != nil {
		return err
	}
	_, _ = fmt.Sscan(text, &value, &stamp)
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		var v int
		var at int64
		if n, _ := fmt.Sscanf(request, "put %d %d", &v, &at); n == 2 && (at > stamp || at == stamp && v > value) {
			if err := save(ctx, "store", fmt.Sprint(v, " ", at)); err != nil {
				return "", err
			}
			value, stamp = v, at
		}
		return fmt.Sprint(value, " ", stamp), nil
	}))
}

// lastWriteWins is a store, and a client that writes and reads. What it does and sees must be
// linearizable.
func lastWriteWins(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		h := new(history)
		s.server("store", store)
		s.client("client", func(ctx context.Context) error {
			loop, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			c := &storeClient{mistake: mistake, loop: loop}
			for range 8 {
				o := h.write()
				err := c.write(ctx, o.value)
				if err == nil {
					o.done(o.value)
				} else if !isOneOf(err, errNoAnswer) {
					return err
				}
				o = h.read()
				value, err := c.read(ctx)
				if err == nil {
					o.done(value)
				} else if !isOneOf(err, errNoAnswer) {
					return err
				}
				if err := asyncio.Sleep(ctx, think); err != nil {
					return err
				}
			}
			return nil
		})
		s.after = func(context.Context) error { return h.check() }
		return nil
	})
}
