package asynciosql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A pool is a sql.DB as a [runner].
type pool struct{ *sql.DB }

// ExecContext returns a result that needs the connection no more. Asking a plain one would wait for
// whoever has the connection next.
func (p pool) ExecContext(ctx context.Context, query string, args ...any) (r sql.Result, err error) {
	err = p.again(ctx, func(c *sql.Conn) error {
		defer c.Close()
		plain, err := c.ExecContext(ctx, query, args...)
		if err == nil {
			r = resultOf(plain)
		}
		return err
	})
	return r, err
}

// again runs fn on a connection, which fn keeps or closes. It does so on another one if the driver
// says that nothing has happened because the first was broken. sql.DB does the same in its methods.
func (p pool) again(ctx context.Context, fn func(c *sql.Conn) error) error {
	for i, attempts := 1, 0; ; i++ {
		c, err := p.Conn(ctx)
		if err != nil {
			return err
		}
		if err = fn(c); !errors.Is(err, driver.ErrBadConn) || i == attempts {
			return err
		}
		if attempts == 0 {
			// Each that is idle may be broken too, and sql.DB tries a new one only in its methods.
			attempts = 3 + p.Stats().Idle
		}
	}
}

// discard closes a connection for good: the pool must not have it back (sql 7). The driver's own
// error is of no interest.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
}
