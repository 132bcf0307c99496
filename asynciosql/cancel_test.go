package asynciosql_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// statements run "WORDS set a 1" or, if they are queries, "WORDS get seed", in each way that there
// is.
var statements = map[string]func(ctx context.Context, db *asynciosql.DB, words string) error{
	"Exec": func(ctx context.Context, db *asynciosql.DB, words string) error {
		_, err := db.Exec(ctx, words+" set a 1")
		return err
	},
	"QueryRow": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.QueryRow(ctx, words+" get seed").Err()
	},
	"Query": func(ctx context.Context, db *asynciosql.DB, words string) error {
		for _, err := range db.Query(ctx, words+" get seed") {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Prepare": func(ctx context.Context, db *asynciosql.DB, words string) error {
		stmt, err := db.Prepare(ctx, "prepare "+words+" get seed")
		if err == nil {
			err = stmt.Close(ctx)
		}
		return err
	},
	"Stmt.Exec": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return prepared(ctx, db, words+" set a 1", func(stmt *asynciosql.Stmt) error {
			_, err := stmt.Exec(ctx)
			return err
		})
	},
	"Stmt.QueryRow": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return prepared(ctx, db, words+" get seed", func(stmt *asynciosql.Stmt) error { return stmt.QueryRow(ctx).Err() })
	},
	"Stmt.Query": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return prepared(ctx, db, words+" get seed", func(stmt *asynciosql.Stmt) error {
			for _, err := range stmt.Query(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	},
	"Conn.Exec": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			_, err := c.Exec(ctx, words+" set a 1")
			return err
		})
	},
	"Conn.Raw": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			return c.Raw(ctx, func(ctx context.Context, driverConn any) error {
				_, err := driverConn.(*fakeConn).ExecContext(ctx, words+" set a 1", nil)
				return err
			})
		})
	},
	"Tx.Exec": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			_, err := tx.Exec(ctx, words+" set a 1")
			return err
		})
	},
	"Tx.Query": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			for _, err := range tx.Query(ctx, words+" get seed") {
				if err != nil {
					return err
				}
			}
			return nil
		})
	},
	"Tx.Stmt": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return prepared(ctx, db, words+" set a 1", func(stmt *asynciosql.Stmt) error {
			return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				_, err := tx.Stmt(stmt).Exec(ctx)
				return err
			})
		})
	},
	"Conn.InTx": func(ctx context.Context, db *asynciosql.DB, words string) error {
		return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			return c.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				_, err := tx.Exec(ctx, words+" set a 1")
				return err
			})
		})
	},
}

func prepared(ctx context.Context, db *asynciosql.DB, query string, use func(stmt *asynciosql.Stmt) error) (err error) {
	stmt, err := db.Prepare(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close(ctx)) }()
	return use(stmt)
}

// A stop ends a task in one of the two ways (design 2).
type stop struct {
	name string
	run  func(ctx context.Context, fn func(ctx context.Context) error) (task *aTask, stop func())
	want error
}

type aTask = asyncio.Task[asyncio.None]

var errStopped = errors.New("the context has ended")

var stops = []stop{
	{"a cancel", func(ctx context.Context, fn func(ctx context.Context) error) (*aTask, func()) {
		task := start(ctx, fn)
		return task, func() { task.Cancel("stop") }
	}, asyncio.ErrCancelled},
	{"the end of ctx", func(ctx context.Context, fn func(ctx context.Context) error) (*aTask, func()) {
		inner, cancel := context.WithCancelCause(ctx)
		return start(inner, fn), func() { cancel(errStopped) }
	}, errStopped},
}

// each runs a test for each statement that fits and each way to stop, on a server with one
// connection.
func each(t *testing.T, fits func(name string) bool, test func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, name string, statement func(ctx context.Context, words string) error, by stop) error) {
	for name, statement := range statements {
		if !fits(name) {
			continue
		}
		for _, by := range stops {
			t.Run(name+" and "+by.name, func(t *testing.T) {
				s := newServer(t, 1)
				s.table["seed"] = "0"
				run(t, func(ctx context.Context) error {
					db := asynciosql.New(s.DB)
					err := test(t, ctx, s, db, name, func(ctx context.Context, words string) error { return statement(ctx, db, words) }, by)
					s.works(t, ctx, db)
					return err
				})
			})
		}
	}
}

