package asynciosql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

func TestDB_Statements(t *testing.T) {
	s := newServer(t, 2)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		r, err := db.Exec(ctx, "set a 1")
		must(t, err)
		n, err := r.RowsAffected()
		is(t, "RowsAffected", n, 1)
		must(t, err)
		_, err = r.LastInsertId()
		is(t, "LastInsertId", err, errFake)

		var v string
		must(t, db.QueryRow(ctx, "get a").Scan(&v))
		is(t, "a", v, "1")
		matches(t, db.QueryRow(ctx, "get b").Scan(&v), sql.ErrNoRows)
		matches(t, db.QueryRow(ctx, "fail get a").Err(), errFake)
		must(t, db.QueryRow(ctx, "rows 20").Scan(new(int), &v))
		is(t, "the first of many", v, "row 0")
		_, err = db.Exec(ctx, "fail set a 2")
		matches(t, err, errFake)
		known(t, err)
		must(t, db.Ping(ctx))
		s.works(t, ctx, db)
		must(t, db.Close(ctx))
		must(t, db.Close(ctx))
		for name, statement := range statements {
			if err := statement(ctx, db, ""); err == nil || err.Error() != "sql: database is closed" {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		return nil
	})
}

// A result must not ask the connection, which may be busy with something else (sql 1).
func TestExec_ResultDoesNotBlock(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		r, err := db.Exec(ctx, "set a 1")
		must(t, err)
		next := start(ctx, func(ctx context.Context) error { _, err := db.Exec(ctx, "wait set b 1"); return err })
		s.enters(t, ctx, "set b 1")
		n, err := r.RowsAffected() // would hang the loop
		is(t, "RowsAffected", n, 1)
		must(t, err)
		s.goes(t, ctx)
		return result(ctx, next)
	})
}

// The result of a prepared statement is asked for when the pool has the connection again. The
// statement has succeeded, whatever becomes of that.
func TestStmt_ResultOfABusyConnection(t *testing.T) {
	for _, by := range append(stops, stop{name: "nothing"}) {
		t.Run(by.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				_, err := runReporting(t, real, func(ctx context.Context) error {
					stmt, err := asynciosql.New(s.DB).Prepare(ctx, "set a 1")
					must(t, err)
					s.set(func() { s.mute = true })
					exec := func(ctx context.Context) error {
						r, err := stmt.Exec(ctx)
						if err != nil {
							return fmt.Errorf("not done: %w", err)
						}
						_, err = r.LastInsertId()
						matches(t, err, asyncio.ErrBusy)
						_, err = r.RowsAffected()
						matches(t, err, asyncio.ErrBusy)
						if by.run == nil {
							return nil
						}
						return asyncio.Sleep(ctx, time.Hour)
					}
					before, want := time.Now(), 100*time.Millisecond
					var task *aTask
					if by.run == nil {
						task = start(ctx, exec)
						s.enters(t, ctx, "result")
					} else {
						var stop func()
						task, stop = by.run(ctx, exec)
						s.enters(t, ctx, "result")
						stop()
						want = 0
					}
					err = result(ctx, task)
					if by.run == nil {
						must(t, err)
					} else {
						matches(t, err, by.want)
						is(t, "not done", strings.Contains(err.Error(), "not done"), false)
						known(t, err)
					}
					is(t, "took", time.Since(before), want)
					s.set(func() { s.mute = false })
					s.goes(t, ctx)
					return stmt.Close(ctx)
				})
				must(t, err)
			})
		})
	}
}

// As database/sql does, operations try again on another connection if theirs was stale.
func TestDB_StaleConnections(t *testing.T) {
	for name, statement := range statements {
		t.Run(name, func(t *testing.T) {
			const conns = 8
			s := newServer(t, conns)
			s.table["seed"] = "0"
			run(t, func(ctx context.Context) error {
				s.works(t, ctx, asynciosql.New(s.DB)) // opens them all
				s.set(func() { s.stale = s.opened })
				db := asynciosql.New(s.DB, asynciosql.Limit(1))
				err := statement(ctx, db, "")
				if strings.HasPrefix(name, "Conn.") {
					// OnConn is not told before its body uses the connection.
					matches(t, err, driver.ErrBadConn)
				} else {
					must(t, err)
				}
				return nil
			})
		})
	}
}

