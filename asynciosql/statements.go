package asynciosql

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"runtime/debug"
	"time"

	"github.com/goasyncio/asyncio"
)

// A runner runs statements: a sql.DB, a sql.Conn or a sql.Tx. Its methods are called on goroutines
// only (sql 1).
type runner interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// statements are the methods that [DB], [Conn] and [Tx] have in common.
type statements struct {
	db   *DB
	on   runner
	lane *lane // nil for the pool
}

// Query returns the rows of a query, as a sequence to range over:
//
//	for row, err := range db.Query(ctx, "select id, name from users where age > $1", 30) {
//		if err != nil {
//			return err
//		}
//		var id int
//		var name string
//		if err := row.Scan(&id, &name); err != nil {
//			return err
//		}
//		…
//	}
//
// Each range runs the query. It must be in a task, which is suspended until there are rows; the
// body may await. Rows come in batches, so most of them cost no wait. However the body is left, the
// rows are closed. On a [Tx] or [Conn] no other statement may run before the range is left. A query
// on the [DB] gives its connection back when the last batch is there. A query with several results
// yields the rows of the first.
//
// An error comes last, with a nil row. It is the driver's; a cancel or the cause of ctx, which may
// match [ErrOutcomeUnknown] too; or, for a call in the wrong place, [asyncio.ErrNotInTask],
// [asyncio.ErrNoRunningLoop], [asyncio.ErrForeignGoroutine], [asyncio.ErrDifferentLoop],
// [asyncio.ErrBusy], [asyncio.ErrDeadlock], [sql.ErrTxDone] or [sql.ErrConnDone].
func (s *statements) Query(ctx context.Context, query string, args ...any) iter.Seq2[*Row, error] {
	return rangeOver(ctx, s, func(ctx context.Context) (*sql.Rows, error) { return s.on.QueryContext(ctx, query, args...) })
}

// QueryRow returns the first row of a query. It must be called in a task, and suspends it. Errors
// are those of [DB.Query], and [sql.ErrNoRows] if there is no row; they are in the Row, and its
// Scan returns them.
func (s *statements) QueryRow(ctx context.Context, query string, args ...any) *Row {
	return firstRow(ctx, s, func(ctx context.Context) (*sql.Rows, error) { return s.on.QueryContext(ctx, query, args...) })
}

// Exec runs a statement that returns no rows. It must be called in a task, and suspends it. The
// methods of the result do not suspend. Errors are those of [DB.Query].
func (s *statements) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return execute(ctx, s, func(ctx context.Context) (sql.Result, error) { return s.on.ExecContext(ctx, query, args...) })
}

// Prepare prepares a statement. It must be called in a task, and suspends it. The statement must be
// closed; one of a [Tx] is closed with it. Errors are those of [DB.Query].
func (s *statements) Prepare(ctx context.Context, query string) (*Stmt, error) {
	stmt, err := do(ctx, s, "Prepare", func(ctx context.Context) (*sql.Stmt, error) { return s.on.PrepareContext(ctx, query) },
		func(stmt *sql.Stmt) { _ = stmt.Close() })
	if err != nil {
		return nil, err
	}
	// Once the lane is over a goroutine reads open.
	if s.lane != nil && s.lane.open != nil && s.lane.over == nil {
		s.lane.open[stmt] = struct{}{}
	}
	return &Stmt{of: s, stmt: stmt}, nil
}

// A way leads to a connection: [statements], or a [Stmt] on top of them.
type way interface {
	base() *statements
	enter(ctx context.Context, what string, holds bool) (*turn, error)
}

func (s *statements) base() *statements { return s }

// A turn is the right to use a connection for some operations.
type turn struct {
	place *place // of the pool, or
	lane  *lane
	last  *operation
	ends  []func() // to be called when it is over, besides the release of the place
}

// enter waits for a turn. A cancel that is owed to the task is delivered here, not later (sql 3).
func (s *statements) enter(ctx context.Context, what string, holds bool) (*turn, error) {
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return nil, err
	}
	if s.db == nil {
		return nil, errZero
	}
	if s.lane != nil {
		return &turn{lane: s.lane}, s.lane.enter(ctx, what)
	}
	p, err := s.db.acquire(ctx, holds)
	return &turn{place: p}, err
}

