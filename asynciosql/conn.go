package asynciosql

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// A Conn is one connection of the pool that a body has to itself, for what belongs to a session:
// settings, temporary tables, advisory locks. [DB.OnConn] makes it. Its methods are for the tasks
// of one loop, one at a time; a second gets [asyncio.ErrBusy]. When the body has returned they fail
// with [sql.ErrConnDone].
type Conn struct {
	statements
	conn   *sql.Conn
	broken bool // not to be used again
}

// OnConn runs body with a connection of its own, which takes a place of the DB. If body returns
// nil, the connection goes back to the pool as body has left it: settings are body's to undo. If
// body fails, panics or is cancelled, it may not have done so, and the connection is closed.
//
// OnConn must be called in a task and suspends until there is a place and a connection, where body
// does, and until the connection is back. Besides body's error it returns those of [DB.Query].
func (d *DB) OnConn(ctx context.Context, body func(ctx context.Context, c *Conn) error) (err error) {
	if body == nil {
		return fmt.Errorf("%w: nil function (in OnConn)", asyncio.ErrInvalidArgument)
	}
	t, err := d.enter(ctx, "OnConn", true)
	if err != nil {
		return err
	}
	defer t.leave()
	c := &Conn{statements: statements{db: d, lane: &lane{loop: t.place.home.loop, open: make(map[*sql.Stmt]struct{})}}}
	inside, end := driverContext(ctx)
	defer end(nil)
	o := t.begins(d.newOperation(func() (err error) { c.conn, err = d.pool.Conn(inside); return err }, func() { _ = c.conn.Close() }, end))
	cut, err := o.perform(ctx)
	if err != nil {
		return err
	}
	if cut != nil {
		asyncio.DeliverAgain(ctx, cut)
	}
	c.on = c.conn
	fine := false
	defer func() {
		idle := c.lane.shut(fmt.Errorf("%w (asynciosql: the body of OnConn has returned)", sql.ErrConnDone))
		if !idle && err == nil {
			err = fmt.Errorf("%w: the body of OnConn has returned while another task used the connection", asyncio.ErrBusy)
		}
		keep := fine && idle && !c.broken
		c.lane.settle(ctx, t, d.newOperation(func() error {
			for stmt := range c.lane.open {
				_ = stmt.Close() // the connection would keep it
			}
			if !keep {
				discard(c.conn)
			}
			_ = c.conn.Close()
			return nil
		}, nil, nil))
	}()
	err = body(ctx, c)
	fine = err == nil
	return err
}

// Raw calls fn, on a goroutine, with the driver's connection, as [sql.Conn.Raw] does: for what only
// the driver can do, such as pgx's CopyFrom. fn must not touch the loop. fn's ctx ends when the
// task is cancelled or ctx ends. Raw must be called in a task, and suspends it. Errors are fn's and
// those of [DB.Query].
func (c *Conn) Raw(ctx context.Context, fn func(ctx context.Context, driverConn any) error) error {
	if fn == nil {
		return fmt.Errorf("%w: nil function (in Raw)", asyncio.ErrInvalidArgument)
	}
	_, err := do(ctx, &c.statements, "Raw", func(ctx context.Context) (asyncio.None, error) {
		return asyncio.None{}, c.conn.Raw(func(driverConn any) error { return fn(ctx, driverConn) })
	}, nil)
	return err
}