// driver.ErrBadConn where there is nothing to try again.
func TestDB_BadConnections(t *testing.T) {
	s := newServer(t, 2)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		for _, at := range []int{0, 5, 16, 20, 60} {
			n := 0
			var last error
			for _, err := range db.Query(ctx, fmt.Sprintf("rows 100 bad %d", at)) {
				if last = err; err == nil {
					n++
				}
			}
			matches(t, last, driver.ErrBadConn)
			is(t, "rows", n, at)
			is(t, "connections in use", s.Stats().InUse, 0)
		}
		_, err := db.Exec(ctx, "bad set a 1") // on each
		matches(t, err, driver.ErrBadConn)
		matches(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			_, err := tx.Exec(ctx, "bad set a 1")
			return err
		}), driver.ErrBadConn)
		s.set(func() { s.rollback = "bad" })
		is(t, "the error", db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error { return errFake }), errFake)
		s.set(func() { s.rollback = "" })
		is(t, "the table", s.has(), "")
		s.works(t, ctx, db)
		return nil
	})
}

func TestQuery_Range(t *testing.T) {
	s := newServer(t, 1)
	for _, n := range []int{0, 1, 15, 16, 17, 48, 1000} {
		for _, batch := range []int{1, 10, 256} {
			t.Run(fmt.Sprintf("%d rows by %d", n, batch), func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					db := asynciosql.New(s.DB, asynciosql.BatchRows(batch))
					query := db.Query(ctx, fmt.Sprint("rows ", n))
					for range 2 { // each range runs the query
						i := 0
						for row, err := range query {
							if err != nil {
								return err
							}
							var got int
							var text string
							must(t, row.Scan(&got, &text))
							is(t, "n", got, i)
							is(t, "text", text, fmt.Sprint("row ", i))
							i++
							must(t, asyncio.Sleep(ctx, time.Millisecond))
						}
						is(t, "rows", i, n)
					}
					s.works(t, ctx, db)
					return nil
				})
			})
		}
	}
}

// However a range is left, the rows are closed, before the statement after it begins.
func TestQuery_LeftEarly(t *testing.T) {
	errBody := errors.New("the body has failed")
	for name, leave := range map[string]func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) error{
		"break": func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) error {
			n := 0
			for range rows {
				if n++; n == at {
					break
				}
			}
			return nil
		},
		"return": func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) error {
			n := 0
			for range rows {
				if n++; n == at {
					return errBody
				}
			}
			return nil
		},
		"panic": func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) (err error) {
			defer func() { err = recover().(error) }()
			n := 0
			for range rows {
				if n++; n == at {
					panic(errBody)
				}
			}
			return nil
		},
		"cancel": func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) error {
			task := start(ctx, func(ctx context.Context) error {
				n := 0
				for _, err := range rows {
					if err != nil {
						return err
					}
					if n++; n == at {
						asyncio.CurrentTask(ctx).Cancel()
						if err := asyncio.Sleep(ctx, time.Second); err != nil {
							return err
						}
					}
				}
				return nil
			})
			err := result(ctx, task)
			if !errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asynciosql.ErrOutcomeUnknown) {
				return fmt.Errorf("not cancelled: %w", err)
			}
			return nil
		},
		"a cancel at the next batch": func(ctx context.Context, rows func(func(*asynciosql.Row, error) bool), at int) error {
			task := start(ctx, func(ctx context.Context) error {
				n := 0
				for _, err := range rows {
					if err != nil {
						return err
					}
					if n++; n == at {
						asyncio.CurrentTask(ctx).Cancel()
					}
				}
				return nil
			})
			err := result(ctx, task)
			if !errors.Is(err, asyncio.ErrCancelled) || errors.Is(err, asynciosql.ErrOutcomeUnknown) {
				return fmt.Errorf("not cancelled: %w", err)
			}
			return nil
		},
	} {
		for _, at := range []int{1, 16, 17, 100} {
			t.Run(fmt.Sprint(name, " at row ", at), func(t *testing.T) {
				s := newServer(t, 1)
				run(t, func(ctx context.Context) error {
					db := asynciosql.New(s.DB)
					_ = leave(ctx, db.Query(ctx, "rows 1000"), at)
					s.works(t, ctx, db)
					must(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
						if err := leave(ctx, tx.Query(ctx, "rows 1000"), at); err != nil && !errors.Is(err, errBody) {
							t.Error(err)
						}
						_, err := tx.Exec(ctx, "set a 1") // the transaction goes on
						return err
					}))
					is(t, "the table", s.has(), "a")
					_, ever := s.open()
					is(t, "connections ever", ever, 1)
					return nil
				})
			})
		}
	}
}