// begins notes the operation that is begun next.
func (t *turn) begins(o *operation) *operation {
	t.last = o
	if t.lane != nil {
		t.lane.last = o
	}
	return o
}

// leave ends the turn. The place is given back when the goroutine is done (sql 2).
func (t *turn) leave() {
	if t.lane != nil {
		t.lane.user = ""
	}
	if t.place != nil {
		t.place.holder = nil
		t.ends = append(t.ends, t.place.release)
	}
	over := func() {
		for _, end := range t.ends {
			end()
		}
	}
	if t.last == nil {
		over()
		return
	}
	t.last.whenOver(over)
}

// failed returns the error of a statement as the program gets it. One that was interrupted outside
// of a transaction may have had its effect (sql 6).
func (s *statements) failed(err error) error {
	if e, cut := err.(*interrupted); cut {
		e.unknown = s.lane == nil || !s.lane.inTx
	}
	return s.lane.explain(err)
}

// driverContext returns the context that the driver gets: with the values of ctx, and without its
// loop. It ends only by end (sql 4).
func driverContext(ctx context.Context) (inside context.Context, end context.CancelCauseFunc) {
	return context.WithCancelCause(context.WithoutCancel(asyncio.Outside(ctx)))
}

// do runs call on a goroutine, in a turn, and suspends the calling task. undo puts a result in
// order that comes when the task has gone on.
func do[T any](ctx context.Context, w way, what string, call func(ctx context.Context) (T, error), undo func(T)) (T, error) {
	var v, zero T
	s := w.base()
	t, err := w.enter(ctx, what, false)
	if err != nil {
		return zero, err
	}
	defer t.leave()
	inside, end := driverContext(ctx)
	defer end(nil)
	o := t.begins(s.db.newOperation(func() (err error) { v, err = call(inside); return err }, nil, end))
	if undo != nil {
		o.undo = func() { undo(v) }
	}
	cut, err := o.perform(ctx)
	if err != nil {
		return zero, s.failed(err)
	}
	if cut != nil {
		asyncio.DeliverAgain(ctx, cut)
	}
	return v, nil
}

func execute(ctx context.Context, w way, call func(ctx context.Context) (sql.Result, error)) (sql.Result, error) {
	return do(ctx, w, "Exec", func(ctx context.Context) (sql.Result, error) {
		r, err := call(ctx)
		if err != nil {
			return nil, err
		}
		return resultOf(r), nil
	}, nil)
}

// A result is a sql.Result whose values have been asked for: database/sql locks the connection to
// ask, which could block the loop (sql 1).
type result struct {
	id, rows       int64
	idErr, rowsErr error
}

func resultOf(from sql.Result) *result {
	r := new(result)
	r.id, r.idErr = from.LastInsertId()
	r.rows, r.rowsErr = from.RowsAffected()
	return r
}

// askIdle is resultOf for a result whose connection is in the pool again, as that of a statement of
// the pool. Whoever has the connection next locks it, perhaps for long, and perhaps until the
// calling task has ended a transaction. The statement has succeeded, so neither that nor the end of
// ctx is an error of it.
func askIdle(ctx context.Context, from sql.Result) *result {
	answer := make(chan *result, 1)
	go func() {
		r := &result{idErr: asyncio.ErrGoexit, rowsErr: asyncio.ErrGoexit}
		defer func() {
			if v := recover(); v != nil {
				err := &asyncio.PanicError{Value: v, Stack: debug.Stack()}
				r = &result{idErr: err, rowsErr: err}
			}
			answer <- r
		}()
		r = resultOf(from)
	}()
	soon := time.NewTimer(askShortly)
	defer soon.Stop()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
	case <-soon.C:
	}
	return &result{idErr: errNotAsked, rowsErr: errNotAsked}
}

// askShortly is how long a statement that is done waits for the numbers of its result.
const askShortly = 100 * time.Millisecond

var errNotAsked = fmt.Errorf("%w: the statement has succeeded, but another one has the connection, so the driver cannot be asked about the result (asynciosql)", asyncio.ErrBusy)

// LastInsertId implements [sql.Result].
func (r *result) LastInsertId() (int64, error) { return r.id, r.idErr }

// RowsAffected implements [sql.Result].
func (r *result) RowsAffected() (int64, error) { return r.rows, r.rowsErr }
