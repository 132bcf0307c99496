package asynciosql

import (
	"context"
	"database/sql"
	"iter"
	"time"

	"github.com/goasyncio/asyncio"
)

const (
	firstBatch = 16       // rows
	batchBytes = 64 << 10 // a batch ends with the row that reaches this

	// closeGently is how long the rest of the rows may take that a driver reads, or has the server
	// stop, when a range on the pool is left early. After that it is cheaper to open a new
	// connection.
	closeGently = 100 * time.Millisecond
)

// A cursor is a query that is being ranged over (sql 9).
type cursor struct {
	s    *statements
	turn *turn
	open func(ctx context.Context) (*sql.Rows, error)
	ctx  context.Context // the driver's, for the whole query
	end  context.CancelCauseFunc
	size int // rows in the next batch

	rows    *sql.Rows // nil before the first batch, and when all rows are there
	columns []string
	started bool
	cut     error // what has ended ctx while a batch came all the same
}

// A batch is some rows of a query.
type batch struct {
	rows    []Row
	columns []string
	open    *sql.Rows // nil if these were the last
	err     error     // comes after the rows
}

func rangeOver(ctx context.Context, w way, open func(ctx context.Context) (*sql.Rows, error)) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		s := w.base()
		t, err := w.enter(ctx, "a query", true)
		if err != nil {
			yield(nil, err)
			return
		}
		c := &cursor{s: s, turn: t, open: open, size: min(firstBatch, s.db.batch)}
		c.ctx, c.end = driverContext(ctx)
		left := false
		leave := func() {
			if !left {
				left = true
				c.close(ctx)
				t.leave()
			}
		}
		defer leave()
		for {
			b, err := c.fetch(ctx)
			if err != nil {
				leave()
				yield(nil, err)
				return
			}
			if b.open == nil && t.lane == nil {
				leave() // the pool has the connection back
			}
			for i := range b.rows {
				if !yield(&b.rows[i], nil) {
					return
				}
			}
			if b.open == nil {
				leave()
				if b.err != nil {
					yield(nil, b.err)
				}
				return
			}
		}
	}
}

// fetch suspends the calling task until the next batch is there.
func (c *cursor) fetch(ctx context.Context) (*batch, error) {
	if c.started { // the first follows the yield of enter
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return nil, err
		}
		if l := c.turn.lane; l != nil && l.over != nil {
			return nil, l.over
		}
	}
	c.started = true
	b := &batch{open: c.rows, columns: c.columns}
	size := c.size
	o := c.turn.begins(c.s.db.newOperation(func() error { return b.fill(c.ctx, c.open, size) }, func() { b.close() }, c.end))
	cut, err := o.perform(ctx)
	if err != nil {
		c.rows = nil // the goroutine closes what is open
		if _, ok := err.(*interrupted); !ok && c.cut != nil {
			err = &interrupted{cause: c.cut, driver: err}
		}
		return nil, c.s.failed(err)
	}
	if cut != nil {
		c.cut = cut
		asyncio.DeliverAgain(ctx, cut)
	}
	c.rows, c.columns = b.open, b.columns
	c.size = min(2*size, c.s.db.batch)
	return b, nil
}

// close closes what is open and ends the driver's context.
func (c *cursor) close(ctx context.Context) {
	if rows := c.rows; rows != nil {
		c.rows = nil
		gently := closeGently
		if c.turn.lane != nil { // the connection is not only ours to give up
			gently = c.s.db.grace
		}
		o := c.turn.begins(c.s.db.newOperation(rows.Close, nil, c.end))
		o.finish(ctx, gently)
	}
	c.end(nil)
}

// fill gets rows, up to size, on a goroutine. An error means that nothing is open any more. An
// error behind rows is kept for later.
func (b *batch) fill(ctx context.Context, open func(ctx context.Context) (*sql.Rows, error), size int) error {
	returned := false
	defer func() {
		if !returned { // a panic of the driver
			b.close()
		}
	}()
	err := b.get(ctx, open, size)
	returned = true
	return err
}

func (b *batch) get(ctx context.Context, open func(ctx context.Context) (*sql.Rows, error), size int) (err error) {
	if b.open == nil {
		if b.open, err = open(ctx); err != nil {
			return err
		}
		if b.columns, err = b.open.Columns(); err != nil {
			b.close()
			return err
		}
	}
	n := len(b.columns)
	dest := make([]any, n)
	for bytes := 0; len(b.rows) < size && bytes < batchBytes; {
		if !b.open.Next() {
			b.err = b.open.Err()
			if err := b.close(); b.err == nil {
				b.err = err
			}
			break
		}
		values := make([]any, n)
		for i := range dest {
			dest[i] = &values[i]
		}
		if b.err = b.open.Scan(dest...); b.err != nil {
			b.close()
			break
		}
		for _, v := range values {
			bytes += sizeOf(v)
		}
		b.rows = append(b.rows, Row{columns: b.columns, values: values})
	}
	if b.err != nil && ctx.Err() != nil {
		return b.err // and not the rows before it: the task has been cancelled
	}
	if len(b.rows) == 0 {
		return b.err
	}
	return nil
}

func (b *batch) close() error {
	if b.open == nil {
		return nil
	}
	rows := b.open
	b.open = nil
	return rows.Close()
}

func sizeOf(v any) int {
	switch v := v.(type) {
	case []byte:
		return len(v)
	case string:
		return len(v)
	}
	return 8
}

func firstRow(ctx context.Context, w way, open func(ctx context.Context) (*sql.Rows, error)) *Row {
	row, err := do(ctx, w, "QueryRow", func(ctx context.Context) (*Row, error) {
		b := new(batch)
		if err := b.fill(ctx, open, 1); err != nil {
			return nil, err
		}
		err := b.err
		if e := b.close(); err == nil {
			err = e
		}
		if err != nil {
			return nil, err
		}
		if len(b.rows) == 0 {
			return nil, sql.ErrNoRows
		}
		return &b.rows[0], nil
	}, nil)
	if err != nil {
		return &Row{err: err}
	}
	return row
}
