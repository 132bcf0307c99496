package asynciosql_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// refusing is an executor that refuses one job, the n-th.
type refusing struct{ jobs, n atomic.Int64 }

func (e *refusing) Submit(job func()) error {
	if e.jobs.Add(1) == e.n.Load() {
		return errRefused
	}
	go job()
	return nil
}

func (e *refusing) Shutdown(bool) {}

var errRefused = errors.New("refused")

// An executor may refuse any job. Nothing has happened then, but what has to be done is done.
func TestInExecutor_Refuses(t *testing.T) {
	for name, statement := range statements {
		for n, all := int64(1), false; !all && !t.Failed(); n++ { // all its jobs were done
			e := new(refusing)
			e.n.Store(n)
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				s := newServer(t, 1)
				s.table["seed"] = "0"
				run(t, func(ctx context.Context) error {
					db := asynciosql.New(s.DB, asynciosql.InExecutor(e))
					err := statement(ctx, db, "")
					all = e.jobs.Load() < n
					if err != nil {
						matches(t, err, errRefused)
						known(t, err)
						is(t, "the table", s.has(), "seed")
					}
					e.n.Store(0)
					s.works(t, ctx, db)
					return nil
				})
			})
		}
	}
}

// A statement that is closed while it is in use is closed afterwards, also if the executor refuses.
func TestInExecutor_RefusesToCloseAStatement(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		e := new(refusing)
		stmt, err := asynciosql.New(s.DB, asynciosql.InExecutor(e)).Prepare(ctx, "rows 1000")
		must(t, err)
		for _, err := range stmt.Query(ctx) {
			must(t, err)
			must(t, stmt.Close(ctx))
			e.n.Store(e.jobs.Load() + 2) // the job after the closing of the rows
			break
		}
		return asyncio.Sleep(ctx, time.Second) // the clock stands still while it is being closed
	})
	is(t, "statements that are not closed", s.prepared, 0)
}

// A program may shut its executor down while there is a transaction.
func TestInExecutor_ShutDown(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		e := asyncio.NewThreadPoolExecutor(2)
		db := asynciosql.New(s.DB, asynciosql.InExecutor(e))
		matches(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			e.Shutdown(true)
			return nil
		}), asyncio.ErrExecutorShutDown)
		_, err := db.Exec(ctx, "set a 1")
		matches(t, err, asyncio.ErrExecutorShutDown)
		is(t, "connections in use", s.Stats().InUse, 0)
		return nil
	})
}
