package gallery

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/goasyncio/asyncio"
)

// A cache beside a database: readers look into the cache and, if it has nothing, read the database
// and fill the cache; a writer changes the database and then deletes what the cache has. The
// mistake is to fill the cache with whatever was read. If the value is changed and deleted between
// the read and the fill, the cache keeps the old one. Here a miss hands out a token, each deletion
// makes the tokens invalid, and a fill needs a valid one.
//
// Facebook calls that leases: Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), 3.2.1.
type cacheServer struct {
	mistake bool
	life    string // no token of an earlier life is valid
	value   string // "" for none
	deleted int
}

func (c *cacheServer) run(ctx context.Context) error {
	lives, err := load(ctx, "lives")
	if err != nil {
		return err
	}
	c.life = lives + "+"
	if err := save(ctx, "lives", c.life); err != nil {
		return err
	}
	return serve(ctx, func(_ context.Context, request string) (string, error) {
		token := c.life + strconv.Itoa(c.deleted)
		words := strings.Fields(request)
		switch {
		case words[0] == "get" && c.value != "":
			return "hit " + c.value, nil
		case words[0] == "get":
			return "miss " + token, nil
		case words[0] == "delete":
			c.value = ""
			c.deleted++
		case c.mistake || words[2] == token: // BUG: the value may have changed since it was read
			c.value = words[1]
		}
		return "ok", nil
	})
}

// database keeps a number that grows.
func database(ctx context.Context) error {
	text, err := load(ctx, "number")
	if err != nil {
		return err
	}
	number, _ := strconv.Atoi(text)
	return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
		if next, _ := strconv.Atoi(request); next > number {
			if err := save(ctx, "number", request); err != nil {
				return "", err
			}
			number = next
		}
		return strconv.Itoa(number), nil
	}))
}

// lookUp reads the number by way of the cache.
func lookUp(ctx context.Context) (int, error) {
	answer, err := call(ctx, "cache", "get")
	if err != nil {
		return 0, err
	}
	what, rest, _ := strings.Cut(answer, " ")
	if what == "hit" {
		return strconv.Atoi(rest)
	}
	number, err := call(ctx, "database", "get")
	if err != nil {
		return 0, err
	}
	if _, err := call(ctx, "cache", "fill "+number+" "+rest); err != nil {
		return 0, err
	}
	return strconv.Atoi(number)
}

// staleFill is a database, a cache, readers, and a writer. Nobody may read less than what was
// written and deleted from the cache before.
func staleFill(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("database", database)
		s.server("cache", func(ctx context.Context) error { return (&cacheServer{mistake: mistake}).run(ctx) })
		written := 0
		for _, name := range []string{"reader1", "reader2"} {
			s.start(name, func(ctx context.Context) error {
				for {
					least := written
					number, err := lookUp(ctx)
					if err == nil && number < least {
						return fmt.Errorf("%d was written, and later %s reads %d", least, name, number)
					}
					if err != nil && !isOneOf(err, errNoAnswer) {
						return err
					}
					if err := asyncio.Sleep(ctx, think); err != nil {
						return err
					}
				}
			})
		}
		for n := range 10 {
			if _, err := persist(ctx, "database", strconv.Itoa(n+1)); err != nil {
				return err
			}
			if _, err := persist(ctx, "cache", "delete"); err != nil {
				return err
			}
			written = n + 1
			if err := asyncio.Sleep(ctx, 2*think); err != nil {
				return err
			}
		}
		return nil
	})
}