// sql 9: what is left of the rows may cost a connection of the pool, but not a transaction.
func TestQuery_TheRestTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 1)
		_, err := runReporting(t, real, func(ctx context.Context) error {
			db := asynciosql.New(s.DB)
			s.set(func() { s.closing = time.Second })
			must(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				for _, err := range tx.Query(ctx, "rows 1000") {
					must(t, err)
					break
				}
				return insert("a")(ctx, tx)
			}))
			must(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
				for _, err := range c.Query(ctx, "rows 1000") {
					must(t, err)
					break
				}
				_, err := c.Exec(ctx, "set b 1")
				return err
			}))
			is(t, "the table", s.has(), "a b")
			before := time.Now()
			for _, err := range db.Query(ctx, "rows 1000") {
				must(t, err)
				break
			}
			is(t, "took", time.Since(before), 100*time.Millisecond)
			s.set(func() { s.closing = 0 })
			s.works(t, ctx, db)
			_, ever := s.open()
			is(t, "connections", ever, 2)
			return nil
		})
		must(t, err)
	})
}

// An error in the midst comes behind the rows before it.
func TestQuery_FailsInTheMidst(t *testing.T) {
	s := newServer(t, 1)
	for _, c := range []struct {
		words string
		at    int
		want  error
	}{{"fail", 0, errFake}, {"fail", 5, errFake}, {"fail", 16, errFake}, {"fail", 20, errFake}, {"cut", 20, errCut}, {"fail", 100, errFake}} {
		t.Run(fmt.Sprint(c.words, " at ", c.at), func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				db := asynciosql.New(s.DB)
				n := 0
				var last error
				for row, err := range db.Query(ctx, fmt.Sprintf("rows 100 %s %d", c.words, c.at)) {
					if last != nil || (row == nil) != (err != nil) {
						t.Errorf("after %v: %v, %v", last, row, err)
					}
					if last = err; err == nil {
						n++
					}
				}
				matches(t, last, c.want)
				known(t, last)
				is(t, "rows", n, c.at)
				s.works(t, ctx, db)
				return nil
			})
		})
	}
}

// sql 4 in the second batch: rows that came before it have been seen, those in it are not.
func TestQuery_CancelInASecondBatch(t *testing.T) {
	for _, by := range stops {
		for words, at := range map[string]int{"wait": 20, "late": 20} {
			t.Run(by.name+" "+words, func(t *testing.T) {
				s := newServer(t, 1)
				run(t, func(ctx context.Context) error {
					db := asynciosql.New(s.DB)
					n := 0
					task, stop := by.run(ctx, func(ctx context.Context) error {
						for _, err := range db.Query(ctx, fmt.Sprintf("rows 100 %s %d", words, at)) {
							if err != nil {
								return err
							}
							n++
						}
						return nil
					})
					s.enters(t, ctx, "")
					stop()
					must(t, asyncio.Sleep(ctx, 0))
					if words == "late" {
						s.goes(t, ctx)
					}
					err := result(ctx, task)
					matches(t, err, by.want)
					switch {
					case n == 16: // sql.Rows has been closed by its own watch over the context
						matches(t, err, asynciosql.ErrOutcomeUnknown)
					case n == 16+32 && words == "late": // the batch came all the same
						known(t, err)
					default:
						t.Errorf("%d rows", n)
					}
					s.works(t, ctx, db)
					return nil
				})
			})
		}
	}
}

