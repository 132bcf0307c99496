package asynciosql_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// onlyDestroyed is an exception handler that expects a destroyed task and nothing else.
func onlyDestroyed(t *testing.T) func(*asyncio.EventLoop, asyncio.ExceptionContext) {
	return func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
		if c.Message != "Task was destroyed but it is pending!" {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
}

// sql 10: a loop that closes leaves the database in order.
func TestDB_LoopCloses(t *testing.T) {
	for name, statement := range statements {
		for _, words := range []string{"wait", "deaf", "late"} {
			t.Run(name+" "+words, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, 1)
					s.table["seed"] = "0"
					l := asyncio.NewEventLoop(t.Context())
					l.SetExceptionHandler(onlyDestroyed(t))
					_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
						start(ctx, func(ctx context.Context) error { return statement(ctx, asynciosql.New(s.DB), words) })
						_, _, err := asyncio.Recv(ctx, s.entered)
						return err
					}))
					must(t, err)
					must(t, l.Close())
					if words != "wait" {
						s.goOn <- struct{}{}
					}
					synctest.Wait()
					is(t, "connections in use", s.Stats().InUse, 0)
					want := "seed"
					if words == "late" && !isTx(name) && hasEffect(name) {
						want = "a seed"
					}
					is(t, "the table", s.has(), want)
				})
			})
		}
	}
}

// The same while the body waits for something else.
func TestDB_LoopClosesInTheBody(t *testing.T) {
	for name, hold := range map[string]func(ctx context.Context, db *asynciosql.DB, body func() error) error{
		"InTx": func(ctx context.Context, db *asynciosql.DB, body func() error) error {
			return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				return errors.Join(insert("a")(ctx, tx), body())
			})
		},
		"OnConn": func(ctx context.Context, db *asynciosql.DB, body func() error) error {
			return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
				_, err := c.Prepare(ctx, "get a")
				return errors.Join(err, body())
			})
		},
		"Conn.InTx": func(ctx context.Context, db *asynciosql.DB, body func() error) error {
			return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
				return c.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					return errors.Join(insert("a")(ctx, tx), body())
				})
			})
		},
		"Query": func(ctx context.Context, db *asynciosql.DB, body func() error) error {
			for _, err := range db.Query(ctx, "rows 1000") {
				return errors.Join(err, body())
			}
			return nil
		},
		"Tx.Query": func(ctx context.Context, db *asynciosql.DB, body func() error) error {
			return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				for _, err := range tx.Query(ctx, "rows 1000") {
					return errors.Join(err, body())
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				l := asyncio.NewEventLoop(t.Context())
				l.SetExceptionHandler(onlyDestroyed(t))
				_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
					var inside asyncio.Event
					start(ctx, func(ctx context.Context) error {
						return hold(ctx, asynciosql.New(s.DB), func() error { inside.Set(); return asyncio.Sleep(ctx, time.Hour) })
					})
					return inside.Wait(ctx)
				}))
				must(t, err)
				is(t, "connections in use", s.Stats().InUse, 1)
				must(t, l.Close())
				synctest.Wait()
				is(t, "connections in use", s.Stats().InUse, 0)
				is(t, "the table", s.has(), "")
				var one int
				must(t, s.DB.QueryRow("echo", 1).Scan(&one))
			})
		})
	}
}

// The same while a commit lets other tasks run: it has not begun.
func TestInTx_LoopClosesBeforeTheCommit(t *testing.T) {
	for _, with := range transactors {
		t.Run(with.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				l := asyncio.NewEventLoop(t.Context())
				l.SetExceptionHandler(onlyDestroyed(t))
				start(l.Context(), func(ctx context.Context) error {
					return with.inTx(ctx, asynciosql.New(s.DB), nil, func(ctx context.Context, tx *asynciosql.Tx) error {
						err := insert("a")(ctx, tx)
						l.Stop()
						return err
					})
				})
				must(t, l.RunForever())
				must(t, l.Close())
				synctest.Wait()
				is(t, "connections in use", s.Stats().InUse, 0)
				is(t, "the table", s.has(), "")
			})
		})
	}
}

// A commit that has begun goes on, and its connection comes back.
func TestInTx_LoopClosesInTheCommit(t *testing.T) {
	for _, with := range transactors {
		for words, there := range map[string]bool{"wait": false, "late": true, "after": true, "wait fail": false} {
			for _, goes := range []bool{true, false} {
				if !goes && words == "late" {
					continue
				}
				t.Run(fmt.Sprint(with.name, words, goes), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newServer(t, 1)
						s.commit = words
						l := asyncio.NewEventLoop(t.Context())
						l.SetExceptionHandler(onlyDestroyed(t))
						_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
							start(ctx, func(ctx context.Context) error {
								return with.inTx(ctx, asynciosql.New(s.DB), nil, insert("a"))
							})
							_, _, err := asyncio.Recv(ctx, s.entered)
							return err
						}))
						must(t, err)
						closing := time.Now()
						must(t, l.Close())
						if goes {
							s.goOn <- struct{}{}
						} else {
							<-s.closed
							is(t, "took", time.Since(closing), 5*time.Second) // the grace
						}
						synctest.Wait()
						is(t, "connections in use", s.Stats().InUse, 0)
						want := ""
						if there || goes && words == "wait" {
							want = "a"
						}
						is(t, "the table", s.has(), want)
					})
				})
			}
		}
	}
}

// Statements that tasks close when a loop unwinds them are closed in the database.
func TestStmt_LoopCloses(t *testing.T) {
	for name, use := range map[string]func(ctx context.Context, stmt *asynciosql.Stmt, inside func() error) error{
		"idle": func(ctx context.Context, stmt *asynciosql.Stmt, inside func() error) error { return inside() },
		"in a range": func(ctx context.Context, stmt *asynciosql.Stmt, inside func() error) error {
			for range stmt.Query(ctx) {
				return inside()
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				l := asyncio.NewEventLoop(t.Context())
				l.SetExceptionHandler(onlyDestroyed(t))
				_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
					var inside asyncio.Event
					start(ctx, func(ctx context.Context) error {
						stmt, err := asynciosql.New(s.DB).Prepare(ctx, "rows 1000")
						must(t, err)
						defer func() { matches(t, stmt.Close(ctx), asyncio.ErrLoopClosed) }()
						return use(ctx, stmt, func() error { inside.Set(); return asyncio.Sleep(ctx, time.Hour) })
					})
					return inside.Wait(ctx)
				}))
				must(t, err)
				must(t, l.Close())
				synctest.Wait()
				is(t, "statements that are not closed", s.prepared, 0)
			})
		})
	}
}

// So is a sql.DB.
func TestDB_CloseByAClosingLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 1)
		l := asyncio.NewEventLoop(t.Context())
		l.SetExceptionHandler(onlyDestroyed(t))
		start(l.Context(), func(ctx context.Context) error {
			db := asynciosql.New(s.DB)
			defer func() { matches(t, db.Close(ctx), asyncio.ErrLoopClosed) }()
			must(t, db.Ping(ctx))
			l.Stop()
			return asyncio.Sleep(ctx, time.Hour)
		})
		must(t, l.RunForever())
		must(t, l.Close())
		synctest.Wait()
		now, _ := s.open()
		is(t, "open connections", now, 0)
	})
}
