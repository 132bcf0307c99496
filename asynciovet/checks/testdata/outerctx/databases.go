package outerctx

import (
	"context"

	"github.com/goasyncio/asyncio/asynciosql"
)

func database(ctx context.Context, db *asynciosql.DB) error {
	return db.InTx(ctx, nil, func(inside context.Context, tx *asynciosql.Tx) error {
		_, err := tx.Exec(ctx, "delete from users") // want `ctx is the ctx of outerctx.database`
		return err
	})
}
