package asynciosql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
	"github.com/goasyncio/asyncio/sim"
)

// example runs main with a database in this process, on virtual time.
func example(main func(ctx context.Context, pool *sql.DB) error) {
	pool := openServer(3).DB
	defer pool.Close()
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	if _, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error { return main(ctx, pool) })); err != nil {
		fmt.Println(err)
	}
}

func Example() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool)
		if _, err := db.Exec(ctx, "set greeting hello"); err != nil {
			return err
		}
		var greeting string
		if err := db.QueryRow(ctx, "get greeting").Scan(&greeting); err != nil {
			return err
		}
		fmt.Println(greeting)
		for row, err := range db.Query(ctx, "rows 2") {
			if err != nil {
				return err
			}
			var n int
			var text string
			if err := row.Scan(&n, &text); err != nil {
				return err
			}
			fmt.Println(n, text)
		}
		return nil
	})
	// Output:
	// hello
	// 0 row 0
	// 1 row 1
}

// A transaction takes effect as a whole, or not at all.
func ExampleDB_InTx() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool)
		move := func(ctx context.Context, fail error) error {
			return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				if _, err := tx.Exec(ctx, "set from 90"); err != nil {
					return err
				}
				if fail != nil {
					return fail // rolls back
				}
				_, err := tx.Exec(ctx, "set to 10")
				return err
			})
		}
		fmt.Println(move(ctx, errors.New("not enough money")))
		fmt.Println(db.QueryRow(ctx, "get from").Err())
		fmt.Println(move(ctx, nil))
		fmt.Println(db.QueryRow(ctx, "get from").Err())
		return nil
	})
	// Output:
	// not enough money
	// sql: no rows in result set
	// <nil>
	// <nil>
}

// Tasks wait for their place on the loop, so a thousand of them need no more connections than the
// pool has, and no goroutines while they wait.
func ExampleNew() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool) // as many places as the pool has connections: 3
		sum := 0                   // the tasks of a loop need no lock
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range 1000 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					var n int
					err := db.QueryRow(ctx, "echo", i).Scan(&n)
					sum += n
					return err
				})
			}
			return nil
		})
		fmt.Println(sum, err)
		return nil
	})
	// Output: 499500 <nil>
}

// A cancel ends the statement in the database too. Outside of a transaction it may have had its
// effect.
func ExampleErrOutcomeUnknown() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool)
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (sql.Result, error) {
			return db.Exec(ctx, "wait set a 1") // the database is slow
		})
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		task.Cancel("no time")
		_, err := task.Await(ctx)
		fmt.Println(errors.Is(err, asyncio.ErrCancelled), errors.Is(err, asynciosql.ErrOutcomeUnknown))
		return nil
	})
	// Output: true true
}

// What belongs to a session needs one connection for all of it.
func ExampleDB_OnConn() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool)
		return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			if _, err := c.Exec(ctx, "let red"); err != nil {
				return err
			}
			var connection int
			var variable string
			err := c.QueryRow(ctx, "session").Scan(&connection, &variable)
			fmt.Println(variable)
			if err != nil {
				return err
			}
			_, err = c.Exec(ctx, "let -") // the next user of the connection must not find it
			return err
		})
	})
	// Output: red
}

// A statement that is run often can be prepared once, also for use in transactions.
func ExampleTx_Stmt() {
	example(func(ctx context.Context, pool *sql.DB) (err error) {
		db := asynciosql.New(pool)
		insert, err := db.Prepare(ctx, "set key value")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, insert.Close(ctx)) }()
		if _, err := insert.Exec(ctx); err != nil {
			return err
		}
		return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			r, err := tx.Stmt(insert).Exec(ctx)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			fmt.Println(n)
			return err
		})
	})
	// Output: 1
}

// Options are for databases that are slower, or rows that are larger, than usual.
func ExampleGrace() {
	example(func(ctx context.Context, pool *sql.DB) error {
		db := asynciosql.New(pool, asynciosql.Limit(2), asynciosql.Grace(time.Second), asynciosql.BatchRows(10))
		err := db.Ping(ctx)
		fmt.Println(err)
		return err
	})
	// Output: <nil>
}