// works checks that the pool answers, on as many connections as it has at a time.
func (s *server) works(t *testing.T, ctx context.Context, db *asynciosql.DB) {
	t.Helper()
	must(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for i := range s.Stats().MaxOpenConnections {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					var got int
					err := tx.QueryRow(ctx, "echo", i).Scan(&got)
					is(t, "echo", got, i)
					return err
				})
			})
		}
		return nil
	}))
}

func anyStatement(string) bool { return true }

func isTx(name string) bool { return strings.HasPrefix(name, "Tx.") || name == "Conn.InTx" }

// hasEffect reports whether a statement changes the table.
func hasEffect(name string) bool { return !strings.Contains(name, "Query") && name != "Prepare" }

// sql 3: a cancel that is owed comes before the operation begins. (The end of ctx is found by the
// same await.)
func TestCancel_Owed(t *testing.T) {
	each(t, anyStatement, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, name string, statement func(ctx context.Context, words string) error, by stop) error {
		var stopMe func()
		task, stopMe := by.run(ctx, func(ctx context.Context) error {
			stopMe()
			err := statement(ctx, "wait")
			known(t, err)
			return err
		})
		matches(t, result(ctx, task), by.want)
		is(t, "the table", s.has(), "seed")
		is(t, "statements that arrived", len(s.entered), 0)
		return nil
	})
}

// sql 2, sql 3: a task that waits for its place has done nothing.
func TestCancel_WaitsForAPlace(t *testing.T) {
	each(t, anyStatement, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, name string, statement func(ctx context.Context, words string) error, by stop) error {
		first := start(ctx, func(ctx context.Context) error { _, err := db.Exec(ctx, "wait set first 1"); return err })
		s.enters(t, ctx, "set first 1")
		task, stop := by.run(ctx, func(ctx context.Context) error {
			err := statement(ctx, "wait")
			known(t, err)
			return err
		})
		for range 3 { // it has begun to wait
			must(t, asyncio.Sleep(ctx, 0))
		}
		stop()
		matches(t, result(ctx, task), by.want)
		s.goes(t, ctx)
		must(t, result(ctx, first))
		is(t, "the table", s.has(), "first seed")
		return nil
	})
}

// sql 4, sql 6: in the midst, before the effect and after it.
func TestCancel_InTheMidst(t *testing.T) {
	for words, effect := range map[string]bool{"wait": false, "after": true} {
		fits := anyStatement
		if effect {
			fits = hasEffect
		}
		t.Run(words, func(t *testing.T) {
			each(t, fits, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, name string, statement func(ctx context.Context, words string) error, by stop) error {
				task, stop := by.run(ctx, func(ctx context.Context) error { return statement(ctx, words) })
				if _, _, err := asyncio.Recv(ctx, s.entered); err != nil {
					return err
				}
				stop()
				err := result(ctx, task)
				matches(t, err, by.want)
				is(t, "Cancelled", task.Cancelled(), by.want == asyncio.ErrCancelled)
				if isTx(name) {
					known(t, err)
					is(t, "the table", s.has(), "seed")
				} else {
					matches(t, err, asynciosql.ErrOutcomeUnknown)
					is(t, "the table", s.has(), map[bool]string{false: "seed", true: "a seed"}[effect])
				}
				return nil
			})
		})
	}
}

// sql 4: the operation succeeds although it was interrupted. Its result counts, and the cancel
// comes at the next await.
func TestCancel_SucceedsAllTheSame(t *testing.T) {
	// The next await of the others is their own.
	alone := func(name string) bool { return !isTx(name) }
	each(t, alone, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, name string, statement func(ctx context.Context, words string) error, by stop) error {
		task, stop := by.run(ctx, func(ctx context.Context) error {
			if err := statement(ctx, "late"); err != nil {
				return errors.Join(errors.New("failed"), err)
			}
			return asyncio.Sleep(ctx, time.Hour)
		})
		if _, _, err := asyncio.Recv(ctx, s.entered); err != nil {
			return err
		}
		stop()
		must(t, asyncio.Sleep(ctx, 0))
		s.goes(t, ctx)
		err := result(ctx, task)
		matches(t, err, by.want)
		if !hasEffect(name) && errors.Is(err, asynciosql.ErrOutcomeUnknown) {
			return nil // sql.Rows has been closed by its own watch over the context
		}
		is(t, "the error", err.Error(), map[bool]string{true: "asyncio: cancelled: stop (by Task-1)", false: errStopped.Error()}[by.want == asyncio.ErrCancelled])
		is(t, "Cancelling", task.Cancelling(), map[bool]int{true: 1}[by.want == asyncio.ErrCancelled])
		return nil
	})
}

