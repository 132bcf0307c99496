package asynciosql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// A Tx is a transaction while its body runs. [DB.InTx] and [Conn.InTx] make it. Its methods are for
// the tasks of one loop, one at a time; a second gets [asyncio.ErrBusy]. When the body has returned
// they fail with [sql.ErrTxDone].
type Tx struct {
	statements
	tx   *sql.Tx
	conn *sql.Conn
	own  bool // conn goes back to the pool with the end of the transaction
	turn *turn
	// The context of the transaction: database/sql rolls back when it ends, and some drivers give
	// up a commit or a rollback.
	ctx context.Context
	end context.CancelCauseFunc
	// whether the connection is fit for more, once the transaction is over; belongs to the
	// goroutine until then
	fit bool
}

// txKey is the key for the transaction that a context belongs to.
type txKey struct{ pool *sql.DB }

// InTx runs body in a transaction, which takes a place of the DB. opts may be nil. If body returns
// nil the transaction is committed; if it returns an error, panics, exits or is cancelled it is
// rolled back, whatever has become of ctx.
//
//	const add = "update accounts set balance = balance + $1 where id = $2"
//	err := db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
//		if _, err := tx.Exec(ctx, add, -amount, from); err != nil {
//			return err
//		}
//		_, err := tx.Exec(ctx, add, amount, to)
//		return err
//	})
//
// If the transaction has been committed, InTx returns nil, even if a cancel comes meanwhile; the
// cancel is then delivered at the next await. An error that matches [ErrOutcomeUnknown] says that
// nobody has answered the commit. With any other error nothing has been committed. A rollback that
// fails costs the connection, and the database then rolls back by itself; that is no error of InTx.
//
// InTx must be called in a task and suspends until there is a place, a connection and the
// transaction, where body does, and until the end of the transaction. In a body's ctx, InTx of the
// same database is refused with [asyncio.ErrInvalidState], because the inner transaction would not
// be a part of the outer. Besides body's error it returns those of [DB.Query] and of the commit,
// and asyncio.ErrBusy if body leaves behind a task that is using the transaction. Python: async
// with connection.transaction(), of asyncpg.
func (d *DB) InTx(ctx context.Context, opts *sql.TxOptions, body func(ctx context.Context, tx *Tx) error) error {
	if err := d.checkTx(ctx, body); err != nil {
		return err
	}
	t, err := d.enter(ctx, "InTx", true)
	if err != nil {
		return err
	}
	defer t.leave()
	tx := &Tx{statements: statements{db: d, lane: &lane{loop: t.place.home.loop, inTx: true}}, own: true, turn: t}
	inside, end := driverContext(ctx)
	defer end(nil)
	return tx.run(ctx, end, func() error {
		return d.pool.again(inside, func(c *sql.Conn) (err error) {
			if tx.tx, err = c.BeginTx(tx.ctx, opts); err != nil {
				if tx.ctx.Err() != nil { // it may have begun
					discard(c)
				}
				_ = c.Close()
				return err
			}
			tx.conn = c
			return nil
		})
	}, body)
}

// InTx is [DB.InTx] on this connection, and needs no place of its own. Meanwhile the connection's
// own methods are refused with [asyncio.ErrBusy].
func (c *Conn) InTx(ctx context.Context, opts *sql.TxOptions, body func(ctx context.Context, tx *Tx) error) error {
	if c.db == nil {
		return errZero
	}
	if err := c.db.checkTx(ctx, body); err != nil {
		return err
	}
	t, err := c.enter(ctx, "InTx", true)
	if err != nil {
		return err
	}
	defer t.leave()
	tx := &Tx{statements: statements{db: c.db, lane: &lane{loop: c.lane.loop, inTx: true}}, turn: t, conn: c.conn}
	c.lane.inner = tx.lane
	defer func() { c.lane.inner = nil }()
	err = tx.run(ctx, nil, func() (err error) { tx.tx, err = c.conn.BeginTx(tx.ctx, opts); return err }, body)
	if t.last.behind || !tx.fit {
		c.broken = true
	}
	return err
}

func (d *DB) checkTx(ctx context.Context, body func(ctx context.Context, tx *Tx) error) error {
	switch {
	case ctx == nil || body == nil:
		return fmt.Errorf("%w: nil context or function (in InTx)", asyncio.ErrInvalidArgument)
	case ctx.Value(txKey{d.pool.DB}) != nil:
		return fmt.Errorf("%w: this ctx belongs to a transaction of the same database: use its Tx, or the ctx from outside for a transaction of its own (in InTx)", asyncio.ErrInvalidState)
	}
	return nil
}

