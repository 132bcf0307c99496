package asynciosql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
	"github.com/goasyncio/asyncio/sim"
)

// A journal compares what tasks were told with what the database has.
type journal struct {
	s    *server
	told map[string]error // by key
}

// check looks at the keys of a statement or transaction that a task was told about.
func (j *journal) check() error {
	has := " " + j.s.has() + " "
	for key, err := range j.told {
		there := strings.Contains(has, " "+key+" ")
		switch {
		case err == nil && !there:
			return fmt.Errorf("%s was reported as done, and is not there", key)
		case err != nil && there && !errors.Is(err, asynciosql.ErrOutcomeUnknown):
			return fmt.Errorf("%s is there, and was reported as %w", key, err)
		}
	}
	return nil
}

// In every order, with a cancel at every await: what tasks are told is true, and the pool is in
// order.
func TestExplore(t *testing.T) {
	for name, strategy := range map[string][]sim.Option{
		"each cancel": {sim.WithStrategy(sim.Exhaustive(1)), sim.Cancels(), sim.Runs(3000)},
		"random":      {sim.Runs(200), sim.Cancels()},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Explore(t, func(ctx context.Context) error { return explored(t, ctx) }, strategy...)
		})
	}
}

func explored(t *testing.T, ctx context.Context) error {
	s := newServer(t, 2)
	db := asynciosql.New(s.DB, asynciosql.InExecutor(nil))
	j := &journal{s, make(map[string]error)}
	sim.AtEnd(ctx, "what was told is true", j.check)
	sim.AtEnd(ctx, "no statement is prepared", func() error {
		if s.prepared != 0 {
			return fmt.Errorf("%d are", s.prepared)
		}
		return nil
	})
	sim.AtEnd(ctx, "no connection is in use", func() error {
		if n := s.Stats().InUse; n != 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, func(ctx context.Context) error {
			_, err := db.Exec(ctx, "set exec 1")
			j.told["exec"] = err
			return err
		})
		tg.CreateTask(ctx, func(ctx context.Context) error {
			err := db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				if _, err := tx.Exec(ctx, "set tx1 1"); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "set tx2 1")
				return err
			})
			j.told["tx1"], j.told["tx2"] = err, err
			return err
		})
		tg.CreateTask(ctx, func(ctx context.Context) (err error) {
			stmt, err := db.Prepare(ctx, "set stmt 1")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stmt.Close(ctx)) }()
			_, err = stmt.Exec(ctx)
			j.told["stmt"] = err
			if err != nil {
				return err
			}
			return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				return tx.QueryRow(ctx, "rows 20").Err()
			})
		})
		tg.CreateTask(ctx, func(ctx context.Context) error {
			n := 0
			for _, err := range db.Query(ctx, "rows 20") {
				if err != nil {
					return err
				}
				if n++; n == 18 {
					break
				}
			}
			return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
				err := c.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					_, err := tx.Exec(ctx, "set conn 1")
					return err
				})
				j.told["conn"] = err
				return err
			})
		})
		return nil
	})
}

// An operation takes no time in a simulation, also if the machine stands still meanwhile for longer
// than a range that is left early waits for its rows.
func TestExplore_SlowMachine(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		s := newServer(t, 1)
		s.closing = 150 * time.Millisecond
		for _, err := range asynciosql.New(s.DB, asynciosql.InExecutor(nil)).Query(ctx, "rows 1000") {
			return err
		}
		return nil
	}, sim.Runs(1))
}