// sql 5: a driver that heeds no context holds its task for the grace, and its place for longer.
func TestCancel_DeafDriver(t *testing.T) {
	for name, statement := range statements {
		for _, by := range stops {
			t.Run(name+" and "+by.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, 1)
					s.table["seed"] = "0"
					reported, err := runReporting(t, real, func(ctx context.Context) error {
						db := asynciosql.New(s.DB, asynciosql.Grace(3*time.Second))
						task, stop := by.run(ctx, func(ctx context.Context) error { return statement(ctx, db, "deaf") })
						if _, _, err := asyncio.Recv(ctx, s.entered); err != nil {
							return err
						}
						before := time.Now()
						stop()
						err := result(ctx, task)
						matches(t, err, by.want)
						if took := time.Since(before); took != 3*time.Second {
							t.Errorf("took %v", took)
						}
						if !isTx(name) {
							matches(t, err, asynciosql.ErrOutcomeUnknown)
						} else {
							known(t, err)
						}
						next := start(ctx, func(ctx context.Context) error { _, err := db.Exec(ctx, "set b 1"); return err })
						must(t, asyncio.Sleep(ctx, time.Hour))
						is(t, "the next has the place", next.Done(), false)
						s.goes(t, ctx)
						must(t, result(ctx, next))
						is(t, "the table", s.has(), "b seed")
						s.works(t, ctx, db)
						return nil
					})
					must(t, err)
					is(t, "reports", len(reported), 1)
					s.SetMaxIdleConns(0)
				})
			})
		}
	}
}

// A limit around a statement ends it, and the task goes on with others.
func TestCancel_OfALimitInside(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		for range 3 {
			err := asyncio.FailAfter(ctx, 0, func(ctx context.Context) error {
				_, err := db.Exec(ctx, "wait set a 1")
				return err
			})
			matches(t, err, asyncio.ErrTimeout)
			for range 3 {
				_, err = db.Exec(ctx, "set b 1")
				must(t, err)
			}
		}
		// in a transaction
		err := db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			inner, cancel := context.WithCancel(ctx)
			task := start(inner, func(ctx context.Context) error { _, err := tx.Exec(ctx, "wait set c 1"); return err })
			s.enters(t, ctx, "set c 1")
			cancel()
			matches(t, result(ctx, task), context.Canceled)
			return insert("d")(ctx, tx)
		})
		if err == nil {
			t.Error("commits on a broken connection")
		}
		is(t, "table", s.has(), "b")
		// in a Cleanup
		task := start(ctx, func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel()
			err := asyncio.Cleanup(ctx, time.Second, func(ctx context.Context) error { return db.InTx(ctx, nil, insert("e")) })
			must(t, err)
			return asyncio.Sleep(ctx, time.Hour)
		})
		matches(t, result(ctx, task), asyncio.ErrCancelled)
		is(t, "table", s.has(), "b e")
		s.works(t, ctx, db)
		return nil
	})
}

// Two cancels while a driver takes its time, and succeeds: they are delivered as one, as asyncio
// does it.
func TestCancel_Twice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 1)
		_, err := runReporting(t, real, func(ctx context.Context) error {
			db := asynciosql.New(s.DB, asynciosql.Grace(3*time.Second))
			var got [3]error
			task := start(ctx, func(ctx context.Context) error {
				_, got[0] = db.Exec(ctx, "late set a 1")
				got[1] = asyncio.Sleep(ctx, time.Second)
				got[2] = asyncio.Sleep(ctx, time.Second)
				return nil
			})
			s.enters(t, ctx, "set a 1")
			task.Cancel("one")
			must(t, asyncio.Sleep(ctx, time.Second))
			task.Cancel("two")
			must(t, asyncio.Sleep(ctx, time.Second))
			s.goes(t, ctx)
			must(t, result(ctx, task))
			must(t, got[0])
			matches(t, got[1], asyncio.ErrCancelled)
			must(t, got[2])
			is(t, "Cancelling", task.Cancelling(), 2)
			return nil
		})
		must(t, err)
	})
}
