package gallery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A pool lends connections to a store, one user at a time. The mistake is to take a connection back
// after a request that was given up: its answer comes later, and the next user takes it for its
// own.
//
// redis-py did that, and users of ChatGPT saw the conversations of others:
// https://github.com/redis/redis-py/issues/2624
type connectionPool struct {
	mistake bool
	idle    []*connection
}

type connection struct {
	r *asyncio.StreamReader
	w *asyncio.StreamWriter
}

// get asks the store for the value of a key.
func (p *connectionPool) get(ctx context.Context, key string) (value string, err error) {
	err = asyncio.FailAfter(ctx, 300*time.Millisecond, func(ctx context.Context) error {
		var c *connection
		if n := len(p.idle); n > 0 {
			c, p.idle = p.idle[n-1], p.idle[:n-1]
		} else {
			r, w, err := asyncio.OpenConnection(ctx, "store"+port)
			if err != nil {
				return err
			}
			c = &connection{r, w}
		}
		whole := false
		defer func() {
			// BUG: the answer may be on its way
			if whole || p.mistake && !c.r.AtEOF() && c.r.Exception() == nil {
				p.idle = append(p.idle, c)
			} else {
				c.w.Abort()
			}
		}()
		if _, err := c.w.Write(ctx, []byte(key+"\n")); err != nil {
			return err
		}
		line, err := c.r.ReadLine(ctx)
		if err != nil {
			return err
		}
		value, whole = strings.CutSuffix(string(line), "\n")
		if !whole {
			return errNoAnswer
		}
		return nil
	})
	return value, err
}

// connectionReused is a store, and two users of a pool.
func connectionReused(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("store", func(ctx context.Context) error {
			return serve(ctx, func(_ context.Context, key string) (string, error) { return "value of " + key, nil })
		})
		p := &connectionPool{mistake: mistake}
		defer func() {
			for _, c := range p.idle {
				c.w.Abort()
			}
		}()
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for _, user := range []string{"anna", "bela"} {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					for n := range 15 {
						key := fmt.Sprint(user, n)
						value, err := p.get(ctx, key)
						if err == nil && value != "value of "+key {
							return fmt.Errorf("%s asked for %s, and got the %s", user, key, value)
						}
						if err := asyncio.Sleep(ctx, think); err != nil {
							return err
						}
					}
					return nil
				}, asyncio.TaskName(user))
			}
			return nil
		})
	})
}