// sql 9: memory is bounded, by rows and by bytes.
func TestQuery_Batches(t *testing.T) {
	for _, c := range []struct {
		query   string
		opts    []asynciosql.Option
		fetched map[int]int // by rows seen
	}{
		{"rows 1000", nil, map[int]int{1: 16, 16: 16, 17: 48, 49: 112, 113: 240, 241: 496, 497: 752, 753: 1000}},
		{"rows 10", []asynciosql.Option{asynciosql.BatchRows(1)}, map[int]int{1: 1, 2: 2, 10: 10}},
		{"wide 50", nil, map[int]int{1: 2, 2: 2, 3: 4, 5: 6}},
	} {
		t.Run(c.query, func(t *testing.T) {
			s := newServer(t, 1)
			run(t, func(ctx context.Context) error {
				seen := 0
				for _, err := range asynciosql.New(s.DB, c.opts...).Query(ctx, c.query) {
					must(t, err)
					seen++
					if want, ok := c.fetched[seen]; ok {
						is(t, fmt.Sprint("fetched when ", seen, " were seen"), s.fetched, want)
					}
				}
				return nil
			})
		})
	}
}

// A query on the DB gives its connection back with the last batch. So its body can use the DB, if
// the result is small. For a large one that would be a deadlock, and is refused.
func TestQuery_GivesItsConnectionBack(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		for _, err := range db.Query(ctx, "rows 15") {
			must(t, err)
			_, err = db.Exec(ctx, "set a 1")
			must(t, err)
		}
		for _, err := range db.Query(ctx, "rows 17") {
			must(t, err)
			_, err = db.Exec(ctx, "set b 1")
			matches(t, err, asyncio.ErrDeadlock)
			break
		}
		is(t, "the table", s.has(), "a")
		return nil
	})
}

// A panic or an exit in a driver is the error of the operation, and is reported.
func TestDB_DriverPanics(t *testing.T) {
	s := newServer(t, 2)
	reported, err := runReporting(t, real, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		_, err := db.Exec(ctx, "panic set a 1")
		var p *asyncio.PanicError
		if !errors.As(err, &p) || p.Value != "a driver's panic" {
			t.Error(err)
		}
		_, err = db.Exec(ctx, "exit set a 1")
		matches(t, err, asyncio.ErrGoexit)
		err = db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			_, err := tx.Exec(ctx, "panic set a 1")
			return err
		})
		if !errors.As(err, &p) {
			t.Error(err)
		}
		s.works(t, ctx, db)
		return nil
	})
	must(t, err)
	is(t, "the table", s.has(), "")
	is(t, "reports", len(reported), 2)
}

// If rows were open they are closed.
func TestQuery_DriverPanics(t *testing.T) {
	s := newServer(t, 1)
	for _, words := range []string{"panic", "exit"} {
		for _, at := range []int{0, 5, 20} {
			t.Run(fmt.Sprint(words, " at ", at), func(t *testing.T) {
				query := fmt.Sprintf("rows 100 %s %d", words, at)
				_, err := runReporting(t, real, func(ctx context.Context) error {
					db := asynciosql.New(s.DB)
					over := func(rows iter.Seq2[*asynciosql.Row, error]) (last error) {
						for _, err := range rows {
							last = err
						}
						return last
					}
					for name, err := range map[string]error{
						"Query":    over(db.Query(ctx, query)),
						"QueryRow": db.QueryRow(ctx, fmt.Sprintf("rows 100 %s 0", words)).Err(),
						"Tx.Query": db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error { return over(tx.Query(ctx, query)) }),
					} {
						if p := new(asyncio.PanicError); !errors.As(err, &p) && !errors.Is(err, asyncio.ErrGoexit) {
							t.Errorf("%s: %v", name, err)
						}
					}
					is(t, "connections in use", s.Stats().InUse, 0)
					s.works(t, ctx, db)
					return nil
				})
				must(t, err)
			})
		}
	}
}

