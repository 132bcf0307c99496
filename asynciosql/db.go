package asynciosql

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
)

// A DB lets the tasks of one loop use a [sql.DB]. Make one with [New]. Its methods are for the
// loop's tasks, which they suspend.
type DB struct {
	statements
	pool  pool
	limit int
	grace time.Duration
	batch int
	home  atomic.Pointer[home]

	executor asyncio.Executor
}

// An Option is a setting of a [DB].
type Option struct {
	limit int
	grace time.Duration
	batch int

	in       asyncio.Executor
	replaces bool
}

// Limit sets how many connections a [DB] uses at a time, at least one and at most the
// MaxOpenConnections that the sql.DB has when New is called. Without it that is the number, or 10
// if they are unlimited. Any goroutine may call it.
func Limit(connections int) Option { return Option{limit: positive(connections, "Limit")} }

// Grace sets how long a cancelled task waits for a driver that does not heed the end of its context
// (sql 5), and how long a commit may go on after a cancel before its context ends too. It is real
// time, and 5 seconds without this option. Any goroutine may call it.
func Grace(d time.Duration) Option { return Option{grace: positive(d, "Grace")} }

// BatchRows sets how many rows of a [DB.Query] are fetched at a time, at most. The first batch is
// smaller, and 64 KiB of values end one too. Without this option it is 256. With 1, each row is
// there as soon as the driver has it, at the price of a wait. Any goroutine may call it.
func BatchRows(rows int) Option { return Option{batch: positive(rows, "BatchRows")} }

// InExecutor has the operations run in e, or in the default executor of the loop if e is nil.
// Without this option each has a goroutine of its own. An executor that bounds its goroutines can
// come to a standstill: transactions wait in the database for locks, and hold up the statement of
// the one that has them. The default executor is for simulations, where it makes an operation one
// step; it must not wait for another one then. If e refuses an operation, nothing has happened; but
// a rollback, and whatever else has to be done, then has a goroutine of its own. Any goroutine may
// call InExecutor.
func InExecutor(e asyncio.Executor) Option { return Option{in: e, replaces: true} }

func positive[N int | time.Duration](n N, caller string) N {
	if n <= 0 {
		panic(fmt.Errorf("%w: %v must be positive (in %s)", asyncio.ErrInvalidArgument, n, caller))
	}
	return n
}

// New returns a DB that uses the pool from. It belongs to the loop that uses it first, until that
// loop is closed. Goroutines may go on using from; several loops may have a DB each, of the same
// pool. Any goroutine may call New. It does not block, and panics with [asyncio.ErrInvalidArgument]
// if from is nil.
func New(from *sql.DB, opts ...Option) *DB {
	if from == nil {
		panic(fmt.Errorf("%w: nil sql.DB (in asynciosql.New)", asyncio.ErrInvalidArgument))
	}
	most := from.Stats().MaxOpenConnections
	d := &DB{limit: cmp.Or(most, 10), grace: 5 * time.Second, batch: 256, executor: goroutines{}}
	for _, o := range opts {
		d.limit, d.grace, d.batch = cmp.Or(o.limit, d.limit), cmp.Or(o.grace, d.grace), cmp.Or(o.batch, d.batch)
		if o.replaces {
			d.executor = o.in
		}
	}
	if most > 0 {
		d.limit = min(d.limit, most)
	}
	d.pool = pool{from}
	d.statements = statements{db: d, on: d.pool}
	return d
}

// Ping has the database answer, on some connection. It must be called in a task, and suspends it.
// Errors are those of [DB.Query].
func (d *DB) Ping(ctx context.Context) error {
	_, err := do(ctx, &d.statements, "Ping", func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, d.pool.PingContext(ctx) }, nil)
	return err
}

// Close closes the sql.DB: connections that are in use when they come back, the others at once.
// What has begun goes on; whatever comes later fails. Close must be called in a task, and suspends
// it; neither a cancel nor the end of ctx interrupts that, but the grace limits it. Errors are
// those of [sql.DB.Close], [asyncio.ErrNotInTask], [asyncio.ErrNoRunningLoop],
// [asyncio.ErrForeignGoroutine] and, in a task that a closing loop unwinds,
// [asyncio.ErrLoopClosed], though the sql.DB is then closed too.
func (d *DB) Close(ctx context.Context) error {
	if _, err := yield(ctx); err != nil {
		return err
	}
	if d.db == nil {
		return errZero
	}
	return d.close(ctx, &turn{}, d.pool.Close)
}

// close has a closing function called that cannot be interrupted.
func (d *DB) close(ctx context.Context, t *turn, fn func() error) error {
	o := t.begins(d.newOperation(fn, nil, nil))
	o.finish(ctx, d.grace)
	switch {
	case o.job == nil:
		return fmt.Errorf("%w (asynciosql: what was to be closed is closed without it)", asyncio.ErrLoopClosed)
	case o.behind:
		return errTooLong
	}
	return o.outcome()
}

// yield lets other tasks run. Neither a cancel nor the end of ctx is an error, but a call in the
// wrong place is. It reports that the loop closes, and unwinds the task.
func yield(ctx context.Context) (closes bool, err error) {
	err = asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })
	if errors.Is(err, asyncio.ErrLoopClosed) {
		return true, nil
	}
	return false, err
}
