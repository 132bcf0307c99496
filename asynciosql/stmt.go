package asynciosql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/goasyncio/asyncio"
)

// A Stmt is a prepared statement, made by Prepare of a [DB], a [Conn] or a [Tx], where its methods
// take the same turns as those of its maker. It must be closed.
type Stmt struct {
	of   *statements
	stmt *sql.Stmt // nil before the first use of a statement of Tx.Stmt
	from *Stmt
	tx   *Tx

	users  int // turns that are not over
	closed bool
}

// on returns the statement of database/sql. It is called on goroutines (sql 1).
func (s *Stmt) on(ctx context.Context) *sql.Stmt {
	if s.stmt == nil {
		s.stmt = s.tx.tx.StmtContext(ctx, s.from.on(ctx))
	}
	return s.stmt
}

// base implements [way].
func (s *Stmt) base() *statements { return s.of }

// enter waits for a turn with the statement.
func (s *Stmt) enter(ctx context.Context, what string, holds bool) (*turn, error) {
	of := s.of
	if of == nil {
		of = new(statements) // which says so
	}
	t, err := of.enter(ctx, what, holds)
	if err != nil {
		return nil, err
	}
	for _, used := range s.chain() {
		switch {
		case used == nil || used.of == nil:
			err = errZero
		case used.of.db != of.db:
			err = fmt.Errorf("%w: a statement of another DB (in Tx.Stmt)", asyncio.ErrInvalidArgument)
		case used.closed:
			err = errStmtClosed
		}
		if err != nil {
			t.leave()
			return nil, err
		}
		used.users++
		t.ends = append(t.ends, used.used)
	}
	return t, nil
}

// chain returns the statement, and the one that it was made of by [Tx.Stmt].
func (s *Stmt) chain() []*Stmt {
	if s.tx == nil {
		return []*Stmt{s}
	}
	return []*Stmt{s, s.from}
}

// used ends a turn. If the statement has been closed meanwhile, the last turn closes it.
func (s *Stmt) used() {
	if s.users--; s.users == 0 && s.closed && s.of.lane == nil {
		_ = s.of.db.newOperation(s.stmt.Close, nil, nil).start(s.of.db.home.Load().loop.Context())
	}
}

// Query is [DB.Query] for the prepared statement.
func (s *Stmt) Query(ctx context.Context, args ...any) iter.Seq2[*Row, error] {
	return rangeOver(ctx, s, func(ctx context.Context) (*sql.Rows, error) { return s.on(ctx).QueryContext(ctx, args...) })
}

// QueryRow is [DB.QueryRow] for the prepared statement.
func (s *Stmt) QueryRow(ctx context.Context, args ...any) *Row {
	return firstRow(ctx, s, func(ctx context.Context) (*sql.Rows, error) { return s.on(ctx).QueryContext(ctx, args...) })
}

// Exec is [DB.Exec] for the prepared statement. The methods of the result return [asyncio.ErrBusy]
// if another statement has got the connection at once, and is not done with it soon.
func (s *Stmt) Exec(ctx context.Context, args ...any) (sql.Result, error) {
	return execute(ctx, s, func(ctx context.Context) (sql.Result, error) {
		r, err := s.on(ctx).ExecContext(ctx, args...)
		// Nobody else can have the connection in a lane, nor in a simulation.
		if err != nil || s.of.lane != nil || s.of.db.executor == nil {
			return r, err
		}
		return askIdle(ctx, r), nil
	})
}

// Close closes the statement: it cannot be used any more. A statement of the [DB] that is still in
// use is closed in the database when that is over. Close must be called in a task, and suspends it
// until the database has been told; neither a cancel nor the end of ctx interrupts that, but the
// grace limits it. Closing it again does nothing, nor does closing it after the body of its [Tx] or
// [Conn] has returned, which closes it too. If the Tx or Conn is in use Close returns
// [asyncio.ErrBusy]; for a call in the wrong place it returns the errors of [DB.Query].
func (s *Stmt) Close(ctx context.Context) error {
	closes, err := yield(ctx)
	if err != nil {
		return err
	}
	if s.of == nil {
		return errZero
	}
	l := s.of.lane
	switch {
	case s.closed:
		return nil
	case s.from != nil || l != nil && l.over != nil:
		s.closed = true // with its transaction or connection
		return nil
	case l == nil:
		s.closed = true
		if s.users > 0 && !closes { // a loop that closes does not hear of the end of a turn
			return nil
		}
		return s.of.db.close(ctx, &turn{}, s.stmt.Close)
	}
	if err := l.enter(ctx, "the closing of a statement"); err != nil {
		return err
	}
	t := &turn{lane: l}
	defer t.leave()
	s.closed = true
	delete(l.open, s.stmt)
	return s.of.db.close(ctx, t, s.stmt.Close)
}

var errStmtClosed = errors.New("asynciosql: the statement is closed")
