package droppederror

import (
	"context"

	"github.com/goasyncio/asyncio/asynciosql"
)

func database(ctx context.Context, db *asynciosql.DB, stmt *asynciosql.Stmt) error {
	defer stmt.Close(ctx)
	db.Ping(ctx)                        // want `the error of asynciosql.DB.Ping is dropped`
	db.Exec(ctx, "delete from users")   // want `the error of asynciosql.DB.Exec is dropped`
	db.InTx(ctx, nil, deletes)          // want `the error of asynciosql.DB.InTx is dropped`
	db.QueryRow(ctx, "select 1").Scan() // no await
	return nil
}

func deletes(ctx context.Context, tx *asynciosql.Tx) error {
	_, err := tx.Exec(ctx, "delete from users")
	return err
}
