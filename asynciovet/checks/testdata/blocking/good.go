package blocking

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciosql"
)

func pollAwaiting(ctx context.Context, url string, ready *asyncio.Event) error {
	for {
		resp, err := asynciohttp.Get(ctx, url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				ready.Set()
				return nil
			}
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

func count(ctx context.Context, db *asynciosql.DB) (n int, err error) {
	err = db.QueryRow(ctx, "select count(*) from jobs").Scan(&n)
	return n, err
}

func countInThread(ctx context.Context, db *sql.DB) (n int, err error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, "select count(*) from jobs").Scan(&n)
		return n, err
	})
}