func TestStmt(t *testing.T) {
	s := newServer(t, 2)
	s.table["seed"] = "0"
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		get, err := db.Prepare(ctx, "get seed")
		must(t, err)
		set, err := db.Prepare(ctx, "set a 1")
		must(t, err)
		var v string
		must(t, get.QueryRow(ctx).Scan(&v))
		is(t, "seed", v, "0")
		must(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			in := tx.Stmt(set)
			for range 2 {
				_, err := in.Exec(ctx)
				must(t, err)
			}
			is(t, "committed", s.has(), "seed")
			must(t, in.Close(ctx))
			_, err = in.Exec(ctx)
			is(t, "a closed statement", fmt.Sprint(err), "asynciosql: the statement is closed")
			own, err := tx.Prepare(ctx, "get a")
			must(t, err)
			must(t, own.QueryRow(ctx).Scan(&v))
			for range own.Query(ctx) {
				matches(t, own.Close(ctx), asyncio.ErrBusy)
			}
			must(t, own.Close(ctx))
			must(t, own.Close(ctx))
			return nil
		}))
		is(t, "committed", s.has(), "a seed")
		// A statement that is in use is closed afterwards.
		for row, err := range get.Query(ctx) {
			must(t, err)
			must(t, get.Close(ctx))
			must(t, row.Scan(&v))
		}
		must(t, get.Close(ctx))
		is(t, "a closed statement", fmt.Sprint(get.QueryRow(ctx).Err()), "asynciosql: the statement is closed")
		for _, err := range get.Query(ctx) {
			is(t, "a closed statement", fmt.Sprint(err), "asynciosql: the statement is closed")
		}
		must(t, set.Close(ctx))
		s.works(t, ctx, db)
		return nil
	})
}

func TestOnConn(t *testing.T) {
	s := newServer(t, 2)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		var first, id int
		var variable string
		var kept *asynciosql.Conn
		var left *asynciosql.Stmt
		must(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			kept = c
			_, err := c.Exec(ctx, "let x")
			must(t, err)
			must(t, asyncio.Sleep(ctx, time.Second))
			must(t, c.QueryRow(ctx, "session").Scan(&first, &variable))
			is(t, "variable", variable, "x")
			must(t, c.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
				must(t, tx.QueryRow(ctx, "session").Scan(&id, &variable))
				is(t, "connection", id, first)
				_, err := c.Exec(ctx, "let y")
				matches(t, err, asyncio.ErrBusy)
				return nil
			}))
			return nil
		}))
		_, err := kept.Exec(ctx, "let x")
		matches(t, err, sql.ErrConnDone)
		matches(t, kept.InTx(ctx, nil, func(context.Context, *asynciosql.Tx) error { return nil }), sql.ErrConnDone)
		// What body has set it must undo: the pool gives the connection to the next.
		must(t, db.QueryRow(ctx, "session").Scan(&id, &variable))
		is(t, "connection", id, first)
		is(t, "variable", variable, "x")

		// Unless body fails.
		matches(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			_, err := c.Exec(ctx, "let y")
			must(t, err)
			left, err = c.Prepare(ctx, "get a") // closed with the connection
			must(t, err)
			return errFake
		}), errFake)
		must(t, left.Close(ctx))
		must(t, db.QueryRow(ctx, "session").Scan(&id, &variable))
		is(t, "connection", id, first+1)
		is(t, "variable", variable, "")
		must(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			must(t, c.Raw(ctx, func(_ context.Context, driverConn any) error {
				id = driverConn.(*fakeConn).id
				return nil
			}))
			matches(t, c.Raw(ctx, func(context.Context, any) error { return errFake }), errFake)
			return nil
		}))
		return nil
	})
}
