package goroutine

import (
	"context"
	"database/sql"

	"github.com/goasyncio/asyncio/asynciosql"
)

// A DB of asynciosql is for tasks, a Row for anybody, and so is the sql.DB.
func database(ctx context.Context, pool *sql.DB, db *asynciosql.DB, stmt *asynciosql.Stmt) error {
	row := db.QueryRow(ctx, "select 1")
	go func() {
		var n int
		_ = row.Scan(&n)
		_, _ = pool.Exec("delete from users")
		_, _ = db.Exec(ctx, "delete from users") // want `asynciosql.DB.Exec suspends a task`
	}()
	return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
		go tx.Exec(ctx, "delete from users") // want `asynciosql.DB.Exec suspends a task`
		go func() { tx.Stmt(stmt) }()        // want `asynciosql.Tx.Stmt is for the loop only`
		return nil
	})
}