// run begins the transaction, runs body and ends the transaction. end ends the wait for a
// connection. The BEGIN itself is not told of a cancel before the grace has passed: it is short,
// and database/sql would roll back behind our back.
func (tx *Tx) run(ctx context.Context, end context.CancelCauseFunc, begin func() error, body func(ctx context.Context, tx *Tx) error) error {
	tx.ctx, tx.end = driverContext(ctx)
	o := tx.turn.begins(tx.db.newOperation(func() error {
		err := begin()
		if err != nil {
			tx.end(nil)
		}
		return err
	}, func() { tx.rollback() }, end))
	o.endLate = tx.end
	cut, err := o.perform(ctx)
	if err != nil {
		return tx.turn.lane.explain(err)
	}
	tx.on = tx.tx
	tx.lane.last = o
	if cut != nil {
		tx.giveUp(ctx)
		return cut
	}
	commits := false
	defer func() {
		if !commits {
			tx.giveUp(ctx)
		}
	}()
	if err := body(context.WithValue(ctx, txKey{tx.db.pool.DB}, tx), tx); err != nil {
		return err
	}
	if err := tx.mayCommit(ctx); err != nil {
		return err
	}
	commits = true
	return tx.commit(ctx)
}

// Stmt returns stmt, a statement of the [DB], for use in the transaction, with whose end it is
// closed. It is for the loop only and does not suspend; its errors are those of the statement's
// methods.
func (tx *Tx) Stmt(stmt *Stmt) *Stmt {
	if stmt != nil && stmt.tx != nil {
		stmt = stmt.from
	}
	return &Stmt{of: &tx.statements, from: stmt, tx: tx}
}

func (tx *Tx) shut() {
	tx.lane.shut(fmt.Errorf("%w (asynciosql: the body of InTx has returned)", sql.ErrTxDone))
}

// mayCommit shuts the transaction after body has returned nil, and looks for reasons not to commit
// it.
func (tx *Tx) mayCommit(ctx context.Context) error {
	switch {
	case tx.lane.user != "":
		return fmt.Errorf("%w: the body of InTx has returned while another task used the transaction, which has been rolled back", asyncio.ErrBusy)
	case tx.lane.last.behind:
		return fmt.Errorf("%w: a statement of the transaction was interrupted, and the driver has not returned from it; nothing is committed", asyncio.ErrBusy)
	}
	tx.shut()
	return asyncio.Sleep(ctx, 0) // a cancel that is owed (sql 3)
}

// commit ends the transaction, which is shut (sql 7). The task has just resumed from an await.
func (tx *Tx) commit(ctx context.Context) error {
	o := tx.turn.begins(tx.db.newOperation(tx.commits, nil, nil))
	o.endLate = tx.end
	cut, err := o.perform(ctx)
	if o.job == nil { // the executor has refused it
		tx.giveUp(ctx)
		return err
	}
	if e, ok := err.(*interrupted); ok {
		u, open := e.driver.(*unanswered)
		if open {
			e.driver = u.err
		}
		e.unknown = open || e.driver == nil
	}
	if err == nil && cut != nil {
		asyncio.DeliverAgain(ctx, cut)
	}
	return tx.turn.lane.explain(err)
}

// commits is the goroutine's part of a commit (sql 7).
func (tx *Tx) commits() error {
	if tx.ctx.Err() != nil { // ended from outside: see lane.shut
		tx.rollback()
		return context.Cause(tx.ctx)
	}
	err := tx.tx.Commit()
	tx.fit = err == nil || answers(tx.ctx, tx.conn, tx.db)
	tx.give()
	if !tx.fit {
		return &unanswered{err}
	}
	return err
}

// give ends the transaction's context and gives the connection back to where it comes from.
func (tx *Tx) give() {
	tx.end(nil)
	if !tx.fit {
		discard(tx.conn)
	}
	if tx.own {
		_ = tx.conn.Close()
	}
}

// answers reports whether the connection still answers. It does so after a failed commit if the
// failure was the database's answer.
func answers(ctx context.Context, c *sql.Conn, d *DB) bool {
	var asks bool
	if c.Raw(func(driverConn any) error { _, asks = driverConn.(driver.Pinger); return nil }) != nil || !asks {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, d.grace)
	defer cancel()
	return c.PingContext(ctx) == nil
}

// giveUp rolls the transaction back, whatever has become of the task. A task that the body has left
// behind is interrupted.
func (tx *Tx) giveUp(ctx context.Context) {
	tx.shut()
	tx.lane.settle(ctx, tx.turn, tx.db.newOperation(func() error { tx.rollback(); return nil }, nil, tx.end))
}

// rollback is the goroutine's part of giveUp.
func (tx *Tx) rollback() {
	tx.fit = tx.tx.Rollback() == nil
	tx.give()
}
